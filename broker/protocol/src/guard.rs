//! Walks a request by its schema before kafka-protocol's decoder sees it.
//!
//! That decoder calls `Vec::with_capacity` with a count straight from the wire: four bytes can ask
//! for gigabytes. What passes [`check`] has
//! 1. counts that the bytes behind them can hold, at most a million elements in all,
//! 2. at most 10,000 tagged fields in all,
//! 3. lengths that end inside the request, nulls only where the schema allows them, known tagged
//!    fields exactly as long as they say (the decoder ignores that size and could lose step),
//! 4. a decoded form of at most [`memory_bytes_max`]: sixteen times its own bytes and a mebibyte. A
//!    struct of the crate's takes up to 40 times the bytes of its emptiest form on the wire, but no
//!    honest request consists of those.
//!
//! Text is not checked (the decoder does), nor what is opaque to the protocol: records, group
//! metadata. Bytes behind the request are let through, as Kafka does. Nothing is reserved here.
//! Requests nest as deep as the schemas do; those are finite.

mod generated;
mod schema;

use crate::DecodeError;
use crate::wire::{Cursor, invalid};
use schema::{Field, Kind, Request, bytes_min};

/// Kafka 4.4's cap, there for each array, here for all of a request together.
pub const ELEMENTS_MAX: usize = 1_000_000;
/// Kafka 4.4's cap, there for each struct, here for all of a request together.
pub const TAGGED_FIELDS_MAX: usize = 10_000;

const MEMORY_BYTES_FREE: usize = 1 << 20;
const MEMORY_RATIO_MAX: usize = 16;
/// The allocator's own for one `Vec`.
const ALLOCATION_BYTES: usize = 32;
/// The decoder keeps unknown tagged fields in a `BTreeMap<i32, Bytes>`; its first entry allocates a
/// leaf of eleven.
const UNKNOWN_TAG_BYTES: usize = 11 * (4 + 32) + 16 + ALLOCATION_BYTES;

/// The most that decoding a request of this size may reserve.
pub fn memory_bytes_max(body_bytes: usize) -> usize {
    MEMORY_BYTES_FREE.saturating_add(body_bytes.saturating_mul(MEMORY_RATIO_MAX))
}

/// Whether `body`, what follows the request header, may be decoded as this request.
pub fn check(api_key: i16, version: i16, body: &[u8]) -> Result<(), DecodeError> {
    let request = find(api_key, version).ok_or(DecodeError::UnknownApi { api_key, version })?;
    let flexible = version >= request.flexible_from;
    let memory_limit = memory_bytes_max(body.len());
    let cursor = Cursor::new(body);
    let mut walk =
        Walk { cursor, version, flexible, elements: 0, tagged_fields: 0, memory: 0, memory_limit };
    walk.fields(request.fields)
}

fn find(api_key: i16, version: i16) -> Option<&'static Request> {
    let requests = generated::REQUESTS;
    let index = requests.binary_search_by_key(&api_key, |request| request.api_key).ok()?;
    let request = &requests[index];
    (request.oldest <= version && version <= request.newest).then_some(request)
}

struct Walk<'a> {
    cursor: Cursor<'a>,
    version: i16,
    flexible: bool,
    elements: usize,
    tagged_fields: usize,
    /// Bytes that the decoder will reserve for what was walked so far.
    memory: usize,
    memory_limit: usize,
}

