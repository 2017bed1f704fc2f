// SPDX-License-Identifier: Apache-2.0
//! A client of the Confluent REST interface, which Apicurio, Karapace and Redpanda speak as well.

mod failure;
mod response;
mod settings;

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use highwater_core::{Error, ErrorKind, Result};
use reqwest::{Certificate, Client, Method, Url};
use serde_json::{Value, json};

pub use self::settings::{ConfluentSettings, Credentials, Secret};

use self::response::{Answer, number, refuse, text};
use super::{Compatibility, RegisteredSchema, SchemaId, SchemaRegistry};

/// How many schemas each cache keeps before it begins anew.
const CACHED_MAX: usize = 16_384;
/// The media type of the interface.
const MEDIA_TYPE: &str = "application/vnd.schemaregistry.v1+json";

/// A registry behind a URL. Schemas and ids that were seen once are answered from memory: neither ever changes.
pub struct ConfluentRegistry {
    base: Url,
    client: Client,
    credentials: Option<Credentials>,
    schemas: Cache<SchemaId, Arc<str>>,
    ids: Cache<(String, String), SchemaId>,
}

impl ConfluentRegistry {
    /// A client; connects with the first call.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] for a URL or certificate file that cannot be used.
    pub fn new(settings: &ConfluentSettings) -> Result<Self> {
        let base = base_url(&settings.url)?;
        // Fails when the program installed one already, which is as good.
        drop(rustls::crypto::ring::default_provider().install_default());
        let timeout = Duration::from_millis(settings.timeout_ms);
        let mut builder = Client::builder().timeout(timeout).connect_timeout(timeout);
        if let Some(path) = &settings.ca_file {
            let unusable = |error: Box<dyn std::error::Error + Send + Sync>| {
                Error::new(
                    ErrorKind::Configuration,
                    format!("registry ca_file {path:?} cannot be used"),
                )
                .with_source(error)
                .with_fix("set ca_file to a file of certificates in PEM form")
            };
            let pem = std::fs::read(path).map_err(|error| unusable(error.into()))?;
            let certificates = Certificate::from_pem_bundle(&pem).map_err(|error| unusable(error.into()))?;
            if certificates.is_empty() {
                return Err(unusable("the file holds no certificate".into()));
            }
            builder = builder.tls_certs_only(certificates);
        }
        let client = builder.build().map_err(|error| {
            Error::new(ErrorKind::Configuration, "the registry's client cannot be set up").with_source(error)
        })?;
        Ok(ConfluentRegistry {
            base,
            client,
            credentials: settings.credentials.clone(),
            schemas: Cache::default(),
            ids: Cache::default(),
        })
    }

    async fn call(&self, method: Method, path: &[&str], query: &str, body: Option<Value>) -> Result<Answer> {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        if !query.is_empty() {
            url.set_query(Some(query));
        }
        let mut request = self.client.request(method, url).header("accept", MEDIA_TYPE);
        request = match &self.credentials {
            Some(Credentials::Basic { user, password }) => request.basic_auth(user, Some(password.expose())),
            Some(Credentials::Bearer { token }) => request.bearer_auth(token.expose()),
            None => request,
        };
        if let Some(body) = body {
            request = request.header("content-type", MEDIA_TYPE).body(body.to_string());
        }
        let response = request.send().await.map_err(|error| self.unreachable(error))?;
        let status = response.status().as_u16();
        let body = response.bytes().await.map_err(|error| self.unreachable(error))?;
        Ok(Answer::new(status, &body))
    }

    fn unreachable(&self, error: reqwest::Error) -> Error {
        failure::unreachable(&self.place(), error)
    }

    fn place(&self) -> String {
        let host = self.base.host_str().unwrap_or("?");
        self.base
            .port_or_known_default()
            .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }
}

#[async_trait]
impl SchemaRegistry for ConfluentRegistry {
    async fn register(&self, subject: &str, schema: &str) -> Result<SchemaId> {
        let cached = (subject.to_owned(), schema.to_owned());
        if let Some(id) = self.ids.get(&cached) {
            return Ok(id);
        }
        let path = ["subjects", subject, "versions"];
        let answer = self
            .call(Method::POST, &path, "", Some(json!({ "schema": schema })))
            .await?;
        if !answer.is_success() {
            return Err(refuse(
                &self.place(),
                &format!("registering a schema for subject {subject:?}"),
                &answer,
            ));
        }
        let id = SchemaId(number(&answer, "id")?);
        self.ids.put(cached, id);
        Ok(id)
    }

