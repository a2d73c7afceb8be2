//! Listeners: do they answer, and can clients use the address that they are told?

use std::net::IpAddr;

use odradek_broker::diagnose::{
    ADVERTISED_ELSEWHERE, ADVERTISED_LOCALHOST, ADVERTISED_NAME_UNKNOWN, ADVERTISED_PRIVATE,
    ADVERTISED_UNREACHABLE, LISTENER_ANSWERS_WRONGLY, LISTENER_UNREACHABLE, LISTENER_WITHOUT_LOGIN,
};

use super::Finding;
use super::facts::{Answer, Dialled, Facts, Http, ListenerSeen, Lock, Lookup, Told};
use crate::operations::machine::host_and_port as shown;

const RESTART: &str = "restart the server, or name the configuration with which it runs \
                       (--config). If that was changed while it runs (kafka-configs), the change \
                       counts, also after a restart";
/// More addresses than this are not listed.
const LISTED_MAX: usize = 6;

pub fn judge(facts: &Facts, listener: &ListenerSeen) -> Vec<Finding> {
    let subject = format!("listener {}", listener.name);
    let mut findings = Vec::new();
    // What is not running was said once; that each of its listeners is silent says nothing more.
    let runs = !matches!(facts.http, Http::Silent { .. } | Http::Off) || facts.lock == Lock::Held;
    let any_answer = listener.dialled.iter().any(|d| !matches!(d.answer, Answer::Unreachable(_)));
    findings.extend(runs_otherwise(&subject, listener));
    if runs && listener.dialled.is_empty() && listener.port != 0 {
        let what = format!("there is no address to dial: {} does not resolve", listener.host);
        findings.push(Finding::problem(LISTENER_UNREACHABLE, &subject, what));
    } else if runs || any_answer {
        findings.extend(listener.dialled.iter().map(|d| answered(&subject, listener, d)));
        if listener.dialled.iter().any(|dialled| dialled.answer.is_kafka()) {
            findings.extend(advertised(facts, &subject, listener));
        }
    } else {
        findings.extend(unspoken(&subject, listener));
    }
    if listener.is_open && listener.is_public && !listener.open_is_meant {
        let what = "whoever reaches it can read, write and delete every topic";
        let finding = Finding::warning(LISTENER_WITHOUT_LOGIN, &subject, what);
        findings.push(finding.evidence(format!(
            "it listens on {}, with {} and so without a login",
            bound_to(listener),
            listener.protocol.name()
        )));
    }
    findings
}

fn bound_to(listener: &ListenerSeen) -> String {
    match listener.host.as_str() {
        "" | "0.0.0.0" | "::" => format!("every address of the machine, port {}", listener.port),
        host => shown(host, listener.port),
    }
}

fn answered(subject: &str, listener: &ListenerSeen, dialled: &Dialled) -> Finding {
    let protocol = listener.running.as_ref().map_or(listener.protocol, |running| running.protocol);
    let (address, protocol) = (dialled.address, protocol.name());
    match &dialled.answer {
        Answer::Unreachable(why) => {
            let what = format!("{address} does not answer");
            Finding::problem(LISTENER_UNREACHABLE, subject, what).evidence(why.clone())
        }
        Answer::Wrong(why) => {
            let what = format!("{address} answers, but not with {protocol}");
            Finding::problem(LISTENER_ANSWERS_WRONGLY, subject, what).evidence(why.clone())
        }
        Answer::Kafka(told) => {
            Finding::ok(subject, format!("{address} speaks {protocol}{}", details(told)))
        }
    }
}

fn details(told: &Told) -> String {
    let mut details = Vec::new();
    details.extend(told.tls.clone());
    if told.wants_certificate {
        details.push("asks for a client certificate".to_owned());
    }
    if !told.mechanisms.is_empty() {
        details.push(format!("login by {}", told.mechanisms.join(", ")));
    }
    if details.is_empty() { String::new() } else { format!(" ({})", details.join("; ")) }
}

/// What can be said of the configured address without a server.
fn unspoken(subject: &str, listener: &ListenerSeen) -> Vec<Finding> {
    let Some((host, port)) = &listener.advertised else { return Vec::new() };
    let mut findings = Vec::new();
    findings.extend(localhost(subject, listener, host, *port));
    if let Some(Lookup { addresses: Err(why), .. }) = &listener.lookup {
        findings.push(unknown_name(subject, host, why));
    }
    findings
}

