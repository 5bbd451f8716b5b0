//! The header: 64 bytes and the backing name behind them, to meaning and back.
//!
//! Role: decodes and judges every field (`docs/spec/qed-format.md`, Header), and encodes changes in place so that bytes of
//! unknown features in the header clusters survive. Pure: callers do the I/O.
//!
//! Invariant: a [`Header`] is fit to open: geometry legal, sizes within it, L1 inside the file, no unknown
//! incompatible feature.
//!
//! Absent on purpose: allocation by a header field. The backing name is bounded before it is read.

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::error::{Error, ErrorKind, Result};
use crate::geometry::{Geometry, MAX_IMAGE_SIZE, SECTOR};
use crate::units::FileOffset;

/// Bytes of the encoded header, at file offset 0.
pub(crate) const HEADER_BYTES: usize = 64;
/// Longest backing name that is accepted, in bytes; Linux opens no longer path.
pub(crate) const MAX_BACKING_NAME: u32 = 4096;

const MAGIC: [u8; 4] = *b"QED\0";

const BACKING_FILE: u64 = 0x01;
const NEED_CHECK: u64 = 0x02;
const BACKING_FORMAT_NO_PROBE: u64 = 0x04;
const KNOWN_FEATURES: u64 = BACKING_FILE | NEED_CHECK | BACKING_FORMAT_NO_PROBE;

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawHeader {
    magic: [u8; 4],
    cluster_size: U32,
    table_size: U32,
    header_size: U32,
    features: U64,
    compat_features: U64,
    autoclear_features: U64,
    l1_table_offset: U64,
    image_size: U64,
    backing_filename_offset: U32,
    backing_filename_size: U32,
}

const _: () = assert!(size_of::<RawHeader>() == HEADER_BYTES);

/// A header that is fit to open.
#[derive(Clone)]
pub(crate) struct Header {
    raw: RawHeader,
    geometry: Geometry,
}

/// Where the backing name lies in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NameRange {
    pub(crate) at: FileOffset,
    pub(crate) len: u32,
}

/// What a new image's header says.
pub(crate) struct NewHeader {
    pub(crate) geometry: Geometry,
    pub(crate) image_size: u64,
    pub(crate) l1_table: FileOffset,
    /// Length of the name, which is to stand behind the header, and whether that file is raw.
    pub(crate) backing: Option<(u32, bool)>,
}

/// Whether these first bytes of a file claim to be a QED image.
pub(crate) fn has_magic(start: &[u8]) -> bool {
    start.starts_with(&MAGIC)
}

impl Header {
    /// Reads the first bytes of a file that is `file_length` bytes long.
    ///
    /// # Errors
    /// `NotQed`, `InvalidHeader` or `UnsupportedFeature`, naming the field and its value.
    pub(crate) fn decode(start: &[u8], file_length: u64) -> Result<Self> {
        let Ok((raw, _)) = RawHeader::read_from_prefix(start) else {
            let sentence =
                format!("Image not in QED format: {} bytes are no header of {HEADER_BYTES}", start.len());
            return Err(Error::new(ErrorKind::NotQed, sentence));
        };
        if raw.magic != MAGIC {
            return Err(Error::new(ErrorKind::NotQed, "Image not in QED format"));
        }
        let unknown = raw.features.get() & !KNOWN_FEATURES;
        if unknown != 0 {
            return Err(Error::new(
                ErrorKind::UnsupportedFeature,
                format!("Unsupported QED features: {unknown:x}"),
            ));
        }
        let geometry = legal_geometry(&raw)?;
        let header = Header { raw, geometry };
        header.check_sizes(file_length)?;
        header.check_backing_name()?;
        Ok(header)
    }

    /// Makes the header of a new image.
    pub(crate) fn new(new: &NewHeader) -> Self {
        let features = match new.backing {
            None => 0,
            Some((_, false)) => BACKING_FILE,
            Some((_, true)) => BACKING_FILE | BACKING_FORMAT_NO_PROBE,
        };
        let raw = RawHeader {
            magic: MAGIC,
            cluster_size: U32::new(new.geometry.cluster_size() as u32),
            table_size: U32::new(new.geometry.table_clusters().0 as u32),
            header_size: U32::new((new.geometry.header_end().0 / new.geometry.cluster_size()) as u32),
            features: U64::new(features),
            compat_features: U64::ZERO,
            autoclear_features: U64::ZERO,
            l1_table_offset: U64::new(new.l1_table.0),
            image_size: U64::new(new.image_size),
            backing_filename_offset: U32::new(if new.backing.is_some() { HEADER_BYTES as u32 } else { 0 }),
            backing_filename_size: U32::new(new.backing.map_or(0, |(len, _)| len)),
        };
        Header { raw, geometry: new.geometry }
    }

