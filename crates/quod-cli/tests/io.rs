//! `quod io` beside qemu-io: the same lines and exit codes for the same commands.

mod common;

use std::os::unix::process::ExitStatusExt;
use std::sync::LazyLock;

use common::header::{CLUSTER, write_with_entries};
use common::{Holder, QUOD, Ran, Room, wait_until};

/// What both print, without speeds, and with usage lines by their command alone: their wording is ours.
fn plain(text: &str) -> String {
    let line_of = |line: &str| match (line.split_once("; "), line.split_once(" -- ")) {
        (Some((amount, speed)), _) if speed.ends_with(" ops/sec)") => amount.to_owned(),
        (_, Some((usage, _)))
            if usage.split(' ').count() > 1
                && !usage.ends_with("suffix")
                && !usage.contains(':')
                && !usage.ends_with("large") =>
        {
            usage.split(' ').take(1).collect()
        }
        _ => match line.split_once(",1,0:00:0") {
            Some((bytes, _)) => bytes.to_owned(),
            None => line.to_owned(),
        },
    };
    text.lines().map(|line| line_of(line) + "\n").collect()
}

/// Images made once and copied for every test.
fn furnish(room: &Room) {
    static MADE: LazyLock<Room> = LazyLock::new(|| {
        let room = Room::new();
        make(&room);
        room
    });
    room.take_from(&MADE);
}

fn make(room: &Room) {
    room.create_by_peer(&["-f", "qed", "a.qed", "80M"]);
    room.write_by_peer("a.qed", &["write 0 200k", "write -P 3 1M 64k", "write -z 2M 128k", "write 10M 1"]);
    room.create_by_peer(&["-f", "raw", "a.raw", "1000"]);
    room.create_by_peer(&["-f", "qed", "-b", "a.qed", "-F", "qed", "over.qed", "90M"]);
    room.write_by_peer("over.qed", &["write 64k 64k", "write -z 3M 128k"]);
    room.write("pattern", &[0, 1, 7, 10, 13, 32, 65, 125, 126, 127, 128, 160, 255]);
    room.write("empty", b"");
    write_with_entries(room, "bad.qed", 80 << 20, &[9 * CLUSTER, 0x123456, 1, 10 * CLUSTER]);
}

/// Runs the same by both, and checks that exit code and standard output are the same.
#[track_caller]
fn agree(args: &[&str], commands: &str) -> Ran {
    let mut whole = args.to_vec();
    commands.split("; ").for_each(|command| whole.extend(["-c", command]));
    let (theirs, ours) = (Room::new(), Room::new());
    furnish(&theirs);
    furnish(&ours);
    let expected = theirs.peer("qemu-io", &whole);
    let ran = ours.quod(&[&["io"], &whole[..]].concat());
    assert_eq!(plain(&expected.out), plain(&ran.out), "{whole:?}\ntheirs {expected:?}\nours {ran:?}");
    assert_eq!(expected.code, ran.code, "{whole:?}\ntheirs {expected:?}\nours {ran:?}");
    ran
}

const QED: [&str; 3] = ["-f", "qed", "a.qed"];

#[test]
fn amounts_and_numbers() {
    agree(
        &QED,
        "write 0 1000; write 0 1023; write 0 1024; write 0 1025; write 0 1048576; write 0 1048577; write \
         0 1049101; write 0 1536; write 0 0; write 0 999k; write 0 1048575",
    );
    agree(
        &QED,
        "read 1k 1b; read 0x200 0x10; read 1.5k 1k; read 010 1; read 1M 1M; read 0 1e; read 1kB 1; read \
         +5 1; read .5k 1; read 0.3k 1; read 0x1k 1; read 1s 1; read 7E 1; read 8E 1; read 9E 0; read \
         9223372036854775807 1; read 9223372036854775807 512; read 9223372036854775808 0; read 1.5 1; \
         read 1.b 1; read . 1; read 0x 1; read 00x1 1; read 1e1 1; read -- -1 1; read 0x1e 1",
    );
    agree(
        &QED,
        "read 80M 0; read 80M 1; read 79M 2M; read 81M 0; read 0 2147483136; read 0 2147483137; read 0 \
         3G; read 0 9999999999999999999999",
    );
}

