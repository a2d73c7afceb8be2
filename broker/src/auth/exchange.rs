//! One login, from the chosen mechanism to the verdict.

use super::plain::{self, PlainError};
use super::scram::{AwaitingProof, ClientFirst, ScramError};
use super::users::Users;
use super::{Mechanism, NO_USERS, WRONG_PASSWORD};

/// What comes of a client's message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Send this; the client answers.
    Continue(Vec<u8>),
    /// Logged in; send this with the success.
    Done { user: String, bytes: Vec<u8> },
    /// Not logged in. `message` is for the client; `credentials` says that it was the name or the
    /// password (and not the form of the message) that was wrong.
    Failed { message: &'static str, credentials: bool, user: Option<String> },
}

#[derive(Debug)]
enum State {
    Begun,
    Scram(Box<AwaitingProof>),
    /// The verdict was given: nothing more may come.
    Over,
}

#[derive(Debug)]
pub struct SaslExchange {
    mechanism: Mechanism,
    /// The tokens come in bare frames (SaslHandshake version 0), without request headers.
    bare: bool,
    state: State,
}

impl SaslExchange {
    /// `bare`: the handshake was of version 0, so tokens follow without request headers.
    pub fn new(mechanism: Mechanism, bare: bool) -> Self {
        Self { mechanism, bare, state: State::Begun }
    }

    pub fn mechanism(&self) -> Mechanism {
        self.mechanism
    }

    pub fn is_bare(&self) -> bool {
        self.bare
    }

    /// A login failed: the connection is of no more use.
    pub fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// Whether this message is a login by a password that has logged in before: it costs next to
    /// nothing to check, and nobody has to wait for it.
    pub fn is_remembered(&self, users: &Users, message: &[u8]) -> bool {
        self.mechanism == Mechanism::Plain
            && matches!(self.state, State::Begun)
            && plain::is_remembered(users, message)
    }

    /// One message of the client. May cost milliseconds of CPU: not for async threads.
    pub fn respond(&mut self, users: &Users, message: &[u8]) -> Step {
        let Some(hash) = self.mechanism.hash() else {
            return self.plain(users, message);
        };
        match std::mem::replace(&mut self.state, State::Over) {
            State::Begun => match ClientFirst::parse(message) {
                Ok(first) => {
                    let verifier = users.verifier(hash, &first.user);
                    let (awaiting, bytes) = AwaitingProof::answer(hash, first, verifier);
                    self.state = State::Scram(Box::new(awaiting));
                    Step::Continue(bytes)
                }
                Err(error) => failed_scram(users, error, None),
            },
            State::Scram(awaiting) => {
                let user = awaiting.user().to_owned();
                match awaiting.check(message) {
                    Ok((user, bytes)) => Step::Done { user, bytes },
                    Err(error) => failed_scram(users, error, Some(user)),
                }
            }
            State::Over => failed_scram(users, ScramError::Malformed, None),
        }
    }

    fn plain(&mut self, users: &Users, message: &[u8]) -> Step {
        if matches!(std::mem::replace(&mut self.state, State::Over), State::Over) {
            return failed("Authentication failed: this login is over");
        }
        match plain::check(users, message) {
            Ok(user) => Step::Done { user, bytes: Vec::new() },
            Err(PlainError::WrongPassword) => {
                let user = message.split(|byte| *byte == 0).nth(1);
                let user = user.map(|name| String::from_utf8_lossy(name).into_owned());
                wrong_password(users, user)
            }
            Err(PlainError::OtherIdentity) => failed(
                "Authentication failed: Client requested an authorization id that is different \
                 from username",
            ),
            Err(PlainError::Malformed) => failed(
                "Authentication failed: a PLAIN message holds user name and password, \
                 neither of them empty",
            ),
        }
    }
}

fn failed(message: &'static str) -> Step {
    Step::Failed { message, credentials: false, user: None }
}

fn wrong_password(users: &Users, user: Option<String>) -> Step {
    let message = if users.is_empty() { NO_USERS } else { WRONG_PASSWORD };
    Step::Failed { message, credentials: true, user }
}

fn failed_scram(users: &Users, error: ScramError, user: Option<String>) -> Step {
    match error {
        ScramError::WrongPassword => wrong_password(users, user),
        ScramError::NotOffered => failed(
            "Authentication failed: channel binding, delegation tokens and acting as another user \
             are not offered",
        ),
        ScramError::Malformed => failed("Authentication failed: the SCRAM message is malformed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users() -> Users {
        let users = Users::default();
        users.set("admin", "password");
        users
    }

    #[test]
    fn plain_logs_in_with_one_message_and_then_is_over() {
        let users = users();
        let mut exchange = SaslExchange::new(Mechanism::Plain, false);
        let step = exchange.respond(&users, b"\0admin\0password");
        assert_eq!(step, Step::Done { user: "admin".to_owned(), bytes: Vec::new() });
        assert!(exchange.is_over());
        let again = exchange.respond(&users, b"\0admin\0password");
        assert!(matches!(again, Step::Failed { credentials: false, .. }));
    }

    /// Before the bracket: the words of Kafka's PlainSaslServer, which clients print.
    #[test]
    fn a_wrong_password_and_an_unknown_user_get_the_same_answer() {
        let users = users();
        for message in [&b"\0admin\0wrong"[..], b"\0nobody\0password"] {
            match SaslExchange::new(Mechanism::Plain, false).respond(&users, message) {
                Step::Failed { message, credentials: true, .. } => {
                    let kafkas = "Authentication failed: Invalid username or password";
                    assert_eq!(message.split(" (").next(), Some(kafkas));
                    assert_eq!(message, WRONG_PASSWORD);
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_broker_without_users_says_so_whoever_is_named() {
        let exchange = &mut SaslExchange::new(Mechanism::Plain, false);
        let step = exchange.respond(&Users::default(), b"\0admin\0password");
        assert!(matches!(step, Step::Failed { message: NO_USERS, credentials: true, .. }));
    }

    #[test]
    fn only_a_password_that_logged_in_before_is_remembered() {
        let users = users();
        let asked = |message: &[u8]| {
            SaslExchange::new(Mechanism::Plain, false).is_remembered(&users, message)
        };
        assert!(!asked(b"\0admin\0password"));
        let step = SaslExchange::new(Mechanism::Plain, false);
        let step = { step }.respond(&users, b"\0admin\0password");
        assert!(matches!(step, Step::Done { .. }));
        assert!(asked(b"\0admin\0password"));
        for other in [&b"\0admin\0wrong"[..], b"\0nobody\0password", b"\0admin", b"x\0admin\0p"] {
            assert!(!asked(other), "{other:?}");
        }
    }

    #[test]
    fn scram_takes_two_messages_and_a_wrong_proof_ends_it() {
        let users = users();
        for name in ["admin", "nobody"] {
            let mut exchange = SaslExchange::new(Mechanism::ScramSha512, false);
            let first = format!("n,,n={name},r=abc");
            let Step::Continue(bytes) = exchange.respond(&users, first.as_bytes()) else {
                panic!("a first message is answered, whoever it names");
            };
            let nonce = String::from_utf8(bytes).unwrap();
            let nonce = nonce.split(',').next().unwrap().to_owned();
            let proof = "A".repeat(86) + "==";
            let step = exchange.respond(&users, format!("c=biws,{nonce},p={proof}").as_bytes());
            let Step::Failed { credentials: true, user, .. } = step else { panic!("{step:?}") };
            assert_eq!(user.as_deref(), Some(name), "for the owner's diary");
            assert!(exchange.is_over());
        }
    }
}
