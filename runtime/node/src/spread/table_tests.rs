//! What the owner's table does with chunks, nodes and their words.

use busway_types::{Delivery, DeliveryResult, Event, EventId, Logged, Ordering as Order, Outcome};

use super::super::remote::NODE_BYTES;
use super::super::wire::{About, Offer};
use super::*;

const SECOND: u64 = 1_000_000_000;

#[derive(Default)]
struct Heard {
    reports: Mutex<Vec<(u64, usize, bool)>>,
    lost: Mutex<Vec<u64>>,
    resized: AtomicU64,
}

impl Back for Heard {
    fn report(&self, report: Report) {
        self.reports.lock().expect("a lock").push((report.chunk, report.results.len(), report.finished));
    }
    fn lost(&self, _: SubId, chunk: u64) {
        self.lost.lock().expect("a lock").push(chunk);
    }
    fn resized(&self) {
        self.resized.fetch_add(1, Ordering::Relaxed);
    }
}

impl Heard {
    fn lost(&self) -> Vec<u64> {
        let mut lost = std::mem::take(&mut *self.lost.lock().expect("a lock"));
        lost.sort_unstable();
        lost
    }
    fn reports(&self) -> Vec<(u64, usize, bool)> {
        std::mem::take(&mut *self.reports.lock().expect("a lock"))
    }
}

struct Rig {
    table: Table,
    going: mpsc::Receiver<Going>,
    heard: Arc<Heard>,
    next: u64,
}

fn hello(session: u64, concurrency: usize, seen: u64, holds: &[u64]) -> Hello {
    let service: ServiceName = "a".parse().expect("a name");
    let offers = vec![Offer { subscription: "a".into(), service, version: "1".into(), concurrency }];
    let about = About { version: "0".into(), pid: 1, admin: ([127, 0, 0, 1], 1).into() };
    Hello { session, epoch: 1, seen, holds: holds.to_vec(), ready: true, offers, generation: 0, about }
}

fn chunk(id: u64, events: usize, bytes: usize) -> Chunk {
    let event = Event {
        id: EventId::from_u128(1),
        topic: "t".parse().expect("a topic"),
        key: None,
        time: Timestamp(1),
        content_type: None,
        headers: Vec::new(),
        data: vec![0; bytes].into(),
        not_before: None,
        expires: None,
        causality: busway_types::Causality::default(),
    };
    let event = Arc::new(event);
    let delivery = |offset| Delivery { logged: Logged { offset, event: Arc::clone(&event) }, attempt: 1 };
    let deliveries = (id * 100..).take(events).map(delivery).collect();
    Chunk { id, sub: SubId(1), ordering: Order::Key, generation: 0, deliveries }
}

fn results(offsets: std::ops::Range<u64>) -> Vec<DeliveryResult> {
    offsets.map(|offset| DeliveryResult { offset, outcome: Outcome::Acked, effects: None, busy_ns: 1 }).collect()
}

fn report(chunk: u64, offsets: std::ops::Range<u64>, finished: bool) -> Report {
    Report { chunk, sub: SubId(1), results: results(offsets), finished }
}

impl Rig {
    fn new() -> Self {
        let (send, going) = mpsc::channel(1_000);
        let heard = Arc::new(Heard::default());
        Self { table: Table::new(send, Arc::clone(&heard) as Arc<dyn Back>), going, heard, next: 0 }
    }

    fn hello(&self, node: &str, hello: Hello, now_ns: u64) {
        self.table.hello(&node.into(), hello, true, now_ns, Timestamp(0));
    }

    /// Offers a chunk of two events and says who got it, with its number; sent at once.
    fn give(&mut self, load: f64, now_ns: u64) -> Option<(u64, String, u64)> {
        self.next += 1;
        let id = self.next;
        self.table.offer(&"a".into(), chunk(id, 2, 0), load, 1, now_ns).is_none().then(|| {
            let going = self.going.try_recv().expect("it goes");
            let number = self.table.sending(going.chunk.id).expect("it is in the table");
            (id, going.node.to_string(), number)
        })
    }
}

