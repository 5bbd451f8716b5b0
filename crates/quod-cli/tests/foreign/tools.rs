//! nbdcopy, fio, qemu-io, qemu-img: how disks are really used.

use crate::common::servers::Wanted;
use crate::compare;
use crate::differences::Difference;
use crate::images::{EMPTY, LARGE, OVER, PLAIN};
use crate::script::{Script, Step};

const URI: &str = "{uri}";

/// What qemu-io prints but for how long it took.
fn without_times(line: &str) -> Option<String> {
    if let Some((bytes, _)) = line.split_once(" ops; ") {
        return Some(format!("{bytes} ops"));
    }
    Some(line.split_once("Run completed in").map_or(line, |_| "Run completed").to_owned())
}

/// How each job of fio ended.
fn ends(line: &str) -> Option<String> {
    let end =
        line.split_once("err=").map(|(_, end)| format!("err={}", end.split(':').next().unwrap_or_default()));
    end.or_else(|| line.contains("verify:").then(|| line.to_owned()))
}

#[track_caller]
fn check(image: &'static str, steps: &'static [Step], differences: &[Difference]) {
    compare(&Script { image, wanted: Wanted::default(), steps }, differences);
}

#[test]
fn nbdcopy_with_many_connections() {
    const STEPS: &[Step] = &[
        Step::new("out by 1", &["nbdcopy", "--connections=1", URI, "out1.raw"]),
        Step::new("out by 4", &["nbdcopy", "--connections=4", URI, "out4.raw"]),
        Step::new("out by 8", &["nbdcopy", "--connections=8", "--requests=8", URI, "out8.raw"]),
        Step::new("out synchronously", &["nbdcopy", "--synchronous", URI, "outs.raw"]),
        Step::new("out without extents", &["nbdcopy", "--no-extents", URI, "oute.raw"]),
        Step::new("all the same", &["cmp", "out1.raw", "out4.raw"]),
        Step::new("all the same", &["cmp", "out1.raw", "out8.raw"]),
        Step::new("all the same", &["cmp", "out1.raw", "outs.raw"]),
        Step::new("all the same", &["cmp", "out1.raw", "oute.raw"]),
        Step::new("sum", &["sha256sum", "out1.raw"]),
        Step::new("room", &["fallocate", "--length", "300000", "--offset", "9000000", "out1.raw"]),
        Step::new("in by 1", &["nbdcopy", "--connections=1", "--flush", "out1.raw", URI]),
        Step::new("in by 4", &["nbdcopy", "--connections=4", "--flush", "out4.raw", URI]),
        Step::new("in by 8", &["nbdcopy", "--connections=8", "--flush", "out8.raw", URI]),
        Step::new("in as data", &["nbdcopy", "--allocated", "--flush", "out8.raw", URI]),
        Step::new("in without holes", &["nbdcopy", "--destination-is-zero", "out8.raw", URI]),
        Step::new("out again", &["nbdcopy", "--connections=4", URI, "again.raw"]),
        Step::new("nothing lost", &["cmp", "out1.raw", "again.raw"]),
    ];
    check(PLAIN, STEPS, &[]);
    check(OVER, STEPS, &[]);
}

#[test]
fn fio_with_four_jobs() {
    // A job verifies what it wrote itself: each has its own part of the disk.
    const JOB: &[&str] = &[
        "fio",
        "--name=job",
        "--ioengine=nbd",
        "--uri={uri}",
        "--rw=randwrite",
        "--bs=4k",
        "--iodepth=16",
        "--numjobs=4",
        "--size=4M",
        "--offset_increment=16M",
        // Each block tells its place: the disks are the same afterwards.
        "--verify=pattern",
        "--verify_pattern=%o",
        "--do_verify=1",
        "--verify_fatal=1",
        "--verify_state_save=0",
        "--randseed=1",
        "--fsync=32",
    ];
    check(EMPTY, const { &[Step::new("fio", JOB).keeping(ends)] }, &[]);
}

