// SPDX-License-Identifier: Apache-2.0
//! Decoders of values, against what the statements put into the rows.

use highwater_core::image::RowImage;
use highwater_core::value::{ColumnDecoder, TimeUnit, ValueError, ValueWriter};
use highwater_mysql::values::bits::{Bits, OneBit};
use highwater_mysql::values::decimal::Decimal;
use highwater_mysql::values::integer::{
    Bigint, Double, Float, Integer, UnsignedBigintDecimal, UnsignedBigintLong, Year,
};
use highwater_mysql::values::json::Json;
use highwater_mysql::values::labels::{Enum, Set};
use highwater_mysql::values::shape::{Geometry, Point};
use highwater_mysql::values::time::{Date, Datetime, Time, Timestamp};
use highwater_mysql::values::vector::Vector;

use crate::sample::{Shape, changes, shapes, value};

/// Writes a value as text that tells how it was written, those that others hold one after the other.
#[derive(Default)]
struct Written(String);

impl Written {
    fn note(&mut self, value: &str) {
        if !self.0.is_empty() && !self.0.ends_with('[') {
            self.0.push_str(", ");
        }
        self.0.push_str(value);
    }
}

impl ValueWriter for Written {
    fn null(&mut self) {
        self.note("null");
    }
    fn boolean(&mut self, value: bool) {
        self.note(&value.to_string());
    }
    fn int(&mut self, value: i32) {
        self.note(&format!("int {value}"));
    }
    fn long(&mut self, value: i64) {
        self.note(&format!("long {value}"));
    }
    fn float(&mut self, value: f32) {
        self.note(&format!("float {value}"));
    }
    fn double(&mut self, value: f64) {
        self.note(&format!("double {value}"));
    }
    fn string(&mut self, value: &str) {
        self.note(value);
    }
    fn bytes(&mut self, value: &[u8]) {
        self.note(&format!("{value:x?}"));
    }
    fn decimal(&mut self, unscaled: &[u8]) {
        self.note(&format!(
            "decimal {}",
            num_bigint::BigInt::from_signed_bytes_be(unscaled)
        ));
    }
    fn variable_scale_decimal(&mut self, _: i32, unscaled: &[u8]) {
        self.decimal(unscaled);
    }
    fn begin(&mut self, length: usize) {
        self.note(&format!("{length} of ["));
    }
    fn next(&mut self) {}
    fn end(&mut self) {
        self.0.push(']');
    }
}

fn decoded(decoder: &dyn ColumnDecoder, bytes: &[u8]) -> Result<String, ValueError> {
    let mut written = Written::default();
    decoder.decode(bytes, &mut written).map(|()| written.0)
}

struct Row<'a> {
    shape: &'a Shape,
    image: &'a RowImage,
}

impl Row<'_> {
    fn says(&self, column: &str, decoder: &dyn ColumnDecoder, expected: &str) {
        let bytes = value(self.image, self.shape.place(column));
        assert_eq!(decoded(decoder, bytes).as_deref(), Ok(expected), "{column}");
    }

    fn refuses(&self, column: &str, decoder: &dyn ColumnDecoder, part: &str) {
        let error = decoded(decoder, value(self.image, self.shape.place(column))).expect_err(column);
        assert!(error.reason.contains(part), "{column}: {}", error.reason);
    }
}

fn integer(bytes: usize, unsigned: bool) -> Integer {
    Integer { bytes, unsigned }
}

#[test]
fn numbers_are_what_was_inserted() {
    let shape = &shapes("mysql-9.7-types")["numbers"];
    let rows = changes("mysql-9.7-types", "numbers");
    let row = Row {
        shape,
        image: rows[0].after(),
    };
    row.says("i8", &integer(1, false), "int -128");
    row.says("u8", &integer(1, true), "int 255");
    row.says("i16", &integer(2, false), "int -32768");
    row.says("u16", &integer(2, true), "int 65535");
    row.says("i24", &integer(3, false), "int -8388608");
    row.says("u24", &integer(3, true), "int 16777215");
    row.says("i32", &integer(4, false), "int -2147483648");
    row.says("u32", &integer(4, true), "long 4294967295");
    row.says("i64", &Bigint, "long -9223372036854775808");
    row.says("u64", &UnsignedBigintDecimal, "decimal 18446744073709551615");
    row.refuses("u64", &UnsignedBigintLong, "above 63 bits");
    row.says("f", &Float, "float 1.5");
    row.says("d", &Double, "double -2.25");
    let n = Decimal {
        precision: 65,
        scale: 30,
    };
    row.says(
        "n",
        &n,
        "decimal -12345678901234567890123456789012345012345678901234567890123456789",
    );
    row.says("n2", &Decimal { precision: 5, scale: 2 }, "decimal 99999");
    row.says("b1", &OneBit, "true");
    row.says("b9", &Bits, "[55, 1]");
    row.says("b64", &Bits, "[1, 0, 0, 0, 0, 0, 0, 80]");
}