#[test]
fn reads_verify_and_dump() {
    agree(
        &QED,
        "read -P 3 1M 64k; read -P 4 1M 64k; read -P 3 0 2M; read -P 3 -s 1M -l 64k 0 2M; read -P 3 -s 1M \
         0 2M; read -P 0 -s 4k -l 1 0 4k; read -P 3 -s 1k -l 4k 0 4k; read -v 1048566 50; read -vP 1 10M \
         20; read -vq 0 20; read -vC 0 20; read -C 0 4k; read -q 0 4k; read 0 1 -q; read -qP0 0 1",
    );
    agree(
        &QED,
        "read -b 0 4k; read -b 0 1; read -s 1 0 4k; read -l 1 0 4k; read -P 300 0 1; read -P -1 0 1; read \
         -P 0xab 0 1; read -P 010 0 1; read -P 1k 0 1; read -P \"\" 0 1; read -P; read; read 0; read 0 1 2; \
         read -Z 0 1; read -1 5; read \"0\" 1; read\t0 1; ; foo; read 0 20 # c; read -p -r 0 1",
    );
    agree(
        &QED,
        "readv 0 1k 1k; readv -v 0 10 20; readv -P 0 0 1k 2k; readv 0 0; readv 0 1k 3G; readv 0 1G 1G; \
         readv -C 0 1k; readv abc 1; readv 0 abc; readv -p 0 1; readv 80M 1",
    );
}

#[test]
fn writes_are_what_they_say() {
    agree(
        &QED,
        "write -P 9 5000 3000; read -P 9 5000 3000; write -z 5100 10; read -v 5090 30; write -s pattern 0 \
         32; read -v 0 40; write -f 0 1k; write -C 0 1k; write -q 0 1k; write -p -r 0 1k; write -z -u 0 \
         64k; read -P 0 0 64k; write -zf 64k 64k; write -z 0 200k; read -P 0 0 200k; writev -P 4 0 1k 2k; \
         read -P 4 0 3k; writev -f 0 1k; writev -q 0 1k; write -zc 0 64k",
    );
    agree(
        &QED,
        "write -u 0 64k; write -z -P 3 0 1; write -n 0 64k; write -c 0 64k; write -b 0 1k; write -bc 0 1; \
         write -s missing 0 10; write -s empty 0 10; write -s pattern -P 3 0 10; write -s . 0 10; write \
         -z 0 3G; write 80M 1; write -z 80M 1; write -z 79M 2M; write 0; write -P 1 0 1 1; write -zb 0 \
         64k; write -f -b 0 1k; writev -z 0 1k; writev -P 400 0 1; writev 79M 1M 1M; length",
    );
    agree(
        &["-f", "qed", "over.qed"],
        "write -P 5 1M 1k; read -P 5 1M 1k; read -P 3 1025k 63k; write -z 1100000 3; map; alloc 0 90M; \
         read -P 0 85M 1M; write -P 1 84M 100k; map",
    );
    agree(
        &["-f", "raw", "a.raw"],
        "length; map; info; read 0 1024; write -P 7 1000 24; read -v 990 34; write 1000 25; write -z 10 \
         100; discard 0 512; alloc 0 1k; flush",
    );
}

#[test]
fn requests_run_aside_do_not_change_the_exit_code() {
    let commands = "aio_write -P 1 0 1k; aio_read -P 2 0 1k; aio_read 80M 1k; aio_write 80M 1k; aio_write -z 0 64k; \
        aio_write -zu 0 64k; aio_write -z -P 1 0 1k; aio_write -i 0 1k; aio_read -i 0 1k; aio_read -v 0 \
        16; aio_read -q 0 16; aio_read -C 0 16; aio_write -f 0 1k; aio_write -zf 0 1k; aio_write -z 0 \
        3G; aio_read 0 1k 1k 1k; aio_read 0; aio_read 0 abc; aio_write -u 0 1k; aio_write -z 0 1k 1k; \
        aio_read 0 3G; aio_write -b 0 1k; aio_flush x";
    for command in commands.split("; ") {
        agree(&QED, &format!("{command}; aio_flush; length"));
    }
    agree(&QED, "aio_read 0 1k; quit; length");
    let room = Room::new();
    furnish(&room);
    let writes: Vec<String> = (0..200).map(|n| format!("aio_write -P {} {}k 64k", n + 1, n * 64)).collect();
    let reads: Vec<String> = (0..200).map(|n| format!("read -q -P {} {}k 64k", n + 1, n * 64)).collect();
    let lines = [writes.join("\n"), "aio_flush".to_owned(), reads.join("\n")].join("\n");
    let ran = room.run(QUOD, &["io", "a.qed"], &lines).exits(0);
    assert_eq!(ran.out.matches("wrote 65536/65536 bytes").count(), 200);
    room.peer("qemu-img", &["check", "a.qed"]).exits(0);
}

