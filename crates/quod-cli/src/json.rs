//! JSON in the layout of the reference tools.
//!
//! Role: prints serde values with four spaces of indent and empty lists and objects over two lines, as theirs are, so
//! that outputs can be compared line by line.
//!
//! Absent on purpose: sorting; keys come in the order of the struct's fields.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

/// Prints `value` and ends the line.
pub(crate) fn print(out: &mut impl Write, value: &impl Serialize) -> anyhow::Result<()> {
    let mut serializer = Serializer::with_formatter(&mut *out, Layout { depth: 0 });
    value.serialize(&mut serializer).map_err(io::Error::from)?;
    writeln!(out)?;
    Ok(())
}

struct Layout {
    depth: usize,
}

impl Layout {
    fn open(&mut self, out: &mut (impl Write + ?Sized), bracket: &[u8]) -> io::Result<()> {
        self.depth += 1;
        out.write_all(bracket)
    }

    fn close(&mut self, out: &mut (impl Write + ?Sized), bracket: &[u8]) -> io::Result<()> {
        self.depth -= 1;
        self.new_line(out)?;
        out.write_all(bracket)
    }

    fn item(&self, out: &mut (impl Write + ?Sized), first: bool) -> io::Result<()> {
        if !first {
            out.write_all(b",")?;
        }
        self.new_line(out)
    }

    fn new_line(&self, out: &mut (impl Write + ?Sized)) -> io::Result<()> {
        out.write_all(b"\n")?;
        (0..self.depth).try_for_each(|_| out.write_all(b"    "))
    }
}

impl Formatter for Layout {
    fn begin_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.open(out, b"[")
    }

    fn end_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.close(out, b"]")
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.item(out, first)
    }

    fn begin_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.open(out, b"{")
    }

    fn end_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.close(out, b"}")
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.item(out, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        out.write_all(b": ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_is_that_of_the_reference() {
        #[derive(Serialize)]
        struct Thing {
            list: Vec<u32>,
            empty: Vec<u32>,
        }
        let mut out = Vec::new();
        print(&mut out, &Thing { list: vec![1, 2], empty: vec![] }).expect("memory takes everything");
        let text = "{\n    \"list\": [\n        1,\n        2\n    ],\n    \"empty\": [\n    ]\n}\n";
        assert_eq!(String::from_utf8(out).expect("JSON is text"), text);
    }
}
