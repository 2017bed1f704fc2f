// SPDX-License-Identifier: Apache-2.0
//! The connector against real servers of every supported major version.

mod chunks;
mod connecting;
mod fixture;
mod log;
mod marks;
mod preflight;
mod resume;
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
