//! A server on a real image, and a client that can break every rule.
//!
//! Role: [`Served`] runs a server on its own thread and stops it when dropped; [`Client`] is a blocking socket with
//! the codec's words.
//!
//! Absent on purpose: cleverness. The client sends what the test says, also nonsense.

#![allow(
    clippy::unwrap_used,
    dead_code,
    missing_docs,
    unreachable_pub,
    reason = "each test file uses its part"
)]

pub mod pki;
pub mod session;

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use event_listener::Event;
use quod::{CreateOptions, Image, OpenOptions, block_on};
use quod_export::nbd::{Disk, ExportOptions, Observer, Server, ServerOptions, Summary};
use quod_nbd::*;
use quod_storage::{Access, LoopOpener};
use tempfile::TempDir;

/// Size of the disks that are served.
pub const SIZE: u64 = 64 << 20;

/// Long enough for any answer on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The exports of a server, each a disk of its own, and the server.
pub struct Options {
    pub exports: Vec<ExportOptions>,
    pub server: ServerOptions,
}

impl From<ExportOptions> for Options {
    fn from(export: ExportOptions) -> Self {
        vec![export].into()
    }
}

impl From<Vec<ExportOptions>> for Options {
    fn from(exports: Vec<ExportOptions>) -> Self {
        Options { exports, server: ServerOptions::default() }
    }
}

impl From<ServerOptions> for Options {
    fn from(server: ServerOptions) -> Self {
        Options { exports: vec![ExportOptions::default()], server }
    }
}

/// An export of that name.
pub fn named(name: &str) -> ExportOptions {
    let mut options = ExportOptions::default();
    options.name = name.to_owned();
    options
}

/// A running server.
pub struct Served {
    pub directory: TempDir,
    pub socket: PathBuf,
    /// Of the first export.
    pub image: Disk,
    others: Vec<Disk>,
    pub observer: Observer,
    stop: Arc<Event>,
    thread: Option<JoinHandle<Summary>>,
}

impl Served {
    /// Serves new, empty images.
    pub fn new(options: impl Into<Options>) -> Self {
        Self::opened(options, Access::Write)
    }

    pub fn opened(options: impl Into<Options>, access: Access) -> Self {
        let Options { exports, server } = options.into();
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("nbd.sock");
        let mut server = Server::new(server);
        server.bind_unix(&socket).unwrap();
        let mut images = exports.into_iter().enumerate().map(|(number, export)| {
            let file = directory.path().join(format!("{number}.qed"));
            block_on(Image::create(&LoopOpener::default(), &file, &CreateOptions::new(SIZE))).unwrap();
            let image =
                block_on(Image::open(&LoopOpener::default(), &file, &OpenOptions::new(access))).unwrap();
            server.export(image.clone(), export).unwrap();
            image
        });
        let image = images.next().expect("there is an export");
        let others = images.collect();
        let (observer, stop) = (server.observer(), Arc::new(Event::new()));
        let stopped = stop.listen();
        let thread = std::thread::spawn(move || server.serve(stopped).unwrap());
        Served { directory, socket, image, others, observer, stop, thread: Some(thread) }
    }

    /// A client that has greeted and chosen the export.
    pub fn client(&self) -> Client {
        let mut client = self.greeted();
        client.option(OPT_GO, &ExportQuery { name: "", wanted: vec![] }.encode());
        while client.option_reply(OPT_GO).0 != REP_ACK {}
        client
    }

    /// A client that has read the greeting and sent its flags.
    pub fn greeted(&self) -> Client {
        let mut client = self.raw();
        assert_eq!(decode_greeting(&client.array()).unwrap(), FLAG_FIXED_NEWSTYLE | FLAG_NO_ZEROES);
        client.send(&(C_FIXED_NEWSTYLE | C_NO_ZEROES).to_be_bytes());
        client
    }

    /// A client that has agreed on a mode and on metadata contexts, and chosen the export.
    pub fn client_in(&self, mode: Mode, contexts: &[&str]) -> Client {
        let mut client = self.greeted();
        client.mode = mode;
        let option = match mode {
            Mode::Simple => None,
            Mode::Structured => Some(OPT_STRUCTURED_REPLY),
            Mode::Extended => Some(OPT_EXTENDED_HEADERS),
        };
        if let Some(option) = option {
            client.option(option, &[]);
            assert_eq!(client.option_reply(option), (REP_ACK, vec![]));
        }
        if !contexts.is_empty() {
            let query = ContextQuery { export: "", queries: contexts.to_vec() };
            client.option(OPT_SET_META_CONTEXT, &query.encode());
            for context in contexts {
                let (reply, data) = client.option_reply(OPT_SET_META_CONTEXT);
                assert_eq!((reply, decode_context(&data).unwrap().1), (REP_META_CONTEXT, *context));
            }
            assert_eq!(client.option_reply(OPT_SET_META_CONTEXT).0, REP_ACK);
        }
        client.option(OPT_GO, &ExportQuery { name: "", wanted: vec![] }.encode());
        while client.option_reply(OPT_GO).0 != REP_ACK {}
        client
    }

    /// A client that has only connected.
    pub fn raw(&self) -> Client {
        let stream = UnixStream::connect(&self.socket).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Client::on(stream)
    }

    /// Shows that the server serves: a write, a flush and a read of a new client.
    pub fn still_serves(&self) {
        let mut client = self.client();
        assert_eq!(client.write(SIZE - 4096, &[0xee; 4096]), Ok(()));
        assert_eq!(client.call(Command::Flush, 0, 0, 0), Ok(()));
        assert_eq!(client.read(SIZE - 4096, 4096).unwrap(), [0xee; 4096]);
    }

