// SPDX-License-Identifier: Apache-2.0
//! `highwater check FILE`.

use std::fmt::Write as _;

use highwater_core::connector::{Finding, Severity};
use highwater_core::{Class, Error, ErrorKind, Result};
use highwater_runtime::connector::Checked;
use highwater_runtime::{PipelineFile, PipelineHost};
use serde_json::json;

use crate::args::CheckArgs;
use crate::connectors::connectors;

/// Checks file and database. An error of class user when a finding stands in the way.
pub async fn check(args: CheckArgs) -> Result<()> {
    let checked = look(&args).await;
    if args.json {
        println!("{}", as_json(&checked));
    }
    let checked = checked?;
    if !args.json {
        print!("{}", as_text(&args, &checked));
    }
    let errors = errors(&checked);
    if errors == 0 {
        return Ok(());
    }
    let findings = if errors == 1 {
        "1 finding stands"
    } else {
        &format!("{errors} findings stand")
    };
    Err(Error::new(ErrorKind::Unsuitable, format!("{findings} in the way"))
        .with_class(Class::User)
        .with_fix("do what the findings say, then check again"))
}

async fn look(args: &CheckArgs) -> Result<Checked> {
    let connectors = connectors();
    let file = PipelineFile::read(&args.file)?;
    // Reads every setting there is.
    PipelineHost::new(file.clone(), &connectors)?;
    let settings = file.connector_settings()?;
    file.connector(&connectors)?.check(settings).await
}

fn errors(checked: &Checked) -> usize {
    let findings = checked.findings.iter();
    findings.filter(|finding| finding.severity == Severity::Error).count()
}

fn as_json(checked: &Result<Checked>) -> serde_json::Value {
    match checked {
        Ok(checked) => json!({
            "ok": errors(checked) == 0,
            "findings": checked.findings,
            "tables": checked.tables.iter().map(|(name, rows)| json!({ "table": name, "rows_estimate": rows }))
                .collect::<Vec<_>>(),
        }),
        Err(error) => json!({
            "ok": false,
            "error": { "message": error.to_string(), "fix": error.fix(), "exit_code": error.class().exit_code() },
        }),
    }
}

fn as_text(args: &CheckArgs, checked: &Checked) -> String {
    let mut text = String::new();
    for finding in &checked.findings {
        text.push_str(&finding_text(finding));
    }
    for (table, rows) in &checked.tables {
        let rows = rows.map_or(String::new(), |rows| format!("  about {rows} rows"));
        let _ = writeln!(text, "captured  {table}{rows}");
    }
    if errors(checked) == 0 {
        let _ = writeln!(text, "ready: highwater run {}", args.file.display());
    }
    text
}

fn finding_text(finding: &Finding) -> String {
    let severity = match finding.severity {
        Severity::Info => "note",
        Severity::Warning => "warning",
        Severity::Error => "error",
    };
    let mut text = format!(
        "{severity}[{}]: {}\n  why: {}\n",
        finding.code, finding.what, finding.why
    );
    if let Some(fix) = &finding.fix {
        let _ = writeln!(text, "  fix: {fix}");
    }
    for sql in &finding.fix_sql {
        let _ = writeln!(text, "  sql: {};", sql.trim_end().trim_end_matches(';'));
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_says_what_why_and_the_exact_fix() {
        let finding = Finding {
            severity: Severity::Error,
            code: "wal_level".to_owned(),
            what: "wal_level is \"replica\"".to_owned(),
            why: "the log lacks what logical decoding needs".to_owned(),
            fix_sql: vec!["ALTER SYSTEM SET wal_level = logical;".to_owned()],
            fix: Some("restart the server".to_owned()),
        };
        insta::assert_snapshot!(finding_text(&finding), @r#"
        error[wal_level]: wal_level is "replica"
          why: the log lacks what logical decoding needs
          fix: restart the server
          sql: ALTER SYSTEM SET wal_level = logical;
        "#);
    }
}