    async fn schema(&self, id: SchemaId) -> Result<Arc<str>> {
        if let Some(schema) = self.schemas.get(&id) {
            return Ok(schema);
        }
        let answer = self
            .call(Method::GET, &["schemas", "ids", &id.to_string()], "", None)
            .await?;
        if !answer.is_success() {
            return Err(refuse(
                &self.place(),
                &format!("reading the schema with id {id}"),
                &answer,
            ));
        }
        let schema: Arc<str> = text(&answer, "schema")?.into();
        self.schemas.put(id, Arc::clone(&schema));
        Ok(schema)
    }

    async fn latest(&self, subject: &str) -> Result<Option<RegisteredSchema>> {
        let answer = self
            .call(Method::GET, &["subjects", subject, "versions", "latest"], "", None)
            .await?;
        if answer.status == 404 {
            return Ok(None);
        }
        if !answer.is_success() {
            return Err(refuse(
                &self.place(),
                &format!("reading the latest schema of subject {subject:?}"),
                &answer,
            ));
        }
        Ok(Some(RegisteredSchema {
            id: SchemaId(number(&answer, "id")?),
            version: number(&answer, "version")?,
            schema: text(&answer, "schema")?.into(),
        }))
    }

    async fn check_compatibility(&self, subject: &str, schema: &str) -> Result<Compatibility> {
        let path = ["compatibility", "subjects", subject, "versions", "latest"];
        let answer = self
            .call(Method::POST, &path, "verbose=true", Some(json!({ "schema": schema })))
            .await?;
        if answer.status == 404 {
            return Ok(Compatibility::Compatible);
        }
        if !answer.is_success() {
            return Err(refuse(
                &self.place(),
                &format!("comparing a schema with subject {subject:?}"),
                &answer,
            ));
        }
        match answer.body.get("is_compatible").and_then(Value::as_bool) {
            Some(true) => Ok(Compatibility::Compatible),
            Some(false) => {
                let reasons = answer.body.get("messages").and_then(Value::as_array);
                let reasons = reasons
                    .into_iter()
                    .flatten()
                    .filter_map(Value::as_str)
                    .map(str::to_owned)
                    .collect();
                Ok(Compatibility::Incompatible { reasons })
            }
            None => Err(answer.unexpected("is_compatible")),
        }
    }

    async fn subjects(&self) -> Result<Vec<String>> {
        let answer = self.call(Method::GET, &["subjects"], "", None).await?;
        if !answer.is_success() {
            return Err(refuse(&self.place(), "listing the subjects", &answer));
        }
        let subjects = answer
            .body
            .as_array()
            .ok_or_else(|| answer.unexpected("a list of subjects"))?;
        let mut subjects: Vec<String> = subjects.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        subjects.sort_unstable();
        Ok(subjects)
    }
}

fn base_url(url: &str) -> Result<Url> {
    let unusable = |why: &str| {
        Error::new(
            ErrorKind::Configuration,
            format!("the url of the schema registry cannot be used: {why}"),
        )
        .with_fix("set it like http://registry:8081 or https://registry/apis/ccompat/v7, without credentials in it")
    };
    let parsed = Url::parse(url).map_err(|error| unusable(&error.to_string()))?;
    if !matches!(parsed.scheme(), "http" | "https") {
        return Err(unusable("it is neither http nor https"));
    }
    if !parsed.username().is_empty() || parsed.password().is_some() {
        return Err(unusable("credentials belong into credentials"));
    }
    Ok(parsed)
}

struct Cache<K, V>(Mutex<HashMap<K, V>>);

impl<K, V> Default for Cache<K, V> {
    fn default() -> Self {
        Cache(Mutex::new(HashMap::new()))
    }
}

impl<K: Eq + Hash, V: Clone> Cache<K, V> {
    fn get(&self, key: &K) -> Option<V> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    fn put(&self, key: K, value: V) {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= CACHED_MAX {
            entries.clear();
        }
        entries.insert(key, value);
    }
}
