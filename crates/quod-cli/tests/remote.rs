//! Verbs over what other servers export, beside the reference's on the same names.

mod common;

use std::process::{Command, Stdio};

use common::{Killed, Room, listens, wait_until};

/// A `qemu-nbd` over a file of the room, on a socket in it.
struct Server {
    _child: Killed,
    uri: String,
}

impl Server {
    fn start(room: &Room, file: &str, export: &str, arguments: &[&str]) -> Self {
        Server::start_with(room, file, export, &[&["-t", "--shared=8"], arguments].concat())
    }

    fn start_with(room: &Room, file: &str, export: &str, arguments: &[&str]) -> Self {
        let socket = room.path(&format!("{file}.{export}.nbd"));
        let mut command = Command::new("qemu-nbd");
        command.args(["-f", "raw", "-x", export, "-k"]).arg(&socket).args(arguments);
        let child = Killed::spawn(command.arg(room.path(file)).stdin(Stdio::null()));
        let uri = format!("nbd+unix:///{export}?socket={}", socket.display());
        wait_until("qemu-nbd listens", || listens(&socket));
        Server { _child: child, uri }
    }
}

/// A raw disk with something in it.
fn raw(room: &Room, name: &str) {
    room.peer("qemu-img", &["create", "-q", "-f", "raw", name, "64M"]).exits(0);
    room.peer("qemu-io", &["-f", "raw", "-c", "write -P 7 1M 64k", "-c", "write -P 8 63M 1M", name]).exits(0);
}

fn qed(room: &Room, name: &str, options: &[&str]) {
    room.peer("qemu-img", &[&["create", "-q", "-f", "qed"], options, &[name, "64M"]].concat()).exits(0);
    room.peer("qemu-io", &["-f", "qed", "-c", "write -P 7 1M 64k", "-c", "write -P 8 63M 1M", name]).exits(0);
}

#[test]
fn info_and_map_of_an_export_are_the_references() {
    let room = Room::new();
    raw(&room, "a.raw");
    qed(&room, "a.qed", &[]);
    let servers = [("a.raw", ""), ("a.raw", "two words"), ("a.qed", "exp")]
        .map(|(file, export)| Server::start(&room, file, export, &["-r"]));
    for server in &servers {
        for arguments in [
            &["info"][..],
            &["info", "--output=json"],
            &["info", "--backing-chain", "--output=json"],
            &["map"],
            &["map", "--output=json"],
        ] {
            let name = server.uri.replace(' ', "%20");
            let arguments = [arguments, &[name.as_str()]].concat();
            let theirs = room.peer("qemu-img", &arguments).exits(0);
            assert_eq!(room.quod(&arguments).exits(0).out, theirs.out, "{arguments:?}");
        }
    }
}

#[test]
fn compare_tells_a_file_and_an_export_apart() {
    let room = Room::new();
    raw(&room, "a.raw");
    qed(&room, "a.qed", &[]);
    let server = Server::start(&room, "a.raw", "", &["-r"]);
    room.quod(&["compare", "a.qed", &server.uri]).exits(0).prints("Images are identical.");
    room.quod(&["io", "-c", "write -P 9 2M 512", "a.qed"]).exits(0);
    room.quod(&["compare", &server.uri, "a.qed"]).exits(1).prints("Content mismatch at offset 2097152!");
    room.quod(&["compare", &server.uri, "nbd+unix:///?socket=nowhere"]).exits(2);
}

#[test]
fn io_on_an_export_does_what_it_does_on_a_file() {
    let room = Room::new();
    raw(&room, "a.raw");
    raw(&room, "b.raw");
    let server = Server::start(&room, "a.raw", "", &["--discard=unmap"]);
    let commands = [
        "write -P 0xab 3M 100k",
        "read -P 0xab 3M 100k",
        "write -z 1M 4k",
        "discard 63M 512k",
        "aio_write -P 1 5M 64k",
        "aio_flush",
        "flush",
        "read -P 0 1M 4k",
        "length",
    ];
    let arguments = |name| {
        let commands = commands.iter().flat_map(|&command| ["-c", command]);
        ["io", "-f", "raw"].into_iter().chain(commands).chain([name]).collect::<Vec<_>>()
    };
    room.quod(&arguments(&server.uri)).exits(0);
    room.quod(&arguments("b.raw")).exits(0);
    drop(server);
    room.peer("qemu-img", &["compare", "-f", "raw", "-F", "raw", "a.raw", "b.raw"]).exits(0);
}

