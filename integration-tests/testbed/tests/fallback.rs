// SPDX-License-Identifier: Apache-2.0
//! The source of Postgres on machines without a Debian mirror: npm's embedded builds.
//!
//! One test only in this file: it sets the environment.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use highwater_testbed::versions::POSTGRES_MAJORS;
use highwater_testbed::{PgOptions, Postgres, skip};

#[test]
fn the_embedded_builds_of_npm_serve_both_majors_with_logical_decoding() {
    if std::process::Command::new("npm").arg("--version").output().is_err() {
        return skip::counted(
            "postgres from npm",
            &"npm is missing, and Debian's packages are used here",
        );
    }
    // SAFETY: this file's only test; no other thread reads the environment now.
    unsafe {
        std::env::set_var("HIGHWATER_POSTGRES_FROM", "npm");
        std::env::set_var("HIGHWATER_TESTBED", "process");
    }
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(async {
            for major in POSTGRES_MAJORS {
                let server = Postgres::start(PgOptions::major(major)).await.unwrap();
                assert!(
                    server.bin_dir().unwrap().to_string_lossy().contains("npm"),
                    "{:?}",
                    server.bin_dir()
                );
                let client = server.connect().await.unwrap();
                let slot = "SELECT pg_create_logical_replication_slot('probe', 'pgoutput')::text";
                let made: String = client.query_one(slot, &[]).await.unwrap().get(0);
                assert!(made.contains("probe"));
            }
        });
}
