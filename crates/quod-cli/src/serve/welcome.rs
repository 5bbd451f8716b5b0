//! What a server says once clients are answered.
//!
//! Role: tells what is served where, and how the usual clients reach it.
//!
//! Invariant: its last line, and no other, has the words `Ctrl-C`: who waits for it has a server.
//!
//! Absent on purpose: escaping (`address.rs`).

use std::path::Path;

use quod_export::metrics::PATH;
use quod_export::nbd::{Address, Disk};

use super::address::{Target, quoted};
use super::images::Opened;
use crate::open::name_of;
use crate::sizes::ThreeDigits;

/// The whole text. `certificates` are where they are, when TLS is required; `metrics` where the counters are told.
pub(super) fn text(
    images: &[Opened],
    addresses: &[Address],
    certificates: Option<&Path>,
    metrics: Option<&Address>,
) -> String {
    let mut text = String::new();
    let places: Vec<_> = addresses.iter().map(place).collect();
    let places = places.join(" and ");
    match images {
        [Opened { name, file, disk }] => {
            let name = if name.is_empty() { String::new() } else { format!(" as {}", quoted(name)) };
            text.push_str(&format!("Serving {} ({}){name} on {places}\n\n", file.display(), about(disk)));
        }
        images => {
            for (at, Opened { name, file, disk }) in images.iter().enumerate() {
                let default = if at == 0 { ", and by default" } else { "" };
                text.push_str(&format!(
                    "Serving {} ({}) as {}{default}\n",
                    file.display(),
                    about(disk),
                    quoted(name)
                ));
            }
            text.push_str(&format!("Listening on {places}\n\n"));
        }
    }
    let commands = addresses.iter().find_map(|address| {
        images.first().and_then(|image| Target::new(address, &image.name).map(|at| (at, image)))
    });
    if let Some((target, image)) = commands {
        match certificates {
            None => commands_for(&target, image, images.len() > 1, &mut text),
            Some(directory) => text.push_str(&commands_with_tls(&target.tls_uri(directory))),
        }
    }
    match metrics {
        Some(Address::Unix(path)) => {
            let socket = quoted(&path.to_string_lossy());
            text.push_str(&format!("Metrics: curl --unix-socket {socket} http://localhost{PATH}\n\n"));
        }
        Some(address) => text.push_str(&format!("Metrics: http://{address}{PATH}\n\n")),
        None => {}
    }
    text.push_str("Ctrl-C or SIGTERM ends it.");
    text
}

fn commands_for(target: &Target<'_>, image: &Opened, several: bool, text: &mut String) {
    let (uri, words, writable) = (target.uri(), target.qemu_words(), image.disk.is_writable());
    let drive = target.qemu_drive(writable);
    let format = if words.starts_with("--") { "" } else { "-f raw " };
    let read_only = if writable { "" } else { "-r " };
    if several {
        text.push_str(&format!("  nbdinfo --list {uri}\n"));
    }
    text.push_str(&format!(
        "  nbdinfo {uri}\n\
         \x20 nbdcopy {uri} copy.raw\n\
         \x20 qemu-img info {words}\n\
         \x20 qemu-io {read_only}{format}{words}\n\
         \x20 qemu-system-x86_64 -drive {drive}\n\n"
    ));
}

/// For clients on this machine; others have a directory of their own.
fn commands_with_tls(uri: &str) -> String {
    format!(
        "TLS is required. Clients need ca-cert.pem, whose authority signed the server's certificate.\n\n\
             \x20 nbdinfo {uri}\n\
             \x20 nbdcopy {uri} copy.raw\n\n"
    )
}

fn place(address: &Address) -> String {
    match address {
        Address::Unix(path) => quoted(&path.to_string_lossy()),
        other => other.to_string(),
    }
}

fn about(disk: &Disk) -> String {
    let mode = if disk.is_writable() { "" } else { ", read-only" };
    format!("{}, {}{mode}", ThreeDigits(disk.size()), name_of(disk.format()))
}
