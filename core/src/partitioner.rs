// SPDX-License-Identifier: Apache-2.0
//! Which partition a key belongs to: the rule of Java's Kafka producer, so that a topic that another producer began, or
//! goes on with, keeps each key where it is.

/// The 32-bit MurmurHash2 of `bytes` with the seed of Kafka's Java clients (`0x9747b28c`).
///
/// Java shows the same bits as a signed number: `murmur2(b"21") as i32` is -973932308.
pub fn murmur2(bytes: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const MULTIPLIER: u32 = 0x5bd1_e995;
    const SHIFT: u32 = 24;

    // Java lengths are 32 bits; a longer key cannot be a Kafka record.
    let mut hash = SEED ^ bytes.len() as u32;
    let (words, rest) = bytes.as_chunks::<4>();
    for word in words {
        let mut mixed = u32::from_le_bytes(*word).wrapping_mul(MULTIPLIER);
        mixed ^= mixed >> SHIFT;
        hash = hash.wrapping_mul(MULTIPLIER) ^ mixed.wrapping_mul(MULTIPLIER);
    }
    if !rest.is_empty() {
        for (at, octet) in rest.iter().enumerate() {
            hash ^= u32::from(*octet) << (8 * at);
        }
        hash = hash.wrapping_mul(MULTIPLIER);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(MULTIPLIER);
    hash ^ (hash >> 15)
}

/// The partition of a record with this key: Java's `toPositive(murmur2(key)) % partitions`. Of a topic without partitions
/// it is 0.
pub fn partition_for_key(key: &[u8], partitions: u32) -> u32 {
    (murmur2(key) & 0x7fff_ffff).checked_rem(partitions).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_kafkas_java_client() {
        // The values that Kafka's own UtilsTest expects.
        let golden: [(&[u8], i32); 6] = [
            (b"21", -973_932_308),
            (b"foobar", -790_332_482),
            (b"a-little-bit-long-string", -985_981_536),
            (b"a-little-bit-longer-string", -1_486_304_829),
            (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            (b"abc", 479_470_107),
        ];
        for (key, expected) in golden {
            assert_eq!(murmur2(key) as i32, expected);
        }
    }

    #[test]
    fn a_negative_hash_is_made_positive_by_its_sign_bit_and_not_by_its_absolute_value() {
        // toPositive(-973932308) = 1173551340; abs would give 973932308, partition 8 of 10.
        assert_eq!(partition_for_key(b"21", 10), 0);
        assert_eq!(partition_for_key(b"21", 7), 1_173_551_340 % 7);
    }

    #[test]
    fn a_topic_without_partitions_does_not_divide_by_zero() {
        assert_eq!(partition_for_key(b"21", 0), 0);
    }
}
