//! Clients that cannot reach the address that `advertised.listeners` tells them.
//!
//! Such a client reaches the broker by its bootstrap address, is told another one by Metadata, and
//! nothing that it does there ever arrives here. Seen with real clients against an address that
//! answers nothing: Java from 4.0 asks the bootstrap connection again every second (KIP-899 and
//! KIP-1102); librdkafka closes it and connects anew every few seconds; Java before 4.0 and older
//! kafka-python ask for a group's coordinator once, then keep the connection and stay silent.
//!
//! The rule, for each client (address, listener, client id), and only where the address that is
//! told is not the one that the connection reached:
//! 1. A *try* is a Metadata or FindCoordinator request, at least [`TRY_APART_MS`] after the last.
//!    Three tries, none more than [`TRY_WITHIN_MS`] after the one before, are a diagnosis.
//! 2. So is one FindCoordinator whose connection is still open [`WAITING_MS`] later.
//! 3. Work, that is any request but those with which a client finds its way, clears the client: on
//!    whatever connection of the same address (it does reach us), or of the same client id from
//!    another address (a router that leads traffic back changes the address). For as long as that
//!    connection is open nothing is diagnosed for them.
//! 4. To ask for all topics clears it too: lists of topics are all that such a program wants, and
//!    it got them.
//! 5. A client is told of once in [`TOLD_EVERY_MS`].
//!
//! So a tool that lists or describes topics, however often, is no case; one that does nothing but
//! ask for a named topic's metadata every few seconds, for ever, is taken for one. A pure machine:
//! time comes in, findings come out.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

const TRIES: u32 = 3;
const TRY_APART_MS: i64 = 2_000;
const TRY_WITHIN_MS: i64 = 15_000;
const WAITING_MS: i64 = 15_000;
const TOLD_EVERY_MS: i64 = 60_000;
/// Clients that are being watched; the one that tried longest ago goes first.
const CLIENTS_MAX: usize = 256;
/// Of the client id, which comes from the network.
const CLIENT_ID_CHARS_MAX: usize = 100;

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct ClientKey {
    address: IpAddr,
    listener: String,
    client_id: String,
}

impl ClientKey {
    pub(crate) fn new(peer: SocketAddr, listener: &str, client_id: &str) -> Self {
        Self {
            address: peer.ip().to_canonical(),
            listener: listener.to_owned(),
            client_id: client_id.chars().take(CLIENT_ID_CHARS_MAX).collect(),
        }
    }

    /// The same program as far as can be told: see rule 3.
    fn is_like(&self, other: &Self) -> bool {
        let same_id = !self.client_id.is_empty() && self.client_id == other.client_id;
        self.address == other.address || (same_id && self.listener == other.listener)
    }
}

/// What it asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Metadata of some topics, or of the broker alone.
    Metadata,
    AllTopics,
    GroupCoordinator,
}

#[derive(Debug, Default)]
struct Watched {
    tries: u32,
    last_try_ms: i64,
    /// A connection that asked for a coordinator and is open, and since when.
    waiting: Option<(SocketAddr, i64)>,
    told_ms: Option<i64>,
}

#[derive(Debug, Default)]
pub(crate) struct Reach {
    watched: HashMap<ClientKey, Watched>,
    /// Open connections that do work, by the peer's end.
    working: HashMap<SocketAddr, ClientKey>,
}

impl Reach {
    /// A request was answered with an address that is not the connection's own. `true`: it is time
    /// to tell that this client does not get there.
    pub(crate) fn asked(
        &mut self,
        client: &ClientKey,
        peer: SocketAddr,
        asked: Asked,
        now_ms: i64,
    ) -> bool {
        if asked == Asked::AllTopics || works(&self.working, client) {
            self.watched.remove(client);
            return false;
        }
        self.make_room(client);
        let watched = self.watched.entry(client.clone()).or_default();
        if asked == Asked::GroupCoordinator {
            watched.waiting.get_or_insert((peer, now_ms));
        }
        let since_ms = now_ms - watched.last_try_ms;
        if watched.tries > 0 && since_ms < TRY_APART_MS {
            return false;
        }
        watched.tries = if since_ms > TRY_WITHIN_MS { 1 } else { watched.tries + 1 };
        watched.last_try_ms = now_ms;
        watched.tries >= TRIES && watched.tell(now_ms)
    }

    /// A connection made its first request that is work.
    pub(crate) fn worked(&mut self, client: ClientKey, peer: SocketAddr) {
        self.watched.retain(|other, _| !other.is_like(&client));
        self.working.insert(peer, client);
    }

