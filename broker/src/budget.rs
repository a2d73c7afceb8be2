//! Memory that many clients share: who holds how much of it.
//!
//! Invariants:
//! 1. What is held by asking ([`Held::grow`]) never exceeds the whole. What exists already is
//!    counted ([`Held::count`]) and may exceed it; then nobody gets more until it is less again.
//! 2. An address gets at most three quarters of what the other addresses leave. So one address,
//!    however many connections it has, leaves a quarter, and two leave a sixteenth.
//! 3. Who waits presses those that hold at least as much as it does: bytes that do not move are
//!    given up then ([`Progress`]).

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::partition::lock;

/// While somebody waits, the others are pressed so often.
const PRESS_EVERY: Duration = Duration::from_millis(250);
/// Who is pressed must have moved so many bytes in so long a time.
const PROGRESS_TIME: Duration = Duration::from_secs(2);
const PROGRESS_BYTES: usize = 64 * 1024;

/// A bounded number of bytes.
#[derive(Debug)]
pub struct Budget {
    bytes_max: usize,
    ledger: Mutex<Ledger>,
    freed: Notify,
    pressed: Notify,
}

#[derive(Debug, Default)]
struct Ledger {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
    /// How many wait, by address.
    waiting: HashMap<IpAddr, usize>,
}

impl Ledger {
    fn of(&self, address: IpAddr) -> usize {
        self.by_address.get(&address).copied().unwrap_or(0)
    }

    /// Invariants 1 and 2.
    fn room(&self, bytes_max: usize, address: IpAddr) -> usize {
        let mine = self.of(address);
        let left = bytes_max.saturating_sub(self.all - mine);
        (left - left / 4).saturating_sub(mine).min(bytes_max.saturating_sub(self.all))
    }

    fn add(&mut self, address: IpAddr, bytes: usize) {
        self.all += bytes;
        // Nothing held is no entry: it would never be taken out.
        if bytes > 0 {
            *self.by_address.entry(address).or_insert(0) += bytes;
        }
    }

    fn give_back(&mut self, address: IpAddr, bytes: usize) {
        self.all -= bytes;
        if let Some(held) = self.by_address.get_mut(&address) {
            *held -= bytes;
            if *held == 0 {
                self.by_address.remove(&address);
            }
        }
    }
}

impl Budget {
    pub fn new(bytes_max: usize) -> Arc<Self> {
        let (ledger, freed, pressed) = (Mutex::default(), Notify::new(), Notify::new());
        Arc::new(Self { bytes_max, ledger, freed, pressed })
    }

    pub fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// Bytes held by all together.
    pub fn bytes(&self) -> usize {
        lock(&self.ledger).all
    }

    /// Nothing yet, for a client at this address.
    pub fn hold(self: &Arc<Self>, address: IpAddr) -> Held {
        Held { budget: self.clone(), address: neighbourhood(address), bytes: 0 }
    }

    /// Waits until a client at this address could get so many bytes. Who comes first then is open.
    pub async fn room_for(&self, address: IpAddr, bytes: usize) {
        let address = neighbourhood(address);
        let is_there = || lock(&self.ledger).room(self.bytes_max, address) >= bytes;
        if is_there() {
            return;
        }
        let _waiting = Waiting::new(self, address);
        loop {
            let mut freed = std::pin::pin!(self.freed.notified());
            freed.as_mut().enable();
            if is_there() {
                return;
            }
            if tokio::time::timeout(PRESS_EVERY, freed).await.is_err() {
                self.pressed.notify_waiters();
            }
        }
    }

    /// Ends when somebody waits for what this address may hold.
    pub async fn pressed(&self, address: IpAddr) {
        let address = neighbourhood(address);
        loop {
            self.pressed.notified().await;
            let ledger = lock(&self.ledger);
            let mine = ledger.of(address);
            if ledger.waiting.keys().any(|waiting| ledger.of(*waiting) <= mine) {
                return;
            }
        }
    }
}

/// Counts among those who wait, until dropped.
struct Waiting<'a> {
    budget: &'a Budget,
    address: IpAddr,
}

impl<'a> Waiting<'a> {
    fn new(budget: &'a Budget, address: IpAddr) -> Self {
        *lock(&budget.ledger).waiting.entry(address).or_insert(0) += 1;
        Self { budget, address }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut ledger = lock(&self.budget.ledger);
        if let Some(count) = ledger.waiting.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                ledger.waiting.remove(&self.address);
            }
        }
    }
}

/// Bytes of a budget; given back when dropped.
#[derive(Debug)]
pub struct Held {
    budget: Arc<Budget>,
    address: IpAddr,
    bytes: usize,
}

impl Held {
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// So many more, or none.
    pub fn grow(&mut self, bytes: usize) -> bool {
        let mut ledger = lock(&self.budget.ledger);
        let fits = ledger.room(self.budget.bytes_max, self.address) >= bytes;
        if fits {
            ledger.add(self.address, bytes);
            self.bytes += bytes;
        }
        fits
    }

