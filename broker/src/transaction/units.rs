//! What a machine wants written, as one unit of the log: the record into `__odradek_state`, a
//! marker into each partition, the groups' offsets into `__consumer_offsets`.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use kafka_protocol::ResponseError;
use odradek_log::Log;

use super::coordinator::{Handed, TransactionLog};
use super::machine::{Ending, Write};
use super::{COORDINATOR_EPOCH, marker};
use crate::core::{OffsetsPartitions, keyed_batch, state_batch};
use crate::group::coordinator::GroupCoordinator;
use crate::group::exchange::NewOffset;
use crate::partition::{self, Batch, Partition};
use crate::producer_ids::ProducerIds;
use crate::state::{self, StateKey};
use crate::topics::Topics;

pub(crate) struct TransactionUnits {
    pub log: Arc<Log>,
    pub topics: Arc<Topics>,
    pub groups: Arc<GroupCoordinator>,
    pub offsets: Arc<OffsetsPartitions>,
    pub state: Arc<Partition>,
    pub producer_ids: Arc<ProducerIds>,
}

impl TransactionUnits {
    /// Markers go where records are; a topic that was deleted meanwhile needs none, and the
    /// partition of `__consumer_offsets` has no record of the transaction (T3).
    fn markers(&self, ending: &Ending, at_ms: i64) -> Vec<(Arc<Partition>, Vec<Batch>)> {
        let mut appends = Vec::with_capacity(ending.partitions.len());
        for id in &ending.partitions {
            let topic = self.topics.by_id(id.topic_id).filter(|topic| !topic.internal);
            if let Some(partition) = topic.as_ref().and_then(|t| t.partition(id.partition)) {
                let marker =
                    marker::batch(ending.producer, ending.commit, COORDINATOR_EPOCH, at_ms);
                appends.push((partition.clone(), vec![marker]));
            }
        }
        appends
    }

    /// Offsets by group, without those of topics that are gone.
    fn offsets<'a>(&self, ending: &'a Ending) -> BTreeMap<&'a str, Vec<NewOffset>> {
        let mut groups: BTreeMap<&str, Vec<NewOffset>> = BTreeMap::new();
        for offset in &ending.offsets {
            if self.topics.by_id(offset.topic_id).is_some() {
                groups.entry(&offset.group).or_default().push(offset.to_new_offset());
            }
        }
        groups
    }
}

#[async_trait]
impl TransactionLog for TransactionUnits {
    fn hand_over(&self, transactional_id: &str, write: &Write) -> Handed {
        let mut appends = Vec::new();
        if let Some(ending) = &write.ending {
            appends = self.markers(ending, write.at_ms);
            for (group, offsets) in self.offsets(ending) {
                let records = self.groups.offset_records(group, &offsets, write.at_ms);
                appends.push((self.offsets.of_group(group).clone(), vec![keyed_batch(records)]));
            }
        }
        let key = StateKey::Transaction(transactional_id.to_owned());
        let value: Option<Bytes> = write.record.as_ref().map(state::value);
        appends.push((self.state.clone(), vec![state_batch(vec![(key, value)])]));
        partition::submit(&self.log, &appends).1
    }

    fn show_offsets(&self, ending: &Ending, at_ms: i64) {
        for (group, offsets) in self.offsets(ending) {
            self.groups.show_offsets(group, &offsets, at_ms);
        }
    }

    async fn new_producer_id(&self) -> Result<i64, ResponseError> {
        self.producer_ids.next().await
    }
}
