//! The NBD client, and servers that keep to no rule.
//!
//! Role: any bytes through the codec and through a client's handshake without I/O; then the same handshake, and replies
//! that are honest, errors, or nonsense, for the real client over a socket.
//!
//! Laws: nothing panics, every request ends, and a handshake asks for a bounded number of bytes; with and without a
//! socket it comes to the same end. While a server is honest, every request succeeds and reads give its bytes.
//!
//! Absent on purpose: TLS, whose records are rustls's; and servers that fall silent, since time is no input.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::sync::LazyLock;
use std::thread;

use arbitrary::Unstructured;
use quod::block_on;
use quod::storage::{AnyRange, Buffer, Held, Storage};
use quod_nbd::{Agreed, GREETING_LEN, MAX_OPTION_REPLY, MAX_REPLIES, Negotiation, Refusal, Step, Turn};
use quod_remote::{NbdStorage, NbdUri, Place};
use rustix::fs::{Mode as Permissions, OFlags};

use crate::codec::decode_all;
use crate::outlive_peers;
use crate::server::{Server, byte_at, handshake};

/// More bytes than this are never asked for at once.
const MOST_AT_ONCE: usize = MAX_OPTION_REPLY as usize;

/// Options that a client asks, one after another, and TLS.
const MOST_OPTIONS: usize = 6;

/// Has a client of `bytes` as its server.
///
/// # Panics
/// When a law is broken.
pub fn run(bytes: &[u8]) {
    outlive_peers();
    decode_all(bytes);
    let mut bytes = Unstructured::new(bytes);
    let export = if bytes.ratio(1, 8).unwrap_or(false) { "other" } else { "" };
    let said = handshake(&mut bytes);
    let secured = negotiate(&said, export, true);
    assert!(secured.outcome.is_err() || secured.asked_for_tls, "what was to be secret goes in the clear");

    let alone = negotiate(&said, export, false);
    let agreed = alone.outcome.ok();
    let server = Server::new(&said, alone.taken, alone.sent, agreed, bytes);
    thread::scope(|scope| {
        let serving = scope.spawn(move || server.serve(&LISTENER.socket));
        let connected = connect(export);
        assert_eq!(connected.is_ok(), agreed.is_some(), "{:?} over a socket, {agreed:?}", connected.err());
        let heard = connected.map_or_else(|_| Vec::new(), |storage| requests(&storage));
        let is_honest = serving.join().expect("our own server does not panic");
        for (index, outcome) in heard.into_iter().enumerate() {
            let is_fine = outcome.is_ok() || agreed.is_none_or(|agreed| !can_do(&agreed, index));
            assert!(is_fine || !is_honest, "request {index} to an honest server: {outcome:?}");
        }
    });
}

/// How a handshake went.
struct Handshake {
    outcome: Result<Agreed, Option<Refusal>>,
    /// Bytes of the server that were taken in.
    taken: usize,
    /// Bytes of the client.
    sent: usize,
    asked_for_tls: bool,
}

/// Leads a handshake with a server that says just that.
fn negotiate(said: &[u8], export: &str, tls: bool) -> Handshake {
    let mut negotiation = Negotiation::new(export, tls).expect("the name is short");
    let mut shake = Handshake { outcome: Err(None), taken: 0, sent: 0, asked_for_tls: false };
    let mut need = negotiation.first_read();
    assert_eq!(need, GREETING_LEN);
    for _ in 0..2 * MOST_OPTIONS * (MAX_REPLIES + 1) {
        assert!(need <= MOST_AT_ONCE, "{need} bytes at once");
        let Some(arrived) = said[shake.taken..].get(..need) else { return shake };
        shake.taken += need;
        let mut next = negotiation.feed(arrived);
        need = loop {
            let Turn { send, step } = match next {
                Ok(turn) => turn,
                Err(refusal) => return Handshake { outcome: Err(Some(refusal)), ..shake },
            };
            shake.sent += send.len();
            match step {
                Step::Read(more) => break more,
                Step::Done(agreed) => return Handshake { outcome: Ok(agreed), ..shake },
                Step::StartTls => {
                    shake.asked_for_tls = true;
                    next = negotiation.tls_is_up();
                }
            }
        };
    }
    panic!("the handshake has no end");
}

/// A disk that any range can be asked of.
type Remote = AnyRange<NbdStorage>;

/// A socket in no directory: its name is that of a descriptor.
struct Listener {
    socket: UnixListener,
    name: OwnedFd,
}

static LISTENER: LazyLock<Listener> = LazyLock::new(|| {
    let path = std::env::temp_dir().join(format!("quod-fuzz-{}.sock", std::process::id()));
    let socket = UnixListener::bind(&path).expect("nobody else has the name");
    let name = rustix::fs::open(&path, OFlags::PATH | OFlags::CLOEXEC, Permissions::empty());
    std::fs::remove_file(&path).expect("it was just made");
    Listener { socket, name: name.expect("it was just made") }
});

fn connect(export: &str) -> io::Result<Remote> {
    let place = Place::Unix(format!("/proc/self/fd/{}", LISTENER.name.as_raw_fd()).into());
    NbdStorage::connect(&NbdUri { place, export: export.to_owned(), tls: None }).map(AnyRange::of)
}

/// Requests of every kind, one after another.
fn requests(storage: &Remote) -> Vec<io::Result<()>> {
    let size = block_on(storage.length()).expect("it is known");
    let near = |at: u64| at.min(size);
    let (at, len) = (near(700), near(1700) - near(700));
    let last = size - near(300);
    block_on(async {
        vec![
            read(storage, at, len).await,
            extent(storage, at, len).await,
            read(storage, last, size - last).await,
            storage.flush(Held::NOTHING).await,
            storage.write_at(at, Buffer::zeroed(len as usize).into()).await.map(drop),
            storage.punch(at, len, Held::NOTHING).await,
            storage.write_zeroes(last, size - last, Held::NOTHING).await,
            extent(storage, last, size - last).await,
            read(storage, 0, near(512)).await,
        ]
    })
}

/// Whether an honest server does the request of that index: some change the disk.
fn can_do(agreed: &Agreed, index: usize) -> bool {
    let changes = (4..7).contains(&index);
    agreed.flags & quod_nbd::TX_READ_ONLY == 0 || !changes
}

async fn read(storage: &Remote, at: u64, len: u64) -> io::Result<()> {
    let bytes = storage.read_at(at, Buffer::zeroed(len as usize).into()).await?.into_single();
    assert_eq!(bytes.len() as u64, len);
    let is_right = (at..).zip(bytes.iter()).all(|(at, byte)| *byte == byte_at(at));
    // Only an honest server sends what it has; the caller knows whether it is one.
    if is_right { Ok(()) } else { Err(io::Error::other("other bytes than the server has")) }
}

async fn extent(storage: &Remote, at: u64, len: u64) -> io::Result<()> {
    let extent = storage.extent(at, len).await?;
    assert!(extent.len <= len && (extent.len > 0 || len == 0), "{extent:?} of {len} bytes");
    Ok(())
}
