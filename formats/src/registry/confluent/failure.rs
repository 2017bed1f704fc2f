// SPDX-License-Identifier: Apache-2.0
//! What it means that no answer came: the registry is away, or we do not trust who is there.

use std::error::Error as Cause;

use highwater_core::{Error, ErrorKind};

/// The error of a call without an answer. Never shows the URL's path or credentials; the cause's own text would repeat the
/// URL.
pub(super) fn unreachable(place: &str, error: reqwest::Error) -> Error {
    let error = error.without_url();
    if let Some(rustls::Error::InvalidCertificate(why)) = tls_error(&error) {
        let message = format!("the certificate of the schema registry at {place} is not trusted: {why}");
        return Error::new(ErrorKind::Authentication, message).with_source(error).with_fix(
            "set ca_file to the certificate of the authority that signed it, and the url to a name that it is made out to",
        );
    }
    let what = if error.is_timeout() {
        "did not answer in time"
    } else {
        "cannot be reached"
    };
    Error::new(ErrorKind::Unreachable, format!("the schema registry at {place} {what}"))
        .with_source(error)
        .with_fix("start the registry, or correct its url; it is tried again")
}

/// What TLS had to object to, somewhere down the causes.
fn tls_error(error: &reqwest::Error) -> Option<&rustls::Error> {
    let mut cause: &(dyn Cause + 'static) = error;
    loop {
        if let Some(found) = cause.downcast_ref() {
            return Some(found);
        }
        // An error of input and output hides what it was made from.
        let inner = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        cause = match inner {
            Some(inner) => inner,
            None => cause.source()?,
        };
    }
}
