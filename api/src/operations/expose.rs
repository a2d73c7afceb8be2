//! The `server.properties` of a server that others may reach: one listener, on every address, over
//! TLS, where everybody logs in.
//!
//! What a file says already stays, comments too; lines are only added, or commented out where they
//! say otherwise and the caller insists. `advertised.listeners` is not among the lines: the broker
//! finds the address for each connection, and goes on doing so when the machine's address changes.

use std::fs;
use std::io;
use std::net::{Ipv6Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use odradek_broker::config::properties::{self, PropertiesError, Property};
use rand::Rng;

use super::atomic_file::{Draft, Readers};

/// Also the name of the protocol, so that listener.security.protocol.map need not be written.
pub const LISTENER: &str = "SASL_SSL";

/// Letters and digits that are not mistaken for each other; nothing that a shell, a properties file
/// or a URL takes for its own.
const PASSWORD_ALPHABET: &[u8] = b"abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789";
/// 24 out of 56 characters: 139 bits.
const PASSWORD_LENGTH: usize = 24;

/// One line of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    pub key: &'static str,
    pub value: String,
}

/// What the file becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merged {
    pub text: String,
    pub added: Vec<Setting>,
    /// Lines that said otherwise, and are comments now.
    pub commented_out: Vec<Property>,
}

impl Merged {
    pub fn is_changed(&self) -> bool {
        !self.added.is_empty() || !self.commented_out.is_empty()
    }
}

#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    #[error(transparent)]
    Unreadable(#[from] PropertiesError),
    /// Lines that say otherwise.
    #[error("the configuration says otherwise")]
    Contradicted(Vec<Property>),
}

/// The lines that go into the file. `log_dir`: only where the file is new, because it says which
/// data a server started from any folder uses.
pub fn settings(port: u16, keystore: &Path, log_dir: Option<&Path>) -> Vec<Setting> {
    let host = if reaches_both_families() { "[::]" } else { "0.0.0.0" };
    let path = |path: &Path| path.display().to_string();
    let mut settings = vec![
        Setting { key: "listeners", value: format!("{LISTENER}://{host}:{port}") },
        Setting { key: "ssl.keystore.type", value: "PEM".to_owned() },
        Setting { key: "ssl.keystore.location", value: path(keystore) },
    ];
    settings.extend(log_dir.map(|dir| Setting { key: "log.dirs", value: path(dir) }));
    settings
}

/// Whether one socket takes IPv4 and IPv6 alike, as most systems have it. Tried, because it hangs
/// on the system, on how its kernel was started and on the container around it.
fn reaches_both_families() -> bool {
    let Ok(socket) = TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)) else { return false };
    let Ok(address) = socket.local_addr() else { return false };
    TcpStream::connect(("127.0.0.1", address.port())).is_ok()
}

pub fn merge(
    existing: Option<&str>,
    settings: &[Setting],
    insist: bool,
) -> Result<Merged, MergeError> {
    let properties = properties::parse(existing.unwrap_or_default())?;
    let said = |setting: &Setting| {
        properties.iter().any(|one| one.key == setting.key && means(&one.value, &setting.value))
    };
    let added: Vec<Setting> = settings.iter().filter(|one| !said(one)).cloned().collect();
    let against: Vec<Property> =
        properties.iter().filter(|one| contradicts(one, settings)).cloned().collect();
    if !insist && !against.is_empty() {
        return Err(MergeError::Contradicted(against));
    }
    let mut text = match existing {
        Some(existing) => without(existing, &against),
        None => "# The names are Apache Kafka's; `odradek check` says what is wrong with them.\n"
            .to_owned(),
    };
    if !added.is_empty() {
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        let day = Timestamp::now().strftime("%F");
        text += &format!("\n# odradek expose, {day}: everybody logs in, over TLS.\n");
        for Setting { key, value } in &added {
            text += &format!("{key}={}\n", value.replace('\\', "\\\\"));
        }
    }
    Ok(Merged { text, added, commented_out: against })
}

/// All three ways to write "every address" will do.
fn means(written: &str, wanted: &str) -> bool {
    let bare = |value: &str| {
        let (name, address) = value.trim().split_once("://")?;
        let port = ["[::]:", "0.0.0.0:", ":"].iter().find_map(|all| address.strip_prefix(all))?;
        Some((name.to_uppercase(), port.to_owned()))
    };
    written.trim() == wanted || bare(written).is_some_and(|one| bare(wanted) == Some(one))
}

/// Another value of a key of ours, or a key that makes ours mean something else.
fn contradicts(property: &Property, settings: &[Setting]) -> bool {
    const IN_THE_WAY: [&str; 5] = [
        "advertised.listeners",
        "ssl.keystore.key",
        "ssl.keystore.certificate.chain",
        "ssl.key.password",
        "controller.listener.names",
    ];
    let key = property.key.as_str();
    if let Some(setting) = settings.iter().find(|setting| setting.key == key) {
        // The data stays where it is.
        return key != "log.dirs" && !means(&property.value, &setting.value);
    }
    let unmapped = key == "listener.security.protocol.map"
        && !property.value.split(',').any(|pair| pair.trim() == "SASL_SSL:SASL_SSL");
    let prefix = "listener.name.";
    let other_listener = key.starts_with(prefix)
        && !key[prefix.len()..].to_uppercase().starts_with(&format!("{LISTENER}."));
    IN_THE_WAY.contains(&key) || unmapped || other_listener
}