#[test]
fn qemu_io() {
    const STEPS: &[Step] = &[
        Step::new(
            "writes",
            &[
                "qemu-io",
                "-f",
                "raw",
                URI,
                "-c",
                "write -P 21 0 1M",
                "-c",
                "write -f -P 22 70k 3k",
                "-c",
                "write -z 128k 200k",
                "-c",
                "write -z -u 4M 64k",
                "-c",
                "write -z -f 512k 64k",
                "-c",
                "aio_write -P 23 3M 128k",
                "-c",
                "aio_flush",
                "-c",
                "writev -P 24 6M 1k 2k 3k",
                "-c",
                "flush",
                "-c",
                "write -P 25 16776704 512",
            ],
        )
        .keeping(without_times),
        Step::new(
            "reads",
            &[
                "qemu-io",
                "-f",
                "raw",
                "-r",
                URI,
                "-c",
                "read -P 21 0 70k",
                "-c",
                "read -P 22 70k 3k",
                "-c",
                "read -P 0 128k 200k",
                "-c",
                "read -P 0 512k 64k",
                "-c",
                "aio_read -P 23 3M 128k",
                "-c",
                "aio_flush",
                "-c",
                "readv -v 6M 512 512",
                "-c",
                "read -P 25 16776704 512",
                "-c",
                "length",
                "-c",
                "alloc 0 2M",
                "-c",
                "map",
            ],
        )
        .keeping(without_times),
        Step::new(
            "errors",
            &[
                "qemu-io",
                "-f",
                "raw",
                URI,
                "-c",
                "read 16777728 512",
                "-c",
                "write 20M 512",
                "-c",
                "read -P 9 128k 512",
                "-c",
                "write -z 16M 1M",
                "-c",
                "discard 20M 64k",
            ],
        )
        .keeping(without_times)
        .exiting(1),
    ];
    check(PLAIN, STEPS, &[]);
}

#[test]
fn qemu_img() {
    const STEPS: &[Step] = &[
        Step::new("info", &["qemu-img", "info", "--output=json", URI]),
        Step::new("map", &["qemu-img", "map", "-f", "raw", "--output=json", URI]),
        Step::new("convert out", &["qemu-img", "convert", "-f", "raw", "-O", "raw", URI, "out.raw"]),
        Step::new("convert to qcow2", &["qemu-img", "convert", "-f", "raw", "-O", "qcow2", URI, "out.qcow2"]),
        Step::new("many coroutines", &["qemu-img", "convert", "-m", "8", "-W", "-O", "raw", URI, "many.raw"]),
        Step::new("compare", &["qemu-img", "compare", "-f", "raw", "-F", "raw", "out.raw", URI]),
        Step::new("compare qcow2", &["qemu-img", "compare", "-F", "raw", "-f", "qcow2", "out.qcow2", URI]),
        Step::new("compare strictly", &["qemu-img", "compare", "-s", "-f", "raw", "-F", "raw", URI, URI]),
        Step::new("compare many", &["cmp", "out.raw", "many.raw"]),
        Step::new("bench", &["qemu-img", "bench", "-f", "raw", "-c", "500", "-d", "16", "-s", "4096", URI])
            .keeping(without_times),
        Step::new("convert in", &["qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", "many.raw", URI]),
        Step::new("compare in", &["qemu-img", "compare", "-f", "raw", "-F", "raw", "out.raw", URI]),
        Step::new(
            "bench of writes",
            &[
                "qemu-img",
                "bench",
                "-f",
                "raw",
                "-w",
                "-c",
                "200",
                "-d",
                "8",
                "-s",
                "8192",
                "--pattern=7",
                "--flush-interval=50",
                URI,
            ],
        )
        .keeping(without_times),
        Step::new(
            "dd",
            &["qemu-img", "dd", "-f", "raw", "-O", "raw", "bs=64k", "count=9", "if={uri}", "of=dd.raw"],
        ),
        Step::new("sum", &["sha256sum", "dd.raw"]),
    ];
    check(PLAIN, STEPS, &[]);
    check(OVER, STEPS, &[]);
}

#[test]
fn qemu_img_on_more_than_4_gib() {
    const STEPS: &[Step] = &[
        Step::new("map", &["qemu-img", "map", "-f", "raw", "--output=json", URI]),
        Step::new("convert", &["qemu-img", "convert", "-f", "raw", "-O", "qcow2", URI, "out.qcow2"]),
        Step::new("compare", &["qemu-img", "compare", "-F", "raw", "-f", "qcow2", "out.qcow2", URI]),
        Step::new("zeroes", &["qemu-io", "-f", "raw", URI, "-c", "write -z 4G 1G"]).keeping(without_times),
    ];
    check(LARGE, STEPS, &[]);
}
