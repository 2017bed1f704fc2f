// SPDX-License-Identifier: Apache-2.0
//! Types made of others, and types as the server's text: golden bytes and what must be refused. The round trip against
//! a server's own text is in `tests/integration/round_trip.rs`.

use super::tests::{decode_with, hex, plain};
use super::*;

fn made(form: TypeForm) -> PgType {
    PgType {
        form,
        sql_name: "made".into(),
        ..PgType::built_in(70_000)
    }
}

fn array_of(item: PgType) -> PgType {
    made(TypeForm::Array {
        item: Box::new(item),
        delimiter: ',',
    })
}

fn decode(of: &PgType, bytes: &str) -> Result<String, &'static str> {
    let decoded = decode_with(&*plain(of, -1).unwrap().decoder, &hex(bytes));
    decoded.map_err(|error| error.reason)
}

fn text(of: &PgType, bytes: &str) -> String {
    decode_with(&*resolve_text(of).unwrap().decoder, &hex(bytes)).unwrap()
}

/// `'{1,NULL}'::int[]`
const ONE_AND_NULL: &str = "00000001 00000001 00000017  00000002 00000001  00000004 00000001  ffffffff";
/// `'{{1},{2}}'::int[]`
const TWO_DIMENSIONS: &str = "00000002 00000000 00000017  00000002 00000001 00000001 00000001 \
                              00000004 00000001 00000004 00000002";
/// `'[0:0]={1}'::int[]`
const FROM_ZERO: &str = "00000001 00000000 00000017  00000001 00000000  00000004 00000001";
const EMPTY: &str = "00000000 00000000 00000017";

#[test]
fn arrays_of_one_dimension_are_lists() {
    let of = array_of(PgType::built_in(23));
    let items = Arc::new(ValueType::Int32);
    assert_eq!(plain(&of, -1).unwrap().value_type, ValueType::List { items });
    assert_eq!(decode(&of, ONE_AND_NULL).unwrap(), "2[int 1, null]");
    assert_eq!(decode(&of, EMPTY).unwrap(), "0[]");
}

#[test]
fn what_a_list_cannot_hold_is_refused_and_fits_into_text() {
    let of = array_of(PgType::built_in(23));
    assert!(
        decode(&of, TWO_DIMENSIONS)
            .unwrap_err()
            .contains("more than one dimension")
    );
    assert!(
        decode(&of, FROM_ZERO)
            .unwrap_err()
            .contains("does not begin at index 1")
    );
    assert_eq!(text(&of, TWO_DIMENSIONS), "string {{1},{2}}");
    assert_eq!(text(&of, FROM_ZERO), "string [0:0]={1}");
    assert_eq!(text(&of, ONE_AND_NULL), "string {1,NULL}");
    assert_eq!(text(&of, EMPTY), "string {}");
}

#[test]
fn arrays_that_lie_about_their_length_or_type_are_refused() {
    let of = array_of(PgType::built_in(23));
    for (bytes, reason) in [
        (
            "00000001 00000000 00000017  7fffffff 00000001  00000004 00000001",
            "malformed",
        ),
        ("00000007 00000000 00000017", "malformed"),
        (
            "00000001 00000000 00000019  00000001 00000001  00000001 61",
            "another type",
        ),
        (&format!("{ONE_AND_NULL} 00"), "malformed"),
    ] {
        assert!(decode(&of, bytes).unwrap_err().contains(reason), "{bytes}");
    }
}

#[test]
fn vectors_of_the_catalogue_begin_at_zero() {
    let bytes = "00000001 00000000 00000015  00000002 00000000  00000002 0001  00000002 0002";
    assert_eq!(decode(&PgType::built_in(22), bytes).unwrap(), "2[int 1, int 2]");
    assert_eq!(text(&PgType::built_in(22), bytes), "string 1 2");
}

fn pair() -> PgType {
    let attribute = |name: &str, oid| Attribute {
        name: name.into(),
        of: PgType::built_in(oid),
        type_modifier: -1,
    };
    PgType {
        schema: "public".into(),
        name: "pair".into(),
        ..made(TypeForm::Composite {
            attributes: vec![attribute("no", 23), attribute("note", 25)],
        })
    }
}