/// The text with these properties, which may go on over several lines, as comments.
fn without(text: &str, against: &[Property]) -> String {
    let mut commented = String::with_capacity(text.len() + 64);
    let mut going_on = false;
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let begins = against.iter().any(|property| property.line == index + 1);
        if begins || going_on {
            commented.push_str("# ");
            let backslashes = line.trim_end_matches(['\n', '\r']).bytes().rev();
            going_on = backslashes.take_while(|byte| *byte == b'\\').count() % 2 == 1;
        }
        commented.push_str(line);
    }
    commented
}

/// The changed file on the disk beside its place, readable by whoever could read it before.
pub fn draft(path: &Path, text: &str) -> io::Result<Draft> {
    let former = fs::metadata(path).ok();
    let readers = if former.is_some() { Readers::Owner } else { Readers::Everybody };
    let draft = Draft::write(path, text.as_bytes(), readers)?;
    if let Some(former) = former {
        fs::set_permissions(draft.path(), former.permissions())?;
    }
    Ok(draft)
}

/// Keeps a copy of the file under a name with the time; `None`: there is none.
pub fn back_up(path: &Path) -> io::Result<Option<PathBuf>> {
    if !path.exists() {
        return Ok(None);
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let time = Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
    let copy = path.with_file_name(format!("{name}.{time}.bak"));
    fs::copy(path, &copy)?;
    Ok(Some(copy))
}

pub fn password() -> String {
    let mut random = rand::rng();
    let character =
        |_| char::from(PASSWORD_ALPHABET[random.random_range(0..PASSWORD_ALPHABET.len())]);
    (0..PASSWORD_LENGTH).map(character).collect()
}

#[cfg(test)]
mod tests {
    use odradek_broker::config::{Config, SecurityProtocol};

    use super::*;

    fn wanted() -> Vec<Setting> {
        settings(9092, Path::new("/etc/odradek/tls/server.pem"), None)
    }

    fn contradicted(text: &str) -> Vec<usize> {
        match merge(Some(text), &wanted(), false) {
            Err(MergeError::Contradicted(lines)) => lines.iter().map(|one| one.line).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_new_file_has_one_listener_for_everybody_with_login_and_tls() {
        let log_dir = Some(Path::new("/srv/odradek"));
        let settings = settings(9094, Path::new("/etc/tls/server.pem"), log_dir);
        let merged = merge(None, &settings, false).unwrap();
        let config = Config::from_text("server.properties", &merged.text).unwrap();
        let [listener] = &config.listeners[..] else { panic!("{:?}", config.listeners) };
        assert_eq!(listener.protocol, SecurityProtocol::SaslSsl);
        assert_eq!((listener.port, listener.is_loopback()), (9094, false));
        assert_eq!((listener.is_open(), &listener.advertised), (false, &None));
        assert_eq!(config.http_listen.as_deref(), Some("127.0.0.1:8080"));
        assert_eq!(config.log_dir, Path::new("/srv/odradek"));
        assert_eq!(config.warnings, Vec::<String>::new());
    }

    #[test]
    fn what_a_file_says_stays_and_a_second_time_nothing_is_added() {
        let text = "# mine\nlog.dirs=/data\nnum.partitions=4";
        let merged = merge(Some(text), &wanted(), false).unwrap();
        assert!(merged.text.starts_with("# mine\nlog.dirs=/data\nnum.partitions=4\n\n# odradek"));
        assert_eq!(merged.added, wanted());
        let again = merge(Some(&merged.text), &wanted(), false).unwrap();
        assert_eq!((again.is_changed(), &again.text), (false, &merged.text));
        // Written by hand, or on a machine without IPv6.
        for host in ["", "0.0.0.0", "[::]"] {
            let text = format!("listeners=SASL_SSL://{host}:9092\nssl.keystore.type=PEM\n");
            let merged = merge(Some(&text), &wanted(), false).unwrap();
            assert_eq!(merged.added.len(), 1, "{:?}", merged.added);
        }
    }

    #[test]
    fn lines_that_say_otherwise_are_named_and_become_comments_only_by_force() {
        let text = "listeners=PLAINTEXT://:9092\n\
                    advertised.listeners=PLAINTEXT://box:9092\n\
                    listener.name.plaintext.ssl.client.auth=none\n\
                    listener.security.protocol.map=PLAINTEXT:PLAINTEXT,\\\n  \
                    EXTERNAL:SASL_SSL\n\
                    num.partitions=3\n";
        assert_eq!(contradicted(text), [1, 2, 3, 4]);
        assert_eq!(contradicted("listeners=SASL_SSL://:9093\n"), [1]);
        let merged = merge(Some(text), &wanted(), true).unwrap();
        assert!(merged.text.contains("\n# listener.security.protocol.map="), "{}", merged.text);
        assert!(merged.text.contains("\n#   EXTERNAL:SASL_SSL\nnum.partitions=3\n"));
        let config = Config::from_text("server.properties", &merged.text).unwrap();
        assert_eq!(config.listeners.len(), 1);
        assert_eq!(config.topics.partitions, 3);
    }

    #[test]
    fn a_windows_path_comes_back_as_it_was() {
        let keystore = Path::new("C:\\ProgramData\\Odradek\\tls\\server.pem");
        let merged = merge(None, &settings(9092, keystore, None), false).unwrap();
        let properties = properties::parse(&merged.text).unwrap();
        let location = properties.iter().find(|one| one.key == "ssl.keystore.location").unwrap();
        assert_eq!(location.value, "C:\\ProgramData\\Odradek\\tls\\server.pem");
    }

    #[test]
    fn passwords_differ_and_need_no_quotes_anywhere() {
        let (one, other) = (password(), password());
        assert_ne!(one, other);
        assert_eq!(one.len(), 24);
        assert!(one.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    }
}
