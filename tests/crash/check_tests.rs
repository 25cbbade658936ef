//! The checker sees what it is there to see: a good history passes, and each way to spoil it is told.

use super::*;
use crate::history::Sent;

/// Three events of one key, one of them unknown but taken, one to be delivered later, one that is rejected.
fn good() -> (History, Vec<Seen>, AtTheEnd) {
    let mut history = History(vec![Vec::new()]);
    let mut seen = Vec::new();
    let mut end = AtTheEnd::default();
    let mut last = None;
    let mut count = 0;
    for number in 0..100 {
        let input = Input { publisher: 0, number };
        let later = number == 50;
        let key = (!later).then_some(1);
        let id = |kind: Kind| EventId::from_u128(u128::from(number) * 100 + kind as u128);
        let first = if later { Kind::Later } else { Kind::In };
        let kinds = Kind::ALL.into_iter().filter(|kind| match kind {
            Kind::Later | Kind::LaterDone => later,
            Kind::Flaky => !later && !input.is_rejected(),
            _ => !later,
        });
        let offset = seen.len() as u64;
        let told = if number == 7 { Told::Nothing } else { Told::Safe { id: id(first), offset: key.map(|_| offset) } };
        // One was sent again until it was answered, one though it was.
        let chosen = [10, 12].contains(&number).then(|| id(first));
        let (times, again) = (1 + u32::from(chosen.is_some()), (number == 12).then_some(told));
        history.0[0].push(Sent { key, batch: number / 2, chosen, times, told, again });
        count += u32::from(!later);
        for kind in kinds {
            let ledger = (kind == Kind::Tallied).then_some((count, last));
            let (offset, cause) = (seen.len() as u64, kind.cause().map(id));
            seen.push(Seen { offset, id: id(kind), cause, kind, key, input, ledger });
        }
        if !later {
            last = Some(number);
        }
    }
    let counter = |name: &str, value| BTreeMap::from([(name.to_owned(), value)]);
    end.counters = BTreeMap::from([
        ("count".to_owned(), BTreeMap::from([("total".to_owned(), 99), ("key.p0k1".to_owned(), 99)])),
        ("recount".to_owned(), counter("total", 99)),
        ("rewrite".to_owned(), counter("counter", 99)),
        ("flaky".to_owned(), counter("taken", 98)),
    ]);
    end.dead = vec![EventId::from_u128(9_900 + Kind::In as u128)];
    (history, seen, end)
}

/// What is told when a good history is spoiled.
fn told(spoil: impl FnOnce(&mut History, &mut Vec<Seen>, &mut AtTheEnd)) -> String {
    let (mut history, mut seen, mut end) = good();
    spoil(&mut history, &mut seen, &mut end);
    check(&history, &seen, &end).1.join("\n")
}

fn place(seen: &[Seen], kind: Kind, number: u32) -> usize {
    seen.iter().position(|seen| seen.kind == kind && seen.input.number == number).expect("it is there")
}

#[test]
fn a_good_history_passes_and_is_counted() {
    let (history, seen, end) = good();
    let (totals, wrong) = check(&history, &seen, &end);
    assert_eq!(wrong, Vec::<String>::new());
    let Totals { sent, safe, refused, unknown, unknown_taken, repeated, effects } = totals;
    assert_eq!(repeated, (2, 1));
    assert_eq!((sent, safe, refused, unknown, unknown_taken, effects), (100, 99, 0, 1, 1, 3 * 99 + 98 + 1));
}

#[test]
fn what_is_lost_or_repeated_is_told() {
    let lost = told(|_, seen, _| seen.retain(|seen| seen.input.number != 20));
    assert!(lost.contains("what was acknowledged is there: 1") && lost.contains("counters are exact"), "{lost}");
    assert!(lost.contains("as a whole"), "its neighbour in the request is there: {lost}");
    let effect = told(|_, seen, _| seen.retain(|seen| seen.kind != Kind::Relayed || seen.input.number != 20));
    assert!(effect.contains("comes out on crash.relayed: 1"), "{effect}");
    let later = told(|_, seen, _| seen.retain(|seen| seen.kind != Kind::LaterDone));
    assert!(later.contains("comes out on crash.later.done: 1"), "{later}");
    let twice =
        told(|_, seen, _| seen.push(Seen { id: EventId::from_u128(1 << 90), ..seen[place(seen, Kind::Flaky, 3)] }));
    assert!(twice.contains("no effect on crash.flaky happens twice"), "{twice}");
    let refused = told(|history, _, _| history.0[0][4].told = Told::Refused);
    assert!(refused.contains("what was refused is not there: 1"), "{refused}");
    let unsent = told(|history, _, _| history.0[0].truncate(99));
    assert!(unsent.contains("nothing is there that nobody sent: 1"), "{unsent}");
}

#[test]
fn wrong_order_wrong_ledgers_and_wrong_causes_are_told() {
    let order = told(|_, seen, _| {
        let (a, b) = (place(seen, Kind::Forwarded, 30), place(seen, Kind::Forwarded, 31));
        seen.swap(a, b);
    });
    assert!(order.contains("order holds for each key: 1"), "{order}");
    let ledger = told(|_, seen, _| {
        let at = place(seen, Kind::Tallied, 30);
        seen[at].ledger = Some((30, Some(29)));
    });
    assert!(ledger.contains("key-value and events of one delivery agree: 1"), "{ledger}");
    let cause = told(|_, seen, _| {
        let at = place(seen, Kind::Relayed, 30);
        seen[at].cause = None;
    });
    assert!(cause.contains("an event names its cause: 1"), "{cause}");
    let id = told(|_, seen, _| {
        let (a, b) = (place(seen, Kind::Relayed, 30), place(seen, Kind::Relayed, 31));
        seen[a].id = seen[b].id;
    });
    assert!(id.contains("an id is given once: 1"), "{id}");
    let moved = told(|_, seen, _| {
        let at = place(seen, Kind::In, 30);
        seen[at].offset += 1;
    });
    assert!(moved.contains("where its receipt says: 1"), "{moved}");
}

#[test]
fn a_repetition_that_is_answered_otherwise_is_told() {
    let place = told(|history, _, _| {
        let Told::Safe { id, offset } = history.0[0][12].told else { unreachable!("it is safe") };
        history.0[0][12].hear(Told::Safe { id, offset: offset.map(|offset| offset + 1) });
    });
    assert!(place.contains("a repetition gets the first receipt: 1"), "{place}");
    let id = told(|history, _, _| history.0[0][10].chosen = Some(EventId::from_u128(1 << 91)));
    assert!(id.contains("the id that its publisher chose: 1"), "{id}");
}

#[test]
fn wrong_counters_and_dead_letters_are_told() {
    for (service, name) in [("count", "total"), ("count", "key.p0k1"), ("recount", "total"), ("flaky", "taken")] {
        let off = told(|_, _, end| {
            *end.counters.get_mut(service).and_then(|all| all.get_mut(name)).expect("a counter") += 1;
        });
        assert!(off.contains(&format!("{service}: {name} is")), "{off}");
    }
    let dead = told(|_, _, end| end.dead.clear());
    assert!(dead.contains("0 dead letters and 1 rejected events"), "{dead}");
}
