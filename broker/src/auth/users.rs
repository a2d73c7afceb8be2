//! The users: those of the state log and those named in the configuration.
//!
//! Writes come from the owner of the state log only: a record is made ([`UserRecord::derive`]),
//! made durable, then put here. Configured users win over stored ones of the same name.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rand::RngCore;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Mechanism;
use super::verifier::{Hash, Look, Verifier};
use crate::config::ConfigUser;

/// Derivations at a time: half of the cores, and at most so many. They would otherwise take every
/// core from the broker's real work when many clients log in at once or somebody guesses passwords.
const DERIVATIONS_MAX: usize = 4;

fn derivations_max() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    (cores / 2).clamp(1, DERIVATIONS_MAX)
}

/// Before a record in the place of a password.
const SEAL: &str = "{verifier}";

/// Value of a `user:<name>` record: at least one of the two. A password set here gives both; a
/// client of AlterUserScramCredentials makes one at a time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserRecord {
    #[serde(rename = "SCRAM-SHA-256", default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Verifier>,
    #[serde(rename = "SCRAM-SHA-512", default, skip_serializing_if = "Option::is_none")]
    pub sha512: Option<Verifier>,
}

impl UserRecord {
    /// Costs milliseconds: call it on a blocking thread.
    pub fn derive(password: &str) -> Self {
        Self {
            sha256: Some(Verifier::derive(Hash::Sha256, password)),
            sha512: Some(Verifier::derive(Hash::Sha512, password)),
        }
    }

    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("text and numbers are always JSON")
    }

    pub fn from_json(json: &[u8]) -> Result<Self, String> {
        let record: Self = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        let sound = |hash| record.verifier(hash).is_none_or(|verifier| verifier.is_sound(hash));
        if record.is_empty() {
            Err("it holds no verifier".to_owned())
        } else if sound(Hash::Sha256) && sound(Hash::Sha512) {
            Ok(record)
        } else {
            Err("a verifier has a wrong length or an absurd number of iterations".to_owned())
        }
    }

    /// In the place of a password, where that must not lie in clear.
    pub fn sealed(&self) -> String {
        format!("{SEAL}{}", STANDARD.encode(self.to_json()))
    }

    /// `None`: it is a password.
    fn unsealed(text: &str) -> Option<Self> {
        let json = STANDARD.decode(text.strip_prefix(SEAL)?).ok()?;
        Self::from_json(&json).ok()
    }

    /// Costs milliseconds for a password.
    pub fn of_password_or_seal(text: &str) -> Self {
        Self::unsealed(text).unwrap_or_else(|| Self::derive(text))
    }

    /// Nobody could log in by it.
    pub fn is_empty(&self) -> bool {
        self.sha256.is_none() && self.sha512.is_none()
    }

    pub fn verifier(&self, hash: Hash) -> Option<&Verifier> {
        match hash {
            Hash::Sha256 => self.sha256.as_ref(),
            Hash::Sha512 => self.sha512.as_ref(),
        }
    }

    pub fn set(&mut self, hash: Hash, verifier: Option<Verifier>) {
        match hash {
            Hash::Sha256 => self.sha256 = verifier,
            Hash::Sha512 => self.sha512 = verifier,
        }
    }
}

/// Looks that unknown names are given: hardly more than one program and one tool make.
const LOOKS_MAX: usize = 16;

/// As [`Users::keyed_by`] takes one.
pub fn new_secret() -> Vec<u8> {
    let mut secret = vec![0; 32];
    rand::rng().fill_bytes(&mut secret);
    secret
}

#[derive(Debug, Default)]
struct Known {
    stored: BTreeMap<String, UserRecord>,
    configured: BTreeMap<String, UserRecord>,
}

impl Known {
    fn get(&self, name: &str) -> Option<&UserRecord> {
        self.configured.get(name).or_else(|| self.stored.get(name))
    }

    fn all(&self) -> impl Iterator<Item = &UserRecord> {
        self.configured.values().chain(self.stored.values())
    }
}

pub struct Users {
    known: RwLock<Known>,
    /// Of this data folder, the same after a restart; keys the salts of unknown users, those of
    /// configured ones, and [`Self::remembered`].
    secret: Vec<u8>,
    /// By user, a keyed digest of the password that last logged in, so that each further
    /// connection of a client costs microseconds. Bound to the stored key: a changed password
    /// forgets it. One entry a user that exists.
    remembered: Mutex<HashMap<String, Vec<u8>>>,
    derivations: Arc<Semaphore>,
}

