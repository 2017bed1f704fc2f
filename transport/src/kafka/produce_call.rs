// SPDX-License-Identifier: Apache-2.0
//! The call that queues one record, with its own time and headers.

use std::ffi::c_void;

use highwater_core::transport::RecordRef;
use rdkafka::bindings as native;

use super::client::checked_error;
use super::failure::Failure;

/// The arguments of a produce call; those that are the same for each record are set once.
pub(super) struct ProduceCall {
    arguments: [native::rd_kafka_vu_t; 7],
}

const VALUE: usize = 3;
const KEY: usize = 4;
const TIMESTAMP: usize = 5;
const HEADERS: usize = 6;

fn memory(bytes: Option<&[u8]>) -> native::rd_kafka_vu_s__bindgen_ty_1 {
    let (ptr, size) = bytes.map_or((std::ptr::null_mut(), 0), |bytes| {
        (bytes.as_ptr().cast_mut().cast::<c_void>(), bytes.len())
    });
    native::rd_kafka_vu_s__bindgen_ty_1 {
        mem: native::rd_kafka_vu_s__bindgen_ty_1__bindgen_ty_1 { ptr, size },
    }
}

impl ProduceCall {
    pub(super) fn new(topic: *mut native::rd_kafka_topic_t, partition: u32) -> Self {
        use native::rd_kafka_vtype_t as kind;
        type Union = native::rd_kafka_vu_s__bindgen_ty_1;
        let argument = |vtype, u| native::rd_kafka_vu_t { vtype, u };
        ProduceCall {
            arguments: [
                argument(kind::RD_KAFKA_VTYPE_RKT, Union { rkt: topic }),
                argument(
                    kind::RD_KAFKA_VTYPE_MSGFLAGS,
                    Union {
                        i: native::RD_KAFKA_MSG_F_COPY,
                    },
                ),
                argument(kind::RD_KAFKA_VTYPE_PARTITION, Union { i32_: partition as i32 }),
                argument(kind::RD_KAFKA_VTYPE_VALUE, memory(None)),
                argument(kind::RD_KAFKA_VTYPE_KEY, memory(None)),
                argument(kind::RD_KAFKA_VTYPE_TIMESTAMP, Union { i64_: 0 }),
                argument(
                    kind::RD_KAFKA_VTYPE_HEADERS,
                    Union {
                        headers: std::ptr::null_mut(),
                    },
                ),
            ],
        }
    }

    /// Queues `record`, copied. `own_time`: with the record's time, not that of the call.
    pub(super) fn run(
        &mut self,
        rk: *mut native::rd_kafka_t,
        record: &RecordRef<'_>,
        own_time: bool,
    ) -> Result<(), Failure> {
        let headers = native_headers(record)?;
        self.arguments[VALUE].u = memory(record.value);
        self.arguments[KEY].u = memory(record.key);
        self.arguments[TIMESTAMP].u.i64_ = if own_time { record.timestamp_ms } else { 0 };
        self.arguments[HEADERS].u.headers = headers;
        let count = if headers.is_null() { HEADERS } else { HEADERS + 1 };
        // SAFETY: key and value are copied before the call returns; headers are taken over by it where it succeeds and are
        // ours to free where it does not.
        unsafe {
            let done = checked_error(native::rd_kafka_produceva(rk, self.arguments.as_ptr(), count));
            if done.is_err() && !headers.is_null() {
                native::rd_kafka_headers_destroy(headers);
            }
            done
        }
    }
}

fn native_headers(record: &RecordRef<'_>) -> Result<*mut native::rd_kafka_headers_t, Failure> {
    if record.headers.is_empty() {
        return Ok(std::ptr::null_mut());
    }
    // SAFETY: names and values are copied by the call; lengths are those of the slices.
    unsafe {
        let headers = native::rd_kafka_headers_new(record.headers.len());
        for header in record.headers {
            let (name, value) = (header.name.as_bytes(), header.value.as_ref());
            let added = native::rd_kafka_header_add(
                headers,
                name.as_ptr().cast(),
                name.len() as isize,
                value.as_ptr().cast(),
                value.len() as isize,
            );
            if let Err(failure) = super::client::checked(added) {
                native::rd_kafka_headers_destroy(headers);
                return Err(failure);
            }
        }
        Ok(headers)
    }
}
