// SPDX-License-Identifier: Apache-2.0
//! Kill -9 under writes: one database, one set of topics, many deaths. What is read back at the end is the journal.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use highwater_integration_tests::journal_check::{Extent, Verdict};
use highwater_integration_tests::process::Process;
use highwater_integration_tests::table::Table;
use highwater_integration_tests::workload::{Workload, WorkloadSettings};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::json;

use crate::scene::{Scene, has_copied};

/// The schema of the workload's tables.
const SCHEMA: &str = "w";
/// Kills between two looks at the topics.
const LOOK_EVERY: usize = 9;
/// The longest wait for a process to reach the place where it dies.
const REACH_LIMIT: Duration = Duration::from_secs(60);

/// A moment to die at.
#[derive(Debug, Clone, Copy)]
enum Death {
    /// By its own hand at the n-th passage of a named place, n up to this.
    At(&'static str, u64),
    /// From outside, some milliseconds after the log flows.
    AnyTime,
}

impl Death {
    fn name(self) -> &'static str {
        match self {
            Death::At(phase, _) => phase,
            Death::AnyTime => "stream, from outside",
        }
    }

    /// Whether it needs a copy that runs.
    fn while_copying(self) -> bool {
        matches!(self, Death::At("open_window" | "snapshot", _))
    }
}

/// One round of deaths; copies come first, while the initial one lasts.
const DEATHS: [Death; 26] = [
    Death::At("snapshot", 2),
    Death::At("open_window", 3),
    Death::At("snapshot", 4),
    Death::At("open_window", 4),
    Death::At("before_commit", 4),
    Death::At("open_window", 6),
    Death::At("after_commit", 4),
    Death::At("snapshot", 5),
    Death::At("before_acknowledge", 4),
    Death::AnyTime,
    Death::At("inside_split_transaction", 2),
    Death::At("before_commit", 20),
    Death::At("stream", 20),
    Death::At("after_commit", 20),
    Death::At("inside_split_transaction", 4),
    Death::AnyTime,
    Death::At("before_acknowledge", 20),
    Death::At("open_window", 5),
    Death::At("inside_split_transaction", 3),
    Death::At("snapshot", 4),
    Death::At("stream", 40),
    Death::At("before_commit", 30),
    Death::At("inside_split_transaction", 5),
    Death::At("after_commit", 30),
    Death::AnyTime,
    Death::At("before_acknowledge", 30),
];

