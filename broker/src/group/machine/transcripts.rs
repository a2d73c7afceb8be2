//! What the transcripts of `group/testdata/transcripts` say to a classic group, and what it does.
//!
//! ```text
//! > settings delay=3000 size=2
//! > at 1500                             time, in milliseconds; ticks if something is due
//! > join - client=a offers=range:x      `-`: without member id; the id given is `a-1`
//! > sync a-1 generation=1 gives=a-1:A,b-2:B
//! > heartbeat a-1 generation=1          also: instance=
//! > leave a-1 b-2 -/instance
//! > commit a-1 generation=1
//! > written | > failed KafkaStorageError   the oldest write that is under way
//! > describe | > delete | > restart        from what was written last
//! ```

use std::collections::VecDeque;
use std::fmt::Write as _;

use super::super::MEMBERS_MAX;
use super::super::exchange::{JoinReply, SyncReply};
use super::super::words::{Words, leave_text, outcome};
use super::*;
use crate::transcript::{self, error_name};

struct Run {
    settings: GroupSettings,
    group: Group,
    now_ms: i64,
    waiters: Waiter,
    fresh_ids: usize,
    writes: VecDeque<(Ticket, Option<GroupMetadata>)>,
    durable: Option<GroupMetadata>,
}

/// `a:x,b:y`
fn pairs(words: &Words<'_>, name: &str, default: &str) -> Vec<(String, Bytes)> {
    let given = words.named.get(name).copied().unwrap_or(default);
    let pairs = given.split(',').filter_map(|pair| pair.split_once(':'));
    pairs.map(|(k, v)| (k.to_owned(), Bytes::copy_from_slice(v.as_bytes()))).collect()
}

fn show(bytes: &Bytes) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl Run {
    fn new() -> Self {
        let settings = GroupSettings::default();
        Self {
            settings,
            group: Group::new(settings),
            now_ms: 0,
            waiters: 0,
            fresh_ids: 0,
            writes: VecDeque::new(),
            durable: None,
        }
    }

    fn say(&mut self, line: &str) -> String {
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        let words = Words::parse(rest);
        let mut out = String::new();
        match verb {
            "settings" => {
                self.settings.initial_rebalance_delay_ms = words.number("delay", 0);
                self.settings.size_max = words.number("size", MEMBERS_MAX_HERE);
                self.group = Group::new(self.settings);
            }
            "at" => {
                self.now_ms = words.plain[0].parse().expect("a time");
                if self.group.due_ms().is_some_and(|due_ms| due_ms <= self.now_ms) {
                    self.give(Event::Tick, &mut out);
                }
            }
            "join" => self.join(&words, &mut out),
            "sync" => {
                let sync = Sync {
                    caller: words.caller("generation"),
                    protocol_type: words.text("type"),
                    protocol: words.text("protocol"),
                    assignments: pairs(&words, "gives", ""),
                };
                let waiter = self.waiter();
                self.give(Event::Sync { waiter, sync }, &mut out);
            }
            "heartbeat" => {
                let waiter = self.waiter();
                self.give(
                    Event::Heartbeat { waiter, caller: words.caller("generation") },
                    &mut out,
                );
            }
            "leave" => {
                let waiter = self.waiter();
                self.give(Event::Leave { waiter, leaving: words.leaving() }, &mut out);
            }
            "commit" => {
                let result = self.group.admit_commit(&words.caller("generation"), self.now());
                writeln!(out, "  commit: {}", outcome(&result)).expect("a string");
            }
            "written" | "failed" => self.finish_write(verb, &words, &mut out),
            "delete" => {
                let waiter = self.waiter();
                self.give(Event::Delete { waiter }, &mut out);
            }
            "describe" => self.describe(&mut out),
            "restart" => {
                self.writes.clear();
                self.group = match self.durable.clone() {
                    Some(record) => Group::from_record(self.settings, record, self.now()),
                    None => Group::new(self.settings),
                };
            }
            other => panic!("no such verb: {other}"),
        }
        self.state(&mut out);
        out
    }

    fn join(&mut self, words: &Words<'_>, out: &mut String) {
        let version: i16 = words.number("version", 9);
        let session_timeout_ms = words.number("session", 10_000);
        let protocols = pairs(words, "offers", "range:x").into_iter();
        let join = Join {
            member_id: words.who(),
            instance_id: words.text("instance"),
            client_id: words.text("client").unwrap_or_else(|| "a".to_owned()),
            client_host: "/127.0.0.1".to_owned(),
            session_timeout_ms,
            rebalance_timeout_ms: words.number("rebalance", 20_000),
            protocol_type: words.text("type").unwrap_or_else(|| "consumer".to_owned()),
            protocols: protocols.map(|(name, metadata)| Protocol { name, metadata }).collect(),
            member_id_required: version >= 4,
            may_skip_assignment: version >= 9,
            reason: None,
        };
        let name = join.instance_id.as_ref().unwrap_or(&join.client_id);
        let fresh_member_id = format!("{name}-{}", self.fresh_ids + 1);
        if join.member_id.is_empty() {
            self.fresh_ids += 1;
        }
        let waiter = self.waiter();
        self.give(Event::Join { waiter, join: Box::new(join), fresh_member_id }, out);
    }

    fn finish_write(&mut self, verb: &str, words: &Words<'_>, out: &mut String) {
        let (ticket, record) = self.writes.pop_front().expect("a write under way");
        let result = match verb {
            "written" => {
                self.durable = record;
                Ok(())
            }
            _ => Err(match words.plain[0] {
                "KafkaStorageError" => ResponseError::KafkaStorageError,
                "MessageTooLarge" => ResponseError::MessageTooLarge,
                other => panic!("no such error here: {other}"),
            }),
        };
        self.give(Event::Written { ticket, result }, out);
    }

    fn now(&self) -> Now {
        Now { monotonic_ms: self.now_ms, wall_ms: 1_000_000 + self.now_ms }
    }

    fn waiter(&mut self) -> Waiter {
        self.waiters += 1;
        self.waiters
    }

    fn give(&mut self, event: Event, out: &mut String) {
        let now = self.now();
        for effect in step(&mut self.group, event, now) {
            match effect {
                Effect::Note(note) => writeln!(out, "  log: {note}"),
                Effect::Reply(waiter, reply) => writeln!(out, "  #{waiter} {}", text_of(&reply)),
                Effect::Write { ticket, record } => {
                    let text = record.as_ref().map_or("deletion".to_owned(), record_text);
                    self.writes.push_back((ticket, record));
                    writeln!(out, "  write: {text}")
                }
            }
            .expect("a string");
        }
    }

    fn describe(&self, out: &mut String) {
        let it = self.group.describe();
        let Description { state, protocol_type, protocol, members } = it;
        writeln!(out, "  {state} type={protocol_type} protocol={protocol}").expect("a string");
        for member in members {
            let instance = member.instance_id.unwrap_or_default();
            let (metadata, assignment) = (show(&member.metadata), show(&member.assignment));
            writeln!(
                out,
                "  {} instance={instance} client={} host={} metadata={metadata} \
                 assignment={assignment}",
                member.member_id, member.client_id, member.client_host,
            )
            .expect("a string");
        }
    }

    fn state(&self, out: &mut String) {
        let group = &self.group;
        let mut members: Vec<String> = Vec::new();
        for id in group.members.keys() {
            members.push(format!("{id}{}", if group.is_leader(id) { "*" } else { "" }));
        }
        members.extend(group.pending_joins.keys().map(|id| format!("({id})")));
        let due = group.due_ms().map_or("nothing due".to_owned(), |ms| format!("due at {ms}"));
        writeln!(
            out,
            "  = {} {} [{}] {due}",
            group.state.name(),
            group.generation,
            members.join(" ")
        )
        .expect("a string");
    }
}

