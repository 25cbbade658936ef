//! The lane itself: bounds, reuse, closing.

use std::sync::Arc;
use std::time::Duration;

use busway_host::{Host, HostConfig, Instancing, LaneSettings, NotTaken, ServiceSettings};
use busway_types::{Clock, Ordering, Outcome, SystemClock, Timestamp};

use crate::support::{Bench, Sink, TestBus, chunk, compiled, event, guest, host, settings};

#[test]
fn a_full_lane_gives_the_chunk_back() {
    let bench = Bench::new();
    let mut taken = 0;
    let full = (0..10).find_map(|id| match bench.lane.submit(chunk(id, Ordering::Key, &[("l", None)])) {
        Ok(()) => {
            taken += 1;
            None
        }
        Err(refused) => Some(refused),
    });
    assert!(matches!(full, Some(NotTaken::Full(_))), "{full:?}");
    // The queue, and the one that the lane's only thread may have taken from it already.
    let queue = LaneSettings::new(1).queue;
    assert!((queue..=queue + 1).contains(&taken), "{taken} chunks taken, the queue holds {queue}");
    bench.lane.stop();
    assert!(bench.lane.wait_drained(Duration::from_secs(5)));
}

#[test]
fn instances_are_reused() {
    let bench = Bench::new();
    for id in 0..5 {
        bench.outcomes(id, &[".", "."]);
    }
    let stats = bench.lane.stats();
    assert_eq!((stats.instances_made, stats.instances, stats.acked), (1, 1, 10));
}

#[test]
fn an_instance_per_event_starts_fresh_each_time() {
    let bench = Bench::with(ServiceSettings { instances: Instancing::PerEvent, ..settings() }, TestBus::default(), 2);
    assert_eq!(bench.outcomes(1, &["n", "n", "n"]), [Outcome::Acked, Outcome::Acked, Outcome::Acked]);
    let results = bench.run(2, Ordering::Key, &[("i", None), ("g", None)]);
    assert_eq!(results[1].outcome, Outcome::Rejected { reason: "1".into() });
    let stats = bench.lane.stats();
    assert_eq!((stats.instances_made, stats.instances), (5, 0));
}

/// Six chunks of two services on four threads each, and at most one instance at a time among all of them.
#[test]
fn instances_beyond_the_pool_are_waited_for() {
    let host = Host::new(HostConfig { pool_instances: 1, ..HostConfig::default() }).expect("a host");
    let compiled = host.compile("guest", guest()).expect("the guest compiles");
    let per_event = ServiceSettings { instances: Instancing::PerEvent, ..settings() };
    let lanes: Vec<_> = (0..2)
        .map(|_| {
            let linked = compiled.link(&host, per_event.clone(), Arc::new(TestBus::default())).expect("it links");
            let sink = Arc::new(Sink::default());
            (linked.lane(LaneSettings::new(4), sink.clone()), sink)
        })
        .collect();
    for id in 0..3 {
        for (lane, _) in &lanes {
            lane.submit(chunk(id, Ordering::None, &[("q", None), (".", None)])).expect("taken");
        }
    }
    for (lane, sink) in &lanes {
        for id in 0..3 {
            let outcomes: Vec<_> = sink.finished(id).into_iter().map(|result| result.outcome).collect();
            assert_eq!(outcomes, [Outcome::Acked, Outcome::Acked], "waiting for an instance costs nothing");
        }
        assert_eq!(lane.stats().instances_made, 6);
        assert!(sink.failed.lock().unwrap().is_empty());
    }
}

#[test]
fn a_closed_lane_finishes_what_it_took() {
    let bench = Bench::new();
    bench.lane.submit(chunk(1, Ordering::Key, &[("q", None), (".", None)])).unwrap();
    bench.lane.close();
    assert!(matches!(bench.lane.submit(chunk(2, Ordering::Key, &[(".", None)])), Err(NotTaken::Closed(_))));
    assert!(bench.sink.finished(1).iter().all(|result| result.outcome == Outcome::Acked));
    assert!(bench.lane.wait_drained(Duration::from_secs(5)) && bench.lane.is_drained());
    assert_eq!(bench.lane.stats().instances, 0);
}

#[test]
fn stopping_ends_what_runs_uncharged_and_gives_back_what_waits() {
    let slow = ServiceSettings { timeout: Duration::from_mins(1), ..settings() };
    let bench = Bench::with(slow, TestBus::default(), 1);
    bench.lane.submit(chunk(1, Ordering::Key, &[(".", None), ("l", None), (".", None)])).unwrap();
    bench.sink.wait(|reports| !reports.is_empty());
    bench.lane.submit(chunk(2, Ordering::Key, &[(".", None)])).unwrap();
    bench.lane.stop();
    let outcomes: Vec<_> = bench.sink.finished(1).into_iter().map(|result| result.outcome).collect();
    assert_eq!(outcomes, [Outcome::Acked, Outcome::Skipped, Outcome::Skipped]);
    assert_eq!(*bench.sink.lost.lock().unwrap(), [2]);
}

#[test]
fn chunks_of_one_lane_run_side_by_side() {
    let bench = Bench::with(settings(), TestBus::default(), 2);
    bench.lane.submit(chunk(1, Ordering::Key, &[("z", None)])).unwrap();
    assert_eq!(bench.outcomes(2, &["."]), [Outcome::Acked]);
    let running = bench.sink.reports.lock().unwrap().iter().all(|report| report.chunk != 1);
    assert!(running, "the sleeper held the other chunk up");
}

#[test]
fn an_instance_that_cannot_be_made_loses_the_chunk_with_a_reason() {
    let bench = Bench::with(ServiceSettings { memory_bytes: 65_536, ..settings() }, TestBus::default(), 1);
    bench.lane.submit(chunk(1, Ordering::Key, &[(".", None)])).unwrap();
    assert!(bench.lane.wait_drained(Duration::from_secs(5)));
    assert_eq!(*bench.sink.lost.lock().unwrap(), [1]);
    let reasons = bench.sink.failed.lock().unwrap();
    assert!(reasons[0].starts_with("memory limit of 65536 bytes reached"), "{reasons:?}");
}

#[test]
fn the_floor_is_measured_in_both_ways() {
    for per_event in [false, true] {
        let took = host().floor(&compiled(), Arc::new(event(1, ".", None)), 100, per_event);
        assert!(took.expect("the handler takes the event") > Duration::ZERO);
    }
}
/// A clock that runs a hundred times as fast.
#[derive(Debug)]
struct FastClock(SystemClock);

impl Clock for FastClock {
    fn now(&self) -> Timestamp {
        self.0.now()
    }

    fn monotonic_ns(&self) -> u64 {
        self.0.monotonic_ns() * 100
    }
}

#[test]
fn an_instance_that_nobody_uses_is_dropped() {
    let config = HostConfig { clock: Arc::new(FastClock(SystemClock::new())), ..HostConfig::default() };
    let host = Host::new(config).expect("a host");
    let compiled = host.compile("guest", guest()).expect("the guest compiles");
    let slow = ServiceSettings { timeout: Duration::from_hours(1), ..settings() };
    let linked = compiled.link(&host, slow, Arc::new(TestBus::default())).expect("the guest links");
    let sink = Arc::new(Sink::default());
    let lane = linked.lane(LaneSettings::new(1), sink.clone());
    lane.submit(chunk(1, Ordering::Key, &[(".", None)])).unwrap();
    sink.finished(1);
    assert_eq!(lane.stats().instances, 1);
    for _ in 0..100 {
        if lane.stats().instances == 0 {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("the instance is still there");
}
