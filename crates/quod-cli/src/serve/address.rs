//! Where a server listens, and how clients name that.
//!
//! Role: chooses the socket's path, and tells clients of an address and an export by URIs and QEMU's options.
//!
//! Invariant: a path that is chosen fits a socket address, as clients anywhere on the machine will write it.
//!
//! Absent on purpose: binding.

use std::env;
use std::ffi::{OsStr, OsString};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf, absolute};

use anyhow::{Context, bail};
use quod_export::nbd::Address;

/// Bytes of a socket address that a path may take, but for the zero at its end.
const LONGEST: usize = 107;

/// A path that was asked for, in a form that fits a socket address.
///
/// # Errors
/// There is none.
pub(super) fn wanted_path(wanted: &Path) -> anyhow::Result<PathBuf> {
    // A short name in a deep directory still serves clients that are there too.
    let paths = [whole(wanted)?, wanted.to_owned()];
    match paths.into_iter().find(|path| fits(path)) {
        Some(path) => Ok(path),
        None => bail!("{}: longer than the {LONGEST} bytes of a socket address", wanted.display()),
    }
}

/// Where to listen when nothing was asked for: beside the image, or in the user's runtime directory.
///
/// # Errors
/// None of these fits a socket address.
pub(super) fn socket_path(image: &Path) -> anyhow::Result<PathBuf> {
    choose(image, env::var_os("XDG_RUNTIME_DIR").as_deref())
}

fn whole(path: &Path) -> anyhow::Result<PathBuf> {
    absolute(path).with_context(|| format!("{}: its absolute path cannot be determined", path.display()))
}

fn choose(image: &Path, runtime: Option<&OsStr>) -> anyhow::Result<PathBuf> {
    let mut beside = image.as_os_str().to_owned();
    beside.push(".sock");
    let beside = whole(Path::new(&beside))?;
    if fits(&beside) {
        return Ok(beside);
    }
    let name = beside.file_name().map(OsStr::to_owned).unwrap_or_default();
    let short = OsString::from(format!("quod-{}.sock", std::process::id()));
    let runtime = runtime.filter(|directory| Path::new(directory).is_absolute());
    let in_runtime =
        runtime.into_iter().flat_map(|directory| [&name, &short].map(|name| Path::new(directory).join(name)));
    match in_runtime.into_iter().find(|path| fits(path)) {
        Some(path) => Ok(path),
        None => bail!(
            "{}: longer than the {LONGEST} bytes of a socket address, and there is no XDG_RUNTIME_DIR that would do; \
             name a place with --socket",
            beside.display()
        ),
    }
}

fn fits(path: &Path) -> bool {
    path.as_os_str().len() <= LONGEST
}

/// An export at an address, as clients name it.
pub(super) struct Target<'a> {
    place: Place<'a>,
    export: &'a str,
}

enum Place<'a> {
    Unix(&'a Path),
    Tcp { host: IpAddr, port: u16 },
}

impl<'a> Target<'a> {
    /// `None` when clients cannot be told of the address.
    pub(super) fn new(address: &'a Address, export: &'a str) -> Option<Self> {
        let place = match address {
            Address::Unix(path) => Place::Unix(path),
            // All addresses: this machine's clients have a nearer one.
            Address::Tcp(at) if at.ip() == Ipv4Addr::UNSPECIFIED => {
                Place::Tcp { host: Ipv4Addr::LOCALHOST.into(), port: at.port() }
            }
            Address::Tcp(at) if at.ip() == Ipv6Addr::UNSPECIFIED => {
                Place::Tcp { host: Ipv6Addr::LOCALHOST.into(), port: at.port() }
            }
            Address::Tcp(at) => Place::Tcp { host: at.ip(), port: at.port() },
            _ => return None,
        };
        Some(Target { place, export })
    }

    /// The NBD URI, quoted for a shell.
    pub(super) fn uri(&self) -> String {
        self.uri_by("nbd", "")
    }

    /// The NBD URI for a client that finds its certificates in that directory, quoted for a shell.
    pub(super) fn tls_uri(&self, certificates: &Path) -> String {
        let certificates = escaped(certificates.as_os_str().as_bytes());
        let joint = if matches!(self.place, Place::Unix(_)) { '&' } else { '?' };
        self.uri_by("nbds", &format!("{joint}tls-certificates={certificates}"))
    }

    fn uri_by(&self, scheme: &str, parameters: &str) -> String {
        let export = escaped(self.export.as_bytes());
        match self.place {
            Place::Unix(path) => {
                let socket = escaped(path.as_os_str().as_bytes());
                format!("'{scheme}+unix:///{export}?socket={socket}{parameters}'")
            }
            Place::Tcp { host: IpAddr::V6(host), port } => {
                format!("'{scheme}://[{host}]:{port}/{export}{parameters}'")
            }
            Place::Tcp { host, port } => format!("'{scheme}://{host}:{port}/{export}{parameters}'"),
        }
    }

    /// The same for QEMU's tools, as words of their command line. They decode URIs twice, so that `%` and `&` do not
    /// come through; then it is told by options.
    pub(super) fn qemu_words(&self) -> String {
        let twice = ['%', '&'];
        let awkward_path = matches!(self.place, Place::Unix(path) if path.to_string_lossy().contains(twice));
        if awkward_path || self.export.contains(twice) {
            return format!("--image-opts {}", quoted(&format!("driver=nbd{}", self.options(""))));
        }
        self.uri()
    }

