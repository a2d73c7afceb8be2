use std::collections::BTreeSet;

use super::values::{Reader, Sources, Values};
use super::*;
use crate::auth::Mechanism;

fn load(text: &str) -> Config {
    Config::from_text("server.properties", text).unwrap_or_else(|problems| {
        panic!("{}", problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    })
}

fn problems(text: &str) -> Vec<String> {
    let problems = Config::from_text("server.properties", text).expect_err(text);
    problems.iter().map(ToString::to_string).collect()
}

/// The one problem of a text.
fn problem(text: &str) -> String {
    let mut all = problems(text);
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

#[test]
fn without_a_configuration_only_this_machine_is_served() {
    let config = Config::defaults();
    assert_eq!(config.listeners.len(), 1);
    let listener = &config.listeners[0];
    assert_eq!((listener.host.as_str(), listener.port), ("127.0.0.1", 9092));
    assert!(listener.is_loopback() && !listener.is_open());
    assert_eq!(config.http_listen.as_deref(), Some("127.0.0.1:8080"));
    assert_eq!(config.log_dir, Path::new("odradek-data"));
    assert_eq!((config.node_id, config.durability), (1, Durability::Sync));
    assert!(config.warnings.is_empty() && config.notes.is_empty(), "{config:?}");
    // Kafka's documented defaults where ours do not differ.
    assert_eq!(config.topics.settings.retention_ms, Some(168 * 3_600_000));
    assert_eq!(config.topics.settings.message_bytes_max, 1_048_588);
    assert_eq!(config.limits.request_bytes_max, 104_857_600);
    assert_eq!(config.groups.session_timeout_ms_min, 6_000);
    assert_eq!(config.groups.session_timeout_ms_max, 1_800_000);
    assert_eq!(config.groups.offsets_retention_ms, 7 * 24 * 3_600_000);
}

/// old-system.md, "Insert this lines", verbatim.
const UBUNTU: &str = "
listeners=INTERNAL://0.0.0.0:19092,EXTERNAL://0.0.0.0:9092
listener.security.protocol.map=INTERNAL:PLAINTEXT,EXTERNAL:PLAINTEXT
advertised.listeners=INTERNAL://192.168.2.149:19092,EXTERNAL://203.0.113.7:9092
inter.broker.listener.name=INTERNAL
";

#[test]
fn the_old_ubuntu_set_up_opens_both_listeners_and_warns_that_there_is_no_login() {
    let config = load(UBUNTU);
    let seen: Vec<_> = config
        .listeners
        .iter()
        .map(|l| (l.name.as_str(), l.host.as_str(), l.port, l.advertised.clone().unwrap()))
        .collect();
    let internal = ("INTERNAL", "0.0.0.0", 19092, ("192.168.2.149".to_owned(), 19092));
    let external = ("EXTERNAL", "0.0.0.0", 9092, ("203.0.113.7".to_owned(), 9092));
    assert_eq!(seen, [internal, external]);
    assert!(config.warnings[0].contains("INTERNAL://0.0.0.0:19092 and EXTERNAL://0.0.0.0:9092"));
    assert!(config.notes[0].contains("inter.broker.listener.name"), "{:?}", config.notes);
    let meant = format!("{UBUNTU}odradek.allow.unauthenticated.network=true");
    assert!(load(&meant).warnings.is_empty());
}

/// The whole of `config/server.properties` of Kafka 3.4.0 with the old lines at its end.
const KAFKA_3_4: &str = "
# The id of the broker. This must be set to a unique integer for each broker.
broker.id=0
#listeners=PLAINTEXT://:9092
num.network.threads=3
num.io.threads=8
socket.send.buffer.bytes=102400
socket.receive.buffer.bytes=102400
socket.request.max.bytes=104857600
log.dirs=/var/tmp/none-there/kafka-logs
num.partitions=1
num.recovery.threads.per.data.dir=1
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
#log.flush.interval.messages=10000
log.retention.hours=168
#log.retention.bytes=1073741824
#log.segment.bytes=1073741824
log.retention.check.interval.ms=300000
zookeeper.connect=localhost:2181
zookeeper.connection.timeout.ms=18000
group.initial.rebalance.delay.ms=0
";

#[test]
fn kafkas_own_file_of_3_4_loads_and_what_means_nothing_is_listed_once() {
    let config = load(&format!("{KAFKA_3_4}{UBUNTU}"));
    assert_eq!(config.node_id, 0);
    assert_eq!(config.log_dir, Path::new("/var/tmp/none-there/kafka-logs"));
    let notes = config.notes.join("\n");
    for key in ["zookeeper.connection", "num.io.threads", "offsets.topic.replication.factor"] {
        assert_eq!(notes.matches(key).count(), 1, "{key}: {notes}");
    }
    let alone = load(KAFKA_3_4);
    assert!(alone.listeners[0].is_loopback());
    assert!(alone.notes.join("\n").contains("listeners is not set"));
}

/// The listener part of `config/server.properties` of Kafka 4.x (KRaft, combined).
#[test]
fn kafkas_kraft_file_loads_without_opening_the_controllers_listener() {
    let config = load(
        "process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=localhost:9093
listeners=PLAINTEXT://:9092,CONTROLLER://:9093
inter.broker.listener.name=PLAINTEXT
advertised.listeners=PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,\
SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
log.segment.bytes=1073741824
",
    );
    assert_eq!(config.listeners.len(), 1);
    assert_eq!(config.listeners[0].advertised, Some(("localhost".to_owned(), 9092)));
    assert!(config.notes.join("\n").contains("CONTROLLER"));
}

/// The way that the documents which helped the old set-up's authors write it.
#[test]
fn a_pasted_sasl_plaintext_set_up_gives_its_listener_and_users() {
    let config = load(
        r#"listeners=SASL_PLAINTEXT://0.0.0.0:9092
advertised.listeners=SASL_PLAINTEXT://ds04.dnsdojo.org:9092
security.inter.broker.protocol=SASL_PLAINTEXT
sasl.mechanism.inter.broker.protocol=PLAIN
sasl.enabled.mechanisms=PLAIN
authorizer.class.name=kafka.security.authorizer.AclAuthorizer
allow.everyone.if.no.acl.found=true
super.users=User:admin
listener.name.sasl_plaintext.plain.sasl.jaas.config=\
    org.apache.kafka.common.security.plain.PlainLoginModule required \
    username="admin" \
    password="password" \
    user_admin="password" \
    user_alice="alice-secret";
"#,
    );
    let listener = &config.listeners[0];
    assert_eq!(listener.protocol, SecurityProtocol::SaslPlaintext);
    assert_eq!(listener.mechanisms, [Mechanism::Plain]);
    assert_eq!(listener.advertised, Some(("ds04.dnsdojo.org".to_owned(), 9092)));
    let users: Vec<_> =
        config.users.iter().map(|u| (u.name.as_str(), u.password.expose())).collect();
    assert_eq!(users, [("admin", "password"), ("alice", "alice-secret")]);
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    assert!(config.access.enabled && config.access.everyone_without_rule);
    assert!(config.access.super_users.iter().eq(["User:admin"]));
    assert!(!format!("{config:?}").contains("alice-secret"));
}

#[test]
fn a_jaas_file_is_read_by_key_and_by_the_jvms_option() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kafka_server_jaas.conf");
    let text = "KafkaServer {\n org.apache.kafka.common.security.plain.PlainLoginModule required\n \
                username=\"admin\"\n password=\"password\"\n user_admin=\"password\";\n};\n";
    std::fs::write(&path, text).unwrap();
    let shown = path.display().to_string();
    let key =
        Sources { overrides: vec![format!("odradek.jaas.file={shown}")], ..Sources::default() };
    let option = format!("-Xmx1g -Djava.security.auth.login.config={shown}");
    let variable =
        Sources { environment: vec![("KAFKA_OPTS".into(), option)], ..Sources::default() };
    for sources in [key, variable] {
        let config = Config::load(&sources).unwrap();
        assert_eq!(config.users[0].name, "admin");
        assert_eq!(config.users[0].password.expose(), "password");
    }
}

#[test]
fn a_jaas_file_that_is_not_there_is_named_with_where_its_path_was_written() {
    let option = r"-Djava.security.auth.login.config=E:\Apps\config\kafka_server_jaas.conf";
    let sources = Sources {
        environment: vec![("KAFKA_OPTS".to_owned(), option.to_owned())],
        ..Sources::default()
    };
    let problems = Config::load(&sources).unwrap_err();
    let text = problems[0].to_string();
    assert!(text.contains("kafka_server_jaas.conf: cannot be read"), "{text}");
    assert!(text.contains("KAFKA_OPTS") && !text.contains("user_NAME"), "{text}");
}

#[test]
fn a_jaas_file_pasted_into_the_properties_is_one_problem() {
    let text = "listners=X
KafkaServer {
    PlainLoginModule required
    username=\"admin\"
    user_admin=\"secret1\";
};
Client {
    PlainLoginModule required
    username=\"admin\";
};
num.partitons=2";
    let all = problems(text);
    let lines: Vec<&str> = all.iter().map(|p| p.split(' ').next().unwrap()).collect();
    let expected = ["server.properties:1:", "server.properties:2:", "server.properties:11:"];
    assert_eq!(lines, expected, "{all:?}");
    assert!(all[1].contains("odradek.jaas.file=") && !all[1].contains("secret1"), "{}", all[1]);
    assert!(problem("KafkaServer{\nuser_admin=\"secret1\";\n};").contains("a JAAS file"));
}

#[test]
fn a_file_of_an_editor_on_windows_is_read_as_java_reads_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("server.properties");
    let sources = Sources { file: Some(file.clone()), ..Sources::default() };
    // 0xfc is an umlaut in Latin-1 and no UTF-8.
    std::fs::write(&file, b"# f\xfcr zu Hause\r\nnum.partitions=4\r\n").unwrap();
    assert_eq!(Config::load(&sources).unwrap().topics.partitions, 4);
    std::fs::write(&file, b"\xff\xfen\0u\0m\0").unwrap();
    let problems = Config::load(&sources).unwrap_err();
    let text = problems[0].to_string();
    assert!(text.contains("is UTF-16") && text.contains("save it as UTF-8"), "{text}");
}

