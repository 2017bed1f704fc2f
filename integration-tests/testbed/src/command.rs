// SPDX-License-Identifier: Apache-2.0
//! Programs that run to their end: package tools, initdb, formatters.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::error::{Error, Result};

/// Lines of output that an error shows.
const TAIL_LINES: usize = 25;

/// Runs a command to its end and returns its standard output; what it said is in the error if it fails.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    output_of_input(command, Stdio::null())
}

/// As [`output`], with a standard input.
pub(crate) fn output_of_input(command: &mut Command, input: Stdio) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let done = command.stdin(input).output().map_err(|e| missing(&name, &e))?;
    let stdout = String::from_utf8_lossy(&done.stdout).into_owned();
    if done.status.success() {
        return Ok(stdout);
    }
    let stderr = String::from_utf8_lossy(&done.stderr);
    Err(Error::new(format!("{name} failed ({})", done.status)).with_log(tail(&format!("{stdout}{stderr}"), TAIL_LINES)))
}

/// Copies a directory with all that is in it to `to`, which is not there yet.
pub(crate) fn copy_dir(from: &Path, to: &Path) -> Result<()> {
    output(Command::new("cp").args(["-r", "--reflink=auto"]).arg(from).arg(to)).map(drop)
}

fn missing(name: &str, cause: &std::io::Error) -> Error {
    if cause.kind() == std::io::ErrorKind::NotFound {
        Error::new(format!("the program {name:?} is missing: run `make setup`"))
    } else {
        Error::during(format!("cannot run {name:?}"), cause)
    }
}

/// The last `lines` lines of a text.
pub(crate) fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
