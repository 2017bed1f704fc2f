// SPDX-License-Identifier: Apache-2.0
//! The text of chunk SELECTs.

use super::*;
use crate::protocol::pgoutput::ReplicaIdentity;
use crate::values::{PgType, ValueForms};
use highwater_core::schema::TableName;

fn shape(row_filter: Option<&str>) -> (TableShape, Arc<TableSchema>) {
    let column = |name: &str, type_oid, place| ShapeColumn {
        name: name.into(),
        type_oid,
        type_modifier: -1,
        nullable: false,
        database_type: "text".into(),
        primary_key_place: place,
        identity_place: None,
        sent_as_text: false,
    };
    let shape = TableShape {
        oid: 7,
        name: TableName::new("public", "se\"ats"),
        replica_identity: ReplicaIdentity::Default,
        row_filter: row_filter.map(str::to_owned),
        columns: vec![
            column("no", 23, Some(1)),
            column("hall", 25, Some(0)),
            column("note", 25, None),
        ],
        primary_key_columns: 2,
        identity_columns: 0,
        partitioned: false,
    };
    let types = [23, 25].map(|oid| (oid, PgType::built_in(oid)));
    let schema = shape
        .schema(&types.into_iter().collect(), &ValueForms::default())
        .unwrap();
    (shape, schema)
}

fn key(hall: &str, no: i32) -> Key {
    Key::from_columns(&[Some(hall.as_bytes().to_vec()), Some(no.to_be_bytes().to_vec())])
}

#[test]
fn a_range_goes_by_the_order_of_the_key_and_filters_what_the_log_filters() {
    let (shape, schema) = shape(Some("no > 5 -- five"));
    let scope = ChunkScope::Range {
        after: Some(key("a", 1)),
        through: Some(key("b", 2)),
        condition: Some("note <> ''".into()),
    };
    let selects = of_scope(&shape, &schema, &scope, 100).unwrap();
    let [select] = selects.as_slice() else {
        panic!("not one statement")
    };
    assert_eq!(
        select.sql,
        "SELECT \"no\",\"hall\",\"note\" FROM ONLY \"public\".\"se\"\"ats\" WHERE (\"hall\",\"no\") > ($1,$2) AND \
         (\"hall\",\"no\") <= ($3,$4) AND (\nnote <> ''\n) AND (\nno > 5 -- five\n) ORDER BY \"hall\",\"no\" LIMIT 100"
    );
    let types: Vec<u32> = select.parameters.iter().map(|(oid, _)| *oid).collect();
    assert_eq!(types, [25, 23, 25, 23]);
    assert_eq!(select.parameters[1].1, 1_i32.to_be_bytes());
}

#[test]
fn a_table_is_read_from_its_beginning() {
    let (shape, schema) = shape(None);
    let scope = ChunkScope::Range {
        after: None,
        through: None,
        condition: None,
    };
    let selects = of_scope(&shape, &schema, &scope, 9).unwrap();
    assert!(
        selects[0]
            .sql
            .ends_with("\"se\"\"ats\" ORDER BY \"hall\",\"no\" LIMIT 9"),
        "{}",
        selects[0].sql
    );
}

#[test]
fn long_lists_of_keys_take_several_statements() {
    let (shape, schema) = shape(None);
    let keys = (0..1_100).map(|number| key("a", number)).collect();
    let selects = of_scope(&shape, &schema, &ChunkScope::Keys(keys), 10).unwrap();
    assert_eq!(
        selects.iter().map(|select| select.parameters.len()).collect::<Vec<_>>(),
        [1_000, 1_000, 200]
    );
    assert!(
        selects[2].sql.contains("(\"hall\",\"no\") IN (($1,$2),($3,$4)"),
        "{}",
        selects[2].sql
    );
}

#[test]
fn a_key_of_another_shape_is_refused() {
    let (shape, schema) = shape(None);
    let one = Key::from_columns(&[Some(b"a")]);
    let null = Key::from_columns(&[Some(b"a".to_vec()), None]);
    for key in [one, null, Key::from_bytes(vec![1, 2].into())] {
        assert!(of_scope(&shape, &schema, &ChunkScope::Keys(vec![key]), 1).is_err());
    }
}

#[test]
fn a_type_without_a_binary_form_goes_as_text_both_ways() {
    let (mut shape, schema) = shape(None);
    shape.columns[1].sent_as_text = true;
    shape.columns[1].database_type = "isbn".into();
    let scope = ChunkScope::Range {
        after: Some(key("a", 1)),
        through: None,
        condition: None,
    };
    let selects = of_scope(&shape, &schema, &scope, 10).unwrap();
    assert_eq!(
        selects[0].sql,
        "SELECT \"no\",CAST(\"hall\" AS text) AS \"text of {column}\",\"note\" FROM ONLY \"public\".\"se\"\"ats\" \
         WHERE (\"hall\",\"no\") > (CAST($1 AS isbn),$2) ORDER BY \"hall\",\"no\" LIMIT 10"
    );
    assert_eq!(selects[0].parameters[0], (TEXT_OID, b"a".to_vec()));
}
