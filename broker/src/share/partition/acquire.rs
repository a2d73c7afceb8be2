//! Handing records out. The rules are Kafka's of `share.acquire.mode=batch_optimized`, the only
//! mode of ShareFetch 1: whole batches, so that mostly one run is enough for many records.

use std::sync::Arc;

use super::{Bounds, Lock, Run, SharePartition, State};

/// What a member may get out of what was read for it.
#[derive(Debug, Clone)]
pub(crate) struct Wanted<'a> {
    pub member: &'a Arc<str>,
    /// Where the read began.
    pub fetch_offset: i64,
    /// First and last offset of each batch that was read; the log has nothing between
    /// `fetch_offset` and the first of them.
    pub batches: &'a [(i64, i64)],
    /// Batches that nobody may see: a transaction that was aborted wrote them.
    pub aborted: &'a [(i64, i64)],
    /// A soft limit: the batch that reaches it is handed out whole.
    pub records_max: i64,
    /// What was never out is cut into batches of about so many records.
    pub batch_records: i64,
}

/// A range of offsets that a member now has, each delivered so often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Acquired {
    pub first: i64,
    pub last: i64,
    pub deliveries: i16,
}

impl Acquired {
    pub(crate) fn count(&self) -> i64 {
        self.last - self.first + 1
    }
}

/// Kafka's `MINIMUM_THROTTLE_RECORDS_DELIVERY_LIMIT`: records that came back so often, and half as
/// often as they may at all, are handed out in ever smaller parts, the last time alone. So one
/// record that breaks its readers does not take its whole batch with it.
const THROTTLED_FROM_MIN: i16 = 2;

impl SharePartition {
    pub(crate) fn acquire(
        &mut self,
        wanted: &Wanted<'_>,
        bounds: &Bounds,
        now_ms: i64,
    ) -> Vec<Acquired> {
        let (Some((base, _)), Some((_, read_last))) =
            (wanted.batches.first(), wanted.batches.last())
        else {
            return Vec::new();
        };
        if *read_last < self.start {
            return Vec::new();
        }
        let Some((room, last)) = self.room(wanted, *read_last, bounds) else { return Vec::new() };
        self.archive_missing(wanted.fetch_offset, *base);
        let lock = Lock { member: Arc::clone(wanted.member), until_ms: now_ms + bounds.lock_ms };
        let mut taking = Taking { wanted, bounds, lock, base: *base, last, room, out: Vec::new() };
        self.take(&mut taking);
        let mut out = taking.out;
        for aborted in wanted.aborted {
            out = self.archive_out(out, *aborted);
        }
        self.move_start();
        out
    }

    /// How many records may go out, and up to which offset. When as much is in flight as may be,
    /// what lies among it and is free may still go.
    fn room(&self, wanted: &Wanted<'_>, read_last: i64, bounds: &Bounds) -> Option<(i64, i64)> {
        if wanted.records_max <= 0 {
            return None;
        }
        let room = bounds.in_flight_max - self.in_flight();
        if room > 0 {
            return Some((room.min(wanted.records_max), read_last));
        }
        let among = self.next - wanted.fetch_offset;
        (among > 0).then(|| (among.min(wanted.records_max), read_last.min(self.next - 1)))
    }

    /// What the log no longer has (or never had, as after compaction) is done.
    fn archive_missing(&mut self, from: i64, to: i64) {
        let from = from.max(self.start);
        if from >= to {
            return;
        }
        self.split_at(from);
        self.split_at(to);
        let mut offset = from;
        let mut holes = Vec::new();
        for (first, run) in self.runs.range_mut(from..to) {
            if offset < *first {
                holes.push((offset, *first - 1));
            }
            if run.state == State::Available {
                run.state = State::Archived;
            }
            offset = run.last + 1;
        }
        if offset < to {
            holes.push((offset, to - 1));
        }
        for (first, last) in holes {
            let state = State::Archived;
            self.runs.insert(first, Run { last, deliveries: 0, state, batch: (first, last) });
        }
        self.next = self.next.max(to);
        self.move_start();
    }

    /// Walks from batch to batch, and over what was never out.
    fn take(&mut self, taking: &mut Taking<'_>) {
        let mut offset = taking.base.max(self.start);
        while offset <= taking.last && taking.room > 0 {
            match self.run_at(offset) {
                Some((_, run)) => {
                    let batch = run.batch;
                    if !self.take_of_batch(taking, batch) {
                        return;
                    }
                    offset = batch.1.max(offset) + 1;
                }
                None => {
                    let hole_end = self.runs.range(offset..).next().map(|(first, _)| first - 1);
                    let last = hole_end.map_or(taking.last, |end| end.min(taking.last));
                    offset = self.take_new(taking, offset, last) + 1;
                }
            }
        }
    }