#[test]
fn the_shape_of_the_image_is_told() {
    agree(
        &QED,
        "alloc 0; alloc 0 1; alloc 0 64k; alloc 0 1M; alloc 1; alloc 512 3; alloc 300M; alloc 300M 1; \
         alloc abc; alloc 0 abc; alloc 0 3G; alloc 79M 2M; alloc; alloc 0 1 2; alloc 1k 0; map; map 3; \
         info; info x; length; flush; flush x; discard 0 64k; discard 1 100; discard 80M 1; discard 0 3G; \
         discard -C 0 1k; discard -z 0 1; discard 80M 0",
    );
    for size in [
        "",
        "128M",
        "1M",
        "200000001",
        "abc",
        "-m off 256M",
        "-m full 300M",
        "-m foo 300M",
        "-1",
        "999T",
        "-x 3",
    ] {
        agree(&QED, &format!("truncate {size}; length"));
    }
}

#[test]
fn images_are_opened_and_closed() {
    let sessions = "length
        read 0 1
        open a.qed; length; open a.qed; close; length; close
        open -r a.qed; write 0 1
        open -f qed a.qed
        open missing
        open
        open a b
        open -o driver=raw a.qed; info
        open -o foo=1 a.qed
        open -Z a.qed
        open -U a.qed; length
        open -r -U a.qed; length
        open -o driver=qed,file.filename=a.qed; length
        quit 3; length";
    for commands in sessions.lines().map(str::trim) {
        agree(&[], commands);
    }
    agree(&["a.qed"], "close; length");
    agree(&["a.qed"], "reopen -c foo");
    agree(
        &["a.qed"],
        "reopen -r; write 0 1; reopen -w; write 0 1; reopen x; reopen -z; reopen -r -w; reopen -c none",
    );
    agree(
        &["-r", "a.qed"],
        "write 0 1; aio_write 0 1; writev 0 1; discard 0 1; truncate 1G; flush; reopen -w; write 0 1",
    )
    .tells("quod: Block node is read-only");
    for args in [
        &["missing"][..],
        &["-f", "qed", "pattern"],
        &["-f", "foo", "a.qed"],
        &["-U", "a.qed"],
        &["-t", "foo", "a.qed"],
        &["-d", "foo", "a.qed"],
    ] {
        agree(args, "length").exits(1);
    }
    for args in
        [&["-r", "-U", "a.qed"][..], &["-t", "none", "a.qed"], &["-d", "unmap", "a.qed"], &["-n", "a.qed"]]
    {
        agree(args, "length").exits(0);
    }
}

#[test]
fn bad_entries_fail_their_own_range_only() {
    agree(
        &["-r", "-f", "qed", "bad.qed"],
        "read 0 64k; read 64k 64k; read 128k 64k; read 100k 100k; map; alloc 0 64k; alloc 64k 64k; read \
         192k 1M",
    )
    .tells("names file offset 0x123456");
    agree(
        &["-f", "qed", "bad.qed"],
        "write 0 64k; write 64k 64k; write -z 64k 64k; aio_write 64k 1k; aio_flush; write 128k 64k; read \
         128k 64k",
    );
}

#[test]
fn commands_come_from_standard_input_too() {
    let input = "write -P 5 0 1k\nfoo\n\nread -P 5 0 1k\nread 80M 1\nquit\nlength\n";
    let room = Room::new();
    furnish(&room);
    let ran = room.run(QUOD, &["io", "a.qed"], input).exits(1).tells("command \"foo\" not found");
    let expected = room.run("qemu-io", &["-f", "qed", "a.qed"], input).exits(1);
    assert_eq!(plain(&expected.out.replace("qemu-io> ", "")).trim(), plain(&ran.out).trim());
    room.run(QUOD, &["io", "a.qed"], "length").exits(0).prints("80 MiB\n");
    room.run(QUOD, &["io", "a.qed"], "").exits(0);
    room.run(QUOD, &["io", "a.qed"], &"x".repeat(3 << 20)).exits(1).tells("longer than");
}

