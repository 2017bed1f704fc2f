// SPDX-License-Identifier: Apache-2.0
//! The client, and what the encoder registers through it, against a real registry.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fixture;

use std::sync::Arc;

use fixture::{FakeSource, StoppedClock, change, column, record, table};
use highwater_core::change::Op;
use highwater_core::image::RowImage;
use highwater_core::transport::RecordBatch;
use highwater_core::value::ValueType;
use highwater_core::{Class, ErrorKind, Scope};
use highwater_formats::registry::confluent::{ConfluentRegistry, ConfluentSettings};
use highwater_formats::{Compatibility, Decoder, Encoder, EncoderSettings, Format, SchemaId, SchemaRegistry};
use highwater_testbed::Registry;

fn client(server: &Registry) -> Arc<ConfluentRegistry> {
    Arc::new(ConfluentRegistry::new(&ConfluentSettings::new(server.url())).unwrap())
}

fn encoder(server: &Registry) -> Encoder<u64> {
    let source = Arc::new(FakeSource::default());
    Encoder::new(
        EncoderSettings::new("shop"),
        source,
        client(server),
        Arc::new(StoppedClock),
    )
    .unwrap()
}

#[tokio::test]
async fn a_real_registry_takes_our_schemas_refuses_the_incompatible_and_is_found_again_after_a_crash() {
    const SUBJECT: &str = "shop.public.items-value";
    let server = Registry::start().await.unwrap();
    let registry = client(&server);
    assert_eq!(registry.latest(SUBJECT).await.unwrap(), None);

    // Register, and evolve compatibly.
    let id = || column("id", ValueType::Int64, false);
    let amount = column(
        "amount",
        ValueType::Decimal {
            precision: 12,
            scale: 2,
        },
        true,
    );
    let first = table("items", vec![id(), amount.clone()], &[0]);
    let wider = table(
        "items",
        vec![id(), amount, column("note", ValueType::String, true)],
        &[0],
    );
    let mut encoding = encoder(&server);
    encoding.prepare(&first).await.unwrap();
    let one = registry.latest(SUBJECT).await.unwrap().unwrap();
    encoding.prepare(&wider).await.unwrap();
    let two = registry.latest(SUBJECT).await.unwrap().unwrap();
    assert_ne!(one.id, two.id);
    assert_eq!(registry.subjects().await.unwrap(), ["shop.public.items-key", SUBJECT]);
    assert_eq!(
        registry.register(SUBJECT, &one.schema).await.unwrap(),
        one.id,
        "known schemas keep their id"
    );

    // The incompatible is refused, as asked before and as tried.
    let narrower = table("items", vec![id(), column("amount", ValueType::Boolean, true)], &[0]);
    let error = encoding.prepare(&narrower).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.class(), error.scope()),
        (ErrorKind::SchemaRejected, Class::User, Scope::Table)
    );
    assert!(error.message().contains(SUBJECT), "{error}");
    let check = registry.check_compatibility(SUBJECT, "\"int\"").await.unwrap();
    assert!(matches!(check, Compatibility::Incompatible { .. }));
    assert_eq!(
        registry.check_compatibility("unknown", "\"int\"").await.unwrap(),
        Compatibility::Compatible
    );
    assert_eq!(
        registry.schema(SchemaId(4_000_000)).await.unwrap_err().kind(),
        ErrorKind::NotFound
    );

    // A record is read by a client that never wrote.
    let row = RowImage::from_values(&[Some(1i64.to_be_bytes().to_vec()), Some(vec![0x27, 0x0f])]);
    let mut batch = RecordBatch::default();
    let _ = encoding
        .encode(&change(&first, Op::Create, None, Some(row)), &mut batch)
        .unwrap();
    let sent = record(batch.iter().next().unwrap());
    let event = Decoder::new(Format::Avro, client(&server)).decode(&sent).await.unwrap();
    assert_eq!(event.after().unwrap().to_string(), r#"{"id":1,"amount":"99.99"}"#);

    // Away: what is known goes on, what is new waits. Back: the same ids.
    server.kill9().await.unwrap();
    let mut restarted = encoder(&server);
    let error = restarted.prepare(&wider).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.class()),
        (ErrorKind::Unreachable, Class::Retryable)
    );
    assert_eq!(registry.register(SUBJECT, &one.schema).await.unwrap(), one.id);
    server.restart().await.unwrap();
    restarted.prepare(&wider).await.unwrap();
    let back = registry.latest(SUBJECT).await.unwrap().unwrap();
    assert_eq!((back.id, back.version), (two.id, two.version));
}
