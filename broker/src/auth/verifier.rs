//! SCRAM verifiers (RFC 5802, section 3): what is kept instead of a password.

use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use rand::RngCore;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256, Sha512};
use subtle::ConstantTimeEq;

/// Twice Kafka's default and the RFC's least: about 5 ms for who logs in, on a small machine.
pub const ITERATIONS: u32 = 8_192;
/// A stored value above it is damage, not a wish: it would stop logins for minutes.
const ITERATIONS_MAX: u32 = 1_000_000;
const SALT_BYTES: usize = 24;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hash {
    Sha256,
    Sha512,
}

impl Hash {
    pub(super) fn digest(self, data: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha256 => Sha256::digest(data).to_vec(),
            Self::Sha512 => Sha512::digest(data).to_vec(),
        }
    }

    pub(super) fn hmac(self, key: &[u8], data: &[u8]) -> Vec<u8> {
        const ANY_KEY: &str = "HMAC takes keys of any length";
        match self {
            Self::Sha256 => {
                let mac = Hmac::<Sha256>::new_from_slice(key).expect(ANY_KEY);
                mac.chain_update(data).finalize().into_bytes().to_vec()
            }
            Self::Sha512 => {
                let mac = Hmac::<Sha512>::new_from_slice(key).expect(ANY_KEY);
                mac.chain_update(data).finalize().into_bytes().to_vec()
            }
        }
    }

    /// RFC 5802's `Hi`.
    fn salted_password(self, password: &str, salt: &[u8], iterations: u32) -> Vec<u8> {
        let mut out = vec![0; self.bytes()];
        match self {
            Self::Sha256 => {
                pbkdf2::pbkdf2_hmac::<Sha256>(password.as_bytes(), salt, iterations, &mut out);
            }
            Self::Sha512 => {
                pbkdf2::pbkdf2_hmac::<Sha512>(password.as_bytes(), salt, iterations, &mut out);
            }
        }
        out
    }

    const fn bytes(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }
}

/// Bytes that are base64 text in JSON.
mod text {
    use base64::Engine as _;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use super::STANDARD;

    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map_err(D::Error::custom)
    }
}

/// Digits of the salts that Kafka's tools make.
const TEXT_SALT: &[u8] = b"0123456789abcdefghijklmnopqrstuvwxyz";

/// What a client is shown of a verifier, by which one made here differs from one made elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Look {
    salt_bytes: usize,
    salt_is_text: bool,
    iterations: u32,
}

impl Default for Look {
    fn default() -> Self {
        Self { salt_bytes: SALT_BYTES, salt_is_text: false, iterations: ITERATIONS }
    }
}

impl Look {
    /// A salt of this look that nobody can tell from chance without the secret.
    fn salt(self, hash: Hash, secret: &[u8], name: &str) -> Vec<u8> {
        let mut salt = Vec::with_capacity(self.salt_bytes + hash.bytes());
        for block in 0_u32.. {
            if salt.len() >= self.salt_bytes {
                break;
            }
            let input = [&block.to_be_bytes(), name.as_bytes()].concat();
            salt.extend(hash.hmac(secret, &input));
        }
        salt.truncate(self.salt_bytes);
        if self.salt_is_text {
            for byte in &mut salt {
                *byte = TEXT_SALT[usize::from(*byte) % TEXT_SALT.len()];
            }
        }
        salt
    }

    /// Bytes to choose among looks by.
    pub(super) fn to_bytes(self) -> Vec<u8> {
        format!("{self:?}").into_bytes()
    }
}

/// Enough to check a login, not enough to log in elsewhere.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verifier {
    #[serde(with = "text")]
    pub salt: Vec<u8>,
    pub iterations: u32,
    #[serde(with = "text")]
    pub stored_key: Vec<u8>,
    #[serde(with = "text")]
    pub server_key: Vec<u8>,
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verifier").field("iterations", &self.iterations).finish_non_exhaustive()
    }
}

impl Verifier {
    /// With a new random salt. Costs milliseconds.
    pub fn derive(hash: Hash, password: &str) -> Self {
        let mut salt = vec![0; SALT_BYTES];
        rand::rng().fill_bytes(&mut salt);
        Self::derive_with(hash, password, salt, ITERATIONS)
    }

    /// As Kafka does, the password's UTF-8 is taken as it is, without SASLprep.
    pub fn derive_with(hash: Hash, password: &str, salt: Vec<u8>, iterations: u32) -> Self {
        let salted = hash.salted_password(password, &salt, iterations);
        Self::of_salted(hash, &salted, salt, iterations)
    }

