//! HTTP with one client: a request, and its answer.
//!
//! Role: lets hyper speak over a socket of this crate.
//!
//! Invariant: a request's head takes at most [`MOST_HEAD`] bytes, and no body is read.
//!
//! Absent on purpose: deadlines, which are the caller's.

use std::future::ready;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::rt::ReadBufCursor;
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};

use super::PATH;
use super::page::{self, Page};
use crate::nbd::stream::{Socket, Stream};

/// Bytes of a request that are read.
const MOST_HEAD: usize = 8 << 10;

/// Bytes that are read at a time.
const READ: usize = 2 << 10;

/// Reads a request, and answers it.
///
/// # Errors
/// When the stream fails, or what comes is not HTTP.
pub(super) async fn answer(stream: OwnedFd, page: Rc<Page>) -> Result<(), hyper::Error> {
    let socket = match Socket::new(stream) {
        Ok(socket) => Rc::new(socket),
        Err(error) => {
            tracing::warn!(%error, "a client of the metrics cannot be answered");
            return Ok(());
        }
    };
    let service = service_fn(|request: Request<Incoming>| ready(respond(&request, &page)));
    let wire = Wire { socket, readable: None, writable: None };
    Builder::new()
        .half_close(true)
        .keep_alive(false)
        .max_buf_size(MOST_HEAD)
        .serve_connection(wire, service)
        .await
}

/// What the answer is.
fn respond(request: &Request<Incoming>, page: &Page) -> Result<Response<String>, std::fmt::Error> {
    let mut response = Response::new(String::new());
    if request.uri().path() != PATH {
        *response.status_mut() = StatusCode::NOT_FOUND;
        response.body_mut().push_str("The metrics are at /metrics.\n");
    } else if !matches!(*request.method(), Method::GET | Method::HEAD) {
        *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    } else {
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(page::CONTENT_TYPE));
        *response.body_mut() = page.write()?;
    }
    Ok(response)
}

type Wait = Pin<Box<dyn Future<Output = io::Result<()>>>>;

/// A socket as hyper wants it.
struct Wire {
    socket: Rc<Socket>,
    /// What is waited for.
    readable: Option<Wait>,
    writable: Option<Wait>,
}

/// Tries until it need not wait; `begin` waits until trying is worth it.
fn poll<T>(
    wait: &mut Option<Wait>,
    context: &mut Context<'_>,
    mut attempt: impl FnMut() -> io::Result<T>,
    begin: impl Fn() -> Wait,
) -> Poll<io::Result<T>> {
    loop {
        if let Some(waiting) = wait {
            let waited = ready!(waiting.as_mut().poll(context));
            *wait = None;
            waited?;
        }
        match attempt() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => *wait = Some(begin()),
            done => return Poll::Ready(done),
        }
    }
}

impl hyper::rt::Read for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut into: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let Wire { socket, readable, .. } = self.get_mut();
        let mut bytes = [0; READ];
        let most = into.remaining().min(READ);
        let attempt = || socket.try_read(&mut [IoSliceMut::new(&mut bytes[..most])]);
        let begin = || {
            let socket = Rc::clone(socket);
            Box::pin(async move { socket.readable().await }) as Wait
        };
        let len = ready!(poll(readable, context, attempt, begin))?;
        into.put_slice(&bytes[..len]);
        Poll::Ready(Ok(()))
    }
}

impl hyper::rt::Write for Wire {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        let Wire { socket, writable, .. } = self.get_mut();
        let attempt = || socket.try_write(&[IoSlice::new(from)]);
        let begin = || {
            let socket = Rc::clone(socket);
            Box::pin(async move { socket.writable().await }) as Wait
        };
        poll(writable, context, attempt, begin)
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The socket does it when it is dropped, which is next.
        Poll::Ready(Ok(()))
    }
}
