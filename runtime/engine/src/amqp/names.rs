//! What the queues of a bus are called.

/// The longest name of a queue.
const LONGEST: usize = 255;

/// The names of one bus's queues.
#[derive(Clone, Debug)]
pub(super) struct Names(String);

impl Names {
    pub(super) fn new(bus: &str) -> Self {
        Self(format!("busway.{bus}"))
    }

    /// The lease, and where the owner is told something.
    pub(super) fn owner(&self) -> String {
        format!("{}.owner", self.0)
    }

    /// A part of the journal.
    pub(super) fn journal(&self, queue: u64) -> String {
        format!("{}.journal.{queue}", self.0)
    }

    /// Which snapshots there are.
    pub(super) fn snapshots(&self) -> String {
        format!("{}.snapshots", self.0)
    }

    /// The snapshot up to a message.
    pub(super) fn snapshot(&self, at: u64) -> String {
        format!("{}.snapshot.{at}", self.0)
    }

    /// Where a node is told something; none when no queue can be called that.
    pub(super) fn node(&self, node: &str) -> Option<String> {
        let name = format!("{}.node.{node}", self.0);
        (name.len() <= LONGEST).then_some(name)
    }
}