    /// Tells the server to stop, without waiting.
    pub fn tell_to_stop(&self) {
        self.stop.notify(usize::MAX);
    }

    /// Stops the server and closes the images.
    pub fn stop(mut self) -> Summary {
        self.end().expect("the server's thread ends once")
    }

    /// Waits until the server ends by itself, and closes the images.
    pub fn ended(mut self) -> Summary {
        self.close().expect("the server's thread ends once")
    }

    fn end(&mut self) -> Option<Summary> {
        self.tell_to_stop();
        self.close()
    }

    fn close(&mut self) -> Option<Summary> {
        let summary = self.thread.take()?.join().expect("no client ends the server by a panic");
        for image in self.others.iter().chain([&self.image]) {
            block_on(image.close()).unwrap();
        }
        Some(summary)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.end();
        }
    }
}

/// The client's end of a connection.
pub struct Client<S = UnixStream> {
    pub stream: S,
    pub mode: Mode,
    cookie: u64,
}

impl<S: Read + Write> Client<S> {
    pub fn on(stream: S) -> Self {
        Client { stream, mode: Mode::Simple, cookie: 0 }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.stream.read_exact(&mut bytes).unwrap();
        bytes
    }

    pub fn array<const N: usize>(&mut self) -> [u8; N] {
        self.bytes(N).try_into().unwrap()
    }

    /// Asserts that the server has closed the connection without another byte.
    pub fn is_disconnected(&mut self) {
        match self.stream.read(&mut [0]) {
            Ok(0) => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
            other => panic!("a connection that should be closed gives {other:?}"),
        }
    }

    pub fn option(&mut self, option: u32, data: &[u8]) {
        self.send(&OptionHeader { option, length: data.len() as u32 }.encode());
        self.send(data);
    }

    /// The next reply to `option`: its type and data.
    pub fn option_reply(&mut self, option: u32) -> (u32, Vec<u8>) {
        let header = OptionReplyHeader::decode(&self.array()).unwrap();
        assert_eq!(header.option, option);
        (header.reply, self.bytes(header.length as usize))
    }

    /// Sends a request without waiting; returns its cookie.
    pub fn request(&mut self, command: Command, flags: u16, offset: u64, length: u32) -> Cookie {
        self.long_request(command, flags, offset, length.into())
    }

    /// The same with a length of 64 bits.
    pub fn long_request(&mut self, command: Command, flags: u16, offset: u64, length: u64) -> Cookie {
        self.cookie += 1;
        let cookie = Cookie(self.cookie);
        let mut message = Vec::new();
        Request { flags, command, cookie, offset, length }.encode(self.mode, &mut message);
        self.send(&message);
        cookie
    }

    pub fn reply(&mut self) -> (Cookie, Result<(), Errno>) {
        match ReplyHead::decode(&self.array::<SIMPLE_REPLY_LEN>()).unwrap() {
            ReplyHead::Simple { cookie, result } => (cookie, result),
            chunk => panic!("{chunk:?}"),
        }
    }

    /// Sends a request without payload and waits for its answer.
    pub fn call(&mut self, command: Command, flags: u16, offset: u64, length: u32) -> Result<(), Errno> {
        let cookie = self.request(command, flags, offset, length);
        let (answered, result) = self.reply();
        assert_eq!(answered, cookie);
        result
    }

    pub fn read(&mut self, offset: u64, length: u32) -> Result<Vec<u8>, Errno> {
        self.call(Command::Read, 0, offset, length)?;
        Ok(self.bytes(length as usize))
    }

    pub fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Errno> {
        self.write_flagged(0, offset, bytes)
    }

    pub fn write_flagged(&mut self, flags: u16, offset: u64, bytes: &[u8]) -> Result<(), Errno> {
        let cookie = self.request(Command::Write, flags, offset, bytes.len() as u32);
        self.send(bytes);
        let (answered, result) = self.reply();
        assert_eq!(answered, cookie);
        result
    }

    /// The chunks of the reply to a request, up to the last.
    pub fn chunks(&mut self, cookie: Cookie) -> Vec<(u16, Vec<u8>)> {
        let mut chunks = Vec::new();
        loop {
            let mut head = self.bytes(SIMPLE_REPLY_LEN);
            let len = ReplyHead::len_of(self.mode, head.first_chunk().unwrap()).unwrap();
            head.extend(self.bytes(len - head.len()));
            match ReplyHead::decode(&head).unwrap() {
                ReplyHead::Simple { cookie: answered, result } => {
                    assert_eq!((answered, result), (cookie, Ok(())), "errors come as chunks");
                    return chunks;
                }
                ReplyHead::Chunk(head) => {
                    assert_eq!(head.cookie, cookie);
                    chunks.push((head.kind, self.bytes(head.length as usize)));
                    if head.is_last() {
                        return chunks;
                    }
                }
            }
        }
    }

    /// Sends a request without payload and waits for its answer, which must be one error chunk.
    pub fn fails(&mut self, command: Command, flags: u16, offset: u64, length: u64) -> (Errno, String) {
        let cookie = self.long_request(command, flags, offset, length);
        let chunks = self.chunks(cookie);
        assert_eq!(chunks.len(), 1);
        match Chunk::decode(chunks[0].0, &chunks[0].1).unwrap() {
            Chunk::Error { errno, message, .. } => (errno, message.to_owned()),
            other => panic!("{other:?}"),
        }
    }
}