#[test]
fn a_jaas_line_without_users_is_explained_and_two_passwords_are_refused() {
    let client = "sasl.jaas.config=PlainLoginModule required username=\"a\" password=\"b\";";
    let config = load(client);
    assert!(config.users.is_empty());
    assert!(config.warnings[0].contains("user_NAME=\"PASSWORD\""), "{:?}", config.warnings);
    let two = "listeners=A://:1,B://:2
listener.security.protocol.map=A:SASL_PLAINTEXT,B:SASL_PLAINTEXT
listener.name.a.plain.sasl.jaas.config=M required user_x=\"secret1\";
listener.name.b.plain.sasl.jaas.config=M required user_x=\"secret2\";";
    let problem = problem(two);
    assert!(problem.contains("server.properties:4") && problem.contains("the user x"), "{problem}");
    assert!(!problem.contains("secret"), "{problem}");
}

#[test]
fn precedence_is_override_then_environment_then_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("server.properties");
    std::fs::write(&file, "num.partitions=2\nnode.id=2\nbroker.rack=attic\n").unwrap();
    let variable = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let sources = Sources {
        file: Some(file),
        environment: vec![
            variable("KAFKA_NUM_PARTITIONS", "3"),
            variable("KAFKA_NODE_ID", "3"),
            variable("KAFKA_ADVERTISED_LISTENERS", "PLAINTEXT://kafka:9092"),
            variable("ODRADEK_HTTP_LISTEN", "127.0.0.1:1"),
            variable("KAFKA_HEAP_OPTS", "-Xmx1G"),
            variable("KAFKA_VERSION", "4.3"),
            variable("KAFKA_LISTENER_NAME_PLAINTEXT_SSL_CLIENT_AUTH", "none"),
            variable("PATH", "/bin"),
        ],
        overrides: vec!["num.partitions=4".to_owned()],
    };
    let config = Config::load(&sources).unwrap();
    assert_eq!((config.topics.partitions, config.node_id), (4, 3));
    assert_eq!(config.rack.as_deref(), Some("attic"));
    assert_eq!(config.listeners[0].advertised, Some(("kafka".to_owned(), 9092)));
    assert_eq!(config.http_listen.as_deref(), Some("127.0.0.1:1"));

    let slip = Sources {
        environment: vec![variable("KAFKA_ADVERTISED_LISTENER", "x")],
        ..Sources::default()
    };
    let problems = Config::load(&slip).unwrap_err();
    assert!(problems[0].to_string().contains("is advertised.listeners meant?"), "{problems:?}");
}

