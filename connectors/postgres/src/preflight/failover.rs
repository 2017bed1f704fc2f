// SPDX-License-Identifier: Apache-2.0
//! Standbys: a server that is one, and a slot that shall outlive a failover.

use super::server::ServerFacts;
use super::{Mend, error};
use crate::catalog_row::{CatalogRow, only_row};
use crate::query_connection::QueryConnection;
use crate::server_version::ServerVersion;
use crate::settings::Settings;
use crate::slot::SlotFacts;
use highwater_core::Result;
use highwater_core::connector::{Finding, Severity};

const RELOAD: &str = "SELECT pg_reload_conf()";

/// What stands against reading from a standby, or against surviving the loss of the primary.
pub(super) async fn findings(
    connection: &mut QueryConnection,
    settings: &Settings,
    facts: &ServerFacts,
    slot: Option<&SlotFacts>,
) -> Result<Vec<Finding>> {
    let version = connection.server_version().await?;
    if facts.in_recovery {
        return match standby_refused(settings, version) {
            Some(finding) => Ok(vec![finding]),
            None => read_from_standby(connection).await,
        };
    }
    if !settings.slot.failover || !version.has_failover_slots() {
        return Ok(Vec::new());
    }
    let mut findings = Vec::from_iter(slot.filter(|slot| !slot.failover).map(|_| to_be_altered(settings)));
    findings.extend(waits_for_no_standby(connection).await?);
    Ok(findings)
}

fn standby_refused(settings: &Settings, version: ServerVersion) -> Option<Finding> {
    let refused = |what: String, why: &str, advice: &str| Some(error("physical_standby", what, why).advice(advice));
    if !version.decodes_on_standby() {
        return refused(
            format!("the server is a standby of version {}", version.0),
            "a standby decodes its log since version 16",
            "connect to the primary",
        );
    }
    if !settings.standby {
        return refused(
            "the server is a standby".into(),
            "the settings ask for a server that takes writes",
            "connect to the primary, or set `standby: true` to read from the standby",
        );
    }
    None
}

async fn read_from_standby(connection: &mut QueryConnection) -> Result<Vec<Finding>> {
    let what = "reading the standby's settings";
    let sql =
        "SELECT pg_catalog.current_setting('hot_standby_feedback'), pg_catalog.current_setting('primary_slot_name')";
    let row = only_row(connection.query(sql, &[], what).await?, what)?;
    let mut findings = Vec::new();
    if row.column::<&str>(0)? != "on" {
        let what = "hot_standby_feedback is off on the standby".to_owned();
        let why =
            "the primary removes rows of its catalogue that decoding on the standby needs, and the slot is lost then";
        findings.push(
            error("hot_standby_feedback", what, why)
                .warning()
                .sql("ALTER SYSTEM SET hot_standby_feedback = on")
                .sql(RELOAD),
        );
    }
    if row.column::<&str>(1)?.is_empty() {
        let what = "the standby follows its primary without a slot (primary_slot_name)".to_owned();
        let why = "while it is not connected the primary forgets its feedback, and the standby's slot may be lost";
        findings.push(
            error("primary_slot_name", what, why)
                .warning()
                .advice("make a physical slot on the primary and name it in the standby's primary_slot_name"),
        );
    }
    Ok(findings)
}

fn to_be_altered(settings: &Settings) -> Finding {
    let what = format!(
        "replication slot \"{}\" is not a failover slot yet, and becomes one when the log is opened",
        settings.slot.name
    );
    let mut finding = error("slot_failover", what, "standbys keep only such slots in step");
    finding.severity = Severity::Info;
    finding
}

/// Without it a change may be delivered that the next primary never had.
async fn waits_for_no_standby(connection: &mut QueryConnection) -> Result<Option<Finding>> {
    let what = "reading which standbys are waited for";
    let sql = "SELECT pg_catalog.current_setting('synchronized_standby_slots'), \
                      COALESCE((SELECT pg_catalog.string_agg(slot_name, ',' ORDER BY slot_name) \
                                  FROM pg_catalog.pg_replication_slots WHERE slot_type = 'physical'), '')";
    let row = only_row(connection.query(sql, &[], what).await?, what)?;
    if !row.column::<&str>(0)?.trim().is_empty() {
        return Ok(None);
    }
    let what = "synchronized_standby_slots is empty".to_owned();
    let why = "a change may be delivered before a standby has it: if that standby is promoted, the checkpoint lies ahead of \
               its log and the pipeline stops";
    let finding = error("synchronized_standby_slots", what, why).warning();
    let physical = row.column::<&str>(1)?;
    Ok(Some(if physical.is_empty() {
        finding.advice("let the standby that is to be promoted follow through a physical slot (primary_slot_name), and name that slot")
    } else {
        finding
            .sql(format!("ALTER SYSTEM SET synchronized_standby_slots = '{physical}'"))
            .sql(RELOAD)
            .advice("name the slots only of standbys that are always there: the log waits for each of them")
    }))
}
