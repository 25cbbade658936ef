//! Publishers and the reader of the outputs: threads that go on whatever happens to the node.
//!
//! A publisher has one request on its way at a time. One for which the node chooses the ids is never repeated, so that what
//! its publisher was told is all that is known of it; one with ids of its own is sent again until it is answered, and
//! sometimes once more. The reader notes every event of the test's topics once, by offset, and goes on where it stopped.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use busway_gateway::api::{Envelope, Problem, PublishResponse, TailLine};
use busway_types::{Clock as _, Entropy as _, EventId, SplitMix, SystemClock};
use ureq::Agent;

use crate::history::{Input, KEYS, Kind, Seen, Sent, Told, key_text};
use crate::node::{Address, agent};

/// How far publishers may be ahead of what comes out.
const AHEAD: u64 = 2_000;
/// One request of this many goes to the events that are delivered later.
const LATER_EVERY: u64 = 12;
/// One request of this many has ids that its publisher chose.
const CHOSEN_EVERY: u64 = 2;
/// One of this many of them is sent again though it was answered.
const AGAIN_EVERY: u64 = 5;
const PAUSE: Duration = Duration::from_millis(5);

/// What the threads share.
#[derive(Debug, Default)]
pub(crate) struct Board {
    /// The node that runs now, with its number.
    node: Mutex<(u64, Option<Address>)>,
    changed: Condvar,
    /// Publishers end.
    quiet: AtomicBool,
    /// The reader ends.
    over: AtomicBool,
    /// Events that publishers know to be safe.
    pub(crate) safe: AtomicU64,
    /// Forwarded events that came out.
    out: AtomicU64,
    /// Where the reader is.
    pub(crate) next: AtomicU64,
}

impl Board {
    fn lock(&self) -> MutexGuard<'_, (u64, Option<Address>)> {
        self.node.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells where the node is, or that it is gone.
    pub(crate) fn set(&self, address: Option<Address>) {
        let mut node = self.lock();
        *node = (node.0 + 1, address);
        self.changed.notify_all();
    }

    pub(crate) fn end_publishing(&self) {
        self.quiet.store(true, Ordering::Relaxed);
        self.changed.notify_all();
    }

    pub(crate) fn end(&self) {
        self.end_publishing();
        self.over.store(true, Ordering::Relaxed);
        self.changed.notify_all();
    }

    /// The node that runs, once one does; none when `stop` is set.
    fn node(&self, stop: &AtomicBool) -> Option<Address> {
        let mut node = self.lock();
        while !stop.load(Ordering::Relaxed) {
            if let Some(address) = &node.1 {
                return Some(address.clone());
            }
            // With a bound, so that a flag that is set between two looks is seen.
            let waited = self.changed.wait_timeout(node, Duration::from_millis(100));
            node = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        None
    }
}

/// Publishes until it is told to end; gives what it sent.
pub(crate) fn publish(board: &Board, publisher: u8, seed: u64, most: u32) -> Result<Vec<Sent>, String> {
    let (agent, mut entropy) = (agent(), SplitMix(seed ^ u64::from(publisher).rotate_left(40)));
    let mut sent: Vec<Sent> = Vec::new();
    let mut batch = 0;
    while sent.len() < most as usize {
        if board.node(&board.quiet).is_none() {
            break;
        }
        if board.safe.load(Ordering::Relaxed) > board.out.load(Ordering::Relaxed) + AHEAD {
            std::thread::sleep(PAUSE);
            continue;
        }
        let first = sent.len();
        let body = request(publisher, batch, &mut sent, &mut entropy);
        let once_more = entropy.next_u64().is_multiple_of(AGAIN_EVERY);
        send(board, &agent, &mut sent[first..], &body, once_more)?;
        batch += 1;
        std::thread::sleep(Duration::from_micros(entropy.next_u64() % 8_000));
    }
    Ok(sent)
}

/// How a request was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Taken,
    Refused,
    /// Nobody knows.
    None,
}