    /// The same as the options of QEMU's `-drive`.
    pub(super) fn qemu_drive(&self, writable: bool) -> String {
        let mode = if writable { "" } else { ",readonly=on" };
        quoted(&format!("if=virtio,format=raw{mode},file.driver=nbd{}", self.options("file.")))
    }

    fn options(&self, prefix: &str) -> String {
        let server = match self.place {
            Place::Unix(path) => {
                let path = path.to_string_lossy().replace(',', ",,");
                format!(",{prefix}server.type=unix,{prefix}server.path={path}")
            }
            Place::Tcp { host, port } => {
                format!(",{prefix}server.type=inet,{prefix}server.host={host},{prefix}server.port={port}")
            }
        };
        match self.export {
            "" => server,
            export => format!("{server},{prefix}export={}", export.replace(',', ",,")),
        }
    }
}

/// Bytes as a part of a URI.
fn escaped(bytes: &[u8]) -> String {
    let mut escaped = String::new();
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            escaped.push(byte.into());
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

/// A text as a shell reads it back.
pub(super) fn quoted(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._/+:@%,=".contains(&byte);
    if !text.is_empty() && text.bytes().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_lies_beside_its_image() {
        let path = choose(Path::new("/srv/disk.qed"), None).expect("it is short");
        assert_eq!(path, Path::new("/srv/disk.qed.sock"));
        assert!(choose(Path::new("disk.qed"), None).expect("it is short").is_absolute());
    }

    #[test]
    fn a_path_that_is_too_long_moves_to_the_runtime_directory() {
        let deep = PathBuf::from(format!("/{}/disk.qed", "d".repeat(LONGEST)));
        let path = choose(&deep, Some(OsStr::new("/run/user/7"))).expect("the runtime directory is short");
        assert_eq!(path, Path::new("/run/user/7/disk.qed.sock"));
        let long_name = PathBuf::from(format!("/{}.qed", "n".repeat(LONGEST)));
        let path = choose(&long_name, Some(OsStr::new("/run/user/7"))).expect("a short name is made up");
        assert!(path.starts_with("/run/user/7") && path.as_os_str().len() <= LONGEST);
        assert!(choose(&deep, None).is_err());
        assert!(choose(&deep, Some(OsStr::new("relative"))).is_err());
    }

    #[test]
    fn a_wanted_path_is_taken_or_refused_but_not_moved() {
        let wanted = PathBuf::from("w".repeat(LONGEST));
        assert_eq!(wanted_path(&wanted).expect("it fits as it is"), wanted);
        let wanted = PathBuf::from("w".repeat(LONGEST + 1));
        assert!(wanted_path(&wanted).is_err());
    }

    #[test]
    fn paths_survive_uris_and_shells() {
        let at = |path: &str, export: &str, show: fn(&Target<'_>) -> String| {
            show(&Target::new(&Address::Unix(path.into()), export).expect("it has a name"))
        };
        assert_eq!(
            at("/a b/c'd,é.sock", "", |target| target.uri()),
            "'nbd+unix:///?socket=/a%20b/c%27d%2C%C3%A9.sock'"
        );
        assert_eq!(
            at("/a b.sock", "x y", |target| target.qemu_words()),
            "'nbd+unix:///x%20y?socket=/a%20b.sock'"
        );
        assert_eq!(
            at("/a&b,c", "", |target| target.qemu_words()),
            "--image-opts 'driver=nbd,server.type=unix,server.path=/a&b,,c'"
        );
        assert_eq!(
            at("/a", "b%,c", |target| target.qemu_words()),
            "--image-opts driver=nbd,server.type=unix,server.path=/a,export=b%,,c"
        );
        assert!(at("/a,b", "", |target| target.qemu_drive(true)).ends_with("file.server.path=/a,,b"));
        assert_eq!(quoted("/a/b.sock"), "/a/b.sock");
        assert_eq!(quoted("/a b/it's"), r"'/a b/it'\''s'");
        assert_eq!(quoted(""), "''");
    }

    #[test]
    fn an_address_that_is_all_of_them_is_told_as_a_near_one() {
        let uri = |address: &str, export| {
            let address = Address::Tcp(address.parse().expect("an address"));
            Target::new(&address, export).expect("TCP has a URI").uri()
        };
        assert_eq!(uri("10.0.0.1:7", ""), "'nbd://10.0.0.1:7/'");
        assert_eq!(uri("0.0.0.0:7", "a/b"), "'nbd://127.0.0.1:7/a/b'");
        assert_eq!(uri("[::]:7", "é"), "'nbd://[::1]:7/%C3%A9'");
        let tcp = Address::Tcp("[::1]:7".parse().expect("an address"));
        let drive = Target::new(&tcp, "x").expect("TCP has a URI").qemu_drive(false);
        let server = "file.server.type=inet,file.server.host=::1,file.server.port=7,file.export=x";
        assert_eq!(drive, format!("if=virtio,format=raw,readonly=on,file.driver=nbd,{server}"));
    }
}
