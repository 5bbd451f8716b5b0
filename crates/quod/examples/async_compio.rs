//! A disk on the compio runtime: a task for each write, one flush for all of them. The engine's futures fit any runtime;
//! over `FileStorage`, which blocks, each write is done when its task is first polled.
//!
//! `cargo run -p quod --example async_compio -- /tmp/disk.qed`

use std::error::Error;
use std::path::PathBuf;

use quod::{CreateOptions, Fua, Image, OpenOptions};
use quod_storage::{Access, Buffer, FileOpener};

fn main() -> Result<(), Box<dyn Error>> {
    let name = PathBuf::from(std::env::args_os().nth(1).ok_or("usage: async_compio FILE")?);
    compio::runtime::Runtime::new()?.block_on(async {
        Image::create(&FileOpener, &name, &CreateOptions::new(1 << 30)).await?;
        let image = Image::open(&FileOpener, &name, &OpenOptions::new(Access::Write)).await?;

        let writes = (0..64u8).map(|i| {
            let image = image.clone();
            let bytes = Buffer::copy_of(&[i; 4096]);
            compio::runtime::spawn(async move { image.write(u64::from(i) << 20, bytes, Fua::No).await })
        });
        for write in writes.collect::<Vec<_>>() {
            write.await.map_err(|_panic| "a write panicked")??;
        }
        image.flush().await?;

        let last = image.read(63 << 20, Buffer::zeroed(4096)).await?;
        println!("64 clusters written, the last one begins with {}", last[0]);
        Ok(image.close().await?)
    })
}