impl std::fmt::Debug for Users {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Users").field("names", &self.list()).finish_non_exhaustive()
    }
}

impl Default for Users {
    fn default() -> Self {
        Self {
            known: RwLock::default(),
            secret: new_secret(),
            remembered: Mutex::default(),
            derivations: Arc::new(Semaphore::new(derivations_max())),
        }
    }
}

impl Users {
    /// From the records of the state log: names and JSON. One that cannot be read is left out, with
    /// a line in the log: the others must still be able to log in.
    pub fn load<J: AsRef<[u8]>>(records: impl IntoIterator<Item = (String, J)>) -> Self {
        let users = Self::default();
        for (name, json) in records {
            match UserRecord::from_json(json.as_ref()) {
                Ok(record) => users.put(&name, record),
                Err(error) => tracing::error!(
                    user = %name, %error, "this user's record is damaged; set the password again"
                ),
            }
        }
        users
    }

    /// With the secret of the data folder; to be called before configured users are added.
    #[must_use]
    pub fn keyed_by(mut self, secret: Vec<u8>) -> Self {
        self.secret = secret;
        self
    }

    /// With the users that the configuration names. Costs milliseconds a user.
    #[must_use]
    pub fn with_configured(self, users: &[ConfigUser]) -> Self {
        self.set_configured(self.records_of(users));
        self
    }

    /// The records of configured users. Costs milliseconds a user: call it on a blocking thread.
    pub fn records_of(&self, users: &[ConfigUser]) -> BTreeMap<String, UserRecord> {
        let record = |user: &ConfigUser| {
            let (name, password) = (&user.name, user.password.expose());
            let derive = |hash| Some(Verifier::configured(hash, &self.secret, name, password));
            UserRecord::unsealed(password).unwrap_or_else(|| UserRecord {
                sha256: derive(Hash::Sha256),
                sha512: derive(Hash::Sha512),
            })
        };
        users.iter().map(|user| (user.name.clone(), record(user))).collect()
    }

    /// From now on these are the configured users.
    pub fn set_configured(&self, records: BTreeMap<String, UserRecord>) {
        self.write().configured = records;
    }

    /// Adds or replaces a stored user, whose record is durable already.
    pub fn put(&self, name: &str, record: UserRecord) {
        self.write().stored.insert(name.to_owned(), record);
    }

    /// Makes the record of a user with this password and puts it here; returns its JSON.
    pub fn set(&self, name: &str, password: &str) -> Vec<u8> {
        let record = UserRecord::derive(password);
        let json = record.to_json();
        self.put(name, record);
        json
    }

    /// Removes a stored user; says whether there was one.
    pub fn remove(&self, name: &str) -> bool {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
        self.write().stored.remove(name).is_some()
    }

    /// In the configuration, and so only to be changed there.
    pub fn is_configured(&self, name: &str) -> bool {
        self.read().configured.contains_key(name)
    }

    /// What is stored for a user; nothing for one of the configuration.
    pub fn stored(&self, name: &str) -> Option<UserRecord> {
        self.read().stored.get(name).cloned()
    }

    /// Names of stored users, sorted.
    pub fn stored_names(&self) -> Vec<String> {
        self.read().stored.keys().cloned().collect()
    }

    /// How a user may log in: PLAIN always, SCRAM with each hash that there is a verifier of.
    pub fn mechanisms(&self, name: &str) -> Vec<Mechanism> {
        let known = self.read();
        let Some(record) = known.get(name) else { return Vec::new() };
        let may = |mechanism: &Mechanism| {
            mechanism.hash().is_none_or(|hash| record.verifier(hash).is_some())
        };
        Mechanism::ALL.into_iter().filter(may).collect()
    }

    pub fn contains(&self, name: &str) -> bool {
        self.read().get(name).is_some()
    }

    pub fn is_empty(&self) -> bool {
        let known = self.read();
        known.stored.is_empty() && known.configured.is_empty()
    }

    /// All names, sorted.
    pub fn list(&self) -> Vec<String> {
        let known = self.read();
        let mut names: Vec<String> = known.stored.keys().cloned().collect();
        names.extend(known.configured.keys().filter(|n| !known.stored.contains_key(*n)).cloned());
        names.sort_unstable();
        names
    }

