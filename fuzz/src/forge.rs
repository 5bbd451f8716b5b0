//! Image files out of a fuzzer's bytes.
//!
//! Role: [`File::from_bytes`] takes bytes as they are, as patches of an empty file (so that real images with their holes
//! are small inputs), or as choices for a plausible image: a header that mostly holds, tables that mostly name clusters
//! of the file.
//!
//! Invariant: the same bytes give the same file; memory follows the bytes, whatever length the file claims.
//!
//! Absent on purpose: judging images.

use std::path::Path;
use std::sync::LazyLock;

use arbitrary::{Result, Unstructured};
use quod::storage::{Access, Buffer, ExtentKind, Held, Memory, MemoryOpener, Storage};
use quod::{CreateOptions, Fua, Image, OpenOptions, block_on};

/// The file that is forged.
pub(crate) const DISK: &str = "disk.qed";
/// A raw file beside it.
const RAW_BASE: &str = "base";
/// A sound image beside it.
const QED_BASE: &str = "base.qed";

/// Room for eight slices in every table cache: enough, and soon set up and full.
pub(crate) const CACHE_BYTES: usize = 8 * 4096;

const RAW_BASE_LEN: usize = 20_000;
/// Tables and data of a forged image lie in its first clusters.
const CLUSTERS: u64 = 24;

/// A forged file.
pub(crate) struct File {
    /// Written one after another.
    pieces: Vec<(u64, Vec<u8>)>,
    length: u64,
}

impl File {
    /// Makes a file; the first byte says how.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Self {
        let (how, rest) = bytes.split_first().map_or((0, bytes), |(how, rest)| (*how, rest));
        let mut rest = Unstructured::new(rest);
        let made = match how % 4 {
            0 => return File::of(rest.take_rest().to_vec()),
            1 => patches(&mut rest),
            _ => plausible(&mut rest),
        };
        made.unwrap_or_else(|_too_few_bytes| File::of(Vec::new()))
    }

    fn of(bytes: Vec<u8>) -> Self {
        File { length: bytes.len() as u64, pieces: vec![(0, bytes)] }
    }

    fn put(&mut self, at: u64, bytes: &[u8]) {
        self.pieces.push((at, bytes.to_vec()));
    }

    fn put_entry(&mut self, at: u64, entry: u64) {
        self.put(at, &entry.to_le_bytes());
    }

    /// The file anew, as it was forged, with files beside it that its header may name.
    pub(crate) fn opener(&self) -> MemoryOpener {
        let opener = MemoryOpener::new();
        let raw: Vec<u8> = (0..RAW_BASE_LEN).map(|at| (at / 512 + 1) as u8).collect();
        write(&opener.file(Path::new(RAW_BASE)), 0, &raw);
        restore(&opener.file(Path::new(QED_BASE)), &SOUND_BASE);
        let file = opener.file(Path::new(DISK));
        for (at, bytes) in &self.pieces {
            write(&file, *at, bytes);
        }
        let length = self.length.min(i64::MAX as u64);
        block_on(file.set_len(length, Held::NOTHING)).expect("files can be that long");
        opener
    }
}

/// The pages of a file that are not zeroes, and its length.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Snapshot {
    pages: Vec<(u64, Vec<u8>)>,
    length: u64,
}

/// What the forged file holds now.
pub(crate) fn snapshot(opener: &MemoryOpener) -> Snapshot {
    taken(&opener.file(Path::new(DISK)))
}

fn taken(file: &Memory) -> Snapshot {
    let length = block_on(file.length()).expect("memory has a length");
    let (mut at, mut pages) = (0, Vec::new());
    while at < length {
        let extent = block_on(file.extent(at, length - at)).expect("memory knows its holes");
        if extent.kind == ExtentKind::Data {
            let page = Buffer::zeroed(extent.len as usize);
            let page = block_on(file.read_at(at, page.into())).expect("it is inside").into_single();
            if page.iter().any(|&byte| byte != 0) {
                pages.push((at, page.to_vec()));
            }
        }
        at += extent.len;
    }
    Snapshot { pages, length }
}

