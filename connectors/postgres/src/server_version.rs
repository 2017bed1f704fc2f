// SPDX-License-Identifier: Apache-2.0
//! What a server of a major version has, in one place: everything that differs between the supported ones asks here.

/// The oldest major version that is supported: transaction ids of 64 bits and `publish_via_partition_root` exist since.
pub const MAJOR_MIN: u32 = 13;

/// A server's major version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServerVersion(pub u32);

impl ServerVersion {
    /// pgoutput sends values in their binary form. Before, as text: see [`crate::log_reader`].
    pub fn sends_binary(self) -> bool {
        self.0 >= 14
    }

    /// pgoutput sends logical messages, so that a mark can be found in the log. Before, marks are places.
    pub fn sends_messages(self) -> bool {
        self.0 >= 14
    }

    /// Rows can be read by a range of the blocks that they lie in.
    pub fn scans_block_ranges(self) -> bool {
        self.0 >= 14
    }

    /// Slots may send prepared transactions before they are decided, and the catalogue says which do.
    pub fn has_two_phase_slots(self) -> bool {
        self.0 >= 14
    }

    /// Publications have row filters and column lists.
    pub fn has_row_filters(self) -> bool {
        self.0 >= 15
    }

    /// `CREATE_REPLICATION_SLOT` takes its options in parentheses.
    pub fn has_slot_options(self) -> bool {
        self.0 >= 15
    }

    /// A hot standby decodes its log, and says of a slot whether a conflict with the primary invalidated it.
    pub fn decodes_on_standby(self) -> bool {
        self.0 >= 16
    }

    /// Standbys keep failover slots in step, and the catalogue says why a slot was invalidated.
    pub fn has_failover_slots(self) -> bool {
        self.0 >= 17
    }

    /// `transaction_timeout` ends transactions that take long.
    pub fn has_transaction_timeout(self) -> bool {
        self.0 >= 17
    }

    /// Publications may send generated columns.
    pub fn publishes_generated_columns(self) -> bool {
        self.0 >= 18
    }
}

/// The digits at the head of a version: 15 of `15.8 (Debian 15.8-0+deb12u1)`; 0 where there are none.
pub(crate) fn major_of(version: &str) -> u32 {
    let end = version
        .find(|character: char| !character.is_ascii_digit())
        .unwrap_or(version.len());
    version.get(..end).unwrap_or_default().parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_major_version_is_the_number_at_the_head() {
        for (version, major) in [
            ("15.8 (Debian 15.8-0+deb12u1)", 15),
            ("17.0", 17),
            ("18beta1", 18),
            ("", 0),
            ("x", 0),
        ] {
            assert_eq!(major_of(version), major, "{version}");
        }
    }
}
