//! Moving a subscription to another place in the log.
//!
//! Role: lets what is in flight end, has the engine open a part of the log again, and begins anew from what is durable
//! then. Invariants: nothing starts, is read or is fetched while a move is wanted; between [`Action::Move`] and its
//! answer nothing of the subscription is emitted, so no cursor of before the move can follow it.

use std::collections::BTreeMap;
use std::sync::Arc;

use busway_types::{Event, Logged, Offset, Replay, SubscriptionState, mutant};

use crate::api::Action;
use crate::queue::Ready;
use crate::subscription::{Cx, Sub};

/// How far a move is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moving {
    /// It happens once nothing is in flight or unanswered.
    Wanted(Replay),
    /// The engine was told.
    Asked,
}

impl Sub {
    /// A part of the log is to be delivered again. Void while another move is under way.
    pub(crate) fn seek(&mut self, replay: Replay) {
        if self.moving.is_none() && !self.detached {
            self.moving = Some(Moving::Wanted(replay));
        }
    }

    /// Whether the engine was told to move it and has not answered.
    pub(crate) fn is_asked_to_move(&self) -> bool {
        self.moving == Some(Moving::Asked)
    }

    /// Tells the engine to move it, once everything that was started is over.
    pub(crate) fn move_on(&mut self, cx: &mut Cx<'_>) {
        let Some(Moving::Wanted(replay)) = self.moving else { return };
        let busy = !(self.chunks.is_empty() && self.unsequenced.is_empty() && self.pending.is_empty());
        if !(busy && !mutant("moved-while-in-flight") || self.parked.is_asking() || self.feed.is_reading()) {
            self.moving = Some(Moving::Asked);
            cx.out.push(Action::Move { sub: self.id, replay });
        }
    }

    /// It stays where it is.
    pub(crate) fn stays(&mut self) {
        self.moving = None;
    }

    /// It was moved: begins anew from `state`. Without replay the events of the part come with the answer, and what
    /// waits is kept, for it cannot be read again.
    pub(crate) fn moved(&mut self, state: SubscriptionState, events: Vec<Logged>, cx: &mut Cx<'_>) {
        if !self.is_asked_to_move() {
            return;
        }
        let mut next = Self::new(self.id, self.spec.clone(), state, cx.bus);
        (next.detached, next.paused) = (self.detached, self.paused);
        (next.starved, next.armed, next.touched) = (self.starved, self.armed, self.touched);
        (next.full, next.parked_full, next.dead_full) = (self.full, self.parked_full, self.dead_full);
        std::mem::swap(&mut next.pace, &mut self.pace);
        std::mem::swap(&mut next.spare, &mut self.spare);
        if !cx.bus.options.replayable {
            next.feed = self.feed;
            // What stands at the beginning of the part and stays parked or dead is below the cursor.
            let part = next.cursor_sent..self.position(cx.bus.head);
            let mut waiting: BTreeMap<Offset, Arc<Event>> = self.take_waiting();
            let again = events.into_iter().filter(|logged| part.contains(&logged.offset));
            waiting.extend(again.map(|Logged { offset, event }| (offset, event)));
            for (offset, event) in waiting {
                next.take(offset, &event, cx.bus);
            }
        }
        *self = next;
    }

    /// Everything in memory that was never delivered.
    fn take_waiting(&mut self) -> BTreeMap<Offset, Arc<Event>> {
        let ones = self.ready.drain(..).chain(self.stalled.drain(..));
        let ones = ones.filter_map(|ready| if let Ready::One(item) = ready { Some(item) } else { None });
        ones.chain(self.groups.dissolve()).map(|item| (item.offset, item.event)).collect()
    }
}
