//! Share sessions: a member names the partitions that it reads once, later requests carry changes
//! only. As fetch sessions (KIP-227), with a number that both sides count; unlike those, a session
//! belongs to a member of a group, and ShareAcknowledge takes part in the counting.
//!
//! A session ends when its member says so, or begins a new one, or when its connection ends; what
//! the member still had is then free again.

use std::collections::{HashMap, HashSet};

use kafka_protocol::ResponseError;
use odradek_log::PartitionId;

use super::SESSION_PARTITIONS_MAX;

/// The session epoch that begins a session, and the one that ends it.
pub(crate) const INITIAL_EPOCH: i32 = 0;
pub(crate) const FINAL_EPOCH: i32 = -1;

/// Group and member.
pub(crate) type SessionKey = (String, String);

#[derive(Debug)]
struct Session {
    /// What the next request must carry.
    epoch: i32,
    /// In the order in which they are served.
    partitions: Vec<Cached>,
    /// Tells this session from an earlier one of the same member.
    serial: u64,
}

#[derive(Debug, Clone, Copy)]
struct Cached {
    id: PartitionId,
    /// An error was told; that it is gone is news too.
    must_tell: bool,
}

/// What a ShareFetch opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Opened {
    /// A new session; its serial.
    New {
        serial: u64,
        partitions: Vec<PartitionId>,
    },
    Continued {
        partitions: Vec<PartitionId>,
    },
    /// The last request of the session: nothing is read.
    Final,
}

/// What a ShareFetch says of its session.
#[derive(Debug, Clone, Default)]
pub(crate) struct Opening {
    pub epoch: i32,
    pub named: Vec<PartitionId>,
    pub forgotten: Vec<PartitionId>,
    pub acknowledges: bool,
}

#[derive(Debug, Default)]
pub(crate) struct ShareSessions {
    sessions: HashMap<SessionKey, Session>,
    serial: u64,
}

impl ShareSessions {
    /// The session that stood before under this key is gone when a new one is opened.
    pub(crate) fn open(
        &mut self,
        key: &SessionKey,
        opening: Opening,
        sessions_max: usize,
    ) -> Result<Opened, ResponseError> {
        match opening.epoch {
            FINAL_EPOCH => {
                self.sessions.get(key).ok_or(ResponseError::ShareSessionNotFound)?;
                Ok(Opened::Final)
            }
            INITIAL_EPOCH => {
                if opening.acknowledges {
                    return Err(ResponseError::InvalidRequest);
                }
                self.sessions.remove(key);
                if self.sessions.len() >= sessions_max {
                    return Err(ResponseError::ShareSessionLimitReached);
                }
                self.serial += 1;
                let serial = self.serial;
                let mut session = Session { epoch: 1, partitions: Vec::new(), serial };
                session.add(&opening.named, false)?;
                let partitions = session.ids();
                self.sessions.insert(key.clone(), session);
                Ok(Opened::New { serial, partitions })
            }
            epoch => {
                let session = self.at(key, epoch)?;
                session.add(&opening.named, true)?;
                let forgotten: HashSet<PartitionId> = opening.forgotten.into_iter().collect();
                session.partitions.retain(|cached| !forgotten.contains(&cached.id));
                session.count();
                Ok(Opened::Continued { partitions: session.ids() })
            }
        }
    }

    /// ShareAcknowledge counts too, and cannot begin a session. True: it is the last request.
    pub(crate) fn acknowledge(
        &mut self,
        key: &SessionKey,
        epoch: i32,
    ) -> Result<bool, ResponseError> {
        if epoch == INITIAL_EPOCH {
            return Err(ResponseError::InvalidShareSessionEpoch);
        }
        if epoch == FINAL_EPOCH {
            self.sessions.get(key).ok_or(ResponseError::ShareSessionNotFound)?;
            return Ok(true);
        }
        self.at(key, epoch)?.count();
        Ok(false)
    }

    fn at(&mut self, key: &SessionKey, epoch: i32) -> Result<&mut Session, ResponseError> {
        let session = self.sessions.get_mut(key).ok_or(ResponseError::ShareSessionNotFound)?;
        match session.epoch == epoch {
            true => Ok(session),
            false => Err(ResponseError::InvalidShareSessionEpoch),
        }
    }

    /// Which partitions of a continued session's reply are news. `replies`: has records, has an
    /// error. A partition that gave records goes behind the others.
    pub(crate) fn news(
        &mut self,
        key: &SessionKey,
        replies: &[(PartitionId, bool, bool)],
    ) -> Vec<bool> {
        let Some(session) = self.sessions.get_mut(key) else { return vec![true; replies.len()] };
        let cached = session.partitions.iter_mut().map(|cached| (cached.id, cached));
        let mut cached: HashMap<PartitionId, &mut Cached> = cached.collect();
        let mut served = HashSet::new();
        let mut news = Vec::with_capacity(replies.len());
        for (id, records, error) in replies {
            let mut is_news = *records || *error;
            if let Some(cached) = cached.get_mut(id) {
                is_news |= std::mem::replace(&mut cached.must_tell, *error);
            }
            if *records {
                served.insert(*id);
            }
            news.push(is_news);
        }
        // Stable: false comes before true.
        session.partitions.sort_by_key(|cached| served.contains(&cached.id));
        news
    }

    pub(crate) fn remove(&mut self, key: &SessionKey) -> bool {
        self.sessions.remove(key).is_some()
    }