#[test]
fn log_retention_follows_kafkas_precedence_of_units() {
    let retention = |text: &str| load(text).topics.settings.retention_ms;
    assert_eq!(retention("log.retention.hours=1"), Some(3_600_000));
    assert_eq!(retention("log.retention.hours=1\nlog.retention.minutes=2"), Some(120_000));
    assert_eq!(retention("log.retention.minutes=2\nlog.retention.ms=3"), Some(3));
    assert_eq!(retention("log.retention.ms=-1\nlog.retention.hours=1"), None);
    assert_eq!(retention("log.retention.hours=-1"), None);
    assert_eq!(load("log.roll.hours=2").topics.settings.segment_ms, 7_200_000);
}

/// Each text, and what the one problem says (Kafka's own words where Kafka has them).
#[test]
fn what_cannot_work_is_refused_with_its_line_and_what_to_write() {
    let cases: &[(&str, &[&str])] = &[
        ("a=1\nlistener=X", &["server.properties:1: a: unknown"]),
        (
            "num.partition=3",
            &["server.properties:1: num.partition: unknown", "Write num.partitions=3, else"],
        ),
        ("ssl.key.passwort=hunter2", &["is ssl.key.password meant? Else take the line out"]),
        ("\n\nnum.partitions=many", &[":3: num.partitions: \"many\" is not a whole number"]),
        ("num.partitions=0", &["0 is less than 1"]),
        ("auto.create.topics.enable=yes", &["neither true nor false"]),
        ("advertised.listeners=PLAINTEXT://0.0.0.0:9092", &["nonroutable meta-address 0.0.0.0"]),
        ("advertised.listeners=LAN://h:9092", &["equal to or a subset of", "add LAN://:9092"]),
        (
            "advertised.listeners=PLAINTXT://h:9092",
            &["equal to or a subset of", "is PLAINTEXT meant? Write PLAINTEXT://h:9092"],
        ),
        (
            "listeners=LAN://:9092",
            &[
                "No security protocol defined for listener LAN",
                "write listener.security.protocol.map=LAN:SASL_PLAINTEXT (or",
            ],
        ),
        (
            "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,\nlisteners=LAN://:9092",
            &["listener.security.protocol.map=PLAINTEXT:PLAINTEXT,LAN:SASL_PLAINTEXT"],
        ),
        (
            "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,PLAINTEXT:SSL",
            &["PLAINTEXT has two protocols"],
        ),
        (
            "listeners=A://:1,B://:1\nlistener.security.protocol.map=A:SSL,B:PLAINTEXT\n\
             listener.name.a.ssl.keystore.location=x.pem",
            &["Each listener must have a different port: 1", "listeners=A://:1,B://:2"],
        ),
        ("listeners=PLAINTEXT://:1,PLAINTEXT://:2", &["Each listener must have a different name"]),
        ("listeners=9092", &["not of the form NAME://host:port"]),
        ("listeners=PLAINTEXT://:99999", &["not of the form NAME://host:port"]),
        ("listener.security.protocol.map=PLAINTEXT:PLAIN", &["not of the form NAME:PROTOCOL"]),
        (
            "listeners=SASL_PLAINTEXT://:1\nsasl.enabled.mechanisms=GSSAPI",
            &[":2: sasl.enabled.mechanisms: GSSAPI", "sasl.enabled.mechanisms=PLAIN"],
        ),
        ("listeners=SSL://:1", &["has no certificate", "ssl.keystore.type=PEM"]),
        (
            "listeners=SSL://:1\nssl.keystore.location=/etc/kafka.server.keystore.jks",
            &["keytool -importkeystore -srckeystore /etc/kafka.server.keystore.jks", "PEM"],
        ),
        (
            "listeners=SSL://:1\nssl.keystore.location=a.p12\nssl.keystore.type=PKCS12",
            &["openssl pkcs12 -in a.p12 -nodes -out server.pem"],
        ),
        (
            "listeners=SSL://:1\nssl.keystore.location=a.pem\nssl.key.password=hunter2",
            &["an encrypted private key is not read"],
        ),
        (
            "listeners=SSL://:1\nssl.keystore.location=a.pem\nssl.client.auth=required",
            &["trusts no authority", "ssl.truststore.location=ca.pem"],
        ),
        (
            "listeners=SSL://:1\nssl.keystore.location=a.pem\nssl.enabled.protocols=TLSv1.1",
            &["\"TLSv1.1\" cannot be offered"],
        ),
        (
            "authorizer.class.name=x.Y",
            &["x.Y cannot be loaded", "metadata.authorizer.StandardAuthorizer"],
        ),
        ("super.users=alice", &["\"alice\" is not of the form User:NAME"]),
        ("ssl.cipher.suites=TLS_X", &["cannot be honoured"]),
        ("advertised.host.name=h", &["Kafka dropped it in 3.0"]),
        ("listener.name.lan.ssl.client.auth=none", &["there is no listener named lan"]),
        ("listener.name.plaintext.num.partitions=2", &["holds for the whole broker"]),
        ("log.dirs=a,b", &["more than one folder"]),
        ("node.id=1\nbroker.id=2", &["node.id is 1 and broker.id is 2"]),
        ("log.cleanup.policy=keep", &["neither delete nor compact"]),
        ("odradek.http.listen=8080", &["not of the form host:port"]),
        ("group.min.session.timeout.ms=2000000", &["is above group.max.session.timeout.ms"]),
        ("sasl.jaas.config=M required user_a=\"hunter2\"", &["the semicolon", "is missing"]),
        ("a=\\u12", &["server.properties:1: \\u needs four hexadecimal digits"]),
    ];
    for (text, expected) in cases {
        let all = problems(text).join("\n");
        for part in *expected {
            assert!(all.contains(part), "{text}\n  gives {all}\n  without {part}");
        }
        assert!(!all.contains("hunter2"), "{all}");
    }
}

