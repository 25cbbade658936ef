//! The crash test: node processes on disk or on a broker, under load, killed with SIGKILL again and again.
//!
//! Role: external publishers and an external reader go on while the node dies and comes back; at the end a checker holds
//! what the publishers were told against what came out. `BUSWAY_KILLS` and `BUSWAY_SEED` set how long and which; `cargo
//! xtask crash` sets both. The seed decides the load and when to kill; what the node was doing then, nobody decides.

mod check;
mod history;
mod load;
mod node;
mod takeover;
mod workers;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use busway_gateway::api::{DeadPage, KvPage, StatusReport};
use busway_types::{Clock as _, Entropy as _, SplitMix, SystemClock};

use crate::check::AtTheEnd;
use crate::history::{History, Seen};
use crate::load::Board;
use crate::node::{Address, Node, PATIENCE, Place, SERVICES};

const PUBLISHERS: u8 = 3;
/// How long a node lives at most, once it is there.
const LIFE_MS: u64 = 400;
/// One node of this many is killed before it is there.
const EARLY_EVERY: u64 = 4;
/// Events that each publisher sends at most, for each kill.
const EVENTS_PER_KILL: u32 = 400;

#[test]
fn a_node_killed_again_and_again_loses_nothing_it_acknowledged_and_repeats_no_effect() {
    let kills = number("BUSWAY_KILLS", 10);
    let seed = number("BUSWAY_SEED", 1);
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("crash-{}", std::process::id()));
    let place = Place::new(&folder, None);
    let ran = run(&place, seed, EVENTS_PER_KILL * (kills as u32 + 1), |board| drive(&place, board, kills, seed));
    tell(ran, &folder, kills, seed);
}

/// Tells how it went; fails when it did not go well.
fn tell(ran: Result<String, String>, folder: &Path, kills: u64, seed: u64) {
    match ran {
        Ok(report) => {
            say(&report);
            std::fs::remove_dir_all(folder).expect("the folder can be removed");
        }
        Err(wrong) => {
            panic!("{wrong}\n\nBUSWAY_KILLS={kills} BUSWAY_SEED={seed}; all of it is in {}", folder.display())
        }
    }
}

fn number(variable: &str, default: u64) -> u64 {
    let given = std::env::var(variable).ok();
    given.map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{variable} is no number: {text}")))
}

fn say(text: &str) {
    drop(writeln!(std::io::stdout(), "{text}"));
}

/// How the nodes came back.
#[derive(Debug, Default)]
struct Lives {
    killed: u64,
    /// Of the killed, how many had not been there yet.
    early: u64,
    /// From start to answer, after a kill.
    recoveries: Vec<Duration>,
}

/// Lets publishers and a reader go on while `drive` does something to the nodes; then judges.
fn run(
    place: &Place,
    seed: u64,
    most: u32,
    drive: impl FnOnce(&Board) -> Result<Lives, String>,
) -> Result<String, String> {
    let (board, seen) = (Board::default(), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        let publishers: Vec<_> = (0..PUBLISHERS)
            .map(|p| {
                scope.spawn({
                    let board = &board;
                    move || load::publish(board, p, seed, most)
                })
            })
            .collect();
        let reader = scope.spawn(|| load::follow(&board, &seen));
        let driven = drive(&board);
        board.end_publishing();
        let history: Result<Vec<_>, String> =
            publishers.into_iter().map(|p| p.join().unwrap_or_else(|_| Err("a publisher panicked".into()))).collect();
        let judged = driven.and_then(|lives| judge(place, &board, &seen, &History(history?), &lives));
        board.set(None);
        board.end();
        let read = reader.join().unwrap_or_else(|_| Err("the reader panicked".into()));
        let judged = read.and(judged);
        judged.map_err(|wrong| format!("{wrong}\n\nThe end of the nodes' log:\n{}", place.log_tail()))
    })
}

/// Starts and kills nodes.
fn drive(place: &Place, board: &Board, kills: u64, seed: u64) -> Result<Lives, String> {
    let (clock, mut entropy) = (SystemClock::new(), SplitMix(seed));
    let mut lives = Lives::default();
    let mut usual = Duration::from_millis(100);
    for kill in 0..kills {
        let began = clock.monotonic_ns();
        let mut node = place.start();
        // The first compiles the components; nothing has happened yet that it could lose.
        if kill > 0 && entropy.next_u64().is_multiple_of(EARLY_EVERY) {
            std::thread::sleep(usual * (entropy.next_u64() % 100) as u32 / 100);
            lives.early += 1;
        } else {
            let address = node.ready()?;
            if kill > 0 {
                usual = Duration::from_nanos(clock.monotonic_ns() - began);
                lives.recoveries.push(usual);
            }
            board.set(Some(address));
            std::thread::sleep(Duration::from_millis(entropy.next_u64() % LIFE_MS));
        }
        node.kill()?;
        board.set(None);
        lives.killed += 1;
        if (kill + 1).is_multiple_of(10) {
            say(&format!(
                "  {} of {kills} kills, {} events acknowledged",
                kill + 1,
                board.safe.load(Ordering::Relaxed)
            ));
        }
    }
    Ok(lives)
}

