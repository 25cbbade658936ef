//! What is fuzzed, and what must hold for any input.

use std::path::Path;
use std::sync::Arc;

use busway_gateway::api::PublishRequest;
use busway_log::testing::{ManualClock, MemFs};
use busway_log::{KvRecord, Log, LogOptions, SettleRecord, Stage, State, SubChange, Txn};
use busway_node::manifest::Manifest;
use busway_types::{Draft, EventId, Key, KvWrite, Limits, Parked, Pattern, ServiceName, SubId, Timestamp, Topic};
use bytes::Bytes;

use crate::contracts;

/// A reader of foreign bytes.
pub struct Target {
    /// Its name, and that of its folder in the corpus.
    pub name: &'static str,
    /// Pieces that its inputs are made of.
    pub words: &'static [&'static str],
    /// Inputs for a brief run.
    pub brief: u64,
    /// Entries of the corpus that are made rather than kept.
    pub made: fn() -> Vec<Vec<u8>>,
    /// Reads; whether it took the input. Panics on what must never be.
    pub run: fn(&[u8]) -> bool,
}

/// All targets.
pub const ALL: &[Target] = &[
    Target { name: "record", words: &[], brief: 20_000, made: records, run: record },
    Target { name: "recovery", words: &[], brief: 400, made: Vec::new, run: recovery },
    Target {
        name: "topic",
        words: &["*", ">", ".", "..", "shop", "*.", ".>", "-", "_"],
        brief: 50_000,
        made: Vec::new,
        run: topic,
    },
    Target { name: "manifest", words: MANIFEST, brief: 2_000, made: Vec::new, run: manifest },
    Target { name: "lines", words: LINES, brief: 20_000, made: Vec::new, run: lines },
    Target { name: "component", words: &[], brief: 2_000, made: contracts::components, run: contracts::component },
    Target { name: "wit", words: contracts::WIT, brief: 2_000, made: Vec::new, run: contracts::wit },
];

const MANIFEST: &[&str] = &[
    "[bus]\n",
    "[limits]\n",
    "[services.a]\n",
    "[services.\"a.b\"]\n",
    "engine = ",
    "durability = ",
    "component = ",
    "subscribe = [",
    "publish = [\"public.>\"]\n",
    "retry = { attempts = 3 }\n",
    "\"interval(5ms)\"",
    "\"64MiB\"",
    "timeout = \"5s\"\n",
    "schedule = \"* * * * *\"\n",
    "emit = \"a.b\"\n",
    "= {",
    "}",
    "]",
    "\"",
    "\n",
    "99999999999",
];

const LINES: &[&str] = &[
    "\"topic\":",
    "\"key\":",
    "\"data\":",
    "\"text\":",
    "\"base64\":",
    "\"headers\":[",
    "\"delay_ms\":",
    "\"id\":",
    "{",
    "}",
    "[",
    "]",
    "null",
    "\\u0000",
    "\\ud800",
    "1e999",
    "18446744073709551616",
    "-1",
    "\"\"",
];

/// The codec of records: nothing panics, and what is read is written back to the same meaning.
fn record(input: &[u8]) -> bool {
    busway_log::testing::read_record(input)
}

/// A folder with a good log that was bent: it opens or is refused, and what opens is the same the next time.
fn recovery(input: &[u8]) -> bool {
    let fs = good_folder();
    let dir = Path::new("/data");
    let files: Vec<_> = fs.files().into_keys().collect();
    for step in input.chunks(5) {
        let [which, how, high, low, value] = <[u8; 5]>::try_from(step).unwrap_or_default();
        let path = &files[usize::from(which) % files.len()];
        fs.edit(path, |bytes| {
            let at = (usize::from(high) << 8 | usize::from(low)) % bytes.len().max(1);
            match how % 5 {
                0 if at < bytes.len() => bytes[at] ^= value | 1,
                1 => bytes.truncate(at),
                2 => bytes.extend(std::iter::repeat_n(value, at.min(600))),
                3 => bytes.iter_mut().skip(at).take(600).for_each(|b| *b = value),
                _ => {
                    let piece: Vec<u8> = bytes.iter().copied().skip(at).take(usize::from(value)).collect();
                    let to = usize::from(low) % bytes.len().max(1);
                    let end = (to + piece.len()).min(bytes.len());
                    bytes.splice(to..end, piece);
                }
            }
        });
    }
    // It only looks; whatever it says, it says it.
    let looked = busway_log::verify(&fs, dir);
    let opened = Log::open_stepped(Arc::new(fs.clone()), dir, options());
    let Ok((log, first)) = opened else { return false };
    assert!(looked.is_ok(), "it opens, and looking at it failed: {:?}", looked.err());
    let head = first.state.next_offset;
    let mut at = log.oldest();
    while at < head {
        let Ok((_, next)) = log.read(at, &[], 50, 1 << 20) else { break };
        assert!(next > at, "a read got no further than {at}");
        at = next;
    }
    drop(log);
    let (_, again) = Log::open_stepped(Arc::new(fs.killed()), dir, options()).expect("what opened once opens again");
    assert_eq!(again.state, first.state, "opened twice, it is the same");
    true
}

