// SPDX-License-Identifier: Apache-2.0
//! The program `highwater-postgres`: one pipeline from one Postgres database.

use highwater_postgres::PostgresConnector;
use std::process::ExitCode;

fn main() -> ExitCode {
    highwater_runtime::main_for(highwater_runtime::connector("postgres", PostgresConnector::new))
}
