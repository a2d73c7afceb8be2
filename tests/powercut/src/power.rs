//! Power: on, or off from a chosen request on; and the flush, which takes its time.
//!
//! One flush at a time, as at a disk: syncs that come while one is under way share the next one.
//! A sync that was not answered when the power went covers nothing.

use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use fuser::{Errno, ReplyEmpty, ReplyIoctl};

use crate::disk::Disk;

/// What becomes of requests after the cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Afterwards {
    /// Each fails with EIO.
    Fail,
    /// None is answered, as if the machine had stopped.
    Hang,
}

#[derive(Debug, Clone, Copy)]
enum Power {
    On,
    /// Off after so many more requests that change or sync something.
    OffAfter(u64, Afterwards),
    Off(Afterwards),
}

/// How a sync was asked for: by the kernel's own request, or by an ioctl (`sync.c`).
pub enum SyncReply {
    Sync(ReplyEmpty),
    Ioctl(ReplyIoctl),
}

impl SyncReply {
    fn ok(self) {
        match self {
            Self::Sync(reply) => reply.ok(),
            Self::Ioctl(reply) => reply.ioctl(0, &[]),
        }
    }

    fn error(self, why: Errno) {
        match self {
            Self::Sync(reply) => reply.error(why),
            Self::Ioctl(reply) => reply.error(why),
        }
    }
}

struct Sync {
    inode: u64,
    moments: (u64, u64),
    reply: SyncReply,
}

pub struct Machine {
    state: Mutex<State>,
    gone_off: Condvar,
    syncs: Mutex<Vec<Sync>>,
    sync_waits: Condvar,
    sync_delay: Duration,
}

pub struct State {
    pub disk: Disk,
    power: Power,
}

impl Machine {
    pub fn new(disk: Disk, sync_delay: Duration) -> Self {
        Machine {
            state: Mutex::new(State { disk, power: Power::On }),
            gone_off: Condvar::new(),
            syncs: Mutex::default(),
            sync_waits: Condvar::new(),
            sync_delay,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of the disk panics")
    }

    /// The disk for one request, or what becomes of requests now.
    pub fn enter(&self, changes: bool) -> Result<MutexGuard<'_, State>, Afterwards> {
        let mut state = self.state();
        if changes && let Power::OffAfter(left, afterwards) = state.power {
            state.power = match left {
                0 => Power::Off(afterwards),
                _ => Power::OffAfter(left - 1, afterwards),
            };
            self.gone_off.notify_all();
        }
        match state.power {
            Power::Off(afterwards) => Err(afterwards),
            _ => Ok(state),
        }
    }

    /// Takes the power away after so many more changes, waits for it, and gives the disk as it
    /// was at that moment.
    pub fn switch_off(&self, after: u64, afterwards: Afterwards) -> MutexGuard<'_, State> {
        let mut state = self.state();
        state.power = match after {
            0 => Power::Off(afterwards),
            _ => Power::OffAfter(after, afterwards),
        };
        let on = |state: &mut State| !matches!(state.power, Power::Off(_));
        self.gone_off.wait_while(state, on).expect("no holder of the disk panics")
    }

    pub fn is_off(&self) -> bool {
        matches!(self.state().power, Power::Off(_))
    }

    pub fn end(&self) -> MutexGuard<'_, State> {
        self.state()
    }

    /// Answers once everything is durable that the file or folder holds now.
    pub fn sync(self: &Arc<Self>, mut state: MutexGuard<'_, State>, inode: u64, reply: SyncReply) {
        let moments = state.disk.moments(inode);
        self.sync_until(state, Sync { inode, moments, reply });
    }

    /// A disk that lies: it takes its time, and covers nothing.
    pub fn lie(self: &Arc<Self>, state: MutexGuard<'_, State>, inode: u64, reply: SyncReply) {
        self.sync_until(state, Sync { inode, moments: (0, 0), reply });
    }

    fn sync_until(self: &Arc<Self>, mut state: MutexGuard<'_, State>, sync: Sync) {
        if !state.disk.direct {
            return match self.sync_delay.is_zero() {
                true => finish(&mut state, sync),
                false => self.flush(sync),
            };
        }
        drop(state);
        let inode = sync.inode;
        // The file's bytes travel by themselves; what others wait for is only the flush behind it.
        let machine = self.clone();
        std::thread::spawn(move || {
            machine.write_out(inode);
            machine.flush(sync);
        });
    }

    fn flush(&self, sync: Sync) {
        self.syncs.lock().expect("no holder of the syncs panics").push(sync);
        self.sync_waits.notify_one();
    }

    /// The flush thread.
    pub fn run_flushes(&self) {
        loop {
            let syncs = self.syncs.lock().expect("no holder of the syncs panics");
            let syncs = self.sync_waits.wait_while(syncs, |syncs| syncs.is_empty());
            let batch = std::mem::take(&mut *syncs.expect("no holder of the syncs panics"));
            std::thread::sleep(self.sync_delay);
            for sync in batch {
                match self.enter(false) {
                    Ok(mut state) => finish(&mut state, sync),
                    Err(afterwards) => give_up(sync.reply, afterwards),
                }
            }
        }
    }

    /// The real sync of a file that is written directly.
    fn write_out(&self, inode: u64) {
        let mut state = self.state();
        let file = state.disk.content(inode).and_then(|content| content.file());
        drop(state);
        if let Ok(file) = file
            && let Err(error) = file.sync_data()
        {
            eprintln!("syncing a file of the store: {error}");
        }
    }
}

fn finish(state: &mut State, sync: Sync) {
    match state.disk.make_durable(sync.inode, sync.moments) {
        Ok(()) => sync.reply.ok(),
        Err(error) => sync.reply.error(error.into()),
    }
}

fn give_up(reply: SyncReply, afterwards: Afterwards) {
    match afterwards {
        Afterwards::Fail => reply.error(Errno::EIO),
        // A reply that is dropped would answer.
        Afterwards::Hang => std::mem::forget(reply),
    }
}
