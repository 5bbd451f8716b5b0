//! Whom TLS trusts, and who we are.
//!
//! Role: a directory of certificates, in the layout that libnbd, nbdkit and the reference share, to a configuration.
//!
//! Invariant: a server is always verified, by name and by the authority in the directory alone.
//!
//! Absent on purpose: the authorities of the system, revocation lists, and pre-shared keys, which rustls does not have.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use crate::uri::TlsNames;

const AUTHORITY: &str = "ca-cert.pem";
const CERTIFICATE: &str = "client-cert.pem";
const KEY: &str = "client-key.pem";

/// Begins a TLS connection, in memory.
///
/// # Errors
/// A file of the directory is missing or makes no sense; the name is not one that a server can have.
pub(crate) fn client(names: &TlsNames) -> io::Result<ClientConnection> {
    let directory = names.certificates.as_path();
    let mut roots = RootCertStore::empty();
    for certificate in certificates(directory, AUTHORITY)? {
        roots.add(certificate).map_err(|error| unusable(directory, AUTHORITY, error))?;
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots);
    let config = if directory.join(CERTIFICATE).exists() {
        let chain = certificates(directory, CERTIFICATE)?;
        let key = PrivateKeyDer::from_pem_file(directory.join(KEY))
            .map_err(|error| unusable(directory, KEY, error))?;
        builder.with_client_auth_cert(chain, key).map_err(|error| unusable(directory, CERTIFICATE, error))?
    } else {
        builder.with_no_client_auth()
    };
    let server = ServerName::try_from(names.server.clone()).map_err(|_invalid_name| {
        let sentence = format!("'{}' is not a name that a TLS server can have", names.server);
        io::Error::new(io::ErrorKind::InvalidInput, sentence)
    })?;
    ClientConnection::new(Arc::new(config), server).map_err(io::Error::other)
}

fn certificates(directory: &Path, file: &str) -> io::Result<Vec<CertificateDer<'static>>> {
    let parsed = CertificateDer::pem_file_iter(directory.join(file)).and_then(Iterator::collect);
    let found: Vec<_> = parsed.map_err(|error| unusable(directory, file, error))?;
    if found.is_empty() { Err(unusable(directory, file, "there is no certificate in it")) } else { Ok(found) }
}

fn unusable(directory: &Path, file: &str, why: impl std::fmt::Display) -> io::Error {
    let sentence = format!("'{}' cannot be used: {why}", directory.join(file).display());
    io::Error::new(io::ErrorKind::InvalidInput, sentence)
}
