// SPDX-License-Identifier: Apache-2.0
//! The whole of a program that has one connector: `highwater-postgres run FILE` and `highwater-postgres check FILE`.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use highwater_core::connector::{Finding, Severity};
use highwater_core::{Class, Error, ErrorKind, Result};

use crate::connector::{Checked, Connector};
use crate::host::{PipelineFile, PipelineHost};
use crate::shutdown;
use crate::telemetry::logging::{self, LogFormat};

/// Runs a program of one connector by its command line and gives its exit code: 0 done, 2 a person must change
/// something, 75 try again later, 70 a bug.
///
/// ```text
/// highwater-postgres run FILE      capture until SIGTERM or SIGINT
/// highwater-postgres check FILE    what is wrong with settings and database, and how to mend it
/// ```
pub fn main_for(connector: Arc<dyn Connector>) -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let program = format!("highwater-{}", connector.kind());
    let done = match arguments.get(1..).unwrap_or_default() {
        [command, file] if command == "run" => block_on(run(Path::new(file), connector)),
        [command, file] if command == "check" => block_on(check(Path::new(file), connector)),
        [flag] if flag == "--version" => {
            println!("{program} {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
        [flag] if flag == "--help" || flag == "-h" => {
            println!("{}", usage(&program));
            Ok(())
        }
        _ => Err(Error::new(ErrorKind::Configuration, "the command line is not understood").with_fix(usage(&program))),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report_error(&error),
    }
}

/// Prints an error with its causes and its remedy to standard error and gives its exit code.
pub fn report_error(error: &Error) -> ExitCode {
    eprintln!("error: {error}");
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        eprintln!("  because: {cause}");
        source = cause.source();
    }
    ExitCode::from(error.class().exit_code())
}

fn usage(program: &str) -> String {
    format!("{program} run FILE | check FILE | --version | --help, where FILE is a pipeline file")
}

fn block_on(work: impl Future<Output = Result<()>>) -> Result<()> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::new(ErrorKind::Bug, "no runtime could be started").with_source(error))?
        .block_on(work)
}

async fn run(path: &Path, connector: Arc<dyn Connector>) -> Result<()> {
    logging::init(LogFormat::Text);
    let host = PipelineHost::new(PipelineFile::read(path)?, &[connector])?;
    let (sender, shutdown) = shutdown::channel();
    shutdown::on_signals(sender)?;
    host.run(&shutdown).await
}

async fn check(path: &Path, connector: Arc<dyn Connector>) -> Result<()> {
    let file = PipelineFile::read(path)?;
    let settings = file
        .connector(std::slice::from_ref(&connector))
        .and(file.connector_settings())?;
    let Checked { findings, tables } = connector.check(settings).await?;
    for finding in &findings {
        print_finding(finding);
    }
    let wrong = findings
        .iter()
        .filter(|finding| finding.severity == Severity::Error)
        .count();
    if wrong > 0 {
        return Err(
            Error::new(ErrorKind::Unsuitable, format!("{wrong} findings stand in the way"))
                .with_class(Class::User)
                .with_fix("see above"),
        );
    }
    println!("{} tables can be captured", tables.len());
    Ok(())
}

fn print_finding(finding: &Finding) {
    println!("{:?} [{}] {}", finding.severity, finding.code, finding.what);
    println!("  why: {}", finding.why);
    for sql in &finding.fix_sql {
        println!("  {};", sql.trim_end_matches(';'));
    }
    if let Some(fix) = &finding.fix {
        println!("  fix: {fix}");
    }
}
