//! Who is in which room of a namespace, and what they get.
//!
//! Role: one task reads the log for the whole namespace and hands each event to the clients it is for. Invariants: a
//! client gets the events of its rooms in the order of the log and each once: either from here, or, when it was too slow
//! (its queue was full) or comes back, from the log by itself until it has caught up; [`Hub::caught_up`] decides under the
//! same lock that hands out. Every queue and every set is bounded.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use busway_types::{Logged, Offset};
use serde_json::Value;
use tokio::sync::mpsc;

use super::super::config::SocketIoNamespace;
use super::super::feed::{Cursor, Missed};
use super::names;

/// Events that wait for one client before it has to read the log by itself.
const QUEUE_EVENTS: usize = 128;

/// An event as clients get it.
#[derive(Debug)]
pub(super) struct Emit {
    pub(super) name: String,
    pub(super) data: Value,
    /// Behind it.
    pub(super) cursor: Cursor,
    to: To,
    except: Option<Box<str>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum To {
    Client(Box<str>),
    Room(Box<str>),
    All,
}

impl Emit {
    /// What becomes of an event; none when it is for nobody.
    pub(super) fn of(logged: &Logged, namespace: &SocketIoNamespace, max_bytes: usize) -> Option<Self> {
        let event = &logged.event;
        if event.data.len() > max_bytes {
            let (topic, bytes) = (&event.topic, event.data.len());
            tracing::warn!(%topic, bytes, max_bytes, "an event is too large for Socket.IO and is not emitted");
            return None;
        }
        let data = match serde_json::from_slice::<Value>(&event.data) {
            Ok(data) => data,
            Err(_) if event.data.is_empty() => Value::Null,
            Err(_) => Value::from(String::from_utf8_lossy(&event.data).into_owned()),
        };
        let room = || names::header(event, names::ROOM).or_else(|| names::field(&data, &namespace.room));
        let to = match (names::header(event, names::CLIENT), room()) {
            (Some(client), _) => To::Client(client.into()),
            (None, Some(room)) => To::Room(room.into()),
            (None, None) if namespace.broadcast => To::All,
            (None, None) => return None,
        };
        let except = names::header(event, names::EXCEPT).map(Into::into);
        let name = names::name(event, &namespace.outgoing, &namespace.names);
        Some(Self { name, data, cursor: Cursor::behind(logged), to, except })
    }
}

/// What waits for one client.
#[derive(Debug)]
pub(super) enum Handed {
    Emit(Arc<Emit>),
    /// It does not get these, whatever they were.
    Missed(Missed),
}

/// Where a client has to go on in the log by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Behind {
    pub(super) from: Offset,
    /// What it is to be told first.
    pub(super) missed: Option<Missed>,
}

/// The clients of one namespace.
#[derive(Debug, Default)]
pub(super) struct Hub {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    clients: HashMap<Arc<str>, Member>,
    rooms: HashMap<Box<str>, HashSet<Arc<str>>>,
    /// Everything below it was handed out.
    at: Offset,
}

#[derive(Debug)]
struct Member {
    queue: mpsc::Sender<Handed>,
    rooms: HashSet<Box<str>>,
    /// Gets what is at or behind this from here; none while it reads the log by itself.
    live_from: Option<Offset>,
    /// While it reads by itself: where it has to begin.
    behind: Offset,
    /// What did not fit into its queue of what it is to be told.
    missed: Option<Missed>,
}

/// Why a room was not joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotJoined {
    /// The client is in as many as it may be.
    Full,
    /// The client has gone.
    Gone,
}

/// Whether a client has caught up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CaughtUp {
    /// It gets everything from the hub now.
    Yes,
    /// There is more to read first.
    NotYet,
}

impl Hub {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a client. With `from` it reads the log by itself from there first.
    pub(super) fn add(&self, id: Arc<str>, from: Option<Offset>) -> mpsc::Receiver<Handed> {
        let (queue, receiver) = mpsc::channel(QUEUE_EVENTS);
        let mut state = self.lock();
        let at = state.at;
        let live_from = if from.is_some() { None } else { Some(at) };
        let member = Member { queue, rooms: HashSet::new(), live_from, behind: from.unwrap_or(at), missed: None };
        state.clients.insert(id, member);
        receiver
    }

    /// Forgets a client and its rooms.
    pub(super) fn remove(&self, id: &str) {
        let mut state = self.lock();
        let Some(member) = state.clients.remove(id) else { return };
        for room in member.rooms {
            state.leave(id, &room);
        }
    }

    /// Puts a client into a room; where the log is then.
    pub(super) fn join(&self, id: &Arc<str>, room: &str, most: usize) -> Result<Cursor, NotJoined> {
        let mut state = self.lock();
        let at = state.at;
        let member = state.clients.get_mut(id).ok_or(NotJoined::Gone)?;
        if !member.rooms.contains(room) {
            if member.rooms.len() >= most {
                return Err(NotJoined::Full);
            }
            member.rooms.insert(room.into());
            state.rooms.entry(room.into()).or_default().insert(id.clone());
        }
        Ok(Cursor(at))
    }

