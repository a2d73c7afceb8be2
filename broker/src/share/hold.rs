//! What ties a share session to its connection: when the connection goes, so does the session, and
//! what its member had is free again.

use std::sync::Arc;

use super::coordinator::ShareCoordinator;
use super::session::SessionKey;
use crate::handlers::Context;
use crate::partition::lock;

#[derive(Debug)]
pub(crate) struct Hold {
    share: Arc<ShareCoordinator>,
    key: SessionKey,
    serial: u64,
}

impl Hold {
    /// From now on the session ends with the connection of this request.
    pub(crate) fn put(context: &Context, key: SessionKey, serial: u64) {
        let share = Arc::clone(&context.core.share);
        let hold = Self { share, key, serial };
        let mut holds = lock(&context.session.share_sessions);
        // Those of sessions that ended otherwise go now, so that they do not pile up.
        holds.retain(Self::is_of_use);
        holds.push(hold);
    }

    fn is_of_use(&self) -> bool {
        self.share.sessions().is_serial(&self.key, self.serial)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.share.disconnected(&self.key, self.serial);
    }
}
