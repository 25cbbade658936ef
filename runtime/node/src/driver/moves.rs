//! Moving subscriptions to another place in the log.
//!
//! Role: takes the wish to the machine, which lets end what is in flight, and then to the engine; tells whoever wished.
//! Invariants: one move of a subscription at a time; one that nobody waits for any more does not happen; the machine hears
//! what became of a move before anything else about its subscription.

use busway_dispatch::{Action, Input};
use busway_engine::{EngineError, ReadRequest};
use busway_types::{Logged, Replay, SubId, Timestamp};
use tokio::sync::oneshot;

use super::{Driver, PARTITION};

/// Events that are read at one time for a bus that cannot be read later.
const READ_EVENTS: usize = 4_096;

/// Why a subscription was not moved.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotMoved {
    #[error("an earlier move of it still waits for what is in flight; try again when that has ended")]
    Busy,
    #[error("its service is starting or stopping; try again in a moment")]
    Unsettled,
    #[error("{0}")]
    Refused(String),
}

/// How a wish was answered: with what is delivered again, and the generation from now on.
pub(crate) type Moved = Result<(Replay, u32), NotMoved>;

impl Driver {
    /// Somebody wishes a part of the log to be delivered again.
    pub(super) fn wish_to_move(
        &mut self,
        now: Timestamp,
        sub: SubId,
        replay: Replay,
        done: oneshot::Sender<Moved>,
        actions: &mut Vec<Action>,
    ) -> Result<(), EngineError> {
        match self.attached.get(&sub) {
            Some(attached) if attached.detaching.is_some() => drop(done.send(Err(NotMoved::Unsettled))),
            Some(_) if self.moves.contains_key(&sub) => drop(done.send(Err(NotMoved::Busy))),
            Some(_) => {
                self.moves.insert(sub, done);
                self.machine.step(now, Input::Seek { sub, replay }, actions);
            }
            None => {
                // Nothing of a detached subscription is in flight.
                let known = self.engine.subscriptions().into_iter().find(|known| known.id == sub);
                if known.is_some_and(|known| known.detached_since.is_some()) {
                    self.move_now(sub, &replay, done)?;
                } else {
                    drop(done.send(Err(NotMoved::Unsettled)));
                }
            }
        }
        Ok(())
    }

    /// Nothing of the subscription is in flight: moves it and tells the machine.
    pub(super) fn perform_move(&mut self, sub: SubId, replay: &Replay) -> Result<(), EngineError> {
        let input = match self.moves.remove(&sub) {
            Some(done) if !done.is_closed() => self.move_now(sub, replay, done)?,
            _ => Input::Stays { sub },
        };
        let mut actions = Vec::new();
        self.machine.step(self.clock.now(), input, &mut actions);
        self.perform(&mut actions)
    }

    fn move_now(&self, sub: SubId, replay: &Replay, done: oneshot::Sender<Moved>) -> Result<Input, EngineError> {
        match self.engine.replay(PARTITION, self.epoch, sub, replay) {
            Ok(moved) => {
                let events =
                    if self.engine.capabilities().replay { Vec::new() } else { self.part(sub, &moved.replay)? };
                let _ = done.send(Ok((moved.replay, moved.state.generation)));
                Ok(Input::Moved { sub, state: moved.state, events })
            }
            Err(EngineError::Refused(why)) => {
                let _ = done.send(Err(NotMoved::Refused(why)));
                Ok(Input::Stays { sub })
            }
            Err(error) => Err(error),
        }
    }

    /// The events of a part that the subscription selects.
    fn part(&self, sub: SubId, replay: &Replay) -> Result<Vec<Logged>, EngineError> {
        let Some(attached) = self.attached.get(&sub) else { return Ok(Vec::new()) };
        let patterns: std::sync::Arc<[_]> = attached.target.spec.patterns.clone().into();
        let (mut events, mut next) = (Vec::new(), replay.from);
        while next < replay.to {
            let patterns = std::sync::Arc::clone(&patterns);
            let request = ReadRequest { from: next, patterns, max_events: READ_EVENTS, max_bytes: usize::MAX };
            let read = self.engine.read(PARTITION, &request)?;
            events.extend(read.events.into_iter().filter(|logged| logged.offset < replay.to));
            if read.next <= next {
                break;
            }
            next = read.next;
        }
        Ok(events)
    }
}