/// How many rounds: `HIGHWATER_KILL_ROUNDS`, 1 by default.
fn rounds() -> usize {
    std::env::var("HIGHWATER_KILL_ROUNDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(1)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_under_writes_loses_and_repeats_nothing_in_the_embedded_transport() {
    let scene = Scene::of_major(17, "", &["w.*"]).await;
    survive(scene, "embedded", true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_under_writes_loses_and_repeats_nothing_in_kafka() {
    let mut scene = Scene::kafka(15, "", &["w.*"]).await;
    scene.file.set("topics", json!({ "partitions": 3 }));
    survive(scene, "kafka", false).await;
}

async fn survive(mut scene: Scene, name: &str, truncates: bool) {
    let seed = 0x6b69_6c6c ^ u64::from(truncates);
    eprintln!("{name}: SEED={seed}");
    let settings = WorkloadSettings {
        truncates,
        rows: 1_500,
        ..WorkloadSettings::new(seed, SCHEMA)
    };
    let mut workload = Workload::prepare(&scene.database, settings).await;
    scene
        .file
        .set("snapshot", json!({ "chunk_rows_max": 100, "windows_max": 3 }));
    scene.file.set("checkpoint.every_events", json!(300));
    let mut rng = StdRng::seed_from_u64(seed);
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    workload.write();
    let deaths = DEATHS.iter().cycle().take(DEATHS.len() * rounds());
    for (number, death) in deaths.enumerate() {
        die(&scene, *death, &mut rng).await;
        *counts.entry(death.name()).or_default() += 1;
        if (number + 1) % LOOK_EVERY == 0 {
            workload.pause().await;
            scene.compared(&workload, Extent::SoFar).await.assert_right();
            workload.write();
        }
    }
    workload.wrote(200).await;
    let mut process = scene.run();
    workload.stop().await;
    workload.verify_tables().await;
    scene.finish(&mut process).await;
    let verdict = scene.compared(&workload, Extent::Whole).await;
    verdict.assert_right();
    tell(name, &counts, &verdict);
    assert!(verdict.partial > 0, "the workload made no partial image");
}

/// Prints the kills per phase past the test harness' capture: the count is part of what the suite shows.
fn tell(name: &str, counts: &BTreeMap<&str, u64>, verdict: &Verdict) {
    let total: u64 = counts.values().sum();
    let mut table = format!("killed {total} times, {name}:\n");
    for (phase, count) in counts {
        table += &format!("  {phase:<26}{count:>4}\n");
    }
    table += &format!(
        "  {} events of the log, {} reads, {} partial images, {} keys: equal to the journal\n",
        verdict.log_events, verdict.reads, verdict.partial, verdict.keys
    );
    std::io::stderr()
        .write_all(table.as_bytes())
        .expect("standard error can be written");
}

/// Starts the pipeline and has it die.
async fn die(scene: &Scene, death: Death, rng: &mut StdRng) {
    match death {
        Death::At(phase, nth_max) => {
            let nth = rng.random_range(1..=nth_max);
            let mut process = scene
                .file
                .run_with(&[("HIGHWATER_CRASH_AT", &format!("{phase}:{nth}"))]);
            if death.while_copying() {
                copy_until_dead(scene, &mut process, rng).await;
            }
            let dead = process.was_killed(REACH_LIMIT).await;
            let status = if dead { None } else { scene.file.status().await };
            assert!(
                dead,
                "{phase}:{nth} was not reached: {status:#?}\n{}",
                process.err_tail()
            );
        }
        Death::AnyTime => {
            let mut process = scene.run();
            scene
                .status_shows(&mut process, "a running pipeline", |status| {
                    status["state"] == "running"
                })
                .await;
            tokio::time::sleep(Duration::from_millis(rng.random_range(0..400))).await;
            assert!(process.is_running(), "it ended by itself:\n{}", process.err_tail());
            process.kill9();
        }
    }
}

/// Asks for copies, so that there is one to die in, until the process is dead.
async fn copy_until_dead(scene: &Scene, process: &mut Process, rng: &mut StdRng) {
    let begun = std::time::Instant::now();
    while process.is_running() && begun.elapsed() < REACH_LIMIT {
        let idle = scene.file.status().await.as_ref().is_some_and(has_copied);
        if idle {
            let table = Table::ALL[rng.random_range(0..Table::ALL.len())];
            let request = json!({ "table": format!("{SCHEMA}.{}", table.name()) });
            scene.file.ask(json!({ "do": "snapshot", "requests": [request] })).await;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_transaction_larger_than_a_commit_goes_on_inside_after_each_death() {
    let mut scene = Scene::new("CREATE TABLE t (id int PRIMARY KEY, v text)", &["public.t"]).await;
    scene.file.set("checkpoint.every_events", json!(100));
    let mut process = scene.run();
    scene.caught_up(&mut process).await;
    process.kill9();
    scene.database.run("INSERT INTO t SELECT n, 'x' FROM generate_series(1, 30000) n; UPDATE t SET v = 'y'; INSERT INTO t VALUES (0, '')").await;
    for nth in [1, 2, 1, 2] {
        let mut process = scene
            .file
            .run_with(&[("HIGHWATER_CRASH_AT", &format!("inside_split_transaction:{nth}"))]);
        assert!(
            process.was_killed(REACH_LIMIT).await,
            "{nth} was not reached:\n{}",
            process.err_tail()
        );
    }
    let mut process = scene.run();
    scene.finish(&mut process).await;
    let inserted = (1..=30_000).map(|id| format!("c {id}"));
    let updated = (1..=30_000).map(|id| format!("u {id}"));
    let expected: Vec<String> = inserted.chain(updated).chain(["c 0".to_owned()]).collect();
    assert!(
        scene.ops("t").await == expected,
        "the transaction did not arrive once and in order"
    );
}
