//! Each judgement from facts made by hand: addresses for documents (RFC 5737, RFC 3849), fixed
//! times.

use std::net::{IpAddr, SocketAddr};

use odradek_broker::config::SecurityProtocol;
use odradek_broker::diagnose;

use super::facts::*;
use super::*;

const NOW_S: i64 = 1_800_000_000;
const DAY_S: i64 = 86_400;

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn at(text: &str) -> SocketAddr {
    text.parse().expect("an address with port")
}

fn kafka(cluster: &str) -> Answer {
    let broker = Some(("192.168.1.10".to_owned(), 9_092));
    Answer::Kafka(Told { broker, cluster_id: Some(cluster.to_owned()), ..Told::default() })
}

fn refused() -> Answer {
    Answer::Unreachable("connection refused".to_owned())
}

/// A listener on every address that answers, and advertises nothing.
fn listener() -> ListenerSeen {
    ListenerSeen {
        name: "LAN".to_owned(),
        protocol: SecurityProtocol::Plaintext,
        host: String::new(),
        port: 9_092,
        is_public: true,
        is_open: false,
        open_is_meant: false,
        advertised: None,
        running: None,
        dialled: vec![Dialled { address: at("127.0.0.1:9092"), answer: kafka("here") }],
        lookup: None,
        chain: Vec::new(),
        trust: Trust::Unknown,
    }
}

/// The same, advertising this host, which means these addresses and answers so.
fn advertising(host: &str, answers: &[(&str, Answer)]) -> ListenerSeen {
    let dialled: Vec<Dialled> = answers
        .iter()
        .map(|(address, answer)| Dialled {
            address: SocketAddr::new(ip(address), 9_092),
            answer: answer.clone(),
        })
        .collect();
    let addresses = Ok(dialled.iter().map(|dialled| dialled.address.ip()).collect());
    let mut listener = ListenerSeen {
        advertised: Some((host.to_owned(), 9_092)),
        lookup: Some(Lookup { addresses, dialled }),
        ..listener()
    };
    let Answer::Kafka(told) = &mut listener.dialled[0].answer else { unreachable!() };
    told.broker.clone_from(&listener.advertised);
    listener
}

/// A healthy server on this machine.
fn healthy(listener: ListenerSeen) -> Facts {
    let view = View {
        version: "1".to_owned(),
        memory_bytes_max: 1 << 28,
        open_files: Some(20),
        open_files_max: Some(65_536),
        clock_ahead_s: Some(0),
        ..View::default()
    };
    Facts {
        now_s: NOW_S,
        is_here: true,
        http: Http::Told { address: "127.0.0.1:8080".to_owned(), view },
        lock: Lock::Held,
        listeners: vec![listener],
        interfaces: vec![ip("192.168.1.10"), ip("2001:db8::10")],
        folder: Some(FolderSeen { path: "/d".to_owned(), unusable: None, mode: Some(0o750) }),
        secret_files: Vec::new(),
        clock: ClockSeen { is_synchronised: Some(true), newest_file_s: Some(NOW_S) },
        disk: Some(DiskSeen { free_bytes: 100 << 30, reserve_bytes: 256 << 20 }),
        memory_available_bytes: Some(1 << 30),
        connections_max: Some(1_000),
        ..Facts::default()
    }
}

/// Level and diagnosis of what is not well.
fn found(facts: &Facts) -> Vec<(Level, &'static str)> {
    let findings = judge(facts);
    for finding in &findings {
        assert_eq!(finding.level == Level::Ok, finding.diagnosis.is_none(), "{finding:?}");
        let known = finding.diagnosis.is_none_or(|id| diagnose::find(id).is_some());
        assert!(known && !finding.what.is_empty(), "{finding:?}");
        assert!(finding.level == Level::Ok || !finding.fix.is_empty(), "{finding:?}");
    }
    findings.iter().filter_map(|f| Some((f.level, f.diagnosis?))).collect()
}