/// Lets a last node finish everything, ends it well, and looks at all that there is.
fn judge(
    place: &Place,
    board: &Board,
    seen: &Mutex<Vec<Seen>>,
    history: &History,
    lives: &Lives,
) -> Result<String, String> {
    let mut node = place.start();
    let address = at_work(&mut node)?;
    board.set(Some(address.clone()));
    until_quiet(&address, board)?;
    let end = look(&address)?;
    let seen = std::mem::take(&mut *seen.lock().unwrap_or_else(PoisonError::into_inner));
    let (totals, mut wrong) = check::check(history, &seen, &end);
    board.set(None);
    let status = node.stop()?;
    if !status.success() {
        wrong.push(format!("the last node was asked to end and ended with {status}"));
    }
    let mut node = place.start();
    let again = load::read_all(&at_work(&mut node)?)?;
    if again != seen {
        let differ = again.iter().zip(&seen).find(|(a, b)| a != b);
        wrong.push(format!("read again, {} events are {}: {differ:?}", seen.len(), again.len()));
    }
    node.kill()?;
    if !wrong.is_empty() {
        return Err(format!("the history contradicts the claims:\n  - {}", wrong.join("\n  - ")));
    }
    let Lives { killed, early, recoveries } = lives;
    let mut sorted = recoveries.clone();
    sorted.sort_unstable();
    let (middle, most) = (sorted.get(sorted.len() / 2).copied(), sorted.last().copied());
    let ms = |time: Option<Duration>| time.map_or(0, |time| time.as_millis());
    let check::Totals { sent, safe, refused, unknown, unknown_taken, repeated, effects } = totals;
    Ok(format!(
        "crash test: {killed} kills survived, {early} of them while starting; back after {} ms (median), {} ms (longest)\n\
         {sent} events sent: {safe} acknowledged, {refused} refused, {unknown} unknown, of which {unknown_taken} were taken\n\
         {} sent again with the same id, {} of them though they were acknowledged: each there once, each receipt the first\n\
         {effects} effects, each exactly once; order of {} keys held, counters exact, {} dead letters as they must be",
        ms(middle),
        ms(most),
        repeated.0,
        repeated.1,
        u32::from(PUBLISHERS) * u32::from(history::KEYS),
        end.dead.len(),
    ))
}

/// Waits until a node answers and, where others may have the bus, has it; gives where it is.
fn at_work(node: &mut Node) -> Result<Address, String> {
    let address = node.ready()?;
    let clock = SystemClock::new();
    let began = clock.now();
    loop {
        let status: StatusReport = address.get("/v1/status")?;
        if status.node.standby.is_none() && status.services.len() >= SERVICES {
            return Ok(address);
        }
        if clock.now().since(began) > PATIENCE {
            return Err(format!("it does not get to work: {status:#?}"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Waits until nothing waits in the node and the reader has read to the end.
fn until_quiet(address: &Address, board: &Board) -> Result<(), String> {
    let clock = SystemClock::new();
    let (mut moved, mut before, mut quiet) = (clock.now(), None, 0);
    loop {
        let status: StatusReport = address.get("/v1/status")?;
        let subs = status.services.iter().flat_map(|service| &service.subscriptions);
        let open: u64 = subs.map(|sub| sub.lag + (sub.parked + sub.in_flight + sub.backlog_events) as u64).sum();
        let left =
            (open, status.bus.delayed, status.bus.head - board.next.load(Ordering::Relaxed).min(status.bus.head));
        // Twice, for what is between two places when it is looked for.
        quiet = if left == (0, 0, 0) { quiet + 1 } else { 0 };
        if quiet == 2 {
            return Ok(());
        }
        if before != Some(left) {
            (before, moved) = (Some(left), clock.now());
        }
        if clock.now().since(moved) > PATIENCE {
            return Err(format!("nothing moved for {PATIENCE:?}: {left:?} (open, delayed, unread): {status:#?}"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn look(address: &Address) -> Result<AtTheEnd, String> {
    let mut counters = BTreeMap::new();
    for service in ["count", "recount", "rewrite", "flaky"] {
        let page: KvPage = address.get(&format!("/v1/kv/{service}?limit=1000"))?;
        let value = |entry: busway_gateway::api::KvEntry| {
            let text = entry.data.map(|raw| raw.get().to_owned()).or(entry.text).unwrap_or_default();
            Ok((entry.key, text.parse().map_err(|_| format!("{service} keeps no number: {text}"))?))
        };
        let values: Result<BTreeMap<String, u64>, String> = page.entries.into_iter().map(value).collect();
        counters.insert(service.to_owned(), values?);
    }
    let page: DeadPage = address.get("/v1/dead?limit=1000000")?;
    Ok(AtTheEnd { counters, dead: page.letters.into_iter().map(|letter| letter.id).collect() })
}
