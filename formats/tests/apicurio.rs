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
use highwater_formats::registry::confluent::{ConfluentRegistry, ConfluentSettings, Credentials, Secret};
use highwater_formats::{Compatibility, Decoder, Encoder, EncoderSettings, Format, SchemaId, SchemaRegistry};
use highwater_testbed::certificates::{Authority, LOCAL_NAMES};
use highwater_testbed::{Gate, Registry};

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

#[tokio::test]
async fn a_registry_behind_tls_and_a_password_is_used_by_who_trusts_it_and_knows_the_password() {
    let server = Registry::shared().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let authority = |name: &str| {
        let (authority, path) = (Authority::new().unwrap(), folder.path().join(name));
        std::fs::write(&path, authority.ca_pem()).unwrap();
        (authority, path)
    };
    let ((own, ca), (_, stranger)) = (authority("own.pem"), authority("stranger.pem"));
    let gate = |names: Vec<&'static str>| {
        let identity = own.server(&names).unwrap();
        let port = server.port();
        async move { Gate::start(port, &identity, "user", "hunter2").await.unwrap() }
    };
    let (right, misnamed) = (gate(LOCAL_NAMES.to_vec()).await, gate(vec!["elsewhere.example"]).await);
    let client = |port: u16, ca: Option<&std::path::Path>, password: &str| {
        let mut settings = ConfluentSettings::new(format!("https://127.0.0.1:{port}/apis/ccompat/v7"));
        settings.ca_file = ca.map(Into::into);
        settings.credentials = Some(Credentials::Basic {
            user: "user".to_owned(),
            password: Secret::new(password),
        });
        ConfluentRegistry::new(&settings).unwrap()
    };

    let registry = client(right.port(), Some(&ca), "hunter2");
    let id = registry.register("tls-value", "\"int\"").await.unwrap();
    let again = client(right.port(), Some(&ca), "hunter2");
    assert_eq!(&*again.schema(id).await.unwrap(), "\"int\"");
    assert_eq!((right.passed(), right.refused()), (2, 0));

    let wrong = client(right.port(), Some(&ca), "hunter3").subjects().await.unwrap_err();
    assert_eq!((wrong.kind(), wrong.class()), (ErrorKind::Authentication, Class::User));
    assert!(wrong.fix().unwrap().contains("credentials"), "{wrong}");
    assert_eq!((right.passed(), right.refused()), (2, 1));

    // Neither a foreign authority, nor those of the system, nor a certificate for another name is good enough.
    for (port, ca) in [
        (right.port(), Some(stranger.as_path())),
        (right.port(), None),
        (misnamed.port(), Some(ca.as_path())),
    ] {
        let refused = client(port, ca, "hunter2").subjects().await.unwrap_err();
        assert_eq!(
            (refused.kind(), refused.class()),
            (ErrorKind::Authentication, Class::User),
            "{refused:?}"
        );
        let text = refused.to_string();
        assert!(
            text.contains(&format!("127.0.0.1:{port}")) && text.contains("certificate"),
            "{text}"
        );
        assert!(refused.fix().unwrap().contains("ca_file"), "{refused}");
        assert!(!format!("{refused:?}").contains("hunter2"));
    }
    assert_eq!(
        (right.passed(), misnamed.passed()),
        (2, 0),
        "a request left before trust was there"
    );
}
