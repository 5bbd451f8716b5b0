//! Clients that are servers themselves: nbdkit in front, also while the server behind it is restarted, and nbdfuse.

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use crate::common::servers::{Kind, Server, Wanted};
use crate::common::{Killed, Room, listens, wait_until};
use crate::compare;
use crate::images::{EMPTY, OVER, PLAIN, furnish};
use crate::listed::{FACTS_OF_OVER, FACTS_OF_PLAIN};
use crate::script::{Script, Step};

/// nbdkit listens on a socket with another name each time.
fn without_uri(line: &str) -> Option<String> {
    (!line.contains("\"uri\"")).then(|| line.to_owned())
}

#[test]
fn nbdkit_in_front() {
    const STEPS: &[Step] = &[
        Step::new(
            "info",
            &["nbdkit", "-U", "-", "nbd", "uri={uri}", "--run", "nbdinfo --json --no-content $uri"],
        )
        .keeping(without_uri),
        Step::new("map", &["nbdkit", "-U", "-", "nbd", "uri={uri}", "--run", "nbdinfo --map $uri"]),
        Step::new("out", &["nbdkit", "-U", "-", "nbd", "uri={uri}", "--run", "nbdcopy $uri out.raw"]),
        Step::new("sum", &["sha256sum", "out.raw"]),
        Step::new(
            "shared and retried",
            &[
                "nbdkit",
                "-U",
                "-",
                "--filter=retry",
                "nbd",
                "uri={uri}",
                "shared=true",
                "--run",
                "nbdcopy --connections=4 --flush out.raw $uri && nbdcopy --connections=4 $uri again.raw",
            ],
        ),
        Step::new("nothing lost", &["cmp", "out.raw", "again.raw"]),
        Step::new(
            "zeroes and trims",
            &[
                "nbdkit",
                "-U",
                "-",
                "nbd",
                "uri={uri}",
                "--run",
                "nbdsh -u $uri -c 'h.zero(65536, 65536, nbd.CMD_FLAG_FUA)' -c 'h.trim(65536, 131072)' \
                 -c 'h.pwrite(bytes(65536), 131072)' -c 'h.flush()' -c 'print(h.pread(196608, 0).count(0))'",
            ],
        ),
    ];
    for (image, differences) in [(PLAIN, FACTS_OF_PLAIN), (OVER, FACTS_OF_OVER)] {
        compare(&Script { image, wanted: Wanted::default(), steps: STEPS }, differences);
    }
}

#[test]
fn nbdfuse_holds_a_sound_file_system() {
    const STEPS: &[Step] =
        &[Step::new("file system", &["sh", "-c", include_str!("fuse.sh"), "fuse.sh", "{uri}"])];
    compare(&Script { image: EMPTY, wanted: Wanted::default(), steps: STEPS }, &[]);
}

fn retrying(room: &Room, uri: &str) -> Killed {
    let mut command = room.command("nbdkit");
    let socket = room.path("front.sock");
    command.args(["--foreground", "--filter=retry", "-U"]).arg(&socket).args(["nbd", &format!("uri={uri}")]);
    command.args(["retries=20", "retry-delay=1", "retry-exponential=no"]);
    // It complains of what it is here for.
    let front = Killed::spawn(command.stderr(Stdio::null()));
    wait_until("nbdkit listens", || listens(&socket));
    front
}

#[test]
fn a_client_behind_the_retry_filter_outlives_a_restart() {
    for kind in [Kind::QemuNbd, Kind::StorageDaemon, Kind::Quod] {
        let room = Room::new();
        furnish(&room);
        let server = Server::start(&room, kind, PLAIN, Wanted::default());
        let _front = retrying(&room, &server.uri);
        let mut command = room.command("qemu-io");
        command.args(["-f", "raw", "nbd+unix:///?socket=front.sock"]);
        let mut client = Killed::spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped()));
        let mut requests = client.0.stdin.take().expect("it is piped");
        let mut answers = BufReader::new(client.0.stdout.take().expect("it is piped")).lines();
        let mut answer = || loop {
            let line = answers.next().expect("it answers").expect("in text");
            // The second line of an answer tells how long it took.
            if !line.contains(" ops; ") {
                return line;
            }
        };
        let wrote = "wrote 65536/65536 bytes at offset";
        // One line at a time: what it has read ahead, it looks at only once more comes.
        writeln!(requests, "write -f -P 1 3M 64k").expect("it reads");
        assert!(answer().ends_with(&format!("{wrote} 3145728")), "{kind:?}");
        server.stop();
        writeln!(requests, "write -P 2 4M 64k").expect("it reads");
        let server = Server::start(&room, kind, PLAIN, Wanted::default());
        assert!(answer().ends_with(&format!("{wrote} 4194304")), "{kind:?}");
        writeln!(requests, "read -P 1 3M 64k").expect("it reads");
        assert!(answer().ends_with("read 65536/65536 bytes at offset 3145728"), "{kind:?}");
        drop(requests);
        client.wait().exits(0);
        server.stop();
        room.quod(&["check", PLAIN]).exits(0);
        room.peer("qemu-io", &["-f", "qed", "-c", "read -P 1 3M 64k", "-c", "read -P 2 4M 64k", PLAIN])
            .exits(0);
    }
}
