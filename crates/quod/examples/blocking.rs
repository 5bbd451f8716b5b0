//! A disk as a synchronous library: make it, write, flush, read, close.
//!
//! `cargo run -p quod --example blocking -- /tmp/disk.qed`

use std::error::Error;
use std::path::PathBuf;

use quod::{BlockingImage, CreateOptions, Fua, OpenOptions};
use quod_storage::Access;

fn main() -> Result<(), Box<dyn Error>> {
    let name = PathBuf::from(std::env::args_os().nth(1).ok_or("usage: blocking FILE")?);
    BlockingImage::create(&name, &CreateOptions::new(1 << 30))?;

    let image = BlockingImage::open(&name, &OpenOptions::new(Access::Write))?;
    image.write(512 << 20, b"in the middle of a gibibyte", Fua::No)?;
    image.flush()?;

    let mut bytes = [0; 27];
    image.read(512 << 20, &mut bytes)?;
    println!("{}", String::from_utf8_lossy(&bytes));
    image.close()?;
    Ok(())
}