fn restore(file: &Memory, snapshot: &Snapshot) {
    for (at, page) in &snapshot.pages {
        write(file, *at, page);
    }
    block_on(file.set_len(snapshot.length, Held::NOTHING)).expect("it had that length before");
}

fn write(file: &Memory, at: u64, bytes: &[u8]) {
    block_on(file.write_at(at, Buffer::copy_of(bytes).into())).expect("pieces lie where files can");
}

static SOUND_BASE: LazyLock<Snapshot> = LazyLock::new(|| {
    let opener = MemoryOpener::new();
    let name = Path::new(QED_BASE);
    block_on(async {
        let options = CreateOptions { cluster_size: 4096, table_size: 1, ..CreateOptions::new(256 << 10) };
        Image::create(&opener, name, &options).await?;
        let image = Image::open(&opener, name, &OpenOptions::new(Access::Write)).await?;
        image.write(5000, Buffer::copy_of(&[0xb5; 9000]), Fua::No).await?;
        image.close().await
    })
    .expect("memory does not fail");
    taken(&opener.file(name))
});

/// `length, (at, count, bytes)…`: what is not said is a hole.
fn patches(bytes: &mut Unstructured<'_>) -> Result<File> {
    let length = u64::from(bytes.arbitrary::<u32>()?);
    let mut file = File { pieces: Vec::new(), length };
    while !bytes.is_empty() {
        let (at, count) = (bytes.arbitrary::<u32>()?, bytes.arbitrary::<u16>()?);
        let count = usize::from(count).min(bytes.len());
        file.put(at.into(), bytes.bytes(count)?);
    }
    Ok(file)
}

/// A header, mostly sound, with tables and data behind it.
fn plausible(bytes: &mut Unstructured<'_>) -> Result<File> {
    let header = Fields::chosen(bytes)?;
    let cluster = 1 << header.cluster_bits.min(26);
    let mut file = File { pieces: Vec::new(), length: cluster * (2 + bytes.int_in_range(0..=CLUSTERS)?) };
    file.put(0, &header.encode());
    if let Some(name) = &header.backing {
        file.put(64, name);
    }
    fill_tables(bytes, &mut file, &header, cluster)?;
    for _ in 0..bytes.int_in_range(0..=3)? {
        match bytes.int_in_range(0..=5u8)? {
            0 => file.length += bytes.int_in_range(0..=cluster - 1)?,
            1 => file.length = file.length.saturating_sub(bytes.int_in_range(0..=2 * cluster)?),
            2 => file.length = value(bytes, cluster)? & (i64::MAX as u64),
            3 => file.put(bytes.int_in_range(0..=63u64)?, &[bytes.arbitrary()?]),
            4 => file.put(value(bytes, cluster)? & 0xff_ffff, &value(bytes, cluster)?.to_le_bytes()),
            _ => file.put(4 * bytes.int_in_range(0..=15u64)?, &bytes.arbitrary::<[u8; 4]>()?),
        }
    }
    Ok(file)
}

/// Entries of L1 and of tables, and some data.
fn fill_tables(bytes: &mut Unstructured<'_>, file: &mut File, header: &Fields, cluster: u64) -> Result<()> {
    let table = u64::from(header.table_size.clamp(1, 16));
    let entries = (table * cluster / 8).clamp(1, 1 << 20);
    let mut tables = vec![header.l1];
    let mut free = ((header.l1 / cluster) & 0xffff_ffff) + table;
    for _ in 0..bytes.int_in_range(0..=20u8)? {
        let from = *bytes.choose(&tables)?;
        let index = match bytes.int_in_range(0..=3u8)? {
            0 => bytes.int_in_range(0..=entries - 1)?,
            _ => bytes.int_in_range(0..=15)?,
        };
        let room = if from == header.l1 { table } else { 1 };
        let entry = match bytes.int_in_range(0..=11u8)? {
            0 => value(bytes, cluster)?,
            1 => cluster * bytes.int_in_range(0..=CLUSTERS + 2)?,
            2 => 1,
            _ => {
                free += room;
                cluster * (free - room)
            }
        };
        file.put_entry((from & 0xffff_ffff) + 8 * index, entry);
        if from == header.l1 && (cluster..1 << 32).contains(&entry) && tables.len() < 4 {
            tables.push(entry);
        } else if bytes.ratio(1, 4)? && (cluster..1 << 32).contains(&entry) {
            file.put(entry, &[bytes.arbitrary()?; 700]);
        }
    }
    if bytes.ratio(3, 4)? {
        file.length = file.length.max(cluster * free);
    }
    Ok(())
}

