//! Images cross between this engine and the reference tools, both ways, at every geometry.

mod common;

use std::path::Path;

use common::*;
use quod::{Format, Fua, Room, block_on};
use quod_storage::{Access, FileOpener};

/// Every geometry that the format allows.
fn geometries() -> impl Iterator<Item = (u32, u32)> {
    (12..=26).flat_map(|bits| [1, 2, 4, 8, 16].map(|table| (1 << bits, table)))
}

/// A disk that crosses from one table to the next where tables are small enough for that.
fn shape(cluster: u32, table: u32) -> Shape {
    let (cluster_bytes, table_bytes) = (u64::from(cluster), u64::from(cluster) * u64::from(table));
    let span = table_bytes / 8 * cluster_bytes;
    let size = if span <= 4 << 30 { span + 3 * cluster_bytes } else { 6 * cluster_bytes };
    Shape { size, cluster, table }
}

/// Places, lengths and patterns to write: whole clusters and parts, at the start, between clusters, at the end.
fn pieces(shape: Shape) -> Vec<(u64, u64, u8)> {
    let (cluster, end) = (shape.cluster(), shape.size);
    vec![
        (0, 512, 0x11),
        (cluster - 512, 1024, 0x22),
        (2 * cluster, cluster.min(1 << 20), 0x33),
        (end - 2 * cluster - 2048, 4096, 0x44),
        (end - 1024, 1024, 0x55),
    ]
}

fn commands(verb: &str, shape: Shape) -> Vec<String> {
    pieces(shape).iter().map(|(at, len, byte)| format!("{verb} -P {byte} {at} {len}")).collect()
}

/// Looks at the pieces and at what lies around them, by our own means.
fn verify(name: &Path, shape: Shape) {
    let image = open(&FileOpener, name, Access::Read);
    assert_eq!(image.size(), shape.size);
    for (at, len, byte) in pieces(shape) {
        assert_same(
            &read(&image, at, len as usize),
            &vec![byte; len as usize],
            &format!("{shape:?} at {at}"),
        );
    }
    assert_same(&read(&image, 512, 512), &[0; 512], "between the pieces");
}

fn write_pieces(name: &Path, shape: Shape) {
    let image = open(&FileOpener, name, Access::Write);
    for (at, len, byte) in pieces(shape) {
        write(&image, at, &vec![byte; len as usize]);
    }
    close(image);
    assert_clean(&FileOpener, name);
}

#[test]
fn what_we_write_the_reference_reads_at_every_geometry_it_accepts() {
    let directory = tempfile::tempdir().unwrap();
    let mut accepted = 0;
    for (cluster, table) in geometries() {
        let shape = shape(cluster, table);
        let (theirs, ours) = (directory.path().join("theirs.qed"), directory.path().join("ours.qed"));
        make(&FileOpener, &ours, shape, None);
        write_pieces(&ours, shape);
        verify(&ours, shape);
        if qemu::create(&theirs, shape.size, cluster, table, None) {
            accepted += 1;
            qemu::io("qed", &ours, &commands("read", shape));
            qemu::check(&ours);
        }
        std::fs::remove_file(ours).unwrap();
    }
    assert!(accepted >= 36, "the reference accepts most geometries: {accepted}");
}

#[test]
fn what_the_reference_writes_we_read_and_change_at_every_geometry_it_accepts() {
    let directory = tempfile::tempdir().unwrap();
    for (cluster, table) in geometries() {
        let shape = shape(cluster, table);
        let name = directory.path().join("theirs.qed");
        if !qemu::create(&name, shape.size, cluster, table, None) {
            continue;
        }
        qemu::io("qed", &name, &commands("write", shape));
        verify(&name, shape);
        assert_clean(&FileOpener, &name);
        let image = open(&FileOpener, &name, Access::Write);
        write(&image, 1024, &[0x66; 700]);
        write(&image, 3 * shape.cluster() + 9, &[0x77; 700]);
        close(image);
        assert_clean(&FileOpener, &name);
        let changed = [(1024, 700, 0x66), (3 * shape.cluster() + 9, 700, 0x77)]
            .map(|(at, len, byte)| format!("read -P {byte} {at} {len}"));
        qemu::io("qed", &name, &changed);
        qemu::check(&name);
        std::fs::remove_file(name).unwrap();
    }
}

#[test]
fn empty_images_are_the_same_bytes() {
    let directory = tempfile::tempdir().unwrap();
    for (cluster, table) in [(4096, 2), (65536, 4), (1 << 20, 16)] {
        let (theirs, ours) = (directory.path().join("theirs.qed"), directory.path().join("ours.qed"));
        assert!(qemu::create(&theirs, 1 << 30, cluster, table, None));
        make(&FileOpener, &ours, Shape { size: 1 << 30, cluster, table }, None);
        assert_same(&std::fs::read(&ours).unwrap(), &std::fs::read(&theirs).unwrap(), "the new image");
    }
}

