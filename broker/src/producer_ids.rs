//! Producer ids that nobody ever had, taken from the state log in blocks, so that none comes twice,
//! whatever crashes.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use tokio::sync::Mutex as AsyncMutex;

use crate::clock::now_ms;
use crate::core::{state_batch, wait_for};
use crate::limits;
use crate::partition::Partition;
use crate::state::{self, ProducerIdsRecord, StateKey};

pub(crate) struct ProducerIds {
    state: Arc<Partition>,
    /// Held across the sync of a new block: whoever comes meanwhile needs that block too.
    block: AsyncMutex<Block>,
}

/// Ids in hand, and the end of the block that the state log says is taken.
struct Block {
    next: i64,
    taken_until: i64,
}

impl ProducerIds {
    /// `next`: the first id that no block has taken.
    pub(crate) fn new(state: Arc<Partition>, next: i64) -> Arc<Self> {
        Arc::new(Self { state, block: AsyncMutex::new(Block { next, taken_until: next }) })
    }

    pub(crate) async fn next(&self) -> Result<i64, ResponseError> {
        let mut block = self.block.lock().await;
        if block.next == block.taken_until {
            let until = block.taken_until + limits::PRODUCER_IDS_BLOCK;
            let record = state::value(&ProducerIdsRecord { next: until });
            let batch = state_batch(vec![(StateKey::ProducerIds, Some(record))]);
            wait_for(self.state.append(batch, now_ms())?).await?;
            block.taken_until = until;
        }
        block.next += 1;
        Ok(block.next - 1)
    }
}
