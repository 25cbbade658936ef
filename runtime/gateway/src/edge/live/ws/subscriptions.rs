//! The subscriptions of one WebSocket, which take turns.

use std::collections::VecDeque;

use futures_util::future::select_all;

use super::super::feed::{Cursor, Feed, Piece};
use crate::edge::EdgeError;
use crate::edge::problem::Problem;

/// The most events that a client may leave unacknowledged, when it wants to acknowledge at all.
const WINDOW: usize = 10_000;

/// Bytes of a subscription's name.
const NAME_BYTES: usize = 128;

#[derive(Default)]
pub(super) struct Subscriptions {
    open: Vec<Subscription>,
}

pub(super) struct Subscription {
    name: String,
    feed: Feed,
    window: Option<usize>,
    /// With a window: what was sent and is not acknowledged.
    unacked: VecDeque<Cursor>,
}

impl Subscription {
    pub(super) fn new(name: String, feed: Feed, window: Option<usize>) -> Self {
        Self { name, feed, window, unacked: VecDeque::new() }
    }

    /// How many events may be sent now.
    fn room(&self) -> usize {
        self.window.map_or(usize::MAX, |window| window.saturating_sub(self.unacked.len()))
    }
}

impl Subscriptions {
    /// Whether one of this name may be added.
    pub(super) fn check(&self, name: &str, window: Option<usize>, most: usize) -> Result<(), Problem> {
        if self.open.iter().any(|s| s.name == name) {
            return Err(Problem::invalid(format!(
                "there is a subscription of the name `{name}`; give another `name`, or `unsubscribe` it first"
            )));
        }
        if name.len() > NAME_BYTES {
            return Err(Problem::invalid(format!("the name is longer than {NAME_BYTES} bytes")));
        }
        if window.is_some_and(|window| window == 0 || window > WINDOW) {
            return Err(Problem::invalid(format!("the window is from 1 to {WINDOW} events")));
        }
        if self.open.len() >= most {
            return Err(Problem::invalid(format!("{most} subscriptions are open, and no more are allowed")));
        }
        Ok(())
    }

    pub(super) fn add(&mut self, subscription: Subscription) {
        self.open.push(subscription);
    }

    pub(super) fn remove(&mut self, name: &str) -> Result<(), Problem> {
        let at = self.find(name)?;
        self.open.remove(at);
        Ok(())
    }

    pub(super) fn ack(&mut self, name: &str, id: &str) -> Result<(), Problem> {
        let at = self.find(name)?;
        let Some(cursor) = Cursor::parse(id) else {
            return Err(Problem::invalid(format!("`{id}` is not the id of an event of this connection")));
        };
        let unacked = &mut self.open[at].unacked;
        while unacked.front().is_some_and(|front| front.0 <= cursor.0) {
            unacked.pop_front();
        }
        Ok(())
    }

    fn find(&self, name: &str) -> Result<usize, Problem> {
        let found = self.open.iter().position(|s| s.name == name);
        found.ok_or_else(|| Problem::invalid(format!("there is no subscription of the name `{name}`")))
    }

    pub(super) fn name(&self, at: usize) -> String {
        self.open.get(at).map_or_else(String::new, |s| s.name.clone())
    }

    pub(super) fn drop_at(&mut self, at: usize) {
        if at < self.open.len() {
            self.open.remove(at);
        }
    }

    pub(super) fn sent(&mut self, at: usize, id: Cursor) {
        if let Some(subscription) = self.open.get_mut(at)
            && subscription.window.is_some()
        {
            subscription.unacked.push_back(id);
        }
    }

    /// The one that was first goes behind the others, so that a busy one does not hold them up.
    pub(super) fn turn(&mut self) {
        if !self.open.is_empty() {
            self.open.rotate_left(1);
        }
    }

    /// The next piece of any of them; never, when there is none that may send.
    pub(super) async fn next(&mut self) -> (usize, Result<Piece, EdgeError>) {
        let open = self.open.iter_mut().enumerate().filter(|(_, s)| s.room() > 0);
        let reads: Vec<_> = open.map(|(at, s)| Box::pin(async move { (at, s.feed.next(s.room()).await) })).collect();
        if reads.is_empty() {
            return std::future::pending().await;
        }
        select_all(reads).await.0
    }
}
