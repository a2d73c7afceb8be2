//! Giving records back: read, to be read again, or never to be read.

use super::{Bounds, ChangeNumber, Settled, SharePartition, State, given_back};

/// What a member says about a range of offsets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Acknowledgement {
    pub first: i64,
    pub last: i64,
    /// One for all, or one for each offset. 0: there is no record at this offset; 1: read; 2: to be
    /// read again; 3: never.
    pub kinds: Vec<i8>,
}

/// Why nothing of a request was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// INVALID_REQUEST: offsets that were never handed out.
    NeverOut,
    /// INVALID_RECORD_STATE: not out, or out to somebody else.
    NotHeld,
}

impl SharePartition {
    /// All of it or nothing. What lies below the start is passed over: it is done, whoever says
    /// what. `Ok(true)` if anything has to be written.
    pub(crate) fn acknowledge(
        &mut self,
        member: &str,
        acknowledgements: &[Acknowledgement],
        change: ChangeNumber,
        bounds: &Bounds,
    ) -> Result<bool, Refusal> {
        let mut changed = false;
        for acknowledgement in acknowledgements {
            match self.acknowledge_one(member, acknowledgement, change, bounds) {
                Ok(one) => changed |= one,
                Err(refusal) => {
                    self.take_back(change);
                    return Err(refusal);
                }
            }
        }
        Ok(changed)
    }

    fn acknowledge_one(
        &mut self,
        member: &str,
        acknowledgement: &Acknowledgement,
        change: ChangeNumber,
        bounds: &Bounds,
    ) -> Result<bool, Refusal> {
        let Acknowledgement { first, last, kinds } = acknowledgement;
        if *last < self.start {
            return Ok(false);
        }
        if self.runs.is_empty() {
            return Err(Refusal::NotHeld);
        }
        if *last >= self.next {
            return Err(Refusal::NeverOut);
        }
        let mut offset = (*first).max(self.start);
        self.check_held(member, offset, *last)?;
        while offset <= *last {
            let kind = kind_at(kinds, *first, offset);
            let same = (offset..=*last).take_while(|o| kind_at(kinds, *first, *o) == kind);
            let end = if kinds.len() == 1 { *last } else { same.last().unwrap_or(offset) };
            self.leave(offset, end, kind, change, bounds);
            offset = end + 1;
        }
        Ok(true)
    }

    fn check_held(&self, member: &str, first: i64, last: i64) -> Result<(), Refusal> {
        let mut offset = first;
        while offset <= last {
            let (_, run) = self.run_at(offset).ok_or(Refusal::NotHeld)?;
            match &run.state {
                State::Acquired(lock) if *lock.member == *member => offset = run.last + 1,
                _ => return Err(Refusal::NotHeld),
            }
        }
        Ok(())
    }

    fn leave(&mut self, first: i64, last: i64, kind: i8, change: ChangeNumber, bounds: &Bounds) {
        self.split_at(first);
        self.split_at(last + 1);
        for (_, run) in self.runs.range_mut(first..=last) {
            let State::Acquired(lock) = &run.state else { continue };
            let to = match kind {
                1 => Settled::Acknowledged,
                2 => given_back(run.deliveries, bounds),
                _ => Settled::Archived,
            };
            run.state = State::Leaving { lock: lock.clone(), to, change };
        }
    }

    /// Undoes what this very change decided so far.
    fn take_back(&mut self, change: ChangeNumber) {
        for run in self.runs.values_mut() {
            if let State::Leaving { lock, change: decided, .. } = &run.state
                && *decided == change
            {
                run.state = State::Acquired(lock.clone());
            }
        }
    }

    /// Everything that this member has is to be read again. True if anything has to be written.
    pub(crate) fn release(&mut self, member: &str, change: ChangeNumber, bounds: &Bounds) -> bool {
        let mut changed = false;
        for run in self.runs.values_mut() {
            if let State::Acquired(lock) = &run.state
                && *lock.member == *member
            {
                let to = given_back(run.deliveries, bounds);
                run.state = State::Leaving { lock: lock.clone(), to, change };
                changed = true;
            }
        }
        changed
    }
}

fn kind_at(kinds: &[i8], first: i64, offset: i64) -> i8 {
    let place = if kinds.len() == 1 { 0 } else { usize::try_from(offset - first).unwrap_or(0) };
    kinds.get(place).copied().unwrap_or(0)
}
