//! The states of a source's sockets, and the one state that they make together.

use std::sync::{Arc, Mutex, PoisonError};

use crate::meter::{Meter, SourceState};

pub(crate) struct Board {
    sockets: Mutex<Vec<(SourceState, String)>>,
    meter: Arc<Meter>,
}

impl Board {
    pub fn new(sockets: usize, meter: Arc<Meter>) -> Self {
        let starting = (SourceState::Starting, String::new());
        Self { sockets: Mutex::new(vec![starting; sockets]), meter }
    }

    /// One socket that works makes the source work; the detail tells of the others.
    pub fn set(&self, index: usize, state: SourceState, detail: &str) {
        let mut sockets = self.sockets.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(socket) = sockets.get_mut(index) else { return };
        *socket = (state, detail.to_owned());
        let rank = |state: &SourceState| match state {
            SourceState::Running => 0,
            SourceState::Quiet => 1,
            SourceState::Starting => 2,
            _ => 3,
        };
        let Some((best, _)) = sockets.iter().min_by_key(|(state, _)| rank(state)) else { return };
        let connected = sockets.iter().filter(|(state, _)| rank(state) < 2).count();
        let detail = match sockets.len() {
            1 => detail.to_owned(),
            all => format!("{connected} of {all} sockets connected; socket {index}: {detail}"),
        };
        self.meter.set_state(*best, detail);
    }
}
