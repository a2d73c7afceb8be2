use odradek_broker::auth::Mechanism;
use odradek_broker::config::{Config, SecurityProtocol, properties};

use super::*;
use crate::operations::certificates;
use crate::operations::machine::Machine;

const ALL: [Kind; 7] =
    [Kind::Python, Kind::Java, Kind::Spark, Kind::Databricks, Kind::Dotnet, Kind::Kcat, Kind::Go];

fn machine() -> Machine {
    Machine { names: vec!["box".to_owned()], addresses: vec!["192.168.1.20".parse().unwrap()] }
}

fn wanted() -> Wanted {
    Wanted { topic: "test".to_owned(), ..Wanted::default() }
}

fn of(text: &str, wanted: &Wanted) -> (Profile, Vec<String>) {
    let config = Config::from_text("server.properties", text).unwrap();
    profile(&config, &machine(), wanted).unwrap()
}

/// A folder with an authority and a certificate for this host; the lines that name it.
fn certified(host: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let issued = certificates::server(folder.path(), &[host.to_owned()], &machine()).unwrap();
    let lines = format!("ssl.keystore.type=PEM\nssl.keystore.location={}\n", issued.path.display());
    (folder, lines)
}

#[test]
fn without_a_configuration_clients_connect_to_this_machine_without_a_login() {
    let (profile, remarks) = of("", &wanted());
    assert_eq!(profile.bootstrap, "127.0.0.1:9092");
    assert_eq!((profile.protocol, profile.login), (SecurityProtocol::Plaintext, None));
    assert_eq!((profile.authority, remarks), (None, Vec::<String>::new()));
}

#[test]
fn the_listener_for_others_is_taken_with_its_login_its_port_and_its_authority() {
    let (folder, lines) = certified("kafka.example.net");
    let text = format!("listeners=PLAINTEXT://127.0.0.1:9092,SASL_SSL://:9094\n{lines}");
    let (profile, remarks) = of(&text, &Wanted { user: Some("alice".to_owned()), ..wanted() });
    assert_eq!(profile.bootstrap, "kafka.example.net:9094");
    assert_eq!(profile.protocol, SecurityProtocol::SaslSsl);
    assert_eq!(profile.login, Some((Mechanism::ScramSha512, "alice".to_owned())));
    let authority = std::fs::read_to_string(folder.path().join("ca.pem")).unwrap();
    assert_eq!(profile.authority, Some(authority.replace("\r\n", "\n")));
    assert_eq!(remarks, Vec::<String>::new());
}

#[test]
fn the_address_is_what_is_advertised_or_bound_or_this_machines() {
    let sasl = "listener.security.protocol.map=A:SASL_PLAINTEXT\n";
    for (text, expected) in [
        (
            "listeners=A://:9094\nadvertised.listeners=A://home.example.net:19094\n",
            "home.example.net:19094",
        ),
        ("listeners=A://192.168.7.7:9094\n", "192.168.7.7:9094"),
        ("listeners=A://0.0.0.0:9094\n", "192.168.1.20:9094"),
        ("listeners=A://[::1]:9094\n", "[::1]:9094"),
    ] {
        assert_eq!(of(&format!("{text}{sasl}"), &wanted()).0.bootstrap, expected, "{text}");
    }
}

#[test]
fn mechanism_and_user_are_those_of_the_configuration() {
    let text = "listeners=SASL_PLAINTEXT://:9094\nsasl.enabled.mechanisms=PLAIN\n\
                sasl.jaas.config=x.PlainLoginModule required user_bob=\"hunter2\";\n";
    let (profile, remarks) = of(text, &wanted());
    assert_eq!(profile.login, Some((Mechanism::Plain, "bob".to_owned())));
    assert_eq!(remarks, Vec::<String>::new());
    for kind in ALL {
        assert!(!snippet(kind, &profile).contains("hunter2"), "{kind:?}");
    }
    let text = "listeners=SASL_PLAINTEXT://:9094\nsasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256\n";
    let (profile, remarks) = of(text, &wanted());
    assert_eq!(profile.login, Some((Mechanism::ScramSha256, "kafka".to_owned())));
    assert!(remarks[0].contains("--user NAME"), "{remarks:?}");
}

#[test]
fn what_cannot_work_is_said() {
    let (_folder, lines) = certified("kafka.example.net");
    let text = format!("listeners=SSL://:9094\n{lines}");
    let wanted_host = |host: &str| Wanted { host: Some(host.to_owned()), ..wanted() };
    assert_eq!(of(&text, &wanted_host("KAFKA.example.net")).1, Vec::<String>::new());
    let (profile, remarks) = of(&text, &wanted_host("other.example.net"));
    assert_eq!(profile.bootstrap, "other.example.net:9094");
    assert!(remarks[0].contains("tls init --host other.example.net"), "{remarks:?}");

    let refused = |text: &str, wanted: &Wanted| {
        let config = Config::from_text("server.properties", text).unwrap();
        profile::profile(&config, &machine(), wanted).unwrap_err().to_string()
    };
    let nobody = Wanted { listener: Some("EXTERNAL".to_owned()), ..wanted() };
    assert!(refused("", &nobody).contains("there are PLAINTEXT"));
    assert!(refused("listeners=PLAINTEXT://127.0.0.1:0\n", &wanted()).contains("any free port"));
    let quoted = Wanted { user: Some("a\"; rm -rf ~; \"".to_owned()), ..wanted() };
    assert!(refused("listeners=SASL_PLAINTEXT://:9094\n", &quoted).contains("as it is"));
}

