//! Names of exports: `nbd://`, `nbds://`, `nbd+unix://` and `nbds+unix://`.
//!
//! Role: [`NbdUri`] after the NBD URI specification of NetworkBlockDevice/nbd: a server's place, an export's name, and
//! what TLS needs.
//!
//! Invariant: every parameter is understood or refused, so that a misspelt `tls-` one never weakens a connection.
//!
//! Absent on purpose: vsock and ssh; pre-shared keys, which rustls does not have; and `tls-verify-peer=false`.

use std::fmt;
use std::path::PathBuf;

use percent_encoding::percent_decode_str;
use url::{Host, Url};

use crate::error::UriError;

/// The port of NBD when a name has none.
pub const DEFAULT_PORT: u16 = 10809;

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// On a network.
    Tcp {
        /// A name or an address; an IPv6 one without its brackets.
        host: String,
        /// Its port.
        port: u16,
    },
    /// On a socket of this machine.
    Unix(PathBuf),
}

/// What TLS needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsNames {
    /// The directory of `ca-cert.pem` and, where the server wants to know its client, `client-cert.pem` and
    /// `client-key.pem`.
    pub certificates: PathBuf,
    /// The name that the server's certificate must be for.
    pub server: String,
}

/// The name of an export. Displayed as the reference tools do: without escapes and parameters but the socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NbdUri {
    /// Where its server listens.
    pub place: Place,
    /// Which export; empty is the default one.
    pub export: String,
    /// Set for `nbds`.
    pub tls: Option<TlsNames>,
}

impl NbdUri {
    /// Whether a name is one of these, well-formed or not.
    pub fn is_one(name: &str) -> bool {
        let scheme = name.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
        matches!(scheme.as_deref(), Some("nbd" | "nbds" | "nbd+unix" | "nbds+unix"))
    }

    /// Parses a name.
    ///
    /// # Errors
    /// What is wrong with it, as a sentence.
    pub fn parse(name: &str) -> Result<Self, UriError> {
        let url = Url::parse(name).map_err(UriError::NotAUri)?;
        let (is_tls, is_unix) = match url.scheme() {
            "nbd" => (false, false),
            "nbds" => (true, false),
            "nbd+unix" => (false, true),
            "nbds+unix" => (true, true),
            other => return Err(UriError::Scheme(other.to_owned())),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(UriError::User);
        }
        if url.fragment().is_some() {
            return Err(UriError::Fragment);
        }
        let (socket, certificates, hostname) = parameters(&url, is_tls, is_unix)?;
        let place = match (is_unix, host(&url)?, socket) {
            (true, None, Some(socket)) if url.port().is_none() => Place::Unix(socket),
            (true, None, None) => return Err(UriError::NoSocket),
            (true, _, _) => return Err(UriError::HostAndSocket),
            (false, Some(host), _) => Place::Tcp { host, port: url.port().unwrap_or(DEFAULT_PORT) },
            (false, None, _) => return Err(UriError::NoHost),
        };
        let export = decoded(url.path().strip_prefix('/').unwrap_or(url.path()))?;
        let tls = match (is_tls, certificates) {
            (false, _) => None,
            (true, None) => return Err(UriError::NoCertificates),
            (true, Some(certificates)) => {
                let server = hostname.unwrap_or_else(|| match &place {
                    Place::Tcp { host, .. } => host.clone(),
                    Place::Unix(_) => "localhost".to_owned(),
                });
                Some(TlsNames { certificates, server })
            }
        };
        Ok(NbdUri { place, export, tls })
    }
}

type Parameters = (Option<PathBuf>, Option<PathBuf>, Option<String>);

