//! What a request acknowledges, checked: the same for ShareFetch and ShareAcknowledge.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::{share_acknowledge_request, share_fetch_request};
use odradek_log::PartitionId;

use super::partition::Acknowledgement;
use crate::acl::{Operation, Resource};
use crate::handlers::Context;

/// The largest kind that ShareFetch 1 and ShareAcknowledge 1 know: 0 none there, 1 read, 2 again,
/// 3 never.
const KIND_MAX: i8 = 3;

/// The acknowledgements of one partition, as they came.
pub(crate) type Brought = (PartitionId, Vec<Acknowledgement>);

/// What can be taken, and what cannot.
#[derive(Debug, Default)]
pub(crate) struct Checked {
    pub taken: Vec<Brought>,
    pub refused: Vec<(PartitionId, Result<(), ResponseError>)>,
}

impl From<share_fetch_request::AcknowledgementBatch> for Acknowledgement {
    fn from(batch: share_fetch_request::AcknowledgementBatch) -> Self {
        let (first, last) = (batch.first_offset, batch.last_offset);
        Self { first, last, kinds: batch.acknowledge_types }
    }
}

impl From<share_acknowledge_request::AcknowledgementBatch> for Acknowledgement {
    fn from(batch: share_acknowledge_request::AcknowledgementBatch) -> Self {
        let (first, last) = (batch.first_offset, batch.last_offset);
        Self { first, last, kinds: batch.acknowledge_types }
    }
}

/// Partitions without any acknowledgement are answered with success; as in Kafka, only beside
/// others that have some.
pub(crate) fn check(context: &Context, brought: Vec<Brought>) -> Checked {
    let mut checked = Checked::default();
    for (id, acknowledgements) in brought {
        match check_one(context, id, &acknowledgements) {
            Ok(()) if acknowledgements.is_empty() => checked.refused.push((id, Ok(()))),
            Ok(()) => checked.taken.push((id, acknowledgements)),
            Err(error) => checked.refused.push((id, Err(error))),
        }
    }
    if checked.taken.is_empty() {
        checked.refused.retain(|(_, result)| result.is_err());
    }
    checked
}

fn check_one(
    context: &Context,
    id: PartitionId,
    acknowledgements: &[Acknowledgement],
) -> Result<(), ResponseError> {
    let topic = context.core.topics.by_id(id.topic_id).ok_or(ResponseError::UnknownTopicId)?;
    if !are_well_formed(acknowledgements) {
        return Err(ResponseError::InvalidRequest);
    }
    if !context.allowed(Operation::Read, Resource::Topic(&topic.name)) {
        return Err(ResponseError::TopicAuthorizationFailed);
    }
    match topic.partition(id.partition) {
        Some(_) => Ok(()),
        None => Err(ResponseError::UnknownTopicOrPartition),
    }
}

fn are_well_formed(acknowledgements: &[Acknowledgement]) -> bool {
    // Below 0 is no offset.
    let mut previous_last = 0;
    acknowledgements.iter().all(|one| {
        let in_order = one.first <= one.last && one.first >= previous_last;
        previous_last = one.last;
        let kinds = i64::try_from(one.kinds.len()).unwrap_or(i64::MAX);
        // Checked: what is not in order may be so far apart that there is no such number.
        let apart = one.last.checked_sub(one.first);
        let counted = kinds == 1 || (kinds > 1 && apart == Some(kinds - 1));
        in_order && counted && one.kinds.iter().all(|kind| (0..=KIND_MAX).contains(kind))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acknowledgements_are_in_order_and_have_one_kind_or_one_for_each_offset() {
        let one = |first, last, kinds: &[i8]| Acknowledgement { first, last, kinds: kinds.into() };
        assert!(are_well_formed(&[one(0, 4, &[1]), one(5, 6, &[2, 3])]));
        assert!(are_well_formed(&[]));
        assert!(!are_well_formed(&[one(4, 3, &[1])]));
        assert!(!are_well_formed(&[one(5, 9, &[1]), one(0, 4, &[1])]));
        assert!(!are_well_formed(&[one(0, 4, &[])]));
        assert!(!are_well_formed(&[one(0, 4, &[1, 1])]));
        assert!(!are_well_formed(&[one(0, 0, &[4])]), "renewal is version 2's");
        assert!(!are_well_formed(&[one(0, 0, &[-1])]));
        assert!(!are_well_formed(&[one(-1, i64::MAX, &[1, 1])]));
        assert!(!are_well_formed(&[one(i64::MIN, i64::MAX, &[1, 1])]));
        assert!(!are_well_formed(&[one(i64::MAX, i64::MIN, &[1, 1])]));
        assert!(!are_well_formed(&[one(-1, -1, &[1])]), "below 0 is no offset");
        assert!(!are_well_formed(&[one(0, i64::MAX, &[1, 1])]));
        assert!(are_well_formed(&[one(0, i64::MAX, &[1])]));
    }
}
