// SPDX-License-Identifier: Apache-2.0
//! The binary as a person meets it: mistakes, exit codes, completions.

// A helper of tests fails as a test does.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::{Command, Output};

fn highwater(arguments: &[&str], folder: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_highwater"))
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn refusal(pipeline: &str, command: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("p.yaml"), pipeline).unwrap();
    let ended = highwater(&[command, "p.yaml"], folder.path());
    assert_eq!(ended.status.code(), Some(2), "{}", text(&ended.stderr));
    text(&ended.stderr)
}

const PIPELINE: &str = "version: 1
name: shop
source:
  connector: postgres
  settings:
    host: 127.0.0.1
    user: highwater
    database: shop
    tables: { include: [\"public.*\"] }
transport: embedded
";

#[test]
fn an_unknown_setting_is_told_with_its_path_line_and_nearest_name() {
    for command in ["run", "check"] {
        let told = refusal(&PIPELINE.replace("    user:", "    usr: x\n    user:"), command);
        assert_eq!(
            told,
            "error: line 7: source.settings.usr: unknown setting \"usr\"; fix: did you mean \"user\"?\n"
        );
    }
    let told = refusal(
        &PIPELINE.replace("transport: embedded", "transport: { embedded: { fsnc: never } }"),
        "run",
    );
    assert!(
        told.contains("line 10: transport.embedded.fsnc") && told.contains("\"fsync\""),
        "{told}"
    );
    let told = refusal(&PIPELINE.replace("name: shop", "name: shop\nsnapshots: {}"), "run");
    assert!(
        told.contains("p.yaml: line 3: snapshots") && told.contains("\"snapshot\""),
        "{told}"
    );
}

#[test]
fn a_secret_that_is_missing_is_named_and_never_shown() {
    let told = refusal(
        &PIPELINE.replace("user: highwater", "user: highwater\n    password: ${env:HW_NOT_SET}"),
        "check",
    );
    assert!(
        told.contains("source.settings.password: environment variable \"HW_NOT_SET\" is not set"),
        "{told}"
    );
}

#[test]
fn a_server_that_is_down_is_an_error_to_try_again() {
    let folder = tempfile::tempdir().unwrap();
    // Port 1 of this machine: nobody listens there.
    let pipeline = PIPELINE.replace("host: 127.0.0.1", "host: 127.0.0.1\n    port: 1");
    std::fs::write(folder.path().join("p.yaml"), pipeline).unwrap();
    let ended = highwater(&["check", "p.yaml", "--json"], folder.path());
    assert_eq!(ended.status.code(), Some(75), "{}", text(&ended.stderr));
    let told: serde_json::Value = serde_json::from_slice(&ended.stdout).unwrap();
    assert_eq!((&told["ok"], &told["error"]["exit_code"]), (&false.into(), &75.into()));
}

#[test]
fn commands_that_need_a_running_pipeline_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let ended = highwater(&["status", "--socket", "no.sock"], folder.path());
    assert_eq!(ended.status.code(), Some(75));
    assert!(text(&ended.stderr).contains("no running pipeline listens on socket \"no.sock\""));
    let ended = highwater(&["topics", "--file", "none.yaml"], folder.path());
    assert_eq!(ended.status.code(), Some(2));
    assert!(text(&ended.stderr).contains("cannot read pipeline file \"none.yaml\""));
}

#[test]
fn completions_are_printed_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ended = highwater(&["completions", shell], Path::new("."));
        assert!(
            ended.status.success() && text(&ended.stdout).contains("snapshot"),
            "{shell}"
        );
    }
}