/// A number that says something: a place in the file, a power of two, one less, or anything.
fn value(bytes: &mut Unstructured<'_>, cluster: u64) -> Result<u64> {
    let bit = bytes.int_in_range(0..=63u32)?;
    Ok(match bytes.int_in_range(0..=4u8)? {
        0 => 1 << bit,
        1 => (1 << bit) - 1,
        2 => u64::MAX << bit,
        3 => cluster * bytes.int_in_range(0..=CLUSTERS)? + u64::from(bit),
        _ => bytes.arbitrary()?,
    })
}

/// Fields of a header.
struct Fields {
    cluster_bits: u32,
    table_size: u32,
    header_size: u32,
    features: u64,
    others: [u64; 2],
    l1: u64,
    image_size: u64,
    backing: Option<Vec<u8>>,
    name_at: u32,
}

impl Fields {
    fn chosen(bytes: &mut Unstructured<'_>) -> Result<Self> {
        let cluster_bits = match bytes.int_in_range(0..=7u8)? {
            0 => bytes.int_in_range(0..=31)?,
            1 => bytes.int_in_range(12..=26)?,
            2 => 13,
            _ => 12,
        };
        let table_size = match bytes.int_in_range(0..=7u8)? {
            0 => bytes.arbitrary()?,
            1 => 1 << bytes.int_in_range(0..=4u32)?,
            2 => 2,
            _ => 1,
        };
        let header_size = match bytes.int_in_range(0..=7u8)? {
            0 => bytes.arbitrary()?,
            1 => 2,
            _ => 1,
        };
        let cluster = 1u64 << cluster_bits;
        let backing = if bytes.ratio(1, 4)? { Some(backing_name(bytes)?) } else { None };
        let known = u64::from(bytes.int_in_range(0..=3u8)?) << 1;
        Ok(Fields {
            cluster_bits,
            table_size,
            header_size,
            features: u64::from(backing.is_some())
                | if bytes.ratio(1, 16)? { bytes.arbitrary()? } else { known },
            others: if bytes.ratio(1, 8)? { bytes.arbitrary()? } else { [0; 2] },
            l1: match bytes.int_in_range(0..=7u8)? {
                0 => value(bytes, cluster)?,
                1 => cluster * bytes.int_in_range(1..=8)?,
                _ => u64::from(header_size).saturating_mul(cluster),
            },
            image_size: match bytes.int_in_range(0..=7u8)? {
                0 => value(bytes, cluster)?,
                1 => value(bytes, cluster)? & !511 & (i64::MAX as u64),
                2 => 512 * u64::from(bytes.arbitrary::<u16>()?),
                _ => 512 * bytes.int_in_range(0..=800)?,
            },
            backing,
            name_at: if bytes.ratio(1, 8)? { bytes.arbitrary()? } else { 64 },
        })
    }

    fn encode(&self) -> Vec<u8> {
        let mut header = b"QED\0".to_vec();
        for word in [1 << self.cluster_bits, self.table_size, self.header_size] {
            header.extend(u32::to_le_bytes(word));
        }
        for word in [self.features, self.others[0], self.others[1], self.l1, self.image_size] {
            header.extend(word.to_le_bytes());
        }
        let len = self.backing.as_ref().map_or(0, |name| name.len() as u32);
        header.extend(self.name_at.to_le_bytes());
        header.extend(len.to_le_bytes());
        header
    }
}

fn backing_name(bytes: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let names = [RAW_BASE, QED_BASE, QED_BASE, DISK, "absent", "file:base", "nbd:unix:/sock", "./base.qed"];
    Ok(match bytes.int_in_range(0..=8usize)? {
        known if known < names.len() => names[known].into(),
        _ => {
            let count = bytes.int_in_range(0..=300usize)?.min(bytes.len());
            bytes.bytes(count)?.to_vec()
        }
    })
}
