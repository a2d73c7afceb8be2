//! Failed logins slow down the address they come from.
//!
//! 1. A failed login is answered late: by `connection.failed.authentication.delay.ms` (Kafka's own
//!    key), and by a delay that doubles with each further failure from its address.
//! 2. Logins of one address take turns, [`limits::LOGIN_TURNS`] at a time. A failed one keeps its
//!    turn until its answer is due, whether the client still waits for it or not; else whoever
//!    guesses would hang up when no success comes at once. So many connections, or many short
//!    ones, guess no faster than few: 8 turns of 5 seconds are at most two guesses a second.
//! 3. A right password is never answered late. It waits at most for a turn, and those who logged in
//!    by PLAIN before do not even need one ([`super::Users::remembers`]): a program in a loop with
//!    an old password does not lock out others behind its address.
//! 4. It is forgotten with time, not by a success, or who has an account could guess others' at
//!    full speed. This machine is slowed like any other: containers and other users' programs
//!    arrive from it too, and 3 protects who knows the password.
//! 5. The table is bounded. Addresses of IPv6 count by their first 64 bits, which is what one
//!    household or one rented machine has.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::budget::neighbourhood;
use crate::limits;
use crate::partition::lock;

/// The failures and turns of all addresses.
#[derive(Debug, Default)]
pub(crate) struct Brake {
    origins: Mutex<HashMap<IpAddr, Record>>,
}

#[derive(Debug)]
struct Record {
    failures: u32,
    last: Instant,
    turns: Arc<Semaphore>,
}

impl Record {
    fn new(now: Instant) -> Self {
        Self { failures: 0, last: now, turns: Arc::new(Semaphore::new(limits::LOGIN_TURNS)) }
    }

    /// Half of the failures are forgotten each time that this passes without another one.
    fn failures_now(&self, now: Instant) -> u32 {
        let since = now.saturating_duration_since(self.last).as_secs();
        let halvings = since / limits::LOGIN_FAILURES_HALVE_AFTER.as_secs();
        u32::try_from(halvings).ok().and_then(|by| self.failures.checked_shr(by)).unwrap_or(0)
    }

    /// Somebody has one of its turns, or waits for one.
    fn is_busy(&self) -> bool {
        Arc::strong_count(&self.turns) > 1
    }
}

/// One login that is being checked, with its turn.
#[derive(Debug)]
pub(crate) struct Attempt {
    brake: Arc<Brake>,
    origin: IpAddr,
    began: tokio::time::Instant,
    _turn: OwnedSemaphorePermit,
}

impl Brake {
    /// Waits for a turn of this address; `None` if it does not come in the time of a login.
    pub(crate) async fn attempt(self: &Arc<Self>, address: IpAddr) -> Option<Attempt> {
        self.attempt_within(limits::LOGIN_TIME_MAX, address).await
    }

    async fn attempt_within(self: &Arc<Self>, time: Duration, address: IpAddr) -> Option<Attempt> {
        let origin = neighbourhood(address);
        let turn = self.turns(origin, Instant::now()).acquire_owned();
        let turn = tokio::time::timeout(time, turn).await.ok()?.ok()?;
        let began = tokio::time::Instant::now();
        Some(Attempt { brake: self.clone(), origin, began, _turn: turn })
    }

    fn turns(&self, origin: IpAddr, now: Instant) -> Arc<Semaphore> {
        let mut origins = lock(&self.origins);
        make_room(&mut origins, origin, now);
        origins.entry(origin).or_insert_with(|| Record::new(now)).turns.clone()
    }

    /// Counts a failure; the delay that it costs on top of the configured one.
    fn failed(&self, origin: IpAddr, now: Instant) -> Duration {
        let mut origins = lock(&self.origins);
        make_room(&mut origins, origin, now);
        let record = origins.entry(origin).or_insert_with(|| Record::new(now));
        record.failures = (record.failures_now(now) + 1).min(limits::LOGIN_FAILURES_COUNTED_MAX);
        record.last = now;
        delay(record.failures)
    }
}

impl Attempt {
    /// Counts the failure; says how late its answer is to be beyond the configured delay.
    pub(crate) fn failed(&self) -> Duration {
        self.brake.failed(self.origin, Instant::now())
    }

    /// Ends the attempt so long after it began. What checking took is within it, so that the time
    /// of the answer does not tell how much work there was.
    pub(crate) async fn answer_after(self, delay: Duration) {
        // Beyond what a clock can hold nobody waits anyway.
        if let Some(due) = self.began.checked_add(delay) {
            tokio::time::sleep_until(due).await;
        }
    }
}

