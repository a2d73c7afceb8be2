//! The owner of limits and meters.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

use super::meter::{Bucket, Rate, Windows};
use super::table::{Table, Tags};
use super::{Entity, Kind, Limits};
use crate::client::Principal;
use crate::config::QuotaWindows;
use crate::partition::lock;

/// Meters at a time. Client ids are the clients' own invention.
const METERS_MAX: usize = 10_000;

pub(crate) struct Quotas {
    windows: Windows,
    mutation_windows: Windows,
    table: RwLock<Table>,
    /// For each kind whether there is any limit.
    limited: [AtomicBool; Kind::ALL.len()],
    meters: Mutex<HashMap<(Kind, Tags), Meter>>,
    began: Instant,
}

#[derive(Debug, Default)]
struct Meter {
    rate: Rate,
    bucket: Bucket,
    used_ms: i64,
}

/// Who is charged.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Charge<'a> {
    pub principal: &'a Principal,
    pub client_id: &'a str,
}

/// The time for which a request has really been worked on, its waiting left out.
#[derive(Debug)]
pub(crate) struct Worked {
    before_ns: AtomicU64,
    /// When the work that goes on now began.
    since: Mutex<Instant>,
}

impl Worked {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { before_ns: AtomicU64::new(0), since: Mutex::new(Instant::now()) })
    }

    pub(crate) fn begin(&self) {
        *lock(&self.since) = Instant::now();
    }

    pub(crate) fn pause(&self) {
        let worked = lock(&self.since).elapsed().as_nanos();
        self.before_ns.fetch_add(u64::try_from(worked).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Up to now, while it is being worked on.
    fn so_far(&self) -> Duration {
        Duration::from_nanos(self.before_ns.load(Ordering::Relaxed)) + lock(&self.since).elapsed()
    }
}

impl Quotas {
    pub(crate) fn new(windows: &QuotaWindows, stored: BTreeMap<Entity, Limits>) -> Self {
        let of = |(count, seconds): (i64, i64)| Windows { count, window_ms: seconds * 1_000 };
        let quotas = Self {
            windows: of(windows.clients),
            mutation_windows: of(windows.mutations),
            table: RwLock::new(Table::new(stored)),
            limited: Default::default(),
            meters: Mutex::default(),
            began: Instant::now(),
        };
        quotas.look();
        quotas
    }

    pub(crate) fn is_limited(&self, kind: Kind) -> bool {
        self.limited[kind as usize].load(Ordering::Relaxed)
    }

    /// Counts what was used; how many milliseconds the client is to wait.
    pub(crate) fn charge(&self, kind: Kind, whom: Charge<'_>, used: f64) -> i64 {
        let Some((limit, tags)) = self.limit(kind, whom) else { return 0 };
        let now_ms = self.now_ms();
        self.metered(kind, tags, now_ms, |meter| {
            meter.rate.record(self.windows, used, now_ms);
            meter.rate.throttle_ms(self.windows, limit, now_ms)
        })
    }

    /// Takes back what was counted for a reply that is not sent.
    pub(crate) fn uncharge(&self, kind: Kind, whom: Charge<'_>, used: f64) {
        let Some((_, tags)) = self.limit(kind, whom) else { return };
        let now_ms = self.now_ms();
        self.metered(kind, tags, now_ms, |meter| {
            meter.rate.record(self.windows, -used, now_ms);
        });
    }

    /// Counts the time that a request took of the threads. One window is the longest throttling.
    pub(crate) fn charge_time(&self, whom: Charge<'_>, worked: &Worked) -> i64 {
        let percent = worked.so_far().as_secs_f64() * 100.0;
        self.charge(Kind::Request, whom, percent).min(self.windows.window_ms)
    }

    /// The most that one fetch may return without being throttled for certain.
    pub(crate) fn fetch_bytes_max(&self, whom: Charge<'_>) -> usize {
        let Some((limit, _)) = self.limit(Kind::Fetch, whom) else { return usize::MAX };
        let windows_ms = (self.windows.count - 1) * self.windows.window_ms;
        // Saturates where the product is beyond the type's range.
        (limit * windows_ms as f64 / 1_000.0) as usize
    }

    /// Takes so many changes of partitions. `Err`: the bucket is used up, and so many milliseconds
    /// it will be so. Who still finds something in it may take more than there is.
    pub(crate) fn mutate(&self, whom: Charge<'_>, partitions: usize) -> Result<(), i64> {
        let Some((limit, tags)) = self.limit(Kind::Mutation, whom) else { return Ok(()) };
        let (now_ms, windows) = (self.now_ms(), self.mutation_windows);
        self.metered(Kind::Mutation, tags, now_ms, |meter| {
            let wait_ms = meter.bucket.throttle_ms(windows, limit, now_ms);
            if wait_ms > 0 {
                return Err(wait_ms);
            }
            meter.bucket.take(windows, limit, partitions as f64, now_ms);
            Ok(())
        })
    }

    /// As [`Self::mutate`] for a request that does not know the error: it is let through and waits.
    pub(crate) fn mutate_anyway(&self, whom: Charge<'_>, partitions: usize) -> i64 {
        let Some((limit, tags)) = self.limit(Kind::Mutation, whom) else { return 0 };
        let (now_ms, windows) = (self.now_ms(), self.mutation_windows);
        self.metered(Kind::Mutation, tags, now_ms, |meter| {
            meter.bucket.take(windows, limit, partitions as f64, now_ms);
            meter.bucket.throttle_ms(windows, limit, now_ms)
        })
    }

    /// Counts a new connection; how long it is to be left unanswered, and then closed. One that is
    /// not served does not count.
    pub(crate) fn connect(&self, address: IpAddr) -> Option<Duration> {
        if !self.is_limited(Kind::Connection) {
            return None;
        }
        let address = address.to_canonical().to_string();
        let limit = self.read().limit_of_address(&address)?;
        let now_ms = self.now_ms();
        let tags = Tags { user: String::new(), client_id: address };
        let wait_ms = self.metered(Kind::Connection, tags, now_ms, |meter| {
            meter.rate.record(self.windows, 1.0, now_ms);
            let wait_ms = meter.rate.throttle_ms(self.windows, limit, now_ms);
            if wait_ms > 0 {
                meter.rate.record(self.windows, -1.0, now_ms);
            }
            wait_ms.min(self.windows.window_ms)
        });
        (wait_ms > 0).then(|| Duration::from_millis(wait_ms.unsigned_abs()))
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// For limits whose record is durable already.
    pub(crate) fn set(&self, entity: Entity, limits: Limits) {
        self.table.write().unwrap_or_else(PoisonError::into_inner).set(entity, limits);
        self.look();
    }

    fn look(&self) {
        let table = self.read();
        for kind in Kind::ALL {
            self.limited[kind as usize].store(table.any(kind), Ordering::Relaxed);
        }
    }

    fn limit(&self, kind: Kind, whom: Charge<'_>) -> Option<(f64, Tags)> {
        if !self.is_limited(kind) || whom.principal.is_internal() {
            return None;
        }
        let name = whom.principal.name();
        // Kafka leaves the kind of principal out.
        let user = name.split_once(':').map_or(name, |(_, user)| user);
        self.read().limit(kind, user, whom.client_id)
    }

    fn metered<T>(
        &self,
        kind: Kind,
        tags: Tags,
        now_ms: i64,
        work: impl FnOnce(&mut Meter) -> T,
    ) -> T {
        let mut meters = lock(&self.meters);
        let key = (kind, tags);
        if meters.len() >= METERS_MAX && !meters.contains_key(&key) {
            let windows = [self.windows, self.mutation_windows];
            let oldest_ms = windows.map(|w| w.count * w.window_ms).into_iter().max().unwrap_or(0);
            // Idle for longer than all windows: it measures nothing.
            meters.retain(|_, meter| now_ms - meter.used_ms < oldest_ms);
            if meters.len() >= METERS_MAX {
                meters.clear();
            }
        }
        let meter = meters.entry(key).or_default();
        meter.used_ms = now_ms;
        work(meter)
    }

    fn now_ms(&self) -> i64 {
        i64::try_from(self.began.elapsed().as_millis()).unwrap_or(i64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quota::{IP, USER};

    fn quotas(limits: &[(&str, &str, Kind, f64)]) -> Quotas {
        let windows = QuotaWindows { clients: (11, 1), mutations: (11, 1) };
        let quotas = Quotas::new(&windows, BTreeMap::new());
        for (kind, name, of, limit) in limits {
            let entity = Entity::from([((*kind).to_owned(), Some((*name).to_owned()))]);
            let mut all = quotas.read().limits(&entity);
            all.insert(of.key().to_owned(), *limit);
            quotas.set(entity, all);
        }
        quotas
    }

    #[test]
    fn only_who_has_a_limit_is_throttled_and_only_by_what_is_limited() {
        let quotas = quotas(&[(USER, "ann", Kind::Produce, 1_000.0)]);
        let (ann, bob) = (Principal::user("ann"), Principal::user("bob"));
        let by = |principal| Charge { principal, client_id: "app" };
        assert_eq!(quotas.charge(Kind::Produce, by(&ann), 10_000.0), 0, "ten windows' worth");
        assert!(quotas.charge(Kind::Produce, by(&ann), 10_000.0) > 9_000);
        assert_eq!(quotas.charge(Kind::Produce, by(&bob), 1e9), 0);
        assert_eq!(quotas.charge(Kind::Fetch, by(&ann), 1e9), 0);
        assert_eq!(quotas.fetch_bytes_max(by(&ann)), usize::MAX);
        assert!(!quotas.is_limited(Kind::Fetch) && quotas.is_limited(Kind::Produce));
        assert_eq!(quotas.charge(Kind::Produce, by(&Principal::internal()), 1e9), 0);
    }

    #[test]
    fn changes_of_topics_are_refused_once_the_bucket_is_used_up() {
        let quotas = quotas(&[(USER, "ann", Kind::Mutation, 1.0)]);
        let ann = Principal::user("ann");
        let ann = Charge { principal: &ann, client_id: "app" };
        // 11 windows of one token each; the last taker may go below zero.
        assert_eq!(quotas.mutate(ann, 10), Ok(()));
        assert_eq!(quotas.mutate(ann, 11), Ok(()));
        let wait_ms = quotas.mutate(ann, 1).unwrap_err();
        assert!((9_000..=10_000).contains(&wait_ms), "{wait_ms}");
        assert!(quotas.mutate_anyway(ann, 5) > wait_ms);
    }

    #[test]
    fn connections_beyond_the_rate_of_their_address_wait_one_window_at_most() {
        let quotas = quotas(&[(IP, "192.0.2.1", Kind::Connection, 1.0)]);
        let near: IpAddr = [192, 0, 2, 1].into();
        let mapped: IpAddr = "::ffff:192.0.2.1".parse().unwrap();
        for _ in 0..10 {
            assert_eq!(quotas.connect(near), None);
        }
        let wait = quotas.connect(mapped).expect("it is the same address");
        assert!(wait <= Duration::from_secs(1));
        assert_eq!(quotas.connect([192, 0, 2, 2].into()), None);
    }

    #[test]
    fn client_ids_that_clients_invent_do_not_make_it_grow() {
        let quotas = quotas(&[]);
        let any = Entity::from([("client-id".to_owned(), None)]);
        quotas.set(any, Limits::from([(Kind::Produce.key().to_owned(), 1.0)]));
        let ann = Principal::user("ann");
        for number in 0..METERS_MAX + 10 {
            let client_id = number.to_string();
            quotas.charge(Kind::Produce, Charge { principal: &ann, client_id: &client_id }, 1.0);
        }
        assert!(lock(&quotas.meters).len() <= METERS_MAX);
    }
}