#[test]
fn all_problems_are_told_at_once_in_the_order_of_the_file() {
    let all = problems("num.partitions=x\nlistner=1\nauto.create.topics.enable=2");
    let lines: Vec<&str> = all.iter().map(|p| p.split(' ').next().unwrap()).collect();
    let expected = ["server.properties:1:", "server.properties:2:", "server.properties:3:"];
    assert_eq!(lines, expected);
}

#[test]
fn a_folder_of_an_apache_kafka_is_never_taken_over() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("meta.properties"), "cluster.id=x\n").unwrap();
    let text = format!("log.dirs={}", folder.path().display()).replace('\\', "/");
    assert!(problem(&text).contains("holds the data of an Apache Kafka"));
}

#[test]
fn listeners_take_their_own_settings_before_the_common_ones() {
    let config = load(
        "listeners=IN://localhost:1,OUT://[::1]:2
listener.security.protocol.map=IN:SASL_PLAINTEXT,OUT:SASL_SSL
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256
listener.name.OUT.sasl.enabled.mechanisms=SCRAM-SHA-512
ssl.keystore.type=PEM
ssl.keystore.location=common.pem
listener.name.out.ssl.keystore.location=out.pem
listener.name.out.ssl.truststore.certificates=-----BEGIN CERTIFICATE-----
listener.name.out.ssl.client.auth=required
listener.name.out.ssl.enabled.protocols=TLSv1.3
",
    );
    let [inner, outer] = &config.listeners[..] else { panic!("two listeners") };
    assert_eq!(inner.mechanisms, [Mechanism::Plain, Mechanism::ScramSha256]);
    assert!(inner.tls.is_none() && inner.is_loopback());
    assert_eq!((outer.host.as_str(), outer.port), ("::1", 2));
    assert_eq!(outer.mechanisms, [Mechanism::ScramSha512]);
    let tls = outer.tls.as_ref().unwrap();
    assert_eq!(tls.key, Pem::File("out.pem".into()));
    assert_eq!((tls.client_auth, tls.tls12, tls.tls13), (ClientAuth::Required, false, true));
    assert!(matches!(tls.truststore, Some(Pem::Inline(_))));
}

