// SPDX-License-Identifier: Apache-2.0
//! Transcripts: what the engine is told and, indented, what it does. The files in `tests/dblog` are read by people.
//! `HIGHWATER_BLESS=1 cargo test -p highwater-core --test transcripts` writes down what the engine does now.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/stage.rs"]
mod stage;

use std::fmt::Write;
use std::path::Path;

use stage::Stage;

/// The transcript with the answers of today.
fn perform(text: &str) -> String {
    let mut stage = Stage::default();
    let mut out = String::new();
    for (number, line) in text.lines().enumerate() {
        if line.starts_with("  ") {
            continue;
        }
        out.push_str(line);
        out.push('\n');
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let answers = stage
            .perform(line)
            .unwrap_or_else(|what| panic!("line {}: {what}: {line}", number + 1));
        for answer in answers {
            writeln!(out, "  {answer}").unwrap();
        }
    }
    out
}

#[test]
fn the_engine_does_what_every_transcript_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dblog");
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(
        files.len() >= 10,
        "the transcripts are missing from {}",
        folder.display()
    );
    for file in files {
        let expected = std::fs::read_to_string(&file).unwrap();
        let actual = perform(&expected);
        if std::env::var_os("HIGHWATER_BLESS").is_some() {
            std::fs::write(&file, &actual).unwrap();
            continue;
        }
        let difference = actual
            .lines()
            .zip(expected.lines())
            .enumerate()
            .find(|(_, (a, b))| a != b);
        if let Some((line, (actual, expected))) = difference {
            panic!(
                "{}:{}\n  expected: {expected}\n  actual:   {actual}",
                file.display(),
                line + 1
            );
        }
        assert_eq!(actual, expected, "{}", file.display());
    }
}
