//! TLS of the server, as asked for on the command line.
//!
//! Absent on purpose: reading certificates (`quod-export`).

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::ValueEnum;
use quod_export::nbd::{Tls, TlsClients, TlsMode};

/// Whether connections are encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Wish {
    /// Never
    Off,
    /// When the client wants it
    On,
    /// Always; clients that do not begin with TLS get nothing
    Require,
}

#[derive(Debug, clap::Args)]
pub(super) struct TlsArgs {
    /// Encrypt connections: off, on (the client decides) or require. When not given: require with --tls-certificates,
    /// and off without
    #[arg(long, value_name = "WHEN", hide_possible_values = true)]
    tls: Option<Wish>,
    /// The directory of server-cert.pem and server-key.pem, named as for QEMU, nbdkit and libnbd
    #[arg(long, value_name = "DIR")]
    tls_certificates: Option<PathBuf>,
    /// Let in only clients with a certificate that the ca-cert.pem of that directory vouches for
    #[arg(long)]
    tls_verify_peer: bool,
}

impl TlsArgs {
    /// TLS as wanted, if it is.
    ///
    /// # Errors
    /// There are no certificates, or they cannot be used.
    pub(super) fn resolve(&self) -> anyhow::Result<Option<Tls>> {
        let mode = match (self.tls, &self.tls_certificates) {
            (Some(Wish::Off), _) | (None, None) => None,
            (Some(Wish::On), _) => Some(TlsMode::Offered),
            (Some(Wish::Require), _) | (None, Some(_)) => Some(TlsMode::Required),
        };
        let Some(mode) = mode else {
            match self.tls {
                Some(_) if self.tls_verify_peer => bail!("--tls-verify-peer: there is no TLS with --tls=off"),
                None if self.tls_verify_peer => {
                    bail!("--tls-verify-peer: there is no TLS without --tls-certificates DIR")
                }
                _ => {}
            }
            return Ok(None);
        };
        let Some(directory) = &self.tls_certificates else {
            bail!("TLS needs certificates: name their directory with --tls-certificates DIR");
        };
        let clients = if self.tls_verify_peer { TlsClients::Certified } else { TlsClients::Any };
        let tls = Tls::from_directory(directory, clients, mode).context("TLS cannot be had")?;
        Ok(Some(tls))
    }

    /// Where the certificates are, when every connection is encrypted.
    pub(super) fn required(&self) -> Option<&Path> {
        let required = matches!(self.tls, None | Some(Wish::Require));
        self.tls_certificates.as_deref().filter(|_| required)
    }
}
