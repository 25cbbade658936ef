//! A node made of a vector.

use std::sync::{Arc, Mutex};

use busway_gateway::api::{
    ApiError, AskReply, AskRequest, BusStatus, DeadChanged, DeadDetail, DeadFilter, DeadPage, ForgetRequest, Forgotten,
    KvPage, KvQuery, NodeStatus, PublishReply, PublishRequest, ReplayReply, ReplayRequest, ServiceInfo,
    ShutdownRequest, StatusReport, TailFrom, Trace, TraceQuery,
};
use busway_gateway::{AdminBackend, Reply, TailBatch, TailRead};
use busway_types::{EventId, Limits, Logged, Offset, ServiceName, Timestamp};
use tokio::sync::Notify;

#[derive(Default)]
pub(crate) struct Fake {
    pub(crate) events: Mutex<Vec<Logged>>,
    pub(crate) appended: Notify,
    pub(crate) oldest: Offset,
    pub(crate) hang_on_status: bool,
}

fn nothing<T>() -> Result<T, ApiError> {
    Err(ApiError::not_found("the fake has none"))
}

impl Fake {
    fn head(&self) -> Offset {
        self.events.lock().expect("the events").len() as u64
    }

    fn append(&self, batch: Vec<PublishRequest>) -> Result<Vec<PublishReply>, ApiError> {
        let limits = Limits::default();
        let drafts: Result<Vec<_>, _> = batch
            .into_iter()
            .enumerate()
            .map(|(i, r)| r.into_draft(Timestamp(1), &limits).map_err(|e| e.at(i)))
            .collect();
        let mut events = self.events.lock().expect("the events");
        let mut replies = Vec::new();
        for draft in drafts? {
            let offset = events.len() as u64;
            let id = EventId::from_u128(u128::from(offset));
            let event = draft.admit(id, Timestamp(1), &limits)?;
            events.push(Logged { offset, event: Arc::new(event) });
            replies.push(PublishReply { id, offset: Some(offset), subscribers: 0, hint: None });
        }
        self.appended.notify_waiters();
        Ok(replies)
    }

    fn read(&self, read: &TailRead) -> TailBatch {
        let events = self.events.lock().expect("the events");
        let selected = events.iter().filter(|l| l.offset >= read.from.max(self.oldest));
        let selected = selected
            .filter(|l| read.patterns.is_empty() || read.patterns.iter().any(|p| p.matches(&l.event.topic)))
            .take(read.max_events);
        let head = events.len() as u64;
        TailBatch { events: selected.cloned().collect(), next: head, oldest: self.oldest, head }
    }
}

impl AdminBackend for Fake {
    fn publish(&self, batch: Vec<PublishRequest>) -> Reply<'_, Vec<PublishReply>> {
        Box::pin(async { self.append(batch) })
    }

    fn request(&self, _: AskRequest) -> Reply<'_, AskReply> {
        Box::pin(async { nothing() })
    }

    fn tail_position(&self, from: TailFrom) -> Reply<'_, Offset> {
        Box::pin(async move {
            Ok(match from {
                TailFrom::Start => self.oldest,
                TailFrom::Now => self.head(),
                TailFrom::Offset(offset) => offset,
                TailFrom::Time(_) => return nothing(),
            })
        })
    }

    fn tail_read(&self, read: TailRead) -> Reply<'_, TailBatch> {
        Box::pin(async move {
            loop {
                let appended = self.appended.notified();
                if !read.wait || self.head() > read.from {
                    return Ok(self.read(&read));
                }
                appended.await;
            }
        })
    }

    fn status(&self) -> Reply<'_, StatusReport> {
        Box::pin(async {
            if self.hang_on_status {
                std::future::pending::<()>().await;
            }
            let node = NodeStatus {
                standby: None,
                version: "0".into(),
                pid: 1,
                engine: "memory".into(),
                durability: "memory".into(),
                power_cut: String::new(),
                uptime_ms: 0,
                admin: "127.0.0.1:1".parse().expect("an address"),
                gateway: None,
                draining: false,
            };
            let bus = BusStatus {
                oldest: 0,
                head: self.head(),
                bytes: 0,
                delayed: 0,
                duplicates: 0,
                expired: 0,
                warning: None,
                room: "enough".into(),
            };
            let (services, bridges, refused, detached, nodes) = (vec![], vec![], vec![], vec![], vec![]);
            Ok(StatusReport { node, bus, services, bridges, refused, detached, nodes })
        })
    }

    fn service(&self, _: ServiceName) -> Reply<'_, ServiceInfo> {
        Box::pin(async { nothing() })
    }

    fn dead_list(&self, _: DeadFilter) -> Reply<'_, DeadPage> {
        Box::pin(async { Ok(DeadPage { letters: vec![], total: 0 }) })
    }

    fn dead_show(&self, _: EventId) -> Reply<'_, Vec<DeadDetail>> {
        Box::pin(async { nothing() })
    }

    fn dead_retry(&self, _: DeadFilter) -> Reply<'_, DeadChanged> {
        Box::pin(async { Ok(DeadChanged { changed: 0 }) })
    }

    fn dead_drop(&self, _: DeadFilter) -> Reply<'_, DeadChanged> {
        Box::pin(async { Ok(DeadChanged { changed: 0 }) })
    }

    fn trace(&self, _: EventId, _: TraceQuery) -> Reply<'_, Trace> {
        Box::pin(async { nothing() })
    }

    fn forget(&self, _: ForgetRequest) -> Reply<'_, Forgotten> {
        Box::pin(async { nothing() })
    }

    fn replay(&self, _: ReplayRequest) -> Reply<'_, ReplayReply> {
        Box::pin(async { nothing() })
    }

    fn kv_list(&self, _: ServiceName, _: KvQuery) -> Reply<'_, KvPage> {
        Box::pin(async { nothing() })
    }

    fn shutdown(&self, _: ShutdownRequest) -> Reply<'_, ()> {
        Box::pin(async { Ok(()) })
    }
}
