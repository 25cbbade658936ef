//! The verdict over a whole history.
//!
//! Invariant: decided from what publishers were told and what came out; the counters and dead letters are outputs too,
//! read at the end. Every claim lists what contradicts it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use busway_types::EventId;

use crate::history::{History, Input, Kind, Seen, Told};

/// How many contradictions of one claim are listed.
const LISTED: usize = 5;

/// What was read once all was quiet.
#[derive(Clone, Debug, Default)]
pub(crate) struct AtTheEnd {
    /// Of each counting service, its counters by key.
    pub(crate) counters: BTreeMap<String, BTreeMap<String, u64>>,
    /// The events that the service which often fails gave up.
    pub(crate) dead: Vec<EventId>,
}

/// What happened, for the report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) sent: usize,
    pub(crate) safe: usize,
    pub(crate) refused: usize,
    pub(crate) unknown: usize,
    /// Of the unknown, how many were taken after all.
    pub(crate) unknown_taken: usize,
    /// Of all, how many were sent more than once, and how many of those had been answered before.
    pub(crate) repeated: (usize, usize),
    pub(crate) effects: usize,
}

/// Everything that must not be.
pub(crate) fn check(history: &History, seen: &[Seen], end: &AtTheEnd) -> (Totals, Vec<String>) {
    let mut verdict = Verdict { history, seen, end, wrong: Vec::new() };
    let taken = verdict.inputs();
    verdict.effects(&taken);
    verdict.order();
    verdict.ledgers();
    verdict.causes();
    verdict.counters(&taken);
    verdict.dead(&taken);
    let told = |wanted: fn(&Told) -> bool| history.iter().filter(|(_, sent)| wanted(&sent.told)).count();
    let unknown_taken =
        taken.keys().filter(|input| matches!(history.get(**input).map(|s| s.told), Some(Told::Nothing)));
    let totals = Totals {
        sent: history.iter().count(),
        safe: told(|told| matches!(told, Told::Safe { .. })),
        refused: told(|told| matches!(told, Told::Refused)),
        unknown: told(|told| matches!(told, Told::Nothing)),
        unknown_taken: unknown_taken.count(),
        repeated: (
            history.iter().filter(|(_, sent)| sent.times > 1).count(),
            history.iter().filter(|(_, sent)| sent.again.is_some()).count(),
        ),
        effects: seen.iter().filter(|seen| seen.kind.cause().is_some()).count(),
    };
    (totals, verdict.wrong)
}

/// The inputs that were taken, with the ids they got.
type Taken = BTreeMap<Input, EventId>;

struct Verdict<'a> {
    history: &'a History,
    seen: &'a [Seen],
    end: &'a AtTheEnd,
    wrong: Vec<String>,
}

