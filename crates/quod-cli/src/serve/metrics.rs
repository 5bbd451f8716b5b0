//! Where the counters of a server are told.
//!
//! Absent on purpose: telling them (`quod-export`).

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use quod_export::nbd::{BindError, Server};

use super::{address, listen};

/// Before a path.
const UNIX: &[u8] = b"unix:";

/// A socket, yet to be made.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum MetricsPlace {
    Unix(PathBuf),
    /// What the host's name stands for; the first that works is taken.
    Tcp(Vec<SocketAddr>),
}

impl MetricsPlace {
    /// `HOST:PORT`, `unix:PATH`, or a path with a slash in it.
    ///
    /// # Errors
    /// It is neither, or the path does not fit a socket.
    pub(super) fn resolve(text: &OsStr) -> anyhow::Result<Self> {
        Self::read(text)
            .with_context(|| format!("--metrics '{}': HOST:PORT or unix:PATH is wanted", text.display()))
    }

    fn read(text: &OsStr) -> anyhow::Result<Self> {
        let bytes = text.as_bytes();
        let path = bytes.strip_prefix(UNIX).or(bytes.contains(&b'/').then_some(bytes));
        if let Some(path) = path {
            if path.is_empty() {
                bail!("the path is missing");
            }
            return Ok(MetricsPlace::Unix(address::wanted_path(Path::new(OsStr::from_bytes(path)))?));
        }
        let text = text.to_str().context("not text in UTF-8")?;
        Ok(MetricsPlace::Tcp(listen::resolve(text, None)?))
    }

    /// Listens there.
    ///
    /// # Errors
    /// It is taken, or cannot be had.
    pub(super) fn bind(&self, server: &mut Server) -> Result<(), BindError> {
        match self {
            MetricsPlace::Unix(path) => server.bind_metrics_unix(path),
            MetricsPlace::Tcp(addresses) => {
                listen::bind_first(addresses, |address| server.bind_metrics_tcp(address))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_an_address_or_a_path() {
        let read = |text: &str| MetricsPlace::resolve(OsStr::new(text));
        for text in ["127.0.0.1:9100", "[::1]:9100"] {
            let address: SocketAddr = text.parse().expect("an address");
            assert_eq!(read(text).expect(text), MetricsPlace::Tcp(vec![address]));
        }
        for text in ["unix:/run/m.sock", "/run/m.sock"] {
            assert_eq!(read(text).expect(text), MetricsPlace::Unix("/run/m.sock".into()));
        }
        for text in ["unix:m.sock", "./m.sock"] {
            let MetricsPlace::Unix(path) = read(text).expect(text) else { panic!("{text} is a path") };
            assert!(path.is_absolute() && path.ends_with("m.sock"), "{text}");
        }
        for text in ["", "unix:", "9100", "localhost", "127.0.0.1", ":9100", "a.sock", "[::1", "::1:99999"] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