const MEMBERS_MAX_HERE: usize = crate::group::MEMBERS_MAX;

fn text_of(reply: &Reply) -> String {
    match reply {
        Reply::Join(JoinReply { error: Some(error), member_id, .. }) => {
            format!("join: {} member={member_id}", error_name(*error))
        }
        Reply::Join(it) => {
            let members: Vec<String> = it
                .members
                .iter()
                .map(|one| {
                    let instance = one.instance_id.as_ref().map(|id| format!("/{id}"));
                    let instance = instance.unwrap_or_default();
                    format!("{}{instance}:{}", one.member_id, show(&one.metadata))
                })
                .collect();
            format!(
                "join: ok member={} generation={} {}/{} leader={} members=[{}]{}",
                it.member_id,
                it.generation,
                it.protocol_type.as_deref().unwrap_or_default(),
                it.protocol.as_deref().unwrap_or_default(),
                it.leader,
                members.join(" "),
                if it.skip_assignment { " skip-assignment" } else { "" },
            )
        }
        Reply::Sync(SyncReply { error: Some(error), .. }) => {
            format!("sync: {}", error_name(*error))
        }
        Reply::Sync(it) => format!("sync: ok assignment={}", show(&it.assignment)),
        Reply::Heartbeat(result) => format!("heartbeat: {}", outcome(result)),
        Reply::Delete(result) => format!("delete: {}", outcome(result)),
        Reply::Member(_) => "an answer of the other protocol".to_owned(),
        Reply::Leave(left) => leave_text(left),
    }
}

fn record_text(record: &GroupMetadata) -> String {
    let members = record.members.iter();
    let members: Vec<String> =
        members.map(|one| format!("{}={}", one.member_id, show(&one.assignment))).collect();
    format!(
        "generation {} {}/{} leader={} [{}]",
        record.generation,
        record.protocol_type,
        record.protocol.as_deref().unwrap_or("-"),
        record.leader.as_deref().unwrap_or("-"),
        members.join(" "),
    )
}

#[test]
fn ids_that_were_given_out_are_bounded_whatever_the_group_does() {
    let mut stable = Run::new();
    stable.say("join - client=a version=3");
    stable.say("sync a-1 generation=1 gives=a-1:A");
    stable.say("written");
    for (mut run, state) in [(Run::new(), State::Empty), (stable, State::Stable)] {
        for index in 0..MEMBERS_MAX {
            run.group.pending_joins.insert(format!("b-{index}"), 10_000);
        }
        assert_eq!(run.group.state, state);
        let refused = run.say("join - client=c version=4");
        assert!(refused.contains("GROUP_MAX_SIZE_REACHED"), "{state:?}");
        assert_eq!(run.group.pending_joins.len(), MEMBERS_MAX);
        // Whoever comes back with its id takes no more room.
        run.say("join b-0 client=b");
        assert!(run.group.members.contains_key("b-0"), "{state:?}");
    }
}

#[test]
fn groups_behave_as_their_transcripts_say() {
    transcript::check("src/group/testdata/transcripts", Run::new, Run::say);
}
