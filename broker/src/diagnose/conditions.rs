//! What is wrong with the server or its surroundings, as opposed to with one connection: found by
//! `odradek doctor` from outside, by the server itself, or by `odradek check`.
//!
//! These are not counted by the diary, so they stand apart from [`super::CATALOGUE`]; ids are one
//! namespace, and as stable as those.

use super::Diagnosis;

pub const SERVER_NOT_RUNNING: &str = "server-not-running";
pub const SERVER_VIEW_HIDDEN: &str = "server-view-hidden";
pub const CONFIGURATION_WRONG: &str = "configuration-wrong";
pub const CONFIGURATION_UNREADABLE: &str = "configuration-unreadable";
pub const STORAGE_PROBLEM: &str = "storage-problem";
pub const SOURCE_FAILS: &str = "source-fails";
pub const PROCESSOR_FAILS: &str = "processor-fails";
pub const LISTENER_UNREACHABLE: &str = "listener-unreachable";
pub const LISTENER_ANSWERS_WRONGLY: &str = "listener-answers-wrongly";
pub const LISTENER_WITHOUT_LOGIN: &str = "listener-without-login";
pub const ADVERTISED_UNREACHABLE: &str = "advertised-address-unreachable";
pub const ADVERTISED_NAME_UNKNOWN: &str = "advertised-name-unknown";
pub const ADVERTISED_ELSEWHERE: &str = "advertised-address-elsewhere";
pub const ADVERTISED_LOCALHOST: &str = "advertised-localhost";
pub const ADVERTISED_PRIVATE: &str = "advertised-private-address";
pub const CERTIFICATE_EXPIRED: &str = "certificate-expired";
pub const CERTIFICATE_EXPIRES: &str = "certificate-expires";
pub const CERTIFICATE_NOT_YET_VALID: &str = "certificate-not-yet-valid";
pub const CERTIFICATE_NAMES_OTHER_HOST: &str = "certificate-names-other-host";
pub const CERTIFICATE_CHAIN: &str = "certificate-chain";
pub const CLOCK_SKEW: &str = "clock-skew";
pub const CLOCK_NOT_SYNCHRONISED: &str = "clock-not-synchronised";
pub const DISK_NEARLY_FULL: &str = "disk-nearly-full";
pub const DATA_FOLDER_UNUSABLE: &str = "data-folder-unusable";
pub const DATA_FOLDER_READABLE: &str = "data-folder-readable";
pub const SECRET_FILE_READABLE: &str = "secret-file-readable";
pub const OPEN_FILES_LIMIT: &str = "open-files-limit";
pub const MEMORY_SHORT: &str = "memory-short";