#[test]
fn a_secret_on_the_command_line_is_warned_of_and_never_repeated() {
    let line = "sasl.jaas.config=C required user_a=\"hunter2\";";
    let sources = Sources { overrides: vec![line.to_owned()], ..Sources::default() };
    assert!(!format!("{sources:?}").contains("hunter2"));
    let warnings = Config::load(&sources).unwrap().warnings.join("\n");
    assert!(warnings.contains("can read the command line"), "{warnings}");
    assert!(warnings.contains("KAFKA_SASL_JAAS_CONFIG"), "{warnings}");
    assert!(!warnings.contains("hunter2"), "{warnings}");
    let slip = line.replace('=', ":");
    let sources = Sources { overrides: vec![slip], ..Sources::default() };
    let problem = Config::load(&sources).unwrap_err().remove(0).to_string();
    assert!(problem.contains("\"sasl.jaas.config\" is not of the form"), "{problem}");
    assert!(!problem.contains("hunter2"), "{problem}");
}

/// With a listener's prefix, and for keys that nothing here knows.
#[test]
fn secrets_set_while_the_broker_runs_are_in_no_description() {
    let secret = |name: &str| (name.to_owned(), "hunter2".to_owned());
    let set = Overrides::from([
        secret("listener.name.out.ssl.keystore.key"),
        secret("listener.name.out.plain.sasl.jaas.config"),
        secret("sasl.jaas.config"),
        secret("ssl.truststore.password"),
    ]);
    let levels = Levels { broker: set.clone(), defaults: set };
    let config = Config { levels, ..Config::defaults() };
    assert!(!format!("{config:?}").contains("hunter2"));
    for rows in [config.describe_broker(), config.describe_broker_defaults()] {
        assert!(!format!("{rows:?}").contains("hunter2"));
        let shown = rows.iter().filter(|row| keys::is_sensitive(&row.name));
        assert!(shown.clone().count() >= 4 && shown.clone().all(|row| row.sensitive));
    }
}

