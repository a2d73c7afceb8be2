//! A user's password that came by another way than a Kafka listener: by HTTP.
//!
//! The same rules as for a login there: turns and delays by address ([`crate::auth`], 4), at most a
//! few derivations at a time, an entry in the diary for whoever fails.

use std::net::SocketAddr;
use std::time::Duration;

use crate::auth::Attempt;
use crate::broker::Broker;
use crate::client::Principal;
use crate::diagnose;
use crate::limits;

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Checked {
    Right(Principal),
    /// The password is another one, or there is no such user.
    Wrong,
    /// Not looked at: too many logins from this address are being answered.
    TooMany,
}

/// Who wants to be let in.
#[derive(Clone)]
pub struct Asking {
    pub user: String,
    pub password: String,
    pub peer: SocketAddr,
    /// Where it came in, as the diary shall name it.
    pub listener: &'static str,
}

impl Broker {
    /// Derives the key on a blocking thread; a wrong password is answered late.
    pub async fn check_password(&self, asking: Asking) -> Checked {
        let core = self.core();
        if core.users.remembers(&asking.user, &asking.password) {
            return Checked::Right(Principal::user(&asking.user));
        }
        let Asking { peer, listener, .. } = asking;
        let Some(attempt) = self.inner.logins.attempt(peer.ip()).await else {
            let (id, evidence) = (diagnose::LOGINS_SLOWED, diagnose::NO_TURN_TO_LOG_IN);
            self.inner.diary.note(peer, listener, id, evidence);
            return Checked::TooMany;
        };
        // As a task of its own, because a web server drops its own work when the client hangs up,
        // and with it the turn that a failure has to keep.
        let broker = self.clone();
        let checking = tokio::spawn(async move { broker.check_in_turn(asking, attempt).await });
        checking.await.unwrap_or(Checked::Wrong)
    }

    async fn check_in_turn(self, asking: Asking, attempt: Attempt) -> Checked {
        let users = self.core().users.clone();
        let Asking { user, password, peer, listener } = asking;
        let name = user.clone();
        let turn = users.turn().await;
        let check = tokio::task::spawn_blocking(move || {
            let right = users.check_plain(&name, &password);
            drop(turn);
            right
        });
        if check.await.unwrap_or(false) {
            return Checked::Right(Principal::user(&user));
        }
        let diary = &self.inner.diary;
        let none = self.core().users.is_empty();
        let id = if none { diagnose::NO_USERS } else { diagnose::WRONG_PASSWORD };
        diary.note(peer, listener, id, &format!("a password for the user {user:?} was refused"));
        self.answer_late(attempt, peer, listener, true).await;
        Checked::Wrong
    }

    /// Ends a login that failed; only a wrong name or password counts as a guess.
    pub(crate) async fn answer_late(
        &self,
        attempt: Attempt,
        peer: SocketAddr,
        listener: &str,
        is_guess: bool,
    ) {
        let more = if is_guess { attempt.failed() } else { Duration::ZERO };
        if more == limits::LOGIN_DELAY_MAX {
            let evidence = diagnose::slowed_by(more);
            self.inner.diary.note(peer, listener, diagnose::LOGINS_SLOWED, &evidence);
        }
        attempt.answer_after(self.config().limits.failed_login_delay + more).await;
    }
}
