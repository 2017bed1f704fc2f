// SPDX-License-Identifier: Apache-2.0
//! How late events are.

use std::collections::HashMap;

use crate::failure::{Failure, Result};
use crate::load::Commit;

/// How late half of the events are at most, and how late all but one in a hundred.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Latency {
    /// Milliseconds.
    pub(crate) p50_ms: f64,
    /// Milliseconds.
    pub(crate) p99_ms: f64,
}

/// From commits and arrivals, one of each per row. An event that overtook the server's answer to its writer is not late.
pub(crate) fn latency(commits: &[Commit], arrivals: &[(u64, u64)]) -> Result<Latency> {
    let arrived: HashMap<u64, u64> = arrivals.iter().copied().collect();
    let mut late_us = Vec::with_capacity(commits.len());
    for commit in commits {
        let at = arrived
            .get(&commit.id)
            .ok_or_else(|| Failure::new("a committed row has not arrived"))?;
        late_us.push(at.saturating_sub(commit.at_us));
    }
    late_us.sort_unstable();
    let percentile = |percent: usize| {
        let place = (late_us.len() * percent).div_ceil(100).saturating_sub(1);
        late_us.get(place).map(|late| *late as f64 / 1e3)
    };
    match (percentile(50), percentile(99)) {
        (Some(p50_ms), Some(p99_ms)) => Ok(Latency { p50_ms, p99_ms }),
        _ => Err(Failure::new("nothing was committed")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_time_from_commit_to_arrival() {
        let commits: Vec<Commit> = (1..=100).map(|id| Commit { id, at_us: id * 10_000 }).collect();
        let arrivals: Vec<(u64, u64)> = (1..=100).rev().map(|id| (id, id * 10_000 + id * 1_000)).collect();
        let found = latency(&commits, &arrivals).unwrap();
        assert_eq!((found.p50_ms, found.p99_ms), (50.0, 99.0));
    }

    #[test]
    fn a_row_that_never_arrived_is_an_error_and_one_that_was_early_is_not() {
        let commits = [Commit { id: 1, at_us: 10 }];
        assert!(latency(&commits, &[(2, 20)]).is_err());
        assert_eq!(latency(&commits, &[(1, 5)]).unwrap().p50_ms, 0.0);
    }
}
