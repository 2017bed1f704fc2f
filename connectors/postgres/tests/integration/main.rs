// SPDX-License-Identifier: Apache-2.0
//! The connector against real servers of every supported major version.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod chunks;
mod conformance;
mod connecting;
mod embedding;
mod fixture;
mod log;
mod marks;
mod pieces;
mod preflight;
mod prepared;
mod queries;
mod resume;
mod round_trip;
mod types;

/// Makes a test of `$test(major)` for each major version.
macro_rules! on_each_major {
    ($($test:ident),+ $(,)?) => {
        $(
            mod $test {
                #[tokio::test]
                async fn on_15() {
                    super::$test(15).await;
                }

                #[tokio::test]
                async fn on_17() {
                    super::$test(17).await;
                }
            }
        )+
    };
}
pub(crate) use on_each_major;
