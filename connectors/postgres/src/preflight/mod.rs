// SPDX-License-Identifier: Apache-2.0
//! What is wrong with settings, server and privileges, and the exact statements that mend it. Nothing is changed here.
//!
//! Every finding with SQL is executed verbatim by a test, after which the check passes: see `tests/preflight.rs`.

mod failover;
mod server;
mod streaming;
mod tables;

use crate::connector::TIME_OUTS;
use crate::discover::{read_selected_shapes, read_types, types_of};
use crate::publication::{read_candidates, read_publication, read_published, read_unchosen};
use crate::replication_connection::ReplicationConnection;
use crate::selection::Selection;
use crate::server_choice::first_to_serve;
use crate::server_version::MAJOR_MIN;
use crate::settings::Settings;
use crate::slot::read_slot;
use highwater_core::Result;
use highwater_core::connector::{Finding, Severity};
use server::ServerFacts;
use std::sync::Arc;

/// Checks everything, in the order in which it is best mended. A server that cannot be reached, or that refuses the
/// role, is an error and no finding.
pub async fn check(settings: &Arc<Settings>, selection: &Selection) -> Result<Vec<Finding>> {
    let server = first_to_serve(settings, "highwater check", TIME_OUTS).await?;
    let (settings, mut connection) = (&server.settings, server.queries);
    let major = connection.server_version().await?.0;
    if major < MAJOR_MIN {
        return Ok(vec![server::too_old(major)]);
    }
    let facts = ServerFacts::read(&mut connection).await?;
    let slot = read_slot(&mut connection, &settings.slot.name).await?;
    let publication = read_publication(&mut connection, &settings.publication.name).await?;
    let published = read_published(&mut connection, &settings.publication.name).await?;
    let candidates = read_candidates(&mut connection, settings, selection).await?;
    let unchosen = read_unchosen(&mut connection, &settings.publication.name, &candidates).await?;
    let shapes = read_selected_shapes(&mut connection, settings, selection).await?;
    let types = read_types(
        &mut connection,
        &types_of(shapes.iter().flat_map(|shape| &shape.columns)),
    )
    .await?;

    let mut findings = server::findings(settings, &facts, slot.is_some());
    findings.extend(failover::findings(&mut connection, settings, &facts, slot.as_ref()).await?);
    findings.extend(tables::findings(&facts.role, settings, &candidates));
    findings.extend(tables::keys(&shapes));
    findings.extend(tables::columns(&shapes, &types, &settings.values));
    let tables = streaming::Tables {
        candidates: &candidates,
        published: &published,
    };
    let may_create = facts.may_create && !facts.in_recovery;
    findings.extend(streaming::publication(settings, publication, &tables, may_create));
    findings.extend(streaming::unchosen(settings, &unchosen));
    findings.extend(streaming::slot(settings, slot.as_ref()));
    findings.extend(streaming::options(settings, major));
    if facts.may_replicate && findings.iter().all(|finding| finding.severity != Severity::Error) {
        findings.extend(replication_connection(settings).await);
    }
    Ok(findings)
}

/// Tries what no catalogue tells: whether `pg_hba.conf` and the server's limits let a walsender in.
async fn replication_connection(settings: &Settings) -> Option<Finding> {
    let error = match ReplicationConnection::open(settings).await {
        Ok(mut connection) => connection.identify_system().await.err()?,
        Err(error) => error,
    };
    Some(Finding {
        severity: Severity::Error,
        code: "replication_connection".into(),
        what: error.to_string(),
        why: "changes come over a replication connection".into(),
        fix_sql: Vec::new(),
        fix: Some(format!(
            "allow role \"{}\" in pg_hba.conf, and raise max_wal_senders if it is reached",
            settings.user
        )),
    })
}

/// A finding that stops capture.
fn error(code: &str, what: String, why: &str) -> Finding {
    Finding {
        severity: Severity::Error,
        code: code.into(),
        what,
        why: why.into(),
        fix_sql: Vec::new(),
        fix: None,
    }
}

/// Statements and advice for a finding.
trait Mend {
    fn sql(self, statement: impl Into<String>) -> Self;
    fn advice(self, advice: impl Into<String>) -> Self;
    fn warning(self) -> Self;
}

impl Mend for Finding {
    fn sql(mut self, statement: impl Into<String>) -> Self {
        self.fix_sql.push(statement.into());
        self
    }

    fn advice(mut self, advice: impl Into<String>) -> Self {
        self.fix = Some(advice.into());
        self
    }

    fn warning(mut self) -> Self {
        self.severity = Severity::Warning;
        self
    }
}
