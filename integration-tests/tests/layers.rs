// SPDX-License-Identifier: Apache-2.0
//! The arrows of ARCHITECTURE.md, checked against what Cargo resolves: `core` depends on no member, nothing in the
//! runtime knows a database by name, and embedding a connector never pulls librdkafka.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

fn cargo(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO"))
        .args(arguments)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "cargo {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("cargo prints text")
}

/// Each member's dependencies on other members, without those of its tests.
fn arrows() -> BTreeMap<String, BTreeSet<String>> {
    let metadata: serde_json::Value =
        serde_json::from_str(&cargo(&["metadata", "--format-version", "1", "--no-deps"])).expect("metadata is JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let name = |package: &serde_json::Value| package["name"].as_str().expect("a name").to_owned();
    let members: BTreeSet<String> = packages.iter().map(name).collect();
    packages
        .iter()
        .map(|package| {
            let needs = package["dependencies"]
                .as_array()
                .expect("dependencies")
                .iter()
                .filter(|dependency| dependency["kind"].is_null())
                .map(name)
                .filter(|dependency| members.contains(dependency))
                .collect();
            (name(package), needs)
        })
        .collect()
}

#[test]
fn every_member_depends_only_on_the_layers_below_it() {
    let allowed: &[(&str, &[&str])] = &[
        ("highwater-core", &[]),
        ("highwater-model", &[]),
        ("highwater-formats", &["highwater-core"]),
        ("highwater-transport", &["highwater-core"]),
        ("highwater-testkit", &["highwater-core"]),
        ("highwater-simulation", &["highwater-core", "highwater-testkit"]),
        (
            "highwater-runtime",
            &[
                "highwater-core",
                "highwater-formats",
                "highwater-transport",
                "highwater-model",
            ],
        ),
        ("highwater-mysql", &["highwater-core"]),
        // Runtime behind the feature `bin` only; see the next test.
        ("highwater-postgres", &["highwater-core", "highwater-runtime"]),
    ];
    let arrows = arrows();
    for (member, may) in allowed {
        let needs = arrows.get(*member).unwrap_or_else(|| panic!("{member} is a member"));
        let forbidden: Vec<_> = needs.iter().filter(|need| !may.contains(&need.as_str())).collect();
        assert!(forbidden.is_empty(), "{member} must not depend on {forbidden:?}");
    }
}

#[test]
fn embedding_a_connector_pulls_neither_librdkafka_nor_the_runtime() {
    let tree = cargo(&[
        "tree",
        "-p",
        "highwater-postgres",
        "--no-default-features",
        "-e",
        "normal",
        "--prefix",
        "none",
    ]);
    let members: BTreeSet<&str> = tree
        .lines()
        .filter_map(|line| line.split(' ').next())
        .filter(|name| name.starts_with("highwater"))
        .collect();
    assert_eq!(members, BTreeSet::from(["highwater-core", "highwater-postgres"]));
    assert!(
        !tree.contains("rdkafka"),
        "embedding the connector pulls librdkafka:\n{tree}"
    );
}
