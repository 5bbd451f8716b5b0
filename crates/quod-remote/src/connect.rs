//! From a name to a connection in transmission.
//!
//! Role: connects, does the handshake with TLS where the name asks for it, and starts the receiving thread.
//!
//! Invariant: it ends within [`PATIENCE`] of the host's addresses being known. When the last handle goes, the server is
//! told, and the thread is over.
//!
//! Absent on purpose: retries.

use std::io::{self, ErrorKind, IoSlice};
use std::sync::mpsc::{self, Receiver as Ended};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use quod_nbd::{Agreed, Negotiation, Refusal, Step};

use crate::certificates;
use crate::link::Link;
use crate::lock;
use crate::receiver::Receiver;
use crate::socket::{Deadline, Socket};
use crate::uri::{NbdUri, Place};
use crate::wire::Wire;

/// How long a server may take until transmission begins.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// How long a server may take to hear our goodbye.
const GOODBYE: Duration = Duration::from_secs(1);

/// A connection and its thread.
pub(crate) struct Client {
    pub(crate) link: Arc<Link>,
    pub(crate) agreed: Agreed,
    thread: Option<JoinHandle<()>>,
    /// Hangs up when the thread is over.
    ended: Mutex<Ended<()>>,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// A sentence that says how far it came.
    pub(crate) fn connect(uri: &NbdUri) -> io::Result<Self> {
        let deadline = Deadline::within(PATIENCE);
        let socket = Socket::connect(&uri.place, deadline).map_err(|error| {
            io::Error::new(error.kind(), format!("Failed to connect to '{}': {error}", shown(&uri.place)))
        })?;
        let (wire, receiver, agreed) = negotiate(uri, socket, deadline)?;
        wire.socket.set_timeouts(None)?;
        let link = Link::new(wire, uri.to_string(), &agreed);
        let (sender, ended) = mpsc::channel();
        let receives = Arc::clone(&link);
        let thread = thread::Builder::new().name("nbd-receiver".to_owned()).spawn(move || {
            receives.receive(receiver.ahead());
            drop::<mpsc::Sender<()>>(sender);
        })?;
        Ok(Client { link, agreed, thread: Some(thread), ended: Mutex::new(ended) })
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // The receiving thread itself is here when the last handle was in what a request held. It cannot wait for itself.
        let thread = self.thread.take().filter(|thread| thread.thread().id() != thread::current().id());
        if self.link.say_goodbye(GOODBYE).is_ok() && thread.is_some() {
            // What it has not done yet it may do now. It hangs up when it is through.
            let _hung_up: bool = lock(&self.ended).recv_timeout(GOODBYE).is_err();
        }
        self.link.hang_up();
        if let Some(thread) = thread {
            let _ended: bool = thread.join().is_ok();
        }
    }
}

fn shown(place: &Place) -> String {
    match place {
        Place::Tcp { host, port } => format!("{host}:{port}"),
        Place::Unix(path) => path.display().to_string(),
    }
}

fn negotiate(uri: &NbdUri, socket: Socket, deadline: Deadline) -> io::Result<(Wire, Receiver, Agreed)> {
    let refused = |refusal: Refusal| {
        let kind = match refusal {
            Refusal::UnknownExport { .. } => ErrorKind::NotFound,
            Refusal::Denied { .. } | Refusal::TlsRequired { .. } => ErrorKind::PermissionDenied,
            _ => ErrorKind::InvalidData,
        };
        io::Error::new(kind, refusal.to_string())
    };
    let broken = |error: io::Error| match error.kind() {
        ErrorKind::UnexpectedEof => io::Error::new(error.kind(), "the server ends the handshake"),
        _ => error,
    };
    let tls = uri.tls.as_ref().map(certificates::client).transpose()?;
    let mut negotiation = Negotiation::new(&uri.export, tls.is_some()).map_err(refused)?;
    let (mut wire, mut receiver, mut tls) = (Wire::clear(socket), Receiver::exact(deadline), tls);
    let mut need = negotiation.first_read();
    loop {
        let mut arrived = vec![0; need];
        receiver.read_exact(&wire, &mut arrived).map_err(broken)?;
        let mut turn = negotiation.feed(&arrived).map_err(refused)?;
        loop {
            wire.send(&mut [IoSlice::new(&turn.send)]).map_err(broken)?;
            match turn.step {
                Step::Read(more) => break need = more,
                Step::Done(agreed) => return Ok((wire, receiver, agreed)),
                Step::StartTls => {
                    let tls = tls.take().ok_or_else(|| refused(Refusal::OutOfTurn))?;
                    wire = Wire::secure(wire.into_socket(), tls, deadline)?;
                    turn = negotiation.tls_is_up().map_err(refused)?;
                }
            }
        }
    }
}
