//! What is asked of a FHIR R4 server, and what its answer contains.
//!
//! This crate refuses to guess. A request that has two readings is an error, an answer that cannot be understood to the
//! last byte is an error, and neither error carries content. It is pure: no clock, no network, no files, no logging.

pub mod bundle;
pub mod capability;
pub mod codes;
pub mod compartment;
pub mod engine;
pub mod ids;
pub mod interaction;
pub mod json;
mod known;
pub mod label;
pub mod labeller;
pub mod operation;
pub mod patch;
pub mod present;
pub mod preserve;
pub mod reference;
pub mod search;
pub mod stated;
pub mod written;