/// Sends a request, again and again if that is harmless and it is not answered, or if it is to be sent once more.
fn send(board: &Board, agent: &Agent, sent: &mut [Sent], body: &str, mut once_more: bool) -> Result<(), String> {
    let chosen = sent.iter().all(|sent| sent.chosen.is_some());
    let mut first = true;
    while let Some(address) = board.node(&board.quiet) {
        for sent in sent.iter_mut() {
            sent.times += 1;
        }
        let request = agent.post(address.url("/v1/events")).header("Authorization", address.bearer());
        let answer = request.content_type("application/json").send(body.as_bytes());
        let answer = answer.and_then(|mut answer| Ok((answer.status().as_u16(), answer.body_mut().read_to_string()?)));
        let answer = match answer {
            Ok((200, text)) => taken(board, sent, &text)?,
            // One that was sent before may have been taken then, whatever is said of this one.
            Ok((status, text)) => refused(sent, status, &text, first)?,
            // Killed before it answered: nobody knows.
            Err(_) => Answer::None,
        };
        match answer {
            Answer::Taken if chosen && once_more => once_more = false,
            Answer::Refused if first => break,
            Answer::None | Answer::Refused if chosen => std::thread::sleep(PAUSE),
            Answer::None => {
                std::thread::sleep(PAUSE);
                break;
            }
            Answer::Taken | Answer::Refused => break,
        }
        first = false;
    }
    Ok(())
}

/// The next request, noted as sent.
fn request(publisher: u8, batch: u32, sent: &mut Vec<Sent>, entropy: &mut SplitMix) -> String {
    let later = entropy.next_u64().is_multiple_of(LATER_EVERY);
    let chosen = entropy.next_u64().is_multiple_of(CHOSEN_EVERY);
    let mut body = String::new();
    for _ in 0..=entropy.next_u64() % 32 {
        let input = Input { publisher, number: sent.len() as u32 };
        let (text, key) = (input.text(), (entropy.next_u64() % u64::from(KEYS)) as u8);
        let id = chosen.then(|| EventId::new(SystemClock::new().now(), entropy));
        let own = id.map_or(String::new(), |id| format!(",\"id\":\"{id}\""));
        // Writing to a String does not fail.
        let _ = if later {
            let (topic, delay) = (Kind::Later.topic(), entropy.next_u64() % 1_000);
            writeln!(body, "{{\"topic\":\"{topic}\",\"text\":\"{text}\",\"delay_ms\":{delay}{own}}}")
        } else {
            let (topic, key) = (Kind::In.topic(), key_text(publisher, key));
            writeln!(body, "{{\"topic\":\"{topic}\",\"text\":\"{text}\",\"key\":\"{key}\"{own}}}")
        };
        let key = (!later).then_some(key);
        sent.push(Sent { key, batch, chosen: id, times: 0, told: Told::Nothing, again: None });
    }
    body
}

fn taken(board: &Board, sent: &mut [Sent], text: &str) -> Result<Answer, String> {
    // What broke off in the middle is no answer.
    let Ok(PublishResponse { published }) = serde_json::from_str(text) else { return Ok(Answer::None) };
    if published.len() != sent.len() {
        return Err(format!("{} receipts for {} events: {text}", published.len(), sent.len()));
    }
    for (sent, reply) in sent.iter_mut().zip(published) {
        let first = !matches!(sent.told, Told::Safe { .. });
        sent.hear(Told::Safe { id: reply.id, offset: reply.offset });
        if sent.key.is_some() && first {
            board.safe.fetch_add(1, Ordering::Relaxed);
        }
    }
    Ok(Answer::Taken)
}

fn refused(sent: &mut [Sent], status: u16, text: &str, first: bool) -> Result<Answer, String> {
    let problem: Problem = serde_json::from_str(text).map_err(|e| format!("{status}: {text}: {e}"))?;
    match problem.word() {
        "overloaded" => {
            if first {
                for sent in sent {
                    sent.told = Told::Refused;
                }
            }
            std::thread::sleep(PAUSE);
            Ok(Answer::Refused)
        }
        // It may have taken effect, as its description says.
        "timed-out" => Ok(Answer::None),
        _ => Err(format!("a publisher was answered {status}: {text}")),
    }
}

