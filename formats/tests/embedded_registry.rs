// SPDX-License-Identifier: Apache-2.0
//! What the embedded registry keeps, and what it refuses to believe.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;

use highwater_core::{ErrorKind, Result};
use highwater_formats::registry::embedded::{EmbeddedRegistry, FILE_NAME};
use highwater_formats::{SchemaId, SchemaRegistry};

const INT: &str = r#"{"type": "record", "name": "R", "fields": [{"name": "a", "type": "int"}]}"#;
const LONG: &str = r#"{"type":"record","name":"R","fields":[{"name":"a","type":"long"}]}"#;

fn open(folder: &Path) -> Result<EmbeddedRegistry> {
    EmbeddedRegistry::open(folder)
}

async fn filled(folder: &Path) {
    let registry = open(folder).unwrap();
    assert_eq!(registry.register("s", INT).await.unwrap(), SchemaId(1));
    assert_eq!(registry.register("s", LONG).await.unwrap(), SchemaId(2));
    assert_eq!(
        registry.register("other", LONG).await.unwrap(),
        SchemaId(2),
        "one schema, one id"
    );
}

#[tokio::test]
async fn ids_and_versions_are_the_same_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path()).await;
    let registry = open(folder.path()).unwrap();
    assert_eq!(registry.subjects().await.unwrap(), ["other", "s"]);
    let latest = registry.latest("s").await.unwrap().unwrap();
    assert_eq!((latest.id, latest.version, &*latest.schema), (SchemaId(2), 2, LONG));
    assert_eq!(&*registry.schema(SchemaId(1)).await.unwrap(), INT.replace(' ', ""));
    assert_eq!(
        registry.register("s", INT).await.unwrap(),
        SchemaId(1),
        "known, though the latest is another"
    );
    let next = registry.register("third", "\"string\"").await.unwrap();
    assert_eq!(next, SchemaId(3));
    assert_eq!(
        registry.schema(SchemaId(9)).await.unwrap_err().kind(),
        ErrorKind::NotFound
    );
}

#[tokio::test]
async fn a_line_that_a_crash_left_unfinished_is_cut_off_wherever_it_broke() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path()).await;
    let path = folder.path().join(FILE_NAME);
    let whole = fs::read(&path).unwrap();
    let last_line = whole[..whole.len() - 1]
        .iter()
        .rposition(|octet| *octet == b'\n')
        .unwrap()
        + 1;
    for end in last_line..whole.len() {
        fs::write(&path, &whole[..end]).unwrap();
        let registry = open(folder.path()).unwrap();
        assert_eq!(registry.subjects().await.unwrap(), ["s"], "cut at {end}");
        assert_eq!(registry.register("other", LONG).await.unwrap(), SchemaId(2));
        drop(registry);
        assert_eq!(fs::read(&path).unwrap(), whole, "cut at {end}");
    }
}

#[tokio::test]
async fn every_flipped_byte_is_noticed_with_file_line_and_fix() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path()).await;
    let path = folder.path().join(FILE_NAME);
    let whole = fs::read(&path).unwrap();
    // The very last line end is left out: without it the line counts as unfinished.
    for at in 0..whole.len() - 1 {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x01;
        fs::write(&path, &bytes).unwrap();
        let error = open(folder.path())
            .err()
            .unwrap_or_else(|| panic!("byte {at} was believed"));
        assert_eq!(error.kind(), ErrorKind::Storage);
        assert!(error.message().contains(FILE_NAME) && error.message().contains("corrupt"));
        assert!(error.context().iter().any(|(name, _)| *name == "line"));
        assert!(error.fix().unwrap().contains("backup"));
    }
}

#[tokio::test]
async fn a_second_opening_is_refused_while_the_first_lasts() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path()).unwrap();
    let error = open(folder.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Storage);
    assert!(error.message().contains("another process"));
    drop(first);
    open(folder.path()).unwrap();
}

#[tokio::test]
async fn what_is_no_schema_is_refused_and_not_stored() {
    let folder = tempfile::tempdir().unwrap();
    let registry = open(folder.path()).unwrap();
    let error = registry.register("s", "{\"type\": \"lonk\"}").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SchemaRejected);
    assert!(error.to_string().contains("lonk"));
    assert_eq!(fs::metadata(folder.path().join(FILE_NAME)).unwrap().len(), 0);
}
