//! The few header fields of a record batch that the log reads on its hot path. The definition of
//! the format is `odradek_protocol::batch`; this walks it without parsing what it does not need.

use bytes::Bytes;

/// Whole size of the batch that starts here, if its length field is there and sane.
pub(crate) fn batch_bytes(bytes: &[u8]) -> Option<usize> {
    let length = i32::from_be_bytes(bytes.get(8..12)?.try_into().ok()?);
    let whole = usize::try_from(length).ok()?.checked_add(12)?;
    (whole >= 61).then_some(whole)
}

pub(crate) fn base_offset(bytes: &[u8]) -> Option<i64> {
    Some(i64::from_be_bytes(bytes.get(0..8)?.try_into().ok()?))
}

pub(crate) fn last_offset_delta(bytes: &[u8]) -> Option<i32> {
    Some(i32::from_be_bytes(bytes.get(23..27)?.try_into().ok()?))
}

/// Whole batches of a run with their last offsets; stops at the first thing that is none.
pub(crate) fn batches(run: &Bytes) -> Vec<(i64, Bytes)> {
    let mut all = Vec::new();
    let mut rest = run.clone();
    while let Some(whole) = batch_bytes(&rest) {
        if whole > rest.len() {
            break;
        }
        let batch = rest.split_to(whole);
        let (Some(base), Some(delta)) = (base_offset(&batch), last_offset_delta(&batch)) else {
            break;
        };
        all.push((base.saturating_add(i64::from(delta)), batch));
    }
    all
}
