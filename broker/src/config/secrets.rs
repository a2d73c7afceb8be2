//! Which files hold secrets: passwords in properties, JAAS files, private keys.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::keys;
use super::values::Origin;
use super::{Config, Pem};

impl Config {
    /// Each file once, with what it holds in words.
    pub fn files_with_secrets(&self) -> Vec<(PathBuf, String)> {
        let mut files: BTreeMap<PathBuf, String> = BTreeMap::new();
        for (name, entry) in &self.values.entries {
            let holds = |key: &keys::Key| {
                key.sensitive() && (name == key.name || name.ends_with(&format!(".{}", key.name)))
            };
            let is_secret = name.ends_with("password") || keys::used().any(holds);
            if let (true, false, Origin::File { path, .. }) =
                (is_secret, entry.value.is_empty(), &entry.origin)
            {
                files.entry(path.into()).or_insert_with(|| format!("a secret ({name})"));
            }
        }
        let jaas = self.values.entries.get("odradek.jaas.file").map(|entry| entry.value.clone());
        for path in [jaas, self.values.jaas_file.clone()].into_iter().flatten() {
            files.entry(path.into()).or_insert_with(|| "users' passwords".to_owned());
        }
        for tls in self.listeners.iter().filter_map(|listener| listener.tls.as_ref()) {
            if let Pem::File(path) = &tls.key {
                files.entry(path.clone()).or_insert_with(|| "a private key".to_owned());
            }
        }
        files.into_iter().filter(|(path, _)| !path.as_os_str().is_empty()).collect()
    }

    /// `odradek.allow.unauthenticated.network`: listeners without login on the network are meant.
    pub fn allows_open_listeners(&self) -> bool {
        const KEY: &str = "odradek.allow.unauthenticated.network";
        let written = self.values.entries.get(KEY);
        written.is_some_and(|entry| keys::parse_bool(&entry.value) == Some(true))
    }
}
