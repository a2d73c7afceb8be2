use std::process::Command;

use odradek_broker::Broker;
use odradek_broker::config::Config;
use tempfile::TempDir;

use super::*;

fn machine() -> Machine {
    Machine {
        names: vec!["box".to_owned(), "box.local".to_owned()],
        addresses: vec!["192.168.1.20".parse().unwrap(), "fd00::20".parse().unwrap()],
    }
}

fn hosts(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn text(folder: &TempDir, name: &str) -> String {
    fs::read_to_string(folder.path().join(name)).unwrap()
}

#[test]
fn a_server_is_known_by_the_given_hosts_this_machines_and_the_loopback() {
    let folder = tempfile::tempdir().unwrap();
    let given = hosts(&["Kafka.example.net", "2001:DB8::1", "192.168.1.20"]);
    let issued = server(folder.path(), &given, &machine()).unwrap();
    let expected = [
        "kafka.example.net",
        "2001:db8::1",
        "192.168.1.20",
        "fd00::20",
        "box",
        "box.local",
        "localhost",
        "127.0.0.1",
        "::1",
    ];
    assert_eq!(issued.certificate.names, expected);
    assert!(issued.authority_is_new && !issued.renewed);
    assert!(issued.authority.is_root && issued.authority.is_authority);
    assert!(!issued.certificate.is_root && !issued.certificate.is_authority);
    assert_eq!(issued.certificate.issuer, issued.authority.subject);
    let days = |facts: &CertificateFacts| {
        (facts.not_after.as_second() - Timestamp::now().as_second()) / 86_400
    };
    // One day of each lies in the past.
    assert!((823..=824).contains(&days(&issued.certificate)), "{}", days(&issued.certificate));
    assert!((3651..=3652).contains(&days(&issued.authority)), "{}", days(&issued.authority));
}

#[test]
fn run_again_it_renews_by_the_same_authority_and_keeps_the_names() {
    let folder = tempfile::tempdir().unwrap();
    server(folder.path(), &hosts(&["kafka.example.net"]), &machine()).unwrap();
    let (ca, key, former) =
        (text(&folder, "ca.pem"), text(&folder, "ca.key"), text(&folder, "server.pem"));
    let moved = Machine { addresses: vec!["192.168.1.99".parse().unwrap()], ..machine() };
    let issued = server(folder.path(), &hosts(&["other.example.net"]), &moved).unwrap();
    assert!(issued.renewed && !issued.authority_is_new);
    assert_eq!((text(&folder, "ca.pem"), text(&folder, "ca.key")), (ca, key));
    assert_ne!(text(&folder, "server.pem"), former);
    assert_eq!(issued.certificate.names[..2], ["other.example.net", "kafka.example.net"]);
    assert!(issued.certificate.names.contains(&"192.168.1.99".to_owned()));
}

#[test]
fn half_an_authority_or_a_foreign_certificate_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let other = tempfile::tempdir().unwrap();
    server(folder.path(), &[], &machine()).unwrap();
    server(other.path(), &[], &Machine::default()).unwrap();
    let refused = || server(folder.path(), &[], &machine()).unwrap_err().to_string();

    let ours = text(&folder, "server.pem");
    fs::write(folder.path().join("server.pem"), text(&other, "server.pem")).unwrap();
    assert!(refused().contains("was not made here"), "{}", refused());
    fs::write(folder.path().join("server.pem"), ours).unwrap();

    fs::write(folder.path().join("ca.key"), text(&other, "ca.key")).unwrap();
    assert!(refused().contains("does not belong to"), "{}", refused());
    fs::remove_file(folder.path().join("ca.key")).unwrap();
    assert!(refused().contains("ca.key is missing"), "{}", refused());
    assert!(!folder.path().join("ca.key").exists());
}

#[cfg(unix)]
#[test]
fn what_holds_a_private_key_is_its_owners_only() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    server(folder.path(), &[], &machine()).unwrap();
    client(folder.path(), "laptop", &machine()).unwrap();
    for (name, expected) in
        [("ca.pem", 0o644), ("ca.key", 0o600), ("server.pem", 0o600), ("laptop.pem", 0o600)]
    {
        let mode = fs::metadata(folder.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, expected, "{name}");
    }
}

#[test]
fn names_that_no_certificate_can_hold_are_refused() {
    for host in ["", "a b", "host:9092", "http://host", "münchen.de", "a..b", "*"] {
        assert!(check_host(host).is_err(), "{host:?}");
    }
    for host in ["a.b", "*.example.net", "192.0.2.1", "2001:db8::1", "my_box"] {
        assert!(check_host(host).is_ok(), "{host:?}");
    }
    let folder = tempfile::tempdir().unwrap();
    for name in ["", "ca", "Server", "../x", ".x", "-x", "a b", "a/b"] {
        assert!(client(folder.path(), name, &machine()).is_err(), "{name:?}");
    }
}

/// The broker reads its PEM file when it opens the listener, and refuses what it cannot use.
#[tokio::test]
async fn the_broker_takes_the_file_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let issued = server(folder.path(), &[], &machine()).unwrap();
    let properties = format!(
        "listeners=SASL_SSL://127.0.0.1:0\nlog.dirs={}\nodradek.http.listen=\n\
         ssl.keystore.type=PEM\nssl.keystore.location={}\n\
         ssl.client.auth=requested\nssl.truststore.type=PEM\nssl.truststore.location={}\n",
        folder.path().join("data").display(),
        issued.path.display(),
        issued.authority_path.display(),
    );
    let config = Config::from_text("server.properties", &properties).unwrap();
    let broker = Broker::start(config).await.unwrap();
    assert_eq!(broker.listeners()[0].name, "SASL_SSL");
    broker.shutdown().await;
}

/// Strictly, as Python's `ssl` asks since 3.13. Says nothing where there is no openssl; the suite
/// `expose`, which has one, asks again.
#[test]
fn openssl_finds_the_chain_sound_and_the_host_in_it() {
    let folder = tempfile::tempdir().unwrap();
    server(folder.path(), &hosts(&["kafka.example.net"]), &machine()).unwrap();
    client(folder.path(), "laptop", &machine()).unwrap();
    let verify = |arguments: &[&str]| {
        let mut command = Command::new("openssl");
        command.current_dir(folder.path()).args(["verify", "-x509_strict", "-CAfile", "ca.pem"]);
        command.args(arguments).output().ok().map(|done| done.status.success())
    };
    for (arguments, expected) in [
        (&["-purpose", "sslserver", "-verify_hostname", "kafka.example.net", "server.pem"], true),
        (&["-purpose", "sslserver", "-verify_hostname", "other.example.net", "server.pem"], false),
        (&["-purpose", "sslserver", "-verify_ip", "192.168.1.20", "server.pem"], true),
        (&["-purpose", "sslclient", "-verify_depth", "1", "laptop.pem"], true),
        (&["-purpose", "sslserver", "-verify_depth", "1", "laptop.pem"], false),
    ] {
        let Some(accepted) = verify(arguments) else { return };
        assert_eq!(accepted, expected, "{arguments:?}");
    }
}
