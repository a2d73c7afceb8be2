//! A group id belongs to one kind of group: share groups claim theirs here, under the lock under
//! which the other kinds are made.

use super::GroupCoordinator;
use crate::share::coordinator::GroupNames;

impl GroupNames for GroupCoordinator {
    fn claim(&self, group: &str) -> bool {
        let mut state = self.lock();
        if state.groups.contains_key(group) {
            return false;
        }
        state.share_names.insert(group.to_owned());
        true
    }

    fn release(&self, group: &str) {
        self.lock().share_names.remove(group);
    }
}

impl GroupCoordinator {
    /// Whether a share group has this name.
    pub(crate) fn is_share_group(&self, group: &str) -> bool {
        self.lock().share_names.contains(group)
    }
}
