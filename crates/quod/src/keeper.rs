//! A thread that does what time asks for.
//!
//! Role: [`Keeper`] calls [`Image::maintain`] every few seconds, and when that is due earlier, for who has blocking threads
//! and no event loop.
//!
//! Absent on purpose: anything that correctness depends on.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

use quod_storage::Storage;

use crate::block_on;
use crate::error::{Error, ErrorKind, Result};
use crate::image::Image;

/// How often what has been idle is settled.
const MAINTAIN_EVERY: Duration = Duration::from_secs(5);

/// A thread that maintains an open image, until it is dropped. Drop it before the image is closed.
#[derive(Debug)]
pub struct Keeper {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    /// Starts the thread. The storage is one whose operations need no event loop.
    ///
    /// # Errors
    /// `Io` when no thread can be started.
    pub fn start<S: Storage + Send + Sync + 'static>(image: &Image<S>) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let keep = {
            let (image, stop) = (image.clone(), Arc::clone(&stop));
            move || keep(&image, &stop)
        };
        let thread = thread::Builder::new().name("quod-maintain".into()).spawn(keep);
        let thread = thread.map_err(|source| Error::io("no thread for the image's maintenance", source))?;
        Ok(Keeper { stop, thread: Some(thread) })
    }
}

/// Settles an image from time to time, and when that is due, until it is told to stop and woken.
fn keep<S: Storage>(image: &Image<S>, stop: &AtomicBool) {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut failed = false;
    loop {
        let mut wanted = pin!(image.maintenance_wanted());
        while wanted.as_mut().poll(&mut context).is_pending() {
            if stop.load(Ordering::Acquire) {
                return;
            }
            thread::park();
        }
        let next = Instant::now() + MAINTAIN_EVERY;
        let mut due = pin!(image.maintenance_due());
        // What has failed is due again at once, and is left some time.
        while failed || due.as_mut().poll(&mut context).is_pending() {
            if stop.load(Ordering::Acquire) {
                return;
            }
            let left = next.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            thread::park_timeout(left);
        }
        if stop.load(Ordering::Acquire) {
            return;
        }
        let outcome = block_on(image.maintain());
        failed = outcome.is_err();
        if let Err(error) = outcome {
            if error.kind() == ErrorKind::Closed {
                return;
            }
            // The image is latched or short of room: its next write or flush tells the caller.
            tracing::warn!(%error, "maintenance of an open image failed");
        }
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            if thread.join().is_err() {
                tracing::error!("the maintenance thread panicked");
            }
        }
    }
}
