// SPDX-License-Identifier: Apache-2.0
//! The chosen tables: whether they exist, may be read, have a key and hold only what can be carried.

use super::{Mend, error};
use crate::protocol::pgoutput::ReplicaIdentity;
use crate::protocol::quoting::{quote_identifier, quote_qualified};
use crate::publication::Candidate;
use crate::schema::{self, TableShape};
use crate::settings::Settings;
use crate::values::{PgType, ValueForms};
use highwater_core::connector::Finding;
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn findings(role: &str, settings: &Settings, candidates: &[Candidate]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let have: BTreeSet<String> = candidates.iter().map(|candidate| candidate.name.to_string()).collect();
    for table in settings.named_tables() {
        if !have.contains(table) {
            let what = format!("table {table} does not exist, or is temporary or unlogged");
            let finding = error("unknown_table", what, "`tables.include` names it");
            findings.push(finding.advice("create the table, or take it out of `tables.include`"));
        }
    }
    if candidates.is_empty() && findings.is_empty() {
        let what = format!("no table matches {}", settings.tables.include.join(", "));
        findings.push(error("no_tables", what, "nothing would be captured").advice("correct `tables.include`"));
    }
    let role = quote_identifier(role);
    let hidden: BTreeSet<&str> = candidates
        .iter()
        .filter(|table| !table.may_use_schema)
        .map(|table| table.name.schema.as_str())
        .collect();
    for schema in hidden {
        let what = format!("the role may not use schema \"{schema}\"");
        let grant = format!("GRANT USAGE ON SCHEMA {} TO {role}", quote_identifier(schema));
        findings.push(error("schema_privilege", what, "its tables cannot be read without it").sql(grant));
    }
    findings.extend(candidates.iter().flat_map(|table| of_table(table, &role)));
    findings
}

fn of_table(table: &Candidate, role: &str) -> Vec<Finding> {
    let name = quote_qualified(&table.name.schema, &table.name.table);
    let mut findings = Vec::new();
    if !table.may_select {
        let what = format!("the role may not select from table {}", table.name);
        let why = "copies of the table are read with SELECT";
        findings.push(error("table_privilege", what, why).sql(format!("GRANT SELECT ON {name} TO {role}")));
    }
    if table.row_security {
        let what = format!(
            "policies of row-level security hide rows of table {} from the role",
            table.name
        );
        let why = "the log has every row, a copy would lack some";
        findings.push(error("row_security", what, why).sql(format!("ALTER ROLE {role} BYPASSRLS")));
    }
    if table.lacks_identity() {
        let what = format!("table {} has no replica identity", table.name);
        let why = "once it is published, its updates and deletes would fail";
        findings.push(
            error("replica_identity", what, why)
                .sql(format!("ALTER TABLE {name} REPLICA IDENTITY FULL"))
                .advice("or better, add a primary key; or exclude the table in `tables.exclude`"),
        );
    }
    findings
}

/// Tables whose events have no key, as they are published: a key that a column list leaves out is none.
pub(super) fn keys(shapes: &[TableShape]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for shape in shapes
        .iter()
        .filter(|shape| shape.key().is_empty() && has_identity(shape))
    {
        let what = format!("table {} has no key", shape.name);
        let why = "its events have no key, and of rows that are equal a copy may bring too few or too many if some of them \
                   change meanwhile";
        findings.push(
            error("table_without_key", what, why).warning().advice(
                "add a primary key, and keep it in the publication's column list, where rows must be told apart",
            ),
        );
    }
    findings
}

/// Whether updates and deletes are in the log at all; else another finding says so.
fn has_identity(shape: &TableShape) -> bool {
    match shape.replica_identity {
        ReplicaIdentity::Default => shape.primary_key_columns > 0,
        ReplicaIdentity::Nothing => false,
        ReplicaIdentity::Index | ReplicaIdentity::Full => true,
    }
}

/// Columns whose types are not carried.
pub(super) fn columns(shapes: &[TableShape], types: &BTreeMap<u32, PgType>, forms: &ValueForms) -> Vec<Finding> {
    let mut findings = Vec::new();
    for shape in shapes {
        for column in &shape.columns {
            if let Err(reason) = schema::carried(&shape.name, column, types, forms) {
                let (name, of) = (&column.name, &column.database_type);
                let what = format!("column \"{name}\" of table {} has type {of}: {reason}", shape.name);
                let why = "a value that cannot be carried stops its table; it is never replaced by null";
                let advice = "leave the column out with a column list in the publication, or exclude the table";
                findings.push(error("unsupported_column", what, why).advice(advice));
            }
        }
    }
    findings
}