fn advertised(facts: &Facts, subject: &str, listener: &ListenerSeen) -> Vec<Finding> {
    let Some((host, port)) = &listener.advertised else {
        return vec![told_by_connection(facts, subject, listener)];
    };
    let mut findings = Vec::new();
    if listener.running.is_none() {
        findings.extend(told_otherwise(subject, listener, host, *port));
    }
    if let Some(finding) = localhost(subject, listener, host, *port) {
        findings.push(finding);
        return findings;
    }
    match &listener.lookup {
        None => {}
        Some(Lookup { addresses: Err(why), .. }) => findings.push(unknown_name(subject, host, why)),
        Some(Lookup { addresses: Ok(addresses), dialled }) => {
            findings.push(dialled_as_told(facts, subject, listener, (host, *port), dialled));
            findings.extend(private(facts, subject, (host, *port), addresses));
        }
    }
    findings
}

fn unknown_name(subject: &str, host: &str, why: &str) -> Finding {
    let what = format!("the advertised name {host} does not resolve");
    Finding::problem(ADVERTISED_NAME_UNKNOWN, subject, what).evidence(why)
}

fn localhost(subject: &str, listener: &ListenerSeen, host: &str, port: u16) -> Option<Finding> {
    let is_loopback = is_localhost(host)
        || listener.lookup.as_ref().is_some_and(|lookup| {
            let addresses = lookup.addresses.as_deref().unwrap_or_default();
            !addresses.is_empty() && addresses.iter().all(IpAddr::is_loopback)
        });
    if !is_loopback || !listener.is_public {
        return None;
    }
    let what = format!("clients on other machines are told {}", shown(host, port));
    let finding = Finding::problem(ADVERTISED_LOCALHOST, subject, what);
    Some(finding.evidence(format!("it listens on {}", bound_to(listener))))
}