pub const CONDITIONS: &[Diagnosis] = &[
    Diagnosis {
        id: SERVER_NOT_RUNNING,
        title: "No server is running",
        what_happened: "Nothing answers at the addresses of this configuration, or no process \
                        holds its data folder.",
        how_to_fix: "Start it with `odradek serve`, or as a service with `systemctl start \
                     odradek`. If it does run, it runs with another configuration: name that one \
                     with --config, or its HTTP address with --server.",
    },
    Diagnosis {
        id: SERVER_VIEW_HIDDEN,
        title: "The server does not tell how it is",
        what_happened: "The HTTP interface is switched off, cannot be reached, or asks for a user \
                        with Describe on the cluster, so what the server itself knows (odd \
                        connections, storage, sources) could not be looked at.",
        how_to_fix: "Run the command on the server's own machine, or name a user with --user. \
                     The address is odradek.http.listen; --server http://HOST:PORT names another \
                     one.",
    },
    Diagnosis {
        id: CONFIGURATION_WRONG,
        title: "The configuration has mistakes",
        what_happened: "server.properties, the environment or --override holds something that the \
                        server does not start with. A server that runs was started before that \
                        was written, and will not start again.",
        how_to_fix: "`odradek check` names each mistake with its file and line, and what to write \
                     instead.",
    },
    Diagnosis {
        id: CONFIGURATION_UNREADABLE,
        title: "This user may not read the configuration",
        what_happened: "The file is there, but is closed to the user who gave the command, as a \
                        file with passwords should be. What the configuration says could not be \
                        compared with what the server does.",
        how_to_fix: "Give the command as root, or as the user under whom the server runs: sudo -u \
                     odradek odradek doctor. Or look at the server by its HTTP address alone, with \
                     --server.",
    },
    Diagnosis {
        id: STORAGE_PROBLEM,
        title: "The log takes no records",
        what_happened: "The disk has less free space than odradek.disk.reserve.bytes, or a write \
                        or sync failed. Producers get KAFKA_STORAGE_ERROR or wait; consumers go \
                        on reading what is there.",
        how_to_fix: "Make room on the disk, or shorten the retention of a large topic \
                     (kafka-configs --alter --add-config retention.ms=…): deletion keeps a reserve \
                     of its own and works on a full disk. If writes fail though there is room, \
                     look at the disk's health (dmesg, smartctl). Appends resume by themselves.",
    },
    Diagnosis {
        id: SOURCE_FAILS,
        title: "A source does not deliver",
        what_happened: "A [[source]] of pipeline.toml cannot connect, is refused, or gets what it \
                        cannot read. Its detail says which.",
        how_to_fix: "A source that backs off is tried again by itself: check the other side and \
                     the network. One that failed needs its cause corrected, then POST \
                     /api/v1/sources/NAME/restart, or the console's button.",
    },
    Diagnosis {
        id: PROCESSOR_FAILS,
        title: "A processor does not work",
        what_happened: "A window, indicator, count, model or Parquet sink of pipeline.toml stopped \
                        with an error. Its input topics are not touched by that.",
        how_to_fix: "One that retries starts again by itself from its last commit. One that failed \
                     needs its cause corrected, then a restart of the server.",
    },
    Diagnosis {
        id: LISTENER_UNREACHABLE,
        title: "A listener does not answer",
        what_happened: "The address in `listeners` could not be dialled from this machine, or took \
                        the connection and said nothing.",
        how_to_fix: "Check that the server runs with this configuration, that the address belongs \
                     to this machine (a new DHCP lease may have changed it; an empty host listens \
                     on all), and that no firewall rule stands between.",
    },
    Diagnosis {
        id: LISTENER_ANSWERS_WRONGLY,
        title: "A listener speaks something else",
        what_happened: "The port answers, but not as this configuration says: no TLS where it \
                        should be, a login where none should be, another program altogether.",
        how_to_fix: "If the configuration was changed after the start, restart the server. Else \
                     look who has the port: ss -ltnp on Linux, netstat -abn on Windows.",
    },
    Diagnosis {
        id: LISTENER_WITHOUT_LOGIN,
        title: "A listener lets everybody in",
        what_happened: "A listener without login can be reached from other machines. Whoever \
                        reaches it can read, write and delete every topic.",
        how_to_fix: "`odradek expose` writes the configuration of a listener with login, \
                     certificate and user. By hand: map it to SASL_SSL or SASL_PLAINTEXT in \
                     listener.security.protocol.map and add a user (`odradek user add NAME`); or \
                     bind it to 127.0.0.1. If it is meant, write \
                     odradek.allow.unauthenticated.network=true.",
    },
    Diagnosis {
        id: ADVERTISED_UNREACHABLE,
        title: "The advertised address does not answer",
        what_happened: "Clients reach the broker, ask where it is, are told the address in \
                        advertised.listeners, and cannot connect there. They list topics, and then \
                        hang on the first record.",
        how_to_fix: "Write an address that clients reach into advertised.listeners, or take the \
                     line out: each client is then told the address at which it came. If the \
                     address is a router's, it must forward the port; many routers do not let a \
                     machine inside dial their outside address (no hairpin NAT), so try it from \
                     outside as well.",
    },
    Diagnosis {
        id: ADVERTISED_NAME_UNKNOWN,
        title: "The advertised name does not resolve",
        what_happened: "The host name in advertised.listeners means no address to this machine's \
                        resolver. Clients that ask the same name servers cannot connect.",
        how_to_fix: "Correct the name, add it to the DNS or to the hosts file of every client, or \
                     write an address. Without advertised.listeners each client is told the \
                     address at which it came, which needs no name.",
    },
    Diagnosis {
        id: ADVERTISED_ELSEWHERE,
        title: "The advertised address is not this machine's",
        what_happened: "The address in advertised.listeners, or what its name resolves to, is on \
                        none of this machine's network interfaces. That is right behind a router \
                        that forwards the port or in a container, and wrong after a new DHCP lease \
                        or with an old DNS entry.",
        how_to_fix: "If the machine's address has changed, correct advertised.listeners or the DNS \
                     entry, or take the line out. If a router forwards the port, check from \
                     outside that it does.",
    },
    Diagnosis {
        id: ADVERTISED_LOCALHOST,
        title: "Clients elsewhere are told \"localhost\"",
        what_happened: "advertised.listeners names localhost or a loopback address on a listener \
                        that other machines can reach. They connect, are told localhost, and then \
                        dial themselves.",
        how_to_fix: "Take the listener out of advertised.listeners (each client is then told the \
                     address at which it came), or write the address that clients reach. To serve \
                     this machine only, bind the listener to 127.0.0.1.",
    },
    Diagnosis {
        id: ADVERTISED_PRIVATE,
        title: "Clients from the Internet are told a private address",
        what_happened: "advertised.listeners names an address of a private network (10.x, \
                        172.16-31.x, 192.168.x, fc00::/7, 169.254.x), but clients with public \
                        addresses connect. They can reach the broker, but not the address that \
                        they are told.",
        how_to_fix: "Give clients outside a listener of their own, with a port of its own that the \
                     router forwards, and advertise the router's name there: \
                     listeners=LAN://:9092,WAN://:9094 and \
                     advertised.listeners=WAN://home.example.org:9094.",
    },
    Diagnosis {
        id: CERTIFICATE_EXPIRED,
        title: "A certificate has expired",
        what_happened: "The time in the certificate is over. Clients refuse the TLS handshake.",
        how_to_fix: "Put a new certificate into the file of ssl.keystore.location. One made by \
                     `odradek tls init` is renewed by the same command; clients that trust its \
                     authority need no change.",
    },
    Diagnosis {
        id: CERTIFICATE_EXPIRES,
        title: "A certificate expires soon",
        what_happened: "The certificate is valid for less than 30 days more. After that clients \
                        refuse the TLS handshake.",
        how_to_fix: "Put a new certificate into the file of ssl.keystore.location. One made by \
                     `odradek tls init` is renewed by the same command; clients that trust its \
                     authority need no change.",
    },
    Diagnosis {
        id: CERTIFICATE_NOT_YET_VALID,
        title: "A certificate is not valid yet",
        what_happened: "The certificate begins in the future, by this machine's clock. Clients \
                        refuse the TLS handshake.",
        how_to_fix: "Most often the clock is wrong, here or where the certificate was made: set it \
                     (timedatectl set-ntp true on Linux). Else make the certificate again.",
    },
    Diagnosis {
        id: CERTIFICATE_NAMES_OTHER_HOST,
        title: "The certificate does not name the host",
        what_happened: "Clients compare the host that they dial with the names in the certificate \
                        (Subject Alternative Name), and end the handshake when it is not among \
                        them. Java says \"No subject alternative names matching\", Python \
                        \"Hostname mismatch\", librdkafka \"certificate verify failed\".",
        how_to_fix: "Make a certificate for every name and address that clients use: `odradek tls \
                     init --host NAME --host ADDRESS`. Or let clients use, and \
                     advertised.listeners say, a name that stands in it.",
    },
    Diagnosis {
        id: CERTIFICATE_CHAIN,
        title: "The certificate chain is incomplete or out of order",
        what_happened: "The server must send its own certificate first, then the authority that \
                        signed it, and so on. Some clients mend another order, Java and others do \
                        not.",
        how_to_fix: "Put the certificates into the PEM file of ssl.keystore.location in this \
                     order: the server's own, then each one's issuer. From Let's Encrypt take \
                     fullchain.pem, not cert.pem.",
    },
    Diagnosis {
        id: CLOCK_SKEW,
        title: "Clocks differ",
        what_happened: "The server's clock differs from this machine's by more than a few seconds, \
                        or files of its data folder carry times of the future: its clock was set \
                        back. Records get wrong times, retention and certificates go by them.",
        how_to_fix: "Set both clocks by network time: timedatectl set-ntp true on Linux, w32tm \
                     /resync on Windows. Records that were written with a wrong time keep it.",
    },
    Diagnosis {
        id: CLOCK_NOT_SYNCHRONISED,
        title: "The clock is not synchronised",
        what_happened: "The system says that its clock is not set by network time. It may run off \
                        by seconds a day, and times of records with it.",
        how_to_fix: "Turn network time on: timedatectl set-ntp true (systemd-timesyncd), or \
                     install chrony.",
    },
    Diagnosis {
        id: DISK_NEARLY_FULL,
        title: "The disk is nearly full",
        what_happened: "Free space is near odradek.disk.reserve.bytes, below which appends stop. \
                        Reads and deletion go on then.",
        how_to_fix: "Make room, or shorten retention: log.retention.hours, log.retention.bytes, or \
                     a topic's own retention.ms and retention.bytes (kafka-configs --alter).",
    },
    Diagnosis {
        id: DATA_FOLDER_UNUSABLE,
        title: "The data folder cannot be used",
        what_happened: "The folder of log.dirs is not there, is no folder, or does not let this \
                        user read and write.",
        how_to_fix: "Check log.dirs, and who owns the folder: the user under whom the server runs \
                     must. The server makes a folder that is missing if it may.",
    },
    Diagnosis {
        id: DATA_FOLDER_READABLE,
        title: "Everybody on this machine can read the data",
        what_happened: "The data folder lets users other than its owner and group in. Records, \
                        users' verifiers and access rules lie there in clear.",
        how_to_fix: "chmod 750 the folder (or 700). The packaged service does so by itself.",
    },
    Diagnosis {
        id: SECRET_FILE_READABLE,
        title: "Everybody on this machine can read a secret",
        what_happened: "A file with passwords or a private key can be read by users other than its \
                        owner and group.",
        how_to_fix: "chmod 640 the file, and chgrp it to the group under which the server runs; or \
                     chmod 600 and give it to that user.",
    },
    Diagnosis {
        id: OPEN_FILES_LIMIT,
        title: "The limit of open files is low",
        what_happened: "Each connection is an open file, and so are files of the log. The \
                        process's limit is less than max.connections and the log may need. At the \
                        limit, new connections are refused and the log may fail.",
        how_to_fix: "Raise it: LimitNOFILE=65536 in the systemd unit, ulimit -n 65536 in a shell; \
                     or make max.connections smaller.",
    },
    Diagnosis {
        id: MEMORY_SHORT,
        title: "Memory is short",
        what_happened: "The server may use odradek.memory.max.bytes, and less than that is \
                        available to it on this machine or in its container. When it grows, the \
                        system swaps, or kills it.",
        how_to_fix: "Make odradek.memory.max.bytes smaller, raise the container's limit, or stop \
                     something else on this machine.",
    },
];