    /// The bytes for file offset 0.
    pub(crate) fn encode(&self) -> &[u8] {
        self.raw.as_bytes()
    }

    pub(crate) fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Virtual size in bytes.
    pub(crate) fn image_size(&self) -> u64 {
        self.raw.image_size.get()
    }

    pub(crate) fn set_image_size(&mut self, bytes: u64) {
        self.raw.image_size = U64::new(bytes);
    }

    pub(crate) fn l1_table(&self) -> FileOffset {
        FileOffset(self.raw.l1_table_offset.get())
    }

    /// Whether the image was in use and may be inconsistent.
    pub(crate) fn needs_check(&self) -> bool {
        self.raw.features.get() & NEED_CHECK != 0
    }

    pub(crate) fn set_needs_check(&mut self, needed: bool) {
        let others = self.raw.features.get() & !NEED_CHECK;
        self.raw.features = U64::new(others | if needed { NEED_CHECK } else { 0 });
    }

    /// Clears the autoclear bits, none of which we know; tells whether there were any.
    pub(crate) fn clear_autoclear(&mut self) -> bool {
        let had = self.raw.autoclear_features.get() != 0;
        self.raw.autoclear_features = U64::ZERO;
        had
    }

    /// Where the backing name stands, when the image has a backing file.
    pub(crate) fn backing_name(&self) -> Option<NameRange> {
        (self.raw.features.get() & BACKING_FILE != 0).then(|| NameRange {
            at: FileOffset(self.raw.backing_filename_offset.get().into()),
            len: self.raw.backing_filename_size.get(),
        })
    }

    /// Whether the backing file is raw and must never be probed.
    pub(crate) fn backing_is_raw(&self) -> bool {
        self.raw.features.get() & BACKING_FORMAT_NO_PROBE != 0
    }

    fn check_sizes(&self, file_length: u64) -> Result<()> {
        let geometry = &self.geometry;
        let size = self.image_size();
        let most = geometry.max_image_size().min(MAX_IMAGE_SIZE.into());
        if !size.is_multiple_of(SECTOR) || u128::from(size) > most {
            return Err(invalid(format!(
                "QED image size is invalid: {size} (a multiple of {SECTOR}, at most {most})"
            )));
        }
        let l1 = self.l1_table();
        if !geometry.is_cluster_start(l1.0) || l1 < geometry.header_end() {
            return Err(invalid(format!(
                "QED table offset is invalid: L1 at {l1} (a cluster past the header)"
            )));
        }
        if l1.0.checked_add(geometry.table_bytes()).is_none_or(|end| end > file_length) {
            let end = format!("L1 at {l1} reaches past the end of the file, {file_length:#x}");
            return Err(invalid(format!("QED table offset is invalid: {end}; is the image truncated?")));
        }
        Ok(())
    }

    fn check_backing_name(&self) -> Result<()> {
        let Some(NameRange { at, len }) = self.backing_name() else { return Ok(()) };
        if len == 0 || len > MAX_BACKING_NAME || at.0 + u64::from(len) > self.geometry.header_end().0 {
            let place = format!("{len} bytes at {at}");
            return Err(invalid(format!(
                "QED backing filename is invalid: {place} (inside the header clusters)"
            )));
        }
        Ok(())
    }
}

fn legal_geometry(raw: &RawHeader) -> Result<Geometry> {
    let (cluster, table, header) = (raw.cluster_size.get(), raw.table_size.get(), raw.header_size.get());
    Geometry::new(cluster, table, header).ok_or_else(|| {
        let legal_with = |cluster, table| Geometry::new(cluster, table, 1).is_some();
        invalid(if !legal_with(cluster, 1) {
            format!("QED cluster size is invalid: {cluster} (a power of two from 4 KiB to 64 MiB)")
        } else if !legal_with(cluster, table) {
            format!("QED table size is invalid: {table} (1, 2, 4, 8 or 16)")
        } else {
            format!("QED header size is invalid: {header} (at least one cluster)")
        })
    })
}

