//! A deterministic world to break the engine in.
//!
//! Role: storage that delays, reorders, fails, runs full and crashes ([`World`], [`SimStorage`]); an executor that picks
//! what runs next ([`Executor`]); sectors that say where they belong ([`stamp`]); and the model of what a correct disk
//! may return ([`Model`]). The fault model is that of `docs/spec/durability-rules.md`.
//!
//! Invariant: one seed, one outcome. Every choice comes from a seeded generator, and nothing here reads a clock,
//! starts a thread or iterates over a randomly ordered map.
//!
//! Absent on purpose: knowledge of image formats and of the engine; locks between openers (one process owns the
//! world); short reads and writes (the `Storage` contract has none).

mod call;
mod disk;
mod executor;
mod fault;
mod job;
mod journal;
mod kernel;
mod model;
mod odds;
mod opener;
mod sector;
mod slot;
mod sparse;
pub mod stamp;
mod violation;
mod world;

pub use disk::SimStorage;
pub use executor::{Executor, Handle, Stuck};
pub use fault::{Fault, Faults, Kind};
pub use model::{Model, Request};
pub use opener::SimOpener;
pub use violation::{Forbidden, Violation};
pub use world::World;

/// Bytes that reach the disk whole or not at all.
pub const SECTOR: u64 = 512;
