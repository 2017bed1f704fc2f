// SPDX-License-Identifier: Apache-2.0
//! The replication slot: the server's memory of how far this connector is.

use crate::catalog_row::CatalogRow;
use crate::protocol::Lsn;
use crate::query_connection::QueryConnection;
use crate::settings::Settings;
use highwater_core::{Class, Error, ErrorKind, Result};
use tokio_postgres::types::Type;

/// A slot as the server has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotFacts {
    /// The output plug-in; empty for a physical slot.
    pub plugin: String,
    /// The database; empty for a physical slot.
    pub database: String,
    /// The process that uses it now.
    pub active_pid: Option<i32>,
    /// `reserved`, `extended`, `unreserved` or `lost`.
    pub wal_status: String,
    /// Everything before was acknowledged and will not be sent again.
    pub confirmed_flush: Option<Lsn>,
    /// Prepared transactions are sent before they are decided.
    pub two_phase: bool,
    /// Standbys keep it in step.
    pub failover: bool,
    /// It is a standby's copy of a slot of the primary, and of no use before the standby is promoted.
    pub synced: bool,
    /// Why it was invalidated, in the server's own words, where it says so.
    pub invalidation: Option<String>,
}

impl SlotFacts {
    /// Whether the server threw away what the slot needs.
    pub fn is_lost(&self) -> bool {
        let unfinished = self.confirmed_flush.is_none() && self.plugin == "pgoutput" && self.active_pid.is_none();
        self.wal_status == "lost" || unfinished
    }
}

/// Reads a slot, if it exists.
pub async fn read_slot(connection: &mut QueryConnection, name: &str) -> Result<Option<SlotFacts>> {
    let version = connection.server_version().await?;
    let two_phase = match version.has_two_phase_slots() {
        true => "two_phase",
        false => "false",
    };
    let failover = match version {
        _ if version.has_failover_slots() => "failover, synced AND pg_catalog.pg_is_in_recovery(), invalidation_reason",
        _ if version.decodes_on_standby() => "false, false, CASE WHEN conflicting THEN 'conflict with recovery' END",
        _ => "false, false, NULL::text",
    };
    let sql = format!(
        "SELECT plugin, database, active_pid, wal_status, confirmed_flush_lsn, {two_phase}, {failover} \
           FROM pg_catalog.pg_replication_slots WHERE slot_name = $1"
    );
    let rows = connection
        .query(&sql, &[(&name, Type::TEXT)], "reading the replication slot")
        .await?;
    let Some(row) = rows.first() else { return Ok(None) };
    Ok(Some(SlotFacts {
        plugin: row.column::<Option<_>>(0)?.unwrap_or_default(),
        database: row.column::<Option<_>>(1)?.unwrap_or_default(),
        active_pid: row.column(2)?,
        wal_status: row.column::<Option<_>>(3)?.unwrap_or_default(),
        confirmed_flush: row.column(4)?,
        two_phase: row.flag(5)?,
        failover: row.flag(6)?,
        synced: row.flag(7)?,
        invalidation: row.column(8)?,
    }))
}

/// Checks that a slot can be read by this connector: its kind, its database, its history.
pub fn check_slot(slot: &SlotFacts, settings: &Settings) -> Result<()> {
    let name = &settings.slot.name;
    let unsuitable = |what: String, fix: String| Err(Error::new(ErrorKind::Unsuitable, what).with_fix(fix));
    if slot.plugin != "pgoutput" {
        let plugin = if slot.plugin.is_empty() {
            "none (it is a physical slot)"
        } else {
            &slot.plugin
        };
        return unsuitable(
            format!("replication slot \"{name}\" has the plug-in {plugin}, not pgoutput"),
            "choose another name in `slot.name`".into(),
        );
    }
    if slot.database != settings.database {
        return unsuitable(
            format!(
                "replication slot \"{name}\" belongs to database \"{}\", not \"{}\"",
                slot.database, settings.database
            ),
            "choose another name in `slot.name`".into(),
        );
    }
    if slot.two_phase && !settings.slot.two_phase {
        return unsuitable(
            format!("replication slot \"{name}\" has two_phase, which sends transactions before they are decided"),
            "set `slot.two_phase: true`, or choose another name in `slot.name`".into(),
        );
    }
    if slot.is_lost() {
        return Err(lost(name, &invalidated(slot)));
    }
    if let (None, Some(pid)) = (slot.confirmed_flush, slot.active_pid) {
        // It waits for transactions to end; if that is our own predecessor, the server has not missed it yet.
        let what = format!("replication slot \"{name}\" is being made by process {pid}");
        return Err(Error::new(ErrorKind::Unsuitable, what)
            .with_class(Class::Retryable)
            .with_fix("wait until it is made, or end that process"));
    }
    if slot.synced {
        return unsuitable(
            format!(
                "replication slot \"{name}\" is a standby's copy of the primary's, which nobody may read before a promotion"
            ),
            "choose another name in `slot.name`, or capture the primary".into(),
        );
    }
    Ok(())
}

