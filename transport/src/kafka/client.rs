// SPDX-License-Identifier: Apache-2.0
//! A librdkafka client of our own. The calls that matter for speed and for telling errors apart (one produce call per record
//! from a borrowed buffer, a commit that does not poll in slices, batches of consumed records, the offset of a partition's
//! end) are made on the native handle; all such calls are in this file, `producer.rs` and `consumer.rs`.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use highwater_core::{Error, ErrorKind, Result};
use rdkafka::ClientConfig;
use rdkafka::bindings as native;
use rdkafka::error::KafkaError;
use rdkafka::types::{RDKafkaErrorCode as Code, RDKafkaRespErr, RDKafkaType};

use super::failure::Failure;

/// How long trouble with credentials or TLS outdoes other trouble with connections.
const REFUSAL_STAYS: Duration = Duration::from_secs(10);

/// What the client's callbacks note.
#[derive(Default)]
pub(super) struct Notes {
    trouble: Mutex<Option<(Failure, Instant)>>,
    /// Produce requests that were sent and not answered. One that failed unsent makes it too small, until it is set back.
    produce_requests: AtomicI32,
}

impl Notes {
    /// Trouble with credentials or TLS stays noted for a while: that no broker is left follows from it.
    pub(super) fn note(&self, failure: Failure) {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        let stays = |(noted, at): &(Failure, Instant)| is_refusal(noted) && at.elapsed() < REFUSAL_STAYS;
        if is_refusal(&failure) || !trouble.as_ref().is_some_and(stays) {
            *trouble = Some((failure, Instant::now()));
        }
    }

    /// How many produce requests are under way.
    pub(super) fn produce_requests(&self) -> i32 {
        self.produce_requests.load(Ordering::Relaxed)
    }

    /// None is under way, whatever was counted.
    pub(super) fn no_produce_requests(&self) {
        self.produce_requests.store(0, Ordering::Relaxed);
    }

    /// The last trouble with connections that was noted, and forgets it.
    pub(super) fn take(&self) -> Option<Failure> {
        let noted = self.trouble.lock().unwrap_or_else(PoisonError::into_inner).take();
        noted.map(|(failure, _)| failure)
    }
}

/// Whether the brokers and we do not accept each other, which no waiting mends.
fn is_refusal(failure: &Failure) -> bool {
    matches!(failure.code, Code::Authentication | Code::SSL)
}

/// Whether a broken connection was ended by the broker's objection to our part of TLS. Since version 1.3 it comes after
/// the handshake, for a client's certificate is looked at then, and librdkafka has no code for it; OpenSSL words it so.
fn is_tls_alert(reason: &str) -> bool {
    reason.contains("SSL alert number")
}

/// A client, destroyed when dropped, which may wait for its threads.
pub(super) struct Client {
    rk: *mut native::rd_kafka_t,
    notes: Arc<Notes>,
}

// SAFETY: librdkafka's handles may be used from any thread at the same time.
unsafe impl Send for Client {}
// SAFETY: as above.
unsafe impl Sync for Client {}

/// Text that C gave us.
///
/// # Safety
/// `text` is null or points to a string that ends in zero and lives for the call.
pub(super) unsafe fn text_of(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: as the caller promises.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().trim().to_owned()
}

unsafe extern "C" fn on_log(
    _rk: *const native::rd_kafka_t,
    level: c_int,
    facility: *const c_char,
    line: *const c_char,
) {
    // SAFETY: librdkafka passes strings that live for the call.
    let (facility, line) = unsafe { (text_of(facility), text_of(line)) };
    match level {
        0..=3 => tracing::warn!(target: "librdkafka", facility, "{line}"),
        4 if facility != "CONFWARN" => tracing::info!(target: "librdkafka", facility, "{line}"),
        _ => tracing::debug!(target: "librdkafka", facility, "{line}"),
    }
}

unsafe extern "C" fn on_error(_rk: *mut native::rd_kafka_t, code: c_int, reason: *const c_char, opaque: *mut c_void) {
    // SAFETY: the opaque is the client's Notes, which outlive its handle; the reason lives for the call.
    let (notes, text) = unsafe { (&*opaque.cast::<Notes>(), text_of(reason)) };
    let known = [
        Code::Authentication,
        Code::SSL,
        Code::Resolve,
        Code::AllBrokersDown,
        Code::BrokerTransportFailure,
    ];
    let code = known
        .into_iter()
        .find(|known| *known as c_int == code)
        .unwrap_or(Code::BrokerTransportFailure);
    let code = if is_tls_alert(&text) { Code::SSL } else { code };
    notes.note(Failure {
        text,
        ..Failure::of_code(code)
    });
}

/// What the produce request is called in Kafka's protocol.
const PRODUCE: i16 = 0;
const INTERCEPTOR: &CStr = c"highwater";

unsafe extern "C" fn on_new(
    rk: *mut native::rd_kafka_t,
    _conf: *const native::rd_kafka_conf_t,
    opaque: *mut c_void,
    _why: *mut c_char,
    _why_len: usize,
) -> RDKafkaRespErr {
    // SAFETY: the handle is being made, which is when interceptors may be added; name and opaque outlive it.
    unsafe {
        native::rd_kafka_interceptor_add_on_request_sent(rk, INTERCEPTOR.as_ptr(), Some(on_request_sent), opaque);
        native::rd_kafka_interceptor_add_on_response_received(rk, INTERCEPTOR.as_ptr(), Some(on_response), opaque)
    }
}