/// Reads everything from the start until it is told to end.
pub(crate) fn follow(board: &Board, seen: &Mutex<Vec<Seen>>) -> Result<(), String> {
    let agent = agent();
    while let Some(address) = board.node(&board.over) {
        let from = board.next.load(Ordering::Relaxed);
        let request = agent.get(address.url(&format!("/v1/events?pattern=crash.%3E&from={from}")));
        // Whatever breaks here, the node was killed or is about to be: the next one is asked from where this one ended.
        let Ok(answer) = request.header("Authorization", address.bearer()).call() else {
            std::thread::sleep(PAUSE);
            continue;
        };
        let body = answer.into_body().into_with_config().limit(u64::MAX).reader();
        for line in BufReader::new(body).lines() {
            let Ok(line) = line else { break };
            // A line without its end is a line that was cut off.
            let Ok(line) = serde_json::from_str::<TailLine>(&line) else { break };
            let Some(event) = read_line(line)? else { break };
            note(board, seen, event)?;
        }
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

/// Everything from the start to the end of the log.
pub(crate) fn read_all(address: &Address) -> Result<Vec<Seen>, String> {
    let request = agent().get(address.url("/v1/events?pattern=crash.%3E&from=start&follow=false"));
    let answer = request.header("Authorization", address.bearer()).call().map_err(|e| e.to_string())?;
    let body = answer.into_body().into_with_config().limit(u64::MAX).reader();
    let mut all = Vec::new();
    for line in BufReader::new(body).lines() {
        let line = serde_json::from_str(&line.map_err(|e| e.to_string())?).map_err(|e| e.to_string())?;
        all.extend(read_line(line)?);
    }
    Ok(all)
}

/// The event of a line; none at the end of a stream.
fn read_line(line: TailLine) -> Result<Option<Seen>, String> {
    match line {
        TailLine::Event(event) => {
            Ok(Some(parse(&event).ok_or_else(|| format!("not an event of this test: {event:?}"))?))
        }
        TailLine::Missed(missed) => Err(format!("{missed} events are gone that nobody allowed to go")),
        TailLine::Problem(problem) if problem.word() == "stopping" => Ok(None),
        TailLine::Problem(problem) => Err(format!("the tail ended: {problem:?}")),
    }
}

fn note(board: &Board, seen: &Mutex<Vec<Seen>>, event: Seen) -> Result<(), String> {
    let next = board.next.load(Ordering::Relaxed);
    // Every topic of this log is the test's own, so offsets have no gaps.
    if event.offset != next {
        return Err(format!("after offset {next} was due, {event:?} came"));
    }
    board.next.store(next + 1, Ordering::Relaxed);
    if event.kind == Kind::Forwarded {
        board.out.fetch_add(1, Ordering::Relaxed);
    }
    seen.lock().unwrap_or_else(PoisonError::into_inner).push(event);
    Ok(())
}

fn parse(event: &Envelope) -> Option<Seen> {
    let kind = Kind::ALL.into_iter().find(|kind| kind.topic() == event.topic.as_str())?;
    let text = event.text.as_deref()?;
    let mut parts = text.split('|');
    let input = Input::parse(parts.next()?)?;
    let ledger = match (parts.next(), parts.next()) {
        (Some(count), Some("none")) => Some((count.parse().ok()?, None)),
        (Some(count), Some(last)) => Some((count.parse().ok()?, Some(Input::parse(last)?.number))),
        _ => None,
    };
    let key = match &event.key {
        Some(key) => Some((0..KEYS).find(|number| key_text(input.publisher, *number) == *key)?),
        None => None,
    };
    Some(Seen { offset: event.offset, id: event.id, cause: event.cause, kind, key, input, ledger })
}
