// SPDX-License-Identifier: Apache-2.0
//! A certificate authority for one test, and the certificates it signs.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};

use crate::cache;
use crate::error::{Error, Result};

/// The names of a server on this machine.
pub const LOCAL_NAMES: [&str; 2] = ["localhost", "127.0.0.1"];

/// An authority with its own key: what it signs is trusted by nobody else.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    ca_pem: String,
}

/// A certificate and its key, both in PEM.
#[derive(Clone)]
pub struct Identity {
    /// The certificate.
    pub certificate_pem: String,
    /// The private key, PKCS#8.
    pub key_pem: String,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authority")
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Identity")
    }
}

impl Authority {
    /// A new authority, valid for the test's life and long after.
    pub fn new() -> Result<Self> {
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = CertificateParams::new(Vec::new()).map_err(failed)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params
            .distinguished_name
            .push(DnType::CommonName, "highwater test authority");
        let ca_pem = params.self_signed(&key).map_err(failed)?.pem();
        Ok(Self {
            issuer: Issuer::new(params, key),
            ca_pem,
        })
    }

    /// The authority's own certificate, to be trusted by clients.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// A certificate for a server with these names (DNS names or IP addresses).
    pub fn server(&self, names: &[&str]) -> Result<Identity> {
        self.sign(names, "highwater test server", ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// A certificate for a client whose common name is `user`.
    pub fn client(&self, user: &str) -> Result<Identity> {
        self.sign(&[], user, ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn sign(&self, names: &[&str], common_name: &str, usage: ExtendedKeyUsagePurpose) -> Result<Identity> {
        let key = KeyPair::generate().map_err(failed)?;
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).map_err(failed)?;
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed)?;
        Ok(Identity {
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
        })
    }
}

fn failed(cause: rcgen::Error) -> Error {
    Error::during("cannot make a certificate", cause)
}

/// Server-side TLS with an authority of its own, which clients are to trust.
#[derive(Debug, Clone)]
pub struct TlsOptions {
    /// The names in the server's certificate: DNS names or IP addresses.
    pub names: Vec<String>,
}

impl Default for TlsOptions {
    fn default() -> Self {
        Self {
            names: LOCAL_NAMES.map(str::to_owned).to_vec(),
        }
    }
}

impl TlsOptions {
    /// Makes the authority and writes the server's files into `dir`.
    pub(crate) fn prepare(&self, dir: &Path) -> Result<(Authority, TlsFiles)> {
        let authority = Authority::new()?;
        let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        let files = TlsFiles::write(dir, &authority, &names)?;
        Ok((authority, files))
    }
}

/// The files of a server's TLS, in one directory: `ca.pem`, `server.crt`, `server.key`.
#[derive(Debug, Clone)]
pub(crate) struct TlsFiles {
    pub(crate) ca: PathBuf,
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl TlsFiles {
    /// Writes a new authority's certificate and a server's for `names`; the key is readable by its owner only.
    pub(crate) fn write(dir: &Path, authority: &Authority, names: &[&str]) -> Result<Self> {
        use std::os::unix::fs::PermissionsExt;
        let server = authority.server(names)?;
        let files = Self {
            ca: dir.join("ca.pem"),
            certificate: dir.join("server.crt"),
            key: dir.join("server.key"),
        };
        cache::write(&files.ca, authority.ca_pem())?;
        cache::write(&files.certificate, server.certificate_pem)?;
        cache::write(&files.key, server.key_pem)?;
        std::fs::set_permissions(&files.key, std::fs::Permissions::from_mode(0o600))
            .map_err(|e| Error::during(format!("cannot protect {}", files.key.display()), e))?;
        Ok(files)
    }
}
