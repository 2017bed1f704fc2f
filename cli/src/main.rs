// SPDX-License-Identifier: Apache-2.0
//! `highwater`: everything a person types.
//!
//! Exit codes: 0 done; 2 a person must change something (settings, privileges, a schema); 75 try again later; 70 a bug.

mod args;
mod check;
mod completions;
mod connectors;
#[cfg(feature = "demo")]
mod demo;
mod reach;
mod renew;
mod run;
mod snapshot;
mod status;
mod tail;
mod topics;

use std::process::ExitCode;

use clap::Parser;
use highwater_core::{Error, ErrorKind, Result};
use highwater_runtime::report_error;

use args::{Args, Command};

fn main() -> ExitCode {
    // clap ends with 2 on a mistake in the command line, which is our code for it too.
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let done = match runtime {
        Ok(runtime) => runtime.block_on(dispatch(args)),
        Err(error) => Err(Error::new(ErrorKind::Bug, "no runtime could be started").with_source(error)),
    };
    match done {
        Ok(code) => code,
        Err(error) => report_error(&error),
    }
}

async fn dispatch(args: Args) -> Result<ExitCode> {
    match args.command {
        Command::Run(args) => run::run(args).await,
        Command::Renew(args) => renew::renew(args).await,
        Command::Check(args) => check::check(args).await,
        Command::Tail(args) => tail::tail(args).await,
        Command::Topics(args) => topics::topics(args).await,
        Command::Snapshot(args) => snapshot::snapshot(args).await,
        Command::Status(args) => status::status(args).await,
        Command::Reload(args) => snapshot::reload(args).await,
        #[cfg(feature = "demo")]
        Command::Demo(args) => demo::demo(args).await,
        Command::Completions(args) => completions::completions(&args),
    }
    .map(|()| ExitCode::SUCCESS)
}
