//! The latest offset of each key of the dirty part of a log, in a bounded number of bytes. Keys are
//! held as keyed hashes of 128 bits: nobody who does not know this run's secret can make two keys
//! collide, and by chance it does not happen.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher, RandomState};

/// A bucket of the table: hash, offset, and the table's own byte for it.
const BUCKET_BYTES: usize = size_of::<(KeyHash, i64)>() + 1;
/// The fewest buckets, so that any bound in bytes gets on.
const BUCKETS_MIN: usize = 1 << 10;

#[derive(Clone, Copy, PartialEq, Eq)]
struct KeyHash(u64, u64);

/// It is a hash already.
impl Hash for KeyHash {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0);
    }
}

#[derive(Default)]
struct Taken(u64);

impl Hasher for Taken {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

/// Makes the hashes of one run of the log; two secrets, a half each.
#[derive(Default)]
pub(crate) struct Secret([RandomState; 2]);

impl Secret {
    fn hash(&self, key: &[u8]) -> KeyHash {
        let [first, second] = &self.0;
        KeyHash(first.hash_one(key), second.hash_one(key))
    }
}

pub(crate) struct KeyMap {
    latest: HashMap<KeyHash, i64, BuildHasherDefault<Taken>>,
    keys_max: usize,
}

impl KeyMap {
    /// A table of at most so many bytes, which are taken at once and touched as they are used.
    pub fn new(bytes_max: usize) -> Self {
        let fits = (bytes_max / BUCKET_BYTES).max(BUCKETS_MIN);
        let buckets = if fits.is_power_of_two() { fits } else { fits.next_power_of_two() / 2 };
        // The table grows beyond seven eighths of its buckets.
        let keys_max = buckets / 8 * 7;
        let latest = HashMap::with_capacity_and_hasher(keys_max, BuildHasherDefault::default());
        KeyMap { latest, keys_max }
    }

    pub fn len(&self) -> usize {
        self.latest.len()
    }

    pub fn memory_bytes(&self) -> usize {
        self.keys_max / 7 * 8 * BUCKET_BYTES
    }

    /// False if there is no room for one more key. Offsets come in ascending order.
    pub fn put(&mut self, secret: &Secret, key: &[u8], offset: i64) -> bool {
        let hash = secret.hash(key);
        if let Some(latest) = self.latest.get_mut(&hash) {
            *latest = offset;
            return true;
        }
        let room = self.latest.len() < self.keys_max;
        if room {
            self.latest.insert(hash, offset);
        }
        room
    }

    pub fn latest(&self, secret: &Secret, key: &[u8]) -> Option<i64> {
        self.latest.get(&secret.hash(key)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_map_stays_within_its_bytes_and_refuses_new_keys_only() {
        let secret = Secret::default();
        // 8 MiB: 2^18 buckets of 25 bytes are 6.25 MiB, twice as many would be too many.
        let mut map = KeyMap::new(8 << 20);
        let keys_max = (1 << 18) / 8 * 7;
        let capacity = map.latest.capacity();
        assert_eq!(map.memory_bytes(), (1 << 18) * 25);
        for index in 0..keys_max as i64 {
            assert!(map.put(&secret, &index.to_le_bytes(), index));
        }
        assert_eq!(map.latest.capacity(), capacity, "it never grew");
        assert!(!map.put(&secret, b"one more", 9));
        assert!(map.put(&secret, &7_i64.to_le_bytes(), 1 << 40), "a known key has its place");
        assert_eq!(map.latest(&secret, &7_i64.to_le_bytes()), Some(1 << 40));
        assert_eq!(map.latest(&secret, &8_i64.to_le_bytes()), Some(8));
        assert_eq!(map.latest(&secret, b"one more"), None);
        assert_eq!(map.len(), keys_max);
    }
}
