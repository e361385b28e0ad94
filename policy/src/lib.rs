//! Whether a request may happen, and under which duties.
//!
//! This crate refuses by default: no policy set, no scope, no consent, an error anywhere, and the answer is a
//! [`reason::Reason`], never a permit. It is pure: `now`, facts and limits arrive as arguments.

pub mod cedar;
pub mod consent;
pub mod decide;
pub mod explain;
pub mod mutate;
pub mod partner;
pub mod permit;
pub mod purpose;
pub mod question;
mod reach;
pub mod reason;
pub mod record;
pub mod scope;
pub mod subject;
pub mod tables;
mod touched;