    /// A turn to derive; hold it while [`Self::check_plain`] or `SaslExchange::respond` runs.
    pub async fn turn(&self) -> OwnedSemaphorePermit {
        self.derivations.clone().acquire_owned().await.expect("the semaphore is never closed")
    }

    /// Is this the user's password? A wrong one and an unknown user take the same milliseconds.
    pub fn check_plain(&self, name: &str, password: &str) -> bool {
        let hash = self.plain_hash(name);
        let (verifier, known) = self.verifier(hash, name);
        let digest = self.digest(&verifier, name, password);
        if self.is_remembered(name, &digest) {
            return true;
        }
        // The derivation comes first: `known` must not decide whether it is paid for.
        let right = verifier.matches(hash, password) && known;
        if right {
            let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
            remembered.insert(name.to_owned(), digest);
        }
        right
    }

    /// Whether this password has logged the user in before. Costs microseconds, right or wrong.
    pub fn remembers(&self, name: &str, password: &str) -> bool {
        let (verifier, _) = self.verifier(self.plain_hash(name), name);
        self.is_remembered(name, &self.digest(&verifier, name, password))
    }

    fn is_remembered(&self, name: &str, digest: &[u8]) -> bool {
        let before = {
            let remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
            remembered.get(name).cloned().unwrap_or_else(|| vec![0; digest.len()])
        };
        before.ct_eq(digest).into()
    }

    /// The verifier to check this user by, and whether the user has one of this hash.
    pub(super) fn verifier(&self, hash: Hash, name: &str) -> (Verifier, bool) {
        let known = self.read();
        // Made for those who exist, too: what it costs must not tell them apart.
        let nobody = Verifier::nobody(hash, &self.secret, name, self.look(&known, hash, name));
        match known.get(name).and_then(|record| record.verifier(hash)) {
            Some(verifier) => (verifier.clone(), true),
            None => (nobody, false),
        }
    }

    /// What an unknown name looks like: as one of those that exist, always the same one. The looks
    /// compete by a keyed hash, so that a new one among them changes few names.
    fn look(&self, known: &Known, hash: Hash, name: &str) -> Look {
        let verifiers = known.all().filter_map(|record| record.verifier(hash));
        let looks: BTreeSet<Look> = verifiers.map(Verifier::look).collect();
        let weight = |look: &Look| self.weight(name, &look.to_bytes());
        looks.into_iter().take(LOOKS_MAX).max_by_key(weight).unwrap_or_default()
    }

    fn weight(&self, name: &str, of: &[u8]) -> Vec<u8> {
        Hash::Sha256.hmac(&self.secret, &[of, b"\0", name.as_bytes()].concat())
    }

    /// By which verifier a password in clear is checked: whichever there is, and for an unknown
    /// name whichever one of the users has.
    fn plain_hash(&self, name: &str) -> Hash {
        let of = |record: &UserRecord| match record {
            UserRecord { sha256: None, sha512: Some(_) } => Hash::Sha512,
            _ => Hash::Sha256,
        };
        let known = self.read();
        let hashes: BTreeSet<Hash> = known.all().map(of).collect();
        let weight = |hash: &Hash| self.weight(name, &hash.digest(b""));
        let nobodys = hashes.into_iter().max_by_key(weight).unwrap_or(Hash::Sha256);
        known.get(name).map_or(nobodys, of)
    }

    /// Lengths are part of the input, so that no two (name, password) pairs look alike.
    fn digest(&self, verifier: &Verifier, name: &str, password: &str) -> Vec<u8> {
        let mut input = verifier.stored_key.clone();
        input.extend_from_slice(&(name.len() as u64).to_be_bytes());
        input.extend_from_slice(name.as_bytes());
        input.extend_from_slice(password.as_bytes());
        Hash::Sha256.hmac(&self.secret, &input)
    }