    /// So many more, or as many as there are; returns how many.
    pub fn grow_up_to(&mut self, bytes: usize) -> usize {
        let mut ledger = lock(&self.budget.ledger);
        let bytes = bytes.min(ledger.room(self.budget.bytes_max, self.address));
        ledger.add(self.address, bytes);
        self.bytes += bytes;
        bytes
    }

    /// What one request may take when it could take as much as it likes: a quarter of the room, so
    /// that a slow client does not keep the others at its address waiting.
    pub fn part(&self) -> usize {
        lock(&self.budget.ledger).room(self.budget.bytes_max, self.address) / 4
    }

    /// As [`Self::grow_up_to`], at most [`Self::part`].
    pub fn grow_up_to_a_part(&mut self, bytes: usize) -> usize {
        let part = self.part();
        self.grow_up_to(bytes.min(part))
    }

    /// Holds exactly so many, which exist already.
    pub fn count(&mut self, bytes: usize) {
        if bytes == self.bytes {
            return;
        }
        let less = bytes < self.bytes;
        {
            let mut ledger = lock(&self.budget.ledger);
            ledger.give_back(self.address, self.bytes);
            ledger.add(self.address, bytes);
        }
        self.bytes = bytes;
        if less {
            self.budget.freed.notify_waiters();
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.bytes > 0 {
            lock(&self.budget.ledger).give_back(self.address, self.bytes);
            self.budget.freed.notify_waiters();
        }
    }
}

/// Whether bytes move, looked at when somebody presses.
#[derive(Debug)]
pub struct Progress {
    since: Instant,
    bytes: usize,
}

impl Default for Progress {
    fn default() -> Self {
        Self { since: Instant::now(), bytes: 0 }
    }
}

impl Progress {
    pub fn moved(&mut self, bytes: usize) {
        self.bytes += bytes;
    }

    /// Too few have moved since the last look that was long enough ago.
    pub fn is_stuck(&mut self) -> bool {
        if self.since.elapsed() < PROGRESS_TIME {
            return false;
        }
        let Self { bytes, .. } = std::mem::take(self);
        bytes < PROGRESS_BYTES
    }
}

/// Whoever has an IPv6 address has at least 2^64 of them, so those count as one.
pub fn neighbourhood(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)))
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// 3/4 of 64 is 48; of the 16 left, 12; of the 4 left, 3.
    #[test]
    fn each_address_leaves_a_quarter_to_the_next() {
        let budget = Budget::new(64);
        let mut all: Vec<Held> = Vec::new();
        for (address, bytes) in [("10.0.0.1", 48), ("10.0.0.2", 12), ("10.0.0.3", 3)] {
            let mut held = budget.hold(at(address));
            assert_eq!(held.grow_up_to(1000), bytes, "{address}");
            let mut more = budget.hold(at(address));
            assert!(!more.grow(1) && more.bytes() == 0, "{address}");
            all.push(held);
        }
        assert_eq!(budget.bytes(), 63);
        all.remove(0);
        assert_eq!(budget.hold(at("10.0.0.4")).grow_up_to(1000), 37, "3/4 of 64 - 15, rounded up");
        all.clear();
        assert_eq!(budget.bytes(), 0);
        assert!(lock(&budget.ledger).by_address.is_empty());
    }

    #[test]
    fn what_exists_already_is_counted_beyond_the_whole_and_then_nobody_gets_more() {
        let budget = Budget::new(64);
        let mut held = budget.hold(at("10.0.0.1"));
        held.count(100);
        assert!(!budget.hold(at("10.0.0.2")).grow(1));
        held.count(10);
        assert!(budget.hold(at("10.0.0.2")).grow(30));
    }

    #[test]
    fn an_ipv6_network_counts_as_one_address_and_a_mapped_one_as_ipv4() {
        assert_eq!(neighbourhood(at("2001:db8:1:2:3::4")), neighbourhood(at("2001:db8:1:2::5")));
        assert_ne!(neighbourhood(at("2001:db8:1:2::")), neighbourhood(at("2001:db8:1:3::")));
        assert_eq!(neighbourhood(at("::ffff:10.0.0.1")), at("10.0.0.1"));
    }

    #[tokio::test]
    async fn who_waits_presses_those_that_hold_at_least_as_much() {
        let budget = Budget::new(64);
        let (mut large, mut small) = (budget.hold(at("10.0.0.1")), budget.hold(at("10.0.0.2")));
        assert!(large.grow(48) && small.grow(1));
        // The large one wants more: that is nobody's fault but its own.
        let wait = budget.room_for(at("10.0.0.1"), 10);
        let own = budget.pressed(at("10.0.0.1"));
        let other = budget.pressed(at("10.0.0.2"));
        tokio::select! {
            () = wait => panic!("there is no room"),
            () = other => panic!("the small one was pressed"),
            () = own => {}
        }
        let wait = budget.room_for(at("10.0.0.3"), 40);
        let freed = async {
            tokio::join!(budget.pressed(at("10.0.0.1")), budget.pressed(at("10.0.0.2")));
            drop(large);
        };
        tokio::join!(wait, freed);
    }
}
