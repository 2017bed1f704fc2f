// SPDX-License-Identifier: Apache-2.0
//! Messages that other programs write into the log, from end to end.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;

use crate::scene::Scene;

#[tokio::test]
async fn messages_reach_their_topic_in_order_and_once_through_kills() {
    let mut scene = Scene::new("CREATE TABLE t (id int PRIMARY KEY)", &["public.t"]).await;
    scene.file.set_source("messages", json!({ "prefixes": ["orders.*"] }));
    let mut process = scene.run();
    scene.copied(&mut process).await;
    let mut expected = Vec::new();
    for round in 0..4 {
        for transactional in [true, false, false, true] {
            let number = expected.len();
            let text = format!("{round} {number}");
            let emit = |prefix: &str| format!("SELECT pg_logical_emit_message({transactional}, '{prefix}', '{text}')");
            let sql = format!(
                "INSERT INTO t VALUES ({number}); {}; {}",
                emit("orders.placed"),
                emit("others")
            );
            scene.database.run(&sql).await;
            expected.push(text);
        }
        if round % 2 == 0 {
            scene.acknowledged(&mut process).await;
        }
        process.kill9();
        process = scene.run();
    }
    scene.finish(&mut process).await;
    let topics = [format!("{}.message", scene.file.name())];
    let mut texts = Vec::new();
    for (_, event) in scene.destination.decoded(&topics).await {
        assert_eq!(event.op(), Some("m"));
        assert_eq!(event.key, Some(json!({ "prefix": "orders.placed" })));
        let source = event.source().unwrap();
        assert_eq!((&source["schema"], &source["table"]), (&json!(""), &json!("")));
        let content = event.message().unwrap()["content"].as_str().unwrap();
        texts.push(String::from_utf8(BASE64_STANDARD.decode(content).unwrap()).unwrap());
    }
    assert_eq!(texts, expected);
    assert_eq!(scene.ops("t").await.len(), expected.len());
}
