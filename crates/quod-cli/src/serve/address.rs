//! Where a server listens, and how clients name that.
//!
//! Role: chooses the socket's path, and escapes it for URIs and shells.
//!
//! Invariant: a path that is chosen fits a socket address, as clients anywhere on the machine will write it.
//!
//! Absent on purpose: binding.

use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf, absolute};

use anyhow::{Context, bail};

/// Bytes of a socket address that a path may take, but for the zero at its end.
const LONGEST: usize = 107;

/// Where to listen: where it was asked for, beside the image, or in the user's runtime directory.
///
/// # Errors
/// None of these fits a socket address.
pub(super) fn socket_path(image: &Path, wanted: Option<&Path>) -> anyhow::Result<PathBuf> {
    choose(image, wanted, env::var_os("XDG_RUNTIME_DIR").as_deref())
}

fn choose(image: &Path, wanted: Option<&Path>, runtime: Option<&OsStr>) -> anyhow::Result<PathBuf> {
    let whole = |path: &Path| {
        absolute(path).with_context(|| format!("{}: its absolute path cannot be determined", path.display()))
    };
    if let Some(wanted) = wanted {
        // A short name in a deep directory still serves clients that are there too.
        let paths = [whole(wanted)?, wanted.to_owned()];
        return match paths.into_iter().find(|path| fits(path)) {
            Some(path) => Ok(path),
            None => bail!("{}: longer than the {LONGEST} bytes of a socket address", wanted.display()),
        };
    }
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

/// The NBD URI of a socket, quoted for a shell.
pub(super) fn uri(socket: &Path) -> String {
    let mut uri = String::from("nbd+unix:///?socket=");
    for &byte in socket.as_os_str().as_bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            uri.push(byte.into());
        } else {
            uri.push_str(&format!("%{byte:02X}"));
        }
    }
    // The question mark is a pattern to shells.
    format!("'{uri}'")
}

/// The same for QEMU's tools, as words of their command line. They decode URIs twice, so that `%` and `&` in a path do not
/// come through; then it is told by options.
pub(super) fn qemu_words(socket: &Path) -> String {
    let path = socket.to_string_lossy();
    if path.contains(['%', '&']) {
        let options = format!("driver=nbd,server.type=unix,server.path={}", path.replace(',', ",,"));
        return format!("--image-opts {}", quoted(&options));
    }
    uri(socket)
}

/// The same as the options of QEMU's `-drive`.
pub(super) fn qemu_drive(socket: &Path, writable: bool) -> String {
    let path = socket.to_string_lossy().replace(',', ",,");
    let mode = if writable { "" } else { ",readonly=on" };
    quoted(&format!(
        "if=virtio,format=raw{mode},file.driver=nbd,file.server.type=unix,file.server.path={path}"
    ))
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
        let path = choose(Path::new("/srv/disk.qed"), None, None).expect("it is short");
        assert_eq!(path, Path::new("/srv/disk.qed.sock"));
        assert!(choose(Path::new("disk.qed"), None, None).expect("it is short").is_absolute());
    }

    #[test]
    fn a_path_that_is_too_long_moves_to_the_runtime_directory() {
        let deep = PathBuf::from(format!("/{}/disk.qed", "d".repeat(LONGEST)));
        let path =
            choose(&deep, None, Some(OsStr::new("/run/user/7"))).expect("the runtime directory is short");
        assert_eq!(path, Path::new("/run/user/7/disk.qed.sock"));
        let long_name = PathBuf::from(format!("/{}.qed", "n".repeat(LONGEST)));
        let path =
            choose(&long_name, None, Some(OsStr::new("/run/user/7"))).expect("a short name is made up");
        assert!(path.starts_with("/run/user/7") && path.as_os_str().len() <= LONGEST);
        assert!(choose(&deep, None, None).is_err());
        assert!(choose(&deep, None, Some(OsStr::new("relative"))).is_err());
    }

    #[test]
    fn a_wanted_path_is_taken_or_refused_but_not_moved() {
        let wanted = PathBuf::from("w".repeat(LONGEST));
        assert_eq!(choose(Path::new("a"), Some(&wanted), None).expect("it fits as it is"), wanted);
        let wanted = PathBuf::from("w".repeat(LONGEST + 1));
        assert!(choose(Path::new("a"), Some(&wanted), Some(OsStr::new("/run"))).is_err());
    }

    #[test]
    fn paths_survive_uris_and_shells() {
        assert_eq!(uri(Path::new("/a b/c'd,é.sock")), "'nbd+unix:///?socket=/a%20b/c%27d%2C%C3%A9.sock'");
        assert_eq!(qemu_words(Path::new("/a b.sock")), "'nbd+unix:///?socket=/a%20b.sock'");
        assert_eq!(
            qemu_words(Path::new("/a&b,c")),
            "--image-opts 'driver=nbd,server.type=unix,server.path=/a&b,,c'"
        );
        assert!(qemu_drive(Path::new("/a,b"), true).ends_with("file.server.path=/a,,b"));
        assert_eq!(quoted("/a/b.sock"), "/a/b.sock");
        assert_eq!(quoted("/a b/it's"), r"'/a b/it'\''s'");
        assert_eq!(quoted(""), "''");
    }
}
