//! The view: what of the state does not have to be in memory.
//!
//! Role: key-value entries, delayed events, and the events of parked deliveries and dead letters live in a sorted map on
//! disk, [`View`], which follows the log. A [`State`](crate::State) over a view keeps in memory only what is not in it yet
//! ([`Overlay`]), and a bounded cache.
//!
//! ```text
//!   log: ... [covered by the checkpoint] ... [applied to the view] ... [in the overlay of the state] end
//! ```
//!
//! Invariants:
//! - one [`View::apply`] is atomic, and has the number of the last transaction in it;
//! - only transactions that are safely in the log are applied, so a view is never ahead of its log;
//! - a checkpoint is made of a state whose view is persisted up to the same transaction, so a view is never behind the
//!   newest checkpoint, and segments that a checkpoint makes needless are not needed by the view either;
//! - the event of a parked delivery or a dead letter is in the view before its segment is released.
//!
//! Keys: `K` service NUL key, an entry of key-value; `B` service, the bytes of all its entries; `T` due timer, a delayed
//! event; `H` offset, a held event; `M` name, figures.

mod disk;
mod feed;
mod held;
mod kv;
#[cfg(any(test, feature = "testing"))]
mod memory;
mod overlay;
mod timers;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use busway_types::{Event, EventId, Logged, Offset, ServiceName, Timestamp};
use bytes::Bytes;

pub use disk::DiskViews;
pub(crate) use feed::{flush, run};
#[cfg(any(test, feature = "testing"))]
pub use memory::{MemView, MemViews};
pub use overlay::Overlay;

use crate::codec::{TopicCache, put_event, take_event};
use crate::error::LogError;
use crate::folder::Folder;
use crate::fs::{Fs, OpenMode};
use crate::log::LogPlace;
use crate::segment::Segment;
use crate::wire::Reader;

/// The name of the folder of a view in the data folder.
pub(crate) const FOLDER: &str = "view";

/// One change: a key, and its value or nothing.
pub type Change = (Vec<u8>, Option<Vec<u8>>);

/// Takes an entry, a key and its value, and says whether there is to be another one.
pub type Each<'a> = dyn FnMut(&[u8], Bytes) -> Result<bool, LogError> + 'a;

/// A sorted map that survives the process. Keys are compared by their bytes.
pub trait View: fmt::Debug + Send + Sync {
    /// The number of the last transaction in it; 0 when it is empty.
    fn applied(&self) -> u64;
    /// The number of the last transaction in it that a power cut leaves there.
    fn persisted(&self) -> u64;
    /// A value.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, LogError>;
    /// Calls `each` with the entries from `from` up to and without `until`, ascending, until it says false.
    fn scan(&self, from: &[u8], until: &[u8], each: &mut Each<'_>) -> Result<(), LogError>;
    /// Makes changes, all or none, after which all up to the transaction `applied` is in it.
    fn apply(&self, changes: Vec<Change>, applied: u64) -> Result<(), LogError>;
    /// Makes it usable again after a full disk ended it, if there is room. Nothing applied is lost.
    fn revive(&self) -> Result<(), LogError> {
        Ok(())
    }
    /// Makes everything applied survive a power cut.
    fn persist(&self) -> Result<(), LogError>;
    /// Begins to give back the space of entries that are no more, if that is not going on. It takes as long as reading and
    /// writing everything, on a thread of its own.
    fn compact(&self) {}
    /// Whether that is going on.
    fn is_compacting(&self) -> bool {
        false
    }
    /// Gives everything back that others may want to use; nothing can be read or written afterwards.
    fn close(&self) {}
    /// Bytes on disk of what is in it, without a journal of bounded size.
    fn bytes(&self) -> u64;
    /// What is wrong with an entry, as an error that names the view.
    fn damaged(&self, what: &str) -> LogError;
}

/// Where a log's view comes from.
pub trait Views: fmt::Debug + Send + Sync {
    /// Opens the view in a folder, which may be missing.
    fn open(&self, dir: &Path) -> Result<Arc<dyn View>, LogError>;
    /// Whether there is one.
    fn exists(&self, dir: &Path) -> bool;
    /// Removes what is there, so that an empty view is opened next.
    fn wipe(&self, dir: &Path) -> Result<(), LogError>;
}

impl dyn View {
    /// The event of a parked delivery or a dead letter, if the view has it.
    pub fn held_event(&self, offset: Offset) -> Result<Option<Arc<Event>>, LogError> {
        let value = self.get(&held_key(offset))?;
        value.map(|value| take_event_value(self, &value)).transpose()
    }

