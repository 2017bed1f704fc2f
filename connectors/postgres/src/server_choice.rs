// SPDX-License-Identifier: Apache-2.0
//! Which server of a cluster is captured: the first of the settings that serves, chosen anew whenever the log is opened.
//!
//! Everything of one run goes to the server that its log comes from, so the choice is settings with one address: a chunk of
//! one server and the log of another would not fit together.

use crate::catalog_row::{CatalogRow, only_row};
use crate::query_connection::QueryConnection;
use crate::settings::Settings;
use highwater_core::{Error, ErrorKind, Result};
use std::sync::Arc;

/// The most servers that settings name.
pub const HOSTS_MAX: usize = 16;

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Address {
    host: String,
    port: u16,
}

impl Address {
    /// Reads `host`, `host:port`, `[address]:port` or `/directory`.
    fn parse(text: &str, default_port: u16) -> Option<Self> {
        let of = |host: &str, port| {
            let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
            (!host.is_empty()).then_some(Self { host, port })
        };
        match text.rsplit_once(':') {
            _ if text.starts_with('/') => of(text, default_port),
            // Colons without brackets are those of an address of version 6.
            Some((host, port)) if host.ends_with(']') || !host.contains(':') => of(host, port.parse().ok()?),
            _ => of(text, default_port),
        }
    }
}

/// Checks what the settings say of servers.
pub(crate) fn validate(settings: &Settings) -> Result<()> {
    let wrong = |what: String, fix: &str| Err(Error::new(ErrorKind::Configuration, what).with_fix(fix));
    if settings.host.is_empty() == settings.hosts.is_empty() {
        return wrong(
            "either `host` or `hosts` names the server".into(),
            "set one of the two: `host` for one server, `hosts` for several of a cluster",
        );
    }
    if settings.hosts.len() > HOSTS_MAX {
        return wrong(format!("`hosts` names more than {HOSTS_MAX} servers"), "leave some out");
    }
    if let Some(text) = settings
        .hosts
        .iter()
        .find(|text| Address::parse(text, settings.port).is_none())
    {
        return wrong(
            format!("`hosts` has \"{text}\", which is no server"),
            "write it as \"host\" or \"host:port\"",
        );
    }
    if settings.standby && settings.slot.failover {
        return wrong(
            "`standby` and `slot.failover` exclude one another: a slot that is made on a standby is not kept in step by others"
                .into(),
            "leave one of them out",
        );
    }
    Ok(())
}

/// A server that answers.
#[derive(Debug)]
pub(crate) struct Server {
    /// The settings with its address alone.
    pub(crate) settings: Arc<Settings>,
    /// A session with it.
    pub(crate) queries: QueryConnection,
    /// It is a standby.
    pub(crate) in_recovery: bool,
}

/// The first server that may be captured.
///
/// # Errors
/// Where none may: worth a retry if one of them is a standby that may yet be promoted or cannot be reached.
pub(crate) async fn choose(
    settings: &Arc<Settings>,
    application_name: &'static str,
    set_up: &'static str,
) -> Result<Server> {
    let mut server = first_to_serve(settings, application_name, set_up).await?;
    if server.in_recovery && !settings.standby {
        return Err(standby(&server.settings));
    }
    if server.in_recovery {
        let version = server.queries.server_version().await?;
        if !version.decodes_on_standby() {
            let what = format!(
                "the server is a standby of version {}, and a standby decodes its log since version 16",
                version.0
            );
            return Err(Error::new(ErrorKind::Unsuitable, what).with_fix("connect to the primary"));
        }
    }
    Ok(server)
}

