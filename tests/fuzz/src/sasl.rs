//! Logins: PLAIN's message, and SCRAM's two.
//!
//! First byte: the mechanism. The messages are divided by a line feed; `{nonce}` in one of them
//! becomes the nonce of the server's answer, `{proof}` a right proof for all that stands before
//! `,p=`, as only who knows the password can make it.
//!
//! Promises: who logs in is the one user there is, and showed the password or a right proof; after
//! a verdict nothing more is taken; no message costs memory beyond a few times its size.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use odradek_broker::auth::{Hash, Mechanism, SaslExchange, Step, UserRecord, Users, Verifier};
use sha2::{Digest, Sha256, Sha512};

use crate::memory::peak_bytes;

const USER: &str = "alice";
const PASSWORD: &str = "secret";
const SALT: &[u8] = b"pepper is no salt";
/// The least that a record may have: the fuzzer has better things to do.
const ITERATIONS: u32 = 4096;
const MEMORY_BYTES_FREE: usize = 64 << 10;

static USERS: LazyLock<Users> = LazyLock::new(|| {
    let mut record = UserRecord::default();
    for hash in [Hash::Sha256, Hash::Sha512] {
        let verifier = Verifier::derive_with(hash, PASSWORD, SALT.to_vec(), ITERATIONS);
        record.set(hash, Some(verifier));
    }
    Users::load([(USER.to_owned(), record.to_json())])
});

pub fn run(data: &[u8]) {
    let Some((which, rest)) = data.split_first() else { return };
    let mechanism = Mechanism::ALL[usize::from(*which) % Mechanism::ALL.len()];
    LazyLock::force(&USERS);
    let mut login = Login::new(mechanism);
    for message in rest.split(|byte| *byte == b'\n').take(4) {
        login.send(message);
    }
}

struct Login {
    exchange: SaslExchange,
    mechanism: Mechanism,
    /// The client's first message without its header, and the server's.
    first: String,
    answer: String,
    over: bool,
}

impl Login {
    fn new(mechanism: Mechanism) -> Self {
        let exchange = SaslExchange::new(mechanism, false);
        Self { exchange, mechanism, first: String::new(), answer: String::new(), over: false }
    }

    fn send(&mut self, message: &[u8]) {
        let (message, proven) = self.filled(message);
        let (step, peak) = peak_bytes(|| self.exchange.respond(&USERS, &message));
        let allowed = 32 * message.len() + MEMORY_BYTES_FREE;
        assert!(peak <= allowed, "{peak} bytes for a message of {}", message.len());
        assert_eq!(self.exchange.is_over(), !matches!(step, Step::Continue(_)));
        match step {
            Step::Continue(bytes) => {
                assert!(!self.over, "nothing follows a verdict");
                let text = String::from_utf8_lossy(&message).into_owned();
                self.first = text.splitn(3, ',').nth(2).unwrap_or_default().to_owned();
                self.answer = String::from_utf8(bytes).expect("the answer is text");
            }
            Step::Done { user, .. } => {
                assert!(!self.over, "nothing follows a verdict");
                assert_eq!(user, USER);
                match self.mechanism {
                    Mechanism::Plain => {
                        let parts: Vec<&[u8]> = message.split(|byte| *byte == 0).collect();
                        assert_eq!(parts[1..], [USER.as_bytes(), PASSWORD.as_bytes()]);
                    }
                    _ => assert!(proven, "a login without a proof"),
                }
                self.over = true;
            }
            Step::Failed { .. } => self.over = true,
        }
    }

    /// The message with its places filled, and whether a right proof is in it.
    fn filled(&self, message: &[u8]) -> (Vec<u8>, bool) {
        let Ok(text) = std::str::from_utf8(message) else { return (message.to_vec(), false) };
        let nonce = self.answer.split(',').next().and_then(|field| field.strip_prefix("r="));
        let text = text.replace("{nonce}", nonce.unwrap_or_default());
        let Some((signed, "{proof}")) = text.rsplit_once(",p=") else {
            return (text.into_bytes(), false);
        };
        let proof = self.proof(signed);
        (format!("{signed},p={proof}").into_bytes(), true)
    }

    /// RFC 5802, section 3.
    fn proof(&self, without_proof: &str) -> String {
        let signed = format!("{},{},{without_proof}", self.first, self.answer);
        let proof: Vec<u8> = match self.mechanism {
            Mechanism::ScramSha512 => {
                let mut salted = [0; 64];
                pbkdf2::pbkdf2_hmac::<Sha512>(PASSWORD.as_bytes(), SALT, ITERATIONS, &mut salted);
                let key = hmac512(&salted, b"Client Key");
                let signature = hmac512(&Sha512::digest(&key), signed.as_bytes());
                key.iter().zip(&signature).map(|(a, b)| a ^ b).collect()
            }
            _ => {
                let mut salted = [0; 32];
                pbkdf2::pbkdf2_hmac::<Sha256>(PASSWORD.as_bytes(), SALT, ITERATIONS, &mut salted);
                let key = hmac256(&salted, b"Client Key");
                let signature = hmac256(&Sha256::digest(&key), signed.as_bytes());
                key.iter().zip(&signature).map(|(a, b)| a ^ b).collect()
            }
        };
        STANDARD.encode(proof)
    }
}

fn hmac256(key: &[u8], data: &[u8]) -> Vec<u8> {
    let mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.chain_update(data).finalize().into_bytes().to_vec()
}

fn hmac512(key: &[u8], data: &[u8]) -> Vec<u8> {
    let mac = Hmac::<Sha512>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.chain_update(data).finalize().into_bytes().to_vec()
}
