//! One task for the timers of all groups: it sleeps until the earliest is due.

use std::sync::{Arc, Weak};
use std::time::Duration;

use super::GroupCoordinator;

/// The longest sleep: the task looks whether its coordinator is still there.
const SLEEP_MAX: Duration = Duration::from_secs(60);

impl GroupCoordinator {
    /// Begins the timers. They end when the last reference to the coordinator goes.
    pub(crate) fn start(self: &Arc<Self>) {
        let check_interval_ms = self.settings.offsets_retention_check_interval_ms.max(1);
        let next_check_ms = (self.clock)().monotonic_ms + check_interval_ms;
        tokio::spawn(run(Arc::downgrade(self), next_check_ms, check_interval_ms));
    }

    /// Lets every group act whose time has come.
    pub(super) fn tick(self: &Arc<Self>) {
        let now_ms = (self.clock)().monotonic_ms;
        let mut state = self.lock();
        let due = state.due.iter().take_while(|(due_ms, _)| *due_ms <= now_ms);
        let due: Vec<String> = due.map(|(_, group)| group.clone()).collect();
        for group in due {
            self.tick_group(&mut state, &group);
        }
    }

    fn next_due_ms(&self) -> Option<i64> {
        self.lock().due.first().map(|(due_ms, _)| *due_ms)
    }
}

async fn run(coordinator: Weak<GroupCoordinator>, mut next_check_ms: i64, check_interval_ms: i64) {
    let Some(changed) = coordinator.upgrade().map(|it| Arc::clone(&it.timers_changed)) else {
        return;
    };
    loop {
        let sleep = {
            let Some(coordinator) = coordinator.upgrade() else { return };
            if coordinator.lock().closed {
                return;
            }
            coordinator.tick();
            let now_ms = (coordinator.clock)().monotonic_ms;
            if now_ms >= next_check_ms {
                next_check_ms = now_ms + check_interval_ms;
                // Beside the timers, because it waits for the log and heartbeats do not.
                tokio::spawn(async move { coordinator.expire_offsets().await });
                continue;
            }
            let next_ms =
                coordinator.next_due_ms().map_or(next_check_ms, |due_ms| due_ms.min(next_check_ms));
            Duration::from_millis(u64::try_from(next_ms - now_ms).unwrap_or(0))
        };
        tokio::select! {
            () = tokio::time::sleep(sleep.min(SLEEP_MAX)) => {}
            () = changed.notified() => {}
        }
    }
}
