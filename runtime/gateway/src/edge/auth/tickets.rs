//! Tickets: a credential for the one request that cannot carry another.
//!
//! A browser's `EventSource` and `WebSocket` send no header of the page's choice, and a key in an address ends up in
//! logs and histories. So the page asks for a ticket with its credential and puts that into the address: it is good for
//! one request within [`TICKET_TIME`], and for nothing afterwards. Invariants: a ticket allows what its asker may do, and
//! no longer; their number is bounded, and full means that nobody gets a new one, never that one is forgotten early.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use busway_types::Timestamp;

use super::Caller;
use super::key::{KeyHash, is_well_formed, text};

/// What every ticket begins with.
const PREFIX: &str = "bwt_";
/// How long a ticket is good.
pub(crate) const TICKET_TIME: Duration = Duration::from_secs(30);
/// Tickets at a time.
const MOST: usize = 10_000;
/// Tickets of one caller at a time.
const MOST_EACH: usize = 100;

/// Why there is no ticket.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoTicket {
    #[error("too many tickets are waiting to be used")]
    Full,
    #[error("the system gives no random bytes for a ticket")]
    NoRandom,
}

#[derive(Debug)]
struct Kept {
    caller: Caller,
    until: Timestamp,
}

/// Tickets that were given and not used.
#[derive(Debug, Default)]
pub(crate) struct Tickets(Mutex<HashMap<KeyHash, Kept>>);

/// Whether a text has the form of a ticket.
pub(crate) fn is_ticket(text: &str) -> bool {
    text.starts_with(PREFIX)
}

impl Tickets {
    /// A new ticket for somebody.
    pub(crate) fn issue(&self, caller: &Caller, now: Timestamp) -> Result<String, NoTicket> {
        let mut random = [0_u8; 32];
        getrandom::fill(&mut random).map_err(|_| NoTicket::NoRandom)?;
        let ticket = text(PREFIX, &random);
        let until = now.after(TICKET_TIME);
        let until = caller.expires.map_or(until, |expires| expires.min(until));
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |other: &Caller| other.kind == caller.kind && other.name == caller.name;
        if kept.len() >= MOST || kept.values().filter(|k| same(&k.caller)).count() >= MOST_EACH {
            kept.retain(|_, kept| kept.until > now);
        }
        if kept.len() >= MOST || kept.values().filter(|k| same(&k.caller)).count() >= MOST_EACH {
            return Err(NoTicket::Full);
        }
        kept.insert(KeyHash::of(ticket.as_bytes()), Kept { caller: caller.clone(), until });
        Ok(ticket)
    }

    /// Whose the ticket is; it is used up.
    pub(crate) fn redeem(&self, ticket: &str, now: Timestamp) -> Option<Caller> {
        if !is_well_formed(PREFIX, ticket) {
            return None;
        }
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = kept.remove(&KeyHash::of(ticket.as_bytes()))?;
        (kept.until > now).then_some(kept.caller)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::auth::CallerKind;

    fn caller(name: &str) -> Caller {
        Caller::new(CallerKind::Key, name, vec!["route:chat".parse().expect("a scope")])
    }

    #[test]
    fn a_ticket_is_good_once_and_not_for_long() {
        let (tickets, now) = (Tickets::default(), Timestamp(1_000_000));
        let ticket = tickets.issue(&caller("a"), now).expect("a ticket");
        assert!(is_ticket(&ticket));
        let redeemed = tickets.redeem(&ticket, now.after(Duration::from_secs(29))).expect("good");
        assert!(redeemed.may_use("chat") && redeemed.name.as_deref() == Some("a"));
        assert!(tickets.redeem(&ticket, now).is_none(), "only once");
        let late = tickets.issue(&caller("a"), now).expect("a ticket");
        assert!(tickets.redeem(&late, now.after(TICKET_TIME)).is_none(), "only in time");
        assert!(tickets.redeem("bwt_x", now).is_none());
    }

    #[test]
    fn a_ticket_ends_with_what_it_stands_for() {
        let (tickets, now) = (Tickets::default(), Timestamp(1_000_000));
        let short = Caller { expires: Some(now.after(Duration::from_secs(5))), ..caller("a") };
        let ticket = tickets.issue(&short, now).expect("a ticket");
        assert!(tickets.redeem(&ticket, now.after(Duration::from_secs(5))).is_none());
    }

    #[test]
    fn one_caller_cannot_take_them_all_and_room_comes_back() {
        let (tickets, now) = (Tickets::default(), Timestamp(1_000_000));
        for _ in 0..MOST_EACH {
            assert!(tickets.issue(&caller("a"), now).is_ok());
        }
        assert_eq!(tickets.issue(&caller("a"), now), Err(NoTicket::Full));
        assert!(tickets.issue(&caller("b"), now).is_ok());
        assert!(tickets.issue(&caller("a"), now.after(TICKET_TIME)).is_ok());
    }
}
