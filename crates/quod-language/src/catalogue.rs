//! The commands of the io language.
//!
//! Role: names, counts of words, options and help of every command, in one table.
//!
//! Absent on purpose: commands for what our formats have not (zones, breakpoints, VM state).

use super::parse;
use super::requests;
use super::spec::{Parse, Spec};

const MANY: usize = usize::MAX;

const READ_DETAILS: &str = "
 Example:
 'read -v 512 1k' dumps a kilobyte from 512 on

 -b, -- of the VM state, which raw and QED images have not
 -C, -- tell the outcome as comma-separated numbers
 -l, -- with -P: verify so many bytes
 -p, -r, -- taken for compatibility
 -P, -- verify that every byte is this one
 -q, -- tell failures only
 -s, -- with -P: verify from this byte of what was read on
 -v, -- dump what was read
";

const WRITE_DETAILS: &str = "
 Example:
 'write -P 0xab 1M 64k' writes 64 KiB of 0xab at 1 MiB; without -P it is 0xcd

 -b, -c, -- VM state and compression, which raw and QED images have not
 -C, -- tell the outcome as comma-separated numbers
 -f, -- durable when it is told to be done
 -n, -- with -z: any length, since nothing is written byte by byte
 -p, -r, -- taken for compatibility
 -P, -- write this byte
 -q, -- tell failures only
 -s, -- write the bytes of this file, over and over
 -u, -- with -z: room may be given back
 -z, -- write zeroes, without a buffer of them
";

const ASIDE_DETAILS: &str = "
 Runs beside the commands that follow; aio_flush waits for it. It counts as done once it is begun: a failure is
 told, and does not change the exit code.
 Options are those of 'read' and 'write', and:
 -i, -- do not run it: an invalid request
";

/// Every command, by name.
pub static COMMANDS: [Spec; 21] = [
    spec("abort", "", (0, 0), parse::abort)
        .helps("", "ends at once without closing the image, as a crash would"),
    spec("aio_flush", "", (0, 0), parse::aio_flush).on_disk().helps("", "waits for all aio requests"),
    spec("aio_read", "", (2, MANY), requests::aio_read)
        .on_disk()
        .takes("CiqrvP:")
        .details(ASIDE_DETAILS)
        .helps("[-Ciqrv] [-P pattern] off len [len..]", "reads beside what follows"),
    spec("aio_write", "", (2, MANY), requests::aio_write)
        .writing()
        .takes("CfiqruzP:")
        .details(ASIDE_DETAILS)
        .helps("[-Cfiqruz] [-P pattern] off len [len..]", "writes beside what follows"),
    spec("alloc", "a", (1, 2), parse::alloc)
        .on_disk()
        .helps("offset [count]", "counts the bytes that the image itself has"),
    spec("close", "c", (0, 0), parse::close).on_disk().helps("", "closes the image"),
    spec("discard", "d", (2, MANY), requests::discard)
        .writing()
        .takes("Cq")
        .helps("[-Cq] off len", "tells that the guest no longer needs a range"),
    spec("flush", "f", (0, 0), parse::flush).on_disk().helps("", "makes everything written durable"),
    spec("help", "?", (0, 1), parse::help).helps("[command]", "tells about one command or all"),
    spec("info", "i", (0, 0), parse::info).on_disk().helps("", "tells format and cluster size"),
    spec("length", "l", (0, 0), parse::length).on_disk().helps("", "tells the size of the disk"),
    spec("map", "", (0, 0), parse::map).on_disk().helps("", "lists what the image itself has"),
    spec("open", "o", (1, MANY), parse::open)
        .takes("rsCnkUi:t:d:o:")
        .helps("[-rU] [-o driver=qed|raw] path", "opens an image"),
    spec("quit", "q", (0, MANY), parse::quit).helps("", "ends; what is running is waited for"),
    spec("read", "r", (2, MANY), requests::read)
        .on_disk()
        .takes("abCpqrvP:s:l:")
        .details(READ_DETAILS)
        .helps("[-abCqrv] [-P pattern [-s off] [-l len]] off len", "reads from an offset on"),
    spec("readv", "", (2, MANY), requests::readv)
        .on_disk()
        .takes("CqrvP:")
        .details(READ_DETAILS)
        .helps("[-Cqrv] [-P pattern] off len [len..]", "reads into several buffers at once"),
    spec("reopen", "", (0, MANY), parse::reopen)
        .on_disk()
        .takes("rwc:o:")
        .helps("[-r|-w]", "opens the image anew, read-only or not"),
    spec("sleep", "", (1, 1), parse::sleep).helps("ms", "waits so many milliseconds"),
    spec("truncate", "t", (1, 3), parse::truncate)
        .writing()
        .takes("m:")
        .helps("[-m off] off", "sets the size of the disk; it can only grow"),
    spec("write", "w", (2, MANY), requests::write)
        .writing()
        .takes("bcCfnpqruzP:s:")
        .details(WRITE_DETAILS)
        .helps("[-bcCfnqruz] [-P pattern | -s source_file] off len", "writes from an offset on"),
    spec("writev", "", (2, MANY), requests::writev)
        .writing()
        .takes("CfqrP:")
        .details(WRITE_DETAILS)
        .helps("[-Cfqr] [-P pattern] off len [len..]", "writes out of several buffers at once"),
];

const fn spec(name: &'static str, alias: &'static str, words: (usize, usize), parse: Parse) -> Spec {
    Spec {
        name,
        alias,
        words,
        needs_disk: false,
        writes: false,
        options: "",
        usage: "",
        summary: "",
        details: "",
        parse,
    }
}

/// The command of that name, or of that shorter one.
pub fn find(name: &str) -> Option<&'static Spec> {
    COMMANDS.iter().find(|spec| spec.name == name || (!name.is_empty() && spec.alias == name))
}