impl Verdict<'_> {
    fn claim(&mut self, claim: &str, against: Vec<String>) {
        if !against.is_empty() {
            let listed: Vec<_> = against.iter().take(LISTED).map(String::as_str).collect();
            self.wrong.push(format!("{claim}: {} times not\n      {}", against.len(), listed.join("\n      ")));
        }
    }

    /// What was acknowledged is there once, as it was told, what was refused is not, and a request is taken as a whole.
    fn inputs(&mut self) -> Taken {
        let mut taken: HashMap<Input, Vec<&Seen>> = HashMap::new();
        for seen in self.seen.iter().filter(|seen| seen.kind.cause().is_none()) {
            taken.entry(seen.input).or_default().push(seen);
        }
        let mut against: [Vec<String>; 4] = Default::default();
        let mut batches: BTreeMap<(u8, u32), BTreeSet<bool>> = BTreeMap::new();
        for (input, sent) in self.history.iter() {
            let places = taken.get(&input).map_or(&[][..], Vec::as_slice);
            batches.entry((input.publisher, sent.batch)).or_default().insert(!places.is_empty());
            match (sent.told, places) {
                (Told::Safe { .. }, []) => against[0].push(format!("{input:?} {sent:?}")),
                (Told::Refused, [_, ..]) => against[1].push(format!("{input:?}: {places:?}")),
                (_, [_, _, ..]) => against[2].push(format!("{input:?}: {places:?}")),
                (Told::Safe { id, offset }, [place])
                    if id != place.id || offset.is_some_and(|offset| offset != place.offset) =>
                {
                    against[3].push(format!("{input:?} told {id} at {offset:?}: {place:?}"));
                }
                _ => {}
            }
        }
        let [lost, refused, twice, otherwise] = against;
        self.claim("what was acknowledged is there", lost);
        self.claim("what was refused is not there", refused);
        self.claim("what was published once is there once", twice);
        self.claim("an event is where its receipt says", otherwise);
        self.repetitions();
        let torn = batches.into_iter().filter(|(_, taken)| taken.len() > 1).map(|(batch, _)| format!("{batch:?}"));
        self.claim("a request is taken as a whole or not at all", torn.collect());
        let unknown = taken.iter().filter(|(input, _)| self.history.get(**input).is_none());
        let unknown = unknown.map(|(input, places)| format!("{input:?}: {places:?}")).collect();
        self.claim("nothing is there that nobody sent", unknown);
        taken.into_iter().map(|(input, places)| (input, places[0].id)).collect()
    }

    /// Whoever sent an event again was told the same again; of one that was delayed the place may be known by then.
    fn repetitions(&mut self) {
        let same = |first: Told, again: Told| match (first, again) {
            (Told::Safe { id, offset: None }, Told::Safe { id: other, .. })
            | (Told::Safe { id, .. }, Told::Safe { id: other, offset: None }) => id == other,
            _ => first == again,
        };
        let (mut otherwise, mut unchosen) = (Vec::new(), Vec::new());
        for (input, sent) in self.history.iter() {
            if sent.again.is_some_and(|again| !same(sent.told, again)) {
                otherwise.push(format!("{input:?}: {sent:?}"));
            }
            if let (Some(chosen), Told::Safe { id, .. }) = (sent.chosen, sent.told)
                && chosen != id
            {
                unchosen.push(format!("{input:?}: {sent:?}"));
            }
        }
        self.claim("a repetition gets the first receipt", otherwise);
        self.claim("an event has the id that its publisher chose", unchosen);
    }

    /// Every input that was taken has each of its effects once.
    fn effects(&mut self, taken: &Taken) {
        for kind in Kind::ALL.into_iter().filter(|kind| kind.cause().is_some()) {
            let mut times: BTreeMap<Input, usize> = BTreeMap::new();
            for seen in self.seen.iter().filter(|seen| seen.kind == kind) {
                *times.entry(seen.input).or_default() += 1;
            }
            let later = kind == Kind::LaterDone;
            let due = |input: &Input| {
                self.history.get(*input).is_some_and(|sent| sent.key.is_none() == later)
                    && !(kind == Kind::Flaky && input.is_rejected())
            };
            let missing = taken.keys().filter(|input| due(input) && !times.contains_key(input));
            let missing = missing.map(|input| format!("{input:?}")).collect();
            let more = times.iter().filter(|(input, times)| **times > 1 || !taken.contains_key(input) || !due(input));
            let more = more.map(|(input, times)| format!("{input:?}: {times} times")).collect();
            self.claim(&format!("every event that was taken comes out on {}", kind.topic()), missing);
            self.claim(&format!("no effect on {} happens twice or without its cause", kind.topic()), more);
        }
    }

    /// On every keyed topic the events of a key are in the order in which they were sent.
    fn order(&mut self) {
        let mut last: HashMap<(Kind, u8, u8), u32> = HashMap::new();
        let mut against = Vec::new();
        let keyed = self.seen.iter().filter_map(|seen| Some((seen, seen.key?)));
        for (seen, key) in keyed {
            let before = last.insert((seen.kind, seen.input.publisher, key), seen.input.number);
            if before.is_some_and(|before| before >= seen.input.number) {
                against.push(format!("{seen:?} after {before:?}"));
            }
            let sent_with = self.history.get(seen.input).and_then(|sent| sent.key);
            if sent_with != Some(key) {
                against.push(format!("{seen:?} was sent with key {sent_with:?}"));
            }
        }
        self.claim("order holds for each key", against);
    }

    /// What the ledger says in each output is what the outputs before it say.
    fn ledgers(&mut self) {
        let mut ledgers: HashMap<(u8, Option<u8>), (u32, Option<u32>)> = HashMap::new();
        let mut against = Vec::new();
        for seen in self.seen.iter().filter(|seen| seen.kind == Kind::Tallied) {
            let (count, last) = ledgers.entry((seen.input.publisher, seen.key)).or_default();
            *count += 1;
            if seen.ledger != Some((*count, *last)) {
                against.push(format!("{seen:?} where {count} after {last:?} is due"));
            }
            *last = Some(seen.input.number);
        }
        self.claim("key-value and events of one delivery agree", against);
    }

    /// Ids are unique, and what an event names as its cause is the event that caused it.
    fn causes(&mut self) {
        let mut ids = HashSet::new();
        let twice = self.seen.iter().filter(|seen| !ids.insert(seen.id)).map(|seen| format!("{seen:?}")).collect();
        let by_input: HashMap<(Kind, Input), EventId> =
            self.seen.iter().map(|seen| ((seen.kind, seen.input), seen.id)).collect();
        let wrong = self.seen.iter().filter(|seen| {
            let cause = seen.kind.cause().and_then(|kind| by_input.get(&(kind, seen.input)).copied());
            cause != seen.cause
        });
        let wrong = wrong.map(|seen| format!("{seen:?}")).collect();
        self.claim("an id is given once", twice);
        self.claim("an event names its cause", wrong);
    }

    /// Counters are what the outputs say they have to be.
    fn counters(&mut self, taken: &Taken) {
        let keyed = taken.keys().filter(|input| self.history.get(**input).is_some_and(|sent| sent.key.is_some()));
        let keyed: Vec<&Input> = keyed.collect();
        let rejected = keyed.iter().filter(|input| input.is_rejected()).count();
        let due = [
            ("count", "total", keyed.len()),
            ("recount", "total", keyed.len()),
            ("rewrite", "counter", keyed.len()),
            ("flaky", "taken", keyed.len() - rejected),
        ];
        let mut against = Vec::new();
        let counter = |service: &str, name: &str| self.end.counters.get(service).and_then(|all| all.get(name)).copied();
        for (service, name, due) in due {
            let is = counter(service, name).unwrap_or(0);
            if is != due as u64 {
                against.push(format!("{service}: {name} is {is} and should be {due}"));
            }
        }
        let mut by_key: BTreeMap<String, u64> = BTreeMap::new();
        for input in keyed {
            if let Some(key) = self.history.get(*input).and_then(|sent| sent.key) {
                *by_key.entry(format!("key.{}", crate::history::key_text(input.publisher, key))).or_default() += 1;
            }
        }
        for (name, due) in by_key {
            let is = counter("count", &name).unwrap_or(0);
            if is != due {
                against.push(format!("count: {name} is {is} and should be {due}"));
            }
        }
        self.claim("counters are exact", against);
    }

    /// What is always rejected is a dead letter, and nothing else is.
    fn dead(&mut self, taken: &Taken) {
        let keyed = |input: &Input| self.history.get(*input).is_some_and(|sent| sent.key.is_some());
        let mut due: Vec<EventId> =
            taken.iter().filter(|(input, _)| input.is_rejected() && keyed(input)).map(|(_, id)| *id).collect();
        let mut is = self.end.dead.clone();
        due.sort_unstable();
        is.sort_unstable();
        if due != is {
            let against = vec![format!("{} dead letters and {} rejected events", is.len(), due.len())];
            self.claim("what is rejected is a dead letter once, and nothing else is", against);
        }
    }
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