    pub(crate) fn closed(&mut self, peer: SocketAddr) {
        self.working.remove(&peer);
        for watched in self.watched.values_mut() {
            watched.waiting = watched.waiting.filter(|(waiting, _)| *waiting != peer);
        }
    }

    /// Once in a few seconds: those who asked for a coordinator and have been waiting since, each
    /// with its connection.
    pub(crate) fn waiting(&mut self, now_ms: i64) -> Vec<(ClientKey, SocketAddr)> {
        let mut found = Vec::new();
        for (client, watched) in &mut self.watched {
            let Some((peer, since_ms)) = watched.waiting else { continue };
            let due = now_ms - since_ms >= WAITING_MS;
            if due && !works(&self.working, client) {
                watched.waiting = None;
                if watched.tell(now_ms) {
                    found.push((client.clone(), peer));
                }
            }
        }
        found
    }

    fn make_room(&mut self, wanted: &ClientKey) {
        if self.watched.len() < CLIENTS_MAX || self.watched.contains_key(wanted) {
            return;
        }
        let oldest = self.watched.iter().min_by_key(|(_, watched)| watched.last_try_ms);
        if let Some(oldest) = oldest.map(|(client, _)| client.clone()) {
            self.watched.remove(&oldest);
        }
    }
}

fn works(working: &HashMap<SocketAddr, ClientKey>, client: &ClientKey) -> bool {
    working.values().any(|other| other.is_like(client))
}

impl Watched {
    fn tell(&mut self, now_ms: i64) -> bool {
        let due = self.told_ms.is_none_or(|told_ms| now_ms - told_ms >= TOLD_EVERY_MS);
        if due {
            self.told_ms = Some(now_ms);
        }
        due
    }
}

impl ClientKey {
    pub(crate) fn client_id(&self) -> &str {
        &self.client_id
    }

    pub(crate) fn listener(&self) -> &str {
        &self.listener
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines of a transcript: `seconds address:port client-id event`; the findings come back as
    /// `seconds client-id`. Every whole second the broker looks for who is waiting.
    fn run(transcript: &str) -> Vec<String> {
        let mut reach = Reach::default();
        let mut found = Vec::new();
        let mut looked = 0;
        for line in transcript.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [at, peer, client_id, event] = words[..] else { panic!("{line}") };
            let now_ms = (at.parse::<f64>().unwrap() * 1_000.0) as i64;
            while looked < now_ms {
                looked += 1_000;
                let waiting = reach.waiting(looked);
                found.extend(
                    waiting
                        .iter()
                        .map(|(client, _)| format!("{} {}", looked / 1_000, client.client_id())),
                );
            }
            let peer: SocketAddr = peer.parse().unwrap();
            let client = ClientKey::new(peer, "LAN", client_id);
            let asked = match event {
                "metadata" => Asked::Metadata,
                "list" => Asked::AllTopics,
                "coordinator" => Asked::GroupCoordinator,
                "work" => {
                    reach.worked(client, peer);
                    continue;
                }
                "close" | "look" => {
                    if event == "close" {
                        reach.closed(peer);
                    }
                    continue;
                }
                other => panic!("{other}"),
            };
            if reach.asked(&client, peer, asked, now_ms) {
                found.push(format!("{at} {client_id}"));
            }
        }
        found
    }