fn view(facts: &mut Facts) -> &mut View {
    match &mut facts.http {
        Http::Told { view, .. } => view,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_healthy_server_has_no_findings_but_good_ones() {
    assert_eq!(found(&healthy(listener())), []);
    let advertised = advertising("box.example.net", &[("192.168.1.10", kafka("here"))]);
    assert_eq!(found(&healthy(advertised)), []);
}

#[test]
fn without_advertised_listeners_it_says_what_clients_are_told_at_each_interface() {
    let findings = judge(&healthy(listener()));
    let told = findings.iter().find(|f| f.what.contains("is told the address at which it came"));
    let told = &told.expect("said").what;
    assert!(told.contains("192.168.1.10:9092, [2001:db8::10]:9092"), "{told}");
}

#[test]
fn an_advertised_address_is_judged_by_what_comes_of_dialling_it() {
    use Level::{Problem, Warning};
    let unreachable = "advertised-address-unreachable";
    // Host, addresses with their answers, what is found.
    type Case<'a> = (&'a str, &'a [(&'a str, Answer)], &'a [(Level, &'a str)]);
    let table: [Case; 7] = [
        ("192.168.1.10", &[("192.168.1.10", refused())], &[(Problem, unreachable)]),
        ("192.168.9.9", &[("192.168.9.9", refused())], &[(Problem, unreachable)]),
        // A router's outside address often cannot be dialled from inside.
        ("203.0.113.5", &[("203.0.113.5", refused())], &[(Warning, unreachable)]),
        // Something in between leads here: a router, a container.
        ("203.0.113.5", &[("203.0.113.5", kafka("here"))], &[]),
        (
            "box.example.net",
            &[("2001:db8::10", refused()), ("192.168.1.10", kafka("here"))],
            &[(Warning, unreachable)],
        ),
        (
            "old.example.net",
            &[("192.168.1.77", kafka("another"))],
            &[(Problem, "advertised-address-elsewhere")],
        ),
        ("localhost", &[("127.0.0.1", kafka("here"))], &[(Problem, "advertised-localhost")]),
    ];
    for (host, answers, expected) in table {
        assert_eq!(found(&healthy(advertising(host, answers))), expected, "{host} {answers:?}");
    }
}

#[test]
fn a_name_that_means_only_loopback_addresses_is_localhost_by_another_name() {
    // As Debian's /etc/hosts has it for the machine's own name.
    let debian = advertising("box", &[("127.0.1.1", kafka("here"))]);
    assert_eq!(found(&healthy(debian)), [(Level::Problem, "advertised-localhost")]);
    let only_here = ListenerSeen {
        host: "127.0.0.1".to_owned(),
        is_public: false,
        ..advertising("localhost", &[("127.0.0.1", kafka("here"))])
    };
    assert_eq!(found(&healthy(only_here)), []);
}

#[test]
fn a_name_that_does_not_resolve_is_a_problem_also_without_a_server() {
    let mut unknown = advertising("nowhere.invalid", &[]);
    let lookup = Lookup { addresses: Err("not known".to_owned()), dialled: Vec::new() };
    unknown.lookup = Some(lookup);
    let expected = (Level::Problem, "advertised-name-unknown");
    assert_eq!(found(&healthy(unknown.clone())), [expected]);
    unknown.dialled[0].answer = refused();
    let mut stopped = healthy(unknown);
    stopped.http = Http::Silent { address: "a".to_owned(), why: "refused".to_owned() };
    stopped.lock = Lock::Free;
    assert_eq!(found(&stopped), [(Level::Problem, "server-not-running"), expected]);
}

#[test]
fn a_private_address_is_wrong_only_if_clients_from_the_internet_come() {
    let mut facts = healthy(advertising("192.168.1.10", &[("192.168.1.10", kafka("here"))]));
    view(&mut facts).peers = vec![ip("10.0.0.9"), ip("100.64.1.1"), ip("fe80::1")];
    assert_eq!(found(&facts), []);
    view(&mut facts).peers.push(ip("198.51.100.7"));
    assert_eq!(found(&facts), [(Level::Warning, "advertised-private-address")]);
}

#[test]
fn listeners_that_are_silent_or_speak_otherwise_or_let_everybody_in_are_named() {
    let mut facts = healthy(listener());
    facts.listeners[0].dialled[0].answer = refused();
    assert_eq!(found(&facts), [(Level::Problem, "listener-unreachable")]);
    facts.listeners[0].dialled[0].answer = Answer::Wrong("no TLS".to_owned());
    assert_eq!(found(&facts), [(Level::Problem, "listener-answers-wrongly")]);
    facts.listeners[0].dialled.clear();
    assert_eq!(found(&facts), [(Level::Problem, "listener-unreachable")]);
    let mut open = healthy(ListenerSeen { is_open: true, ..listener() });
    assert_eq!(found(&open), [(Level::Warning, "listener-without-login")]);
    open.listeners[0].open_is_meant = true;
    assert_eq!(found(&open), []);
    // The configuration was changed after the start.
    let mut changed = advertising("192.168.1.10", &[("192.168.1.10", kafka("here"))]);
    let Answer::Kafka(told) = &mut changed.dialled[0].answer else { unreachable!() };
    told.broker = Some(("192.168.1.9".to_owned(), 9_092));
    let expected = [(Level::Warning, "listener-answers-wrongly")];
    assert_eq!(found(&healthy(changed)), expected);
    for (protocol, advertised, expected) in [
        (SecurityProtocol::Plaintext, None, &[][..]),
        (SecurityProtocol::Ssl, None, &expected),
        (SecurityProtocol::Plaintext, Some(("192.168.1.9".to_owned(), 9_092)), &expected),
    ] {
        let running = Some(Running { protocol, advertised });
        assert_eq!(found(&healthy(ListenerSeen { running, ..listener() })), expected);
    }
}