#[test]
fn small_numbers_are_what_was_inserted() {
    let shape = &shapes("mysql-9.7-types")["numbers"];
    let rows = changes("mysql-9.7-types", "numbers");
    let n = Decimal {
        precision: 65,
        scale: 30,
    };
    let row = Row {
        shape,
        image: rows[1].after(),
    };
    row.says("n", &n, "decimal 13500000000000000000000000000000");
    row.says("n2", &Decimal { precision: 5, scale: 2 }, "decimal 1425");
    row.says("u64", &UnsignedBigintLong, "long 10");
    row.says("i24", &integer(3, false), "int 5");
}

#[test]
fn times_are_what_was_inserted() {
    let shape = &shapes("mysql-9.7-types")["times"];
    let rows = changes("mysql-9.7-types", "times");
    let row = Row {
        shape,
        image: rows[0].after(),
    };
    let time = |fraction| Time { fraction };
    row.says("d", &Date, "int 20782");
    row.says("y", &Year, "int 2026");
    row.says("t", &time(0), "long -3020399000000");
    row.says("t1", &time(1), "long -100000");
    row.says("t3", &time(3), "long 45296789000");
    row.says("t6", &time(6), "long -45296000001");
    let datetime = |fraction, unit| Datetime { fraction, unit };
    row.says("dt", &datetime(0, TimeUnit::Millis), "long 1795629600000");
    row.says("dt2", &datetime(2, TimeUnit::Millis), "long 1795629600120");
    row.says("dt4", &datetime(4, TimeUnit::Micros), "long 1795629600123400");
    row.says("dt6", &datetime(6, TimeUnit::Micros), "long 253402300799999999");
    row.says("ts", &Timestamp { fraction: 0 }, "1970-01-01T00:00:01Z");
    row.says("ts3", &Timestamp { fraction: 3 }, "2026-11-25T18:00:00.123Z");
    row.says("ts6", &Timestamp { fraction: 6 }, "2038-01-19T03:14:07.499999Z");
}

#[test]
fn dates_that_are_none_are_refused_without_showing_them() {
    let shape = &shapes("mysql-9.7-types")["times"];
    let rows = changes("mysql-9.7-types", "times");
    let row = Row {
        shape,
        image: rows[1].after(),
    };
    row.refuses("d", &Date, "month or day 0");
    row.says("y", &Year, "int 0");
    row.says("t6", &Time { fraction: 6 }, "long 0");
    row.refuses(
        "dt",
        &Datetime {
            fraction: 0,
            unit: TimeUnit::Millis,
        },
        "month or day 0",
    );
    row.refuses(
        "dt4",
        &Datetime {
            fraction: 4,
            unit: TimeUnit::Micros,
        },
        "month or day 0",
    );
    row.refuses("ts", &Timestamp { fraction: 0 }, "0000-00-00");
}

#[test]
fn json_is_the_text_of_the_server() {
    let shape = &shapes("mysql-9.7-types")["shapes"];
    let rows = changes("mysql-9.7-types", "shapes");
    let first = Row {
        shape,
        image: rows[0].after(),
    };
    let text = r#"{"a": [1, true, null, 1.5, "text", 18446744073709551615, -40000, 70000], "d": {}}"#;
    first.says("j", &Json, text);
    let second = Row {
        shape,
        image: rows[1].after(),
    };
    let text = "{\"dt\": \"2026-11-25 01:02:03.000004\", \"bin\": \"base64:type15:AP8=\", \"dec\": 1.20, \
                \"date\": \"2026-11-25\", \"time\": \"-01:02:03.500000\"}";
    second.says("j", &Json, text);
    assert_eq!(
        decoded(&Json, text.as_bytes()).as_deref(),
        Ok(text),
        "the text of a query"
    );
    assert_eq!(decoded(&Json, &[]).as_deref(), Ok("null"));
}