#[test]
fn composites_are_records_and_older_ones_end_in_nulls() {
    let ValueType::Record(record) = plain(&pair(), -1).unwrap().value_type else {
        panic!("not a record");
    };
    assert_eq!((record.schema.as_str(), record.name.as_str()), ("public", "pair"));
    assert_eq!(record.fields[1].name, "note");
    let whole = "00000002  00000017 00000004 00000007  00000019 00000004 612c2022";
    assert_eq!(decode(&pair(), whole).unwrap(), "2[int 7, string a, \"]");
    assert_eq!(text(&pair(), whole), "string (7,\"a, \"\"\")");
    let older = "00000001  00000017 00000004 00000007";
    assert_eq!(decode(&pair(), older).unwrap(), "2[int 7, null]");
    assert_eq!(text(&pair(), older), "string (7,)");
    for altered in [
        "00000001  00000019 00000001 61",
        "00000003  00000017 ffffffff 00000019 ffffffff 00000019 ffffffff",
    ] {
        assert!(decode(&pair(), altered).unwrap_err().contains("altered"), "{altered}");
    }
}

#[test]
fn ranges_are_the_servers_text() {
    let range = made(TypeForm::Range {
        subtype: Box::new(PgType::built_in(23)),
    });
    assert_eq!(plain(&range, -1).unwrap().value_type, ValueType::String);
    assert_eq!(
        decode(&range, "02 00000004 00000001 00000004 00000003").unwrap(),
        "string [1,3)"
    );
    assert_eq!(decode(&range, "18").unwrap(), "string (,)");
    assert_eq!(decode(&range, "01").unwrap(), "string empty");
    assert!(decode(&range, "02 ffffffff 00000004 00000003").is_err());
    let multirange = made(TypeForm::Multirange {
        subtype: Box::new(PgType::built_in(23)),
    });
    let bytes = "00000002  00000011 02 00000004 00000001 00000004 00000003  00000009 12 00000004 00000005";
    assert_eq!(decode(&multirange, bytes).unwrap(), "string {[1,3),[5,)}");
}

#[test]
fn a_part_without_a_binary_form_is_refused_and_a_whole_one_is_text() {
    let without = PgType {
        sql_name: "isbn".into(),
        form: TypeForm::Base {
            extension: Some("isn".into()),
            binary: false,
        },
        ..PgType::built_in(70_001)
    };
    let carried = plain(&without, -1).unwrap();
    assert_eq!(carried.value_type, ValueType::String);
    assert_eq!(decode_with(&*carried.decoder, b"1-4").unwrap(), "string 1-4");
    let reason = plain(&array_of(without), -1).unwrap_err().reason;
    assert!(reason.contains("isbn") && reason.contains("no binary form"), "{reason}");
}

#[test]
fn a_part_that_is_not_carried_is_named() {
    let reason = plain(
        &array_of(PgType {
            sql_name: "odd".into(),
            ..PgType::built_in(9_999)
        }),
        -1,
    )
    .unwrap_err()
    .reason;
    assert!(reason.contains("odd"), "{reason}");
}

#[test]
fn users_choose_text_by_type_and_column_and_the_form_of_numerics() {
    let forms = ValueForms {
        numeric: NumericForm::String,
        as_text: vec!["interval".into(), "*[]".into(), "public.t.c*".into()],
    };
    let of = |sql_name: &str, oid| PgType {
        sql_name: sql_name.into(),
        ..PgType::built_in(oid)
    };
    for (of, is_text) in [
        (of("interval", 1186), true),
        (of("integer", 23), false),
        (of("numeric", 1700), true),
    ] {
        let carried = resolve(&of, -1, &forms).unwrap();
        assert_eq!(carried.value_type == ValueType::String, is_text, "{}", of.sql_name);
    }
    let list = PgType {
        sql_name: "integer[]".into(),
        ..array_of(PgType::built_in(23))
    };
    assert_eq!(resolve(&list, -1, &forms).unwrap().value_type, ValueType::String);
    let table = highwater_core::schema::TableName::new("public", "t");
    assert!(forms.column_as_text(&table, "c1") && !forms.column_as_text(&table, "d"));

    let nan = hex("0000 0000 c000 0000");
    let text = resolve(&PgType::built_in(1700), -1, &forms).unwrap();
    assert_eq!(decode_with(&*text.decoder, &nan).unwrap(), "string NaN");
    let double = ValueForms {
        numeric: NumericForm::Double,
        ..ValueForms::default()
    };
    let double = resolve(&PgType::built_in(1700), -1, &double).unwrap();
    assert_eq!(decode_with(&*double.decoder, &nan).unwrap(), "double NaN");
    let bytes = hex("0002 0000 4000 0001 0001 1388");
    assert_eq!(decode_with(&*double.decoder, &bytes).unwrap(), "double -1.5");
}

