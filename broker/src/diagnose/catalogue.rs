//! Every diagnosis of a connection, and the way to find those of all kinds. Ids are stable: they
//! stand in metrics, in the manual and in people's notes.

use super::CONDITIONS;

/// One thing that goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Diagnosis {
    pub id: &'static str,
    pub title: &'static str,
    pub what_happened: &'static str,
    pub how_to_fix: &'static str,
}

pub const HTTP_ON_KAFKA_PORT: &str = "http-on-kafka-port";
pub const TLS_ON_PLAIN_PORT: &str = "tls-on-plain-port";
pub const PLAIN_ON_TLS_PORT: &str = "plain-on-tls-port";
pub const SSH_ON_KAFKA_PORT: &str = "ssh-on-kafka-port";
pub const OTHER_PROTOCOL: &str = "other-protocol";
pub const GARBAGE: &str = "garbage";
pub const TLS_HANDSHAKE_FAILED: &str = "tls-handshake-failed";
pub const TLS_AUTHORITY_NOT_TRUSTED: &str = "tls-authority-not-trusted";
pub const TLS_CERTIFICATE_REFUSED: &str = "tls-certificate-refused";
pub const TLS_CERTIFICATE_EXPIRED: &str = "tls-certificate-expired";
pub const TLS_NOTHING_IN_COMMON: &str = "tls-nothing-in-common";
pub const TLS_CLIENT_CERTIFICATE_MISSING: &str = "tls-client-certificate-missing";
pub const TLS_CLIENT_CERTIFICATE_REFUSED: &str = "tls-client-certificate-refused";
pub const SASL_ON_PLAIN_LISTENER: &str = "sasl-on-plain-listener";
pub const NO_SASL_ON_SASL_LISTENER: &str = "no-sasl-on-sasl-listener";
pub const MECHANISM_NOT_ENABLED: &str = "mechanism-not-enabled";
pub const WRONG_PASSWORD: &str = "wrong-password";
pub const NO_USERS: &str = "no-users";
pub const LOGINS_SLOWED: &str = "logins-slowed";
pub const MALFORMED_LOGIN: &str = "malformed-login";
pub const OVERSIZED_FRAME: &str = "oversized-frame";
pub const UNDECODABLE_REQUEST: &str = "undecodable-request";
pub const UNSUPPORTED_VERSION: &str = "unsupported-version";
pub const TOO_MANY_CONNECTIONS: &str = "too-many-connections";
pub const SESSION_EXPIRED: &str = "session-expired";
pub const ADVERTISED_NEVER_DIALLED: &str = "advertised-address-never-dialled";
pub const NEAR_MISS_TOPIC_NAME: &str = "near-miss-topic-name";
pub const NOT_AUTHORISED: &str = "not-authorised";

