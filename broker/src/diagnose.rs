//! What went wrong on a connection, for a person.
//!
//! Three parts: [`classify`] says what the first bytes of a connection speak; [`CATALOGUE`] holds
//! every diagnosis (stable id, what happened, how to fix it), printed by log, console and
//! `odradek explain`, with [`CONDITIONS`] beside it for what is wrong with the server rather than
//! with a connection; [`Diary`] keeps the last odd connections, over restarts too. Nothing here
//! decides what to do with a connection, and nothing here waits.

mod catalogue;
mod conditions;
mod diary;
mod kept;
pub(crate) mod near_miss;
pub(crate) mod reach;
pub(crate) mod reach_hooks;
mod tls;

use std::time::Duration;

use crate::config::Config;

pub use catalogue::*;
pub use conditions::*;
pub use diary::{Diary, Entry};
pub(crate) use tls::of_tls_error;

/// What the first bytes of a connection are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// They may begin a Kafka request.
    Kafka,
    /// A request of a browser, a health check, a script.
    Http,
    /// Somebody took this port for a client of theirs.
    HttpReply,
    TlsClientHello,
    TlsAlert,
    Ssh,
    /// Another protocol, by its name.
    Other(&'static str),
    Garbage,
    /// Fewer than eight bytes, and nothing that four would tell.
    Unknown,
}

/// Beginnings that tell by themselves. Four bytes are enough for each, so that nothing has to be
/// waited for.
const TEXTS: &[(&[u8], Seen)] = &[
    (b"GET ", Seen::Http),
    (b"POST", Seen::Http),
    (b"PUT ", Seen::Http),
    (b"HEAD", Seen::Http),
    (b"DELE", Seen::Http),
    (b"OPTI", Seen::Http),
    (b"PATC", Seen::Http),
    (b"CONN", Seen::Http),
    (b"TRAC", Seen::Http),
    (b"PRI ", Seen::Http),
    (b"HTTP", Seen::HttpReply),
    (b"SSH-", Seen::Ssh),
    (b"AMQP", Seen::Other("AMQP")),
    (b"RFB ", Seen::Other("VNC")),
    (b"EHLO", Seen::Other("SMTP")),
    (b"HELO", Seen::Other("SMTP")),
];

/// Classifies the first bytes; eight are enough for every answer but [`Seen::Unknown`].
pub fn classify(first: &[u8]) -> Seen {
    if let Some((_, seen)) = TEXTS.iter().find(|(text, _)| first.starts_with(text)) {
        return *seen;
    }
    match first {
        [0x16, 0x03, 0..=4, ..] => return Seen::TlsClientHello,
        [0x15, 0x03, 0..=4, ..] => return Seen::TlsAlert,
        [0x10, _, 0x00, 0x04, b'M', b'Q', b'T', b'T', ..] => return Seen::Other("MQTT"),
        // PostgreSQL asks for TLS with length 8 and this number.
        [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f, ..] => return Seen::Other("PostgreSQL"),
        _ => {}
    }
    match first {
        // Length, API key, version: Kafka has about a hundred keys and no version above twenty.
        [high, _, _, _, 0, 0..=127, 0, 0..=63, ..] if *high < 0x80 => Seen::Kafka,
        // ApiVersions (18) of any version is answered, so that clients of the future can ask.
        [high, _, _, _, 0, 18, 0..=127, _, ..] if *high < 0x80 => Seen::Kafka,
        [_, _, _, _, _, _, _, _, ..] => Seen::Garbage,
        _ => Seen::Unknown,
    }
}

/// The diagnosis of what was seen on a listener without TLS; `None` lets the connection go on.
pub fn of_first_bytes(seen: Seen, first: &[u8]) -> Option<(&'static str, String)> {
    let id = match seen {
        Seen::Kafka | Seen::Unknown => return None,
        Seen::Http => HTTP_ON_KAFKA_PORT,
        Seen::TlsClientHello | Seen::TlsAlert => TLS_ON_PLAIN_PORT,
        Seen::Ssh => SSH_ON_KAFKA_PORT,
        Seen::HttpReply | Seen::Other(_) => OTHER_PROTOCOL,
        Seen::Garbage => GARBAGE,
    };
    Some((id, evidence(seen, first)))
}

/// The same on a listener with TLS, before the handshake.
pub fn of_first_bytes_on_tls(first: &[u8]) -> Option<(&'static str, String)> {
    let seen = classify(first);
    let id = match seen {
        Seen::TlsClientHello | Seen::Unknown => return None,
        Seen::Kafka => PLAIN_ON_TLS_PORT,
        Seen::TlsAlert => TLS_HANDSHAKE_FAILED,
        other => return of_first_bytes(other, first),
    };
    Some((id, evidence(seen, first)))
}