unsafe extern "C" fn on_request_sent(
    _rk: *mut native::rd_kafka_t,
    _socket: c_int,
    _broker: *const c_char,
    _broker_id: i32,
    api: i16,
    _version: i16,
    _correlation: i32,
    _size: usize,
    opaque: *mut c_void,
) -> RDKafkaRespErr {
    count_request(api, 1, opaque)
}

unsafe extern "C" fn on_response(
    _rk: *mut native::rd_kafka_t,
    _socket: c_int,
    _broker: *const c_char,
    _broker_id: i32,
    api: i16,
    _version: i16,
    _correlation: i32,
    _size: usize,
    _round_trip: i64,
    _error: RDKafkaRespErr,
    opaque: *mut c_void,
) -> RDKafkaRespErr {
    count_request(api, -1, opaque)
}

fn count_request(api: i16, change: i32, opaque: *mut c_void) -> RDKafkaRespErr {
    if api == PRODUCE {
        // SAFETY: the opaque is the client's Notes, which outlive its handle.
        let notes = unsafe { &*opaque.cast::<Notes>() };
        notes.produce_requests.fetch_add(change, Ordering::Relaxed);
    }
    RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR
}

fn unusable(error: &KafkaError) -> Error {
    let text = match error {
        KafkaError::ClientConfig(_, why, option, _) => format!("option \"{option}\" of kafka: {why}"),
        other => other.to_string(),
    };
    Error::new(
        ErrorKind::Configuration,
        "the settings of the kafka transport cannot be used",
    )
    .with("cause", text)
    .with_fix("correct what the cause names; options under \"extra\" are those of librdkafka")
}

impl Client {
    /// A client with this configuration. `events` are those that its main queue gets instead of callbacks.
    pub(super) fn new(config: &ClientConfig, kind: RDKafkaType, events: c_int) -> Result<Client> {
        let made = config.create_native_config().map_err(|error| unusable(&error))?;
        let notes = Arc::new(Notes::default());
        let made = std::mem::ManuallyDrop::new(made);
        let mut why = [0 as c_char; 512];
        // SAFETY: the configuration is valid and rd_kafka_new takes it over where it succeeds; the opaque outlives the
        // client, which is destroyed before the notes go (see Drop).
        let rk = unsafe {
            let opaque = Arc::as_ptr(&notes).cast_mut().cast();
            native::rd_kafka_conf_set_opaque(made.ptr(), opaque);
            native::rd_kafka_conf_interceptor_add_on_new(made.ptr(), INTERCEPTOR.as_ptr(), Some(on_new), opaque);
            native::rd_kafka_conf_set_log_cb(made.ptr(), Some(on_log));
            native::rd_kafka_conf_set_error_cb(made.ptr(), Some(on_error));
            native::rd_kafka_conf_set_events(made.ptr(), events);
            native::rd_kafka_new(kind, made.ptr(), why.as_mut_ptr(), why.len())
        };
        if rk.is_null() {
            drop(std::mem::ManuallyDrop::into_inner(made));
            // SAFETY: rd_kafka_new wrote a string that ends in zero.
            let why = unsafe { text_of(why.as_ptr()) };
            return Err(unusable(&KafkaError::ClientCreation(why)));
        }
        Ok(Client { rk, notes })
    }

    pub(super) fn ptr(&self) -> *mut native::rd_kafka_t {
        self.rk
    }

    pub(super) fn notes(&self) -> &Notes {
        &self.notes
    }

    /// Serves callbacks that wait.
    pub(super) fn poll(&self) {
        // SAFETY: the handle is valid.
        unsafe { native::rd_kafka_poll(self.rk, 0) };
    }

    /// What a timed-out call was really about: trouble with credentials or TLS shows only beside it.
    pub(super) fn explained(&self, failure: Failure) -> Failure {
        match self.notes.take() {
            Some(noted) if !failure.is_fatal && is_refusal(&noted) => noted,
            Some(noted) if failure.code == Code::OperationTimedOut => Failure {
                text: format!("{}; {}", failure.text, noted.text),
                ..failure
            },
            _ => failure,
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // SAFETY: nobody else has the handle any more.
        unsafe { native::rd_kafka_destroy(self.rk) };
    }
}

/// Whether a call's plain code says success.
pub(super) fn checked(code: RDKafkaRespErr) -> Result<(), Failure> {
    match Code::from(code) {
        Code::NoError => Ok(()),
        code => Err(Failure::of_code(code)),
    }
}

/// What a call's error object says, which is freed.
///
/// # Safety
/// `error` is null or an error object that the caller owns.
pub(super) unsafe fn checked_error(error: *mut native::rd_kafka_error_t) -> Result<(), Failure> {
    if error.is_null() {
        return Ok(());
    }
    // SAFETY: the object is ours until it is destroyed, once, at the end.
    unsafe {
        let failure = Failure {
            code: Code::from(native::rd_kafka_error_code(error)),
            text: text_of(native::rd_kafka_error_string(error)),
            is_fatal: native::rd_kafka_error_is_fatal(error) != 0,
            requires_abort: native::rd_kafka_error_txn_requires_abort(error) != 0,
            is_retriable: native::rd_kafka_error_is_retriable(error) != 0,
        };
        native::rd_kafka_error_destroy(error);
        Err(failure)
    }
}