fn of_extension(extension: &str, name: &str) -> PgType {
    PgType {
        name: name.into(),
        ..made(TypeForm::Base {
            extension: Some(extension.into()),
            binary: true,
        })
    }
}

#[test]
fn vectors_of_pgvector_have_debeziums_forms() {
    let vector = of_extension("vector", "vector");
    assert_eq!(
        decode(&vector, "0002 0000 3dcccccd bf800000").unwrap(),
        "2[double 0.1, double -1]"
    );
    assert_eq!(text(&vector, "0002 0000 3dcccccd bf800000"), "string [0.1,-1]");
    let half = of_extension("vector", "halfvec");
    assert_eq!(
        decode(&half, "0004 0000 3c00 8001 fbff 0400").unwrap(),
        "4[float 1, float -0.000000059604645, float -65504, float 0.000061035156]"
    );
    // What pgvector 0.8.0 sends and shows.
    assert_eq!(
        text(&half, "0004 0000 3c00 83ef 7bff 868e"),
        "string [1,-6.0021877e-05,65504,-0.000100016594]"
    );
    assert_eq!(
        text(&vector, "0003 0000 3dcccccd bf800000 40200000"),
        "string [0.1,-1,2.5]"
    );
    let sparse = of_extension("vector", "sparsevec");
    let bytes = "00000005 00000002 00000000  00000000 00000002  3f800000 40200000";
    assert_eq!(
        decode(&sparse, bytes).unwrap(),
        "2[int 5, 2[int 1, double 1, int 3, double 2.5]]"
    );
    assert_eq!(text(&sparse, bytes), "string {1:1,3:2.5}/5");
    let wide = "00008000 00000001 00000000  00000000  3f800000";
    assert!(decode(&sparse, wide).unwrap_err().contains("32,767"));
    assert_eq!(text(&sparse, wide), "string {1:1}/32768");
    assert!(
        decode(&sparse, "00000001 00000001 00000000  00000001  3f800000").is_err(),
        "a place outside"
    );
}

#[test]
fn points_and_shapes_have_debeziums_forms() {
    let bytes = "3ff0000000000000 c000000000000000";
    assert_eq!(
        decode(&PgType::built_in(600), bytes).unwrap(),
        "4[double 1, double -2, bytes [01, 01, 00, 00, 00, 00, 00, 00, 00, 00, 00, f0, 3f, \
         00, 00, 00, 00, 00, 00, 00, c0], null]"
    );
    assert_eq!(text(&PgType::built_in(600), bytes), "string (1,-2)");
}

/// What PostGIS 3.5.2 on Postgres 17 sends of a shape, and the reference system in it.
const SHAPES: [(&str, &str, &str); 6] = [
    (
        "geometry",
        "0101000020e6100000000000000000f83f00000000000000c0",
        "int 4326",
    ),
    (
        "geometry",
        "0101000080000000000000f03f00000000000000400000000000000840",
        "null",
    ),
    (
        "geometry",
        "0103000020110f00000100000004000000000000000000000000000000000000000000000000000000\
         000000000000f03f000000000000f03f000000000000f03f00000000000000000000000000000000",
        "int 3857",
    ),
    (
        "geometry",
        "0107000000020000000101000000000000000000f03f0000000000000040\
         01020000000200000000000000000000000000000000000000000000000000f03f000000000000f03f",
        "null",
    ),
    (
        "geometry",
        "0101000020e6100000000000000000f87f000000000000f87f",
        "int 4326",
    ),
    (
        "geography",
        "0101000020e61000000000000000805bc00000000000003e40",
        "int 4326",
    ),
];

#[test]
fn shapes_of_postgis_keep_their_bytes_and_show_their_reference_system() {
    for (name, bytes, srid) in SHAPES {
        let of = of_extension("postgis", name);
        let expected = format!("2[bytes {:02x?}, {srid}]", hex(bytes));
        assert_eq!(decode(&of, bytes).unwrap(), expected, "{bytes}");
        let digits: String = bytes.split_whitespace().collect();
        assert_eq!(text(&of, bytes), format!("string {}", digits.to_uppercase()));
    }
    let shape = of_extension("postgis", "geometry");
    // Big-endian, as servers of such machines send it.
    let big = decode(&shape, "00 20000001 000010e6 3ff0000000000000 4000000000000000").unwrap();
    assert!(big.ends_with("], int 4326]"), "{big}");
    assert!(decode(&shape, "02 01000000").is_err() && decode(&shape, "01 010000").is_err());
}