    /// Removes the session if it is still the one with this serial.
    pub(crate) fn remove_serial(&mut self, key: &SessionKey, serial: u64) -> bool {
        self.is_serial(key, serial) && self.remove(key)
    }

    pub(crate) fn is_serial(&self, key: &SessionKey, serial: u64) -> bool {
        self.sessions.get(key).is_some_and(|session| session.serial == serial)
    }
}

impl Session {
    fn add(&mut self, named: &[PartitionId], must_tell: bool) -> Result<(), ResponseError> {
        if self.partitions.len() + named.len() > SESSION_PARTITIONS_MAX {
            return Err(ResponseError::InvalidRequest);
        }
        let mut known: HashSet<PartitionId> = self.ids().into_iter().collect();
        for id in named {
            if known.insert(*id) {
                self.partitions.push(Cached { id: *id, must_tell });
            }
        }
        Ok(())
    }

    fn ids(&self) -> Vec<PartitionId> {
        self.partitions.iter().map(|cached| cached.id).collect()
    }

    fn count(&mut self) {
        // After the largest epoch comes 1 again.
        self.epoch = self.epoch.checked_add(1).unwrap_or(1);
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn id(partition: i32) -> PartitionId {
        PartitionId { topic_id: Uuid::from_u128(1), partition }
    }

    fn key() -> SessionKey {
        ("g".to_owned(), "m".to_owned())
    }

    fn opening(epoch: i32, named: &[i32]) -> Opening {
        Opening { epoch, named: named.iter().map(|p| id(*p)).collect(), ..Opening::default() }
    }

    #[test]
    fn a_session_is_counted_by_fetches_and_acknowledgements_together() {
        let mut sessions = ShareSessions::default();
        let new = sessions.open(&key(), opening(0, &[0, 1]), 10).unwrap();
        assert_eq!(new, Opened::New { serial: 1, partitions: vec![id(0), id(1)] });
        let more = sessions.open(&key(), opening(1, &[2]), 10).unwrap();
        assert_eq!(more, Opened::Continued { partitions: vec![id(0), id(1), id(2)] });
        assert_eq!(sessions.acknowledge(&key(), 2), Ok(false));
        let forget = Opening { epoch: 3, forgotten: vec![id(1)], ..Opening::default() };
        let less = sessions.open(&key(), forget, 10).unwrap();
        assert_eq!(less, Opened::Continued { partitions: vec![id(0), id(2)] });
        let stale = sessions.open(&key(), opening(3, &[]), 10);
        assert_eq!(stale, Err(ResponseError::InvalidShareSessionEpoch));
        assert_eq!(sessions.acknowledge(&key(), 9), Err(ResponseError::InvalidShareSessionEpoch));
        assert_eq!(sessions.acknowledge(&key(), FINAL_EPOCH), Ok(true));
    }

    #[test]
    fn what_no_session_allows_is_refused() {
        let mut sessions = ShareSessions::default();
        let not_found = Err(ResponseError::ShareSessionNotFound);
        assert_eq!(sessions.open(&key(), opening(1, &[]), 10), not_found);
        assert_eq!(sessions.open(&key(), opening(FINAL_EPOCH, &[]), 10), not_found);
        assert_eq!(sessions.acknowledge(&key(), 4), Err(ResponseError::ShareSessionNotFound));
        assert_eq!(sessions.acknowledge(&key(), 0), Err(ResponseError::InvalidShareSessionEpoch));
        let first = Opening { acknowledges: true, ..opening(0, &[0]) };
        assert_eq!(sessions.open(&key(), first, 10), Err(ResponseError::InvalidRequest));
        let full = sessions.open(&key(), opening(0, &[0]), 0);
        assert_eq!(full, Err(ResponseError::ShareSessionLimitReached));
    }

    #[test]
    fn a_session_has_no_more_partitions_than_a_broker() {
        let mut sessions = ShareSessions::default();
        let named: Vec<i32> = (0..20_000).collect();
        sessions.open(&key(), opening(0, &named), 10).unwrap();
        let more = sessions.open(&key(), opening(1, &[20_000]), 10);
        assert_eq!(more, Err(ResponseError::InvalidRequest));
    }

    #[test]
    fn an_old_connections_end_does_not_end_the_members_new_session() {
        let mut sessions = ShareSessions::default();
        sessions.open(&key(), opening(0, &[0]), 10).unwrap();
        sessions.open(&key(), opening(0, &[0]), 10).unwrap();
        assert!(!sessions.remove_serial(&key(), 1));
        assert!(sessions.remove_serial(&key(), 2));
    }

    #[test]
    fn a_partition_is_told_when_it_has_records_or_an_error_or_lost_its_error() {
        let mut sessions = ShareSessions::default();
        sessions.open(&key(), opening(0, &[0, 1]), 10).unwrap();
        assert_eq!(sessions.news(&key(), &[(id(0), false, false)]), [false]);
        assert_eq!(sessions.news(&key(), &[(id(0), false, true)]), [true]);
        assert_eq!(sessions.news(&key(), &[(id(0), false, false)]), [true]);
        assert_eq!(sessions.news(&key(), &[(id(0), true, false)]), [true]);
        let next = sessions.open(&key(), opening(1, &[]), 10).unwrap();
        assert_eq!(next, Opened::Continued { partitions: vec![id(1), id(0)] });
    }
}
