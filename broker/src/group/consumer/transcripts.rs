//! What the transcripts of `group/testdata/consumer` say to a group of the consumer protocol, and
//! what it does.
//!
//! ```text
//! > settings size=2 downgrade=no     also: upgrade=, session=
//! > topics t=3 u=0                   created, grown; 0 deletes
//! > at 1500                          time, in milliseconds; ticks if something is due
//! > beat a epoch=0 topics=t owns=    a heartbeat; also: pattern= instance= assignor= rebalance=
//! > beat a epoch=1 owns=t:0,1;u:0    without `owns`, it does not say
//! > join b offers=range owns=t:0     classic protocol; also: instance= topics= type= known=no
//! > sync b generation=2 | > heartbeat b generation=2 | > leave b -/instance
//! > commit a epoch=2 version=9 of=t:0,1 | > fetch a epoch=2
//! > restart                          from the records
//! > upgrade b=t:0,1 c=t:2            a new group, from a classic one with these assignments
//! ```

use std::fmt::Write as _;

use bytes::{BufMut, Bytes, BytesMut};

use super::super::exchange::{JoinReply, MemberReply, Protocol, SyncReply};
use super::super::words::{Words, leave_text, outcome};
use super::convert;
use super::testing::TestTopics;
use super::*;
use crate::transcript::{self, error_name};

struct Run {
    settings: ConsumerSettings,
    session_timeout_ms: i32,
    group: Group,
    durable: Image,
    topics: TestTopics,
    now_ms: i64,
    waiters: Waiter,
    fresh_ids: usize,
}

fn list(words: &Words<'_>, name: &str) -> Option<Vec<String>> {
    let listed = words.named.get(name)?.split(',').filter(|word| !word.is_empty());
    Some(listed.map(str::to_owned).collect())
}

fn is_not(words: &Words<'_>, name: &str) -> bool {
    words.named.get(name) == Some(&"no")
}

/// A `ConsumerProtocolSubscription` of version 1.
pub(super) fn subscription(topics: &[String], owned: &[(String, Vec<i32>)]) -> Bytes {
    let mut out = BytesMut::new();
    let text = |out: &mut BytesMut, text: &str| {
        out.put_i16(i16::try_from(text.len()).expect("short"));
        out.put_slice(text.as_bytes());
    };
    let count = |out: &mut BytesMut, count: usize| out.put_i32(i32::try_from(count).expect("few"));
    out.put_i16(1);
    count(&mut out, topics.len());
    topics.iter().for_each(|topic| text(&mut out, topic));
    out.put_i32(-1);
    count(&mut out, owned.len());
    for (topic, partitions) in owned {
        text(&mut out, topic);
        count(&mut out, partitions.len());
        partitions.iter().for_each(|partition| out.put_i32(*partition));
    }
    out.freeze()
}

/// `t:0,1;u:0`, by name.
fn by_name(text: &str) -> Vec<(String, Vec<i32>)> {
    let topics = text.split(';').filter_map(|topic| topic.split_once(':'));
    let topics = topics.map(|(name, partitions)| {
        let partitions = partitions.split(',').filter_map(|it| it.parse().ok());
        (name.to_owned(), partitions.collect())
    });
    topics.collect()
}

impl Run {
    fn new() -> Self {
        let settings = ConsumerSettings::default();
        Self {
            settings,
            session_timeout_ms: 45_000,
            group: Group::new(settings),
            durable: Image::default(),
            topics: TestTopics::default(),
            now_ms: 0,
            waiters: 0,
            fresh_ids: 0,
        }
    }

    fn now(&self) -> Now {
        Now { monotonic_ms: self.now_ms, wall_ms: 1_000_000 + self.now_ms }
    }

