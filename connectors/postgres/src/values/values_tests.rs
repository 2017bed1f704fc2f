// SPDX-License-Identifier: Apache-2.0
//! Golden bytes of every carried type (as `SELECT encode(typesend(value), 'hex')` prints them on a server), and property
//! tests of the decoders.

use super::*;
use highwater_core::value::{ValueError, ValueWriter};
use proptest::prelude::*;

/// What a decoder wrote, as text: values that hold others in brackets.
#[derive(Default)]
pub(super) struct Written {
    text: String,
    open: usize,
    values: usize,
}

impl Written {
    fn value(&mut self, value: std::fmt::Arguments<'_>) {
        self.text.push_str(&value.to_string());
        self.values += usize::from(self.open == 0);
    }
}

impl ValueWriter for Written {
    fn null(&mut self) {
        self.value(format_args!("null"));
    }
    fn boolean(&mut self, value: bool) {
        self.value(format_args!("boolean {value}"));
    }
    fn int(&mut self, value: i32) {
        self.value(format_args!("int {value}"));
    }
    fn long(&mut self, value: i64) {
        self.value(format_args!("long {value}"));
    }
    fn float(&mut self, value: f32) {
        self.value(format_args!("float {value}"));
    }
    fn double(&mut self, value: f64) {
        self.value(format_args!("double {value}"));
    }
    fn string(&mut self, value: &str) {
        self.value(format_args!("string {value}"));
    }
    fn bytes(&mut self, value: &[u8]) {
        self.value(format_args!("bytes {value:02x?}"));
    }
    fn decimal(&mut self, unscaled: &[u8]) {
        assert!(!unscaled.is_empty());
        self.value(format_args!("decimal {}", twos_complement(unscaled)));
    }
    fn variable_scale_decimal(&mut self, scale: i32, unscaled: &[u8]) {
        self.value(format_args!("decimal {} scale {scale}", twos_complement(unscaled)));
    }
    fn begin(&mut self, length: usize) {
        self.text.push_str(&format!("{length}["));
        self.open += 1;
    }
    fn next(&mut self) {
        if !self.text.ends_with('[') {
            self.text.push_str(", ");
        }
    }
    fn end(&mut self) {
        self.open -= 1;
        self.value(format_args!("]"));
    }
}

/// Numbers of up to 128 bits in decimal, longer ones as hexadecimal digits.
fn twos_complement(bytes: &[u8]) -> String {
    if bytes.len() > 16 {
        return bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    }
    let sign = if bytes[0] >= 0x80 { -1_i128 } else { 0 };
    bytes
        .iter()
        .fold(sign, |value, byte| value << 8 | i128::from(*byte))
        .to_string()
}

pub(super) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn base(oid: u32) -> PgType {
    PgType::built_in(oid)
}

pub(super) fn plain(of: &PgType, type_modifier: i32) -> Result<Carried, Refused> {
    resolve(of, type_modifier, &ValueForms::default())
}

pub(super) fn decode_with(decoder: &dyn ColumnDecoder, bytes: &[u8]) -> Result<String, ValueError> {
    let mut out = Written::default();
    let result = decoder.decode(bytes, &mut out);
    let values = out.values;
    result
        .inspect(|()| assert_eq!(values, 1, "exactly one value on success"))
        .inspect_err(|_| assert_eq!(values, 0, "no value on failure"))
        .map(|()| out.text)
}

fn decode(oid: u32, type_modifier: i32, bytes: &str) -> Result<String, ValueError> {
    decode_with(&*plain(&base(oid), type_modifier).unwrap().decoder, &hex(bytes))
}

fn check(oid: u32, type_modifier: i32, cases: &[(&str, &str)]) {
    for (bytes, expected) in cases {
        assert_eq!(
            decode(oid, type_modifier, bytes).as_deref(),
            Ok(*expected),
            "{oid} {bytes}"
        );
    }
}

#[test]
fn truth_values_and_numbers_of_fixed_size() {
    check(16, -1, &[("01", "boolean true"), ("00", "boolean false")]);
    check(21, -1, &[("8000", "int -32768"), ("7fff", "int 32767")]);
    check(23, -1, &[("80000000", "int -2147483648"), ("00000007", "int 7")]);
    check(20, -1, &[("8000000000000000", "long -9223372036854775808")]);
    check(26, -1, &[("ffffffff", "long 4294967295")]);
    check(700, -1, &[("3fc00000", "float 1.5"), ("7fc00000", "float NaN")]);
    check(
        701,
        -1,
        &[("bff8000000000000", "double -1.5"), ("7ff0000000000000", "double inf")],
    );
    check(
        790,
        -1,
        &[
            ("ffffffffffffff85", "decimal -123"),
            ("0000000000003039", "decimal 12345"),
        ],
    );
}

