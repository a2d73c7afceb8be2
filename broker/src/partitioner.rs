//! Kafka's default partitioner for keys: murmur2 with Kafka's seed, the sign bit masked.

const SEED: u32 = 0x9747_b28c;
const M: u32 = 0x5bd1_e995;
const R: u32 = 24;

/// murmur2 as in Kafka's `Utils.murmur2`.
fn murmur2(key: &[u8]) -> u32 {
    // Lengths are those of record keys, far below 2^32.
    let mut hash = SEED ^ (key.len() as u32);
    let chunks = key.chunks_exact(4);
    let rest = chunks.remainder();
    for chunk in chunks {
        let mut k = u32::from_le_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]);
        k = k.wrapping_mul(M);
        k ^= k >> R;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !rest.is_empty() {
        for (i, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * i);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

/// The partition of a keyed record among `count` partitions.
pub(crate) fn partition_for(key: &[u8], count: usize) -> i32 {
    let positive = murmur2(key) & 0x7fff_ffff;
    i32::try_from(positive as usize % count.max(1)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::murmur2;

    /// The cases of Kafka's own `UtilsTest.testMurmur2`.
    #[test]
    fn hashes_are_those_of_kafkas_own_test() {
        let cases: [(&str, i32); 6] = [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ];
        for (key, hash) in cases {
            assert_eq!(murmur2(key.as_bytes()), hash as u32, "{key}");
        }
    }
}
