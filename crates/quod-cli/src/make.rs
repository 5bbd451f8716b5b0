//! Making image files.
//!
//! Role: a new QED or raw image, with failures in the reference's words.
//!
//! Absent on purpose: what the image is to be; the verbs find that out.

use std::fmt;
use std::io;
use std::path::Path;

use quod::{CreateOptions, Image};
use quod_storage::{Existing, FileOpener, FileStorage, Held, Opener, Storage};

use crate::open::{sentence, system_sentence};

/// Why an image was not made.
#[derive(Debug)]
pub(crate) struct NotMade {
    /// A file of that name is to be kept.
    pub(crate) exists_already: bool,
    sentence: String,
}

impl fmt::Display for NotMade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

impl std::error::Error for NotMade {}

impl NotMade {
    fn new(file: &Path, system: Option<&io::Error>, why: &str) -> Self {
        let exists_already = system.is_some_and(|system| system.kind() == io::ErrorKind::AlreadyExists);
        NotMade { exists_already, sentence: format!("{}: {why}", file.display()) }
    }
}

/// Makes a QED image.
///
/// # Errors
/// `FILE: ...`
pub(crate) async fn make_qed(file: &Path, options: &CreateOptions) -> Result<(), NotMade> {
    let made = Image::create(&FileOpener, file, options).await;
    made.map_err(|error| {
        let why = sentence(file, &error);
        let why = match why.strip_prefix("the file cannot be made: ") {
            Some(system) => could_not_create(file, system),
            None => why,
        };
        NotMade::new(file, error.io_error(), &why)
    })
}

/// Makes a raw image: a file with nothing in it.
///
/// # Errors
/// `FILE: Could not create 'FILE': ...`
pub(crate) async fn make_raw(file: &Path, size: u64, existing: Existing) -> Result<(), NotMade> {
    let made = async {
        let storage: FileStorage = FileOpener.create(file, existing).await?;
        storage.set_len(size.next_multiple_of(512), Held::NOTHING).await?;
        storage.flush(Held::NOTHING).await
    };
    made.await
        .map_err(|error| NotMade::new(file, Some(&error), &could_not_create(file, &system_sentence(&error))))
}

fn could_not_create(file: &Path, system: &str) -> String {
    format!("Could not create '{}': {system}", file.display())
}
