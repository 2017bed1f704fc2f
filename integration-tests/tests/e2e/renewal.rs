// SPDX-License-Identifier: Apache-2.0
//! A slot that is gone: told, and gone over by a person's decision. What was missed comes, deletes too, into the same
//! topics, while writers go on.

use std::collections::{BTreeMap, HashMap};

use highwater_integration_tests::database::Database;
use highwater_integration_tests::event::{Event, EventReader, Kind};
use highwater_integration_tests::journal::{Change, Entry, KeyId};
use highwater_integration_tests::process::{Ended, Process};
use highwater_integration_tests::table::Table;
use highwater_integration_tests::workload::{Workload, WorkloadSettings};
use highwater_testbed::{Kafka, PgOptions, Postgres, Registry};
use serde_json::{Value, json};

use crate::scene::{LIMIT, Scene, small_load};

impl Scene {
    /// Runs `highwater renew` to its end.
    async fn renew(&self, more: &[&str]) -> Ended {
        let path = self.file.path().display().to_string();
        let arguments = [&["renew", &path], more].concat();
        Process::start(self.file.folder(), &arguments, &[]).ended(LIMIT).await
    }

    /// Waits until the topics of these tables have what their tables have.
    async fn renewed(&self, process: &mut Process, tables: &[&str]) -> Value {
        let done = |status: &Value| tables.iter().all(|table| status["renewals"][*table]["state"] == "done");
        self.status_shows(process, "renewed tables", done).await["renewals"].clone()
    }
}

/// The ops of a list by their key, each key's in order.
fn by_key(ops: &[String]) -> BTreeMap<String, String> {
    let mut keys: BTreeMap<String, String> = BTreeMap::new();
    for op in ops {
        let (op, key) = op.split_once(' ').unwrap_or((op, ""));
        keys.entry(key.to_owned()).or_default().push_str(op);
    }
    keys
}

fn expected(keys: &[(&str, &str)]) -> BTreeMap<String, String> {
    keys.iter()
        .map(|(key, ops)| ((*key).to_owned(), (*ops).to_owned()))
        .collect()
}

const TABLES: &str = "CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE n (v text); ALTER TABLE n REPLICA IDENTITY FULL; \
                      CREATE TABLE two (a text, b bigint, note text NOT NULL, PRIMARY KEY (b, a))";
const FIRST: &str = "INSERT INTO t SELECT id, 'first' FROM generate_series(1, 6) id; INSERT INTO n VALUES ('x'); \
                     INSERT INTO two VALUES ('ä', 1, 'n'), ('b', 2, 'n')";
/// Updates, deletes, a row that came back, one that moved.
const MISSED: &str = "UPDATE t SET v = 'missed' WHERE id = 2; DELETE FROM t WHERE id = 3; DELETE FROM t WHERE id = 4; \
                      INSERT INTO t VALUES (4, 'back'), (7, 'new'); UPDATE t SET id = 8 WHERE id = 5; \
                      INSERT INTO n VALUES ('y'); DELETE FROM two WHERE a = 'ä'";

/// What readers have of `t` once the gap is closed: each row as it is, and a delete for each that is gone.
async fn shows_what_was_missed(scene: &Scene) {
    let keys = expected(&[
        ("1", "cr"),
        ("2", "cr"),
        ("3", "cd-"),
        ("4", "cr"),
        ("5", "cd-"),
        ("6", "cr"),
        ("7", "r"),
        ("8", "r"),
    ]);
    assert_eq!(by_key(&scene.ops("t").await), keys);
    for (_, event) in scene.read("public", "t").await {
        let id = event.key.as_ref().and_then(|key| key["id"].as_i64());
        if event.op() == Some("d") {
            assert_eq!(event.before().map(|row| row["id"].as_i64()), Some(id), "{event:?}");
            assert!(event.after().is_none() && event.source().is_some(), "{event:?}");
        } else if event.op() == Some("r") {
            let value = match id {
                Some(2) => "missed",
                Some(4) => "back",
                Some(7) => "new",
                _ => "first",
            };
            let after = event.after().map(|row| (row["id"].as_i64(), row["v"].as_str()));
            assert_eq!(after, Some((id, Some(value))));
        }
    }
    let two = expected(&[("1", "cd-"), ("2", "cr")]);
    assert_eq!(by_key(&scene.ops("two").await), two);
}

