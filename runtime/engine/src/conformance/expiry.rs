//! Events that expire: an engine keeps them like others, and drops those that expire while they are delayed.

use std::time::Duration;

use busway_types::{Event, StartAt, Timestamp, Verdict};

use super::{Bench, Fixture, NOW, event, parked, settle};

pub(super) fn run(fixture: &dyn Fixture) {
    settles_expired_events_for_good(fixture);
    drops_what_expires_while_it_is_delayed(fixture);
}

fn settles_expired_events_for_good(fixture: &dyn Fixture) {
    let bench = Bench::new(fixture.fresh());
    let (sub, _) = bench.subscribe("s", StartAt::Now);
    let brief = Event { expires: Some(NOW.after(Duration::from_secs(1))), ..event(0, b"brief") };
    bench.publish(vec![brief.clone(), event(1, b"")]);
    bench.settle(sub, 1, vec![parked(0, &brief)]);
    assert_eq!(bench.state(sub).parked.len(), 1);
    bench.settle(sub, 2, vec![settle(0, Verdict::Expired), settle(1, Verdict::Expired)]);
    let state = bench.state(sub);
    assert_eq!((state.cursor, state.parked.len(), state.dead.len()), (2, 0, 0));
    bench.close();
}

fn drops_what_expires_while_it_is_delayed(fixture: &dyn Fixture) {
    let bench = Bench::new(fixture.fresh());
    if !bench.engine.capabilities().delay {
        return;
    }
    let (due, expires) = (NOW.after(Duration::from_mins(1)), NOW.after(Duration::from_mins(2)));
    let late = |number| Event { not_before: Some(due), expires: Some(expires), ..event(number, b"late") };
    bench.publish(vec![late(1), Event { expires: None, ..late(2) }]);
    // Nobody looked in time, as when the node was down.
    bench.engine.tick(Timestamp(expires.0)).expect("ticked");
    assert_eq!(bench.offsets(), vec![0]);
    let status = bench.engine.status();
    assert_eq!((status.delayed, status.expired), (0, 1));
    bench.publish(vec![late(3)]);
    bench.engine.tick(due).expect("ticked");
    assert_eq!(bench.offsets(), vec![0, 1], "in time it is delivered");
    bench.close();
}
