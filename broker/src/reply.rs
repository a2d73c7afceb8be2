//! A reply on its way out: a short head and the record bytes, never joined into one buffer.

use std::io::IoSlice;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::budget::Held;
use crate::handlers::Context;

/// Length prefix, correlation id and, for flexible headers, an empty tag section.
const PREFIX_BYTES_MAX: usize = 9;

/// The bytes of one response frame, in pieces. Pieces are written in order with vectored writes.
#[derive(Debug, Default)]
pub(crate) struct Reply {
    pieces: std::collections::VecDeque<Bytes>,
    /// Its place in the replies' budget, if that was taken before it was made.
    pub held: Option<Held>,
}

impl Reply {
    /// `header_version` 1 has a tag section, 0 has none (ApiVersions never has one).
    pub(crate) fn new(context: &Context, header_version: i16, body: Vec<Bytes>) -> Self {
        let body_bytes: usize = body.iter().map(Bytes::len).sum();
        let header_bytes = if header_version >= 1 { 5 } else { 4 };
        let mut prefix = BytesMut::with_capacity(PREFIX_BYTES_MAX);
        // A reply is bounded by `fetch.max.bytes` plus its head, far below 2 GiB.
        prefix.put_i32(i32::try_from(header_bytes + body_bytes).unwrap_or(i32::MAX));
        prefix.put_i32(context.correlation_id);
        if header_version >= 1 {
            prefix.put_u8(0);
        }
        let mut pieces = std::collections::VecDeque::with_capacity(body.len() + 1);
        pieces.push_back(prefix.freeze());
        pieces.extend(body.into_iter().filter(|piece| !piece.is_empty()));
        Self { pieces, held: None }
    }

    /// With a place in the replies' budget, taken before the reply was made.
    pub(crate) fn with(self, held: Option<Held>) -> Self {
        Self { held, ..self }
    }

    /// A length and these bytes, without a header: the tokens after SaslHandshake 0.
    pub(crate) fn bare(token: Bytes) -> Self {
        let mut prefix = BytesMut::with_capacity(4);
        prefix.put_i32(i32::try_from(token.len()).unwrap_or(i32::MAX));
        let pieces = [prefix.freeze(), token].into_iter().filter(|piece| !piece.is_empty());
        Self { pieces: pieces.collect(), held: None }
    }

    pub(crate) fn bytes_left(&self) -> usize {
        self.pieces.iter().map(Bytes::len).sum()
    }

    pub(crate) fn is_done(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Fills `slices` for one vectored write; returns how many were filled.
    pub(crate) fn fill<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut filled = 0;
        for (slot, piece) in slices.iter_mut().zip(&self.pieces) {
            *slot = IoSlice::new(piece);
            filled += 1;
        }
        filled
    }

    /// Takes note that this many bytes were written.
    pub(crate) fn written(&mut self, mut bytes: usize) {
        while bytes > 0 {
            let Some(first) = self.pieces.front_mut() else { return };
            if bytes < first.len() {
                first.advance(bytes);
                return;
            }
            bytes -= first.len();
            self.pieces.pop_front();
        }
    }
}
