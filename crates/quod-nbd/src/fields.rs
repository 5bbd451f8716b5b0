//! Fields of a message, taken one after another.
//!
//! Role: the only place that slices protocol bytes. Invariant: nothing is read past the end, nothing is copied.
//! Absent on purpose: any knowledge of messages.

use super::{DecodeError, MAX_STRING};

/// What is left of a message.
pub(super) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn of(message: &'a [u8]) -> Self {
        Fields(message)
    }

    pub(super) fn bytes(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (head, tail) = self.0.split_at_checked(len).ok_or(DecodeError::Truncated)?;
        self.0 = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (head, tail) = self.0.split_first_chunk().ok_or(DecodeError::Truncated)?;
        self.0 = tail;
        Ok(*head)
    }

    pub(super) fn u16(&mut self) -> Result<u16, DecodeError> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    pub(super) fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    /// Takes a 32-bit magic number.
    pub(super) fn magic32(&mut self, magic: u32) -> Result<(), DecodeError> {
        match self.u32()? {
            found if found == magic => Ok(()),
            found => Err(DecodeError::WrongMagic { found: found.into() }),
        }
    }

    /// Takes a 64-bit magic number.
    pub(super) fn magic64(&mut self, magic: u64) -> Result<(), DecodeError> {
        match self.u64()? {
            found if found == magic => Ok(()),
            found => Err(DecodeError::WrongMagic { found }),
        }
    }

    /// Takes a string of `len` bytes.
    pub(super) fn string(&mut self, len: usize) -> Result<&'a str, DecodeError> {
        if len > MAX_STRING {
            return Err(DecodeError::StringTooLong { len });
        }
        std::str::from_utf8(self.bytes(len)?).map_err(|_not_utf8| DecodeError::NotUtf8)
    }

    /// Takes everything that is left as a string.
    pub(super) fn rest_as_string(&mut self) -> Result<&'a str, DecodeError> {
        self.string(self.0.len())
    }

    /// Bytes that are left.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Passes over everything that is left.
    pub(super) fn skip_rest(&mut self) {
        self.0 = &[];
    }

    /// Says that the message ends here.
    pub(super) fn end(self) -> Result<(), DecodeError> {
        match self.0.len() {
            0 => Ok(()),
            extra => Err(DecodeError::TooLong { extra }),
        }
    }
}