async fn a_lost_slot_is_gone_over(scene: Scene, lose: impl AsyncFnOnce(&Scene), told: &str) {
    let mut process = scene.run();
    scene.caught_up(&mut process).await;
    scene.database.run(FIRST).await;
    scene.finish(&mut process).await;
    scene
        .renew(&[])
        .await
        .with_code(2)
        .telling(&["not lost", "highwater run"]);

    lose(&scene).await;
    scene.database.run(MISSED).await;
    let slot = scene.file.name();
    for _ in 0..2 {
        let ended = scene.fails().await.with_code(2);
        ended.telling(&[slot, told, "highwater renew"]);
    }
    let begun = scene.renew(&[]).await.with_code(0);
    for part in ["public.t:", "public.two:", "public.n: has no key", "highwater run"] {
        assert!(begun.out.contains(part), "{part:?} is not in:\n{}", begun.out);
    }
    // The decision is made: it is not to be made twice.
    scene.renew(&[]).await.with_code(2).telling(&["not lost"]);
    let mut process = scene.run();
    let renewals = scene.renewed(&mut process, &["public.t", "public.two"]).await;
    assert_eq!(
        renewals["public.t"],
        json!({ "state": "done", "keys_compared": 6, "keys_removed": 2, "other_keys": 0 })
    );
    assert_eq!(renewals["public.two"]["keys_removed"], 1);
    scene.database.run("INSERT INTO n VALUES ('z')").await;
    scene.caught_up(&mut process).await;
    let certificates = scene
        .file
        .list(json!({ "do": "certificates", "table": "public.t" }))
        .await;
    let evidence = certificates
        .unwrap_or_default()
        .into_iter()
        .find(|one| one["renewal"] == true);
    assert_eq!(evidence.map(|one| one["keys_removed"].as_u64()), Some(Some(2)));
    scene.finish(&mut process).await;
    shows_what_was_missed(&scene).await;
    assert_eq!(
        scene.read("public", "n").await.len(),
        2,
        "what a table without a key missed stays missing"
    );

    // A later run has nothing to do any more.
    scene.database.run("DELETE FROM t WHERE id = 1").await;
    let mut process = scene.run();
    scene.finish(&mut process).await;
    assert_eq!(by_key(&scene.ops("t").await)["1"], "crd-");
}

async fn drop_slot(scene: &Scene) {
    let slot = scene.file.name();
    scene
        .database
        .run(&format!("SELECT pg_drop_replication_slot('{slot}')"))
        .await;
}

#[tokio::test]
async fn over_a_slot_that_was_dropped_everything_that_was_missed_comes_deletes_too() {
    let mut scene = Scene::of_major(15, TABLES, &["public.*"]).await;
    scene.file.set("snapshot", json!({ "mode": "never" }));
    a_lost_slot_is_gone_over(scene, drop_slot, "no longer exists").await;
}

#[tokio::test]
async fn the_same_goes_for_kafka_and_many_partitions() {
    let mut scene = Scene::kafka(15, TABLES, &["public.*"]).await;
    scene.file.set("snapshot", json!({ "mode": "never" }));
    scene.file.set("topics", json!({ "partitions": 3 }));
    a_lost_slot_is_gone_over(scene, drop_slot, "no longer exists").await;
}

/// A server that keeps little of its log for slots.
async fn forgetful_server() -> Postgres {
    Postgres::start(PgOptions::major(15).with("max_slot_wal_keep_size", "1MB"))
        .await
        .unwrap()
}

async fn invalidate_slot(scene: &Scene) {
    let status = format!(
        "SELECT wal_status FROM pg_replication_slots WHERE slot_name = '{}'",
        scene.file.name()
    );
    for _ in 0..200 {
        scene
            .database
            .run("SELECT txid_current(); SELECT pg_switch_wal()")
            .await;
        scene.database.run("CHECKPOINT").await;
        if scene.database.text(&status).await == "lost" {
            return;
        }
    }
    panic!("the server keeps the slot");
}