    /// From what a client derived of a password that the broker never sees.
    pub fn of_salted(hash: Hash, salted: &[u8], salt: Vec<u8>, iterations: u32) -> Self {
        let client_key = hash.hmac(salted, b"Client Key");
        let stored_key = hash.digest(&client_key);
        let server_key = hash.hmac(salted, b"Server Key");
        Self { salt, iterations, stored_key, server_key }
    }

    /// Is this the password? Costs as much as [`Self::derive`], right or wrong.
    pub fn matches(&self, hash: Hash, password: &str) -> bool {
        let derived = Self::derive_with(hash, password, self.salt.clone(), self.iterations);
        derived.stored_key.ct_eq(&self.stored_key).into()
    }

    /// Nothing a client could send matches it; of the look and cost of a real one. The salt is the
    /// same for the same name, or asking twice would tell that there is no such user.
    pub(super) fn nobody(hash: Hash, secret: &[u8], name: &str, look: Look) -> Self {
        let salt = look.salt(hash, secret, name);
        let mut stored_key = vec![0; hash.bytes()];
        rand::rng().fill_bytes(&mut stored_key);
        let iterations = look.iterations;
        Self { salt, iterations, server_key: stored_key.clone(), stored_key }
    }

    /// For a user of the configuration, whose verifier is made anew at each start. A salt that
    /// changed then would tell users from names that nobody has.
    pub(super) fn configured(hash: Hash, secret: &[u8], name: &str, password: &str) -> Self {
        let salt = Look::default().salt(hash, secret, name);
        Self::derive_with(hash, password, salt, ITERATIONS)
    }

    pub(super) fn look(&self) -> Look {
        Look {
            salt_bytes: self.salt.len(),
            salt_is_text: self.salt.iter().all(|byte| TEXT_SALT.contains(byte)),
            iterations: self.iterations,
        }
    }

    /// Whether a stored record can be worked with.
    pub(super) fn is_sound(&self, hash: Hash) -> bool {
        !self.salt.is_empty()
            && (1..=ITERATIONS_MAX).contains(&self.iterations)
            && self.stored_key.len() == hash.bytes()
            && self.server_key.len() == hash.bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7677, section 3 (the keys follow from its exchange, checked in `scram`), and the PBKDF2
    /// vectors with HMAC-SHA-256 of RFC 7914, section 11.
    #[test]
    fn the_salted_password_is_pbkdf2() {
        let out = Hash::Sha256.salted_password("passwd", b"salt", 1);
        let expected = [
            0x55, 0xac, 0x04, 0x6e, 0x56, 0xe3, 0x08, 0x9f, 0xec, 0x16, 0x91, 0xc2, 0x25, 0x44,
            0xb6, 0x05, 0xf9, 0x41, 0x85, 0x21, 0x6d, 0xde, 0x04, 0x65, 0xe6, 0x8b, 0x9d, 0x57,
            0xc2, 0x0d, 0xac, 0xbc,
        ];
        assert_eq!(out, expected);
    }

    #[test]
    fn a_verifier_knows_its_password_and_no_other_and_survives_json() {
        for hash in [Hash::Sha256, Hash::Sha512] {
            let verifier = Verifier::derive(hash, "geheim ü");
            let json = serde_json::to_string(&verifier).unwrap();
            assert!(!json.contains("geheim"));
            let back: Verifier = serde_json::from_str(&json).unwrap();
            assert_eq!(back, verifier);
            assert!(back.is_sound(hash) && back.matches(hash, "geheim ü"));
            assert!(!back.matches(hash, "geheim u") && !back.matches(hash, ""));
        }
    }

    #[test]
    fn an_unknown_user_has_a_steady_salt_and_no_password() {
        let of = |name| Verifier::nobody(Hash::Sha256, b"secret", name, Look::default());
        let nobody = of("eve");
        assert_eq!(nobody.salt, of("eve").salt);
        assert_ne!(nobody.salt, of("eva").salt);
        assert_eq!(nobody.salt.len(), Verifier::derive(Hash::Sha256, "x").salt.len());
        assert!(!nobody.matches(Hash::Sha256, ""));
        // As kafka-configs makes them.
        let theirs = b"1d2sk6q8l9w1b3tq0x7vhh2mzc".to_vec();
        let theirs = Verifier::derive_with(Hash::Sha256, "x", theirs, 4096);
        let alike = Verifier::nobody(Hash::Sha256, b"secret", "eve", theirs.look());
        assert_eq!(alike.look(), theirs.look());
        assert_eq!((alike.salt.len(), alike.iterations), (26, 4096));
    }
}