    fn say(&mut self, line: &str) -> String {
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        let words = Words::parse(rest);
        let mut out = String::new();
        match verb {
            "settings" => self.set(&words),
            "topics" => {
                for (name, partitions) in &words.named {
                    self.topics.set(name, partitions.parse().expect("partitions"));
                }
            }
            "at" => {
                self.now_ms = words.plain[0].parse().expect("a time");
                if self.group.due_ms().is_some_and(|due_ms| due_ms <= self.now_ms) {
                    self.give(Event::Tick, &mut out);
                }
            }
            "beat" => self.beat(&words, &mut out),
            "join" => self.join(&words, &mut out),
            "sync" | "heartbeat" | "leave" => self.classic(verb, &words, &mut out),
            "commit" => {
                let caller = words.caller("epoch");
                let version: i16 = words.number("version", 9);
                let of = self.topics.parse(words.named.get("of").copied().unwrap_or("t:0"));
                let places = of.iter().flat_map(|(topic, partitions)| {
                    partitions.iter().map(|partition| Some((*topic, *partition)))
                });
                let result = self.group.admit_commit(&caller, version >= 9, places);
                writeln!(out, "  commit: {}", outcome(&result)).expect("a string");
            }
            "fetch" => {
                let id = Some(words.who()).filter(|id| !id.is_empty());
                let result = self.group.admit_fetch(id.as_deref(), words.number("epoch", -1));
                writeln!(out, "  fetch: {}", outcome(&result)).expect("a string");
            }
            "restart" => {
                let (image, now) = (self.durable.clone(), self.now());
                let session_ms = self.session_timeout_ms;
                self.group = Group::from_image(self.settings, image, now, session_ms);
            }
            "upgrade" => self.upgrade(&words, &mut out),
            other => panic!("no such verb: {other}"),
        }
        self.state(&mut out);
        out
    }

    fn set(&mut self, words: &Words<'_>) {
        self.settings.size_max = words.number("size", self.settings.size_max);
        self.settings.migration.upgrade &= !is_not(words, "upgrade");
        self.settings.migration.downgrade &= !is_not(words, "downgrade");
        self.session_timeout_ms = words.number("session", self.session_timeout_ms);
        self.group = Group::new(self.settings);
    }

    fn beat(&mut self, words: &Words<'_>, out: &mut String) {
        let epoch = words.number("epoch", 0);
        let joins = epoch == 0;
        let rebalance_timeout_ms = words.text("rebalance").and_then(|text| text.parse().ok());
        let heartbeat = MemberHeartbeat {
            member_id: words.who(),
            epoch,
            instance_id: words.text("instance"),
            rack_id: None,
            rebalance_timeout_ms: rebalance_timeout_ms.or(joins.then_some(60_000)),
            topics: list(words, "topics").map(|topics| topics.into_iter().collect()),
            pattern: words.text("pattern"),
            assignor: words.text("assignor"),
            owned: match words.text("owns") {
                Some(owned) => Some(self.topics.parse(&owned)),
                None => joins.then(Default::default),
            },
            client_id: "client".to_owned(),
            client_host: "/127.0.0.1".to_owned(),
        };
        self.fresh_ids += usize::from(heartbeat.member_id.is_empty());
        let fresh_member_id = format!("fresh-{}", self.fresh_ids);
        let (waiter, heartbeat) = (self.waiter(), Box::new(heartbeat));
        self.give(Event::Heartbeat { waiter, heartbeat, fresh_member_id }, out);
    }

    fn join(&mut self, words: &Words<'_>, out: &mut String) {
        let topics = list(words, "topics").unwrap_or_else(|| vec!["t".to_owned()]);
        let owned = by_name(&words.text("owns").unwrap_or_default());
        let offers = list(words, "offers").unwrap_or_else(|| vec!["range".to_owned()]);
        let metadata = subscription(&topics, &owned);
        let protocols =
            offers.into_iter().map(|name| Protocol { name, metadata: metadata.clone() });
        let join = Join {
            member_id: words.who(),
            instance_id: words.text("instance"),
            client_id: "client".to_owned(),
            client_host: "/127.0.0.1".to_owned(),
            session_timeout_ms: words.number("session", 10_000),
            rebalance_timeout_ms: words.number("rebalance", 20_000),
            protocol_type: words.text("type").unwrap_or_else(|| "consumer".to_owned()),
            protocols: protocols.collect(),
            member_id_required: !is_not(words, "known"),
            may_skip_assignment: true,
            reason: None,
        };
        self.fresh_ids += usize::from(join.member_id.is_empty());
        let fresh_member_id = format!("fresh-{}", self.fresh_ids);
        let (waiter, join) = (self.waiter(), Box::new(join));
        self.give(Event::Join { waiter, join, fresh_member_id }, out);
    }