fn evidence(seen: Seen, first: &[u8]) -> String {
    let shown = &first[..first.len().min(16)];
    let hex: Vec<String> = shown.iter().map(|byte| format!("{byte:02x}")).collect();
    let hex = hex.join(" ");
    match seen {
        Seen::Http | Seen::HttpReply | Seen::Ssh => {
            format!("the first bytes are {:?}", String::from_utf8_lossy(shown))
        }
        Seen::TlsClientHello => format!("the first bytes are a TLS ClientHello: {hex}"),
        Seen::TlsAlert => format!("the first bytes are a TLS alert: {hex}"),
        Seen::Other(name) => format!("the first bytes are {name}: {hex}"),
        Seen::Kafka => format!("the first bytes are a Kafka request without TLS: {hex}"),
        Seen::Garbage | Seen::Unknown => format!("the first bytes are {hex}"),
    }
}

/// Evidence of [`LOGINS_SLOWED`]: a login that was not checked.
pub(crate) const NO_TURN_TO_LOG_IN: &str =
    "so many logins from this address wait for their answers that this one was not checked";

/// Evidence of [`LOGINS_SLOWED`]: one that failed.
pub(crate) fn slowed_by(delay: Duration) -> String {
    format!("each failed login from this address is now answered {} s late", delay.as_secs())
}

/// A whole HTTP reply for who speaks HTTP to the Kafka port.
pub fn http_hint(config: &Config) -> String {
    let hint = match &config.http_listen {
        Some(address) => format!("The HTTP API and the console are at http://{address}/"),
        None => "HTTP is switched off (odradek.http.listen is empty)".to_owned(),
    };
    let body = format!(
        "This port speaks Apache Kafka's protocol, not HTTP.\n{hint}\n\
         Kafka clients connect here with bootstrap.servers.\n"
    );
    format!(
        "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sizes are those of the error messages people search for ("Invalid receive (size = …)"),
    /// see the issues named in kafkajs 1643, Burrow 435, quarkus-quickstarts 1088.
    #[test]
    fn the_sizes_people_search_for_are_recognised_by_their_bytes() {
        let cases = [
            (369_295_616_i32, Seen::TlsClientHello),
            (369_295_617, Seen::TlsClientHello),
            (369_296_129, Seen::TlsClientHello),
            (1_195_725_856, Seen::Http),
            (1_347_375_956, Seen::Http),
            (1_213_486_160, Seen::HttpReply),
            (1_397_966_893, Seen::Ssh),
            (352_518_912, Seen::TlsAlert),
        ];
        for (size, expected) in cases {
            assert_eq!(classify(&size.to_be_bytes()), expected, "{size}");
        }
    }

    #[test]
    fn kafka_requests_pass_and_other_bytes_do_not() {
        // ApiVersions 3 of a Java client, Metadata 12, Produce 9; then what is none.
        let cases: &[(&[u8], Seen)] = &[
            (&[0, 0, 0, 52, 0, 18, 0, 3, 0, 0, 0, 0], Seen::Kafka),
            (&[0, 0, 1, 0, 0, 3, 0, 12], Seen::Kafka),
            (&[0, 16, 0, 0, 0, 0, 0, 9], Seen::Kafka),
            // A length of 2,000,000,000: looks like Kafka, and is refused for its size.
            (&[0x77, 0x35, 0x94, 0, 0, 3, 0, 12], Seen::Kafka),
            (&[0xff, 0xff, 0xff, 0xff, 0, 3, 0, 12], Seen::Garbage),
            (&[0, 0, 0, 52, 9, 18, 0, 3], Seen::Garbage),
            (b"\x10\x10\x00\x04MQTT\x04", Seen::Other("MQTT")),
            (&[0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f], Seen::Other("PostgreSQL")),
            (&[0, 0, 0, 52], Seen::Unknown),
            (&[], Seen::Unknown),
        ];
        for (first, expected) in cases {
            assert_eq!(classify(first), *expected, "{first:?}");
        }
    }

    #[test]
    fn the_same_bytes_mean_different_mistakes_on_plain_and_tls_listeners() {
        let hello = [0x16, 3, 1, 2, 0, 1, 0, 1];
        let request = [0, 0, 0, 52, 0, 18, 0, 3];
        let plain = |first: &[u8]| of_first_bytes(classify(first), first).map(|(id, _)| id);
        let tls = |first: &[u8]| of_first_bytes_on_tls(first).map(|(id, _)| id);
        assert_eq!((plain(&hello), tls(&hello)), (Some(TLS_ON_PLAIN_PORT), None));
        assert_eq!((plain(&request), tls(&request)), (None, Some(PLAIN_ON_TLS_PORT)));
        for on in [plain(b"GET / HT"), tls(b"GET / HT")] {
            assert_eq!(on, Some(HTTP_ON_KAFKA_PORT));
        }
    }

    #[test]
    fn the_hint_for_browsers_is_a_complete_http_reply_that_names_the_http_port() {
        let hint = http_hint(&Config::defaults());
        let (head, body) = hint.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 400 "));
        assert!(head.contains(&format!("Content-Length: {}", body.len())));
        assert!(body.contains("http://127.0.0.1:8080/"));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(first: Vec<u8>) {
            let _ = of_first_bytes(classify(&first), &first);
            let _ = of_first_bytes_on_tls(&first);
        }
    }
}
