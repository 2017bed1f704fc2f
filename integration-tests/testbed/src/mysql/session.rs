// SPDX-License-Identifier: Apache-2.0
//! Client sessions.

use mysql_async::{Conn, OptsBuilder};

use crate::error::{Error, Result, explain};
use crate::mysql::options::SUPERUSER;

/// The superuser of the server on `port`.
pub(crate) fn superuser(port: u16) -> OptsBuilder {
    OptsBuilder::default()
        .ip_or_hostname("127.0.0.1")
        .tcp_port(port)
        // Else the client leaves TCP for the Unix socket.
        .prefer_socket(false)
        .user(Some(SUPERUSER))
}

pub(crate) async fn open(options: OptsBuilder) -> Result<Conn> {
    let options = mysql_async::Opts::from(options);
    let place = format!("{}:{}", options.ip_or_hostname(), options.tcp_port());
    Conn::new(options)
        .await
        .map_err(|e| failed(&format!("cannot connect to {place}"), &e))
}

pub(crate) fn failed(doing: &str, error: &mysql_async::Error) -> Error {
    Error::during(doing, explain(error))
}