/// The table promises that something reads each used key; whoever adds a row adds its reader.
#[test]
fn every_key_marked_as_used_is_read() {
    let mut values = Values::default();
    let text = "listeners=SASL_SSL://:1\nssl.keystore.location=x.pem\nlog.retention.ms=5";
    assert!(values.add_file("x", text).is_none());
    let reader = Reader::new(&values);
    let _ = resolve(&reader);
    let asked = reader.asked();
    let used: BTreeSet<&str> = keys::used().map(|key| key.name).collect();
    assert_eq!(asked, used);
}

/// What configuration resolves must be acted on: each field of its structs is read somewhere
/// outside of it, in this package or by the program. (That it is acted on rightly is for other
/// tests.)
#[test]
fn every_field_of_the_configuration_is_read_by_the_broker() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut readers = String::new();
    let mut folders = vec![source.clone(), source.join("../../api/src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && path != source.join("config") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                readers.push_str(text.split("#[cfg(test)]").next().unwrap());
            }
        }
    }
    let is_read = |field: &str| {
        let read = format!(".{field}");
        let behind = readers.split(&read).skip(1);
        let mut next = behind.map(|rest| rest.chars().next());
        next.any(|c| !c.is_some_and(|c| c.is_alphanumeric() || c == '_'))
    };
    for file in ["mod.rs", "topic.rs", "group.rs", "consumer_groups.rs", "client_metrics.rs"] {
        let text = std::fs::read_to_string(source.join("config").join(file)).unwrap();
        let fields = text.lines().filter_map(|line| line.strip_prefix("    pub "));
        for field in fields.filter_map(|line| Some(line.split_once(": ")?.0)) {
            if field.chars().all(|c| c.is_ascii_lowercase() || c == '_') {
                assert!(is_read(field), "nothing reads {field} of config/{file}");
            }
        }
    }
}