#[test]
fn labels_are_those_of_the_column() {
    let shape = &shapes("mysql-9.7-types")["texts"];
    let rows = changes("mysql-9.7-types", "texts");
    let labels = |column: &str| {
        let labels = shape.columns.columns[shape.place(column)].metadata.labels.as_ref();
        let labels = labels
            .unwrap()
            .iter()
            .map(|label| String::from_utf8_lossy(label).into_owned());
        labels.collect()
    };
    let (of_enum, of_set) = (Enum { labels: labels("e") }, Set { labels: labels("st") });
    let row = Row {
        shape,
        image: rows[0].after(),
    };
    row.says("e", &of_enum, "bé");
    row.says("st", &of_set, "x,z");
    let row = Row {
        shape,
        image: rows[1].after(),
    };
    row.says("e", &of_enum, "");
    row.says("st", &of_set, "");
    assert_eq!(decoded(&of_enum, &[4]).unwrap_err().reason, "enum has no such label");
    assert_eq!(decoded(&of_set, &[8]).unwrap_err().reason, "set has no such label");
}

#[test]
fn shapes_and_vectors_are_what_was_inserted() {
    let shape = &shapes("mysql-9.7-types")["shapes"];
    let rows = changes("mysql-9.7-types", "shapes");
    let row = Row {
        shape,
        image: rows[0].after(),
    };
    let point = "[1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, f0, 3f, 0, 0, 0, 0, 0, 0, 0, 40]";
    row.says("p", &Point, &format!("4 of [double 1, double 2, {point}, null]"));
    row.says("p", &Geometry, &format!("2 of [{point}, null]"));
    row.refuses("l", &Point, "malformed");
    let collection = decoded(&Geometry, value(row.image, shape.place("gc"))).unwrap();
    assert!(collection.ends_with(", int 4326]"), "{collection}");
    row.says("v", &Vector, "3 of [float 1, float 2.5, float -3]");
    assert!(decoded(&Vector, &[0; 7]).is_err() && decoded(&Geometry, &[0; 8]).is_err());
}

#[test]
fn documents_that_are_cut_or_changed_never_panic() {
    let place = shapes("mysql-9.7-types")["shapes"].place("j");
    for changed in changes("mysql-9.7-types", "shapes") {
        let document = value(changed.after(), place);
        for at in 0..document.len() {
            assert!(at == 0 || decoded(&Json, &document[..at]).is_err(), "{at} bytes");
            for flip in 1..=255 {
                let mut bytes = document.to_vec();
                bytes[at] ^= flip;
                let _ = decoded(&Json, &bytes);
            }
        }
    }
}

#[test]
fn a_document_that_refers_to_itself_is_malformed() {
    // An array of one array, which is itself.
    let itself = [2, 1, 0, 7, 0, 2, 0, 0];
    assert_eq!(decoded(&Json, &itself).unwrap_err().reason, "json is malformed");
    // Each of 40 arrays has the next one twice.
    let mut doubling = vec![2];
    for level in 0..40u16 {
        let rest = 404 - level * 10;
        doubling.extend([2, 0]);
        doubling.extend(rest.to_le_bytes());
        doubling.extend([2, 10, 0, 2, 10, 0]);
    }
    doubling.extend([0, 0, 4, 0]);
    assert_eq!(decoded(&Json, &doubling).unwrap_err().reason, "json is malformed");
}

#[test]
fn values_of_any_length_are_errors_or_values() {
    let decoders: [&dyn ColumnDecoder; 13] = [
        &integer(3, false),
        &Bigint,
        &UnsignedBigintDecimal,
        &Float,
        &Double,
        &Year,
        &OneBit,
        &Bits,
        &Decimal {
            precision: 65,
            scale: 30,
        },
        &Date,
        &Time { fraction: 6 },
        &Datetime {
            fraction: 3,
            unit: TimeUnit::Millis,
        },
        &Timestamp { fraction: 2 },
    ];
    for decoder in decoders {
        for byte in [0, 1, 0x7f, 0x80, 0xff] {
            for length in 0..40 {
                let _ = decoded(decoder, &vec![byte; length]);
            }
        }
        assert!(decoded(decoder, &[0; 39]).is_err(), "{decoder:?}");
    }
}
