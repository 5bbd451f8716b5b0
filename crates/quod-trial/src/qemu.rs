//! Images that QEMU has made, written to, and closed, or left dirty by a sudden death.
//!
//! Role: runs qemu-img and qemu-io once, and keeps what they leave in memory for all trials of a process.
//!
//! Invariant: what a guest reads of each image is known: every write was of stamped bytes.
//!
//! Absent on purpose: a way to go on without them.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};
use fastrand::Rng;
use quod_sim::{World, stamp};
use tempfile::TempDir;

use crate::base;

/// How many there are.
pub(crate) const COUNT: usize = 16;

/// Stamps of QEMU's writes, and of bytes that somebody left behind the end.
const BY_QEMU: u64 = 3 * stamp::BACKING;
const BEHIND: u64 = 4 * stamp::BACKING;

const GEOMETRIES: [(u32, u32); 4] = [(4096, 2), (8192, 4), (4096, 16), (65536, 4)];

/// One of them.
pub(crate) struct Left {
    pub(crate) cluster_size: u32,
    pub(crate) table_size: u32,
    pub(crate) size: u64,
    pub(crate) backing: Option<Vec<u8>>,
    file: Vec<u8>,
    shown: Vec<u8>,
}

/// All of them.
///
/// # Panics
/// When QEMU's tools are missing or fail.
pub(crate) fn images() -> &'static [Left] {
    static IMAGES: OnceLock<Vec<Left>> = OnceLock::new();
    IMAGES.get_or_init(|| {
        let made: Result<Vec<Left>> = (0..COUNT).map(Left::make).collect();
        made.unwrap_or_else(|error| panic!("the images that QEMU leaves: {error:#}"))
    })
}

/// Whether that image was left by a sudden death; NEED_CHECK tells so where there is no backing file.
pub(crate) fn is_dirty(which: usize) -> bool {
    which / 4 % 2 == 1
}

/// Makes them, where trials are to come that need them.
///
/// # Panics
/// When QEMU's tools are missing or fail.
pub fn prepare() {
    images();
}

impl Left {
    /// By its number: geometry, whether it is dirty, whether it has a backing file.
    fn make(which: usize) -> Result<Left> {
        let (cluster_size, table_size) = GEOMETRIES[which % 4];
        let dirty = is_dirty(which);
        let mut dice = Rng::with_seed(which as u64);
        let size = 512 * dice.u64(5000..9000);
        let backing =
            (which / 8 == 1).then(|| base::raw_bytes(size / 2 + 512 * dice.u64(..6000), which as u64));
        let place = TempDir::new()?;

        let mut create = Command::new("qemu-img");
        create.current_dir(&place).args(["create", "-q", "-f", "qed"]);
        if let Some(bytes) = &backing {
            fs::write(place.path().join("base"), bytes)?;
            create.args(["-b", "base", "-F", "raw"]);
        }
        create.args(["-o", &format!("cluster_size={cluster_size},table_size={table_size}")]);
        create.args(["disk.qed", &size.to_string()]);
        let created = create.output().context("qemu-img (package qemu-utils)")?;
        ensure!(created.status.success(), "qemu-img create: {}", String::from_utf8_lossy(&created.stderr));

        let mut shown = backing.clone().unwrap_or_default();
        shown.resize(size as usize, 0);
        use_it(place.path(), &mut shown, dirty, &mut dice)?;
        let file = fs::read(place.path().join("disk.qed"))?;
        ensure!(
            (file[16] & 2 != 0) == (dirty && backing.is_none()),
            "image {which}: NEED_CHECK is not as it should be"
        );
        Ok(Left { cluster_size, table_size, size, backing, file, shown })
    }

    /// Puts it into a world as a disk of `size` bytes, by seed with bytes of somebody else behind the file's end. Returns
    /// what a guest reads.
    pub(crate) fn install(&self, world: &World, name: &Path, size: u64, seed: u64) -> Vec<u8> {
        let mut dice = Rng::with_seed(seed ^ 0x7a11);
        let mut file = self.file.clone();
        file[48..56].copy_from_slice(&size.to_le_bytes());
        let cluster = self.cluster_size as usize;
        let behind = [0, dice.usize(1..cluster), 3 * cluster, 2 * cluster + dice.usize(1..cluster)];
        let at = file.len();
        file.extend(stamp::bytes(at as u64, behind[dice.usize(..4)], BEHIND + 1));
        world.install(name, &file);
        if let Some(bytes) = &self.backing {
            world.install(base::base(), bytes);
        }
        self.shown[..size as usize].to_vec()
    }
}

/// Has qemu-io write stamped bytes here and there, and end in good order or not.
fn use_it(place: &Path, shown: &mut [u8], dirty: bool, dice: &mut Rng) -> Result<()> {
    let mut qemu_io = Command::new("qemu-io");
    qemu_io.current_dir(place).args(["-f", "qed", "disk.qed"]);
    for sequence in 1..12 {
        let at = 512 * dice.usize(..shown.len() / 512 - 200);
        let len = 512 * dice.usize(1..200);
        stamp::fill(&mut shown[at..at + len], at as u64, BY_QEMU + sequence);
        let name = format!("bytes-{sequence}");
        fs::write(place.join(&name), &shown[at..at + len])?;
        qemu_io.args(["-c", &format!("write -q -s {name} {at} {len}")]);
    }
    if dirty {
        qemu_io.args(["-c", "sigraise 9"]);
    }
    let ended = qemu_io.output().context("qemu-io (package qemu-utils)")?;
    let told = String::from_utf8_lossy(&ended.stderr);
    ensure!(ended.status.success() != dirty, "qemu-io ended with {}: {told}", ended.status);
    ensure!(ended.stdout.is_empty() && told.is_empty(), "{}{told}", String::from_utf8_lossy(&ended.stdout));
    Ok(())
}
