// SPDX-License-Identifier: Apache-2.0
//! Partitions that come and go while a partitioned table is captured by its root.

use crate::scene::Scene;

const SALES: &str = "CREATE TABLE sales (id int, year int, v text, PRIMARY KEY (id, year)) PARTITION BY RANGE (year); \
                     CREATE TABLE sales_2023 PARTITION OF sales FOR VALUES FROM (2023) TO (2024); \
                     CREATE TABLE sales_2024 (LIKE sales INCLUDING ALL); \
                     INSERT INTO sales VALUES (1, 2023, 'a'); INSERT INTO sales_2024 VALUES (2, 2024, 'b'), (3, 2024, 'c')";

fn reports<'a>(status: &'a serde_json::Value, code: &'a str) -> impl Iterator<Item = &'a str> {
    let reports = status["reports"].as_array().into_iter().flatten();
    reports
        .filter(move |report| report["code"] == code)
        .filter_map(|report| report["message"].as_str())
}

#[tokio::test]
async fn rows_of_a_partition_that_is_attached_are_copied_and_one_that_goes_is_told() {
    let scene = Scene::new(SALES, &["public.sales"]).await;
    let mut process = scene.run();
    scene.caught_up(&mut process).await;
    let attach = "ALTER TABLE sales ATTACH PARTITION sales_2024 FOR VALUES FROM (2024) TO (2025); \
                  UPDATE sales SET v = 'B' WHERE id = 2; \
                  CREATE TABLE sales_2025 PARTITION OF sales FOR VALUES FROM (2025) TO (2026); \
                  INSERT INTO sales VALUES (4, 2025, 'd')";
    scene.database.run(attach).await;
    scene
        .status_shows(&mut process, "the partition that came", |status| {
            reports(status, "partition_attached").any(|message| message.contains("sales_2024"))
        })
        .await;
    scene.caught_up(&mut process).await;
    scene
        .database
        .run("ALTER TABLE sales DETACH PARTITION sales_2023")
        .await;
    let status = scene
        .status_shows(&mut process, "the partition that went", |status| {
            reports(status, "partition_gone").any(|message| message.contains("sales_2023"))
        })
        .await;
    assert_eq!(reports(&status, "partition_attached").count(), 1, "{status}");
    scene.finish(&mut process).await;
    let mut ops = scene.ops("sales").await;
    assert_eq!(ops.remove(0), "r 1");
    // The copy begins after the update, which a window over it may leave to the log alone.
    ops.sort();
    assert_eq!(ops, ["c 4", "r 2", "r 3", "u 2"]);
}