#[test]
fn a_value_of_the_wrong_length_is_refused() {
    for oid in [
        16, 20, 21, 23, 26, 700, 701, 774, 829, 790, 1082, 1083, 1114, 1184, 1186, 1266, 1700, 2950, 650, 1562,
    ] {
        let decoder = plain(&base(oid), -1).unwrap().decoder;
        assert!(decode_with(&*decoder, &[]).is_err(), "{oid} empty");
        assert!(decode_with(&*decoder, &[1; 33]).is_err(), "{oid} too long");
    }
}

#[test]
fn texts_and_their_versions() {
    check(25, -1, &[("", "string "), ("c3a9", "string é")]);
    check(1042, 8, &[("6120 2020", "string a   ")]);
    check(3802, -1, &[("01 7b7d", "string {}")]);
    check(18, -1, &[("61", "string a"), ("00", "string "), ("ff", "string \\377")]);
    check(17, -1, &[("00ff", "bytes [00, ff]")]);
    assert!(decode(25, -1, "ff").is_err(), "not UTF-8");
    assert!(decode(3802, -1, "02 7b7d").is_err(), "unknown version");
}

#[test]
fn numerics_take_the_scale_of_their_column() {
    // numeric(12,2): 0, 1.5, -1234567.89, 10000, 0.01
    let two = (12 << 16 | 2) + 4;
    check(
        1700,
        two,
        &[
            ("0000 0000 0000 0002", "decimal 0"),
            ("0002 0000 0000 0002 0001 1388", "decimal 150"),
            ("0003 0001 4000 0002 007b 11d7 22c4", "decimal -123456789"),
            ("0001 0001 0000 0002 0001", "decimal 1000000"),
            ("0001 ffff 0000 0002 0064", "decimal 1"),
        ],
    );
    assert_eq!(
        plain(&base(1700), two).unwrap().value_type,
        ValueType::Decimal {
            precision: 12,
            scale: 2
        }
    );
}

#[test]
fn numerics_without_a_scale_bring_their_own() {
    check(
        1700,
        -1,
        &[
            ("0002 0000 0000 0001 0001 1388", "decimal 15 scale 1"),
            ("0000 0000 0000 0003", "decimal 0 scale 3"),
            ("0001 0002 0000 0000 0001", "decimal 100000000 scale 0"),
        ],
    );
}

#[test]
fn long_numerics_take_the_exact_way() {
    // 10^40 = 1 followed by ten groups of zeros.
    assert_eq!(
        decode(1700, -1, "0001 000a 0000 0000 0001").unwrap(),
        "decimal 1d6329f1c35ca4bfabb9f5610000000000 scale 0"
    );
    // -(10^40), as ~(10^40 - 1)
    assert_eq!(
        decode(1700, -1, "0001 000a 4000 0000 0001").unwrap(),
        "decimal e29cd60e3ca35b4054460a9f0000000000 scale 0"
    );
    // 38 digits stay in 128 bits.
    let digits = "270f".repeat(9);
    let expected = format!("decimal {} scale 0", "9999".repeat(9));
    assert_eq!(
        decode(1700, -1, &format!("0009 0008 0000 0000 {digits}")).unwrap(),
        expected
    );
}

#[test]
fn numerics_without_a_decimal_form_are_refused() {
    for (bytes, word) in [
        ("0000 0000 c000 0000", "NaN"),
        ("0000 0000 d000 0000", "infinity"),
        ("0000 0000 f000 0000", "infinity"),
        ("0001 0000 1234 0000 0001", "malformed"),
        ("0001 0000 0000 0000 2710", "malformed"),
    ] {
        assert!(decode(1700, -1, bytes).unwrap_err().reason.contains(word), "{bytes}");
    }
    let whole = (12 << 16) + 4;
    assert!(
        decode(1700, whole, "0002 0000 0000 0001 0001 1388")
            .unwrap_err()
            .reason
            .contains("scale")
    );
}

#[test]
fn scales_beyond_the_usual_are_widened_and_not_lost() {
    let negative = ((3 << 16) | (0x7FF & -2_i32)) + 4;
    assert_eq!(
        plain(&base(1700), negative).unwrap().value_type,
        ValueType::Decimal { precision: 5, scale: 0 }
    );
    let tiny = (2 << 16 | 5) + 4;
    assert_eq!(
        plain(&base(1700), tiny).unwrap().value_type,
        ValueType::Decimal { precision: 5, scale: 5 }
    );
}

