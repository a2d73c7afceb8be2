//! A cursor over bytes that are not trusted, and Kafka's variable-length integers.

use crate::DecodeError;

/// Reads forward only. Every read checks what remains; nothing is copied.
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    pub(crate) fn position(&self) -> usize {
        self.position
    }

    pub(crate) fn remaining(&self) -> usize {
        self.bytes.len() - self.position
    }

    pub(crate) fn take(&mut self, bytes: usize) -> Result<&'a [u8], DecodeError> {
        let end = self.position.checked_add(bytes).filter(|end| *end <= self.bytes.len());
        let Some(end) = end else {
            return Err(DecodeError::Truncated {
                position: self.position,
                needed: bytes,
                remaining: self.remaining(),
            });
        };
        let taken = &self.bytes[self.position..end];
        self.position = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    pub(crate) fn i8(&mut self) -> Result<i8, DecodeError> {
        self.array().map(i8::from_be_bytes)
    }

    pub(crate) fn i16(&mut self) -> Result<i16, DecodeError> {
        self.array().map(i16::from_be_bytes)
    }

    pub(crate) fn i32(&mut self) -> Result<i32, DecodeError> {
        self.array().map(i32::from_be_bytes)
    }

    /// At most five bytes, as `ByteUtils.readUnsignedVarint`; bits beyond 32 are refused.
    pub(crate) fn unsigned_varint(&mut self) -> Result<u32, DecodeError> {
        let start = self.position;
        let value = self.base_128(5)?;
        u32::try_from(value).map_err(|_| invalid(start, "varint does not fit 32 bits"))
    }

    pub(crate) fn varint(&mut self) -> Result<i32, DecodeError> {
        let zigzag = self.unsigned_varint()?;
        Ok((zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed())
    }

    /// At most ten bytes, as `ByteUtils.readVarlong`.
    pub(crate) fn varlong(&mut self) -> Result<i64, DecodeError> {
        let zigzag = self.base_128(10)?;
        Ok((zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed())
    }

    fn base_128(&mut self, bytes_max: usize) -> Result<u64, DecodeError> {
        let start = self.position;
        let mut value = 0u64;
        for index in 0..bytes_max {
            let byte = self.array::<1>()?[0];
            let bits = u64::from(byte & 0x7f);
            if index == 9 && bits > 1 {
                return Err(invalid(start, "varlong does not fit 64 bits"));
            }
            value |= bits << (7 * index);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(invalid(start, "variable-length integer does not end"))
    }
}

pub(crate) fn invalid(position: usize, reason: &'static str) -> DecodeError {
    DecodeError::Invalid { position, reason }
}

pub(crate) fn put_varint(out: &mut Vec<u8>, value: i32) {
    put_varlong(out, i64::from(value));
}

/// Zigzag; the 32-bit form writes the same bytes for the same value.
pub(crate) fn put_varlong(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while rest > 0x7f {
        out.push(low_seven(rest) | 0x80);
        rest >>= 7;
    }
    out.push(low_seven(rest));
}

fn low_seven(value: u64) -> u8 {
    value.to_le_bytes()[0] & 0x7f
}

/// Bytes that [`put_varlong`] writes for this value.
pub(crate) fn varlong_bytes(value: i64) -> usize {
    let zigzag = ((value << 1) ^ (value >> 63)).cast_unsigned();
    (64 - (zigzag | 1).leading_zeros() as usize).div_ceil(7)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// From Kafka's ByteUtilsTest.testCorrectnessWriteVarint / Varlong.
    #[test]
    fn varints_have_the_bytes_of_kafkas_own_tests() {
        let cases: &[(i64, &[u8])] = &[
            (0, &[0x00]),
            (-1, &[0x01]),
            (1, &[0x02]),
            (63, &[0x7e]),
            (-64, &[0x7f]),
            (64, &[0x80, 0x01]),
            (-65, &[0x81, 0x01]),
            (8191, &[0xfe, 0x7f]),
            (8192, &[0x80, 0x80, 0x01]),
            (134217727, &[0xfe, 0xff, 0xff, 0x7f]),
            (i32::MAX as i64, &[0xfe, 0xff, 0xff, 0xff, 0x0f]),
            (i32::MIN as i64, &[0xff, 0xff, 0xff, 0xff, 0x0f]),
            (i64::MAX, &[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]),
            (i64::MIN, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]),
        ];
        for (value, expected) in cases {
            let mut out = Vec::new();
            put_varlong(&mut out, *value);
            assert_eq!(&out, expected, "{value}");
            assert_eq!(varlong_bytes(*value), expected.len(), "{value}");
            assert_eq!(Cursor::new(expected).varlong(), Ok(*value));
        }
    }

    #[test]
    fn a_varint_that_does_not_end_or_does_not_fit_is_refused() {
        assert!(Cursor::new(&[0x80; 5]).varint().is_err());
        assert!(Cursor::new(&[0xff, 0xff, 0xff, 0xff, 0x1f]).varint().is_err());
        assert!(Cursor::new(&[0xff; 11]).varlong().is_err());
        assert!(
            Cursor::new(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2])
                .varlong()
                .is_err()
        );
        assert!(Cursor::new(&[0x80]).varint().is_err());
    }

    proptest! {
        #[test]
        fn every_integer_survives_the_round_trip(wide: i64, narrow: i32) {
            let mut out = Vec::new();
            put_varlong(&mut out, wide);
            put_varint(&mut out, narrow);
            let mut cursor = Cursor::new(&out);
            prop_assert_eq!(cursor.varlong(), Ok(wide));
            prop_assert_eq!(cursor.varint(), Ok(narrow));
            prop_assert_eq!(cursor.remaining(), 0);
        }
    }
}
