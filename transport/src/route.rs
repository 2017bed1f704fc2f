// SPDX-License-Identifier: Apache-2.0
//! Which partition a record goes to, the same on every transport.

use highwater_core::partitioner::partition_for_key;

/// The partition of records without a key: one for all of a topic, so that they keep their order.
pub(crate) const KEYLESS_PARTITION: u32 = 0;

/// The partition of a record of a topic with `partitions` partitions.
pub(crate) fn partition_of(key: Option<&[u8]>, partitions: u32) -> u32 {
    match key {
        Some(_) if partitions == 1 => 0,
        Some(key) => partition_for_key(key, partitions),
        None => KEYLESS_PARTITION,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_without_a_key_share_one_partition_and_those_with_one_follow_java() {
        assert_eq!(partition_of(None, 10), 0);
        assert_eq!(partition_of(Some(b"21"), 10), 0);
        assert_eq!(partition_of(Some(b"21"), 7), 1_173_551_340 % 7);
        assert_eq!(partition_of(Some(b"21"), 1), 0);
    }
}