/// Each client's own words for protocol, mechanism, user and authority, from its documentation.
#[test]
fn every_snippet_says_what_the_listener_says_in_its_clients_own_words() {
    let (_folder, lines) = certified("kafka.example.net");
    let text = format!("listeners=SASL_SSL://:9094\n{lines}");
    let wanted = Wanted { user: Some("alice".to_owned()), topic: "stocks".to_owned(), ..wanted() };
    let (profile, _) = of(&text, &wanted);
    let words: [(Kind, &[&str]); 7] = [
        (Kind::Python, &["\"SASL_SSL\"", "\"SCRAM-SHA-512\"", "cadata=CA"]),
        (Kind::Java, &["=SASL_SSL", "=SCRAM-SHA-512", "ssl.truststore.certificates=-----BEGIN"]),
        (
            Kind::Spark,
            &[
                "\"kafka.security.protocol\", \"SASL_SSL\"",
                "'org.apache.kafka.common.security.scram.ScramLoginModule required",
                "\"kafka.ssl.truststore.certificates\", CA",
            ],
        ),
        (
            Kind::Databricks,
            &[
                "'kafkashaded.org.apache.kafka.common.security.scram.ScramLogin",
                "dbutils.secrets.get",
            ],
        ),
        (Kind::Dotnet, &["SecurityProtocol.SaslSsl", "SaslMechanism.ScramSha512", "SslCaPem"]),
        (Kind::Kcat, &["=SASL_SSL", "=SCRAM-SHA-512", "ssl.ca.location=odradek-ca.pem"]),
        (Kind::Go, &["kgo.DialTLSConfig(security)", ".AsSha512Mechanism()", "RootCAs"]),
    ];
    for (kind, words) in words {
        let text = snippet(kind, &profile);
        for word in ["kafka.example.net:9094", "alice", "stocks", "-----END CERTIFICATE-----"] {
            assert!(text.contains(word), "{kind:?}: {word}\n{text}");
        }
        for word in words {
            assert!(text.contains(word), "{kind:?}: {word}\n{text}");
        }
        let asked = kind == Kind::Databricks || text.contains(PASSWORD);
        assert!(asked, "{kind:?} does not ask for the password\n{text}");
    }
}

/// The shell joins the lines, and so does a properties file: either way the broker's own reader of
/// such files finds the certificate whole.
#[test]
fn javas_properties_hold_the_certificate_in_one_value() {
    let (_folder, lines) = certified("kafka.example.net");
    let (profile, _) = of(&format!("listeners=SASL_SSL://:9094\n{lines}"), &wanted());
    let text = snippet(Kind::Java, &profile);
    let file = text.split("<<EOF\n").nth(1).and_then(|rest| rest.split("EOF\n").next()).unwrap();
    for file in [file.to_owned(), file.replace("\\\n", "")] {
        let properties = properties::parse(&file).unwrap();
        let value = |key: &str| &properties.iter().find(|one| one.key == key).unwrap().value;
        let authority = profile.authority.as_deref().unwrap();
        let words: Vec<&str> = value("ssl.truststore.certificates").split_whitespace().collect();
        assert_eq!(words, authority.split_whitespace().collect::<Vec<_>>());
        assert_eq!(value("security.protocol"), "SASL_SSL");
        assert_eq!(properties.len(), 5);
    }
}

#[test]
fn a_listener_that_asks_for_certificates_is_shown_one_by_every_client() {
    let (folder, lines) = certified("kafka.example.net");
    let text = format!(
        "listeners=SSL://:9094\n{lines}ssl.client.auth=required\nssl.truststore.type=PEM\n\
         ssl.truststore.location={}\n",
        folder.path().join("ca.pem").display()
    );
    let (profile, _) = of(&text, &wanted());
    assert!(profile.client_certificate && profile.login.is_none());
    for kind in ALL {
        let text = snippet(kind, &profile);
        assert!(text.contains("client.pem"), "{kind:?}\n{text}");
        assert!(!text.contains(PASSWORD), "{kind:?}\n{text}");
    }
}

#[test]
fn an_authority_in_a_file_beside_the_certificate_is_found() {
    let (folder, lines) = certified("kafka.example.net");
    let chain = folder.path().join("server.pem");
    let pem = std::fs::read_to_string(&chain).unwrap();
    let end = pem.rfind("-----BEGIN CERTIFICATE-----").unwrap();
    let (own, authority) = pem.split_at(end);
    std::fs::write(&chain, own).unwrap();
    let text = format!("listeners=SSL://:9094\n{lines}");
    assert_eq!(of(&text, &wanted()).0.authority.as_deref(), Some(authority));

    std::fs::rename(folder.path().join("ca.pem"), folder.path().join("elsewhere.pem")).unwrap();
    let (profile, remarks) = of(&text, &wanted());
    assert_eq!(profile.authority, None);
    assert!(remarks[0].contains("--ca FILE"), "{remarks:?}");
    let given = Wanted { authority: Some(folder.path().join("elsewhere.pem")), ..wanted() };
    assert_eq!(of(&text, &given).0.authority.as_deref(), Some(authority));
}