/// The first server that may be captured, else the first that answers.
pub(crate) async fn first_to_serve(
    settings: &Arc<Settings>,
    application_name: &'static str,
    set_up: &'static str,
) -> Result<Server> {
    let (mut standby, mut failure) = (None, None);
    for settings in each(settings) {
        let mut queries = QueryConnection::new(settings.clone(), application_name, set_up);
        let what = "asking the server whether it is a standby";
        let answer = queries.query("SELECT pg_catalog.pg_is_in_recovery()", &[], what).await;
        match answer.and_then(|rows| only_row(rows, what)?.flag(0)) {
            Ok(in_recovery) => {
                let server = Server {
                    queries,
                    in_recovery,
                    settings,
                };
                if !in_recovery || server.settings.standby {
                    return Ok(server);
                }
                standby.get_or_insert(server);
            }
            Err(error) => failure = Some(worse(failure, error)),
        }
    }
    match (standby, failure) {
        (Some(standby), _) => Ok(standby),
        (None, Some(error)) => Err(error),
        (None, None) => Err(Error::bug("settings without a server")),
    }
}

/// The settings of each server.
fn each(settings: &Arc<Settings>) -> Vec<Arc<Settings>> {
    if settings.hosts.is_empty() {
        return vec![settings.clone()];
    }
    let addresses = settings
        .hosts
        .iter()
        .filter_map(|text| Address::parse(text, settings.port));
    addresses
        .map(|address| {
            Arc::new(Settings {
                host: address.host,
                port: address.port,
                hosts: Vec::new(),
                ..(**settings).clone()
            })
        })
        .collect()
}

/// Which of two failures is told: a server that may come back outweighs one that needs a person.
fn worse(before: Option<Error>, error: Error) -> Error {
    match before {
        Some(before) if before.kind() == ErrorKind::Unreachable => before,
        _ => error,
    }
}

fn standby(settings: &Settings) -> Error {
    let what = format!(
        "no server takes writes: {}:{} is a standby",
        settings.host, settings.port
    );
    Error::new(ErrorKind::Unreachable, what)
        .with_fix("promote it, name the primary in `host` or `hosts`, or set `standby: true` to capture a standby")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn settings(over: Value) -> Result<Settings> {
        let mut json = json!({"user": "mover", "database": "catalogue", "tables": {"include": ["public.*"]}});
        for (name, value) in over.as_object().unwrap() {
            json[name] = value.clone();
        }
        Settings::from_json(json)
    }

    #[test]
    fn each_server_has_its_address_and_the_rest_in_common() {
        let hosts = json!(["a", "b:5433", "[::1]:5434", "fe80::2", "/run/postgresql"]);
        let settings = Arc::new(settings(json!({"hosts": hosts, "port": 6000})).unwrap());
        let addresses: Vec<(String, u16)> = each(&settings).iter().map(|one| (one.host.clone(), one.port)).collect();
        let expected = [
            ("a", 6000),
            ("b", 5433),
            ("::1", 5434),
            ("fe80::2", 6000),
            ("/run/postgresql", 6000),
        ];
        assert_eq!(addresses, expected.map(|(host, port)| (host.to_owned(), port)));
        assert!(
            each(&settings)
                .iter()
                .all(|one| one.validate().is_ok() && one.user == "mover")
        );
    }

    #[test]
    fn servers_that_cannot_be_are_refused_with_a_fix() {
        for over in [
            json!({}),
            json!({"host": "a", "hosts": ["b"]}),
            json!({"hosts": ["a:x"]}),
            json!({"hosts": [":5432"]}),
            json!({"hosts": vec!["a"; HOSTS_MAX + 1]}),
            json!({"host": "a", "standby": true, "slot": {"failover": true}}),
        ] {
            let error = settings(over.clone()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Configuration, "{over}");
            assert!(error.fix().is_some(), "{error}");
        }
    }

    #[test]
    fn a_server_that_may_come_back_outweighs_one_that_needs_a_person() {
        let error = |kind| Error::new(kind, "x");
        let told = worse(Some(error(ErrorKind::Unreachable)), error(ErrorKind::Authentication));
        assert_eq!(told.kind(), ErrorKind::Unreachable);
        let told = worse(Some(error(ErrorKind::Authentication)), error(ErrorKind::Unreachable));
        assert_eq!(told.kind(), ErrorKind::Unreachable);
    }
}