fn certificate(names: &[&str]) -> CertificateSeen {
    CertificateSeen {
        subject: "CN=box".to_owned(),
        issuer: "CN=ca".to_owned(),
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        not_before_s: NOW_S - DAY_S,
        not_after_s: NOW_S + 90 * DAY_S,
    }
}

fn with_chain(chain: Vec<CertificateSeen>, advertised: Option<&str>) -> Facts {
    let base = match advertised {
        Some(host) => advertising(host, &[("192.168.1.10", kafka("here"))]),
        None => listener(),
    };
    healthy(ListenerSeen { protocol: SecurityProtocol::Ssl, chain, ..base })
}

#[test]
fn a_certificate_is_judged_by_its_time_also_that_of_its_authority() {
    use Level::{Problem, Warning};
    let own = certificate(&["box.example.net"]);
    // Days until the end, days since the beginning.
    for (left, begun, expected) in [
        (90, 1, vec![]),
        (30, 1, vec![]),
        (29, 1, vec![(Warning, "certificate-expires")]),
        (0, 1, vec![(Warning, "certificate-expires")]),
        (-1, 1, vec![(Problem, "certificate-expired")]),
        (90, -1, vec![(Problem, "certificate-not-yet-valid")]),
    ] {
        let (not_after_s, not_before_s) = (NOW_S + left * DAY_S, NOW_S - begun * DAY_S);
        let timed = CertificateSeen { not_after_s, not_before_s, ..own.clone() };
        assert_eq!(found(&with_chain(vec![timed.clone()], None)), expected, "{left} {begun}");
        let authority = CertificateSeen { subject: "CN=ca".to_owned(), ..timed };
        let chain = vec![own.clone(), authority];
        assert_eq!(found(&with_chain(chain, None)), expected, "authority {left} {begun}");
    }
}

#[test]
fn a_certificate_must_name_what_clients_are_told() {
    let other = [(Level::Problem, "certificate-names-other-host")];
    for (names, host, is_well) in [
        (&["box.example.net"][..], "BOX.example.net", true),
        (&["*.example.net"], "box.example.net", true),
        // RFC 6125: the wildcard is one label.
        (&["*.example.net"], "a.box.example.net", false),
        (&["*.example.net"], "example.net", false),
        (&["192.168.1.10"], "192.168.1.10", true),
        (&["2001:db8::10"], "2001:0db8:0::10", true),
        (&["box.example.net"], "192.168.1.10", false),
        (&[], "box.example.net", false),
    ] {
        let facts = with_chain(vec![certificate(names)], Some(host));
        let expected: &[_] = if is_well { &[] } else { &other };
        assert_eq!(found(&facts), expected, "{names:?} {host}");
    }
    // Nothing advertised: clients come by address, or by a name that this machine cannot know.
    assert_eq!(found(&with_chain(vec![certificate(&["box.example.net"])], None)), []);
    let stale = with_chain(vec![certificate(&["192.168.1.9", "localhost"])], None);
    assert_eq!(found(&stale), [(Level::Warning, "certificate-names-other-host")]);
}

#[test]
fn a_chain_in_the_wrong_order_or_of_another_authority_is_named() {
    let own = certificate(&["box.example.net"]);
    let between = CertificateSeen {
        subject: "CN=between".to_owned(),
        issuer: "CN=root".to_owned(),
        ..own.clone()
    };
    let expected = [(Level::Problem, "certificate-chain")];
    assert_eq!(found(&with_chain(vec![own.clone(), between], None)), expected);
    let mut facts = with_chain(vec![own], None);
    let nobody = |asked: Option<&str>| Trust::Nobody {
        why: "UnknownIssuer".to_owned(),
        asked: asked.map(str::to_owned),
    };
    facts.listeners[0].trust = nobody(None);
    assert_eq!(found(&facts), []);
    facts.listeners[0].trust = nobody(Some("ca.pem"));
    assert_eq!(found(&facts), expected);
}