#[test]
fn chunks_go_to_whoever_has_the_least_to_do_for_its_size() {
    let mut rig = Rig::new();
    assert!(!rig.table.has_any() && rig.give(9.0, 0).is_none(), "nobody is there");
    rig.hello("small", hello(1, 1, 0, &[]), 0);
    rig.hello("large", hello(1, 3, 0, &[]), 0);
    assert_eq!((rig.table.concurrency("a"), rig.table.concurrency("b")), (4, 0));
    assert!(rig.give(0.0, 0).is_some_and(|(_, node, _)| node == "large"), "its share of a thread is smaller");
    let mut given = std::collections::BTreeMap::new();
    for _ in 0..7 {
        let (_, node, _) = rig.give(5.0, 0).expect("somebody has less to do");
        *given.entry(node).or_insert(0) += 1;
    }
    // One and seven more over four threads: two of the small one, six of the large one.
    assert_eq!(given.into_iter().collect::<Vec<_>>(), [("large".to_owned(), 5), ("small".to_owned(), 2)]);
    assert!(rig.give(0.5, 0).is_none(), "the own lane has less to do now");
    // No more than a lane has room for, however much there is.
    let more = std::iter::from_fn(|| rig.give(1e9, 0)).take(100).count();
    assert_eq!(more, (3 + Chunk::AHEAD - 6) + (1 + Chunk::AHEAD - 2));
    // Another service of the same name is another matter, and large chunks stay here.
    assert!(rig.table.offer(&"b".into(), chunk(900, 1, 0), 1e9, 1, 0).is_some());
    rig.hello("fresh", hello(1, 9, 0, &[]), 0);
    assert!(rig.table.offer(&"a".into(), chunk(901, 1, CHUNK_BYTES), 1e9, 1, 0).is_some());
    let many: usize = (0..40)
        .filter(|i| rig.table.offer(&"a".into(), chunk(910 + i, 1, CHUNK_BYTES / 2), 1e9, 1, 0).is_none())
        .count();
    assert!((10..=NODE_BYTES / (CHUNK_BYTES / 2)).contains(&many), "{many} chunks, and bytes are bounded");
}

#[test]
fn what_a_node_reports_counts_once_in_order_and_only_of_what_it_was_given() {
    let mut rig = Rig::new();
    rig.hello("n", hello(1, 4, 0, &[]), 0);
    rig.hello("m", hello(1, 1, 0, &[]), 0);
    let (id, node, _) = rig.give(9.0, 0).expect("given");
    assert_eq!(node, "n");
    assert_eq!(rig.table.reported("m", vec![report(id, 100..102, true)]), 1, "it has not got it");
    assert_eq!(rig.table.reported("n", vec![report(77, 0..1, true)]), 1, "nobody has got it");
    assert!(rig.heard.reports().is_empty());
    assert_eq!(rig.table.reported("n", vec![report(id, 100..101, false), report(id, 101..102, true)]), 0);
    assert_eq!(rig.heard.reports(), [(id, 1, false), (id, 1, true)]);
    assert_eq!(rig.table.reported("n", vec![report(id, 100..102, true)]), 1, "once");
    assert_eq!((rig.heard.reports(), rig.heard.lost()), (vec![], vec![]));
    // A part that got lost on the way voids the rest, which is run again.
    let (second, ..) = rig.give(9.0, 0).expect("given");
    assert_eq!(rig.table.reported("n", vec![report(second, 201..202, true)]), 1);
    assert_eq!((rig.heard.reports(), rig.heard.lost()), (vec![], vec![second]));
    // More than there was, another subscription.
    let (third, ..) = rig.give(9.0, 0).expect("given");
    assert_eq!(rig.table.reported("n", vec![report(third, 300..305, true)]), 1);
    let (fourth, ..) = rig.give(9.0, 0).expect("given");
    let other = Report { sub: SubId(2), ..report(fourth, 400..402, true) };
    assert_eq!(rig.table.reported("n", vec![other]), 1);
    assert_eq!((rig.heard.reports(), rig.heard.lost()), (vec![], vec![third, fourth]));
}

