//! Waiting for a client that keeps something others may need.
//!
//! Invariant: a client that moves no byte is waited for as long as it is in nobody's way, and for the stall timeout
//! otherwise.
//!
//! Absent on purpose: a time limit on idle clients, which hold nothing.

use std::io;
use std::pin::pin;

use compio::time::timeout;

use super::budget::Share;
use super::fault::Fault;

/// Waits until a stream is `ready`, but not for ever when the share of its connection is wanted by another one, or
/// `in_the_way` holds for another reason.
///
/// # Errors
/// When the stream fails, or [`Fault::Stalled`].
pub(crate) async fn patiently(
    share: &Share,
    ready: impl Future<Output = io::Result<()>>,
    in_the_way: impl Fn() -> bool,
) -> Result<(), Fault> {
    let mut ready = pin!(ready);
    loop {
        match timeout(share.stall_timeout(), ready.as_mut()).await {
            Ok(ready) => return Ok(ready?),
            Err(_elapsed) if share.is_wanted() || in_the_way() => return Err(Fault::Stalled),
            Err(_elapsed) => {}
        }
    }
}