/// A raw base with a pattern, shorter than the disk and of an odd length.
fn base(directory: &Path) -> Vec<u8> {
    let bytes = pattern(3, 700_001);
    std::fs::write(directory.join("base.raw"), &bytes).expect("a base");
    bytes
}

const OVERLAY: Shape = Shape { size: 3 << 20, cluster: 65536, table: 4 };

#[test]
fn an_overlay_that_we_write_reads_the_same_there() {
    let directory = tempfile::tempdir().unwrap();
    let mut model = base(directory.path());
    model.resize(OVERLAY.size as usize, 0);
    let name = directory.path().join(DISK);
    let image = fresh(&FileOpener, &name, OVERLAY, Some(("base.raw", Format::Raw)));
    for i in 0..60 {
        let at = i * 48_271 % (OVERLAY.size - 40_000);
        let len = (i * 7919 % 40_000) as usize;
        let bytes = if i % 4 == 0 { vec![0; len] } else { pattern(i, len) };
        if i % 4 == 0 {
            block_on(image.write_zeroes(at, len as u64, Room::GiveBack, Fua::No)).unwrap();
        } else {
            write(&image, at, &bytes);
        }
        model[at as usize..][..len].copy_from_slice(&bytes);
    }
    assert_same(&read_all(&image), &model, "by us");
    close(image);
    assert_clean(&FileOpener, &name);
    qemu::check(&name);
    assert_same(&qemu::content(&name), &model, "by the reference");
}

#[test]
fn an_overlay_that_the_reference_writes_reads_the_same_here() {
    let directory = tempfile::tempdir().unwrap();
    let mut model = base(directory.path());
    model.resize(OVERLAY.size as usize, 0);
    let name = directory.path().join(DISK);
    let below = directory.path().join("base.raw");
    assert!(qemu::create(&name, OVERLAY.size, OVERLAY.cluster, OVERLAY.table, Some((&below, "raw"))));
    let mut script = Vec::new();
    for i in 0..40 {
        let (at, len) = (i * 48_271 % 5000 * 512, (1 + i * 7919 % 80) * 512);
        let at = at.min(OVERLAY.size - len);
        let byte = if i % 4 == 0 { 0 } else { i as u8 };
        script.push(if byte == 0 {
            format!("write -z {at} {len}")
        } else {
            format!("write -P {byte} {at} {len}")
        });
        model[at as usize..][..len as usize].fill(byte);
    }
    qemu::io("qed", &name, &script);
    let image = open(&FileOpener, &name, Access::Read);
    assert_same(&read_all(&image), &model, "by us");
    close(image);
    assert_clean(&FileOpener, &name);
}

#[test]
fn a_full_disk_of_small_clusters_has_no_leaks() {
    // The reference counts four on the same image: it divides by one less than the cluster size.
    let directory = tempfile::tempdir().unwrap();
    let name = directory.path().join(DISK);
    let image = fresh(&FileOpener, &name, Shape { size: 64 << 20, cluster: 4096, table: 4 }, None);
    for at in 0..64 {
        write(&image, at << 20, &[1; 1 << 20]);
    }
    close(image);
    assert_eq!(assert_clean(&FileOpener, &name), 16384);
    let theirs = qemu::run("qemu-img", ["check".as_ref(), name.as_os_str()]);
    assert_eq!(theirs.status.code(), Some(3), "{theirs:?}");
    assert!(String::from_utf8_lossy(&theirs.stdout).contains("4 leaked clusters"), "{theirs:?}");
}

#[test]
fn an_image_that_the_reference_left_dirty_is_repaired_at_the_open() {
    let directory = tempfile::tempdir().unwrap();
    let name = directory.path().join(DISK);
    assert!(qemu::create(&name, 8 << 20, 65536, 4, None));
    let mut holder = qemu::Holder::open(&name, &[]);
    let said = holder.ask("write -P 7 0 128k");
    assert!(said.contains("131072"), "{said}");
    holder.kill();
    let info = block_on(quod::inspect(&FileOpener, &name, Access::Read)).unwrap();
    assert!(info.dirty, "a killed writer leaves NEED_CHECK behind");
    let image = open(&FileOpener, &name, Access::Write);
    assert_same(&read(&image, 0, 128 << 10), &[7; 128 << 10], "a completed write");
    close(image);
    assert_clean(&FileOpener, &name);
    qemu::check(&name);
}
