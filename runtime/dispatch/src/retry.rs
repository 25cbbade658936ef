//! Parked events that come up again, and dead letters that are called back.
//!
//! Role: from due to wanted to fetched to ready; learning the groups of parked events after a start.

use busway_types::{Offset, Ordering, Settle, Timestamp, Verdict};

use crate::api::{Action, Warning};
use crate::parked::Body;
use crate::queue::{FROM_PARKED, Item, Ready, STRICT_GROUP, group_of};
use crate::subscription::{Cx, Sub};

impl Sub {
    /// Wants what is due.
    pub(crate) fn run_due(&mut self, now: Timestamp) {
        while let Some((offset, group)) = self.parked.pop_due(now) {
            match group {
                None => self.parked.want(offset),
                Some(key) => self.poke(key, now),
            }
        }
    }

    /// A `Fetch` was answered.
    pub(crate) fn fetched(&mut self, events: Vec<busway_types::Logged>, asked: &[Offset], cx: &mut Cx<'_>) {
        self.parked.answered();
        let mut found: Vec<Offset> = events.iter().map(|logged| logged.offset).collect();
        found.sort_unstable();
        let mut groups = Vec::new();
        for &offset in asked.iter().filter(|offset| found.binary_search(offset).is_err()) {
            if self.parked.is_coming(offset) {
                groups.extend(self.parked.remove(offset).and_then(|entry| entry.group).map(|group| (group, offset)));
                self.pending.push(Settle { offset, group: None, event: None, verdict: Verdict::Acked(None) });
                cx.out.push(Action::Warn(Warning::BodyGone { sub: self.id, offset }));
            }
        }
        for &(key, offset) in &groups {
            if let Some(group) = self.groups.get_mut(key) {
                group.unpark(offset);
            }
        }
        for logged in events {
            let cost = logged.event.cost();
            self.parked.weigh(cost);
            let offset = logged.offset;
            let group = group_of(self.ordering, &logged.event);
            match self.parked.get(offset).map(|entry| entry.body) {
                Some(Body::Unknown) => {
                    self.parked.learn(offset, group);
                    if let Some(key) = group {
                        self.park_in_group(key, offset);
                    }
                }
                Some(Body::Wanted | Body::Asked) if logged.event.is_expired(cx.bus.now) => {
                    self.expire(Item { event: logged.event, offset, seq: FROM_PARKED, group, cost });
                }
                Some(Body::Wanted | Body::Asked) => {
                    self.parked.set_body(offset, Body::Held);
                    let item = Item { event: logged.event, offset, seq: FROM_PARKED, group, cost };
                    match group {
                        None => self.retries.push_back(Ready::One(item)),
                        Some(_) => self.put_back(item),
                    }
                }
                Some(Body::Away | Body::Held) | None => continue,
            }
            groups.extend(group.map(|key| (key, offset)));
        }
        for (key, _) in groups {
            self.poke(key, cx.bus.now);
        }
    }

    /// Calls dead letters back.
    pub(crate) fn revive(&mut self, offsets: &[Offset], now: Timestamp) {
        for &offset in offsets {
            if !self.dead.remove(&offset) {
                continue;
            }
            self.pending.push(Settle { offset, group: None, event: None, verdict: Verdict::Revived });
            match self.ordering {
                Ordering::None => self.parked.put(offset, Some(now), Vec::new(), None),
                Ordering::Key => self.parked.put_unknown(offset, Some(now), Vec::new()),
                Ordering::Strict => {
                    self.parked.put(offset, Some(now), Vec::new(), Some(STRICT_GROUP));
                    self.park_in_group(STRICT_GROUP, offset);
                    self.poke(STRICT_GROUP, now);
                }
            }
        }
    }

    /// Notes in its group an event that was not parked by a failure of the group's first. The group may be waiting in
    /// the queue that stands still at the bound of parked events, so it gets a token in the other one as well.
    fn park_in_group(&mut self, key: u64, offset: Offset) {
        let group = self.groups.entry(key);
        group.park(offset);
        if group.queued {
            self.retries.push_back(Ready::Group(key));
        }
    }

    /// Drops dead letters.
    pub(crate) fn drop_dead(&mut self, offsets: &[Offset]) {
        for &offset in offsets {
            if self.dead.remove(&offset) {
                self.pending.push(Settle { offset, group: None, event: None, verdict: Verdict::Dropped });
            }
        }
    }
}
