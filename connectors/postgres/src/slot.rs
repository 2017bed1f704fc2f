// SPDX-License-Identifier: Apache-2.0
//! The replication slot: the server's memory of how far this connector is.

use crate::catalog_row::CatalogRow;
use crate::protocol::Lsn;
use crate::protocol::quoting::quote_literal;
use crate::protocol::replication::{SlotOptions, SlotSnapshot};
use crate::query_connection::QueryConnection;
use crate::replication_connection::ReplicationConnection;
use crate::settings::Settings;
use highwater_core::{Class, Error, ErrorKind, Result};
use std::time::Duration;
use tokio::time::Instant;
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

/// What version 16 tells of a slot that was lost on a standby: no more.
const CONFLICT: &str = "conflict with recovery";

/// Why a slot is of no use.
enum LostBy<'a> {
    /// Its creation never came to an end.
    Unfinished,
    /// It kept more log than it may.
    LogRemoved,
    /// The server's own word for anything else.
    Other(&'a str),
}

impl SlotFacts {
    /// Whether the server threw away what the slot needs.
    pub fn is_lost(&self) -> bool {
        let unfinished = self.confirmed_flush.is_none() && self.plugin == "pgoutput" && self.active_pid.is_none();
        self.wal_status == "lost" || unfinished
    }

    /// How it came to be lost.
    pub(crate) fn how_lost(&self) -> String {
        match self.lost_by() {
            LostBy::Unfinished => "its making was cut off, so it has no place in the log".into(),
            LostBy::LogRemoved => match &self.invalidation {
                Some(reason) => format!("the server invalidated it ({reason}) and threw away the log that it needs"),
                None => "the server invalidated it and threw away the log that it needs".into(),
            },
            LostBy::Other(reason) => format!("the server invalidated it ({reason})"),
        }
    }

    /// What keeps a slot from being lost in this way.
    pub(crate) fn how_kept(&self) -> Option<&'static str> {
        match self.lost_by() {
            LostBy::LogRemoved => Some("raise `max_slot_wal_keep_size`"),
            LostBy::Other("rows_removed" | CONFLICT) => Some(
                "set `hot_standby_feedback = on` and a `primary_slot_name` on the standby: the primary removed rows of its \
                 catalogue that decoding needs",
            ),
            LostBy::Other("wal_level_insufficient") => Some("keep `wal_level = logical` on the primary"),
            LostBy::Other("idle_timeout") => Some("raise `idle_replication_slot_timeout`"),
            LostBy::Unfinished | LostBy::Other(_) => None,
        }
    }

    fn lost_by(&self) -> LostBy<'_> {
        match self.invalidation.as_deref() {
            _ if self.wal_status != "lost" => LostBy::Unfinished,
            None | Some("wal_removed") => LostBy::LogRemoved,
            Some(reason) => LostBy::Other(reason),
        }
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
        _ if version.decodes_on_standby() => &format!("false, false, CASE WHEN conflicting THEN '{CONFLICT}' END"),
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
        let lost = lost(name, &slot.how_lost());
        return Err(match slot.how_kept() {
            Some(kept) => lost.with_fix(format!("{GO_ON}; so that it does not happen again, {kept}")),
            None => lost,
        });
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
    Error::new(ErrorKind::PositionLost, format!("replication slot \"{name}\": {why}")).with_fix(GO_ON)
}

/// What a person can do about a lost position.
pub const GO_ON: &str = "changes since the checkpoint may be missing; to go on, run `highwater renew` with the pipeline's \
                         file: the next run copies every table again and sends a delete for each row that is gone";

/// Finds the transactions that something waits for, the oldest first: those of sessions, and those that were prepared.
pub(crate) const OPEN_TRANSACTIONS: &str = "SELECT 'session ' || pid AS whose, xact_start AS since FROM pg_stat_activity \
     WHERE backend_xid IS NOT NULL UNION ALL SELECT 'prepared ' || gid, prepared FROM pg_prepared_xacts ORDER BY since";

/// A slot that is to be made anew, so that a log opened without a checkpoint begins here.
#[derive(Debug, Clone, Copy)]
pub struct SlotAnew {
    /// What it is created with.
    pub options: SlotOptions,
    /// Whether the server is a standby.
    pub in_recovery: bool,
    /// The position that is given up.
    pub lost: Lsn,
}

impl SlotAnew {
    /// Drops the slot that there is and creates it. One that is not ours is left alone; one that the settings do not let us
    /// create is taken as it is if it lies behind what is lost.
    pub async fn make(
        self,
        catalog: &mut QueryConnection,
        replication: &mut ReplicationConnection,
        settings: &Settings,
    ) -> Result<()> {
        let name = &settings.slot.name;
        let slot = read_slot(catalog, name).await?;
        let mut is_lost = false;
        match slot.as_ref().map(|slot| check_slot(slot, settings)) {
            Some(Err(error)) if error.kind() == ErrorKind::PositionLost => is_lost = true,
            Some(checked) => checked?,
            None => {}
        }
        if settings.slot.create {
            if slot.is_some() {
                replication.drop_slot(name).await?;
                tracing::info!(slot = %name, "replication slot dropped");
            }
            let made = replication
                .create_slot(name, SlotSnapshot::Nothing, self.options, self.in_recovery)
                .await?;
            tracing::info!(slot = %name, position = %made.position, "replication slot created");
        } else if is_lost || slot.as_ref().is_none_or(|slot| slot.confirmed_flush <= Some(self.lost)) {
            return Err(must_be_made(name, slot.is_some()));
        }
        await_visible(catalog).await
    }
}

fn must_be_made(name: &str, exists: bool) -> Error {
    let drop = match exists {
        true => format!("SELECT pg_drop_replication_slot({}); ", quote_literal(name)),
        false => String::new(),
    };
    let what = format!("replication slot \"{name}\" must be made anew, and `slot.create` is false");
    let fix = format!("run `{drop}{}`, then this command again", create_statement(name));
    Error::new(ErrorKind::Unsuitable, what).with_fix(fix)
}

/// Waits for every transaction that runs now. One whose commit stands in the log before the slot may be invisible to
/// others for a while yet (it waits for a synchronous standby), and the log will not bring it: a row of it that a copy did
/// not see would be taken for gone.
async fn await_visible(catalog: &mut QueryConnection) -> Result<()> {
    let bound = catalog.next_transaction().await?;
    let mut told = None;
    while catalog.oldest_transaction().await? < bound {
        if told.is_none_or(|told: Instant| told.elapsed() >= WAIT_TOLD) {
            told = Some(Instant::now());
            tracing::warn!("waiting for transactions to end that run since before: {OPEN_TRANSACTIONS}");
        }
        tokio::time::sleep(VISIBLE_POLL).await;
    }
    Ok(())
}

/// How often it is told that this takes long.
const WAIT_TOLD: Duration = Duration::from_secs(20);
/// How often it is looked whether transactions have ended.
const VISIBLE_POLL: Duration = Duration::from_millis(100);

/// The statement that creates the slot, for people.
pub fn create_statement(name: &str) -> String {
    format!(
        "SELECT pg_create_logical_replication_slot({}, 'pgoutput')",
        quote_literal(name)
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
        let fix = error.fix().unwrap();
        assert!(
            fix.contains("highwater renew") && fix.contains("hot_standby_feedback"),
            "{fix}"
        );
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
