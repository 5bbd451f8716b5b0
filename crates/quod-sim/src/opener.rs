//! Names of simulated files.
//!
//! Role: [`SimOpener`] opens and creates the files of one [`World`].
//!
//! Invariant: a name is durable once `create` has returned; that a file was emptied is not, before a flush.
//!
//! Absent on purpose: locks, directories, and removal.

use std::io;
use std::path::Path;

use quod_storage::{Access, Existing, FileId, Held, Opener, Storage};

use crate::disk::SimStorage;
use crate::world::World;

/// Opens files of a world by name.
#[derive(Clone)]
pub struct SimOpener {
    pub(crate) world: World,
}

impl Opener for SimOpener {
    type Storage = SimStorage;

    async fn open(&self, name: &Path, _access: Access) -> io::Result<SimStorage> {
        self.world.find(name).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    async fn create(&self, name: &Path, existing: Existing) -> io::Result<SimStorage> {
        let file = self.world.file(name);
        if file.length().await? > 0 {
            if existing == Existing::Keep {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            file.set_len(0, Held::NOTHING).await?;
        }
        Ok(file)
    }

    async fn identify(&self, name: &Path) -> io::Result<FileId> {
        let file = self.world.find(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(FileId { device: 0, inode: file.file as u64 })
    }
}