#[test]
fn the_sample_file_loads_and_with_its_comments_removed_gives_the_defaults() {
    let sample = sample_file();
    let comments = sample.lines().filter(|line| line.starts_with("# "));
    assert!(comments.map(str::len).all(|bytes| bytes <= 100), "{sample}");
    load(&sample);
    let active: String = sample
        .lines()
        .filter_map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with([' ', '#'])))
        .filter(|line| !line.ends_with('='))
        .map(|line| format!("{line}\n"))
        .collect();
    let (written, default) = (load(&active), Config::defaults());
    assert_eq!(written.listeners, default.listeners);
    assert_eq!(written.topics, default.topics);
    assert_eq!(written.groups, default.groups);
    assert_eq!(written.limits, default.limits);
}

#[test]
fn a_topic_takes_its_own_settings_over_the_brokers_and_refuses_what_it_does_not_know() {
    let config = load("log.retention.hours=1\nlog.segment.bytes=1000");
    let given = |pairs: &[(&str, &str)]| {
        let map = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        config.topic_settings(&map)
    };
    let settings =
        given(&[("retention.bytes", "5"), ("cleanup.policy", "compact,delete")]).unwrap();
    assert_eq!(settings.retention_ms, Some(3_600_000));
    assert_eq!((settings.retention_bytes, settings.segment_bytes), (Some(5), 1000));
    assert_eq!(settings.cleanup, CleanupPolicy { delete: true, compact: true });
    for (name, value, expected) in [
        ("retention.m", "1", "Unknown topic config name: retention.m (is retention.ms meant?)"),
        ("retention.ms", "x", "Invalid value for configuration retention.ms"),
        ("cleanup.policy", "keep", "neither delete nor compact"),
        ("message.timestamp.type", "Now", "is none of: CreateTime, LogAppendTime"),
    ] {
        let error = given(&[(name, value)]).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn describe_configs_names_source_synonyms_and_hides_secrets() {
    use super::describe::Source;
    let config = load(
        "log.retention.hours=1\nlog.roll.ms=9000\nsasl.jaas.config=M required user_a=\"hunter2\";\n\
         num.partitions=4",
    );
    let broker = config.describe_broker();
    assert!(!format!("{broker:?}").contains("hunter2"));
    let partitions = broker.iter().find(|row| row.name == "num.partitions").unwrap();
    assert_eq!((partitions.value.as_deref(), partitions.source), (Some("4"), Source::StaticBroker));
    let own = BTreeMap::from([("segment.bytes".to_owned(), "5000".to_owned())]);
    let topic = config.describe_topic(&own);
    let row = |name: &str| topic.iter().find(|row| row.name == name).unwrap();
    assert_eq!(row("retention.ms").value.as_deref(), Some("3600000"));
    // Kafka names no source for a default that comes from a lesser name of the broker's key.
    assert_eq!(
        (row("retention.ms").source, row("retention.ms").synonyms.len()),
        (Source::Default, 0)
    );
    assert_eq!(row("segment.ms").source, Source::StaticBroker);
    let names: Vec<_> = row("segment.ms").synonyms.iter().map(|(n, _, s)| (&**n, *s)).collect();
    let hours = ("log.roll.hours", Source::Default);
    assert_eq!(names, [("log.roll.ms", Source::StaticBroker), hours]);
    assert_eq!(row("segment.bytes").source, Source::Topic);
    assert_eq!(row("segment.bytes").synonyms[0].1.as_deref(), Some("5000"));
    assert_eq!(row("max.message.bytes").source, Source::Default);
    assert!(!row("retention.ms").documentation.is_empty());
}
