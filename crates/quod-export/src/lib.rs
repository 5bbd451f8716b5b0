//! Block-device servers for Quod images.
//!
//! Role: carry an open [`quod::Image`] to clients that know nothing of its format. [`nbd`] is the one way out so far;
//! [`metrics`] tells others how it goes.
//!
//! Invariant: no client can end the server, reach another client's data, or take memory beyond fixed bounds.
//!
//! Absent on purpose: opening and closing images, signal handling, and everything that an image format means.

pub mod metrics;
pub mod nbd;