#[test]
fn help_lists_every_command() {
    let room = Room::new();
    let ran = room.quod(&["io", "-c", "help", "-c", "help read", "-c", "help nothere"]).exits(1);
    for name in [
        "aio_flush",
        "aio_read",
        "aio_write",
        "alloc",
        "discard",
        "map",
        "readv",
        "reopen",
        "truncate",
        "writev",
    ] {
        assert!(ran.out.contains(&format!("\n{name} ")), "{name}");
    }
    assert!(ran.out.contains("command nothere not found\n"));
    room.quod(&["io", "--help"]).exits(0).prints("Examples:");
}

#[test]
fn a_long_request_takes_little_memory() {
    let room = Room::new();
    room.quod(&["create", "-q", "big.qed", "4G"]).exits(0);
    let limited = "ulimit -v 1500000; exec \"$0\" io -c 'read 0 2147483136' -c 'aio_read 0 2147483136' -c aio_flush big.qed";
    room.peer("bash", &["-c", limited, QUOD]).exits(0).prints("2 GiB, 1 ops");
}

#[test]
fn the_image_is_clean_afterwards() {
    let room = Room::new();
    furnish(&room);
    room.quod(&["io", "-c", "write -P 1 20M 1M", "-c", "aio_write 30M 1M", "a.qed"]).exits(0);
    assert_eq!(room.read("a.qed")[16] & 2, 0);
    room.peer("qemu-img", &["check", "a.qed"]).exits(0);
    room.peer("qemu-io", &["-r", "-f", "qed", "-c", "read -P 1 20M 1M", "a.qed"]).exits(0);
}

#[test]
fn a_first_write_over_a_base_is_in_the_file_when_the_policy_says_so() {
    let room = Room::new();
    room.set_len("base", 1 << 20);
    room.create_by_peer(&["-f", "qed", "-b", "base", "-F", "raw", "disk.qed"]);
    let is_in_file = || {
        let ran = room.quod(&["map", "-U", "--output=json", "disk.qed"]).exits(0);
        ran.out.contains("\"depth\": 0, \"present\": true")
    };
    let open = |policy| Holder::open(&room, QUOD, &["io", "--commit", policy, "disk.qed"]);
    let mut holder = open("grouped");
    holder.tell("write 0 64k");
    wait_until("what nobody flushes grows old", is_in_file);
    drop(holder);
    room.create_by_peer(&["-f", "qed", "-b", "base", "-F", "raw", "disk.qed"]);
    let mut holder = open("through");
    holder.tell("write 0 64k");
    assert!(is_in_file());
}

#[test]
fn a_signal_closes_the_image() {
    for (signal, number) in [("-INT", 2), ("-TERM", 15), ("-HUP", 1)] {
        let room = Room::new();
        room.set_len("base", 1 << 20);
        room.create_by_peer(&["-f", "qed", "-b", "base", "-F", "raw", "disk.qed"]);
        let mut holder = Holder::open(&room, QUOD, &["io", "--commit", "grouped", "disk.qed"]);
        holder.tell("write -P 7 0 64k");
        assert_eq!(holder.end_by(signal).signal(), Some(number), "it has its effect");
        room.peer("qemu-io", &["-c", "read -P 7 0 64k", "disk.qed"]).exits(0);
    }
}

#[test]
fn a_signal_that_the_caller_ignores_is_ignored() {
    let room = Room::new();
    room.create_by_peer(&["-f", "qed", "disk.qed", "1M"]);
    let script = format!("trap '' INT; exec {QUOD} io disk.qed");
    let mut holder = Holder::open(&room, "sh", &["-c", &script]);
    holder.signal("-INT");
    holder.tell("write -P 7 0 64k");
    drop(holder);
    room.peer("qemu-io", &["-c", "read -P 7 0 64k", "disk.qed"]).exits(0);
}