impl Walk<'_> {
    fn fields(&mut self, fields: &[Field]) -> Result<(), DecodeError> {
        for field in fields {
            if field.is_in_line(self.version) {
                self.field(field)?;
            }
        }
        if self.flexible { self.tagged(fields) } else { Ok(()) }
    }

    fn field(&mut self, field: &Field) -> Result<(), DecodeError> {
        let nullable = field.is_nullable(self.version);
        match &field.kind {
            Kind::Struct(_) if nullable => {
                let position = self.cursor.position();
                match self.cursor.i8()? {
                    -1 => Ok(()),
                    1 => self.value(&field.kind, false),
                    _ => Err(invalid(position, "presence of a struct is neither -1 nor 1")),
                }
            }
            kind => self.value(kind, nullable),
        }
    }

    fn value(&mut self, kind: &Kind, nullable: bool) -> Result<(), DecodeError> {
        match kind {
            Kind::Fixed(bytes) => self.cursor.take(*bytes).map(drop),
            Kind::Struct(fields) => self.fields(fields),
            Kind::String => {
                let position = self.cursor.position();
                let length = self.length(LengthField::I16, nullable)?;
                if length > i16::MAX.cast_unsigned().into() {
                    return Err(invalid(position, "string is longer than 32767 bytes"));
                }
                self.cursor.take(length).map(drop)
            }
            Kind::Bytes => {
                let length = self.length(LengthField::I32, nullable)?;
                self.cursor.take(length).map(drop)
            }
            Kind::Array(element, element_memory) => {
                let position = self.cursor.position();
                let count = self.length(LengthField::I32, nullable)?;
                self.admit_array(position, count, element, *element_memory)?;
                if let Kind::Fixed(bytes) = element {
                    return self.cursor.take(count * bytes).map(drop);
                }
                (0..count).try_for_each(|_| self.value(element, false))
            }
        }
    }

    /// Null counts as empty. A length that does not fit the address space is past the end anyway.
    fn length(&mut self, field: LengthField, nullable: bool) -> Result<usize, DecodeError> {
        let position = self.cursor.position();
        let length = match field {
            _ if self.flexible => i64::from(self.cursor.unsigned_varint()?) - 1,
            LengthField::I16 => self.cursor.i16()?.into(),
            LengthField::I32 => self.cursor.i32()?.into(),
        };
        match usize::try_from(length) {
            Ok(length) => Ok(length),
            Err(_) if length == -1 && nullable => Ok(0),
            Err(_) if length == -1 => Err(invalid(position, "null where no null may be")),
            Err(_) => Err(invalid(position, "length is negative")),
        }
    }

    /// Before anybody reserves room for `count` elements.
    fn admit_array(
        &mut self,
        position: usize,
        count: usize,
        element: &Kind,
        element_memory: usize,
    ) -> Result<(), DecodeError> {
        let element_bytes_min = bytes_min(element, self.version, self.flexible).max(1);
        if count > self.cursor.remaining() / element_bytes_min {
            return Err(DecodeError::Truncated {
                position,
                needed: count.saturating_mul(element_bytes_min),
                remaining: self.cursor.remaining(),
            });
        }
        self.elements += count;
        bounded(position, "array elements", self.elements, ELEMENTS_MAX)?;
        if count > 0 {
            self.reserve(position, count * element_memory + ALLOCATION_BYTES)?;
        }
        Ok(())
    }

    fn tagged(&mut self, fields: &[Field]) -> Result<(), DecodeError> {
        let position = self.cursor.position();
        let count = self.size()?;
        self.tagged_fields = self.tagged_fields.saturating_add(count);
        bounded(position, "tagged fields", self.tagged_fields, TAGGED_FIELDS_MAX)?;
        for _ in 0..count {
            let at = self.cursor.position();
            let tag = self.cursor.unsigned_varint()?;
            // The crate keeps tags as signed numbers, and its encoder loses the negative ones.
            if i32::try_from(tag).is_err() {
                return Err(invalid(at, "tag does not fit 31 bits"));
            }
            let size = self.size()?;
            let start = self.cursor.position();
            match fields.iter().find(|field| field.has_tag(tag, self.version)) {
                Some(field) => {
                    self.field(field)?;
                    if self.cursor.position() - start != size {
                        return Err(invalid(start, "tagged field is not as long as it says"));
                    }
                }
                None => {
                    self.cursor.take(size)?;
                    self.reserve(start, UNKNOWN_TAG_BYTES)?;
                }
            }
        }
        Ok(())
    }

    fn size(&mut self) -> Result<usize, DecodeError> {
        let position = self.cursor.position();
        usize::try_from(self.cursor.unsigned_varint()?)
            .map_err(|_| invalid(position, "size does not fit the address space"))
    }

    fn reserve(&mut self, position: usize, bytes: usize) -> Result<(), DecodeError> {
        self.memory += bytes;
        bounded(position, "bytes of memory to decode into", self.memory, self.memory_limit)
    }
}

/// What a length is written in below the flexible versions.
enum LengthField {
    I16,
    I32,
}

fn bounded(
    position: usize,
    what: &'static str,
    count: usize,
    limit: usize,
) -> Result<(), DecodeError> {
    if count > limit {
        let (count, limit) = (count as u64, limit as u64);
        return Err(DecodeError::TooMany { position, what, count, limit });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