    /// Takes a client out of a room.
    pub(super) fn leave(&self, id: &str, room: &str) {
        let mut state = self.lock();
        if let Some(member) = state.clients.get_mut(id) {
            member.rooms.remove(room);
        }
        state.leave(id, room);
    }

    /// Hands out what was read; everything below `next` is done then.
    pub(super) fn hand_out(&self, emits: &[Arc<Emit>], next: Offset) {
        let mut state = self.lock();
        for emit in emits {
            state.hand_out(emit);
        }
        state.at = next;
    }

    /// Tells everybody who is served from here that events are missing, before those that begin at `next`. Whoever reads
    /// the log by itself finds that there.
    pub(super) fn tell_missed(&self, missed: Missed, next: Offset) {
        let mut state = self.lock();
        state.clients.values_mut().for_each(|member| member.miss(missed, next));
        state.at = next;
    }

    /// Where a client has to read the log by itself, once its queue is empty; none when it does not have to.
    pub(super) fn behind(&self, id: &str) -> Option<Behind> {
        let mut state = self.lock();
        let member = state.clients.get_mut(id)?;
        member.live_from.is_none().then(|| Behind { from: member.behind, missed: member.missed.take() })
    }

    /// A client has sent everything below `next`. When that is as much as was handed out here it gets the rest from here.
    pub(super) fn caught_up(&self, id: &str, next: Offset) -> CaughtUp {
        let mut state = self.lock();
        let at = state.at;
        let Some(member) = state.clients.get_mut(id) else { return CaughtUp::Yes };
        member.behind = next;
        if next < at {
            return CaughtUp::NotYet;
        }
        member.live_from = Some(next);
        CaughtUp::Yes
    }

    /// Whether an event that a client read by itself is for it.
    pub(super) fn is_for(&self, id: &str, emit: &Emit) -> bool {
        self.lock().is_for(id, emit)
    }

    #[cfg(test)]
    fn is_empty(&self) -> bool {
        let state = self.lock();
        state.clients.is_empty() && state.rooms.is_empty()
    }
}

impl State {
    fn leave(&mut self, id: &str, room: &str) {
        if let Some(members) = self.rooms.get_mut(room) {
            members.remove(id);
            if members.is_empty() {
                self.rooms.remove(room);
            }
        }
    }

    fn is_for(&self, id: &str, emit: &Emit) -> bool {
        if emit.except.as_deref() == Some(id) {
            return false;
        }
        match &emit.to {
            To::Client(client) => **client == *id,
            To::Room(room) => self.rooms.get(room).is_some_and(|members| members.contains(id)),
            To::All => true,
        }
    }

    fn hand_out(&mut self, emit: &Arc<Emit>) {
        let Self { clients, rooms, .. } = self;
        let mut give = |id: &str| {
            if emit.except.as_deref() != Some(id)
                && let Some(member) = clients.get_mut(id)
            {
                member.give(emit);
            }
        };
        match &emit.to {
            To::Client(client) => give(client),
            To::Room(room) => rooms.get(room).into_iter().flatten().for_each(|id| give(id)),
            To::All => clients.iter_mut().for_each(|(id, member)| {
                if emit.except.as_deref() != Some(id) {
                    member.give(emit);
                }
            }),
        }
    }
}

impl Member {
    fn give(&mut self, emit: &Arc<Emit>) {
        let offset = emit.cursor.0 - 1;
        if self.live_from.is_some_and(|from| from <= offset) && self.queue.try_send(Handed::Emit(emit.clone())).is_err()
        {
            self.live_from = None;
            self.behind = offset;
        }
    }

    fn miss(&mut self, missed: Missed, next: Offset) {
        // It may be ahead, and have read them.
        let is_ahead = |from: Offset| matches!(missed, Missed::Events(_)) && from >= next;
        if self.live_from.is_none_or(is_ahead) {
            return;
        }
        if self.queue.try_send(Handed::Missed(missed)).is_ok() {
            self.live_from = Some(next);
        } else {
            self.live_from = None;
            self.behind = next;
            self.missed = Some(missed);
        }
    }
}

#[cfg(test)]
mod tests {
    use busway_types::{Draft, EventId, Limits, Timestamp};

    use super::*;

    fn namespace() -> SocketIoNamespace {
        SocketIoNamespace::new("in".parse().expect("a topic"), "out".parse().expect("a topic"))
    }

