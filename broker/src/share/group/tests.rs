//! Heartbeats and what comes of them. Expected epochs and errors are those of Kafka's
//! `GroupMetadataManager`, save that partitions are there from the first answer on.

use uuid::Uuid;

use super::*;

struct World {
    group: ShareGroup,
    settings: ShareSettings,
    topics: BTreeMap<String, TopicSeen>,
    now_ms: i64,
}

impl World {
    /// Topics `t` of two partitions and `u` of one.
    fn new() -> Self {
        let seen = |id, partitions| TopicSeen { id: Uuid::from_u128(id), partitions };
        let topics = [("t".to_owned(), seen(1, 2)), ("u".to_owned(), seen(2, 1))];
        Self {
            group: ShareGroup::default(),
            settings: ShareSettings { size_max: 3, ..ShareSettings::default() },
            topics: topics.into_iter().collect(),
            now_ms: 0,
        }
    }

    fn beat(
        &mut self,
        member: &str,
        epoch: i32,
        topics: Option<&[&str]>,
    ) -> Result<(i32, Option<String>), ResponseError> {
        let heartbeat = Heartbeat {
            member_id: member.to_owned(),
            member_epoch: epoch,
            topics: topics.map(|names| names.iter().map(|name| (*name).to_owned()).collect()),
            ..Heartbeat::default()
        };
        let known = self.topics.clone();
        let seen = move |name: &str| known.get(name).copied();
        let answer = self.group.heartbeat(heartbeat, &self.settings, &seen, self.now_ms);
        answer
            .map(|(reply, _)| (reply.member_epoch, reply.assignment.map(|a| show(&a))))
            .map_err(|(error, _)| error)
    }
}

/// `1:0,1 2:0` for partitions 0 and 1 of topic 1 and partition 0 of topic 2.
fn show(assignment: &Assignment) -> String {
    let topics = assignment.iter().map(|(topic, partitions)| {
        let partitions: Vec<String> = partitions.iter().map(ToString::to_string).collect();
        format!("{}:{}", topic.as_u128(), partitions.join(","))
    });
    topics.collect::<Vec<_>>().join(" ")
}

fn told(epoch: i32, assignment: &str) -> Result<(i32, Option<String>), ResponseError> {
    Ok((epoch, Some(assignment.to_owned())))
}

#[test]
fn members_come_share_and_go() {
    let mut world = World::new();
    assert_eq!(world.beat("a", 0, Some(&["t"])), told(2, "1:0,1"));
    assert_eq!(world.beat("a", 2, None), Ok((2, None)), "nothing new");
    assert_eq!(world.beat("b", 0, Some(&["t"])), told(3, "1:1"));
    assert_eq!(world.beat("a", 2, None), told(3, "1:0"));
    assert_eq!(world.beat("c", 0, Some(&["t"])), told(4, "1:0"), "three share two");
    assert_eq!(world.group.state(), "Stable");
    assert_eq!(world.beat("b", -1, None), Ok((-1, None)));
    assert_eq!(world.group.epoch(), 5);
    assert_eq!(world.beat("b", 3, None), Err(ResponseError::UnknownMemberId));
    assert_eq!(world.beat("a", -1, None), Ok((-1, None)));
    assert_eq!(world.beat("c", 4, None), told(6, "1:0,1"));
    assert_eq!(world.beat("c", -1, None), Ok((-1, None)));
    assert_eq!((world.group.state(), world.group.epoch()), ("Empty", 7));
}

#[test]
fn a_member_that_changes_its_topics_is_told_at_once() {
    let mut world = World::new();
    world.beat("a", 0, Some(&["t"])).unwrap();
    assert_eq!(world.beat("a", 2, Some(&["t", "u"])), told(3, "1:0,1 2:0"));
    assert_eq!(world.beat("a", 3, Some(&["u"])), told(4, "2:0"));
    assert_eq!(world.beat("a", 4, Some(&["u"])), told(4, "2:0"), "a full request is told all");
}