#[test]
fn an_image_inside_an_export_is_written_where_it_has_room() {
    let room = Room::new();
    qed(&room, "a.qed", &[]);
    let server = Server::start(&room, "a.qed", "", &[]);
    room.quod(&["io", "-c", "write -P 5 1M 64k", "-c", "read -P 5 1M 64k", &server.uri]).exits(0);
    room.quod(&["io", "-c", "write -P 5 30M 64k", &server.uri]).exits(1).prints("No space left on device");
    room.quod(&["check", &server.uri]).exits(0);
    drop(server);
    room.peer("qemu-io", &["-f", "qed", "-c", "read -P 5 1M 64k", "a.qed"])
        .exits(0)
        .prints("read 65536/65536");
    room.quod(&["check", "a.qed"]).exits(0);
}

#[test]
fn a_server_does_not_choose_files_of_this_machine() {
    let room = Room::new();
    raw(&room, "secret.raw");
    let secret = room.path("secret.raw");
    qed(&room, "a.qed", &["-b", &secret.display().to_string(), "-F", "raw"]);
    let server = Server::start(&room, "a.qed", "", &[]);
    room.quod(&["info", &server.uri]).exits(0).prints("secret.raw");
    for arguments in
        [&["map"][..], &["io", "-c", "read 0 512"], &["info", "--backing-chain"], &["compare", "secret.raw"]]
    {
        let ran = room.quod(&[arguments, &[server.uri.as_str()]].concat());
        assert!(ran.code != Some(0) && !ran.err.is_empty(), "{ran:?}");
    }
}

#[test]
fn names_in_headers_are_never_followed_to_a_server() {
    let room = Room::new();
    raw(&room, "a.raw");
    let server = Server::start(&room, "a.raw", "", &["-r"]);
    room.peer(
        "qemu-img",
        &["create", "-q", "-f", "qed", "-u", "-b", &server.uri, "-F", "raw", "top.qed", "64M"],
    )
    .exits(0);
    room.quod(&["map", "top.qed"]).exits(1).tells("not a local file");
    // A prefix makes it the name of a file.
    let name = "file:nbd+unix:///?socket=nowhere";
    room.peer("qemu-img", &["create", "-q", "-f", "qed", "-u", "-b", name, "-F", "raw", "top.qed", "64M"])
        .exits(0);
    for arguments in [
        &["map", "top.qed"][..],
        &["info", "--backing-chain", "top.qed"],
        &["create", "-b", name, "-F", "raw", "new.qed"],
    ] {
        room.quod(arguments).exits(1).tells("local files only");
    }
}

#[test]
fn one_connection_is_enough_for_a_verb() {
    let room = Room::new();
    raw(&room, "a.raw");
    qed(&room, "a.qed", &[]);
    for (number, (file, arguments, code)) in [
        ("a.raw", &["info"][..], 0),
        ("a.raw", &["map"], 0),
        ("a.raw", &["check"], 63),
        ("a.qed", &["info", "--backing-chain"], 0),
        ("a.qed", &["check"], 0),
        ("a.qed", &["check", "-r", "all"], 0),
        ("a.qed", &["compare", "a.raw"], 0),
        ("a.qed", &["io", "-c", "read -P 7 1M 64k"], 0),
    ]
    .into_iter()
    .enumerate()
    {
        // This one ends with its first client.
        let server = Server::start_with(&room, file, &number.to_string(), &[]);
        room.quod(&[arguments, &[server.uri.as_str()]].concat()).exits(code);
    }
}

#[test]
fn what_cannot_be_had_is_told_as_by_the_reference() {
    let room = Room::new();
    raw(&room, "a.raw");
    let server = Server::start(&room, "a.raw", "exp", &["-r"]);
    let other = server.uri.replace("/exp?", "/other?");
    for name in ["nbd+unix:///?socket=nowhere", "nbd://127.0.0.1:1/"] {
        let theirs = room.peer("qemu-img", &["info", name]).exits(1).err.replace("qemu-img", "quod");
        assert_eq!(room.quod(&["info", name]).exits(1).err, theirs);
    }
    room.quod(&["map", &other]).exits(1).tells("Requested export not available");
    room.quod(&["info", "nbd+unix:///"]).exits(1).tells("No valid URL specified");
    room.quod(&["info", "nbds://localhost/"]).exits(1).tells("tls-certificates=DIR");
    room.quod(&["io", "-c", "read 0 512", &server.uri]).exits(1).tells("Permission denied");
    room.quod(&["io", "-r", "-c", "read 0 512", &server.uri]).exits(0);
    room.quod(&["check", &server.uri]).tells("This image format does not support checks");
    room.quod(&["create", &server.uri, "1M"]).exits(1).tells("local files only");
    room.quod(&["serve", &server.uri]).exits(1).tells("it must be a local file here");
}