    /// A held event with this id. Looks at all of them; for people.
    pub fn find_held(&self, id: EventId) -> Result<Option<Logged>, LogError> {
        let mut found = None;
        self.scan(b"H", b"I", &mut |key, value| {
            let event = take_event_value(self, &value)?;
            if event.id == id {
                let offset = key.get(1..).and_then(|offset| offset.try_into().ok());
                let offset = offset.ok_or_else(|| self.damaged("the key of a held event is no offset"))?;
                found = Some(Logged { offset: u64::from_be_bytes(offset), event });
            }
            Ok(found.is_none())
        })?;
        Ok(found)
    }
}

/// Opens the view of a log, if it is to have one. One that cannot be used is made again, as long as the log still has
/// everything since its beginning.
pub(crate) fn open(fs: &dyn Fs, place: &LogPlace<'_>, folder: &Folder) -> Result<Option<Arc<dyn View>>, LogError> {
    let Some(views) = &place.options.views else { return Ok(None) };
    let dir = place.dir.join(FOLDER);
    let error = match views.open(&dir) {
        Ok(view) => return Ok(Some(view)),
        Err(error @ (LogError::Full { .. } | LogError::Io { .. })) => return Err(error),
        Err(error) => error,
    };
    let whole = match folder.segments.first() {
        Some(first) => Segment::open(fs, place.dir.join(first), OpenMode::Read)?.header.first_seq == 1,
        None => false,
    };
    if !whole {
        return Err(error);
    }
    tracing::warn!(%error, "the view is made again from the log, which still has everything");
    views.wipe(&dir)?;
    Ok(Some(views.open(&dir)?))
}

impl dyn View {
    /// Reads everything; gives the number of entries.
    pub(crate) fn read_all(&self) -> Result<u64, LogError> {
        let mut count = 0;
        self.scan(b"A", b"Z", &mut |key, value| {
            count += 1;
            match key.first() {
                Some(b'K') => take_kv_value(self, &value).map(|_| true),
                Some(b'H') => take_event_value(self, &value).map(|_| true),
                Some(b'T') => {
                    take_timer_key(self, key)?;
                    take_event_value(self, &value).map(|_| true)
                }
                Some(b'B' | b'M') => Ok(true),
                _ => Err(self.damaged("it has an entry of an unknown kind")),
            }
        })?;
        Ok(count)
    }
}

/// The key of an entry of key-value.
pub(crate) fn kv_key(service: &ServiceName, key: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(2 + service.as_str().len() + key.len());
    out.push(b'K');
    out.extend_from_slice(service.as_str().as_bytes());
    out.push(0);
    out.extend_from_slice(key.as_bytes());
    out
}

/// Where the service's own key begins in a key of an entry.
pub(crate) fn kv_key_start(service: &ServiceName) -> usize {
    2 + service.as_str().len()
}

/// The key under which the bytes of a service's entries are kept.
pub(crate) fn total_key(service: &ServiceName) -> Vec<u8> {
    let mut out = vec![b'B'];
    out.extend_from_slice(service.as_str().as_bytes());
    out
}

/// The value of an entry.
pub(crate) fn kv_value(value: &[u8], version: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(8 + value.len());
    out.extend_from_slice(&version.to_le_bytes());
    out.extend_from_slice(value);
    out
}

/// Reads the value of an entry: its version and the service's own value.
pub(crate) fn take_kv_value(view: &dyn View, value: &Bytes) -> Result<(Bytes, u64), LogError> {
    let (version, _) = value.split_first_chunk::<8>().ok_or_else(|| view.damaged("an entry is too short"))?;
    Ok((value.slice(8..), u64::from_le_bytes(*version)))
}

/// The key of a delayed event.
pub(crate) fn timer_key((due, timer): (Timestamp, u64)) -> Vec<u8> {
    let mut out = vec![b'T'];
    out.extend_from_slice(&due.0.to_be_bytes());
    out.extend_from_slice(&timer.to_be_bytes());
    out
}

/// Reads the key of a delayed event.
pub(crate) fn take_timer_key(view: &dyn View, key: &[u8]) -> Result<(Timestamp, u64), LogError> {
    let numbers = key.get(1..17).and_then(|key| key.split_first_chunk::<8>());
    let read = |(due, timer): (&[u8; 8], &[u8])| {
        Some((Timestamp(u64::from_be_bytes(*due)), u64::from_be_bytes(timer.try_into().ok()?)))
    };
    numbers.and_then(read).ok_or_else(|| view.damaged("the key of a delayed event is too short"))
}

/// The key of a held event.
pub(crate) fn held_key(offset: u64) -> Vec<u8> {
    let mut out = vec![b'H'];
    out.extend_from_slice(&offset.to_be_bytes());
    out
}

/// The key of the number of the last transaction.
pub(crate) const APPLIED: &[u8] = b"Mapplied";

/// The key of the number of delayed events.
pub(crate) const DELAYED: &[u8] = b"Mdelayed";

/// Two numbers as a value.
pub(crate) fn pair(first: u64, second: u64) -> Vec<u8> {
    [first.to_le_bytes(), second.to_le_bytes()].concat()
}

/// Reads two numbers; both are 0 when there is no value.
pub(crate) fn take_pair(view: &dyn View, key: &[u8]) -> Result<(u64, u64), LogError> {
    let Some(value) = view.get(key)? else { return Ok((0, 0)) };
    let read = |(first, second): (&[u8; 8], &[u8])| {
        Some((u64::from_le_bytes(*first), u64::from_le_bytes(second.try_into().ok()?)))
    };
    value.split_first_chunk::<8>().and_then(read).ok_or_else(|| view.damaged("a figure is not two numbers"))
}

/// An event as a value.
pub(crate) fn event_value(event: &Event) -> Vec<u8> {
    let mut out = Vec::with_capacity(event.payload_bytes() + 64);
    put_event(&mut out, event);
    out
}

/// Reads an event.
pub(crate) fn take_event_value(view: &dyn View, value: &Bytes) -> Result<Arc<Event>, LogError> {
    let event = take_event(&mut Reader::sharing(value, value), &mut TopicCache::default());
    event.map(Arc::new).map_err(|_| view.damaged("an event cannot be read"))
}
