// SPDX-License-Identifier: Apache-2.0
//! The server's settings and the role's own attributes.

use super::{Mend, error};
use crate::catalog_row::{CatalogRow, only_row};
use crate::log_reader::overload::{grant_statement, sees_sessions};
use crate::protocol::quoting::quote_identifier;
use crate::query_connection::QueryConnection;
use crate::server_version::MAJOR_MIN;
use crate::settings::Settings;
use highwater_core::Result;
use highwater_core::connector::Finding;

/// What the server and the role are like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ServerFacts {
    pub(super) role: String,
    pub(super) may_replicate: bool,
    /// The role may create publications in the database.
    pub(super) may_create: bool,
    pub(super) in_recovery: bool,
    pub(super) wal_level: String,
    pub(super) slots: i64,
    pub(super) slots_max: i64,
    pub(super) senders: i64,
    pub(super) senders_max: i64,
    pub(super) encoding: String,
    /// The role is shown what other roles' sessions do.
    pub(super) sees_sessions: bool,
}

const FACTS: &str = "\
    SELECT current_user, \
           (SELECT r.rolreplication OR r.rolsuper FROM pg_catalog.pg_roles r WHERE r.rolname = current_user), \
           pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE'), \
           pg_catalog.pg_is_in_recovery(), pg_catalog.current_setting('wal_level'), \
           (SELECT pg_catalog.count(*) FROM pg_catalog.pg_replication_slots), \
           pg_catalog.current_setting('max_replication_slots')::int8, \
           (SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_activity WHERE backend_type = 'walsender'), \
           pg_catalog.current_setting('max_wal_senders')::int8, pg_catalog.current_setting('server_encoding')";

impl ServerFacts {
    pub(super) async fn read(connection: &mut QueryConnection) -> Result<Self> {
        let what = "reading the server's settings";
        let row = only_row(connection.query(FACTS, &[], what).await?, what)?;
        Ok(Self {
            role: row.column(0)?,
            may_replicate: row.flag(1)?,
            may_create: row.flag(2)?,
            in_recovery: row.flag(3)?,
            wal_level: row.column(4)?,
            slots: row.column(5)?,
            slots_max: row.column(6)?,
            senders: row.column(7)?,
            senders_max: row.column(8)?,
            encoding: row.column(9)?,
            sees_sessions: sees_sessions(connection).await?,
        })
    }
}

pub(super) fn too_old(major: u32) -> Finding {
    let what = format!("the server is version {major}; the oldest supported is {MAJOR_MIN}");
    error(
        "server_version",
        what,
        "transaction ids of 64 bits and publish_via_partition_root exist since 13",
    )
    .advice("upgrade the server")
}

pub(super) fn findings(settings: &Settings, facts: &ServerFacts, slot_exists: bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    if facts.wal_level != "logical" {
        let what = format!("wal_level is {}", facts.wal_level);
        findings.push(
            error(
                "wal_level",
                what,
                "the log holds row changes only with wal_level = logical",
            )
            .sql("ALTER SYSTEM SET wal_level = 'logical'")
            .advice("restart the server"),
        );
    }
    if !slot_exists && facts.slots >= facts.slots_max {
        let what = format!(
            "all {} replication slots (max_replication_slots) are taken",
            facts.slots_max
        );
        findings.push(
            error(
                "max_replication_slots",
                what,
                "the connector keeps its place in the log in a slot of its own",
            )
            .sql(format!("ALTER SYSTEM SET max_replication_slots = {}", facts.slots + 4))
            .advice("restart the server, or drop a slot that nobody uses"),
        );
    }
    if facts.senders >= facts.senders_max {
        let what = format!(
            "{} of {} walsenders (max_wal_senders) are taken",
            facts.senders, facts.senders_max
        );
        findings.push(
            error("max_wal_senders", what, "the log comes from a walsender of its own")
                .sql(format!("ALTER SYSTEM SET max_wal_senders = {}", facts.senders + 4))
                .advice("restart the server"),
        );
    }
    if !facts.may_replicate {
        let what = format!("role \"{}\" lacks REPLICATION", facts.role);
        findings.push(
            error("role_replication", what, "only such a role may read the log")
                .sql(format!("ALTER ROLE {} REPLICATION", quote_identifier(&facts.role))),
        );
    }
    if !settings.throttle.is_off() && !facts.sees_sessions {
        let what = format!("role \"{}\" does not see what other sessions do", facts.role);
        let why = "without that the limits in `throttle` would never be passed";
        findings.push(error("throttle_privilege", what, why).sql(grant_statement(&facts.role)));
    }
    if facts.encoding == "SQL_ASCII" {
        let what = "the database's encoding is SQL_ASCII".to_owned();
        let why = "its texts may be in any encoding; one that is not UTF-8 stops its table";
        findings.push(error("encoding", what, why).warning());
    }
    findings
}
