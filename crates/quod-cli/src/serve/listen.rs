//! Where the server listens.
//!
//! Role: takes over sockets that a service manager made, and binds those that were asked for; without any, one beside
//! the first image.
//!
//! Invariant: TCP only when asked for, and then standard error says who can reach the disks.
//!
//! Absent on purpose: listening and accepting (`quod-export`).

use std::env;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process;

use anyhow::{Context, bail};
use listenfd::ListenFd;
use quod_export::nbd::{Address, BindError, Server};

use super::address::socket_path;
use super::images::Named;
use super::{Args, address};
use crate::output;

/// The port that NBD has.
const PORT: u16 = 10809;

/// More sockets than anybody has a use for.
const MOST_INHERITED: u32 = 64;

/// Sockets that a service manager made (systemd's protocol: LISTEN_FDS, LISTEN_PID). Call it before anything else is
/// opened, which could be taken for one of them.
///
/// # Errors
/// One is not a stream socket.
pub(super) fn inherited() -> anyhow::Result<Vec<OwnedFd>> {
    let number = |name| env::var(name).ok().and_then(|text| text.parse::<u32>().ok());
    // Those of another process are not ours, which is what happens to a child that nobody meant.
    let Some(count) = number("LISTEN_FDS").filter(|_| number("LISTEN_PID") == Some(process::id())) else {
        return Ok(Vec::new());
    };
    if count > MOST_INHERITED {
        bail!("LISTEN_FDS={count}: at most {MOST_INHERITED} sockets can be passed to this server");
    }
    let mut passed = ListenFd::from_env();
    let mut sockets = Vec::new();
    for at in 0..passed.len() {
        let socket = match passed.take_unix_listener(at) {
            Ok(unix) => unix.map(OwnedFd::from),
            Err(_not_unix) => {
                let tcp = passed.take_tcp_listener(at);
                tcp.with_context(|| not_served_on(at))?.map(OwnedFd::from)
            }
        };
        sockets.extend(socket);
    }
    Ok(sockets)
}

/// What a service manager's unit must say, for its socket to be one that clients come in by.
fn not_served_on(at: usize) -> String {
    format!("Socket {at} of LISTEN_FDS cannot be served on (it takes ListenStream= and Accept=no)")
}

/// What to listen on.
pub(super) struct Places {
    inherited: Vec<OwnedFd>,
    unix: Vec<PathBuf>,
    /// For each the addresses that its host has; the first that works is taken.
    tcp: Vec<Vec<SocketAddr>>,
}

impl Places {
    /// Resolves what was asked for.
    ///
    /// # Errors
    /// A name does not fit a socket, or an address means nothing.
    pub(super) fn resolve(args: &Args, inherited: Vec<OwnedFd>, images: &[Named]) -> anyhow::Result<Self> {
        let listen = args.listen.iter();
        let resolved =
            listen.map(|text| resolve(text, Some(PORT)).with_context(|| format!("--listen '{text}'")));
        let mut tcp = resolved.collect::<anyhow::Result<Vec<_>>>()?;
        let port = args.port.unwrap_or(PORT);
        if let Some(host) = &args.bind {
            tcp.push(resolve_host(host, port).with_context(|| format!("--bind '{host}'"))?);
        } else if args.port.is_some() {
            // Without a host, this machine alone.
            tcp.push(vec![(Ipv4Addr::LOCALHOST, port).into()]);
        }
        let paths = args.socket.iter().map(|path| address::wanted_path(path));
        let mut unix = paths.collect::<anyhow::Result<Vec<_>>>()?;
        if let ([], [], [], Some(first)) = (&inherited[..], &unix[..], &tcp[..], images.first()) {
            unix.push(socket_path(&first.file)?);
        }
        Ok(Places { inherited, unix, tcp })
    }

