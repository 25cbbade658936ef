//! Telling clients how much they may still ask: the fields `RateLimit-Policy` and `RateLimit` of
//! draft-ietf-httpapi-ratelimit-headers, and `Retry-After`.

use std::fmt::Write as _;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::Rate;
use super::bucket::Verdict;

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const LIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// Whole seconds, none lost: whoever waits as long finds what was promised.
pub(crate) fn seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

/// What was decided under one policy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Applied {
    pub(crate) policy: &'static str,
    pub(crate) rate: Rate,
    pub(crate) verdict: Verdict,
}

/// Writes what was decided into the headers of an answer.
pub(crate) fn write(applied: &[Applied], headers: &mut HeaderMap) {
    let (mut policies, mut limits) = (String::new(), String::new());
    for (at, Applied { policy, rate, verdict }) in applied.iter().enumerate() {
        let comma = if at == 0 { "" } else { ", " };
        let window = seconds(Duration::from_nanos(rate.fill_ns())).max(1);
        let wait = seconds(verdict.wait).max(1);
        // Writing to a text does not fail.
        let _ = write!(policies, "{comma}\"{policy}\";q={};w={window}", rate.burst());
        let _ = write!(limits, "{comma}\"{policy}\";r={};t={wait}", verdict.remaining);
    }
    if let (Ok(policies), Ok(limits)) = (HeaderValue::from_str(&policies), HeaderValue::from_str(&limits))
        && !applied.is_empty()
    {
        headers.insert(POLICY, policies);
        headers.insert(LIMIT, limits);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_lists_of_structured_items() {
        let rate: Rate = "10/s".parse().expect("a rate");
        let verdict = Verdict { is_allowed: true, remaining: 7, wait: Duration::from_millis(100) };
        let applied = |policy| Applied { policy, rate: rate.with_burst(50), verdict };
        let mut headers = HeaderMap::new();
        write(&[applied("client"), applied("route")], &mut headers);
        assert_eq!(headers["ratelimit-policy"], "\"client\";q=50;w=5, \"route\";q=50;w=5");
        assert_eq!(headers["ratelimit"], "\"client\";r=7;t=1, \"route\";r=7;t=1");
        let mut none = HeaderMap::new();
        write(&[], &mut none);
        assert!(none.is_empty());
    }

    #[test]
    fn waiting_as_long_as_told_is_enough() {
        assert_eq!(seconds(Duration::from_millis(1)), 1);
        assert_eq!(seconds(Duration::from_secs(2)), 2);
        assert_eq!(seconds(Duration::from_millis(2_001)), 3);
    }
}
