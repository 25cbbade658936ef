//! Deduplication by topic and client-supplied id.

use std::time::Duration;

use busway_types::{Effects, Event, EventId, StartAt, Verdict};

use super::{Bench, Fixture, NOW, ack, event, settle};

fn chosen(number: u128) -> Event {
    let mut event = event(number, b"chosen");
    event.causality.chosen_id = true;
    event
}

pub(super) fn run(fixture: &dyn Fixture) {
    gives_a_repetition_the_first_receipt(fixture);
    tells_topics_apart_and_leaves_other_ids_alone(fixture);
    drops_a_repetition_that_a_handler_publishes(fixture);
    remembers_delayed_events(fixture);
    remembers_ids_when_it_is_opened_again(fixture);
}

fn gives_a_repetition_the_first_receipt(fixture: &dyn Fixture) {
    let bench = Bench::new(fixture.fresh());
    let first = bench.publish(vec![chosen(1), chosen(2), chosen(1)]);
    assert_eq!(first.iter().map(|r| r.offset).collect::<Vec<_>>(), [Some(0), Some(1), Some(0)], "within a batch");
    assert_eq!(first[2].id, EventId::from_u128(1));
    let again = bench.publish(vec![chosen(2), event(7, b"new"), chosen(1), chosen(3)]);
    assert_eq!(again.iter().map(|r| r.offset).collect::<Vec<_>>(), [Some(1), Some(2), Some(0), Some(3)]);
    assert_eq!(bench.publish(vec![chosen(3)]), vec![again[3]], "also when nothing else is in the batch");
    assert_eq!(bench.offsets(), vec![0, 1, 2, 3]);
    assert_eq!(bench.engine.status().duplicates, 4);
    bench.close();
}

fn tells_topics_apart_and_leaves_other_ids_alone(fixture: &dyn Fixture) {
    let bench = Bench::new(fixture.fresh());
    let elsewhere = Event { topic: "t.b".parse().expect("a topic"), ..chosen(1) };
    bench.publish(vec![chosen(1), elsewhere]);
    bench.publish(vec![event(1, b"an id of the bus's own"), event(1, b"is not looked at")]);
    assert_eq!(bench.offsets(), vec![0, 1, 2, 3]);
    bench.close();
}

fn drops_a_repetition_that_a_handler_publishes(fixture: &dyn Fixture) {
    let bench = Bench::new(fixture.fresh());
    let (sub, _) = bench.subscribe("s", StartAt::Now);
    bench.publish(vec![event(8, b""), event(9, b""), chosen(1)]);
    let effects = |ids: &[u128]| Effects {
        publishes: ids.iter().map(|id| std::sync::Arc::new(chosen(*id))).collect(),
        ..Effects::default()
    };
    bench.settle(sub, 2, vec![ack(0, effects(&[1, 2])), ack(1, effects(&[2, 3])), settle(2, Verdict::Acked(None))]);
    let receipts = bench.publish(vec![chosen(2), chosen(3)]);
    assert_eq!(receipts.iter().map(|r| r.offset).collect::<Vec<_>>(), [Some(3), Some(4)]);
    assert_eq!(bench.offsets(), vec![0, 1, 2, 3, 4]);
    bench.close();
}

fn remembers_delayed_events(fixture: &dyn Fixture) {
    let bench = Bench::new(fixture.fresh());
    if !bench.engine.capabilities().delay {
        return;
    }
    let at = NOW.after(Duration::from_mins(1));
    let late = || Event { not_before: Some(at), ..chosen(1) };
    let receipts = bench.publish(vec![late(), late(), chosen(2)]);
    assert_eq!(receipts.iter().map(|r| r.offset).collect::<Vec<_>>(), [None, None, Some(0)]);
    bench.engine.tick(at).expect("ticked");
    assert_eq!(bench.publish(vec![late()])[0].offset, None, "the first receipt, though the event has an offset now");
    assert_eq!(bench.offsets(), vec![0, 1]);
    bench.close();
}

fn remembers_ids_when_it_is_opened_again(fixture: &dyn Fixture) {
    let bench = Bench::new(fixture.fresh());
    if !bench.engine.capabilities().durable {
        return;
    }
    let before = bench.publish(vec![chosen(1), event(7, b""), chosen(2)]);
    bench.close();
    let bench = Bench::new(fixture.reopen().expect("a durable engine can be opened again"));
    assert_eq!(bench.publish(vec![chosen(1), chosen(2)]), [before[0], before[2]]);
    assert_eq!(bench.offsets(), Vec::<u64>::new());
    bench.close();
}