    fn emit(offset: Offset, room: &str, headers: &[(&str, &str)]) -> Arc<Emit> {
        let data = serde_json::json!({ "room": room }).to_string();
        let mut draft = Draft::new("out.x".parse().expect("a topic"), data.into());
        draft.headers = headers.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect();
        let event = draft.admit(EventId::from_u128(1), Timestamp(1), &Limits::default()).expect("an event");
        let logged = Logged { offset, event: Arc::new(event) };
        Arc::new(Emit::of(&logged, &namespace(), 1_000).expect("for somebody"))
    }

    fn drain(queue: &mut mpsc::Receiver<Handed>) -> Vec<Offset> {
        let offset = |handed| match handed {
            Handed::Emit(emit) => emit.cursor.0 - 1,
            Handed::Missed(missed) => panic!("{missed:?} is told"),
        };
        std::iter::from_fn(|| queue.try_recv().ok()).map(offset).collect()
    }

    #[test]
    fn a_room_gets_its_events_and_nobody_else_does() {
        let (hub, ada, bob): (_, Arc<str>, Arc<str>) = (Hub::default(), "ada".into(), "bob".into());
        let (mut of_ada, mut of_bob) = (hub.add(ada.clone(), None), hub.add(bob.clone(), None));
        hub.join(&ada, "a", 2).expect("joined");
        hub.join(&bob, "b", 2).expect("joined");
        let to_bob = emit(2, "a", &[(names::CLIENT, "bob")]);
        let but_ada = emit(3, "a", &[(names::EXCEPT, "ada")]);
        hub.hand_out(&[emit(0, "a", &[]), emit(1, "b", &[]), to_bob, but_ada], 4);
        assert_eq!((drain(&mut of_ada), drain(&mut of_bob)), (vec![0], vec![1, 2]));
        hub.leave("ada", "a");
        hub.hand_out(&[emit(4, "a", &[])], 5);
        assert!(drain(&mut of_ada).is_empty());
        hub.join(&ada, "a", 2).expect("joined");
        hub.join(&ada, "c", 2).expect("joined");
        assert_eq!(hub.join(&ada, "d", 2), Err(NotJoined::Full));
        hub.remove("ada");
        hub.remove("bob");
        assert!(hub.is_empty(), "nothing is remembered of who left");
    }

    #[test]
    fn whoever_is_too_slow_goes_on_from_the_log_without_gap_and_repetition() {
        let (hub, ada): (_, Arc<str>) = (Hub::default(), "ada".into());
        let mut queue = hub.add(ada.clone(), None);
        hub.join(&ada, "a", 1).expect("joined");
        let last = QUEUE_EVENTS as u64;
        for offset in 0..=last + 5 {
            hub.hand_out(&[emit(offset, "a", &[])], offset + 1);
        }
        assert_eq!(drain(&mut queue), (0..last).collect::<Vec<_>>());
        assert_eq!(hub.behind("ada"), Some(Behind { from: last, missed: None }), "the first that did not fit");
        assert_eq!(hub.caught_up("ada", last + 2), CaughtUp::NotYet);
        // It may be ahead of the hub: what it has sent already does not come again.
        assert_eq!(hub.caught_up("ada", last + 8), CaughtUp::Yes);
        for offset in last + 6..last + 10 {
            hub.hand_out(&[emit(offset, "a", &[])], offset + 1);
        }
        assert_eq!(drain(&mut queue), [last + 8, last + 9]);
    }

    #[test]
    fn what_is_missing_is_told_once_to_everybody_who_did_not_get_it() {
        let hub = Hub::default();
        let [quick, full, ahead]: [Arc<str>; 3] = ["quick", "full", "ahead"].map(Into::into);
        let mut queues = [&quick, &full, &ahead].map(|id| hub.add(id.clone(), None));
        hub.join(&full, "a", 1).expect("joined");
        (0..QUEUE_EVENTS as u64).for_each(|offset| hub.hand_out(&[emit(offset, "a", &[])], offset + 1));
        hub.join(&quick, "a", 1).expect("joined");
        assert_eq!(hub.caught_up("ahead", 1_000), CaughtUp::Yes);
        hub.tell_missed(Missed::Events(72), 200);
        assert!(matches!(queues[0].try_recv(), Ok(Handed::Missed(Missed::Events(72)))));
        assert!(queues[2].try_recv().is_err(), "it has read them");
        let behind = Behind { from: 200, missed: Some(Missed::Events(72)) };
        assert_eq!(hub.behind("full"), Some(behind), "told once there is room");
        assert_eq!(hub.behind("full"), Some(Behind { missed: None, ..behind }));
        // Another log begins anew, for whoever was ahead as well.
        hub.tell_missed(Missed::AnotherLog, 0);
        assert!(matches!(queues[2].try_recv(), Ok(Handed::Missed(Missed::AnotherLog))));
        assert!(matches!(queues[0].try_recv(), Ok(Handed::Missed(Missed::AnotherLog))));
        hub.hand_out(&[emit(0, "a", &[])], 1);
        assert_eq!(drain(&mut queues[0]), [0]);
    }
}
