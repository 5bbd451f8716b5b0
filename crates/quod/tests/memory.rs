//! Memory follows what is used of an image, not what its header claims. Each law runs in a process of its own.

mod common;

use std::path::Path;
use std::process::Command;

use common::*;
use quod::{CacheBudget, Format, block_on};
use quod_storage::{Access, Buffer, FileOpener};

const CHILD: &str = "QUOD_TEST_DIRECTORY";

/// The most memory that this process has had, in bytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc is there");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
}

/// Prepares in this process, then works in a fresh one, whose peak must stay below the limit.
fn takes_less_than(limit: u64, law: &str, prepare: impl FnOnce(&Path), work: impl FnOnce(&Path)) {
    if let Some(directory) = std::env::var_os(CHILD) {
        work(Path::new(&directory));
        assert!(peak() < limit, "{} bytes", peak());
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    prepare(directory.path());
    let child = Command::new(std::env::current_exe().expect("this program"))
        .args([law, "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD, directory.path())
        .output()
        .expect("this program runs");
    let said =
        format!("{}{}", String::from_utf8_lossy(&child.stdout), String::from_utf8_lossy(&child.stderr));
    assert!(child.status.success() && said.contains("1 passed"), "{said}");
}

#[test]
fn a_block_of_a_64_tib_disk_is_read_in_32_mib() {
    takes_less_than(
        32 << 20,
        "a_block_of_a_64_tib_disk_is_read_in_32_mib",
        |directory| {
            let image = fresh(&FileOpener, &directory.join(DISK), Shape::usual(64 << 40), None);
            write(&image, (64 << 40) - 4096, &[7; 4096]);
            close(image);
        },
        |directory| {
            let image = open(&FileOpener, &directory.join(DISK), Access::Read);
            assert_same(&read(&image, (64 << 40) - 4096, 4096), &[7; 4096], "the last block");
            assert_same(&read(&image, 0, 4096), &[0; 4096], "the first");
        },
    );
}

#[test]
fn the_largest_tables_are_read_and_written_in_64_mib() {
    const SHAPE: Shape = Shape { size: 1 << 60, cluster: 64 << 20, table: 16 };
    takes_less_than(
        64 << 20,
        "the_largest_tables_are_read_and_written_in_64_mib",
        |_| {},
        |directory| {
            let name = directory.join(DISK);
            let image = fresh(&FileOpener, &name, SHAPE, None);
            let places = [0, (64 << 20) - 2048, 1 << 53, (1 << 55) + 12_345, (1 << 60) - 4096];
            for (i, at) in places.into_iter().enumerate() {
                write(&image, at, &pattern(i as u64, 4096));
            }
            close(image);
            let image = open(&FileOpener, &name, Access::Read);
            for (i, at) in places.into_iter().enumerate() {
                assert_same(&read(&image, at, 4096), &pattern(i as u64, 4096), "a far block");
            }
            assert_eq!(assert_clean(&FileOpener, &name), 5);
        },
    );
}

#[test]
fn a_large_cluster_is_copied_in_pieces() {
    takes_less_than(
        48 << 20,
        "a_large_cluster_is_copied_in_pieces",
        |directory| {
            let base = directory.join("base.raw");
            std::fs::write(base, pattern(1, 70 << 20)).expect("a base");
            let shape = Shape { size: 70 << 20, cluster: 64 << 20, table: 1 };
            make(&FileOpener, &directory.join(DISK), shape, Some(("base.raw", Format::Raw)));
        },
        |directory| {
            let image = open(&FileOpener, &directory.join(DISK), Access::Write);
            write(&image, 5 << 20, &[9; 10]);
            close(image);
            assert_clean(&FileOpener, &directory.join(DISK));
        },
    );
}

#[test]
fn a_check_of_a_table_full_of_garbage_is_bounded() {
    const SHAPE: Shape = Shape { size: 1 << 30, cluster: 512 << 10, table: 16 };
    takes_less_than(
        32 << 20,
        "a_check_of_a_table_full_of_garbage_is_bounded",
        |directory| {
            let name = directory.join(DISK);
            make(&FileOpener, &name, SHAPE, None);
            let mut file = std::fs::read(&name).expect("the image");
            file[SHAPE.l1().start as usize..].copy_from_slice(&pattern(5, SHAPE.table_bytes() as usize));
            std::fs::write(&name, file).expect("a worse image");
        },
        |directory| {
            let report = report(&FileOpener, &directory.join(DISK));
            assert_eq!(report.corruptions, SHAPE.table_bytes() / 8);
            assert!(report.findings.len() <= 1000, "only the first are told");
        },
    );
}

#[test]
fn a_walk_over_many_tables_stays_within_the_budget_of_the_cache() {
    const SPAN: u64 = 2 << 30;
    takes_less_than(
        32 << 20,
        "a_walk_over_many_tables_stays_within_the_budget_of_the_cache",
        |directory| {
            let image = fresh(&FileOpener, &directory.join(DISK), Shape::usual(1 << 40), None);
            (0..500).for_each(|i| write(&image, i * SPAN, &[i as u8; 512]));
            close(image);
        },
        |directory| {
            let mut options = options(Access::Read);
            // Their slices are packed, of which so much holds a third.
            options.cache = CacheBudget::Own(1 << 15);
            let image =
                block_on(quod::Image::open(&FileOpener, &directory.join(DISK), &options)).expect("it opens");
            for i in 0..500 {
                let back = block_on(image.read(i * SPAN, Buffer::zeroed(512))).expect("a read");
                assert_same(&back, &[i as u8; 512], "a block");
            }
            let stats = image.cache_stats();
            assert!(stats.bytes <= 1 << 15 && stats.evictions + stats.bypasses > 200, "{stats:?}");
        },
    );
}