/// What so many failures cost.
fn delay(failures: u32) -> Duration {
    match failures.checked_sub(limits::LOGIN_FAILURES_FREE) {
        None | Some(0) => Duration::ZERO,
        Some(above) => {
            let doubled = limits::LOGIN_DELAY_STEP.saturating_mul(1 << (above - 1).min(16));
            doubled.min(limits::LOGIN_DELAY_MAX)
        }
    }
}

/// Makes room for one more: first goes whatever is forgotten, then who failed longest ago.
fn make_room(origins: &mut HashMap<IpAddr, Record>, wanted: IpAddr, now: Instant) {
    if origins.len() < limits::LOGIN_ORIGINS_MAX || origins.contains_key(&wanted) {
        return;
    }
    origins.retain(|_, record| record.is_busy() || record.failures_now(now) > 0);
    if origins.len() < limits::LOGIN_ORIGINS_MAX {
        return;
    }
    let oldest = origins.iter().min_by_key(|(_, record)| (record.is_busy(), record.last));
    if let Some(oldest) = oldest.map(|(origin, _)| *origin) {
        origins.remove(&oldest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    fn delays_ms(brake: &Brake, origin: IpAddr, now: Instant, count: usize) -> Vec<u128> {
        (0..count).map(|_| brake.failed(origin, now).as_millis()).collect()
    }

    /// Three are free (a person who mistypes), then the step doubles up to the bound.
    #[test]
    fn the_delay_doubles_with_each_failure_of_the_address_up_to_a_bound() {
        let brake = Brake::default();
        let now = Instant::now();
        let expected = [0, 0, 0, 100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000];
        assert_eq!(delays_ms(&brake, v4(1), now, expected.len()), expected);
        assert_eq!(delays_ms(&brake, v4(2), now, 1), [0], "another address");
    }

    #[test]
    fn failures_are_forgotten_by_half_each_minute() {
        let brake = Brake::default();
        let now = Instant::now();
        delays_ms(&brake, v4(1), now, 30);
        let minutes = |count: u64| now + Duration::from_secs(60 * count);
        // Of 10 counted ones 5 are left, and the new one is the sixth: 100 * 2^(6 - 3 - 1).
        assert_eq!(brake.failed(v4(1), minutes(1)).as_millis(), 400);
        // 6, 3, 1, 0: the new one is the first.
        assert_eq!(brake.failed(v4(1), minutes(4)).as_millis(), 0);
        assert_eq!(brake.failed(v4(1), now + Duration::from_secs(1 << 40)).as_millis(), 0);
    }

    #[test]
    fn many_addresses_do_not_make_the_table_grow_and_the_latest_are_kept() {
        let brake = Brake::default();
        let now = Instant::now();
        for number in 0..10_000_u32 {
            let at = now + Duration::from_millis(number.into());
            brake.failed(IpAddr::from(number.to_be_bytes()), at);
        }
        let origins = lock(&brake.origins);
        assert_eq!(origins.len(), limits::LOGIN_ORIGINS_MAX);
        assert!(origins.contains_key(&IpAddr::from(9_999_u32.to_be_bytes())));
    }

    const HOUR: Duration = Duration::from_secs(3_600);

    #[tokio::test]
    async fn a_failed_login_keeps_its_turn_until_its_answer_is_due() {
        let brake = Arc::new(Brake::default());
        let mut answers = Vec::new();
        for _ in 0..limits::LOGIN_TURNS {
            let attempt = brake.attempt(v4(1)).await.expect("a turn is free");
            let mut answer = Box::pin(attempt.answer_after(HOUR));
            assert!(futures::poll!(&mut answer).is_pending());
            answers.push(answer);
        }
        let mut next = Box::pin(brake.attempt(v4(1)));
        assert!(futures::poll!(&mut next).is_pending());
        assert!(brake.attempt(v4(2)).await.is_some(), "another address does not wait");
        answers.pop();
        assert!(next.await.is_some());
    }

    #[tokio::test]
    async fn who_gets_no_turn_in_time_is_sent_away() {
        let brake = Arc::new(Brake::default());
        let mut held = Vec::new();
        for _ in 0..limits::LOGIN_TURNS {
            held.push(brake.attempt(v4(1)).await.expect("a turn is free"));
        }
        assert!(brake.attempt_within(Duration::from_millis(1), v4(1)).await.is_none());
        drop(held);
        assert!(brake.attempt(v4(1)).await.is_some());
    }
}
