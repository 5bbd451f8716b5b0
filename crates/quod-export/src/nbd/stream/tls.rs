//! TLS for connections: certificates out of a directory, and whether it must be.
//!
//! Role: [`Tls`] is made once, before a server takes clients, so that a wrong file is told at once.
//!
//! Absent on purpose: pre-shared keys, which rustls does not have; and moving bytes (`transport.rs`).

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

/// The files of a directory of certificates, named as QEMU, libnbd and nbdkit name them.
const CERTIFICATES: &str = "server-cert.pem";
const KEY: &str = "server-key.pem";
const AUTHORITIES: &str = "ca-cert.pem";

/// Bytes of such a file: room for a thousand authorities.
const LONGEST: u64 = 4 << 20;

/// Whether a connection is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encryption {
    /// It cannot be.
    Unavailable,
    /// It can be.
    Offered,
    /// It must be before anything else.
    Required,
    /// It is.
    Active,
}

/// Whether clients may also speak in the clear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsMode {
    /// They choose.
    Offered,
    /// Who does not begin with TLS gets nothing.
    Required,
}

/// Which clients TLS lets in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsClients {
    /// All of them.
    Any,
    /// Those with a certificate that one of the authorities has signed.
    Certified,
}

/// Why TLS cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("{}: {what}", .path.display())]
pub struct TlsError {
    path: PathBuf,
    what: String,
}

/// TLS as a server offers it: versions 1.2 and 1.3, with certificates.
#[derive(Clone, Debug)]
pub struct Tls {
    pub(crate) config: Arc<ServerConfig>,
    mode: TlsMode,
}

impl Tls {
    /// Reads `server-cert.pem` (with intermediate certificates behind it, if there are any) and `server-key.pem` in
    /// `directory`, and `ca-cert.pem` when clients must be certified.
    ///
    /// # Errors
    /// A file is missing, is not what its name says, or does not fit the others.
    pub fn from_directory(directory: &Path, clients: TlsClients, mode: TlsMode) -> Result<Self, TlsError> {
        let certificates = certificates(&directory.join(CERTIFICATES))?;
        let key_file = directory.join(KEY);
        let key = key(&key_file)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| told(directory, error))?;
        let builder = match clients {
            TlsClients::Any => builder.with_no_client_auth(),
            TlsClients::Certified => {
                let file = directory.join(AUTHORITIES);
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(authorities(&file)?.into(), provider);
                builder.with_client_cert_verifier(verifier.build().map_err(|error| told(&file, error))?)
            }
        };
        let config = builder.with_single_cert(certificates, key);
        let config =
            config.map_err(|error| told(&key_file, format!("not the key of {CERTIFICATES}: {error}")))?;
        Ok(Tls { config: config.into(), mode })
    }

    /// What a connection begins with.
    pub(crate) fn encryption(&self) -> Encryption {
        match self.mode {
            TlsMode::Offered => Encryption::Offered,
            TlsMode::Required => Encryption::Required,
        }
    }
}

fn told(path: &Path, error: impl ToString) -> TlsError {
    TlsError { path: path.to_owned(), what: error.to_string() }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let bytes = || -> io::Result<Option<Vec<u8>>> {
        // A pipe or a device could keep the server from its start for ever.
        if !fs::metadata(path)?.is_file() {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        File::open(path)?.take(LONGEST + 1).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    };
    match bytes().map_err(|error| told(path, error))? {
        None => Err(told(path, "not a regular file")),
        Some(long) if long.len() as u64 > LONGEST => Err(told(path, format!("longer than {LONGEST} bytes"))),
        Some(bytes) => Ok(bytes),
    }
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|error| match error {
        pem::Error::NoItemsFound => {
            told(path, "no private key in PEM form is in there (one under a passphrase cannot be used)")
        }
        error => told(path, error),
    })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(path)?).collect();
    match certificates.map_err(|error| told(path, error))? {
        none if none.is_empty() => Err(told(path, "no certificate in PEM form is in there")),
        certificates => Ok(certificates),
    }
}

fn authorities(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(path)? {
        store.add(certificate).map_err(|error| told(path, error))?;
    }
    Ok(store)
}
