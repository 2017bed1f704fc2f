// SPDX-License-Identifier: Apache-2.0
//! Clauses 1 and 2: partitions and offsets.

use highwater_core::transport::Offsets;

use super::Subject;
use super::batches::{earliest, new_topic, new_writer, read, values, write};

pub(super) async fn clause_1_a_key_goes_to_javas_partition_and_keyless_records_keep_their_order(subject: &dyn Subject) {
    // toPositive(murmur2(key)) of Kafka's own tests: -973932308, -790332482, -985981536, -1486304829, -58897971, 479470107.
    const HASHES: [(&str, i32); 6] = [
        ("21", -973_932_308),
        ("foobar", -790_332_482),
        ("a-little-bit-long-string", -985_981_536),
        ("a-little-bit-longer-string", -1_486_304_829),
        ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
        ("abc", 479_470_107),
    ];
    const PARTITIONS: u32 = 7;
    let transport = subject.open().await;
    let topic = new_topic(&*transport, PARTITIONS).await;
    let mut writer = new_writer(&*transport).await;
    let keyed = HASHES.map(|(key, _)| (Some(key), "keyed"));
    let keyless: Vec<String> = (0..50).map(|number| number.to_string()).collect();
    let keyless: Vec<(Option<&str>, &str)> = keyless.iter().map(|value| (None, value.as_str())).collect();
    write(&mut *writer, &topic, &keyed).await;
    for part in keyless.chunks(10) {
        write(&mut *writer, &topic, part).await;
    }

    let records = read(
        &mut *earliest(&*transport, &[&topic]).await,
        HASHES.len() + keyless.len(),
    )
    .await;
    for (key, hash) in HASHES {
        let record = records
            .iter()
            .find(|record| record.key.as_deref() == Some(key.as_bytes()))
            .unwrap();
        assert_eq!(
            record.partition,
            (hash as u32 & 0x7fff_ffff) % PARTITIONS,
            "partition of key {key:?}"
        );
    }
    let arrived: Vec<_> = records.iter().filter(|record| record.key.is_none()).cloned().collect();
    let expected: Vec<&str> = keyless.iter().map(|(_, value)| *value).collect();
    assert_eq!(values(&arrived), expected);
}

pub(super) async fn clause_2_offsets_ascend_and_a_reader_resumes_at_any_of_them(subject: &dyn Subject) {
    let transport = subject.open().await;
    let topic = new_topic(&*transport, 1).await;
    let mut writer = new_writer(&*transport).await;
    for part in [["a", "b", "c"], ["d", "e", "f"], ["g", "h", "i"]] {
        write(&mut *writer, &topic, &part.map(|value| (Some("key"), value))).await;
    }
    let mut reader = earliest(&*transport, &[&topic]).await;
    let records = read(&mut *reader, 9).await;
    assert!(records.windows(2).all(|pair| pair[0].offset < pair[1].offset));
    assert_eq!(values(&records), ["a", "b", "c", "d", "e", "f", "g", "h", "i"]);
    for (at, record) in records.iter().enumerate().rev() {
        reader
            .seek(&Offsets::from([((topic.clone(), 0), record.offset)]))
            .await
            .unwrap();
        assert_eq!(reader.position()[&(topic.clone(), 0)], record.offset);
        assert_eq!(read(&mut *reader, 9 - at).await, records[at..]);
    }
}