    fn classic(&mut self, verb: &str, words: &Words<'_>, out: &mut String) {
        let waiter = self.waiter();
        let caller = words.caller("generation");
        let event = match verb {
            "sync" => {
                let (protocol_type, protocol) = (words.text("type"), words.text("protocol"));
                Event::Sync {
                    waiter,
                    sync: Sync { caller, protocol_type, protocol, ..Sync::default() },
                }
            }
            "heartbeat" => Event::ClassicHeartbeat { waiter, caller },
            _ => Event::Leave { waiter, leaving: words.leaving() },
        };
        self.give(event, out);
    }

    fn upgrade(&mut self, words: &Words<'_>, out: &mut String) {
        let members = words.named.iter().map(|(id, owned)| ClassicMember {
            member_id: (*id).to_owned(),
            instance_id: None,
            client_id: "client".to_owned(),
            client_host: "/127.0.0.1".to_owned(),
            rebalance_timeout_ms: 20_000,
            session_timeout_ms: 10_000,
            protocols: vec![Protocol {
                name: "range".to_owned(),
                metadata: subscription(&["t".to_owned()], &[]),
            }],
            assignment: protocol::assignment(
                &by_name(owned).into_iter().map(|(k, v)| (k, v.into_iter().collect())).collect(),
                1,
            ),
        });
        let from = Convertible {
            protocol_type: Some("consumer".to_owned()),
            generation: 5,
            protocol: Some("range".to_owned()),
            members: members.collect(),
        };
        let (now, topics, session_ms) = (self.now(), self.topics.clone(), self.session_timeout_ms);
        let world = world(&topics, session_ms);
        match convert::upgrade(self.settings, &from, now, &world) {
            Ok((group, records)) => {
                self.group = group;
                self.durable = Image::default();
                self.write(&records, out);
            }
            Err(refusal) => writeln!(out, "  {}", refused(&refusal)).expect("a string"),
        }
    }

    fn waiter(&mut self) -> Waiter {
        self.waiters += 1;
        self.waiters
    }

    fn give(&mut self, event: Event, out: &mut String) {
        let (now, topics, session_ms) = (self.now(), self.topics.clone(), self.session_timeout_ms);
        let outcome = step(&mut self.group, event, now, &world(&topics, session_ms));
        for note in &outcome.notes {
            writeln!(out, "  log: {note}").expect("a string");
        }
        self.write(&outcome.records, out);
        for (waiter, reply) in outcome.replies {
            let text = self.text_of(&reply);
            writeln!(out, "  #{waiter} {text}").expect("a string");
        }
        if let Some(seed) = outcome.classic {
            let members = seed.members.iter().map(|member| {
                let assigned = protocol::parse_assignment(&member.assignment).expect("ours").0;
                format!("{}={assigned:?}", member.member_id)
            });
            let members: Vec<String> = members.collect();
            let (generation, why) = (seed.generation, seed.rebalance.unwrap_or("no rebalance"));
            writeln!(out, "  classic: generation {generation} [{}] {why}", members.join(" "))
                .expect("a string");
        }
    }

    fn write(&mut self, records: &[Record], out: &mut String) {
        for record in records {
            // Through their bytes, as the next start reads them.
            let (key, value) = records::encode("g", record);
            let text = match value {
                None => {
                    self.durable.apply(record);
                    "gone".to_owned()
                }
                Some(value) => {
                    let key = super::super::records::Key::parse(&key).expect("our own key");
                    let super::super::records::Key::Consumer(key) = key else { panic!("a key") };
                    let read = records::parse(key.part, &value).expect("our own value");
                    self.durable.apply(&read.expect("a kind that means something"));
                    self.value_of(record)
                }
            };
            let name = match record {
                Record::Group(_) => "group".to_owned(),
                Record::TargetEpoch(_) => "target".to_owned(),
                Record::Member(id, _) => format!("member {id}"),
                Record::Target(id, _) => format!("target {id}"),
                Record::Current(id, _) => format!("current {id}"),
                Record::Pattern(pattern, _) => format!("pattern {pattern}"),
            };
            writeln!(out, "  + {name} {text}").expect("a string");
        }
    }

