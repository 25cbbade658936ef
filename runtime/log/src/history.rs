//! What became of events, as the log tells it.
//!
//! Role: gives the settlements of the log in order, for people who want to know how an event was handled. Reads whole
//! segments, so it may take long; whoever asks says when it is enough.

use std::ops::ControlFlow;

use busway_types::Offset;

use crate::codec::{kind, settlement_in};
use crate::error::LogError;
use crate::log::Log;
use crate::segment::HEADER_BYTES;
use crate::shared::Shared;
use crate::txn::SettleRecord;
use crate::walk::{Pieces, WALK_PIECE, malformed};

impl Log {
    /// Gives every settlement that is written behind the event at `from`, in order, and none where a record has none, until
    /// there are no more or `visit` has seen enough. Settlements in front of that event may come first.
    pub fn settlements(
        &self,
        from: Offset,
        visit: &mut dyn FnMut(Option<SettleRecord>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, LogError> {
        let Shared { fs, indexes, .. } = self.shared();
        let segments = self.shared().segments();
        let first = segments.partition_point(|segment| segment.header.first_offset <= from).saturating_sub(1);
        for (i, segment) in segments.iter().enumerate().skip(first) {
            let mut at = if i == first { indexes.seek(&**fs, segment, from)? } else { HEADER_BYTES as u64 };
            let limit = segment.end();
            let mut pieces = Pieces::new(&*segment.file, limit, WALK_PIECE);
            while at < limit {
                let frame = pieces.frame(segment, at).map_err(|e| segment.io("reading", e))?.ok_or_else(|| {
                    LogError::damaged(&segment.path, at, "a record that was written is not intact any more")
                })?;
                at = frame.end();
                let settlement = match frame.kind() {
                    kind::TXN => settlement_in(frame.body()).map_err(|e| malformed(segment, &frame, e))?,
                    _ => None,
                };
                if visit(settlement).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}
