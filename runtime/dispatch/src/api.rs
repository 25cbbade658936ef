//! What goes into the machine and what comes out.
//!
//! Role: the values at its surface. No behaviour.

use std::fmt;

use busway_types::{
    Batch, Chunk, Limits, Logged, Offset, Replay, Report, Settlement, SubId, SubscriptionSpec, SubscriptionState,
};

/// What a machine is created with.
#[derive(Clone, Debug)]
pub struct MachineOptions {
    /// The bounds.
    pub limits: Limits,
    /// Seeds the jitter of back-off.
    pub seed: u64,
    /// Whether the engine gives back every event that a subscription may need. Then a subscription holds no more than
    /// its window and reads the rest later; otherwise everything that waits is held in memory.
    pub replayable: bool,
}

/// Something that happened.
#[derive(Debug)]
pub enum Input {
    /// A subscription exists from now on. For one that is still there (detached with deliveries in flight, or attached)
    /// only the settings are taken: what the machine knows is newer than `state`. It is not paused.
    Attach {
        /// Its number.
        sub: SubId,
        /// Its settings.
        spec: SubscriptionSpec,
        /// What is durable of it.
        state: SubscriptionState,
        /// The end of the log.
        head: Offset,
    },
    /// New settings. What waits and what is in flight stays; new patterns hold from the subscription's position on. A
    /// change of ordering waits until nothing is in flight.
    Reconfigure {
        /// Which subscription.
        sub: SubId,
        /// Its new settings.
        spec: SubscriptionSpec,
    },
    /// The subscription gets nothing any more. It is forgotten once nothing of it is in flight or unanswered.
    Detach {
        /// Which subscription.
        sub: SubId,
    },
    /// The log's new end.
    Appended(Batch),
    /// The answer to [`Action::Read`].
    Read {
        /// Which subscription.
        sub: SubId,
        /// The events its patterns select, ascending.
        result: Vec<Logged>,
        /// Everything below was looked at.
        next: Offset,
    },
    /// The answer to [`Action::Fetch`].
    Fetched {
        /// Which subscription.
        sub: SubId,
        /// What is still kept.
        events: Vec<Logged>,
        /// What was asked for. What is missing in `events` is gone and is settled as acknowledged, with a warning.
        asked: Vec<Offset>,
    },
    /// A lane ran deliveries.
    Report(Report),
    /// A lane could not run the rest of a chunk: it comes back, which costs no attempt.
    ChunkLost {
        /// Which subscription.
        sub: SubId,
        /// Which chunk.
        chunk: u64,
    },
    /// The engine sequenced a settlement.
    Settled {
        /// Which subscription.
        sub: SubId,
        /// Which settlement.
        token: u64,
        /// What was left out of it and has to run again, which costs no attempt.
        conflicts: Vec<Offset>,
    },
    /// Whether deliveries that may publish may start.
    Room(bool),
    /// Whether the service can take nothing new now.
    Paused {
        /// Which subscription.
        sub: SubId,
        /// Nothing new while true.
        paused: bool,
    },
    /// Dead letters are to be tried again, by this subscription only.
    Revive {
        /// Which subscription.
        sub: SubId,
        /// Which dead letters.
        offsets: Vec<Offset>,
    },
    /// Dead letters are not wanted any more.
    Drop {
        /// Which subscription.
        sub: SubId,
        /// Which dead letters.
        offsets: Vec<Offset>,
    },
    /// A part of the log is to be delivered again. Void for a subscription that is detached or already being moved.
    Seek {
        /// Which subscription.
        sub: SubId,
        /// What it is to get again.
        replay: Replay,
    },
    /// The answer to [`Action::Move`]: it was moved.
    Moved {
        /// Which subscription.
        sub: SubId,
        /// What is durable of it now.
        state: SubscriptionState,
        /// Without replay: the events of that part that its patterns select, ascending. Otherwise they are read.
        events: Vec<Logged>,
    },
    /// The answer to [`Action::Move`]: it was not moved.
    Stays {
        /// Which subscription.
        sub: SubId,
    },
    /// Time passed.
    Tick,
}

