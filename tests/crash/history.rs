//! What the outside knows: what publishers sent and were told, and what a reader of the outputs saw.
//!
//! Invariant: nothing in here comes from the node's own accounts; answers to publishers and lines of the tail only.

use busway_types::EventId;

/// Keys of each publisher.
pub(crate) const KEYS: u8 = 4;

/// One event that a publisher sent: the `number`-th of the `publisher`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Input {
    pub(crate) publisher: u8,
    pub(crate) number: u32,
}

/// What a publisher was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// Nothing: the connection broke. It may have been taken or not.
    Nothing,
    /// That it was refused: it must never be seen.
    Refused,
    /// That it is safe, with its id, and its place unless it is to be delivered later.
    Safe { id: EventId, offset: Option<u64> },
}

/// One event as its publisher knows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    /// Its key; none for those that are delivered later.
    pub(crate) key: Option<u8>,
    /// Which request it was part of: all of a request are taken, or none.
    pub(crate) batch: u32,
    /// The id that its publisher chose; such a request is sent again until it is answered, and sometimes once more.
    pub(crate) chosen: Option<EventId>,
    /// How often it was sent.
    pub(crate) times: u32,
    pub(crate) told: Told,
    /// What its publisher was told when it was sent again after that: the first answer that was another one, if any was.
    pub(crate) again: Option<Told>,
}

impl Sent {
    /// Its publisher was told that it is safe, for the first time or again.
    pub(crate) fn hear(&mut self, told: Told) {
        match self.told {
            Told::Safe { .. } if self.again.is_none_or(|again| again == self.told) => self.again = Some(told),
            Told::Safe { .. } => {}
            Told::Nothing | Told::Refused => self.told = told,
        }
    }
}

/// Everything that was sent, by publisher, in the order of their numbers.
#[derive(Clone, Debug, Default)]
pub(crate) struct History(pub(crate) Vec<Vec<Sent>>);

impl History {
    pub(crate) fn get(&self, input: Input) -> Option<&Sent> {
        self.0.get(usize::from(input.publisher))?.get(input.number as usize)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Input, &Sent)> {
        self.0.iter().zip(0..).flat_map(|(sent, publisher)| {
            sent.iter().zip(0..).map(move |(sent, number)| (Input { publisher, number }, sent))
        })
    }
}

/// The topics of the test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    /// What publishers send.
    In,
    /// What publishers send to be delivered later.
    Later,
    /// `In`, forwarded.
    Forwarded,
    /// `Forwarded`, forwarded.
    Relayed,
    /// `Later`, forwarded.
    LaterDone,
    /// `In`, with the ledger of its key.
    Tallied,
    /// `In`, by the service that often fails.
    Flaky,
}

impl Kind {
    pub(crate) const ALL: [Self; 7] =
        [Self::In, Self::Later, Self::Forwarded, Self::Relayed, Self::LaterDone, Self::Tallied, Self::Flaky];

    pub(crate) fn topic(self) -> &'static str {
        match self {
            Self::In => "crash.in",
            Self::Later => "crash.later",
            Self::Forwarded => "crash.forwarded",
            Self::Relayed => "crash.relayed",
            Self::LaterDone => "crash.later.done",
            Self::Tallied => "crash.tallied",
            Self::Flaky => "crash.flaky",
        }
    }

    /// The topic whose handling publishes it; none for what comes from outside.
    pub(crate) fn cause(self) -> Option<Self> {
        match self {
            Self::In | Self::Later => None,
            Self::Forwarded | Self::Tallied | Self::Flaky => Some(Self::In),
            Self::Relayed => Some(Self::Forwarded),
            Self::LaterDone => Some(Self::Later),
        }
    }
}

/// One event that the tail showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) offset: u64,
    pub(crate) id: EventId,
    pub(crate) cause: Option<EventId>,
    pub(crate) kind: Kind,
    pub(crate) key: Option<u8>,
    pub(crate) input: Input,
    /// Of `Tallied`: how many events of the key there were, and the number of the one before.
    pub(crate) ledger: Option<(u32, Option<u32>)>,
}

impl Input {
    /// The data of the event.
    pub(crate) fn text(self) -> String {
        format!("{} {}", self.publisher, self.number)
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (publisher, number) = text.split_once(' ')?;
        Some(Self { publisher: publisher.parse().ok()?, number: number.parse().ok()? })
    }

    /// Whether the service that often fails never takes it.
    pub(crate) fn is_rejected(self) -> bool {
        self.number % 100 == 99
    }
}

/// The key of a publisher as text.
pub(crate) fn key_text(publisher: u8, key: u8) -> String {
    format!("p{publisher}k{key}")
}