#[tokio::test]
async fn over_a_slot_that_the_server_invalidated_everything_that_was_missed_comes() {
    let server = forgetful_server().await;
    let mut scene = Scene::at(Database::on(&server), TABLES, &["public.*"]).await;
    scene.file.set("snapshot", json!({ "mode": "never" }));
    a_lost_slot_is_gone_over(scene, invalidate_slot, "invalidated").await;
}

#[tokio::test]
async fn the_same_goes_for_kafka_over_a_slot_that_the_server_invalidated() {
    let server = forgetful_server().await;
    let (kafka, registry) = (Kafka::shared().await.unwrap(), Registry::shared().await.unwrap());
    let (brokers, registry) = (kafka.bootstrap(), registry.url());
    let mut scene = Scene::kafka_at(Database::on(&server), TABLES, &["public.*"], &brokers, &registry).await;
    scene.file.set("snapshot", json!({ "mode": "never" }));
    a_lost_slot_is_gone_over(scene, invalidate_slot, "invalidated").await;
}

/// Where the slot of the pipeline is; nothing where there is none.
async fn slot_place(scene: &Scene) -> String {
    let sql = "SELECT coalesce(min(confirmed_flush_lsn::text), '') FROM pg_replication_slots WHERE slot_name = ";
    scene.database.text(&format!("{sql}'{}'", scene.file.name())).await
}

async fn is_refused_while_the_pipeline_runs(mut scene: Scene, ways: &[&[&str]]) {
    scene.file.set("snapshot", json!({ "mode": "never" }));
    let mut process = scene.run();
    scene.caught_up(&mut process).await;
    scene.database.run(FIRST).await;
    for more in ways {
        let refused = scene.renew(more).await.with_code(2);
        refused.telling(&[scene.file.name(), "runs", "end it and its stand-by first"]);
    }
    // It goes on as if nothing had been asked.
    scene.database.run("DELETE FROM t WHERE id = 3").await;
    scene.finish(&mut process).await;
    assert_eq!(by_key(&scene.ops("t").await)["3"], "cd-");
    assert_eq!(scene.ops("t").await.len(), 8);
}

#[tokio::test]
async fn while_the_pipeline_runs_it_is_refused_and_the_pipeline_goes_on() {
    let scene = Scene::of_major(15, TABLES, &["public.*"]).await;
    is_refused_while_the_pipeline_runs(scene, &[&[], &["--force"]]).await;
}

#[tokio::test]
async fn while_the_pipeline_runs_into_kafka_it_is_refused_and_the_pipeline_goes_on() {
    let scene = Scene::kafka(15, TABLES, &["public.*"]).await;
    is_refused_while_the_pipeline_runs(scene, &[&["--force"]]).await;
}

#[tokio::test]
async fn a_slot_that_is_in_order_is_given_up_by_force_and_what_it_held_comes_by_the_copy() {
    let mut scene = Scene::of_major(15, TABLES, &["public.*"]).await;
    scene.file.set("snapshot", json!({ "mode": "never" }));
    let none = scene.renew(&["--force"]).await.with_code(2);
    none.telling(&["no checkpoint", "highwater run"]);
    let mut process = scene.run();
    scene.caught_up(&mut process).await;
    scene.database.run(FIRST).await;
    scene.finish(&mut process).await;
    scene.database.run(MISSED).await;
    let before = slot_place(&scene).await;
    scene.renew(&[]).await.with_code(2).telling(&["not lost", "--force"]);
    assert_eq!(slot_place(&scene).await, before, "nothing is changed");
    let begun = scene.renew(&["--force", "--json"]).await.with_code(0);
    let told: Value = serde_json::from_str(&begun.out).unwrap();
    assert_eq!(told["tables"], json!(["public.t", "public.two"]));
    assert_eq!(told["without_key"], json!(["public.n"]));
    assert_ne!(slot_place(&scene).await, before);
    let mut process = scene.run();
    scene.renewed(&mut process, &["public.t", "public.two"]).await;
    scene.finish(&mut process).await;
    shows_what_was_missed(&scene).await;
}

