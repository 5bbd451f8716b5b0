//! What a client and its server agreed on in the handshake.

use quod_nbd::{BASE_ALLOCATION, ContextId, Mode, QEMU_ALLOCATION_DEPTH};

/// How one connection speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Session {
    /// How requests and replies look.
    pub(crate) mode: Mode,
    /// What block status tells.
    pub(crate) contexts: Contexts,
}

/// A metadata context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Context {
    /// Holes and zeroes.
    Allocation,
    /// How deep in the backing chain.
    Depth,
}

impl Context {
    /// All that there are.
    pub(crate) const ALL: [Context; 2] = [Context::Allocation, Context::Depth];

    pub(crate) fn id(self) -> ContextId {
        ContextId(self as u32)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Context::Allocation => BASE_ALLOCATION,
            Context::Depth => QEMU_ALLOCATION_DEPTH,
        }
    }

    /// Whether a list that asks for `query` gets it: by its name, or with all of its namespace.
    pub(crate) fn is_listed_by(self, query: &str) -> bool {
        query == self.name() || (query.ends_with(':') && self.name().starts_with(query))
    }
}

/// A set of contexts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Contexts([bool; Context::ALL.len()]);

impl Contexts {
    pub(crate) fn insert(&mut self, context: Context) {
        self.0[context as usize] = true;
    }

    pub(crate) fn contains(self, context: Context) -> bool {
        self.0[context as usize]
    }

    pub(crate) fn is_empty(self) -> bool {
        self.iter().next().is_none()
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = Context> {
        Context::ALL.into_iter().filter(move |&context| self.contains(context))
    }

    /// Those of the set that `ids` name; `None` when one of them names another or none.
    pub(crate) fn select(self, ids: &[ContextId]) -> Option<Contexts> {
        let mut selected = Contexts::default();
        for &id in ids {
            selected.insert(self.iter().find(|context| context.id() == id)?);
        }
        Some(selected)
    }
}