pub const CATALOGUE: &[Diagnosis] = &[
    Diagnosis {
        id: HTTP_ON_KAFKA_PORT,
        title: "HTTP on a Kafka port",
        what_happened: "A browser, script or health check sent an HTTP request to a port that \
                        speaks Kafka's protocol. Apache Kafka logs this as \"Invalid receive (size \
                        = 1195725856\" (GET) or 1347375956 (POST).",
        how_to_fix: "Use the HTTP port (odradek.http.listen, 8080 unless changed). Let health \
                     checks ask /healthz there, or only open a TCP connection.",
    },
    Diagnosis {
        id: TLS_ON_PLAIN_PORT,
        title: "TLS on a listener without TLS",
        what_happened: "The client began a TLS handshake on a PLAINTEXT or SASL_PLAINTEXT \
                        listener. Apache Kafka logs this as \"Invalid receive (size = 369295616\", \
                        …617 or 369296129.",
        how_to_fix: "In the client write security.protocol=PLAINTEXT (or SASL_PLAINTEXT), or \
                     connect to the port of an SSL or SASL_SSL listener. To give this listener \
                     TLS, map it to SSL or SASL_SSL in listener.security.protocol.map and set \
                     ssl.keystore.location.",
    },
    Diagnosis {
        id: PLAIN_ON_TLS_PORT,
        title: "No TLS on a listener with TLS",
        what_happened: "The client sent a Kafka request in clear to an SSL or SASL_SSL listener. \
                        Java clients then run out of heap or time out waiting for a node \
                        assignment, because they read a TLS alert as a reply of 352 MB.",
        how_to_fix: "In the client write security.protocol=SSL (or SASL_SSL) and trust the \
                     broker's certificate (ssl.truststore.type=PEM, \
                     ssl.truststore.location=ca.pem; in Python ssl_cafile; in librdkafka \
                     ssl.ca.location).",
    },
    Diagnosis {
        id: SSH_ON_KAFKA_PORT,
        title: "SSH on a Kafka port",
        what_happened: "An SSH client or a port scanner connected to a Kafka listener. Apache \
                        Kafka logs this as \"Invalid receive (size = 1397966893\".",
        how_to_fix: "Check the port number of the ssh command or of the tunnel. If nobody here did \
                     that, the port can be reached by scanners: close it in the firewall or \
                     router, or require a login on it.",
    },
    Diagnosis {
        id: OTHER_PROTOCOL,
        title: "Another protocol on a Kafka port",
        what_happened: "The first bytes belong to a protocol that is not Kafka's.",
        how_to_fix: "Check host and port in the settings of the program at the peer's address.",
    },
    Diagnosis {
        id: GARBAGE,
        title: "Not Kafka's protocol",
        what_happened: "The first bytes are no Kafka request and of no protocol known here.",
        how_to_fix: "Check what runs at the peer's address. Scanners send such bytes to every open \
                     port: if the peer is not in your network, close the port in firewall or \
                     router.",
    },
    Diagnosis {
        id: TLS_HANDSHAKE_FAILED,
        title: "The TLS handshake failed",
        what_happened: "The handshake began and did not end, and neither side told a reason that \
                        has a diagnosis of its own. Many clients only close the connection when \
                        they do not trust the certificate.",
        how_to_fix: "Give the client the certificate of the authority that signed the broker's \
                     (ssl.truststore.location, ssl_cafile, ssl.ca.location), and make sure that \
                     the broker's certificate names the host in bootstrap.servers and in \
                     advertised.listeners. What the client's own log says is more exact.",
    },
    Diagnosis {
        id: TLS_AUTHORITY_NOT_TRUSTED,
        title: "The client does not know who signed the certificate",
        what_happened: "The client ended the TLS handshake because it does not trust the \
                        authority that signed this broker's certificate.",
        how_to_fix: "Give the client the certificate of that authority: ssl.ca.location in \
                     librdkafka, ssl_cafile in kafka-python, ssl.truststore.type=PEM and \
                     ssl.truststore.location in Java. If `odradek tls init` made a new \
                     authority (in another folder, or after ca.pem was moved away), clients need \
                     the new ca.pem.",
    },
    Diagnosis {
        id: TLS_CERTIFICATE_REFUSED,
        title: "The client refuses the broker's certificate",
        what_happened: "The client ended the TLS handshake because of this broker's certificate. \
                        It does not say more: either it does not trust the authority that signed \
                        it (Java then logs \"PKIX path building failed\"), or the certificate does \
                        not name the host that the client dialled (\"No subject alternative \
                        names\", \"hostname mismatch\").",
        how_to_fix: "For the first, give the client the certificate of the authority \
                     (ssl.truststore.location with ssl.truststore.type=PEM, ssl.ca.location, \
                     ssl_cafile). For the second, write in bootstrap.servers and \
                     advertised.listeners a name that stands in the certificate, or make a \
                     certificate with the name: `odradek tls init --host NAME`.",
    },
    Diagnosis {
        id: TLS_CERTIFICATE_EXPIRED,
        title: "The certificate has expired",
        what_happened: "The client ended the TLS handshake because this broker's certificate, or \
                        the authority's, is past its last day.",
        how_to_fix: "Make a new certificate (`odradek tls init`, or what made the old one). If \
                     it should still be valid, compare the clocks of the client's and of this \
                     machine.",
    },
    Diagnosis {
        id: TLS_NOTHING_IN_COMMON,
        title: "No TLS version or cipher in common",
        what_happened: "Client and broker have no version of TLS, no cipher suite or no kind of \
                        key in common. This broker speaks TLS 1.2 and 1.3.",
        how_to_fix: "Update the client or the Java it runs on: TLS 1.0 and 1.1 are not offered. \
                     Leave ssl.enabled.protocols and ssl.cipher.suites unset on both sides, \
                     unless there is a reason for them.",
    },
    Diagnosis {
        id: TLS_CLIENT_CERTIFICATE_MISSING,
        title: "The client has no certificate",
        what_happened: "This listener has ssl.client.auth=required, and the client showed no \
                        certificate.",
        how_to_fix: "Give the client a key and a certificate (ssl.keystore.location with \
                     ssl.keystore.type=PEM in Java, ssl.certificate.location and \
                     ssl.key.location in librdkafka, ssl_certfile and ssl_keyfile in \
                     kafka-python), or set ssl.client.auth=none on this listener.",
    },
    Diagnosis {
        id: TLS_CLIENT_CERTIFICATE_REFUSED,
        title: "The client's certificate is not accepted",
        what_happened: "The client showed a certificate that this listener does not accept: it is \
                        not signed by an authority in ssl.truststore.location, is out of date, or \
                        no rule of ssl.principal.mapping.rules fits its name.",
        how_to_fix: "Let the authority in ssl.truststore.location sign the client's certificate, \
                     or add the authority that did. If the evidence names a rule, add one that \
                     fits, or DEFAULT, to ssl.principal.mapping.rules.",
    },
    Diagnosis {
        id: SASL_ON_PLAIN_LISTENER,
        title: "A login on a listener without login",
        what_happened: "The client began a SASL login on a PLAINTEXT or SSL listener.",
        how_to_fix: "In the client write security.protocol=PLAINTEXT (or SSL), or connect to the \
                     port of a SASL listener. To give this listener a login, map it to \
                     SASL_PLAINTEXT or SASL_SSL in listener.security.protocol.map.",
    },
    Diagnosis {
        id: NO_SASL_ON_SASL_LISTENER,
        title: "No login on a listener with login",
        what_happened: "The client sent requests to a SASL listener without logging in first. \
                        kafka-python reports NoBrokersAvailable, Java clients a loop of \
                        \"disconnected\".",
        how_to_fix: "In the client write security.protocol=SASL_PLAINTEXT (or SASL_SSL), \
                     sasl.mechanism=PLAIN, and a user name and password. Tools take them from a \
                     file: --command-config or --consumer.config admin.properties.",
    },
    Diagnosis {
        id: MECHANISM_NOT_ENABLED,
        title: "The login mechanism is not enabled",
        what_happened: "The client asked for a SASL mechanism that this listener does not offer.",
        how_to_fix: "Write one of the offered ones in the client's sasl.mechanism, or add the \
                     mechanism to sasl.enabled.mechanisms. PLAIN works with every client. GSSAPI \
                     (Kerberos) and OAUTHBEARER are not offered.",
    },
    Diagnosis {
        id: WRONG_PASSWORD,
        title: "Wrong user name or password",
        what_happened: "The login was refused. The client is not told which of the two was wrong.",
        how_to_fix: "Check both in the client. `odradek user list` shows the users, `odradek user \
                     passwd NAME` sets a new password. Users pasted as a JAAS line are written \
                     user_NAME=\"PASSWORD\"; username= and password= alone are no user.",
    },
    Diagnosis {
        id: NO_USERS,
        title: "There is no user to log in as",
        what_happened: "A client tried to log in, and this broker has no users at all.",
        how_to_fix: "Add one with `odradek user add NAME`, or paste a JAAS line with \
                     user_NAME=\"PASSWORD\" into server.properties.",
    },
    Diagnosis {
        id: LOGINS_SLOWED,
        title: "Many failed logins from one address",
        what_happened: "Logins from this address have failed so often that each further failure is \
                        answered seconds late. A right password is not slowed; but while failures \
                        hold all turns of the address, it may wait for one, or be sent away after \
                        30 seconds. The delay is forgotten within minutes.",
        how_to_fix: "Find the program there that tries again and again with a wrong user or \
                     password; the entries about wrong passwords name the users. If nobody there \
                     should log in, somebody is guessing: close the port in firewall or router.",
    },
    Diagnosis {
        id: MALFORMED_LOGIN,
        title: "A login message that cannot be read",
        what_happened: "The messages of the login were out of order or malformed.",
        how_to_fix: "Check that name and password are not empty, and that the client's \
                     sasl.mechanism is the one its other settings belong to.",
    },
    Diagnosis {
        id: OVERSIZED_FRAME,
        title: "A request that is too large",
        what_happened: "A request announced more bytes than are allowed, or a negative number. \
                        Before a login the bound is sasl.server.max.receive.size, after it \
                        socket.request.max.bytes or half of odradek.memory.max.bytes, whichever \
                        is less.",
        how_to_fix: "If it was a real producer, make its max.request.size smaller or raise the \
                     bound that the evidence names. Else something that is not a Kafka client is \
                     connected.",
    },
    Diagnosis {
        id: UNDECODABLE_REQUEST,
        title: "A request that cannot be decoded",
        what_happened: "The bytes of a request do not fit Kafka's schema for it.",
        how_to_fix: "Update the client library. If it is current, please report the evidence: it \
                     is a defect of the client or of this broker.",
    },
    Diagnosis {
        id: UNSUPPORTED_VERSION,
        title: "A request that is not served here",
        what_happened: "The client sent an API or a version of it that this broker does not list.",
        how_to_fix: "Clients ask for the list first (ApiVersions). One that does not is either \
                     very old, or was told a broker version by hand (api_version in kafka-python, \
                     broker.version.fallback in librdkafka): remove that setting or update it.",
    },
    Diagnosis {
        id: TOO_MANY_CONNECTIONS,
        title: "Too many connections",
        what_happened: "A connection was refused because max.connections or max.connections.per.ip \
                        is reached.",
        how_to_fix: "Look for a program that opens connections and does not close them (one \
                     producer for each message is the usual one). If all are needed, raise the \
                     bound.",
    },
    Diagnosis {
        id: SESSION_EXPIRED,
        title: "The login has expired",
        what_happened: "A login lasts for connections.max.reauth.ms here. The client did not log \
                        in again before that and sent another request, so the connection was \
                        closed. A client that knows KIP-368 logs in again by itself; an older one \
                        connects anew.",
        how_to_fix: "Nothing, if the client went on with a new connection. If the breaks hurt, \
                     use a newer client library, or make connections.max.reauth.ms longer; 0 lets \
                     a login last as long as its connection.",
    },
    Diagnosis {
        id: ADVERTISED_NEVER_DIALLED,
        title: "The client does not get to the advertised address",
        what_happened: "A client reached this broker, was told to connect to the address in \
                        advertised.listeners, and has not arrived by it. It asks again and again, \
                        or waits. Clients connect, list topics, and then hang; they report \
                        \"Connection to node 1 could not be established\", or nothing.",
        how_to_fix: "From the client's machine try the address in the evidence: the name must \
                     resolve there, and the port must be open. Write in advertised.listeners what \
                     that machine can dial; `localhost` and addresses of a container mean \
                     something else there. Or take the line out: then each client is told the \
                     address at which it reached the broker. Where clients inside and outside \
                     need different addresses, give each a listener of its own.",
    },
    Diagnosis {
        id: NEAR_MISS_TOPIC_NAME,
        title: "A topic's name that is nearly another's",
        what_happened: "A client named a topic that did not exist and whose name is nearly that \
                        of another one: it differs by blanks at its ends, upper and lower case, a \
                        dash, dot or underscore, or one character. Clients report \
                        UNKNOWN_TOPIC_OR_PARTITION or INVALID_TOPIC_EXCEPTION, or wait for ever. \
                        Where topics are created by being asked for, this one now exists.",
        how_to_fix: "Compare the two names in the evidence, and write the right one in the \
                     client. If a second topic was created by the slip, delete it with \
                     kafka-topics --delete. If both names are meant, nothing needs to be done; \
                     auto.create.topics.enable=false prevents such topics.",
    },
    Diagnosis {
        id: NOT_AUTHORISED,
        title: "Not authorised",
        what_happened: "The client is logged in, but no access rule lets it do what it asked for, \
                        or one denies it. Clients report TOPIC_AUTHORIZATION_FAILED, \
                        GROUP_AUTHORIZATION_FAILED or CLUSTER_AUTHORIZATION_FAILED.",
        how_to_fix: "If it may, add the rule: odradek acl add --allow-principal User:NAME \
                     --producer --topic TOPIC, or --consumer --topic TOPIC --group GROUP; \
                     kafka-acls --add takes the same words. `odradek acl list` and kafka-acls \
                     --list show the rules. Administrators belong in super.users. \
                     allow.everyone.if.no.acl.found=true opens what no rule stands for.",
    },
];

/// Every diagnosis: of connections, then of the server and its surroundings.
pub fn all() -> impl Iterator<Item = &'static Diagnosis> {
    CATALOGUE.iter().chain(CONDITIONS)
}

/// The diagnosis of this id.
pub fn find(id: &str) -> Option<&'static Diagnosis> {
    all().find(|diagnosis| diagnosis.id == id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique_and_every_text_says_something() {
        for (at, diagnosis) in all().enumerate() {
            assert!(all().take(at).all(|other| other.id != diagnosis.id));
            assert!(diagnosis.id.chars().all(|c| c.is_ascii_lowercase() || c == '-'));
            for text in [diagnosis.what_happened, diagnosis.how_to_fix] {
                assert!(text.ends_with('.') && !text.contains("  "), "{text}");
            }
            assert_eq!(find(diagnosis.id), Some(diagnosis));
        }
    }
}