    /// What is free of a batch that was out before. False: nothing more may go out now.
    fn take_of_batch(&mut self, taking: &mut Taking<'_>, batch: (i64, i64)) -> bool {
        let (from, to) = (batch.0.max(taking.base), batch.1.min(taking.last));
        let deliveries_max = taking.bounds.deliveries_max;
        let throttled_from = THROTTLED_FROM_MIN.max(deliveries_max.saturating_add(1) / 2);
        let free = self.runs.range(..=to).filter(|(first, run)| {
            **first >= batch.0 && run.last >= from && run.state == State::Available
        });
        let most = free.map(|(_, run)| run.deliveries).max().unwrap_or(0);
        let throttled = most >= throttled_from;
        if throttled && !taking.out.is_empty() {
            return false;
        }
        self.split_at(from);
        self.split_at(to + 1);
        let before = taking.out.len();
        let mut left: Option<i64> = None;
        let mut offset = from;
        while let Some((first, run)) = self.free_run(offset, to) {
            let (deliveries, last) = (run.deliveries, run.last);
            let alone = deliveries_max > 2 && deliveries == deliveries_max - 1;
            if alone && taking.out.len() > before {
                break;
            }
            if deliveries >= throttled_from && left.is_none() {
                let records = batch.1 - batch.0 + 1;
                left = Some((records >> (deliveries - throttled_from + 1).min(62)).max(1));
            }
            let most = if alone { 1 } else { left.unwrap_or(i64::MAX) };
            let last = last.min(first.saturating_add(most - 1));
            self.hand_out(taking, first, last);
            left = left.map(|left| left - (last - first + 1));
            if alone || left == Some(0) {
                break;
            }
            offset = last + 1;
        }
        !(throttled && taking.out.len() > before)
    }

    fn free_run(&self, from: i64, to: i64) -> Option<(i64, &Run)> {
        // An empty range would panic where the beginning is above the end.
        let mut runs = self.runs.range(from..to.max(from - 1) + 1);
        runs.find(|(_, run)| run.state == State::Available).map(|(first, run)| (*first, run))
    }

    /// `first..=last` is the whole or the beginning of a free run.
    fn hand_out(&mut self, taking: &mut Taking<'_>, first: i64, last: i64) {
        self.split_at(last + 1);
        let Some(run) = self.runs.get_mut(&first) else { return };
        run.deliveries += 1;
        run.state = State::Acquired(taking.lock.clone());
        let acquired = Acquired { first, last, deliveries: run.deliveries };
        let same_batch = run.batch;
        taking.room -= acquired.count();
        // Parts of one batch that were delivered equally often are told as one.
        match taking.out.last_mut() {
            Some(before)
                if before.last + 1 == first
                    && before.deliveries == acquired.deliveries
                    && before.first >= same_batch.0 =>
            {
                before.last = last;
            }
            _ => taking.out.push(acquired),
        }
    }

    /// What was never out (or was, and a restart forgot it): in batches that end where a batch of
    /// the log ends. Returns the last offset that went out.
    fn take_new(&mut self, taking: &mut Taking<'_>, first: i64, last: i64) -> i64 {
        let last = match taking.room < last - first + 1 {
            true => last.min(taking.wanted.batch_end(first + taking.room - 1)),
            false => last,
        };
        let batch_records = taking.wanted.batch_records.max(1);
        let mut begin = first;
        for (base, _) in taking.wanted.batches {
            if *base > last {
                break;
            }
            if *base - begin >= batch_records {
                self.insert_new(taking, begin, *base - 1);
                begin = *base;
            }
        }
        self.insert_new(taking, begin, last);
        self.next = self.next.max(last + 1);
        last
    }

    fn insert_new(&mut self, taking: &mut Taking<'_>, first: i64, last: i64) {
        let state = State::Acquired(taking.lock.clone());
        let run = Run { last, deliveries: 1, state, batch: (first, last) };
        self.runs.insert(first, run);
        let acquired = Acquired { first, last, deliveries: 1 };
        taking.room -= acquired.count();
        taking.out.push(acquired);
    }

    /// Takes back what was just handed out of an aborted batch, and archives it.
    fn archive_out(&mut self, out: Vec<Acquired>, (from, to): (i64, i64)) -> Vec<Acquired> {
        let mut kept = Vec::with_capacity(out.len());
        for acquired in out {
            let (first, last) = (acquired.first.max(from), acquired.last.min(to));
            if first > last {
                kept.push(acquired);
                continue;
            }
            self.split_at(first);
            self.split_at(last + 1);
            for (_, run) in self.runs.range_mut(first..=last) {
                run.state = State::Archived;
            }
            if acquired.first < first {
                kept.push(Acquired { last: first - 1, ..acquired });
            }
            if last < acquired.last {
                kept.push(Acquired { first: last + 1, ..acquired });
            }
        }
        kept
    }
}

/// One acquisition under way.
struct Taking<'a> {
    wanted: &'a Wanted<'a>,
    bounds: &'a Bounds,
    lock: Lock,
    /// First offset that was read.
    base: i64,
    /// Last offset that may go out.
    last: i64,
    /// Records that may still go out.
    room: i64,
    out: Vec<Acquired>,
}

impl Wanted<'_> {
    /// The end of the log's batch that holds an offset.
    fn batch_end(&self, offset: i64) -> i64 {
        let batch = self.batches.iter().rev().find(|(base, _)| *base <= offset);
        batch.filter(|(_, last)| offset <= *last).map_or(offset, |(_, last)| *last)
    }
}
