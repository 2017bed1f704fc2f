// SPDX-License-Identifier: Apache-2.0
//! Settings: what is accepted, what is refused and how it is said.

use super::*;
use proptest::prelude::*;
use serde_json::json;

fn minimal() -> serde_json::Value {
    json!({"host": "db", "user": "mover", "database": "catalogue", "tables": {"include": ["public.*"]}})
}

fn with(key: &str, value: serde_json::Value) -> Result<Settings> {
    let mut settings = minimal();
    settings[key] = value;
    Settings::from_json(settings)
}

#[test]
fn five_lines_are_enough() {
    let settings = Settings::from_json(minimal()).unwrap();
    assert_eq!(
        (settings.port, settings.slot.name.as_str(), settings.publication.create),
        (5432, "highwater", true)
    );
    assert_eq!(settings.tls.mode, TlsMode::Prefer);
}

#[test]
fn an_unknown_setting_is_named() {
    let error = with("pasword", json!("x")).unwrap_err();
    assert!(error.to_string().contains("pasword"), "{error}");
    assert!(
        with("slot", json!({"name": "a", "temporary": true}))
            .unwrap_err()
            .to_string()
            .contains("temporary")
    );
}

#[test]
fn wrong_names_and_patterns_are_refused_with_a_fix() {
    for (key, value) in [
        ("version", json!(2)),
        ("slot", json!({"name": "Upper"})),
        ("slot", json!({"name": ""})),
        ("publication", json!({"name": ""})),
        ("tables", json!({"include": []})),
        ("tables", json!({"include": ["movies"]})),
        ("tls", json!({"client_key": "/key"})),
        ("heartbeat", json!({"interval_ms": 60_000})),
    ] {
        let error = with(key, value).unwrap_err();
        assert!(error.fix().is_some(), "{error}");
        assert_eq!(error.kind(), ErrorKind::Configuration);
    }
}

#[test]
fn secrets_come_from_three_places_and_show_in_none() {
    let settings = with("password", json!("hunter2")).unwrap();
    assert!(!format!("{settings:?}").contains("hunter2"));
    assert_eq!(settings.password.unwrap().reveal().unwrap(), b"hunter2");

    let missing = with("password", json!({"env": "HIGHWATER_TEST_NO_SUCH_VARIABLE"}))
        .unwrap()
        .password
        .unwrap();
    assert!(
        missing
            .reveal()
            .unwrap_err()
            .to_string()
            .contains("HIGHWATER_TEST_NO_SUCH_VARIABLE")
    );

    let path = std::env::temp_dir().join(format!("highwater-secret-{}", std::process::id()));
    std::fs::write(&path, "from file\n").unwrap();
    let file = with("password", json!({"file": path})).unwrap().password.unwrap();
    assert_eq!(file.reveal().unwrap(), b"from file");
    std::fs::remove_file(path).unwrap();
}

#[test]
fn tables_are_chosen_by_patterns() {
    let settings = with(
        "tables",
        json!({"include": ["public.*", "sales_?.order*"], "exclude": ["public.tmp_*"]}),
    )
    .unwrap();
    let selects = |schema: &str, table: &str| settings.selects(&TableName::new(schema, table));
    assert!(selects("public", "movies"));
    assert!(!selects("public", "tmp_1"));
    assert!(selects("sales_1", "orders"));
    assert!(!selects("sales_10", "orders"));
    assert!(!selects("other", "movies"));
}

#[test]
fn only_exact_names_must_exist() {
    let settings = with("tables", json!({"include": ["public.movies", "public.p*"]})).unwrap();
    assert_eq!(settings.named_tables().collect::<Vec<_>>(), ["public.movies"]);
}

proptest! {
    #[test]
    fn a_text_matches_itself_and_a_star(text in "[a-z.é]{0,12}") {
        prop_assert!(matches_glob(&text, &text));
        prop_assert!(matches_glob("*", &text));
        let starred = format!("{text}*");
        let joined = format!("{text}tail");
        prop_assert!(matches_glob(&starred, &joined));
    }
}
