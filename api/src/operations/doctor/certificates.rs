//! Certificates: how long they are valid, whom they name, and whether the chain is whole.

use std::net::IpAddr;

use odradek_broker::diagnose::{
    CERTIFICATE_CHAIN, CERTIFICATE_EXPIRED, CERTIFICATE_EXPIRES, CERTIFICATE_NAMES_OTHER_HOST,
    CERTIFICATE_NOT_YET_VALID,
};

use super::Finding;
use super::facts::{CertificateSeen, Facts, ListenerSeen, Trust};
use crate::operations::certificate_facts::{EXPIRES_SOON_DAYS, matches};
use crate::operations::instant::rfc3339;

const DAY_S: i64 = 86_400;

pub fn judge(facts: &Facts, listener: &ListenerSeen) -> Vec<Finding> {
    let subject = format!("certificate of {}", listener.name);
    let Some(own) = listener.chain.first() else { return Vec::new() };
    let mut findings: Vec<Finding> = listener
        .chain
        .iter()
        .enumerate()
        .filter_map(|(at, certificate)| valid_in_time(facts.now_s, &subject, at, certificate))
        .collect();
    findings.extend(order(&subject, &listener.chain));
    let named = names(facts, &subject, listener, own);
    findings.extend(trust(&subject, listener, own));
    if findings.is_empty() && named.is_none() {
        let days = (own.not_after_s - facts.now_s) / DAY_S;
        let what = format!("valid for {days} days more; it names {}", own.names.join(", "));
        findings.push(Finding::ok(&subject, what));
    }
    findings.extend(named);
    findings.extend(vouched(&subject, listener));
    findings
}

fn valid_in_time(
    now_s: i64,
    subject: &str,
    at: usize,
    certificate: &CertificateSeen,
) -> Option<Finding> {
    // An authority that expires takes every certificate that it signed with it.
    let whose = if at == 0 { "it".to_owned() } else { format!("that of {}", certificate.subject) };
    let day = |at_s: i64| rfc3339(at_s.saturating_mul(1_000)).unwrap_or_default();
    let (ends, begins) = (day(certificate.not_after_s), day(certificate.not_before_s));
    let left_s = certificate.not_after_s - now_s;
    if left_s < 0 {
        let days = -left_s / DAY_S;
        let what = format!("{whose} has expired, {days} days ago");
        return Some(
            Finding::problem(CERTIFICATE_EXPIRED, subject, what)
                .evidence(format!("valid until {ends}")),
        );
    }
    if certificate.not_before_s > now_s {
        let what = format!("{whose} is not valid yet");
        return Some(
            Finding::problem(CERTIFICATE_NOT_YET_VALID, subject, what)
                .evidence(format!("valid from {begins} on")),
        );
    }
    if left_s < EXPIRES_SOON_DAYS * DAY_S {
        let what = format!("{whose} expires in {} days", left_s / DAY_S);
        return Some(
            Finding::warning(CERTIFICATE_EXPIRES, subject, what)
                .evidence(format!("valid until {ends}")),
        );
    }
    None
}

/// Each certificate must be followed by that of its issuer.
fn order(subject: &str, chain: &[CertificateSeen]) -> Option<Finding> {
    let broken = chain.windows(2).find(|pair| pair[0].issuer != pair[1].subject)?;
    let what = "the chain is not in order";
    let evidence = format!(
        "{} was issued by {}, but is followed by {}",
        broken[0].subject, broken[0].issuer, broken[1].subject
    );
    Some(Finding::problem(CERTIFICATE_CHAIN, subject, what).evidence(evidence))
}

/// Whether clients find the host that they are told in the certificate.
fn names(
    facts: &Facts,
    subject: &str,
    listener: &ListenerSeen,
    own: &CertificateSeen,
) -> Option<Finding> {
    let found = |host: &str| own.names.iter().any(|name| matches(name, host));
    let says = if own.names.is_empty() {
        "it names no host at all (no Subject Alternative Name)".to_owned()
    } else {
        format!("it names {}", own.names.join(", "))
    };
    if let Some((host, _)) = &listener.advertised {
        if found(host) {
            return None;
        }
        let what = format!("it does not name {host}, which clients are told");
        let finding = Finding::problem(CERTIFICATE_NAMES_OTHER_HOST, subject, what);
        return Some(finding.evidence(says));
    }
    if own.names.is_empty() {
        let what = "clients cannot find the host that they dial in it";
        let finding = Finding::problem(CERTIFICATE_NAMES_OTHER_HOST, subject, what);
        return Some(finding.evidence(says));
    }
    let everywhere = ["", "0.0.0.0", "::"].contains(&listener.host.as_str());
    let reached = facts.interfaces.iter().map(ToString::to_string);
    let reached: Vec<String> =
        if everywhere && facts.is_here { reached.collect() } else { vec![listener.host.clone()] };
    let has_name = own.names.iter().any(|name| {
        name.parse::<IpAddr>().is_err() && (!listener.is_public || name != "localhost")
    });
    if has_name || reached.iter().any(|host| found(host)) {
        return None;
    }
    let what = "it names none of the addresses at which clients come";
    let finding = Finding::warning(CERTIFICATE_NAMES_OTHER_HOST, subject, what);
    Some(finding.evidence(format!("{says}; clients come at {}", reached.join(", "))))
}

/// Clients told to trust an authority that did not sign this, as this command was.
fn trust(subject: &str, listener: &ListenerSeen, own: &CertificateSeen) -> Option<Finding> {
    let Trust::Nobody { why, asked: Some(file) } = &listener.trust else { return None };
    let what = format!("it is not signed by the authority in {file}");
    let finding = Finding::problem(CERTIFICATE_CHAIN, subject, what);
    let finding = finding.evidence(format!("{why}; issued by {}", own.issuer));
    Some(finding.fix(
        "give clients the authority that did sign it; or, if an intermediate certificate is \
         missing, put it behind the server's own in the file of ssl.keystore.location",
    ))
}

fn vouched(subject: &str, listener: &ListenerSeen) -> Option<Finding> {
    let what = match &listener.trust {
        Trust::System => "this machine's own roots vouch for it".to_owned(),
        Trust::File(file) => {
            format!("the authority in {file} vouches for it; clients need that file")
        }
        Trust::Nobody { asked: None, .. } => {
            let issuer = listener.chain.last().map_or("", |last| &last.issuer);
            format!("its authority is {issuer}, whose certificate clients must be given")
        }
        Trust::Nobody { .. } | Trust::Unknown => return None,
    };
    Some(Finding::ok(subject, what))
}