/// How a slot came to be lost.
fn invalidated(slot: &SlotFacts) -> String {
    match &slot.invalidation {
        None => "the server invalidated it and threw away the log that it needs".into(),
        Some(reason) if reason == "wal_removed" => {
            "the server invalidated it (wal_removed) and threw away the log that it needs".into()
        }
        Some(reason) => format!(
            "the server invalidated it ({reason}); on a standby, `hot_standby_feedback = on` and a `primary_slot_name` keep \
             the primary from removing rows of the catalogue that decoding needs"
        ),
    }
}

/// Checks that a log opened after `from` misses nothing: the server must not have been told more than the checkpoint
/// knows, or it would skip the difference in silence.
pub fn check_history(slot: Option<&SlotFacts>, from: Lsn, name: &str) -> Result<()> {
    let Some(slot) = slot else {
        return Err(lost(
            name,
            "it no longer exists, and with it went the server's memory of where to go on",
        ));
    };
    match slot.confirmed_flush {
        Some(confirmed) if confirmed > from => Err(lost(name, "it was advanced past the checkpoint")
            .with("confirmed_flush_lsn", confirmed)
            .with("checkpoint", from)),
        _ => Ok(()),
    }
}

fn lost(name: &str, why: &str) -> Error {
    Error::new(ErrorKind::PositionLost, format!("replication slot \"{name}\": {why}")).with_fix(
        "changes since the checkpoint may be missing: copy every table anew by giving the pipeline a new `name`, which has \
         no checkpoint yet (drop the slot first, and set `topics.prefix` to the old one to keep the topics)",
    )
}

/// The statement that creates the slot, for people.
pub fn create_statement(name: &str) -> String {
    format!(
        "SELECT pg_create_logical_replication_slot({}, 'pgoutput')",
        crate::protocol::quoting::quote_literal(name)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        let json = serde_json::json!({
            "host": "db", "user": "mover", "database": "catalogue", "tables": {"include": ["public.*"]}
        });
        Settings::from_json(json).unwrap()
    }

    fn slot() -> SlotFacts {
        SlotFacts {
            plugin: "pgoutput".into(),
            database: "catalogue".into(),
            active_pid: None,
            wal_status: "reserved".into(),
            confirmed_flush: Some(Lsn(100)),
            two_phase: false,
            failover: false,
            synced: false,
            invalidation: None,
        }
    }

    #[test]
    fn a_slot_of_another_kind_or_database_is_refused_by_name() {
        assert!(check_slot(&slot(), &settings()).is_ok());
        for (slot, word) in [
            (
                SlotFacts {
                    plugin: "wal2json".into(),
                    ..slot()
                },
                "wal2json",
            ),
            (
                SlotFacts {
                    plugin: String::new(),
                    ..slot()
                },
                "physical",
            ),
            (
                SlotFacts {
                    database: "other".into(),
                    ..slot()
                },
                "other",
            ),
            (
                SlotFacts {
                    two_phase: true,
                    ..slot()
                },
                "two_phase",
            ),
            (SlotFacts { synced: true, ..slot() }, "standby"),
        ] {
            let error = check_slot(&slot, &settings()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsuitable);
            assert!(error.to_string().contains(word), "{error}");
        }
    }

    #[test]
    fn a_slot_that_is_being_made_is_worth_a_retry_and_one_that_never_was_is_lost() {
        let unmade = SlotFacts {
            confirmed_flush: None,
            ..slot()
        };
        let making = SlotFacts {
            active_pid: Some(7),
            ..unmade.clone()
        };
        let error = check_slot(&making, &settings()).unwrap_err();
        assert_eq!((error.class(), error.fix().is_some()), (Class::Retryable, true));
        let error = check_slot(&unmade, &settings()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PositionLost);
    }

    #[test]
    fn history_that_is_gone_is_a_lost_position() {
        let lost = SlotFacts {
            wal_status: "lost".into(),
            ..slot()
        };
        assert_eq!(
            check_slot(&lost, &settings()).unwrap_err().kind(),
            ErrorKind::PositionLost
        );
        let conflict = SlotFacts {
            invalidation: Some("rows_removed".into()),
            ..lost
        };
        let error = check_slot(&conflict, &settings()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PositionLost);
        assert!(error.to_string().contains("rows_removed"), "{error}");
        assert_eq!(
            check_history(None, Lsn(1), "s").unwrap_err().kind(),
            ErrorKind::PositionLost
        );
        assert_eq!(
            check_history(Some(&slot()), Lsn(99), "s").unwrap_err().kind(),
            ErrorKind::PositionLost
        );
        assert!(check_history(Some(&slot()), Lsn(100), "s").is_ok());
        assert!(check_history(Some(&slot()), Lsn(101), "s").is_ok());
    }
}
