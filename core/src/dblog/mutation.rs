// SPDX-License-Identifier: Apache-2.0
//! Rules that can be broken on purpose, so that the tests can prove that they bite. Only with the `mutations` feature.

/// One broken rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mutation {
    /// A log event inside a window leaves the chunk's row where it is.
    WindowRule,
    /// A read view that misses a forwarded transaction is taken all the same.
    ReadViewCheck,
    /// The source is acknowledged when a checkpoint is made instead of when it is durable.
    CheckpointBeforeAcknowledge,
    /// The row that a partial log event took away is not read again.
    RereadAfterPartial,
    /// A transaction that was split is skipped to by one change too many.
    SplitOrdinal,
    /// What left memory for runs is not asked about a chunk's keys.
    RecallOfRuns,
    /// A row that moved leaves its old key in open windows.
    OldKey,
    /// A chunk leaves in the shape that it was read in, whatever left meanwhile.
    ShapeCheck,
    /// A deletion of a range or partition is passed on and not remembered.
    DeletionOfMany,
    /// A checkpoint says nothing of transactions that may still be invisible.
    ForwardedInCheckpoint,
    /// A checkpoint counts open windows as read.
    OpenWindowInCheckpoint,
    /// What leaves between a renewal's checkpoint and its comparison is not watched.
    WatchBeforeCompare,
}

impl Mutation {
    /// Every mutation.
    #[cfg(feature = "mutations")]
    pub const ALL: [Mutation; 12] = [
        Mutation::WindowRule,
        Mutation::ReadViewCheck,
        Mutation::CheckpointBeforeAcknowledge,
        Mutation::RereadAfterPartial,
        Mutation::SplitOrdinal,
        Mutation::RecallOfRuns,
        Mutation::OldKey,
        Mutation::ShapeCheck,
        Mutation::DeletionOfMany,
        Mutation::ForwardedInCheckpoint,
        Mutation::OpenWindowInCheckpoint,
        Mutation::WatchBeforeCompare,
    ];
}

/// Which rule is broken in an engine: none, unless the feature is on and a test says so.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Mutated {
    #[cfg(feature = "mutations")]
    pub(super) rule: Option<Mutation>,
}

impl Mutated {
    /// Whether `rule` is broken. Constant without the feature.
    #[inline]
    pub(super) fn breaks(self, rule: Mutation) -> bool {
        #[cfg(feature = "mutations")]
        return self.rule == Some(rule);
        #[cfg(not(feature = "mutations"))]
        {
            let _ = rule;
            false
        }
    }
}
