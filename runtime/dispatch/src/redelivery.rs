//! What a delivery's outcome means. The one place where redelivery is decided.
//!
//! Role: outcome + failed attempts so far + policy -> decision. Chosen times are part of the decision and so of the
//! settlement: nobody computes them a second time.

use std::time::Duration;

use busway_types::{Attempt, DeadReason, Entropy, Outcome, RetryPolicy, Timestamp, mutant};

/// The longest wait a handler may ask for.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_hours(24);

/// Bytes of an attempt's error that are kept.
pub(crate) const ERROR_BYTES: usize = 4 * 1024;

/// What becomes of the event.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Done with.
    Acked,
    /// Kept for another attempt.
    Park { due: Timestamp, attempts: Vec<Attempt> },
    /// Given up.
    Dead { reason: DeadReason, attempts: Vec<Attempt> },
    /// Back to where it was, at no charge.
    Return,
}

/// Decides; `before` are the failed attempts before this one.
pub(crate) fn decide(
    outcome: Outcome,
    before: &[Attempt],
    policy: &RetryPolicy,
    now: Timestamp,
    random: &mut dyn Entropy,
) -> Decision {
    let (error, asked, exhausted) = match outcome {
        Outcome::Acked => return Decision::Acked,
        Outcome::Skipped => return Decision::Return,
        Outcome::Rejected { reason } => {
            return Decision::Dead { reason: DeadReason::Rejected, attempts: and(before, now, reason) };
        }
        Outcome::Retry { reason, after } => (reason, after, DeadReason::Exhausted),
        Outcome::Trapped { reason } => (reason, None, DeadReason::Trapped),
        Outcome::TimedOut { reason } => (reason, None, DeadReason::TimedOut),
    };
    let attempts = and(before, now, error);
    if attempts.len() >= policy.attempts.max(1) as usize {
        return Decision::Dead { reason: exhausted, attempts };
    }
    let wait = match asked {
        Some(asked) => asked.min(LONGEST_WAIT),
        None => backoff(policy, attempts.len(), random),
    };
    Decision::Park { due: now.after(wait), attempts }
}

/// Parked events and dead letters of a subscription beyond which errors are kept in short.
pub(crate) const CROWD: usize = 1_000;

/// What is kept of an error then.
pub(crate) const SHORT_ERROR_BYTES: usize = 256;

/// Keeps the beginnings of errors, so that many failed events do not take the memory of many long texts.
pub(crate) fn shorten(attempts: &mut [Attempt]) {
    for Attempt { error, .. } in attempts.iter_mut().filter(|attempt| attempt.error.len() > SHORT_ERROR_BYTES) {
        error.truncate(error.floor_char_boundary(SHORT_ERROR_BYTES));
        error.shrink_to_fit();
    }
}

