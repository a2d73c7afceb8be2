//! What a start makes of the records and of the transactions that are open in the log (T4, T5).

use std::collections::{BTreeMap, HashMap};

use odradek_log::PartitionId;

use super::record::{Producer, TransactionRecord};

/// A producer with a transaction that no marker has ended in this partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Open {
    pub partition: PartitionId,
    pub producer: Producer,
}

/// Adds to each record the partitions that Produce added to its transaction. Returns what belongs
/// to nobody, to be aborted.
///
/// The epoch decides: the end of a transaction and its markers are one unit, and where Produce may
/// add partitions (version 2) every end gives out a new epoch; so what is open under the record's
/// own epoch began after the record was written, or is in it.
pub(crate) fn attribute(
    records: &mut BTreeMap<String, TransactionRecord>,
    open: Vec<Open>,
    now_ms: i64,
) -> Vec<Open> {
    let ids: HashMap<i64, String> =
        records.iter().map(|(id, record)| (record.producer_id, id.clone())).collect();
    let mut orphans = Vec::new();
    for one in open {
        let record = ids.get(&one.producer.id).and_then(|id| records.get_mut(id));
        match record {
            Some(record) if record.epoch == one.producer.epoch => {
                record.begin(now_ms);
                record.add_partition(one.partition);
            }
            _ => orphans.push(one),
        }
    }
    orphans
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::super::record::State;
    use super::*;

    #[test]
    fn an_open_transaction_belongs_to_the_id_with_its_producer_and_epoch_or_to_nobody() {
        let partition = |partition| PartitionId { topic_id: Uuid::from_u128(1), partition };
        let mut record = TransactionRecord::new(9, 60_000);
        (record.epoch, record.state) = (4, State::CompleteCommit);
        let mut records = BTreeMap::from([("a".to_owned(), record)]);
        let open = |index, id, epoch| Open {
            partition: partition(index),
            producer: Producer { id, epoch },
        };
        let (mine, older, foreign) = (open(0, 9, 4), open(1, 9, 3), open(2, 8, 4));
        let orphans = attribute(&mut records, vec![mine, older, foreign], 100);
        assert_eq!(orphans, vec![older, foreign]);
        let record = &records["a"];
        assert_eq!((record.state, record.start_ms), (State::Ongoing, 100));
        assert_eq!(record.each_partition().collect::<Vec<_>>(), vec![partition(0)]);
    }
}