    /// Recorded from Kafka 4.3's console producer; it goes on like this.
    #[test]
    fn java_4_asks_its_bootstrap_connection_again_and_again() {
        let found = run("8.9  10.0.0.7:1 j43 metadata
                         10.1 10.0.0.7:1 j43 metadata
                         10.2 10.0.0.7:1 j43 metadata
                         10.8 10.0.0.7:1 j43 metadata
                         11.6 10.0.0.7:1 j43 metadata
                         12.5 10.0.0.7:1 j43 metadata
                         13.4 10.0.0.7:1 j43 metadata
                         15.4 10.0.0.7:1 j43 metadata
                         16.4 10.0.0.7:1 j43 metadata");
        assert_eq!(found, ["15.4 j43"], "8.9, 11.6 and 15.4 are tries; told once a minute");
    }

    /// Recorded from librdkafka 2.12's producer.
    #[test]
    fn librdkafka_connects_anew_each_time() {
        let found = run("2.1 10.0.0.7:1 rdkafka metadata
                         2.1 10.0.0.7:1 rdkafka close
                         4.1 10.0.0.7:2 rdkafka metadata
                         4.2 10.0.0.7:2 rdkafka close
                         6.1 10.0.0.7:3 rdkafka metadata");
        assert_eq!(found, ["6.1 rdkafka"]);
    }

    /// Recorded from Kafka 3.4's console consumer and kafka-python 2.0.
    #[test]
    fn older_clients_ask_for_their_coordinator_once_and_wait() {
        let found = run("9.0  10.0.0.7:1 j34 metadata
                         9.3  10.0.0.7:1 j34 coordinator
                         40.0 10.0.0.7:1 j34 look");
        assert_eq!(found, ["25 j34"], "15 seconds later, at the next look");
        let gone = run("9.3  10.0.0.7:1 j34 coordinator
                        12.0 10.0.0.7:1 j34 close
                        40.0 10.0.0.7:1 j34 look");
        assert!(gone.is_empty(), "somebody stopped it");
    }

    #[test]
    fn who_arrives_at_the_advertised_address_is_no_case() {
        let second_connection = run("1.0 10.0.0.7:1 app metadata
                                     1.1 10.0.0.7:1 app coordinator
                                     1.2 10.0.0.7:2 app work
                                     4.0 10.0.0.7:1 app metadata
                                     7.0 10.0.0.7:1 app metadata
                                     60.0 10.0.0.7:1 app look");
        assert!(second_connection.is_empty());
        let same_connection = run("1.0 10.0.0.7:1 app metadata
                                   1.2 10.0.0.7:1 app work
                                   4.0 10.0.0.7:1 app metadata
                                   7.0 10.0.0.7:1 app metadata
                                   10.0 10.0.0.7:1 app metadata");
        assert!(same_connection.is_empty());
        let through_the_router = run("1.0 10.0.0.7:1 app metadata
                                      1.2 10.0.0.1:9 app work
                                      4.0 10.0.0.7:1 app metadata
                                      7.0 10.0.0.7:1 app metadata");
        assert!(through_the_router.is_empty());
    }

    /// A program that starts, writes and ends, every few seconds.
    #[test]
    fn short_runs_that_work_are_no_case() {
        let found = run("1.0 10.0.0.7:1 app metadata
                         1.2 10.0.0.7:2 app work
                         1.3 10.0.0.7:2 app close
                         5.0 10.0.0.7:3 app metadata
                         5.2 10.0.0.7:4 app work
                         5.3 10.0.0.7:4 app close
                         9.0 10.0.0.7:5 app metadata
                         9.2 10.0.0.7:6 app work");
        assert!(found.is_empty());
    }

    /// kafka-topics --list asks for the broker on one connection and for all topics on the next;
    /// kcat -L does both on one.
    #[test]
    fn tools_that_list_topics_are_no_case_however_often_they_run() {
        let mut transcript = String::new();
        for run in 0..100 {
            let at = run * 3;
            transcript +=
                &format!("{at}.0 10.0.0.7:1 admin metadata\n{at}.1 10.0.0.7:2 admin list\n");
        }
        assert!(run(&transcript).is_empty());
    }

    #[test]
    fn slow_repeats_are_no_case_and_others_are_told_apart() {
        let slow = run("1 10.0.0.7:1 a metadata
                        20 10.0.0.7:1 a metadata
                        40 10.0.0.7:1 a metadata
                        300 10.0.0.7:1 a metadata");
        assert!(slow.is_empty());
        let two = run("1 10.0.0.7:1 a metadata
                       1 10.0.0.8:1 b metadata
                       4 10.0.0.8:1 b metadata
                       4 10.0.0.7:2 a work
                       7 10.0.0.8:1 b metadata
                       70 10.0.0.8:1 b metadata
                       73 10.0.0.8:1 b metadata
                       76 10.0.0.8:1 b metadata");
        assert_eq!(two, ["7 b", "76 b"]);
    }

    #[test]
    fn many_clients_do_not_make_it_grow() {
        let mut reach = Reach::default();
        for number in 0..10_000_u32 {
            let peer = SocketAddr::from((number.to_be_bytes(), 1));
            let client = ClientKey::new(peer, "LAN", &"x".repeat(10_000));
            assert!(!reach.asked(&client, peer, Asked::Metadata, i64::from(number)));
            reach.worked(client.clone(), peer);
            reach.closed(peer);
            reach.asked(&client, peer, Asked::Metadata, i64::from(number));
        }
        assert!(reach.watched.len() <= CLIENTS_MAX && reach.working.is_empty());
    }
}
