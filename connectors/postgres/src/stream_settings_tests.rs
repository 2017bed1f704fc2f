// SPDX-License-Identifier: Apache-2.0
//! What is asked of which server.

use super::*;
use serde_json::{Value, json};

#[test]
fn a_slot_that_outlives_a_failover_needs_a_server_that_has_them() {
    let failover = settings(&[("slot", json!({"failover": true}))]);
    let error = StreamOptions::of(&failover, 16).unwrap_err();
    assert!(error.to_string().contains("slot.failover"), "{error}");
    assert!(StreamOptions::of(&failover, 17).is_ok());
}

fn settings(more: &[(&str, Value)]) -> Settings {
    let mut json = json!({
        "host": "db", "user": "mover", "database": "catalogue", "tables": {"include": ["public.*"]}
    });
    for (name, value) in more {
        json[*name] = value.clone();
    }
    Settings::from_json(json).unwrap()
}

fn asked(more: &[(&str, Value)], major: u32) -> (u8, Streaming) {
    let options = StreamOptions::of(&settings(more), major).unwrap();
    (options.protocol_version, options.streaming)
}

#[test]
fn without_settings_each_server_is_asked_for_the_best_that_it_has() {
    assert_eq!(asked(&[], 13), (1, Streaming::Off));
    assert_eq!(asked(&[], 14), (2, Streaming::On));
    assert_eq!(asked(&[], 15), (2, Streaming::On));
    assert_eq!(asked(&[], 16), (4, Streaming::Parallel));
    assert_eq!(asked(&[], 18), (4, Streaming::Parallel));
}

#[test]
fn the_lowest_version_of_the_protocol_is_asked_for() {
    assert_eq!(asked(&[("streaming", json!("off"))], 17), (1, Streaming::Off));
    assert_eq!(asked(&[("streaming", json!("on"))], 17), (2, Streaming::On));
    let two_phase = ("slot", json!({"two_phase": true}));
    assert_eq!(
        asked(&[("streaming", json!("off")), two_phase.clone()], 17),
        (3, Streaming::Off)
    );
    assert_eq!(asked(std::slice::from_ref(&two_phase), 15), (3, Streaming::On));
    assert_eq!(asked(&[two_phase], 17), (4, Streaming::Parallel));
    let messages = ("messages", json!({"prefixes": ["*"]}));
    assert_eq!(asked(&[messages], 17), (1, Streaming::Off));
}

#[test]
fn what_a_server_does_not_have_is_refused_by_the_setting_s_name() {
    for (more, major, name) in [
        (("streaming", json!("parallel")), 15, "streaming: parallel"),
        (("streaming", json!("on")), 13, "streaming: on"),
        (("slot", json!({"two_phase": true})), 14, "slot.two_phase"),
        (("origin", json!("none")), 15, "origin: none"),
        (("messages", json!({"prefixes": ["orders.*"]})), 13, "messages.prefixes"),
    ] {
        let error = StreamOptions::of(&settings(&[more]), major).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsuitable);
        assert!(error.message().contains(name) && error.fix().is_some(), "{error}");
    }
}

#[test]
fn messages_are_chosen_by_their_prefix_and_our_own_are_never() {
    let of = |prefixes: Value| settings(&[("messages", json!({ "prefixes": prefixes }))]).messages;
    assert!(!of(json!([])).selects("orders.new"), "none unless they are asked for");
    let some = of(json!(["orders.*", "audit"]));
    let taken: Vec<_> = ["orders.new", "orders", "audit", "audit.x"]
        .map(|prefix| some.selects(prefix))
        .into();
    assert_eq!(taken, [true, false, true, false]);
    let all = of(json!(["*"]));
    assert!(all.selects("") && all.selects("highwater") && !all.selects("highwater.mark"));
    let own = MessageSettings {
        prefixes: vec!["highwater.*".into()],
    };
    assert!(own.validate(None).unwrap_err().fix().is_some());
    assert!(some.validate(Some(Streaming::Off)).is_ok());
    let error = some.validate(Some(Streaming::On)).unwrap_err();
    assert!(error.message().contains("`streaming` must be off"), "{error}");
}

#[test]
fn a_spill_directory_is_always_named_and_memory_has_a_floor() {
    assert!(SpillSettings::default().directory().is_absolute());
    let json = json!({"directory": "/elsewhere", "memory_bytes_max": 65_535});
    let spill: SpillSettings = serde_json::from_value(json).unwrap();
    assert_eq!(spill.directory(), Path::new("/elsewhere"));
    assert_eq!(spill.validate().unwrap_err().kind(), ErrorKind::Configuration);
}
