//! Files with secrets that other users of this machine may read or change.
//!
//! The group's rights are left alone: `root:odradek` with 640 is how packages install such files.
//! Other systems than Unix have no such bits, and nothing is said there.

use std::path::Path;

use crate::config::Config;

/// A sentence for each, with the command that mends it.
#[cfg(unix)]
pub fn warnings(config: &Config) -> Vec<String> {
    let secret_files = config.secret_files().into_iter();
    let mut warnings: Vec<String> =
        secret_files.filter_map(|(path, what)| warning(&path, what)).collect();
    // Without a login anywhere, whoever is on this machine may read the topics as a client.
    let login = config.listeners.iter().any(|listener| listener.protocol.sasl());
    let open = mode(&config.log_dir).filter(|mode| login && mode & 0o007 != 0);
    if let Some(mode) = open {
        let path = config.log_dir.display();
        warnings.push(format!(
            "every user of this machine can look into the data folder {path} (mode {mode:03o}), \
             past all logins. Write: chmod o-rwx {path}"
        ));
    }
    warnings
}

/// The same for one file, which holds `what`.
#[cfg(unix)]
pub fn warning(path: &Path, what: &str) -> Option<String> {
    let mode = mode(path).filter(|mode| mode & 0o006 != 0)?;
    let path = path.display();
    Some(format!(
        "{path} holds {what}, and every user of this machine can read or change it (mode \
         {mode:03o}). Write: chmod o-rwx {path}"
    ))
}

#[cfg(unix)]
fn mode(path: &Path) -> Option<u32> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).ok().map(|metadata| metadata.permissions().mode() & 0o777)
}

#[cfg(not(unix))]
pub fn warning(_path: &Path, _what: &str) -> Option<String> {
    None
}

#[cfg(not(unix))]
pub fn warnings(_config: &Config) -> Vec<String> {
    Vec::new()
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::config::Sources;

    fn set(path: &Path, mode: u32) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_file_with_a_secret_and_a_data_folder_that_others_can_read_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let (file, jaas, key) = (path("server.properties"), path("jaas.conf"), path("key.pem"));
        let text = format!(
            "listeners=SASL_SSL://127.0.0.1:0\nlog.dirs={data}\nodradek.jaas.file={jaas}\n\
             ssl.keystore.location={key}\n\
             sasl.jaas.config=C required user_admin=\"secret\";\n",
            data = path("data").display(),
            jaas = jaas.display(),
            key = key.display(),
        );
        std::fs::create_dir(path("data")).unwrap();
        std::fs::write(&file, text).unwrap();
        std::fs::write(&jaas, "KafkaServer { C required user_bob=\"secret\"; };").unwrap();
        std::fs::write(&key, "").unwrap();
        let sources = Sources { file: Some(file.clone()), ..Sources::default() };
        let config = Config::load(&sources).unwrap();
        let all = [&file, &jaas, &key, &path("data")];
        let told = |mode| {
            all.iter().for_each(|path| set(path, mode));
            warnings(&config)
        };
        assert_eq!(told(0o750), Vec::<String>::new());
        let warnings = told(0o754);
        assert_eq!(warnings.len(), 4);
        for path in all {
            let fix = format!("Write: chmod o-rwx {}", path.display());
            assert!(warnings.iter().any(|warning| warning.ends_with(&fix)), "{warnings:#?}");
        }
    }

    #[test]
    fn a_file_without_a_secret_may_be_read_by_everybody() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("server.properties");
        std::fs::write(&file, "num.partitions=3\nsasl.jaas.config=\n").unwrap();
        set(&file, 0o644);
        let sources = Sources { file: Some(file), ..Sources::default() };
        assert_eq!(warnings(&Config::load(&sources).unwrap()), Vec::<String>::new());
    }
}