/// Socket, directory of certificates and host name of TLS.
fn parameters(url: &Url, is_tls: bool, is_unix: bool) -> Result<Parameters, UriError> {
    let (mut socket, mut certificates, mut hostname) = (None, None, None);
    // Not as a form: a plus sign is one.
    for pair in url.query().unwrap_or("").split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (key, value) = (decoded(key)?, decoded(value)?);
        let is_new = match key.as_str() {
            _ if value.is_empty() => return Err(UriError::EmptyParameter(key)),
            "socket" if is_unix => socket.replace(PathBuf::from(value)).is_none(),
            "tls-certificates" if is_tls => certificates.replace(PathBuf::from(value)).is_none(),
            "tls-hostname" if is_tls => hostname.replace(value).is_none(),
            _ => return Err(UriError::Parameter(key)),
        };
        if !is_new {
            return Err(UriError::Twice(key));
        }
    }
    Ok((socket, certificates, hostname))
}

fn host(url: &Url) -> Result<Option<String>, UriError> {
    Ok(match url.host() {
        None => None,
        Some(Host::Domain("")) => None,
        Some(Host::Domain(name)) => Some(decoded(name)?),
        Some(Host::Ipv4(address)) => Some(address.to_string()),
        Some(Host::Ipv6(address)) => Some(address.to_string()),
    })
}

fn decoded(text: &str) -> Result<String, UriError> {
    let bytes = percent_decode_str(text).decode_utf8().map_err(UriError::NotUtf8)?;
    if bytes.contains('\0') { Err(UriError::Nul) } else { Ok(bytes.into_owned()) }
}

impl fmt::Display for NbdUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.tls.is_some() { "nbds" } else { "nbd" })?;
        let separator = if self.export.is_empty() { "" } else { "/" };
        match &self.place {
            Place::Unix(socket) => {
                write!(f, "+unix://{separator}{}?socket={}", self.export, socket.display())
            }
            Place::Tcp { host, port } if host.contains(':') => {
                write!(f, "://[{host}]:{port}{separator}{}", self.export)
            }
            Place::Tcp { host, port } => write!(f, "://{host}:{port}{separator}{}", self.export),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn shows(name: &str, shown: &str) {
        assert_eq!(NbdUri::parse(name).map(|uri| uri.to_string()).as_deref(), Ok(shown));
    }

    #[test]
    fn a_name_is_shown_as_the_reference_shows_it() {
        shows("nbd://localhost", "nbd://localhost:10809");
        shows("nbd://127.0.0.1:10899/a%20b", "nbd://127.0.0.1:10899/a b");
        shows("nbd://[::1]:5/x", "nbd://[::1]:5/x");
        shows("nbd+unix:///?socket=/run/a.sock", "nbd+unix://?socket=/run/a.sock");
        shows("nbd+unix:///exp?socket=/run/a%2Bb+c.sock", "nbd+unix:///exp?socket=/run/a+b+c.sock");
        shows("NBD://host//slash", "nbd://host:10809//slash");
    }

    #[test]
    fn tls_names_come_from_parameters_or_the_host() {
        let tls = |name| NbdUri::parse(name).expect("a good name").tls.expect("it is nbds");
        assert_eq!(tls("nbds://host/x?tls-certificates=/pki").server, "host");
        assert_eq!(tls("nbds+unix:///?socket=s&tls-certificates=d").server, "localhost");
        assert_eq!(tls("nbds://1.2.3.4?tls-certificates=d&tls-hostname=a.b").server, "a.b");
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for name in [
            "nbd+unix:///",
            "nbd+unix://host/?socket=s",
            "nbd:///x",
            "nbd://host/?socket=s",
            "nbd://host/?foo=bar",
            "nbd://host/#x",
            "nbd://host:99999/",
            "nbd://user@host/",
            "nbd://host/%ff",
            "nbd://host/%00",
            "nbds://host/",
            "nbds://host/?tls-certificates=d&tls-certificates=e",
            "nbds://host/?tls-certificates=d&tls-psk-file=p",
            "nbds://host/?tls-certificates=d&tls-verify-peer=false",
            "nbd://host/?tls-certificates=d",
            "http://host/",
        ] {
            assert!(NbdUri::parse(name).is_err(), "{name}");
        }
        assert!(NbdUri::is_one("nbds+unix://x") && !NbdUri::is_one("nbd:host:1") && !NbdUri::is_one("a.qed"));
    }
}