    fn value_of(&self, record: &Record) -> String {
        match record {
            Record::Group(epoch) => format!("epoch={}", epoch.map_or(0, |it| it.epoch)),
            Record::TargetEpoch(epoch) => format!("epoch={}", epoch.unwrap_or_default()),
            Record::Member(_, member) => {
                let member = member.clone().unwrap_or_default();
                let topics: Vec<&str> = member.topics.iter().map(String::as_str).collect();
                let kind = if member.classic.is_some() { " classic" } else { "" };
                let instance = member.instance_id.as_ref().map(|it| format!(" instance={it}"));
                let pattern = member.pattern.as_ref().map(|it| format!(" pattern={it}"));
                format!(
                    "topics={}{}{}{kind}",
                    topics.join(","),
                    pattern.unwrap_or_default(),
                    instance.unwrap_or_default()
                )
            }
            Record::Target(_, target) => self.topics.show(&target.clone().unwrap_or_default()),
            Record::Current(_, current) => {
                let current = current.clone().unwrap_or_default();
                format!(
                    "epoch={} (before {}) {:?} has={} gives-back={}",
                    current.epoch,
                    current.previous_epoch,
                    current.state,
                    self.topics.show(&current.assigned),
                    self.topics.show(&current.revoking)
                )
            }
            Record::Pattern(_, matched) => {
                let matched = matched.clone().unwrap_or_default();
                matched.topics.iter().map(String::as_str).collect::<Vec<_>>().join(",")
            }
        }
    }

    fn text_of(&self, reply: &Reply) -> String {
        match reply {
            Reply::Member(Err(refusal)) => refused(refusal),
            Reply::Member(Ok(MemberReply { member_id, epoch, assignment, .. })) => {
                let assigned =
                    assignment.as_ref().map(|it| format!(" reads={}", self.topics.show(it)));
                format!("ok {member_id} epoch={epoch}{}", assigned.unwrap_or_default())
            }
            Reply::Join(JoinReply { error: Some(error), member_id, .. }) => {
                format!("join: {} member={member_id}", error_name(*error))
            }
            Reply::Join(it) => format!(
                "join: ok member={} generation={} {}/{} leader={:?}",
                it.member_id,
                it.generation,
                it.protocol_type.as_deref().unwrap_or_default(),
                it.protocol.as_deref().unwrap_or_default(),
                it.leader,
            ),
            Reply::Sync(SyncReply { error: Some(error), .. }) => {
                format!("sync: {}", error_name(*error))
            }
            Reply::Sync(it) => {
                let assigned = protocol::parse_assignment(&it.assignment).expect("ours").0;
                format!("sync: ok {assigned:?}")
            }
            Reply::Heartbeat(result) => format!("heartbeat: {}", outcome(result)),
            Reply::Leave(left) => leave_text(left),
            Reply::Delete(result) => format!("delete: {}", outcome(result)),
        }
    }

    fn state(&self, out: &mut String) {
        let image = self.group.image();
        let members = image.members().keys().map(|id| format!("{id}@{}", image.current(id).epoch));
        let members: Vec<String> = members.collect();
        let due = self.group.due_ms().map_or("nothing due".to_owned(), |ms| format!("due at {ms}"));
        let (state, epoch, target) = (image.state(), image.epoch(), image.target_epoch());
        writeln!(out, "  = {state} {epoch}/{target} [{}] {due}", members.join(" "))
            .expect("a string");
    }
}

fn world(topics: &TestTopics, session_timeout_ms: i32) -> World<'_> {
    // Whoever speaks here may not know of topics that begin with `hidden`.
    World {
        group: "g",
        topics,
        sees: &|topic| !topic.starts_with("hidden"),
        session_timeout_ms,
        heartbeat_interval_ms: 5_000,
    }
}

fn refused(refusal: &Refusal) -> String {
    let why = refusal.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    format!("{}{why}", error_name(refusal.error))
}

#[test]
fn groups_behave_as_their_transcripts_say() {
    transcript::check("src/group/testdata/consumer", Run::new, Run::say);
}
