// SPDX-License-Identifier: Apache-2.0
//! The publication and the slot.

use super::{Mend, error};
use crate::log_reader::try_spill_directory;
use crate::protocol::quoting::{quote_identifier, quote_literal};
use crate::publication::{Candidate, PublicationFacts, Unchosen, add_statement, create_statement, drop_statement};
use crate::settings::Settings;
use crate::slot::{self, SlotFacts, check_slot};
use crate::stream_settings::{StreamOptions, Streaming};
use highwater_core::connector::{Finding, Severity};
use highwater_core::schema::TableName;
use std::collections::BTreeSet;

/// The chosen tables, and those that are published.
pub(super) struct Tables<'a> {
    pub(super) candidates: &'a [Candidate],
    pub(super) published: &'a BTreeSet<TableName>,
}

impl Tables<'_> {
    fn missing(&self) -> impl Iterator<Item = &Candidate> {
        self.candidates
            .iter()
            .filter(|table| !self.published.contains(&table.name))
    }
}

/// What is wrong with the publication, as far as the connector cannot mend it by itself.
pub(super) fn publication(
    settings: &Settings,
    facts: Option<PublicationFacts>,
    tables: &Tables<'_>,
    may_create: bool,
) -> Vec<Finding> {
    let name = &settings.publication.name;
    if tables.candidates.is_empty() {
        return Vec::new();
    }
    let Some(facts) = facts else {
        let owned = tables.candidates.iter().all(|table| table.owned);
        if settings.publication.create && may_create && owned {
            return Vec::new();
        }
        let what = match settings.publication.create {
            true => format!(
                "publication \"{name}\" does not exist and cannot be made: the role must own the tables and have CREATE on \
                 the database, and the server take writes"
            ),
            false => format!("publication \"{name}\" does not exist"),
        };
        let statement = create_statement(name, tables.candidates.iter().map(|table| &table.name));
        return vec![
            error("publication_missing", what, "it says which tables the server sends")
                .sql(statement)
                .advice("run it on the primary, as the tables' owner or as a superuser"),
        ];
    };
    let mut findings = Vec::new();
    let quoted = quote_identifier(name);
    if facts.operations != [true; 4] {
        let what = format!("publication \"{name}\" leaves out some of insert, update, delete and truncate");
        findings.push(
            error(
                "publication_operations",
                what,
                "changes that are not published are missing without a trace",
            )
            .sql(format!(
                "ALTER PUBLICATION {quoted} SET (publish = 'insert, update, delete, truncate')"
            )),
        );
    }
    let partitioned = tables.candidates.iter().any(|table| table.is_partitioned);
    if !facts.via_root && partitioned {
        let what = format!("publication \"{name}\" publishes partitions as tables of their own");
        findings.push(
            error(
                "publication_partitions",
                what,
                "rows that move between partitions change their table and lose their order",
            )
            .sql(format!(
                "ALTER PUBLICATION {quoted} SET (publish_via_partition_root = true)"
            )),
        );
    }
    findings.extend(missing_tables(settings, &facts, tables));
    findings
}

fn missing_tables(settings: &Settings, facts: &PublicationFacts, tables: &Tables<'_>) -> Option<Finding> {
    let name = &settings.publication.name;
    // Patterns choose among what a foreign publication has; names demand.
    let demanded = |table: &&Candidate| settings.publication.create || settings.is_named(&table.name);
    let missing: Vec<&Candidate> = tables.missing().filter(demanded).collect();
    let first = missing.first()?;
    if facts.all_tables || (settings.publication.create && facts.owned && missing.iter().all(|table| table.owned)) {
        return None;
    }
    let what = format!(
        "publication \"{name}\" lacks {} chosen tables, {} among them",
        missing.len(),
        first.name
    );
    let statement = add_statement(name, missing.iter().map(|table| &table.name));
    Some(
        error(
            "publication_tables",
            what,
            "the server sends changes of published tables only",
        )
        .sql(statement)
        .advice("run it as the owner of publication and tables, or as a superuser"),
    )
}

/// Tables that a publication of ours has and nobody chose. Nothing is taken out without being asked: somebody else may read it.
pub(super) fn unchosen(settings: &Settings, unchosen: &[Unchosen]) -> Option<Finding> {
    let name = &settings.publication.name;
    let first = unchosen.first().filter(|_| settings.publication.create)?;
    let what = format!(
        "publication \"{name}\" has {} tables that are not chosen, {} among them",
        unchosen.len(),
        first.name
    );
    let why = match unchosen.iter().find(|table| table.lacks_identity) {
        Some(table) => format!(
            "table {} has no replica identity: its updates and deletes fail for as long as it is published",
            table.name
        ),
        None => "their changes are sent, and passed over".to_owned(),
    };
    let mut finding = error("publication_unchosen", what, &why)
        .sql(drop_statement(name, unchosen.iter().map(|table| &table.name)))
        .advice("run it as the owner of the publication, if nobody else reads that");
    finding.severity = match unchosen.iter().any(|table| table.lacks_identity) {
        true => Severity::Warning,
        false => Severity::Info,
    };
    Some(finding)
}

