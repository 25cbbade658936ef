//! How often somebody may ask.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::Networks;

/// So many requests in such a time, and how many of them at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    count: u32,
    every: Duration,
    burst: u32,
}

/// A text that is no rate. Trying again does not help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a rate; write how many (1 to 1000000) and in what time, such as 100/s, 60/m or 1000/h")]
pub struct InvalidRate(String);

impl Rate {
    /// The largest number of requests, at once and in any time.
    pub const MOST: u32 = 1_000_000;

    /// The same rate with another number of requests at once; at least 1.
    #[must_use]
    pub fn with_burst(self, burst: u32) -> Self {
        Self { burst: burst.clamp(1, Self::MOST), ..self }
    }

    /// How many requests in its time.
    pub fn count(self) -> u32 {
        self.count
    }

    /// How many requests may come at once.
    pub fn burst(self) -> u32 {
        self.burst
    }

    /// The time in which one more becomes possible.
    pub(crate) fn interval_ns(self) -> u64 {
        (self.every.as_nanos() as u64 / u64::from(self.count)).max(1)
    }

    /// The time in which an empty bucket becomes full.
    pub(crate) fn fill_ns(self) -> u64 {
        self.interval_ns().saturating_mul(u64::from(self.burst))
    }
}

impl FromStr for Rate {
    type Err = InvalidRate;

    fn from_str(text: &str) -> Result<Self, InvalidRate> {
        let refused = || InvalidRate(text.chars().take(40).collect());
        let (count, unit) = text.split_once('/').ok_or_else(refused)?;
        let every = match unit {
            "s" => Duration::from_secs(1),
            "m" => Duration::from_mins(1),
            "h" => Duration::from_hours(1),
            _ => return Err(refused()),
        };
        let is_plain = !count.is_empty() && count.bytes().all(|b| b.is_ascii_digit());
        let count = count.parse().ok().filter(|n| is_plain && (1..=Self::MOST).contains(n)).ok_or_else(refused)?;
        // A second's worth may come at once, and one request always.
        let burst = (count / every.as_secs().max(1) as u32).max(1);
        Ok(Self { count, every, burst })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.every.as_secs() {
            1 => "s",
            60 => "m",
            _ => "h",
        };
        write!(f, "{}/{unit}", self.count)
    }
}

/// `[gateway.rate]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateConfig {
    /// What each client may ask of everything together.
    pub requests: Rate,
    /// How often credentials from one address may be wrong.
    pub failed: Rate,
    /// Clients with a bucket of their own, for each rate; 24 bytes or so each.
    pub clients: usize,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Networks,
}

impl RateConfig {
    /// Clients with a bucket of their own when nothing else is said.
    pub const CLIENTS: usize = 100_000;
}

impl Default for RateConfig {
    /// 1,000 requests a second for each client with 2,000 at once; 10 wrong credentials a minute and address.
    fn default() -> Self {
        Self {
            requests: Rate { count: 1_000, every: Duration::from_secs(1), burst: 2_000 },
            failed: Rate { count: 10, every: Duration::from_mins(1), burst: 10 },
            clients: Self::CLIENTS,
            trusted_proxies: Networks::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_survive_their_text_and_others_are_refused() {
        for text in ["100/s", "60/m", "1/h", "1000000/s"] {
            let rate: Rate = text.parse().expect(text);
            assert_eq!(rate.to_string(), text);
        }
        for bad in ["", "100", "/s", "0/s", "-1/s", "+1/s", "1/d", "1/S", "1000001/s", "1.5/s", "1 /s", "1/s "] {
            assert!(bad.parse::<Rate>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_burst_is_a_seconds_worth_and_at_least_one() {
        assert_eq!("100/s".parse::<Rate>().expect("a rate").burst(), 100);
        assert_eq!("120/m".parse::<Rate>().expect("a rate").burst(), 2);
        assert_eq!("1/h".parse::<Rate>().expect("a rate").burst(), 1);
        assert_eq!("1/h".parse::<Rate>().expect("a rate").with_burst(0).burst(), 1);
    }

    #[test]
    fn an_interval_is_the_time_of_one_request() {
        let rate: Rate = "10/s".parse().expect("a rate");
        assert_eq!((rate.interval_ns(), rate.with_burst(5).fill_ns()), (100_000_000, 500_000_000));
        assert_eq!("60/m".parse::<Rate>().expect("a rate").interval_ns(), 1_000_000_000);
    }
}
