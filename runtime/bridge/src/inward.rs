//! The way in: from a broker onto the bus.
//!
//! Role: takes batches of messages, publishes each as one batch, and acknowledges it at the broker once the bus has it safe.
//!
//! Invariants: at most `prefetch` messages are held; a message is acknowledged after the bus has it, or refused, exactly one
//! of the two, unless the connection ends first, and then it comes again; a bus that takes nothing is asked again with
//! pauses, and the broker gives nothing more meanwhile.

use std::sync::Arc;
use std::time::Duration;

use busway_types::{Draft, Limits, ServiceName, Topic};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::link::Link;
use crate::message::Reading;
use crate::place::Place;
use crate::source::{BATCH_BYTES, Handle, Received, Source};
use crate::{Broken, Bus, NotPublished, Phase};

/// Between two tries to connect, or to publish: the first, and the longest.
const AGAIN_FIRST: Duration = Duration::from_millis(100);
const AGAIN_LONGEST: Duration = Duration::from_secs(5);
/// A connection that held this long starts over with the shortest wait.
const HELD_WELL: Duration = Duration::from_secs(10);
/// How long giving back what is not acknowledged may take.
const CLOSE_FOR: Duration = Duration::from_secs(1);

/// How long to wait after so many tries in a row.
pub(crate) fn pause(tries: u32) -> Duration {
    AGAIN_FIRST.saturating_mul(1 << tries.min(10)).min(AGAIN_LONGEST)
}

/// Returns when a bridge is to end, or to begin to.
pub(crate) async fn reaches(phase: &mut watch::Receiver<Phase>, wanted: Phase) {
    // An error: whoever would tell is gone, and so is the node.
    let _ = phase.wait_for(|phase| *phase >= wanted).await;
}

/// A bridge from a broker onto the bus.
#[derive(Clone, Debug)]
pub struct Inward {
    /// Its name.
    pub name: String,
    /// What it is called as the source of events.
    pub service: ServiceName,
    /// Where messages are taken from.
    pub from: Place,
    /// The topic that they are published to.
    pub topic: Topic,
    /// The header with their key.
    pub key_header: String,
    /// Messages that are held at most.
    pub prefetch: usize,
    /// Whether the id that a message names is that of its event, so that the same one again is recognised.
    pub deduplicate: bool,
    /// The limits of the bus.
    pub limits: Limits,
}

/// Whether a batch was dealt with.
enum Done {
    Yes,
    /// The bridge is to end first.
    Ended,
}

impl Inward {
    /// How its messages are read.
    pub(crate) fn reading(&self) -> Reading {
        let (bridge, key_header) = (self.name.clone(), self.key_header.clone());
        Reading { bridge, key_header, deduplicate: self.deduplicate }
    }

    /// Runs until the phase is past [`Phase::Run`].
    pub async fn run(self, bus: Arc<dyn Bus>, link: Arc<Link>, mut phase: watch::Receiver<Phase>) {
        let mut tries = 0;
        loop {
            let opened = tokio::select! {
                opened = Source::open(&self, &link) => opened,
                () = reaches(&mut phase, Phase::Drain) => return,
            };
            let broken = match opened {
                Err(broken) => broken,
                Ok(mut source) => {
                    link.connected();
                    let since = Instant::now();
                    let pumped = self.pump(&mut source, &*bus, &link, &mut phase).await;
                    let _ = tokio::time::timeout(CLOSE_FOR, source.close()).await;
                    if since.elapsed() >= HELD_WELL {
                        tries = 0;
                    }
                    match pumped {
                        Ok(()) => return,
                        Err(broken) => broken,
                    }
                }
            };
            link.waiting(&broken.0);
            tokio::select! {
                () = tokio::time::sleep(pause(tries)) => tries += 1,
                () = reaches(&mut phase, Phase::Drain) => return,
            }
        }
    }

    /// Copies until the bridge is to end, or the broker cannot be used any more.
    async fn pump(
        &self,
        source: &mut Source,
        bus: &dyn Bus,
        link: &Link,
        phase: &mut watch::Receiver<Phase>,
    ) -> Result<(), Broken> {
        loop {
            let mut batch = tokio::select! {
                batch = source.gather() => batch?,
                () = reaches(phase, Phase::Drain) => return Ok(()),
            };
            // Only the last one of a batch can be that large; what is wrong with it alone is not the others' fault.
            let is_large = batch.last().is_some_and(|last| last.envelope.bytes() > BATCH_BYTES);
            let rest = if is_large && batch.len() > 1 { batch.split_off(batch.len() - 1) } else { Vec::new() };
            if matches!(self.hand_over(batch, source, bus, link, phase).await?, Done::Ended)
                || matches!(self.hand_over(rest, source, bus, link, phase).await?, Done::Ended)
            {
                return Ok(());
            }
        }
    }

    async fn hand_over(
        &self,
        batch: Vec<Received>,
        source: &mut Source,
        bus: &dyn Bus,
        link: &Link,
        phase: &mut watch::Receiver<Phase>,
    ) -> Result<Done, Broken> {
        let reading = self.reading();
        let mut drafts: Vec<Draft> = Vec::with_capacity(batch.len());
        let mut held: Vec<(Handle, String)> = Vec::with_capacity(batch.len());
        for Received { envelope, handle, shown } in batch {
            drafts.push(envelope.draft(&self.topic, &reading, &self.service, &self.limits));
            held.push((handle, shown));
        }
        let mut tries = 0;
        while !drafts.is_empty() {
            match bus.publish(drafts.clone()).await {
                Ok(()) => {
                    if tries > 0 {
                        link.connected();
                    }
                    let count = held.len();
                    source.acknowledge(held.into_iter().map(|(handle, _)| handle).collect()).await?;
                    link.copied(count);
                    return Ok(Done::Yes);
                }
                Err(NotPublished::Never { index, reason }) if index < drafts.len() => {
                    drafts.remove(index);
                    let (handle, shown) = held.remove(index);
                    refuse(source, link, handle, &shown, &reason).await?;
                }
                Err(NotPublished::Never { reason, .. } | NotPublished::Later(reason)) => {
                    link.waiting(&format!("the bus takes nothing: {reason}"));
                    tokio::select! {
                        () = tokio::time::sleep(pause(tries)) => tries += 1,
                        () = reaches(phase, Phase::Drain) => return Ok(Done::Ended),
                    }
                    source.hold(held.iter().map(|(handle, _)| handle)).await?;
                }
            }
        }
        Ok(Done::Yes)
    }
}

async fn refuse(source: &mut Source, link: &Link, handle: Handle, shown: &str, reason: &str) -> Result<(), Broken> {
    let then = source.refuse(handle).await?;
    link.refused(shown, reason, then);
    Ok(())
}