/// Something to be done, in the order in which it was emitted.
#[derive(Debug)]
pub enum Action {
    /// Run these deliveries.
    Deliver(Chunk),
    /// Commit these verdicts.
    Settle(Settlement),
    /// Read on for a subscription that lags; answer with [`Input::Read`].
    Read {
        /// Which subscription.
        sub: SubId,
        /// From here.
        from: Offset,
        /// At most so many selected events.
        max_events: usize,
        /// At most so many bytes, but at least one event.
        max_bytes: usize,
    },
    /// Give the bodies of parked events; answer with [`Input::Fetched`].
    Fetch {
        /// Which subscription.
        sub: SubId,
        /// Which events.
        offsets: Vec<Offset>,
    },
    /// A subscription has nothing to do below `cursor`; to be noted without a commit of its own.
    Advance {
        /// Which subscription.
        sub: SubId,
        /// All below is done.
        cursor: Offset,
    },
    /// Open a part of the log for a subscription again; nothing of it is in flight. Answer with [`Input::Moved`] or
    /// [`Input::Stays`] before any other input about it.
    Move {
        /// Which subscription.
        sub: SubId,
        /// What it is to get again.
        replay: Replay,
    },
    /// Something an operator should know.
    Warn(Warning),
}

/// Something an operator should know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Warning {
    /// `limits.parked` is reached: no new events until some are settled.
    ParkedFull {
        /// Which subscription.
        sub: SubId,
    },
    /// `limits.dead_letters` is reached: nothing is delivered until some are retried or dropped.
    DeadFull {
        /// Which subscription.
        sub: SubId,
    },
    /// A parked event is no longer kept by the engine; it was settled without having been handled.
    BodyGone {
        /// Which subscription.
        sub: SubId,
        /// Which event.
        offset: Offset,
    },
    /// The tail went on behind a gap; what is between is read.
    Gap {
        /// The end of the log so far.
        expected: Offset,
        /// Where the tail went on.
        found: Offset,
    },
}

/// Why a subscription starts nothing new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PauseReason {
    /// It was detached.
    Detached,
    /// Its service takes nothing now.
    Service,
    /// Too many dead letters.
    DeadFull,
    /// Too many parked events; retries go on.
    ParkedFull,
    /// There is no room for what its handlers may publish.
    NoRoom,
    /// The keys of its parked events are being read.
    Learning,
    /// Its ordering changes once nothing is in flight.
    Reordering,
    /// It is moved to another place in the log once nothing is in flight.
    Moving,
}

/// Figures of one subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubStats {
    /// Events without a key, and keys with events, that could start now.
    pub ready: usize,
    /// Deliveries that lanes have not reported yet.
    pub in_flight: usize,
    /// Events in memory that were not delivered yet, the ready ones included.
    pub waiting: usize,
    /// Parked events.
    pub parked: usize,
    /// Dead letters.
    pub dead: usize,
    /// Events that expired before they were handled, since it was attached.
    pub expired: u64,
    /// Events in memory: waiting, in flight or not sequenced.
    pub backlog_events: usize,
    /// What they cost in memory.
    pub backlog_bytes: usize,
    /// All below is settled, parked, dead or not selected.
    pub cursor: Offset,
    /// Whether it has not caught up with the tail.
    pub lagging: bool,
    /// Offsets between its position and the head; not all of them need be selected.
    pub behind: u64,
    /// Why it starts nothing new.
    pub paused: Option<PauseReason>,
    /// Whether publishers to its topics have to wait.
    pub full: bool,
}

impl Warning {
    /// The subscription it is about, if it is about one.
    pub fn sub(&self) -> Option<SubId> {
        match self {
            Self::ParkedFull { sub } | Self::DeadFull { sub } | Self::BodyGone { sub, .. } => Some(*sub),
            Self::Gap { .. } => None,
        }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ParkedFull { .. } => f.write_str(
                "too many events wait to be tried again (limits.parked); no new ones are delivered until some are settled",
            ),
            Self::DeadFull { .. } => f.write_str(
                "too many dead letters (limits.dead-letters); nothing is delivered until some are retried or dropped \
                 (`busway dead`)",
            ),
            Self::BodyGone { offset, .. } => {
                write!(f, "event {offset} waited to be tried again but is no longer kept; it was not handled")
            }
            Self::Gap { expected, found } => {
                write!(f, "the log went on at {found} instead of {expected}; what is between is read")
            }
        }
    }
}

impl fmt::Display for PauseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Detached => "detached",
            Self::Service => "the service takes nothing now",
            Self::DeadFull => "too many dead letters",
            Self::ParkedFull => "too many parked events",
            Self::NoRoom => "no room for what it may publish",
            Self::Learning => "reading its parked events",
            Self::Reordering => "its ordering changes",
            Self::Moving => "it moves to another place in the log",
        })
    }
}
