//! The NBD server, and clients that keep to no rule.
//!
//! Role: runs the real server for the time of one client, whose bytes are what the input says: raw, or a handshake and
//! requests with choices and mistakes in them.
//!
//! Laws: the server does not end by a panic; it closes the connection soon after the client has said its last byte; a
//! client that keeps to the rules is served as before, and nothing but what may be written is; the image stays sound.
//!
//! Absent on purpose: TLS, whose records are rustls's; and clients that wait, since time is no input.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use event_listener::Event;
use quod::storage::{Access, FileOpener, LoopOpener};
use quod::{Image, OpenOptions, Repair, block_on, check};
use quod_export::nbd::Disk;
use quod_export::nbd::{ExportOptions, Server, ServerOptions, Summary};
use quod_nbd::*;

use crate::client::{SIZE, WITNESS, conversation};
use crate::memory_file::MemoryFile;
use crate::outlive_peers;

/// Far beyond what any answer takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// Serves one client that sends what `bytes` say, and then one that keeps to the rules.
///
/// # Panics
/// When a law is broken.
pub fn run(bytes: &[u8]) {
    outlive_peers();
    let said = conversation(bytes);
    let served = Served::new();
    let mut client = served.connect();
    // The server may have gone before it has heard all.
    let _heard: bool = client.write_all(&said).is_ok() && client.shutdown(Shutdown::Write).is_ok();
    drain(&mut client);
    served.still_serves();
    let files = served.stop();
    let report = block_on(check(&FileOpener, &files.disk.path(), Access::Read, Repair::No));
    assert_eq!(report.expect("it is an image").corruptions, 0, "no client breaks an image");
}

/// Takes in what a server says, until it closes the connection.
fn drain(client: &mut UnixStream) {
    let mut bytes = vec![0; 64 << 10];
    loop {
        match client.read(&mut bytes) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return,
            Err(error) => panic!("the server does not close the connection: {error}"),
        }
    }
}

struct Files {
    disk: MemoryFile,
    witness: MemoryFile,
}

/// A server for one input.
struct Served {
    files: Files,
    images: [Disk; 2],
    address: SocketAddr,
    stop: Arc<Event>,
    thread: std::thread::JoinHandle<Summary>,
}

impl Served {
    fn new() -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("quod-fuzz-{}-{number}", std::process::id());
        let address = SocketAddr::from_abstract_name(name).expect("the name is short");
        let listener = UnixListener::bind_addr(&address).expect("nobody else has the name");
        let files = Files { disk: MemoryFile::of_image(SIZE, 0), witness: MemoryFile::of_image(SIZE, 0x77) };
        let images = [open(&files.disk.path()), open(&files.witness.path())];
        let mut options = ServerOptions::default();
        options.memory = 0;
        let mut server = Server::new(options);
        server.adopt(listener.into()).expect("it listens");
        for (image, name) in images.iter().zip(["", WITNESS]) {
            let mut options = ExportOptions::default();
            (options.name, options.read_only) = (name.to_owned(), name == WITNESS);
            server.export(image.clone(), options).expect("the names differ");
        }
        let stop = Arc::new(Event::new());
        let stopped = stop.listen();
        let thread = std::thread::spawn(move || server.serve(stopped).expect("a loop can be set up"));
        Served { files, images, address, stop, thread }
    }

    fn connect(&self) -> UnixStream {
        let client = UnixStream::connect_addr(&self.address).expect("the server listens");
        client.set_read_timeout(Some(PATIENCE)).expect("a socket takes it");
        client.set_write_timeout(Some(PATIENCE)).expect("a socket takes it");
        client
    }

    /// Shows that a client that keeps to the rules is served.
    fn still_serves(&self) {
        let mut client = Polite::greet(self.connect(), "");
        assert_eq!(client.ask(Command::Write, 4096, 600, &[0xee; 600]), Ok(()));
        assert_eq!(client.ask(Command::Flush, 0, 0, &[]), Ok(()));
        assert_eq!(client.ask(Command::Read, 4096, 600, &[]), Ok(()));
        assert_eq!(client.bytes(600), [0xee; 600], "what was just written");
        let mut client = Polite::greet(self.connect(), WITNESS);
        assert_eq!(client.ask(Command::Read, 0, SIZE, &[]), Ok(()));
        assert!(client.bytes(SIZE as usize).iter().all(|&byte| byte == 0x77), "nobody could write there");
    }

    fn stop(self) -> Files {
        self.stop.notify(usize::MAX);
        let summary = self.thread.join().expect("no client ends the server by a panic");
        assert_eq!(summary.cut, 0, "no request is left behind");
        for image in self.images {
            block_on(image.close()).expect("the image is in order");
        }
        self.files
    }
}

fn open(path: &Path) -> Disk {
    block_on(Image::open(&LoopOpener::default(), path, &OpenOptions::new(Access::Write)))
        .expect("it is an image")
}

/// A client that keeps to the rules.
struct Polite(UnixStream);

impl Polite {
    fn greet(stream: UnixStream, export: &str) -> Self {
        let mut client = Polite(stream);
        let query = ExportQuery { name: export, wanted: vec![] }.encode();
        let mut said = (C_FIXED_NEWSTYLE | C_NO_ZEROES).to_be_bytes().to_vec();
        said.extend(OptionHeader { option: OPT_GO, length: query.len() as u32 }.encode());
        said.extend(query);
        client.0.write_all(&said).expect("the server listens");
        client.bytes(GREETING_LEN);
        loop {
            let head = client.bytes(OPTION_REPLY_LEN);
            let head = OptionReplyHeader::decode(head[..].as_array().expect("its length"));
            let head = head.expect("a server that keeps to the rules");
            client.bytes(head.length as usize);
            if head.reply != REP_INFO {
                assert_eq!(head.reply, REP_ACK);
                return client;
            }
        }
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.0.read_exact(&mut bytes).expect("the server answers");
        bytes
    }

    fn ask(&mut self, command: Command, offset: u64, length: u64, payload: &[u8]) -> Result<(), Errno> {
        let mut message = Vec::new();
        let cookie = Cookie(offset ^ length);
        Request { flags: 0, command, cookie, offset, length }.encode(Mode::Simple, &mut message);
        message.extend(payload);
        self.0.write_all(&message).expect("the server listens");
        match ReplyHead::decode(&self.bytes(SIMPLE_REPLY_LEN)).expect("a reply") {
            ReplyHead::Simple { cookie: answered, result } => {
                assert_eq!(answered, cookie);
                result
            }
            chunk => panic!("nobody asked for {chunk:?}"),
        }
    }
}