/// The wait after `failed` attempts: doubled for each, capped, then shortened by a random share.
fn backoff(policy: &RetryPolicy, failed: usize, random: &mut dyn Entropy) -> Duration {
    let doublings = u32::try_from(failed.saturating_sub(1)).unwrap_or(u32::MAX).min(31);
    let wait = policy.backoff.saturating_mul(1 << doublings).min(policy.backoff_max);
    let jitter = u64::from(policy.jitter_percent.min(100));
    let share = random.next_u64() % (jitter * 1_000 + 1);
    let nanos = wait.as_nanos() * u128::from(100_000 - share) / 100_000;
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

fn and(before: &[Attempt], time: Timestamp, mut error: String) -> Vec<Attempt> {
    if error.len() > ERROR_BYTES {
        error.truncate(error.floor_char_boundary(ERROR_BYTES));
        error.shrink_to_fit();
    }
    let mut attempts = Vec::with_capacity(before.len() + 1);
    attempts.extend_from_slice(before);
    if mutant("attempt-counted-twice") {
        attempts.push(Attempt { time, error: error.clone() });
    }
    attempts.push(Attempt { time, error });
    attempts
}

#[cfg(test)]
mod tests {
    use super::*;
    use busway_types::SplitMix;

    fn policy() -> RetryPolicy {
        RetryPolicy {
            attempts: 3,
            backoff: Duration::from_millis(100),
            backoff_max: Duration::from_secs(1),
            jitter_percent: 0,
        }
    }

    fn failed(n: usize) -> Vec<Attempt> {
        vec![Attempt { time: Timestamp(1), error: "before".into() }; n]
    }

    fn retry(after: Option<Duration>) -> Outcome {
        Outcome::Retry { reason: "busy".into(), after }
    }

    fn due(decision: Decision) -> u64 {
        match decision {
            Decision::Park { due, .. } => due.0,
            other => panic!("not parked: {other:?}"),
        }
    }

    #[test]
    fn the_wait_doubles_up_to_the_cap() {
        let policy = RetryPolicy { attempts: 99, ..policy() };
        let mut random = SplitMix(1);
        let waits: Vec<u64> = [0, 1, 2, 3, 4, 60]
            .map(|n| due(decide(retry(None), &failed(n), &policy, Timestamp(0), &mut random)))
            .to_vec();
        assert_eq!(waits, [100, 200, 400, 800, 1_000, 1_000]);
    }

    #[test]
    fn jitter_only_shortens_and_by_no_more_than_its_share() {
        let policy = RetryPolicy { jitter_percent: 25, ..policy() };
        let mut random = SplitMix(7);
        let waits: Vec<u64> =
            (0..200).map(|_| due(decide(retry(None), &[], &policy, Timestamp(0), &mut random))).collect();
        assert!(waits.iter().all(|wait| (75..=100).contains(wait)), "{waits:?}");
        assert!(waits.iter().min() < waits.iter().max());
    }

    #[test]
    fn a_handlers_wish_replaces_the_backoff_but_is_bounded() {
        let mut random = SplitMix(1);
        let wish = |after| decide(retry(Some(after)), &[], &policy(), Timestamp(5), &mut SplitMix(1));
        assert_eq!(due(wish(Duration::from_secs(7))), 7_005);
        assert_eq!(due(wish(Duration::MAX)), 5 + 86_400_000);
        assert!(matches!(
            decide(Outcome::Rejected { reason: "no".into() }, &[], &policy(), Timestamp(0), &mut random),
            Decision::Dead { reason: DeadReason::Rejected, attempts } if attempts.len() == 1
        ));
    }

    #[test]
    fn the_last_attempt_makes_a_dead_letter_that_says_how_it_ended() {
        let mut random = SplitMix(1);
        for (outcome, expected) in [
            (retry(None), DeadReason::Exhausted),
            (Outcome::Trapped { reason: "unreachable".into() }, DeadReason::Trapped),
            (Outcome::TimedOut { reason: "5 s".into() }, DeadReason::TimedOut),
        ] {
            match decide(outcome, &failed(2), &policy(), Timestamp(9), &mut random) {
                Decision::Dead { reason, attempts } => assert_eq!((reason, attempts.len()), (expected, 3)),
                other => panic!("not dead: {other:?}"),
            }
        }
    }

    #[test]
    fn errors_are_cut_at_4_kib_between_characters() {
        let decision =
            decide(Outcome::Trapped { reason: "ä".repeat(5_000) }, &[], &policy(), Timestamp(0), &mut SplitMix(1));
        let Decision::Park { attempts, .. } = decision else { panic!("not parked") };
        assert_eq!(attempts[0].error.len(), ERROR_BYTES);
        let odd = format!("x{}", "ä".repeat(5_000));
        let decision = decide(Outcome::Trapped { reason: odd }, &[], &policy(), Timestamp(0), &mut SplitMix(1));
        let Decision::Park { attempts, .. } = decision else { panic!("not parked") };
        assert_eq!(attempts[0].error.len(), ERROR_BYTES - 1);
    }
}
