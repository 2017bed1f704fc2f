// SPDX-License-Identifier: Apache-2.0
//! One table seen through the catalogue and through the log must have one schema.

use super::*;
use crate::protocol::pgoutput::RelationColumn;

fn column(name: &str, type_oid: u32, primary: Option<usize>, identity: Option<usize>) -> ShapeColumn {
    ShapeColumn {
        name: name.into(),
        type_oid,
        type_modifier: -1,
        nullable: primary.is_none(),
        database_type: "int".into(),
        primary_key_place: primary,
        identity_place: identity,
        sent_as_text: false,
    }
}

fn shape(replica_identity: ReplicaIdentity) -> TableShape {
    TableShape {
        oid: 7,
        name: TableName::new("public", "seats"),
        replica_identity,
        row_filter: None,
        columns: vec![
            column("seat", 23, Some(1), None),
            column("hall", 23, Some(0), Some(0)),
            column("note", 25, None, None),
        ],
        primary_key_columns: 2,
        identity_columns: 1,
        partitioned: false,
    }
}

fn relation(of: &TableShape, flagged: &[&str]) -> Relation {
    Relation {
        oid: of.oid,
        schema: of.name.schema.clone(),
        name: of.name.table.clone(),
        replica_identity: of.replica_identity,
        columns: of
            .columns
            .iter()
            .map(|column| RelationColumn {
                identity: flagged.contains(&column.name.as_str()),
                name: column.name.clone(),
                type_oid: column.type_oid,
                type_modifier: column.type_modifier,
            })
            .collect(),
    }
}

fn types() -> BTreeMap<u32, PgType> {
    [23, 25, 3361]
        .into_iter()
        .map(|oid| (oid, PgType::built_in(oid)))
        .collect()
}

#[test]
fn catalogue_and_log_agree_on_fingerprint_and_key_order() {
    for (identity, flagged, key) in [
        (ReplicaIdentity::Default, vec!["seat", "hall"], vec![1, 0]),
        (ReplicaIdentity::Index, vec!["hall"], vec![1]),
        (ReplicaIdentity::Full, vec!["seat", "hall", "note"], vec![1, 0]),
    ] {
        let shape = shape(identity);
        let catalogued = shape.schema(&types(), &ValueForms::default()).unwrap();
        let (columns, log_key) = TableShape::of_relation(&relation(&shape, &flagged), Some(&shape));
        let logged = build(
            shape.oid,
            &shape.name,
            &columns,
            log_key,
            &types(),
            &ValueForms::default(),
        )
        .unwrap();
        assert_eq!(catalogued.key, key, "{identity:?}");
        assert_eq!(catalogued.fingerprint(), logged.fingerprint(), "{identity:?}");
    }
}

#[test]
fn the_log_decides_when_the_catalogue_is_ahead() {
    let then = shape(ReplicaIdentity::Default);
    let mut now = then.clone();
    now.columns[2].type_oid = 23;
    now.columns[1].primary_key_place = None;
    now.columns[0].primary_key_place = Some(0);
    now.primary_key_columns = 1;
    let (columns, key) = TableShape::of_relation(&relation(&then, &["seat", "hall"]), Some(&now));
    assert_eq!(columns[2].type_oid, 25, "the log's type");
    assert_eq!(key, [0, 1], "the log's key");
    let (columns, key) = TableShape::of_relation(&relation(&then, &["seat", "hall"]), None);
    assert_eq!((columns.len(), key), (3, vec![0, 1]), "a table that is gone by now");
}

#[test]
fn a_key_that_the_publication_cuts_is_no_key() {
    let mut cut = shape(ReplicaIdentity::Full);
    cut.columns.remove(0);
    assert_eq!(cut.key(), Vec::<usize>::new());
}

#[test]
fn a_type_that_is_not_carried_is_refused_by_table_and_column() {
    let mut odd = shape(ReplicaIdentity::Default);
    odd.columns[2].type_oid = 3361;
    odd.columns[2].database_type = "pg_ndistinct".into();
    let error = odd.schema(&types(), &ValueForms::default()).unwrap_err();
    assert_eq!(
        (error.kind(), error.scope()),
        (ErrorKind::UnsupportedValue, Scope::Table)
    );
    let text = error.to_string();
    assert!(
        text.contains("public.seats") && text.contains("\"note\"") && text.contains("pg_ndistinct"),
        "{text}"
    );
    odd.columns[2].type_oid = 4_000_000;
    assert!(
        odd.schema(&types(), &ValueForms::default())
            .unwrap_err()
            .to_string()
            .contains("no longer exists")
    );
}
