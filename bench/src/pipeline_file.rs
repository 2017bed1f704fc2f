// SPDX-License-Identifier: Apache-2.0
//! The pipeline file of a case: the defaults of the product wherever the case does not say otherwise.

use highwater_testbed::Postgres;
use highwater_testbed::postgres::SUPERUSER;

use crate::case::{Case, Kind};
use crate::dataset::Table;
use crate::failure::{Failure, Result};
use crate::topics::Topics;

/// The topics of a case, whose name is their prefix.
pub(crate) fn topics(case: &str, table: Table) -> Topics {
    Topics(format!("{case}.{}", table.name()))
}

/// The pipeline file of a case, whose name is the slot's and the publication's too; `brokers` is None where events go
/// nowhere.
pub(crate) fn text(case: Case, server: &Postgres, table: Table, brokers: Option<&str>) -> Result<String> {
    let name = case.name();
    let transport = match brokers {
        Some(brokers) => {
            format!("{{ kafka: {{ brokers: [\"{brokers}\"], compression: lz4 }} }}")
        }
        None => "discard".to_owned(),
    };
    let mode = if case.begins_with_a_copy() { "initial" } else { "never" };
    let first_load = match case.kind {
        Kind::SnapshotAtStart => "one_snapshot",
        _ => "windows",
    };
    Ok(format!(
        "version: 1\n\
         name: {name}\n\
         source:\n  \
           connector: postgres\n  \
           settings:\n    \
             host: {host}\n    \
             port: {port}\n    \
             user: {SUPERUSER}\n    \
             database: postgres\n    \
             slot: {{ name: {name} }}\n    \
             publication: {{ name: {name} }}\n    \
             tls: {tls}\n    \
             tables: {{ include: [\"{table}\"] }}\n\
         transport: {transport}\n\
         snapshot: {{ mode: {mode}, first_load: {first_load} }}\n",
        host = server.host(),
        port = server.port(),
        table = table.name(),
        tls = tls(case, server)?,
    ))
}

fn tls(case: Case, server: &Postgres) -> Result<String> {
    if !case.is_encrypted() {
        return Ok("{ mode: disable }".to_owned());
    }
    let roots = server.ca_path().ok_or_else(|| Failure::new("the server has no TLS"))?;
    Ok(format!(
        "{{ mode: verify-full, root_certificates: \"{}\" }}",
        roots.display()
    ))
}
