// SPDX-License-Identifier: Apache-2.0
//! What stands in where a machine is not as ours: npm's embedded builds of Postgres without a Debian mirror, another
//! user where root may make no namespace.
//!
//! One test only in this file: it sets the environment.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use highwater_testbed::versions::POSTGRES_MAJORS;
use highwater_testbed::{PgOptions, Postgres, skip};

#[test]
fn stand_ins_serve_both_majors_with_logical_decoding() {
    // SAFETY: this file's only test; no other thread reads the environment now.
    unsafe {
        std::env::set_var("HIGHWATER_TESTBED", "process");
        std::env::set_var("HIGHWATER_POSTGRES_AS", "nobody");
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(decode_on_both_majors(""));
    if std::process::Command::new("npm").arg("--version").output().is_err() {
        return skip::counted(
            "postgres from npm",
            &"npm is missing, and Debian's packages are used here",
        );
    }
    // SAFETY: as above.
    unsafe {
        std::env::remove_var("HIGHWATER_POSTGRES_AS");
        std::env::set_var("HIGHWATER_POSTGRES_FROM", "npm");
    }
    runtime.block_on(decode_on_both_majors("npm"));
}

async fn decode_on_both_majors(source: &str) {
    for major in POSTGRES_MAJORS {
        // With TLS: the key must be readable by whoever the server runs as.
        let server = Postgres::start(PgOptions::major(major).with_tls()).await.unwrap();
        let bin = server.bin_dir().unwrap().display().to_string();
        assert!(bin.contains(source), "{bin}");
        let client = server.connect().await.unwrap();
        let slot = "SELECT pg_create_logical_replication_slot('probe', 'pgoutput')::text";
        let made: String = client.query_one(slot, &[]).await.unwrap().get(0);
        assert!(made.contains("probe"));
        server.kill9().await.unwrap();
        server.restart().await.unwrap();
    }
}
