//! A JetStream server as the keeper of a journal. Each message says after which one it has to come, so several are on
//! their way at a time and none can land behind a gap, twice, or behind the claim of a newer owner.

use std::ops::Range;
use std::sync::Arc;

use busway_types::Offset;
use bytes::Bytes;
use futures_util::StreamExt as _;

use super::between;
use super::lease::Held;
use super::remote::{Remote, Streams, confirmed};
use super::snapshot::Snapshots;
use super::url::NatsUrl;
use crate::mesh::{Posted, To};
use crate::shared::{Broker, Extent, Kept, Landing, Lease, Leased, Mark, Piece, Trouble, Waits};
use crate::{Answer, EngineError, Sink};

/// How an address names another bus.
const ANOTHER: &str = "nats://HOST/NAME";
/// Messages that are asked for at the same time.
const AT_ONCE: usize = 8;

/// The bus of an address.
pub(super) struct JetStream {
    url: NatsUrl,
    streams: Streams,
    snapshots: Snapshots,
}

impl JetStream {
    pub(super) fn new(url: NatsUrl, streams: Streams) -> Self {
        let snapshots = Snapshots::new(streams.state.clone(), ANOTHER);
        Self { url, streams, snapshots }
    }
}

impl Broker for JetStream {
    fn shown(&self) -> String {
        self.url.to_string()
    }

    fn another(&self) -> &'static str {
        ANOTHER
    }

    fn most(&self) -> usize {
        self.streams.journal.most()
    }

    fn lease<'a>(&'a self, node: &'a str) -> Waits<'a, Result<Leased, Trouble>> {
        Box::pin(async move {
            let taken = Held::take(&self.streams.state, node).await?;
            Ok(taken.map(|held| Box::new(held) as Box<dyn Lease>))
        })
    }

    fn hands_over(&self) -> bool {
        true
    }

    fn extent(&self) -> Waits<'_, Result<Extent, Trouble>> {
        Box::pin(self.streams.journal.extent())
    }

    fn append<'a>(&'a self, at: u64, messages: &'a [Bytes]) -> Waits<'a, Result<Landing, Trouble>> {
        Box::pin(async move {
            let journal = &self.streams.journal;
            let Some((last, before)) = messages.split_last() else {
                return Ok(Box::pin(std::future::ready(Ok(()))) as Landing);
            };
            for (message, expected) in before.iter().zip(at - 1..) {
                journal.append_silently(expected, message.clone()).await?;
            }
            let sent = journal.append(at - 1 + before.len() as u64, last.clone()).await?;
            Ok(Box::pin(async move { confirmed(sent).await.map(drop) }) as Landing)
        })
    }

    fn read(&self, from: u64, last: u64, bytes: usize) -> Waits<'_, Result<Piece, Trouble>> {
        Box::pin(piece(&self.streams.journal, from, last, bytes))
    }

    fn near(&self, _: Offset, _: Range<u64>) -> Option<u64> {
        None
    }

    fn trim(&self, at: u64) -> Waits<'_, Result<(), Trouble>> {
        Box::pin(self.streams.journal.trim(at))
    }

    fn snapshot(&self) -> Waits<'_, Result<Option<Kept>, EngineError>> {
        Box::pin(self.snapshots.load())
    }

    fn keep<'a>(&'a self, kept: &'a Kept, _: &'a [Mark]) -> Waits<'a, Result<(), Trouble>> {
        Box::pin(self.snapshots.store(kept))
    }

    fn marks(&self) -> Option<Vec<Mark>> {
        None
    }

    fn send(&self, node: &str, posted: Posted) -> Answer<()> {
        Box::pin(between::send(self.streams.journal.client(), self.url.name.clone(), node.to_owned(), posted))
    }

    fn hear(&self, me: To, sink: Arc<dyn Sink>) -> Answer<()> {
        let subject = between::subject(&self.url.name, &me);
        Box::pin(between::hear(self.streams.journal.client(), subject, sink))
    }
}

async fn piece(journal: &Remote, from: u64, last: u64, bytes: usize) -> Result<Piece, Trouble> {
    let mut piece = Piece { messages: Vec::new(), next: from };
    let mut taken = 0;
    let asked = futures_util::stream::iter(from..=last).map(|at| async move { (at, journal.get(at).await) });
    let mut messages = std::pin::pin!(asked.buffered(AT_ONCE));
    while let Some((at, message)) = messages.next().await {
        piece.next = at + 1;
        match message {
            Ok(message) => {
                taken += message.len();
                piece.messages.push((at, message));
            }
            Err(Trouble::Gone) => {}
            Err(trouble) => return Err(trouble),
        }
        if taken >= bytes && !piece.messages.is_empty() {
            break;
        }
    }
    Ok(piece)
}