/// What is wrong with the slot.
pub(super) fn slot(settings: &Settings, facts: Option<&SlotFacts>) -> Vec<Finding> {
    let name = &settings.slot.name;
    let Some(facts) = facts else {
        if settings.slot.create {
            return Vec::new();
        }
        let what = format!("replication slot \"{name}\" does not exist");
        let finding = error("slot_missing", what, "it keeps the connector's place in the log");
        return vec![finding.sql(slot::create_statement(name))];
    };
    let mut findings = Vec::new();
    if facts.plugin == "pgoutput" && facts.database == settings.database && facts.is_lost() {
        let what = format!("replication slot \"{name}\": {}", facts.how_lost());
        let why = "changes are missing: the log begins anew, and the gap is closed by a copy of every table";
        findings.push(error("slot_lost", what, why).advice(over_the_gap(settings, facts)));
    } else if let Err(refused) = check_slot(facts, settings) {
        let finding = error(
            "slot_unsuitable",
            refused.message().to_owned(),
            "the connector needs a pgoutput slot of its database",
        );
        findings.push(finding.advice(refused.fix().unwrap_or_default()));
    }
    if let Some(pid) = facts.active_pid {
        let what = format!("replication slot \"{name}\" is in use by process {pid}");
        let why = "a slot has one consumer: another copy of the connector waits until it lets go";
        findings.push(
            error("slot_active", what, why)
                .warning()
                .advice("nothing, if that is this connector at work"),
        );
    }
    findings
}

/// What closes the gap, and what keeps it from opening again.
fn over_the_gap(settings: &Settings, facts: &SlotFacts) -> String {
    let name = &settings.slot.name;
    let mut anew = format!("SELECT pg_drop_replication_slot({})", quote_literal(name));
    if !settings.slot.create {
        anew = format!("{anew}; {}", slot::create_statement(name));
    }
    let mut advice = format!(
        "run `highwater renew` with the pipeline's file; only where that says that there is no checkpoint, run `{anew}`"
    );
    if let Some(kept) = facts.how_kept() {
        advice = format!("{advice}; so that it does not happen again, {kept}");
    }
    advice
}

/// What the settings ask of the stream and the server does not have, or what this machine cannot do for it.
pub(super) fn options(settings: &Settings, server_major: u32) -> Option<Finding> {
    let options = match StreamOptions::of(settings, server_major) {
        Ok(options) => options,
        Err(refused) => {
            let why = "the server is asked for it when the stream begins";
            let finding = error("stream_options", refused.message().to_owned(), why);
            return Some(finding.advice(refused.fix().unwrap_or_default()));
        }
    };
    if options.streaming == Streaming::Off {
        return None;
    }
    let refused = try_spill_directory(&settings.spill.directory()).err()?;
    let why = "transactions that are sent before they commit wait there";
    let finding = error("spill_directory", refused.message().to_owned(), why).advice(refused.fix().unwrap_or_default());
    // Nobody asked for it: the server keeps large transactions then.
    Some(if settings.streaming.is_some() {
        finding
    } else {
        finding.warning()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Lsn;
    use serde_json::json;

    fn lost(invalidation: Option<&str>) -> SlotFacts {
        SlotFacts {
            plugin: "pgoutput".into(),
            database: "catalogue".into(),
            active_pid: None,
            wal_status: "lost".into(),
            confirmed_flush: Some(Lsn(100)),
            two_phase: false,
            failover: false,
            synced: false,
            invalidation: invalidation.map(str::to_owned),
        }
    }

    #[test]
    fn a_lost_slot_is_renewed_and_what_lost_it_is_named() {
        for (create, reason, kept) in [
            (true, None, "max_slot_wal_keep_size"),
            (false, Some("wal_removed"), "max_slot_wal_keep_size"),
            (true, Some("rows_removed"), "hot_standby_feedback"),
            (true, Some("conflict with recovery"), "hot_standby_feedback"),
            (true, Some("wal_level_insufficient"), "wal_level = logical"),
            (true, Some("idle_timeout"), "idle_replication_slot_timeout"),
        ] {
            let settings = Settings::from_json(json!({
                "host": "db", "user": "mover", "database": "catalogue", "tables": {"include": ["public.*"]},
                "slot": {"name": "s", "create": create}
            }));
            let findings = slot(&settings.unwrap(), Some(&lost(reason)));
            assert_eq!((findings.len(), findings[0].code.as_str()), (1, "slot_lost"));
            assert!(
                findings[0].what.contains(reason.unwrap_or("invalidated")),
                "{findings:?}"
            );
            let fix = findings[0].fix.as_deref().unwrap();
            assert!(fix.starts_with("run `highwater renew`") && fix.contains(kept), "{fix}");
            assert_eq!(fix.contains("pg_create_logical_replication_slot"), !create, "{fix}");
            assert_eq!(findings[0].fix_sql, Vec::<String>::new(), "renewing drops it");
        }
    }
}