#[test]
fn dates_and_times_count_from_1970() {
    check(
        1082,
        -1,
        &[
            ("00000000", "int 10957"),
            ("ffffd533", "int 0"),
            ("7fffffff", "int 2146033979"),
            ("80000000", "int -2147472692"),
        ],
    );
    // 12:34:56.789012
    check(
        1083,
        -1,
        &[
            ("0000000a8be62614", "long 45296789012"),
            ("000000141dd76000", "long 86400000000"),
        ],
    );
    check(1083, 3, &[("0000000a8be3a180", "int 45296624")]);
    assert!(decode(1083, -1, "ffffffffffffffff").is_err());
    check(
        1114,
        -1,
        &[
            ("0000000000000000", "long 946684800000000"),
            ("fffca2fdee347bff", "long -3600000001"),
            ("7fffffffffffffff", "long 9223372036825200000"),
            ("8000000000000000", "long -9223372036832400000"),
        ],
    );
    check(1114, 3, &[("fffca2fdee347bff", "long -3600001")]);
}

#[test]
fn zoned_times_are_iso_8601_in_gmt() {
    check(
        1184,
        -1,
        &[
            ("0000000000000000", "string 2000-01-01T00:00:00Z"),
            ("00000000000003e8", "string 2000-01-01T00:00:00.001Z"),
            ("0000000000000001", "string 2000-01-01T00:00:00.000001Z"),
            ("ffffffffffffffff", "string 1999-12-31T23:59:59.999999Z"),
            ("7fffffffffffffff", "string +292278994-08-16T23:00:00Z"),
            ("8000000000000000", "string -292275055-05-16T23:00:00Z"),
        ],
    );
    // 10:15:30.5+02 has a zone of -7200 seconds; 23:30-01 passes midnight.
    check(
        1266,
        -1,
        &[
            ("00000008993ab5a0 ffffe3e0", "string 08:15:30.5Z"),
            ("00000013b28d8e00 00000e10", "string 00:30:00Z"),
        ],
    );
}

#[test]
fn intervals_are_microseconds_with_average_months() {
    check(
        1186,
        -1,
        &[
            ("0000000000000001 00000001 00000000", "long 86400000001"),
            ("0000000000000000 00000000 00000001", "long 2629800000000"),
            ("0000000000000000 00000000 ffffffff", "long -2629800000000"),
            ("7fffffffffffffff 7fffffff 7fffffff", "long 9223372036854775807"),
        ],
    );
    assert!(decode(1186, -1, "7fffffffffffffff 00000001 00000000").is_err());
}

#[test]
fn bit_strings_are_turned_round() {
    check(
        1560,
        1,
        &[("00000001 80", "boolean true"), ("00000001 00", "boolean false")],
    );
    // B'1010101011' is 0x2AB.
    check(1560, 10, &[("0000000a aac0", "bytes [ab, 02]")]);
    check(
        1562,
        -1,
        &[("00000000", "bytes []"), ("00000010 0102", "bytes [02, 01]")],
    );
    assert!(decode(1562, -1, "00000009 ff").is_err());
    assert_eq!(
        plain(&base(1560), 10).unwrap().value_type,
        ValueType::Bits { length: Some(10) }
    );
    assert_eq!(
        plain(&base(1562), -1).unwrap().value_type,
        ValueType::Bits { length: None }
    );
}

#[test]
fn network_addresses_read_as_the_server_shows_them() {
    check(
        869,
        -1,
        &[
            ("02 20 00 04 c0a80001", "string 192.168.0.1"),
            ("02 18 00 04 c0a80001", "string 192.168.0.1/24"),
            ("03 80 00 10 00000000000000000000000000000001", "string ::1"),
            ("03 80 00 10 00000000000000000000ffff01020304", "string ::ffff:1.2.3.4"),
            ("03 80 00 10 00000000000000000000000001020304", "string ::1.2.3.4"),
            (
                "03 40 00 10 20010db8000000000001000000000000",
                "string 2001:db8:0:0:1::/64",
            ),
        ],
    );
    check(650, -1, &[("02 20 01 04 0a000001", "string 10.0.0.1/32")]);
    check(829, -1, &[("08002b010203", "string 08:00:2b:01:02:03")]);
    check(774, -1, &[("08002b0102030405", "string 08:00:2b:01:02:03:04:05")]);
    assert!(decode(869, -1, "02 21 00 04 c0a80001").is_err());
}

#[test]
fn uuids_have_their_hyphens() {
    check(
        2950,
        -1,
        &[(
            "a0eebc999c0b4ef8bb6d6bb9bd380a11",
            "string a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
        )],
    );
}

