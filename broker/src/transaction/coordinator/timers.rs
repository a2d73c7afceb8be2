//! One task for the timers of all transactional ids: time-outs of transactions, and ids that nobody
//! has used for long.

use std::sync::{Arc, Weak};
use std::time::Duration;

use super::super::machine::Event;
use super::TransactionCoordinator;
use crate::partition::lock;

impl TransactionCoordinator {
    /// Begins the timers. They end with the coordinator.
    pub(crate) fn start(self: &Arc<Self>) {
        let interval_ms = u64::try_from(self.settings.check_interval_ms).unwrap_or(0).max(1);
        let interval = Duration::from_millis(interval_ms);
        tokio::spawn(run(Arc::downgrade(self), self.ended.clone(), interval));
    }

    /// Lets every id act whose time has come.
    pub(super) fn tick(self: &Arc<Self>) {
        let ids: Vec<_> = lock(&self.ids).iter().map(|(id, s)| (id.clone(), s.clone())).collect();
        for (id, slot) in ids {
            let mut guard = lock(&slot);
            if !guard.gone {
                self.step(&id, &slot, &mut guard, Event::Tick);
            }
        }
    }
}

impl Drop for TransactionCoordinator {
    fn drop(&mut self) {
        self.ended.notify_one();
    }
}

async fn run(
    coordinator: Weak<TransactionCoordinator>,
    ended: Arc<tokio::sync::Notify>,
    check_interval: Duration,
) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(check_interval) => {}
            () = ended.notified() => return,
        }
        let Some(coordinator) = coordinator.upgrade() else { return };
        if coordinator.is_closed() {
            return;
        }
        coordinator.tick();
    }
}
