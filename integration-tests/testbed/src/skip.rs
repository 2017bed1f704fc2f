// SPDX-License-Identifier: Apache-2.0
//! A skip that is seen: a test that this machine cannot run says so past the test harness' capture, and
//! `make test` counts it.

use std::io::Write;

/// Tells that `what` was not tested, and why, on a line `SKIPPED what: reason`.
pub fn counted(what: &str, reason: &dyn std::fmt::Display) {
    let reason = reason.to_string().replace('\n', " | ");
    // Not eprintln: the harness would keep it to itself.
    let _ = writeln!(std::io::stderr(), "SKIPPED {what}: {reason}");
}