#[test]
fn enums_domains_and_extensions_are_carried_by_what_they_are() {
    let labels: Arc<[String]> = Arc::from(["sad".to_owned(), "happy".to_owned()]);
    let mood = PgType {
        form: TypeForm::Enum { labels: labels.clone() },
        ..base(70_000)
    };
    assert_eq!(
        plain(&mood, -1).unwrap().value_type,
        ValueType::Enum { allowed: labels }
    );

    let price = TypeForm::Domain {
        base: Box::new(base(1700)),
        type_modifier: (9 << 16 | 3) + 4,
    };
    let price = PgType {
        form: price,
        ..base(70_001)
    };
    assert_eq!(
        plain(&price, -1).unwrap().value_type,
        ValueType::Decimal { precision: 9, scale: 3 }
    );

    let extension = |extension: &str, name: &str| {
        let form = TypeForm::Base {
            extension: Some(extension.into()),
            binary: true,
        };
        plain(
            &PgType {
                name: name.into(),
                form,
                ..base(70_002)
            },
            -1,
        )
    };
    assert_eq!(extension("citext", "citext").unwrap().value_type, ValueType::String);
    let hstore = extension("hstore", "hstore").unwrap();
    let bytes = hex("00000002 00000001 61 00000003 22785c 00000001 62 ffffffff");
    assert_eq!(
        decode_with(&*hstore.decoder, &bytes).unwrap(),
        "string {\"a\":\"\\\"x\\\\\",\"b\":null}"
    );
    assert!(extension("h3", "h3index").unwrap_err().reason.contains("h3"));
}

#[test]
fn what_is_not_known_is_refused_by_name() {
    assert!(plain(&base(9_999), -1).unwrap_err().reason.contains("not known"));
    assert!(plain(&base(3361), -1).unwrap_err().reason.contains("internal"));
}

proptest! {
    #[test]
    fn no_decoder_panics_and_each_keeps_its_contract(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        crate::fuzzing::values(&bytes);
    }

    #[test]
    fn numerics_of_any_size_agree_with_integers(unscaled in any::<i64>(), scale in 0_u32..12) {
        // Written as the server writes it: groups of four digits on both sides of the point.
        let magnitude = i128::from(unscaled).unsigned_abs();
        let pad = (4 - scale % 4) % 4;
        let mut digits = magnitude * 10_u128.pow(pad);
        let mut groups = Vec::new();
        while digits > 0 {
            groups.push((digits % 10_000) as u16);
            digits /= 10_000;
        }
        groups.reverse();
        let weight = groups.len() as i16 - 1 - (scale + pad) as i16 / 4;
        let sign: u16 = if unscaled < 0 { 0x4000 } else { 0 };
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&(groups.len() as u16).to_be_bytes());
        bytes.extend_from_slice(&weight.to_be_bytes());
        bytes.extend_from_slice(&sign.to_be_bytes());
        bytes.extend_from_slice(&(scale as u16).to_be_bytes());
        for group in &groups {
            bytes.extend_from_slice(&group.to_be_bytes());
        }
        let fixed = decode_with(&numeric::Decimal { scale }, &bytes);
        prop_assert_eq!(fixed.unwrap(), format!("decimal {unscaled}"));
        // The same number at a scale so large that it takes the long way.
        let long = decode_with(&numeric::Decimal { scale: scale + 30 }, &bytes).unwrap();
        if unscaled != 0 && magnitude.ilog10() + 31 > 38 {
            prop_assert!(long.len() > "decimal ".len());
        }
    }

    #[test]
    fn timestamps_agree_with_a_walk_over_the_calendar(days in -800_000_i64..3_000_000, micros in 0_i64..86_400_000_000) {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&(days * 86_400_000_000 + micros).to_be_bytes());
        let text = decode_with(&time::TimestampTz, &bytes).unwrap();
        let date = text.trim_start_matches("string ").split('T').next().unwrap().trim_start_matches('+').to_owned();
        prop_assert_eq!(walked_date(days), date);
    }
}

/// The date `days` after 2000-01-01 by counting years and months, slowly and plainly.
fn walked_date(mut days: i64) -> String {
    let leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let mut year = 2000 + days.div_euclid(146_097) * 400;
    days = days.rem_euclid(146_097);
    while days >= 365 + i64::from(leap(year)) {
        days -= 365 + i64::from(leap(year));
        year += 1;
    }
    let mut month = 1;
    for length in [31, 28 + i64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    let sign = if year < 0 { "-" } else { "" };
    format!("{sign}{:04}-{month:02}-{:02}", year.abs(), days + 1)
}
