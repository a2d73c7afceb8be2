//! Whose requests are worked on next.
//!
//! The threads that serve connections also work on requests, and a few clients that ask for
//! everything at once would keep all of them busy. So an address that used much of their time just
//! now takes turns with the others like it, one request at a time, as long as anybody else is there
//! too; a core stays for those. An address that is alone has all the cores, and a small request of
//! a quiet address never waits.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::budget::neighbourhood;
use crate::partition::lock;

/// Work is added up over so long...
const WINDOW: Duration = Duration::from_millis(100);
/// ... and more than this in a window is much.
const WORK_MAX: Duration = Duration::from_millis(5);
/// An address counts as being there for so long after a request: one that is kept waiting is, too.
const THERE: Duration = Duration::from_secs(10);
/// After so much work on one task's requests the thread's other tasks come first.
pub(crate) const UNBROKEN_MAX: Duration = Duration::from_millis(1);

/// What one address asked for lately.
struct Usage {
    window_began: Instant,
    work: Duration,
    /// Much was worked for it in the window before, or is in this.
    is_busy: bool,
}

pub(crate) struct Turns {
    usage: Mutex<HashMap<IpAddr, Usage>>,
    busy: Semaphore,
    /// For long work that leaves its thread to others ...
    aside: Semaphore,
    /// ... and for what finds no place there.
    in_place: Mutex<()>,
}

impl Default for Turns {
    fn default() -> Self {
        let (busy, aside) = (Semaphore::new(spare_cores()), Semaphore::new(spare_cores()));
        Self { usage: Mutex::default(), busy, aside, in_place: Mutex::default() }
    }
}

impl Turns {
    /// Waits for a turn, if this address needs one.
    pub(crate) async fn take(&self, address: IpAddr) -> Option<SemaphorePermit<'_>> {
        if !self.needs_turn(neighbourhood(address), Instant::now()) {
            return None;
        }
        self.busy.acquire().await.ok()
    }

    fn needs_turn(&self, address: IpAddr, now: Instant) -> bool {
        let mut usage = lock(&self.usage);
        let is_busy = usage.get(&address).is_some_and(|usage| usage.is_busy);
        if !is_busy {
            return false;
        }
        usage.retain(|_, usage| now.duration_since(usage.window_began) < THERE);
        usage.len() > 1
    }

    /// So much was worked for a request of this address.
    pub(crate) fn worked(&self, address: IpAddr, work: Duration) {
        self.add(neighbourhood(address), work, Instant::now());
    }

    /// Does work that is known to take milliseconds and memory. Whoever asks for it takes turns
    /// from its beginning on, and what else waits for this thread goes to another one. At most one
    /// such work a spare core goes on at a time, and one more, which its thread waits for.
    pub(crate) fn at_length<T>(&self, address: IpAddr, work: impl FnOnce() -> T) -> T {
        self.worked(address, WORK_MAX + Duration::from_nanos(1));
        let runtime = Handle::try_current().map(|runtime| runtime.runtime_flavor());
        match self.aside.try_acquire() {
            Ok(_place) if matches!(runtime, Ok(RuntimeFlavor::MultiThread)) => {
                tokio::task::block_in_place(work)
            }
            _ => {
                let _only = lock(&self.in_place);
                work()
            }
        }
    }

    fn add(&self, address: IpAddr, work: Duration, now: Instant) {
        let mut usage = lock(&self.usage);
        // Before it takes more memory, those that have gone make room.
        if usage.len() == usage.capacity() && !usage.contains_key(&address) {
            usage.retain(|_, usage| now.duration_since(usage.window_began) < THERE);
        }
        let fresh = || Usage { window_began: now, work: Duration::ZERO, is_busy: false };
        let usage = usage.entry(address).or_insert_with(fresh);
        let age = now.duration_since(usage.window_began);
        if age >= WINDOW {
            usage.is_busy = usage.work > WORK_MAX && age < 2 * WINDOW;
            usage.window_began = now;
            usage.work = Duration::ZERO;
        }
        usage.work += work;
        usage.is_busy |= usage.work > WORK_MAX;
    }
}

/// One core is left to everybody else.
pub fn spare_cores() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    cores.saturating_sub(1).max(1)
}

/// CPU time of this thread: a thread that waits for a core does not work. Elsewhere than on Linux
/// time by the clock.
pub(crate) struct Stopwatch(
    #[cfg(target_os = "linux")] Duration,
    #[cfg(not(target_os = "linux"))] Instant,
);

impl Stopwatch {
    #[cfg(target_os = "linux")]
    pub(crate) fn start() -> Self {
        Self(thread_time())
    }

    #[cfg(target_os = "linux")]
    pub(crate) fn elapsed(&self) -> Duration {
        thread_time().saturating_sub(self.0)
    }

    #[cfg(not(target_os = "linux"))]
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    #[cfg(not(target_os = "linux"))]
    pub(crate) fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

#[cfg(target_os = "linux")]
fn thread_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let whole = Duration::from_secs(u64::try_from(time.tv_sec).unwrap_or(0));
    whole + Duration::from_nanos(u64::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_for_much_takes_turns_only_while_others_are_there() {
        let turns = Turns::default();
        let (busy, quiet) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        turns.add(busy, Duration::from_millis(4), at(0));
        assert!(!turns.needs_turn(busy, at(0)), "that is not much");
        turns.add(busy, Duration::from_millis(4), at(10));
        assert!(!turns.needs_turn(busy, at(10)), "nobody else is there");
        turns.add(quiet, Duration::from_micros(20), at(20));
        assert!(turns.needs_turn(busy, at(20)));
        assert!(!turns.needs_turn(quiet, at(20)));
        // Still busy in the next window, no more in the one after it.
        turns.add(busy, Duration::from_micros(20), at(110));
        assert!(turns.needs_turn(busy, at(110)));
        turns.add(busy, Duration::from_micros(20), at(220));
        assert!(!turns.needs_turn(busy, at(220)));
        // The other has gone.
        turns.add(busy, Duration::from_millis(50), at(11_000));
        assert!(!turns.needs_turn(busy, at(11_000)));
    }
}