    fn read(&self) -> RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Known> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    #[test]
    fn users_come_back_from_their_records_and_damaged_ones_harm_nobody_else() {
        let first = Users::default();
        let json = first.set("alice", "secret");
        let broken = String::from_utf8(json.clone()).unwrap().replace("8192", "4000000000");
        let records = [
            ("alice".to_owned(), json),
            ("bob".to_owned(), b"{}".to_vec()),
            ("carol".to_owned(), broken.into_bytes()),
        ];
        let users = Users::load(records);
        assert_eq!(users.list(), ["alice"]);
        assert!(users.check_plain("alice", "secret"));
        assert!(users.check_plain("alice", "secret"), "the remembered one");
        assert!(!users.check_plain("alice", "Secret"));
        assert!(!users.check_plain("bob", "secret"));
    }

    #[test]
    fn a_user_with_one_verifier_logs_in_by_it_and_by_plain() {
        for (hash, other) in [(Hash::Sha256, Hash::Sha512), (Hash::Sha512, Hash::Sha256)] {
            let mut record = UserRecord::default();
            record.set(hash, Some(Verifier::derive(hash, "secret")));
            let json = record.to_json();
            let users =
                Users::load([("alice".to_owned(), json), ("bob".to_owned(), b"{}".to_vec())]);
            assert!(users.check_plain("alice", "secret") && !users.check_plain("alice", "wrong"));
            assert!(users.verifier(hash, "alice").1 && !users.verifier(other, "alice").1);
            assert!(!users.contains("bob"));
            let names: Vec<_> = users.mechanisms("alice").iter().map(|m| m.name()).collect();
            let scram = if hash == Hash::Sha256 { "SCRAM-SHA-256" } else { "SCRAM-SHA-512" };
            assert_eq!(names, ["PLAIN", scram]);
        }
    }

    #[test]
    fn a_changed_or_removed_password_is_forgotten_at_once() {
        let users = Users::default();
        users.set("alice", "old");
        assert!(users.check_plain("alice", "old"));
        users.set("alice", "new");
        assert!(!users.check_plain("alice", "old") && users.check_plain("alice", "new"));
        assert!(users.remove("alice") && !users.remove("alice"));
        assert!(!users.check_plain("alice", "new"));
        users.set("alice", "newer");
        assert!(!users.check_plain("alice", "new"));
    }

    /// By salt and iterations a stranger sees no difference, also after a restart, and also where
    /// all users were made by Kafka's tools.
    #[test]
    fn an_unknown_name_looks_like_those_that_exist_and_stays_the_same_after_a_restart() {
        let theirs = b"1d2sk6q8l9w1b3tq0x7vhh2mzc".to_vec();
        let mut record = UserRecord::default();
        record.set(Hash::Sha512, Some(Verifier::derive_with(Hash::Sha512, "x", theirs, 4096)));
        let configured = [ConfigUser { name: "admin".to_owned(), password: Secret::new("pasted") }];
        let (json, secret) = (record.to_json(), new_secret());
        let start = |configured| {
            Users::load([("bob".to_owned(), &json)])
                .keyed_by(secret.clone())
                .with_configured(configured)
        };
        let seen = |users: &Users, hash, name| {
            let (verifier, _) = users.verifier(hash, name);
            (verifier.look(), verifier.salt)
        };
        let before = start(&[]);
        assert_eq!(seen(&before, Hash::Sha512, "eve").0, seen(&before, Hash::Sha512, "bob").0);
        assert_eq!(before.plain_hash("eve"), Hash::Sha512, "its time is that of the one user");
        assert_eq!(seen(&before, Hash::Sha256, "eve").0, Look::default());
        let (first, second) = (start(&configured), start(&configured));
        for name in ["admin", "bob", "eve", "adam"] {
            for hash in [Hash::Sha256, Hash::Sha512] {
                assert_eq!(seen(&first, hash, name), seen(&second, hash, name), "{name}");
            }
        }
        let names: Vec<String> = (0..50).map(|number| format!("eve{number}")).collect();
        let looks: BTreeSet<Look> =
            names.iter().map(|name| seen(&first, Hash::Sha512, name).0).collect();
        assert_eq!(looks.len(), 2, "each of the users' looks is found among the unknown");
    }

    #[test]
    fn configured_users_win_and_are_listed_once() {
        let users = Users::default();
        users.set("admin", "stored");
        let configured = [ConfigUser { name: "admin".to_owned(), password: Secret::new("pasted") }];
        let users = users.with_configured(&configured);
        assert!(users.check_plain("admin", "pasted") && !users.check_plain("admin", "stored"));
        assert!(users.is_configured("admin"));
        assert_eq!(users.list(), ["admin"]);
    }
}
