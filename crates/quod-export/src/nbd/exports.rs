//! What a server has on offer: its exports by name.
//!
//! Role: finds the export that a client asks for, and lists them all.
//!
//! Invariant: no two exports have the same name. The order is that in which they were added, and the first is the
//! default export: it answers to the empty name, unless another one has just that name.
//!
//! Absent on purpose: changing the list while it is served.

use std::rc::Rc;
use std::sync::Arc;

use quod::Image;
use quod_storage::{AnyRange, LoopFile};

use super::export::Export;
use super::options::ExportOptions;
use super::tally::{Scribe, Tally};

/// An image as it is served: every event loop of the server uses it.
pub type Disk = Image<AnyRange<LoopFile>>;

/// Another export of the server has the name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("two exports have the name '{name}'")]
pub struct NameTaken {
    /// The name.
    pub name: String,
}

/// An image, and how it is to be served: an export that is not on an event loop yet.
#[derive(Clone, Debug)]
pub(crate) struct Offer {
    pub(crate) image: Disk,
    pub(crate) options: ExportOptions,
    /// What each event loop does for it.
    pub(crate) tallies: Vec<Arc<Tally>>,
}

/// The exports of a server.
pub(crate) struct Exports(Vec<Rc<Export>>);

impl Exports {
    /// Those of the event loop `at`.
    pub(crate) fn new(at: usize, offers: Vec<Offer>) -> Self {
        let exports = offers.into_iter().map(|Offer { image, options, tallies }| {
            Export::new(image, options, Scribe::of(Arc::clone(&tallies[at])))
        });
        Exports(exports.collect())
    }

    /// The export that clients call `name`.
    pub(crate) fn find(&self, name: &str) -> Option<&Rc<Export>> {
        let named = self.0.iter().find(|export| export.name() == name);
        named.or_else(|| self.0.first().filter(|_| name.is_empty()))
    }

    /// All of them, the default export first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Rc<Export>> {
        self.0.iter()
    }
}