fn invalid(sentence: String) -> Error {
    Error::new(ErrorKind::InvalidHeader, sentence)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: u64 = 5 * 65536;

    fn sound() -> RawHeader {
        let geometry = Geometry::new(65536, 4, 1).unwrap();
        Header::new(&NewHeader { geometry, image_size: 1 << 30, l1_table: FileOffset(65536), backing: None })
            .raw
    }

    fn judge(change: impl FnOnce(&mut RawHeader)) -> Option<(ErrorKind, String)> {
        let mut raw = sound();
        change(&mut raw);
        Header::decode(raw.as_bytes(), LENGTH).err().map(|error| (error.kind(), error.message().to_owned()))
    }

    fn refused(change: impl FnOnce(&mut RawHeader), sentence: &str) {
        let (_, message) = judge(change).expect("the field is out of bounds");
        assert!(message.starts_with(sentence), "{message}");
    }

    #[test]
    fn a_sound_header_survives_the_round_trip() {
        assert_eq!(judge(|_| ()), None);
        let header = Header::decode(sound().as_bytes(), LENGTH).unwrap();
        assert_eq!(header.encode(), sound().as_bytes());
        assert_eq!(&header.encode()[..8], b"QED\0\0\0\x01\0");
    }

    #[test]
    fn every_field_is_judged_at_and_past_its_bounds() {
        refused(|raw| raw.magic = *b"QEDD", "Image not in QED format");
        refused(|raw| raw.features = U64::new(8), "Unsupported QED features: 8");
        refused(|raw| raw.cluster_size = U32::new(2048), "QED cluster size is invalid");
        refused(|raw| raw.cluster_size = U32::new(1 << 27), "QED cluster size is invalid");
        refused(|raw| raw.cluster_size = U32::new(65537), "QED cluster size is invalid");
        refused(|raw| raw.table_size = U32::new(0), "QED table size is invalid");
        refused(|raw| raw.table_size = U32::new(3), "QED table size is invalid");
        refused(|raw| raw.table_size = U32::new(32), "QED table size is invalid");
        refused(|raw| raw.header_size = U32::new(0), "QED header size is invalid");
        refused(|raw| raw.header_size = U32::new(2), "QED table offset is invalid");
        refused(|raw| raw.header_size = U32::new(u32::MAX), "QED table offset is invalid");
        refused(|raw| raw.l1_table_offset = U64::new(65537), "QED table offset is invalid");
        refused(|raw| raw.l1_table_offset = U64::ZERO, "QED table offset is invalid");
        refused(|raw| raw.l1_table_offset = U64::new(2 * 65536), "QED table offset is invalid");
        refused(|raw| raw.l1_table_offset = U64::new(!65535), "QED table offset is invalid");
        refused(|raw| raw.image_size = U64::new(513), "QED image size is invalid");
        refused(|raw| raw.image_size = U64::new((64 << 40) + 512), "QED image size is invalid");
        assert_eq!(judge(|raw| raw.image_size = U64::new(64 << 40)), None);
        assert_eq!(judge(|raw| raw.image_size = U64::ZERO), None);
        assert_eq!(judge(|raw| raw.compat_features = U64::new(u64::MAX)), None);
    }

    #[test]
    fn the_backing_name_lies_within_the_header_clusters() {
        let backing = |at: u32, len: u32| {
            move |raw: &mut RawHeader| {
                raw.features = U64::new(BACKING_FILE);
                raw.backing_filename_offset = U32::new(at);
                raw.backing_filename_size = U32::new(len);
            }
        };
        assert_eq!(judge(backing(64, 4096)), None);
        assert_eq!(judge(backing(65536 - 10, 10)), None);
        refused(backing(65536 - 10, 11), "QED backing filename is invalid");
        refused(backing(64, 0), "QED backing filename is invalid");
        refused(backing(64, 4097), "QED backing filename is invalid");
        refused(backing(u32::MAX, u32::MAX), "QED backing filename is invalid");
    }

    #[test]
    fn a_truncated_header_is_not_qed() {
        for len in 0..HEADER_BYTES {
            let error = Header::decode(&sound().as_bytes()[..len], LENGTH).err().expect("too short");
            assert_eq!(error.kind(), ErrorKind::NotQed);
        }
    }
}
