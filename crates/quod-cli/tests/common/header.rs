//! QED images written byte by byte, from the description of the format alone.

use super::Room;

pub(crate) const CLUSTER: u64 = 65536;

/// The fields of a header, and what follows it.
#[derive(Clone)]
pub(crate) struct Header {
    pub(crate) magic: [u8; 4],
    pub(crate) cluster_size: u32,
    pub(crate) table_size: u32,
    pub(crate) header_size: u32,
    pub(crate) features: u64,
    pub(crate) compat_features: u64,
    pub(crate) autoclear_features: u64,
    pub(crate) l1_table_offset: u64,
    pub(crate) image_size: u64,
    pub(crate) backing_filename_offset: u32,
    pub(crate) backing_filename_size: u32,
    /// Directly behind the header.
    pub(crate) name: Vec<u8>,
    pub(crate) file_length: u64,
}

pub(crate) const BACKING_FILE: u64 = 1;
pub(crate) const NEED_CHECK: u64 = 2;
pub(crate) const NO_PROBE: u64 = 4;

impl Header {
    /// A sound image of 1 MiB with one header cluster and an empty L1.
    pub(crate) fn sound() -> Self {
        Header {
            magic: *b"QED\0",
            cluster_size: CLUSTER as u32,
            table_size: 4,
            header_size: 1,
            features: 0,
            compat_features: 0,
            autoclear_features: 0,
            l1_table_offset: CLUSTER,
            image_size: 1 << 20,
            backing_filename_offset: 0,
            backing_filename_size: 0,
            name: Vec::new(),
            file_length: 5 * CLUSTER,
        }
    }

    /// A sound image over a backing file.
    pub(crate) fn over(name: &[u8], raw: bool) -> Self {
        Header {
            features: BACKING_FILE | if raw { NO_PROBE } else { 0 },
            backing_filename_offset: 64,
            backing_filename_size: name.len() as u32,
            name: name.to_vec(),
            ..Header::sound()
        }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.magic.to_vec();
        for field in [self.cluster_size, self.table_size, self.header_size] {
            bytes.extend(field.to_le_bytes());
        }
        let wide = [
            self.features,
            self.compat_features,
            self.autoclear_features,
            self.l1_table_offset,
            self.image_size,
        ];
        wide.iter().for_each(|field| bytes.extend(field.to_le_bytes()));
        for field in [self.backing_filename_offset, self.backing_filename_size] {
            bytes.extend(field.to_le_bytes());
        }
        assert_eq!(bytes.len(), 64);
        bytes.extend(&self.name);
        bytes
    }

    /// Writes the image.
    pub(crate) fn write(&self, room: &Room, name: &str) {
        room.write(name, &self.bytes());
        room.set_len(name, self.file_length);
    }
}

/// Writes a sound image whose L1 has one table, at cluster 5, with these entries; the file ends behind it.
pub(crate) fn write_with_entries(room: &Room, name: &str, image_size: u64, entries: &[u64]) {
    let header = Header { image_size, file_length: 16 * CLUSTER, ..Header::sound() };
    header.write(room, name);
    room.patch(name, CLUSTER, &(5 * CLUSTER).to_le_bytes());
    let table: Vec<u8> = entries.iter().flat_map(|entry| entry.to_le_bytes()).collect();
    room.patch(name, 5 * CLUSTER, &table);
}
