//! The error numbers of replies.

/// The error numbers that the protocol allows in a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Errno {
    /// Not permitted: writing to a read-only export.
    Perm = 1,
    /// Input/output error.
    Io = 5,
    /// Out of memory.
    NoMem = 12,
    /// Invalid argument.
    Inval = 22,
    /// No space left, or a write past the end.
    NoSpc = 28,
    /// Value too large.
    Overflow = 75,
    /// Not supported.
    NotSup = 95,
    /// The server is shutting down.
    Shutdown = 108,
}

impl Errno {
    /// All of them.
    pub const ALL: [Errno; 8] = [
        Errno::Perm,
        Errno::Io,
        Errno::NoMem,
        Errno::Inval,
        Errno::NoSpc,
        Errno::Overflow,
        Errno::NotSup,
        Errno::Shutdown,
    ];

    /// The meaning of a number that is not 0. One that the protocol does not have counts as [`Errno::Inval`], as the
    /// protocol asks for.
    pub(super) fn from_wire(number: u32) -> Self {
        Errno::ALL.into_iter().find(|&errno| errno as u32 == number).unwrap_or(Errno::Inval)
    }
}