#[test]
fn the_machine_is_judged_by_its_numbers() {
    use Level::{Problem, Warning};
    type Change = fn(&mut Facts);
    let closed: Change = |f| f.configuration_closed = Some("s".to_owned());
    let table: [(Change, Level, &str); 15] = [
        (closed, Warning, "configuration-unreadable"),
        (|f| f.disk = disk(256, 256), Problem, "disk-nearly-full"),
        (|f| f.disk = disk(300, 256), Warning, "disk-nearly-full"),
        // 10,240 MiB of room at 1 MiB a second: under three hours.
        (fills_in_hours, Warning, "disk-nearly-full"),
        (|f| f.clock.is_synchronised = Some(false), Warning, "clock-not-synchronised"),
        (|f| f.clock.newest_file_s = Some(NOW_S + 3_600), Warning, "clock-skew"),
        (|f| view(f).clock_ahead_s = Some(-60), Warning, "clock-skew"),
        (|f| f.memory_available_bytes = Some(1 << 20), Warning, "memory-short"),
        (|f| view(f).open_files_max = Some(1_024), Warning, "open-files-limit"),
        (|f| view(f).open_files = Some(60_000), Warning, "open-files-limit"),
        (|f| f.folder = folder(None, 0o755), Warning, "data-folder-readable"),
        (|f| f.folder = folder(Some("not a folder"), 0o644), Problem, "data-folder-unusable"),
        (|f| f.secret_files = secret(0o644), Warning, "secret-file-readable"),
        (|f| f.configuration_problems = vec!["x".to_owned()], Problem, "configuration-wrong"),
        (|f| f.lock = Lock::Free, Warning, "server-not-running"),
    ];
    for (change, level, diagnosis) in table {
        let mut facts = healthy(listener());
        change(&mut facts);
        assert_eq!(found(&facts), [(level, diagnosis)]);
    }
    let mut facts = healthy(listener());
    facts.secret_files = secret(0o640);
    facts.secret_files[0].stranger = Some(1_007);
    assert_eq!(found(&facts), [(Warning, "secret-file-readable")]);
    facts.secret_files = secret(0o640);
    view(&mut facts).clock_ahead_s = Some(3);
    assert_eq!(found(&facts), []);
}

fn disk(free_mib: u64, reserve_mib: u64) -> Option<DiskSeen> {
    Some(DiskSeen { free_bytes: free_mib << 20, reserve_bytes: reserve_mib << 20 })
}

fn fills_in_hours(facts: &mut Facts) {
    facts.disk = disk(10_240 + 256, 256);
    view(facts).bytes_in_per_s = f64::from(1 << 20);
}

fn folder(unusable: Option<&str>, mode: u32) -> Option<FolderSeen> {
    let unusable = unusable.map(str::to_owned);
    Some(FolderSeen { path: "/d".to_owned(), unusable, mode: Some(mode) })
}

fn secret(mode: u32) -> Vec<FileSeen> {
    let secret = "a private key".to_owned();
    vec![FileSeen { path: "server.pem".to_owned(), secret, mode: Some(mode), stranger: None }]
}

#[test]
fn what_the_server_knows_of_itself_is_passed_on_with_its_ids() {
    let mut facts = healthy(listener());
    let problem = |id: &str| ProblemSeen {
        id: id.to_owned(),
        what: "w".to_owned(),
        fix: "f".to_owned(),
        count: 3,
        ..ProblemSeen::default()
    };
    let ids = ["storage-problem", "wrong-password", "source-fails"];
    view(&mut facts).problems = ids.map(problem).to_vec();
    let levels = [Level::Problem, Level::Warning, Level::Warning];
    let expected: Vec<_> = levels.into_iter().zip(ids).collect();
    assert_eq!(found(&facts), expected);
}

#[test]
fn a_server_that_hides_itself_is_told_from_one_that_is_not_there() {
    let silent =
        || Http::Silent { address: "127.0.0.1:8080".to_owned(), why: "refused".to_owned() };
    let closed = Http::Closed { address: "127.0.0.1:8080".to_owned(), why: "401".to_owned() };
    let hidden = (Level::Warning, "server-view-hidden");
    let gone = (Level::Problem, "server-not-running");
    for (http, lock, answers, expected) in [
        (closed, Lock::Unknown, true, hidden),
        (silent(), Lock::Held, true, hidden),
        (silent(), Lock::Unknown, true, hidden),
        (Http::Off, Lock::Held, true, hidden),
        (silent(), Lock::Free, false, gone),
        (Http::Off, Lock::Free, false, gone),
    ] {
        let mut facts = healthy(listener());
        if !answers {
            facts.listeners[0].dialled[0].answer = refused();
        }
        (facts.http, facts.lock) = (http, lock);
        assert_eq!(found(&facts), [expected], "{:?} {lock:?}", facts.http);
    }
}
