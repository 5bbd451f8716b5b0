//! The exports of a server, by name.
//!
//! Invariant: there is at least one; the first is also the default export, which the empty name asks for.

use std::rc::Rc;

use super::export::Export;

/// What a server has on offer.
pub(crate) struct Exports(Vec<Rc<Export>>);

impl Exports {
    pub(crate) fn new(exports: Vec<Rc<Export>>) -> Self {
        Exports(exports)
    }

    /// The export of that name, or the default one for the empty name.
    pub(crate) fn find(&self, name: &str) -> Option<&Rc<Export>> {
        match name {
            "" => self.0.first(),
            name => self.0.iter().find(|export| export.name() == name),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Rc<Export>> {
        self.0.iter()
    }
}