fn is_localhost(host: &str) -> bool {
    match host.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

/// Without `advertised.listeners`: which address clients are told.
fn told_by_connection(facts: &Facts, subject: &str, listener: &ListenerSeen) -> Finding {
    let told = |ip: &IpAddr| shown(&ip.to_string(), listener.port);
    let everywhere = ["", "0.0.0.0", "::"].contains(&listener.host.as_str());
    if !everywhere || !facts.is_here {
        return Finding::ok(subject, "each client is told the address at which it came");
    }
    let v4_only = listener.host == "0.0.0.0";
    let all: Vec<&IpAddr> = facts.interfaces.iter().filter(|ip| ip.is_ipv4() || !v4_only).collect();
    let reached: Vec<String> = all.iter().take(LISTED_MAX).map(|ip| told(ip)).collect();
    let more = all.len().saturating_sub(LISTED_MAX);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let reached =
        if reached.is_empty() { String::new() } else { format!("{}{more}, ", reached.join(", ")) };
    let name = if listener.protocol.tls() { ", or the name that it asked for by TLS" } else { "" };
    Finding::ok(
        subject,
        format!(
            "each client is told the address at which it came{name}; here that is {reached}and on \
             this machine 127.0.0.1:{}",
            listener.port
        ),
    )
}

/// The configuration was changed, or is another one's.
fn runs_otherwise(subject: &str, listener: &ListenerSeen) -> Option<Finding> {
    let running = listener.running.as_ref()?;
    let told = |advertised: &Option<(String, u16)>| match advertised {
        Some((host, port)) => shown(host, *port),
        None => "the address at which each came".to_owned(),
    };
    let what = if running.protocol != listener.protocol {
        format!(
            "the server has it with {}, the configuration with {}",
            running.protocol.name(),
            listener.protocol.name()
        )
    } else if running.advertised != listener.advertised {
        format!(
            "the server tells clients {}, the configuration says {}",
            told(&running.advertised),
            told(&listener.advertised)
        )
    } else {
        return None;
    };
    Some(Finding::warning(LISTENER_ANSWERS_WRONGLY, subject, what).fix(RESTART))
}

/// The running server tells another address than the configuration says.
fn told_otherwise(
    subject: &str,
    listener: &ListenerSeen,
    host: &str,
    port: u16,
) -> Option<Finding> {
    let told = listener.dialled.iter().find_map(|dialled| match &dialled.answer {
        Answer::Kafka(told) => told.broker.clone(),
        _ => None,
    })?;
    if told == (host.to_owned(), port) {
        return None;
    }
    let what = format!(
        "the server tells {}, the configuration says {}",
        shown(&told.0, told.1),
        shown(host, port)
    );
    let finding = Finding::warning(LISTENER_ANSWERS_WRONGLY, subject, what);
    Some(finding.fix(RESTART))
}

/// The judgement on an advertised address that was dialled as a client would.
fn dialled_as_told(
    facts: &Facts,
    subject: &str,
    listener: &ListenerSeen,
    (host, port): (&str, u16),
    dialled: &[Dialled],
) -> Finding {
    let address = shown(host, port);
    let (good, bad): (Vec<_>, Vec<_>) = dialled.iter().partition(|d| d.answer.is_kafka());
    let seen: Vec<String> = bad.iter().map(|dialled| failure(dialled)).collect();
    let elsewhere = dialled.iter().all(|d| !is_own(facts, d.address.ip())) && facts.is_here;
    if let Some(other) = good.iter().find_map(|d| another_cluster(listener, d)) {
        let what = format!("the advertised address {address} leads to another broker");
        return Finding::problem(ADVERTISED_ELSEWHERE, subject, what).evidence(other);
    }
    if good.is_empty() {
        let public = dialled.iter().all(|dialled| is_public(dialled.address.ip()));
        let what = format!("the advertised address {address} does not answer");
        // A router's outside address can often not be dialled from inside.
        let finding = if elsewhere && public && !dialled.is_empty() {
            let what = format!("{what} from here");
            Finding::warning(ADVERTISED_UNREACHABLE, subject, what)
        } else {
            Finding::problem(ADVERTISED_UNREACHABLE, subject, what)
        };
        return finding.evidence(seen.join("; "));
    }
    if !bad.is_empty() {
        let what =
            format!("the advertised address {address} answers at some of its addresses only");
        return Finding::warning(ADVERTISED_UNREACHABLE, subject, what)
            .evidence(seen.join("; "))
            .fix(
                "take the addresses that do not answer out of the name's DNS entries, or listen on \
             them: clients that try them first wait, or fail",
            );
    }
    let at: Vec<String> = good.iter().map(|dialled| dialled.address.ip().to_string()).collect();
    let resolved = if at == [host] { String::new() } else { format!(" (at {})", at.join(", ")) };
    if elsewhere {
        let what = format!(
            "the advertised address {address} answers{resolved}; it is none of this machine's own, \
             so something in between leads here"
        );
        return Finding::ok(subject, what);
    }
    Finding::ok(subject, format!("clients are told {address}, which answers{resolved}"))
}

fn failure(dialled: &Dialled) -> String {
    match &dialled.answer {
        Answer::Unreachable(why) | Answer::Wrong(why) => format!("{}: {why}", dialled.address),
        Answer::Kafka(_) => String::new(),
    }
}

/// Both cluster ids, if the address leads to another broker than the listener itself.
fn another_cluster(listener: &ListenerSeen, dialled: &Dialled) -> Option<String> {
    let id = |answer: &Answer| match answer {
        Answer::Kafka(told) => told.cluster_id.clone(),
        _ => None,
    };
    let here = listener.dialled.iter().find_map(|dialled| id(&dialled.answer))?;
    let there = id(&dialled.answer)?;
    (here != there).then(|| format!("its cluster id is {there}, this broker's is {here}"))
}

/// Clients from the Internet that are told an address of a private network.
fn private(
    facts: &Facts,
    subject: &str,
    (host, port): (&str, u16),
    addresses: &[IpAddr],
) -> Option<Finding> {
    if addresses.is_empty() || addresses.iter().any(|address| is_public(*address)) {
        return None;
    }
    let Http::Told { view, .. } = &facts.http else { return None };
    let peer = view.peers.iter().find(|peer| is_public(**peer))?;
    let what = format!(
        "clients from the Internet are told {}, an address of a private network",
        shown(host, port)
    );
    let finding = Finding::warning(ADVERTISED_PRIVATE, subject, what);
    Some(finding.evidence(format!("{peer} connected lately, and stands in the diary")))
}

fn is_own(facts: &Facts, address: IpAddr) -> bool {
    let address = address.to_canonical();
    address.is_loopback() || facts.interfaces.contains(&address)
}

/// Reachable over the Internet, by the kinds of address that IANA keeps for other purposes.
fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            let carrier = a == 100 && (64..128).contains(&b);
            !(v4.is_private()
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_unspecified()
                || v4.is_broadcast()
                || v4.is_multicast()
                || carrier)
        }
        IpAddr::V6(v6) => {
            !(v6.is_loopback()
                || v6.is_unspecified()
                || v6.is_unique_local()
                || v6.is_unicast_link_local()
                || v6.is_multicast())
        }
    }
}
