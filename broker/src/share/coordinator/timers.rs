//! One task for the timers of all groups: it sleeps until the earliest is due.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tracing::info;

use super::{ShareCoordinator, State, bounds};

/// The longest sleep: the task looks whether its coordinator is still there.
const SLEEP_MAX: Duration = Duration::from_secs(60);

impl ShareCoordinator {
    /// Begins the timers. They end when the last reference to the coordinator goes.
    pub(crate) fn start(self: &Arc<Self>) {
        tokio::spawn(run(Arc::downgrade(self)));
    }

    /// Ends the sessions and locks whose time has come.
    pub(super) fn tick(self: &Arc<Self>) {
        let now_ms = (self.clock)().monotonic_ms;
        let mut state = self.lock();
        let due = state.due.iter().take_while(|(due_ms, _)| *due_ms <= now_ms);
        let due: Vec<String> = due.map(|(_, group)| group.clone()).collect();
        for group in &due {
            self.tick_group(&mut state, group, now_ms);
            self.reschedule(&mut state, group);
        }
        self.begin_writing(&mut state);
    }

    fn tick_group(&self, state: &mut State, group: &str, now_ms: i64) {
        let bounds = bounds(&self.settings(group));
        let State { groups, dirty, .. } = state;
        let Some(slot) = groups.get_mut(group) else { return };
        let gone = slot.group.expire(now_ms);
        if !gone.is_empty() {
            info!(group, members = gone.len(), "members were silent for too long, and are gone");
            dirty.insert(super::Item { group: group.to_owned(), partition: None });
        }
        for (id, place) in &mut slot.places {
            let Some(machine) = &mut place.machine else { continue };
            if machine.expire(&bounds, now_ms) {
                dirty.insert(super::Item { group: group.to_owned(), partition: Some(*id) });
                place.wake();
            }
        }
    }

    fn next_due_ms(&self) -> Option<i64> {
        self.lock().due.first().map(|(due_ms, _)| *due_ms)
    }
}

async fn run(coordinator: Weak<ShareCoordinator>) {
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
            let next_ms = coordinator.next_due_ms().unwrap_or(i64::MAX);
            let wait_ms = next_ms.saturating_sub(now_ms);
            Duration::from_millis(u64::try_from(wait_ms).unwrap_or(0))
        };
        tokio::select! {
            () = tokio::time::sleep(sleep.min(SLEEP_MAX)) => {}
            () = changed.notified() => {}
        }
    }
}
