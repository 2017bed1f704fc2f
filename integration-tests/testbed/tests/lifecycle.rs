// SPDX-License-Identifier: Apache-2.0
//! What is left of a server when its test ends, well or badly.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use highwater_testbed::{PgOptions, Postgres, wait};

const LIMIT: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_server_that_is_done_with_leaves_neither_process_nor_directory() {
    let server = Postgres::start(PgOptions::major(17)).await.unwrap();
    let (pid, dir) = (server.pid().unwrap(), server.socket_dir().to_owned());
    assert!(is_running(pid) && dir.join("log").is_file());
    drop(server);
    assert!(!is_running(pid));
    assert!(!dir.exists());
}

#[test]
fn the_directory_of_a_failed_test_is_kept_and_its_server_is_not() {
    let (told, heard) = std::sync::mpsc::channel();
    let failed = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let server = Postgres::start(PgOptions::major(17)).await.unwrap();
            told.send((server.pid().unwrap(), server.socket_dir().to_owned()))
                .unwrap();
            panic!("this failure is wanted");
        });
    })
    .join();
    assert!(failed.is_err());
    let (pid, dir) = heard.recv().unwrap();
    assert!(!is_running(pid), "the server outlived its test");
    let log = std::fs::read_to_string(dir.join("log")).unwrap();
    assert!(log.contains("ready to accept connections"), "{log}");
    std::fs::remove_dir_all(dir).unwrap();
}

#[tokio::test]
async fn a_server_dies_with_the_process_that_started_it_even_by_sigkill() {
    let (mut starter, pid, data) = start_by_program();
    assert!(is_running(pid) && data.is_dir());
    starter.kill().unwrap();
    starter.wait().unwrap();
    wait::until(LIMIT, "the server's end", || async {
        Ok((!is_running(pid)).then_some(()))
    })
    .await
    .unwrap();
    std::fs::remove_dir_all(data.parent().unwrap()).unwrap();
}

#[tokio::test]
async fn the_program_stops_its_server_and_removes_its_directory_on_sigterm() {
    let (mut starter, pid, data) = start_by_program();
    let terminated = Command::new("kill").arg(starter.id().to_string()).status().unwrap();
    assert!(terminated.success());
    assert!(starter.wait().unwrap().success());
    assert!(!is_running(pid) && !data.exists());
}

/// `highwater-testbed up postgres 17`: the program, the server's process id and its data directory.
fn start_by_program() -> (Child, u32, PathBuf) {
    let mut starter = Command::new(env!("CARGO_BIN_EXE_highwater-testbed"))
        .args(["up", "postgres", "17"])
        .env("HIGHWATER_TESTBED", "process")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(starter.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap);
    let mut value = |name: &str| {
        lines
            .find_map(|line| line.strip_prefix(name).map(str::to_owned))
            .unwrap()
    };
    let pid = value("POSTGRES_PID=").parse().unwrap();
    let data = PathBuf::from(value("POSTGRES_DATA_DIR="));
    value("READY=1");
    // The program goes on writing nothing; its pipe may close.
    (starter, pid, data)
}

/// True while a process exists and is no zombie.
fn is_running(pid: u32) -> bool {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}
