//! Full-jitter exponential back-off: after the nth failure in a row, a random time between zero
//! and `min · 2ⁿ⁻¹`, at most `max`. The whole range is random, so that many clients that lost the
//! same server do not come back at the same moment.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackoffPlan {
    pub min: Duration,
    pub max: Duration,
    pub reset_after: Duration,
}

impl Default for BackoffPlan {
    fn default() -> Self {
        Self {
            min: Duration::from_secs(1),
            max: Duration::from_secs(60),
            reset_after: Duration::from_secs(30),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Backoff {
    plan: BackoffPlan,
    failures: u32,
    random: StdRng,
}

impl Backoff {
    pub fn new(plan: BackoffPlan, seed: u64) -> Self {
        Self { plan, failures: 0, random: StdRng::seed_from_u64(seed) }
    }

    /// The time to wait now, after a run that was healthy for `healthy`.
    pub fn after(&mut self, healthy: Duration) -> Duration {
        if healthy >= self.plan.reset_after {
            self.failures = 0;
        }
        let ceiling = self.ceiling();
        self.failures = self.failures.saturating_add(1);
        ceiling.mul_f64(self.random.random::<f64>())
    }

    fn ceiling(&self) -> Duration {
        let factor = 1u32.checked_shl(self.failures).unwrap_or(u32::MAX);
        self.plan.min.saturating_mul(factor).min(self.plan.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ceiling_doubles_up_to_the_maximum_and_falls_back_after_health() {
        let mut backoff = Backoff::new(BackoffPlan::default(), 1);
        for ceiling_s in [1, 2, 4, 8, 16, 32, 60, 60, 60] {
            assert_eq!(backoff.ceiling(), Duration::from_secs(ceiling_s));
            assert!(backoff.after(Duration::from_secs(29)) <= Duration::from_secs(ceiling_s));
        }
        for _ in 0..100 {
            backoff.after(Duration::ZERO);
        }
        assert_eq!(backoff.ceiling(), Duration::from_secs(60));
        assert!(backoff.after(Duration::from_secs(30)) <= Duration::from_secs(1));
    }

    #[test]
    fn the_whole_range_is_used() {
        let mut waits: Vec<f64> = (0..400)
            .map(|seed| Backoff::new(BackoffPlan::default(), seed).after(Duration::ZERO))
            .map(|wait| wait.as_secs_f64())
            .collect();
        waits.sort_by(f64::total_cmp);
        assert!(waits[0] < 0.05 && waits[399] > 0.95);
        assert!((waits[200] - 0.5).abs() < 0.1);
    }
}