#[tokio::test]
async fn a_slot_that_people_make_is_left_to_them() {
    let mut scene = Scene::of_major(15, TABLES, &["public.*"]).await;
    scene.file.set("snapshot", json!({ "mode": "never" }));
    let slot = scene.file.name().to_owned();
    scene.file.set_source("slot", json!({ "name": slot, "create": false }));
    let make = format!("SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')");
    scene.database.run(&make).await;
    let mut process = scene.run();
    scene.caught_up(&mut process).await;
    scene.database.run(FIRST).await;
    scene.finish(&mut process).await;
    drop_slot(&scene).await;
    scene.database.run(MISSED).await;
    for more in [&[][..], &["--force"]] {
        let refused = scene.renew(more).await.with_code(2);
        refused.telling(&["slot.create", &make, "then this command again"]);
        assert_eq!(slot_place(&scene).await, "", "it makes none");
    }
    // The decision is not made: the pipeline still says what is the matter.
    scene.fails().await.with_code(2).telling(&[&slot, "highwater renew"]);
    scene.database.run(&make).await;
    let made = slot_place(&scene).await;
    scene.renew(&[]).await.with_code(0);
    assert_eq!(slot_place(&scene).await, made, "the slot is taken as it is");
    let mut process = scene.run();
    scene.renewed(&mut process, &["public.t", "public.two"]).await;
    scene.finish(&mut process).await;
    shows_what_was_missed(&scene).await;
}

/// A pipeline that dies, loses its slot, and dies again and again while it is renewed; writers never stop.
async fn survives_a_gap_under_writes(mut scene: Scene, seed: u64) {
    let settings = WorkloadSettings {
        truncates: false,
        ..small_load(seed)
    };
    let mut workload = Workload::prepare(&scene.database, settings).await;
    scene
        .file
        .set("snapshot", json!({ "chunk_rows_max": 60, "windows_max": 2 }));
    workload.write();
    let mut process = scene.run();
    scene.copied(&mut process).await;
    workload.wrote(500).await;
    process.kill9();
    drop(process);
    scene.database.slot_is_free(scene.file.name(), LIMIT).await;
    drop_slot(&scene).await;
    let before = places(&scene, &workload).await;
    workload.wrote(1_500).await;
    scene.fails().await.with_code(2).telling(&["highwater renew"]);
    scene.renew(&[]).await.with_code(0);
    for death in ["snapshot:3", "renewal:1", "renewal:2"] {
        let mut process = scene.file.run_with(&[("HIGHWATER_CRASH_AT", death)]);
        assert!(
            process.was_killed(LIMIT).await,
            "{death} was not reached:\n{}",
            process.err_tail()
        );
    }
    let mut process = scene.run();
    let tables: Vec<String> = Table::ALL.iter().map(|table| format!("w.{}", table.name())).collect();
    let waiting = |status: &Value| {
        let renewals = status["renewals"].as_object().cloned().unwrap_or_default();
        let all = tables.iter().filter_map(|table| renewals.get(table));
        // What an earlier run renewed this one does not tell of.
        status["state"] == "running" && all.clone().all(|renewal| renewal["state"] == "done")
    };
    scene.copied(&mut process).await;
    scene.status_shows(&mut process, "renewed tables", waiting).await;
    workload.wrote(300).await;
    workload.stop().await;
    workload.verify_tables().await;
    scene.finish(&mut process).await;
    is_right_behind_the_gap(&scene, &workload, &before).await;
}

/// Per topic and partition, where the next record goes.
type Places = HashMap<(Table, u32), u64>;

async fn places(scene: &Scene, workload: &Workload) -> Places {
    let mut places = Places::new();
    for event in events(scene, workload).await {
        let next = places.entry((event.table, event.place.0)).or_default();
        *next = event.place.1 + 1;
    }
    places
}

async fn events(scene: &Scene, workload: &Workload) -> Vec<Event> {
    let topics = scene.workload_topics(workload);
    let reader = EventReader::new(workload.settings().key_space());
    let (events, faults) = scene.destination.events(&topics, &reader).await;
    assert_eq!(faults, [""; 0]);
    events
}

