//! How often something may happen: a token bucket, with the time as an argument.

use std::time::Duration;

use tokio::time::Instant;

/// So many a second over time, so many at once.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    tokens: f32,
    per_second: f32,
    burst: f32,
    filled: Instant,
}

impl Bucket {
    /// A full bucket. Less than one a second, or one at once, is one.
    pub fn new(per_second: u32, burst: u32, now: Instant) -> Self {
        let burst = burst.max(1) as f32;
        Self { tokens: burst, per_second: per_second.max(1) as f32, burst, filled: now }
    }

    /// One more has happened. Until when nothing may, where it was the last for now.
    pub fn take(&mut self, now: Instant) -> Option<Instant> {
        let passed = now.saturating_duration_since(self.filled).as_secs_f32();
        self.tokens = (self.tokens + passed * self.per_second).min(self.burst) - 1.0;
        self.filled = now;
        (self.tokens < 1.0)
            .then(|| now + Duration::from_secs_f32((1.0 - self.tokens) / self.per_second))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_goes_through_and_then_the_rate_holds() {
        let start = Instant::now();
        let mut bucket = Bucket::new(10, 3, start);

        assert_eq!(bucket.take(start), None);
        assert_eq!(bucket.take(start), None);
        let resume = bucket.take(start).expect("three at once were all");
        assert!((99..=101).contains(&(resume - start).as_millis()));
        assert!(bucket.take(resume).is_some());

        let later = resume + Duration::from_secs(60);
        assert_eq!(bucket.take(later), None);
        assert_eq!(bucket.take(later), None);
        assert!(bucket.take(later).is_some());
    }
}
