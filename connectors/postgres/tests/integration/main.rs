// SPDX-License-Identifier: Apache-2.0
//! The connector against real servers of every supported major version.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod chunks;
mod conformance;
mod connecting;
mod embedding;
mod failover;
mod fixture;
mod identities;
mod keyless;
mod log;
mod marks;
mod messages;
mod overload;
mod partitions;
mod pieces;
mod preflight;
mod prepared;
mod queries;
mod resume;
mod retention;
mod round_trip;
mod standby;
mod start_snapshot;
mod text;
mod types;

use highwater_testbed::{Postgres, skip, versions};
use std::future::Future;

/// Makes a test of `$test(major)` for the major versions of a run, or those of them that are not older than `$first`; see
/// [`highwater_testbed::versions::chosen`].
macro_rules! on_each_major {
    ($($test:ident),+ $(,)?) => {
        crate::on_each_major!(since 13; $($test),+);
    };
    (since $first:literal; $($test:ident),+ $(,)?) => {
        $(
            mod $test {
                #[tokio::test]
                async fn on_each_major() {
                    let mut majors = highwater_testbed::versions::chosen();
                    majors.retain(|major| *major >= $first);
                    crate::on_majors(majors, super::$test).await;
                }
            }
        )+
    };
}
pub(crate) use on_each_major;

/// Runs a test on one major after the other. One that is not to be had is told and counted, unless the suite needs it.
async fn on_majors<F: Future<Output = ()>>(majors: Vec<u16>, test: impl Fn(u16) -> F) {
    for major in majors {
        if let Err(error) = Postgres::shared(major).await {
            assert!(!versions::POSTGRES_MAJORS.contains(&major), "postgres {major}: {error}");
            skip::counted(&format!("postgres {major}"), &error);
            continue;
        }
        eprintln!("on postgres {major}");
        test(major).await;
    }
}
