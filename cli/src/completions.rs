// SPDX-License-Identifier: Apache-2.0
//! `highwater completions SHELL`.

use clap::CommandFactory;
use highwater_core::Result;

use crate::args::{Args, CompletionsArgs};

/// Prints the completions of a shell to standard output.
pub fn completions(args: &CompletionsArgs) -> Result<()> {
    clap_complete::generate(args.shell, &mut Args::command(), "highwater", &mut std::io::stdout());
    Ok(())
}