#[test]
fn topics_that_come_grow_and_go_are_noticed_at_the_next_heartbeat() {
    let mut world = World::new();
    assert_eq!(world.beat("a", 0, Some(&["v"])), told(2, ""));
    world.topics.insert("v".to_owned(), TopicSeen { id: Uuid::from_u128(3), partitions: 1 });
    assert_eq!(world.beat("a", 2, None), told(3, "3:0"));
    world.topics.insert("v".to_owned(), TopicSeen { id: Uuid::from_u128(3), partitions: 3 });
    assert_eq!(world.beat("a", 3, None), told(4, "3:0,1,2"));
    world.topics.insert("v".to_owned(), TopicSeen { id: Uuid::from_u128(4), partitions: 1 });
    assert_eq!(world.beat("a", 4, None), told(5, "4:0"), "made again under its name");
    world.topics.remove("v");
    assert_eq!(world.beat("a", 5, None), told(6, ""));
}

#[test]
fn epochs_decide_who_has_to_join_again() {
    let mut world = World::new();
    world.beat("a", 0, Some(&["t"])).unwrap();
    world.beat("b", 0, Some(&["t"])).unwrap();
    assert_eq!(world.beat("a", 2, None), told(3, "1:0"));
    assert_eq!(world.beat("a", 2, None), Ok((3, None)), "the answer may have been lost");
    world.beat("c", 0, Some(&["t"])).unwrap();
    assert_eq!(world.beat("a", 3, None).unwrap().0, 4);
    assert_eq!(world.beat("a", 2, None), Err(ResponseError::FencedMemberEpoch));
    assert_eq!(world.beat("a", 5, None), Err(ResponseError::FencedMemberEpoch));
    assert_eq!(world.beat("a", 0, Some(&["t"])).unwrap().0, 4, "the same topics change nothing");
    assert_eq!(world.beat("d", 4, None), Err(ResponseError::GroupMaxSizeReached));
    assert_eq!(world.beat("d", 0, Some(&["t"])), Err(ResponseError::GroupMaxSizeReached));
}

#[test]
fn a_silent_member_is_gone_after_its_session() {
    let mut world = World::new();
    world.beat("a", 0, Some(&["t"])).unwrap();
    world.now_ms = 30_000;
    world.beat("b", 0, Some(&["t"])).unwrap();
    assert_eq!(world.group.due_ms(), Some(45_000));
    assert_eq!(world.group.expire(44_999), Vec::<String>::new());
    assert_eq!(world.group.expire(45_000), ["a"]);
    assert_eq!(world.group.epoch(), 4);
    assert_eq!(world.beat("b", 3, None), told(4, "1:0,1"));
}

#[test]
fn a_restart_keeps_epochs_and_gives_every_member_a_whole_session() {
    let mut world = World::new();
    world.beat("a", 0, Some(&["t"])).unwrap();
    let record = world.group.record().clone();
    world.now_ms = 100_000;
    world.group = ShareGroup::restored(record, &world.settings, world.now_ms);
    assert_eq!(world.group.due_ms(), Some(145_000));
    assert_eq!(world.beat("a", 2, None), Ok((2, None)));
    assert_eq!(world.beat("b", 0, Some(&["t"])).unwrap().0, 3);
}

#[test]
fn what_members_say_of_themselves_has_a_bound() {
    let mut world = World::new();
    let long = "x".repeat(3 * 1024 * 1024);
    assert!(world.beat("a", 0, Some(&[&long])).is_ok());
    let refused = Err(ResponseError::GroupMaxSizeReached);
    assert_eq!(world.beat("b", 0, Some(&[&long])), refused);
    assert!(world.beat("b", 0, Some(&["t"])).is_ok());
    assert_eq!(world.beat("b", 3, Some(&["t", &long])), refused);
    assert!(world.beat("a", 2, Some(&["t"])).is_ok(), "less is always allowed");
}