#[test]
fn a_node_that_falls_silent_loses_what_it_has_and_changes_nothing_when_it_wakes_up() {
    let mut rig = Rig::new();
    rig.hello("n", hello(1, 4, 0, &[]), 0);
    let given: Vec<_> = (0..3).map(|_| rig.give(9.0, 0).expect("given").0).collect();
    assert!(rig.table.sweep(3 * SECOND - 1).is_empty());
    assert_eq!(rig.table.sweep(3 * SECOND), ["n".into()]);
    assert_eq!(rig.heard.lost(), given);
    assert!(!rig.table.has_any());
    assert_eq!(rig.table.concurrency("a"), 0);
    let late = given.iter().map(|id| report(*id, id * 100..id * 100 + 2, true)).collect();
    assert_eq!(rig.table.reported("n", late), 3);
    assert_eq!((rig.heard.reports(), rig.heard.lost()), (vec![], vec![]));
    // It may work again; what it still holds is nobody's.
    rig.hello("n", hello(1, 4, 3, &given), 4 * SECOND);
    let (id, _, number) = rig.give(9.0, 4 * SECOND).expect("given");
    assert!(number > 3, "numbers grow over all nodes and times, so that it is not taken for one that was lost");
    rig.hello("n", hello(1, 4, 3, &given), 4 * SECOND);
    assert!(rig.heard.lost().is_empty());
    assert_eq!(rig.table.reported("n", vec![report(id, id * 100..id * 100 + 2, true)]), 0);
}

#[test]
fn a_chunk_that_a_node_does_not_have_though_it_was_sent_before_comes_back() {
    let mut rig = Rig::new();
    rig.hello("n", hello(1, 4, 0, &[]), 0);
    let (first, _, a) = rig.give(9.0, 0).expect("given");
    let (second, _, b) = rig.give(9.0, 0).expect("given");
    let (third, ..) = rig.give(9.0, 0).expect("given");
    // It has seen none of them: they are on their way.
    rig.hello("n", hello(1, 4, a - 1, &[]), 0);
    assert!(rig.heard.lost().is_empty());
    rig.hello("n", hello(1, 4, b, &[second]), 0);
    assert_eq!(rig.heard.lost(), [first], "it was overtaken, so it never arrived");
    // Another session of the same name, or one that listens to nobody, has nothing.
    rig.hello("n", hello(2, 4, 0, &[]), 0);
    assert_eq!(rig.heard.lost(), [second, third]);
    let (fourth, ..) = rig.give(9.0, 0).expect("given");
    rig.table.hello(&"n".into(), hello(2, 4, 0, &[]), false, 0, Timestamp(0));
    assert_eq!(rig.heard.lost(), [fourth]);
    assert!(!rig.table.has_any() && rig.give(9.0, 0).is_none());
    assert_eq!(rig.table.nodes().len(), 1, "it is known all the same");
}

#[test]
fn a_node_that_gives_back_gets_nothing_for_a_while_and_longer_each_time() {
    let mut rig = Rig::new();
    rig.hello("n", hello(1, 4, 0, &[]), 0);
    let mut now = 0;
    for wait_ms in [250, 500, 1_000] {
        let (id, ..) = rig.give(9.0, now).expect("given");
        rig.table.gave_back("other", &[id], now);
        assert!(rig.heard.lost().is_empty(), "it is not theirs");
        rig.table.gave_back("n", &[id, id], now);
        assert_eq!(rig.heard.lost(), [id]);
        assert!(rig.give(9.0, now + wait_ms * 1_000_000 - 1).is_none());
        now += wait_ms * 1_000_000;
    }
    let (id, ..) = rig.give(9.0, now).expect("given");
    rig.table.not_sent(id, now);
    assert_eq!(rig.heard.lost(), [id]);
    assert!(rig.table.sending(id).is_none());
}