fn options() -> LogOptions {
    LogOptions {
        segment_bytes: 4_096,
        first_segment_bytes: 4_096,
        clock: Arc::new(ManualClock::default()),
        seed: 7,
        ..LogOptions::default()
    }
}

/// A log of some segments.
fn good_folder() -> MemFs {
    let fs = MemFs::new();
    let (log, _) = Log::open_stepped(Arc::new(fs.clone()), Path::new("/data"), options()).expect("a new folder opens");
    for txn in transactions() {
        log.submit(vec![txn], Box::new(|_| {}));
        for stage in [Stage::Commit, Stage::Checkpoint, Stage::Checkpoint, Stage::Prepare, Stage::Upkeep] {
            log.step(stage);
        }
    }
    drop(log);
    fs.killed()
}

/// The bodies of the records of [`transactions`], as many as are different.
fn records() -> Vec<Vec<u8>> {
    transactions().iter().take(6).map(busway_log::testing::write_record).collect()
}

/// Transactions that follow one another, with everything that a record can hold.
fn transactions() -> Vec<Txn> {
    let mut state = State::default();
    let service: ServiceName = "stock".parse().expect("a name");
    let mut all = Vec::new();
    for number in 0..60_u64 {
        let mut txn = Txn { seq: state.next_seq, first_offset: state.next_offset, ..Txn::default() };
        if number == 0 {
            let (name, service) = ("stock".to_owned(), service.clone());
            txn.subs.push(SubChange::Created { id: SubId(0), name, service, cursor: 0 });
        }
        let mut draft = Draft::new("shop.orders".parse().expect("a topic"), Bytes::from(vec![b'x'; 150]));
        draft.key = Some(Key::stored("k"));
        draft.headers = vec![("name".into(), "value".into())];
        let id = EventId::from_u128(u128::from(number));
        let event = Arc::new(draft.admit(id, Timestamp(number), &Limits::default()).expect("a valid event"));
        txn.events.push(event.clone());
        match number % 4 {
            1 => txn.settlement = Some(SettleRecord { acked: vec![number - 1], ..SettleRecord::of(SubId(0)) }),
            2 => {
                let parked = Parked { offset: number - 1, due: Some(Timestamp(9)), attempts: Vec::new() };
                txn.settlement = Some(SettleRecord { parked: vec![parked], ..SettleRecord::of(SubId(0)) });
            }
            3 => {
                let op = KvWrite::Increment { key: "n".into(), by: 1 };
                txn.kv.push(KvRecord { service: service.clone(), op });
            }
            _ => txn.delayed.push((state.next_timer, event)),
        }
        state.apply(&txn);
        all.push(txn);
    }
    all
}

/// Topics and patterns: what is taken is written as it was read, and a topic matches itself.
fn topic(input: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(input) else { return false };
    let (topic, pattern) = (text.parse::<Topic>(), text.parse::<Pattern>());
    if let Ok(topic) = &topic {
        assert_eq!(topic.as_str(), text);
        let pattern = pattern.as_ref().expect("every topic is a pattern");
        assert!(pattern.matches(topic), "{text} matches itself");
    }
    if let Ok(pattern) = &pattern {
        assert_eq!(pattern.to_string(), text);
        assert!(pattern.overlaps(pattern), "{text} overlaps itself");
        for other in ["shop.orders.placed", "shop", "a.b"] {
            let other: Topic = other.parse().expect("a topic");
            let exact: Pattern = other.as_str().parse().expect("a pattern");
            assert_eq!(pattern.matches(&other), pattern.overlaps(&exact), "{text} and {other}");
        }
    }
    topic.is_ok() || pattern.is_ok()
}

/// Manifests: taken, or refused with findings that can be shown.
fn manifest(input: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(input) else { return false };
    match Manifest::parse(Path::new("/app/busway.toml"), text) {
        Ok(_) => true,
        Err(findings) => {
            assert!(!findings.is_empty(), "refused without a reason: {text}");
            assert!(findings.iter().all(|finding| !finding.to_string().is_empty()));
            false
        }
    }
}

/// Lines of events: taken as drafts within the limits, or refused.
fn lines(input: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(input) else { return false };
    let limits = Limits::default();
    let mut taken = false;
    for line in text.lines() {
        let Ok(request) = serde_json::from_str::<PublishRequest>(line) else { continue };
        let shown = serde_json::to_string(&request).expect("what was read can be written");
        let again: PublishRequest = serde_json::from_str(&shown).expect("and read again");
        assert_eq!((&again.topic, &again.key, &again.text), (&request.topic, &request.key, &request.text));
        let Ok(draft) = request.into_draft(Timestamp(1), &limits) else { continue };
        taken |= draft.admit(EventId::from_u128(1), Timestamp(1), &limits).is_ok();
    }
    taken
}
