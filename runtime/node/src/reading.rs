//! Reading what is on the bus, for everybody outside of it.
//!
//! Invariant: nobody sees an event that is not as safe as the bus promises.

use std::sync::Arc;
use std::time::Duration;

use busway_engine::{EngineError, ReadRequest};
use busway_gateway::api::TailFrom;
use busway_gateway::{TailBatch, TailRead};
use busway_types::Offset;

use crate::driver::PARTITION;
use crate::inner::Inner;

/// How long a reader that waits for events is kept waiting before it is answered with none.
const WAIT: Duration = Duration::from_secs(10);

/// The same while the node stops.
const STOPPING: Duration = Duration::from_millis(20);

impl Inner {
    /// The offset at which a reader starts.
    pub(crate) fn position(&self, from: TailFrom) -> Result<Offset, EngineError> {
        self.check_turn()?;
        match from {
            TailFrom::Start => Ok(self.engine.status().oldest),
            TailFrom::Now => Ok(self.engine.safe_head()),
            TailFrom::Offset(offset) => Ok(offset),
            TailFrom::Time(time) => self.patiently(|| self.engine.offset_at(PARTITION, time)),
        }
    }

    /// The next events; [`EngineError::Closed`] when none can come any more.
    pub(crate) async fn read(&self, read: TailRead) -> Result<TailBatch, EngineError> {
        let TailRead { from, patterns, max_events, max_bytes, wait } = read;
        let mut head = self.driver.head.subscribe();
        let mut deadline = Box::pin(tokio::time::sleep(WAIT));
        loop {
            let status = self.engine.status();
            let safe = self.engine.safe_head();
            let request =
                ReadRequest { from: from.max(status.oldest), patterns: Arc::clone(&patterns), max_events, max_bytes };
            let mut found = self.patiently(|| self.engine.read(PARTITION, &request))?;
            found.events.retain(|logged| logged.offset < safe);
            found.next = found.next.min(safe).max(from);
            let progress = !found.events.is_empty() || found.next > from;
            if !progress && wait && self.is_stopping() {
                // Nothing more is waited for, but whoever asks again and again must not keep a core busy.
                tokio::time::sleep(STOPPING).await;
            }
            if progress || !wait || self.is_stopping() {
                return Ok(TailBatch { events: found.events, next: found.next, oldest: status.oldest, head: safe });
            }
            tokio::select! {
                changed = head.changed() => if changed.is_err() { return Err(EngineError::Closed) },
                // Events become readable a little after they were appended, when they are synced.
                () = tokio::time::sleep(Duration::from_millis(20)), if safe < status.head => {}
                () = &mut deadline => {
                    return Ok(TailBatch { events: Vec::new(), next: found.next, oldest: status.oldest, head: safe });
                }
            }
        }
    }
}