    /// Listens on all of them.
    ///
    /// # Errors
    /// When one cannot be had.
    pub(super) fn bind(self, server: &mut Server) -> anyhow::Result<()> {
        for (at, socket) in self.inherited.into_iter().enumerate() {
            server.adopt(socket).with_context(|| not_served_on(at))?;
        }
        for path in &self.unix {
            server.bind_unix(path)?;
        }
        for addresses in &self.tcp {
            bind_first(addresses, |address| server.bind_tcp(address))?;
        }
        Ok(())
    }
}

/// Takes the first address that can be had.
///
/// # Errors
/// None can; what the last one said.
pub(super) fn bind_first(
    addresses: &[SocketAddr],
    mut bind: impl FnMut(SocketAddr) -> Result<(), BindError>,
) -> Result<(), BindError> {
    let mut last = Ok(());
    for &address in addresses {
        last = bind(address);
        if last.is_ok() {
            break;
        }
    }
    last
}

/// `ADDR:PORT`, or an address or host alone, with the usual port where there is one.
///
/// # Errors
/// It means nothing, or has no address or no port.
pub(super) fn resolve(text: &str, usual: Option<u16>) -> anyhow::Result<Vec<SocketAddr>> {
    let usual = || usual.context("the port is missing; give it after a colon");
    if let Ok(address) = text.parse() {
        return Ok(vec![address]);
    }
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    if let Ok(ip) = bare.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, usual()?)]);
    }
    let (host, port) = match text.rsplit_once(':') {
        None => (text, usual()?),
        Some((host, port)) => (host, port.parse().with_context(|| format!("'{port}' is not a port"))?),
    };
    resolve_host(host, port)
}

fn resolve_host(host: &str, port: u16) -> anyhow::Result<Vec<SocketAddr>> {
    if let Ok(ip) = host.parse() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    // None of these is a name, and a resolver would only say that it is not known.
    if host.is_empty() || host.contains([':', '[', ']']) {
        bail!("not an address; give one as 127.0.0.1, [::1] or localhost, and a port after a colon");
    }
    let found: Vec<_> = (host, port).to_socket_addrs()?.collect();
    if found.is_empty() {
        bail!("'{host}' has no address");
    }
    Ok(found)
}

/// Says who can reach the disks, when that is more than the owner of a socket.
pub(super) fn warn_about_tcp<'a>(addresses: impl Iterator<Item = &'a Address>, writable: bool) {
    let tcp: Vec<_> = addresses.filter(|address| matches!(address, Address::Tcp(_))).collect();
    let can = if writable { "read and write" } else { "read" };
    if let Some(open) = tcp.iter().find(|address| !address.is_local()) {
        output::warn_line(&format_args!(
            "Warning: TLS is not required: whoever can reach {open} can {can} what is served, and whoever sees the \
             traffic can too."
        ));
    } else if let Some(local) = tcp.first() {
        // A Unix socket would be the owner's alone; here a file's mode keeps nobody out.
        output::warn_line(&format_args!("Every user of this machine can {can} what is served on {local}."));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_with_and_without_a_port() {
        for (text, address) in [
            ("127.0.0.1:1234", "127.0.0.1:1234"),
            ("0.0.0.0", "0.0.0.0:10809"),
            ("[::1]:7", "[::1]:7"),
            ("[::]", "[::]:10809"),
            ("::1", "[::1]:10809"),
        ] {
            assert_eq!(
                resolve(text, Some(PORT)).expect(text),
                [address.parse::<SocketAddr>().expect(address)]
            );
        }
        for text in ["localhost:", "localhost:70000", ":10809", "", "[::1", "[::1]:", "::1:x"] {
            assert!(resolve(text, Some(PORT)).is_err(), "{text}");
        }
        for text in ["127.0.0.1", "[::1]", "localhost", "9100"] {
            assert!(resolve(text, None).is_err(), "{text}");
        }
        assert!(
            resolve("localhost:1", None)
                .expect("it is there")
                .iter()
                .all(|address| address.ip().is_loopback())
        );
        for (host, address) in [("127.0.0.1", "127.0.0.1:5"), ("::1", "[::1]:5")] {
            let address: SocketAddr = address.parse().expect("an address");
            assert_eq!(resolve_host(host, 5).expect(host), [address]);
        }
    }
}
