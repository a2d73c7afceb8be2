//! Measuring: a rate over windows, and a bucket of tokens. Pure: time comes from the caller, in
//! milliseconds of any steady clock.

use std::collections::VecDeque;

/// `quota.window.num` and `quota.window.size.seconds`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Windows {
    pub count: i64,
    pub window_ms: i64,
}

#[derive(Debug, Clone, Copy)]
struct Sample {
    began_ms: i64,
    last_ms: i64,
    value: f64,
}

/// Kafka's `Rate`: the sum of the samples over the time they stand for, at least all windows but
/// one, so that a first small sum is not taken for a high rate.
#[derive(Debug, Default)]
pub(crate) struct Rate {
    /// Oldest first.
    samples: VecDeque<Sample>,
}

impl Rate {
    pub(crate) fn record(&mut self, windows: Windows, value: f64, now_ms: i64) {
        self.forget(windows, now_ms);
        match self.samples.back_mut() {
            Some(sample) if now_ms - sample.began_ms < windows.window_ms => {
                sample.value += value;
                sample.last_ms = now_ms;
            }
            _ => self.samples.push_back(Sample { began_ms: now_ms, last_ms: now_ms, value }),
        }
    }

    /// How long until the rate is back at the limit, if nothing more comes; 0 if it is not above.
    pub(crate) fn throttle_ms(&mut self, windows: Windows, limit: f64, now_ms: i64) -> i64 {
        self.forget(windows, now_ms);
        let sum: f64 = self.samples.iter().map(|sample| sample.value).sum();
        let elapsed_ms = self.elapsed_ms(windows, now_ms);
        let rate = sum / (elapsed_ms as f64 / 1_000.0);
        if rate <= limit {
            return 0;
        }
        // Saturates where the quotient is beyond the type's range.
        ((rate - limit) / limit * elapsed_ms as f64).round() as i64
    }

    fn elapsed_ms(&self, windows: Windows, now_ms: i64) -> i64 {
        let since_oldest = self.samples.front().map_or(0, |oldest| now_ms - oldest.began_ms);
        let missing = (windows.count - 1 - since_oldest / windows.window_ms).max(0);
        (since_oldest + missing * windows.window_ms).max(1)
    }

    fn forget(&mut self, windows: Windows, now_ms: i64) {
        let age_max_ms = windows.count * windows.window_ms;
        while self.samples.front().is_some_and(|oldest| now_ms - oldest.last_ms >= age_max_ms) {
            self.samples.pop_front();
        }
    }
}

/// Kafka's `TokenBucket`: refilled at the limit's rate up to what all windows together may hold;
/// it may go below zero, and is used up then.
#[derive(Debug, Default)]
pub(crate) struct Bucket {
    /// `None`: full.
    filled: Option<(f64, i64)>,
}

impl Bucket {
    /// How long until it is no longer below zero.
    pub(crate) fn throttle_ms(&self, windows: Windows, limit: f64, now_ms: i64) -> i64 {
        (-self.tokens(windows, limit, now_ms) / limit * 1_000.0).round().max(0.0) as i64
    }

    pub(crate) fn take(&mut self, windows: Windows, limit: f64, tokens: f64, now_ms: i64) {
        self.filled = Some((self.tokens(windows, limit, now_ms) - tokens, now_ms));
    }

    fn tokens(&self, windows: Windows, limit: f64, now_ms: i64) -> f64 {
        let per_ms = limit / 1_000.0;
        let most = per_ms * (windows.count * windows.window_ms) as f64;
        match self.filled {
            None => most,
            Some((tokens, at_ms)) => most.min(tokens + per_ms * (now_ms - at_ms) as f64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KAFKAS: Windows = Windows { count: 11, window_ms: 1_000 };

    /// 2,000 units at once against 100 a second: Kafka counts ten whole windows at least, so the
    /// rate is 200, and (200 - 100) / 100 of ten seconds are to be waited.
    #[test]
    fn a_burst_is_measured_over_ten_windows_and_throttled_until_the_rate_is_back() {
        let mut rate = Rate::default();
        rate.record(KAFKAS, 1_000.0, 0);
        assert_eq!(rate.throttle_ms(KAFKAS, 100.0, 0), 0, "exactly the limit");
        rate.record(KAFKAS, 1_000.0, 500);
        // 500 ms have passed: 2,000 over 10.5 s is 190.47…; 0.9047… of 10,500 ms.
        assert_eq!(rate.throttle_ms(KAFKAS, 100.0, 500), 9_500);
        assert_eq!(rate.throttle_ms(KAFKAS, 100.0, 10_000), 10_000);
    }

    #[test]
    fn what_is_older_than_all_windows_is_forgotten() {
        let mut rate = Rate::default();
        rate.record(KAFKAS, 1e9, 0);
        assert!(rate.throttle_ms(KAFKAS, 100.0, 10_999) > 0);
        assert_eq!(rate.throttle_ms(KAFKAS, 100.0, 11_000), 0);
        for second in 0..100 {
            rate.record(KAFKAS, 50.0, 20_000 + 1_000 * second);
        }
        assert!(rate.samples.len() <= 12, "{}", rate.samples.len());
        // At the end of the last window: 11 samples of 50 in 11 s.
        assert_eq!(rate.throttle_ms(KAFKAS, 51.0, 119_999), 0);
        assert!(rate.throttle_ms(KAFKAS, 49.0, 119_999) > 0);
    }

    /// The example of Kafka's `TokenBucket`: quota 5, 100 samples of 1 s, so 500 tokens at most. A
    /// burst of 560 leaves -60, for which one waits 12 s.
    #[test]
    fn a_bucket_lends_once_and_is_refilled_at_the_limits_rate() {
        let windows = Windows { count: 100, window_ms: 1_000 };
        let mut bucket = Bucket::default();
        assert_eq!(bucket.throttle_ms(windows, 5.0, 0), 0);
        bucket.take(windows, 5.0, 560.0, 0);
        assert_eq!(bucket.throttle_ms(windows, 5.0, 0), 12_000);
        assert_eq!(bucket.throttle_ms(windows, 5.0, 11_000), 1_000);
        assert_eq!(bucket.throttle_ms(windows, 5.0, 12_000), 0);
        bucket.take(windows, 5.0, 500.0, 1_000_000);
        assert_eq!(bucket.throttle_ms(windows, 5.0, 1_000_000), 0, "never more than 500");
        bucket.take(windows, 5.0, 5.0, 1_000_000);
        assert_eq!(bucket.throttle_ms(windows, 5.0, 1_000_000), 1_000);
    }
}
