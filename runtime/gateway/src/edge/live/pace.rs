//! How fast a client may send: so many messages a second, twice as many at once.

use tokio::time::Instant;

/// A bucket that fills with time.
#[derive(Debug)]
pub(crate) struct Pace {
    per_second: f64,
    left: f64,
    at: Instant,
}

impl Pace {
    /// A full one.
    pub(crate) fn new(per_second: u32, now: Instant) -> Self {
        let per_second = f64::from(per_second.max(1));
        Self { per_second, left: per_second * 2.0, at: now }
    }

    /// Takes one message; false when there is none left.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let came = now.saturating_duration_since(self.at).as_secs_f64() * self.per_second;
        self.at = now;
        self.left = (self.left + came).min(self.per_second * 2.0);
        if self.left < 1.0 {
            return false;
        }
        self.left -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_bucket_holds_two_seconds_and_fills_with_time() {
        let start = Instant::now();
        let mut pace = Pace::new(5, start);
        assert_eq!((0..20).filter(|_| pace.take(start)).count(), 10);
        let later = start + Duration::from_secs(1);
        assert_eq!((0..20).filter(|_| pace.take(later)).count(), 5);
    }
}