/// Behind the gap each key's events are a run of its journal as anywhere: no state that was left behind, none left out
/// once the key is known, and at the end what the table has. A key that readers had and that is gone ends in a tombstone.
async fn is_right_behind_the_gap(scene: &Scene, workload: &Workload, before: &Places) {
    let events = events(scene, workload).await;
    let is_behind = |event: &&Event| {
        let begins = before.get(&(event.table, event.place.0)).copied().unwrap_or(0);
        event.place.1 >= begins
    };
    let (behind, ahead): (Vec<&Event>, Vec<&Event>) = events.iter().partition(is_behind);
    let mut known: HashMap<KeyId, Kind> = HashMap::new();
    for event in ahead {
        known.extend(event.key.map(|key| ((event.table, key), event.kind)));
    }
    let histories = workload.journal().histories();
    let mut removed = 0;
    let mut by_key: HashMap<KeyId, Vec<&Event>> = HashMap::new();
    for event in behind {
        by_key
            .entry((event.table, event.key.expect("a key")))
            .or_default()
            .push(event);
    }
    for (key, history) in &histories {
        let events = by_key.remove(key).unwrap_or_default();
        removed += u64::from(
            events
                .iter()
                .any(|event| event.kind == Kind::Delete && event.transaction.is_none()),
        );
        let alive_before = matches!(known.get(key), Some(Kind::Put(_) | Kind::Read(_)));
        if let Err(fault) = follows(&events, history, alive_before) {
            panic!("{key:?}: {fault}\n{events:#?}\n{history:#?}");
        }
    }
    assert!(by_key.is_empty(), "keys that never were: {:?}", by_key.keys());
    assert!(removed > 20, "only {removed} rows were deleted in the gap");
}

fn follows(events: &[&Event], history: &[Entry], alive_before: bool) -> Result<(), String> {
    // Where in the journal the reader is; a renewal's delete does not tell which one it stands for.
    let mut at: Option<usize> = None;
    let mut exact = false;
    for (number, event) in events.iter().enumerate() {
        let from = at.unwrap_or(0);
        let found = |wanted: &dyn Fn(&Entry) -> bool| (from..history.len()).find(|&at| wanted(&history[at]));
        let place = match event.kind {
            Kind::Tombstone => {
                let after_delete = number > 0 && events[number - 1].kind == Kind::Delete;
                after_delete
                    .then_some(from)
                    .ok_or("a tombstone that no delete comes before")?
            }
            Kind::Put(revision) | Kind::Read(revision) => {
                found(&|entry| matches!(entry.change, Change::Put(of) if of.number == revision.number))
                    .ok_or("a state that was left behind, or never was")?
            }
            _ => found(&|entry| {
                let by_this = event
                    .transaction
                    .is_none_or(|transaction| transaction == entry.transaction);
                entry.change == Change::Delete && by_this
            })
            .ok_or("a delete that was left behind, or never was")?,
        };
        let of_log = matches!(event.kind, Kind::Put(_)) || event.kind == Kind::Delete && event.transaction.is_some();
        if of_log && exact && place != from + 1 {
            return Err(format!("{event:?} does not follow what came before"));
        }
        exact |= of_log || matches!(event.kind, Kind::Read(_));
        if event.kind == Kind::Delete && event.transaction.is_none() {
            exact = false;
        }
        at = Some(place);
    }
    let last = history.last().map(|entry| entry.change);
    let ends = events.last().map(|event| event.kind);
    match (last, ends) {
        (Some(Change::Put(revision)), Some(Kind::Put(end) | Kind::Read(end))) if end.number == revision.number => {
            Ok(())
        }
        (Some(Change::Delete), Some(Kind::Tombstone)) => Ok(()),
        (Some(Change::Delete), None) if !alive_before => Ok(()),
        (None, None) => Ok(()),
        ends => Err(format!("it ends wrong: {ends:?}")),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gap_is_closed_under_writes_and_kills_in_the_embedded_transport() {
    survives_a_gap_under_writes(Scene::of_major(15, "", &["w.*"]).await, 0x6761_7001).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gap_is_closed_under_writes_and_kills_in_kafka() {
    let mut scene = Scene::kafka(15, "", &["w.*"]).await;
    scene.file.set("topics", json!({ "partitions": 2 }));
    survives_a_gap_under_writes(scene, 0x6761_7002).await;
}
