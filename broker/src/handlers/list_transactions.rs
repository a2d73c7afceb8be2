//! ListTransactions (66), versions 0 to 2 (KIP-664).
//!
//! - All transactional ids, or those in some of the states, of some of the producer ids. A state
//!   that does not exist is named in the reply, once; nothing is in it.
//! - v1 (KIP-994): only those whose transaction began longer ago than a duration. v2 (KIP-1152):
//!   only ids that match a regular expression, as a whole; one that is none is
//!   INVALID_REGULAR_EXPRESSION.
//! - An id that may not be described is left out.
//!
//! Left out: nothing.

use std::collections::HashSet;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::list_transactions_response::TransactionState;
use kafka_protocol::messages::{
    ListTransactionsRequest, ListTransactionsResponse, ProducerId, TransactionalId,
};
use kafka_protocol::protocol::StrBytes;
use regex::{Regex, RegexBuilder};

use crate::acl::{Operation, Resource};
use crate::clock::now_ms;
use crate::dispatch::Close;
use crate::handlers::{Context, distinct};
use crate::limits;
use crate::transaction::coordinator::Line;

/// Kafka's states that a list may be filtered by.
const STATES: &[&str] = &[
    "Empty",
    "Ongoing",
    "PrepareCommit",
    "PrepareAbort",
    "CompleteCommit",
    "CompleteAbort",
    "Dead",
    "PrepareEpochFence",
];

pub(crate) async fn handle(
    context: &Context,
    request: ListTransactionsRequest,
) -> Result<ListTransactionsResponse, Close> {
    let response = ListTransactionsResponse::default();
    let Ok(pattern) = pattern(&request) else {
        let error = ResponseError::InvalidRegularExpression;
        return Ok(response.with_error_code(error.code()));
    };
    let any_state = request.state_filters.is_empty();
    let filters = distinct(request.state_filters).into_iter();
    let (known, unknown): (Vec<_>, Vec<_>) =
        filters.partition(|state| STATES.contains(&state.as_str()));
    let states: HashSet<&str> = known.iter().map(|state| state.as_str()).collect();
    let producers: HashSet<ProducerId> = request.producer_id_filters.into_iter().collect();
    let now = now_ms();
    // The cheapest first: the access rules come after the sets, and the pattern after the rules.
    let wanted = |line: &Line| {
        let long_ago = now.saturating_sub(line.record.start_ms) > request.duration_filter;
        (any_state || states.contains(line.state))
            && (producers.is_empty() || producers.contains(&ProducerId(line.record.producer_id)))
            && (request.duration_filter < 0 || long_ago)
            && context
                .may_see(Operation::Describe, Resource::TransactionalId(&line.transactional_id))
            && pattern.as_ref().is_none_or(|pattern| pattern.is_match(&line.transactional_id))
    };
    let lines = context.core.transactions.list();
    let listed = lines.into_iter().filter(wanted).map(|line| {
        TransactionState::default()
            .with_transactional_id(TransactionalId(StrBytes::from_string(line.transactional_id)))
            .with_producer_id(ProducerId(line.record.producer_id))
            .with_transaction_state(StrBytes::from_static_str(line.state))
    });
    let listed = listed.collect();
    Ok(response.with_unknown_state_filters(unknown).with_transaction_states(listed))
}

/// No pattern, or an empty one, is none.
fn pattern(request: &ListTransactionsRequest) -> Result<Option<Regex>, regex::Error> {
    let Some(text) = request.transactional_id_pattern.as_ref().filter(|text| !text.is_empty())
    else {
        return Ok(None);
    };
    let whole = format!("^(?:{})$", text.as_str());
    RegexBuilder::new(&whole).size_limit(limits::PATTERN_BYTES_MAX).build().map(Some)
}
