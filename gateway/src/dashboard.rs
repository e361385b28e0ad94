//! The dashboard: one page for the person who is woken at night and for the one with an auditor in the room.
//!
//! It is written on the server, needs no script, and names partners, rules and counts, never a patient or a user. What
//! acts (a suspension, a lockdown) is asked for on one page and confirmed on another.

mod board;
mod explained;
mod page;
mod plot;
mod sections;
mod table;

pub use board::{Act, Board, DecisionLine, FindingLine, LockdownLine, May, Minute, PartnerLine, RiskLine, Standing};
pub use explained::explained;
pub use page::{confirm, page};

/// The style sheet, served beside the page: the page's policy allows no other, and no script at all.
pub const STYLE: &str = include_str!("dashboard/style.css");

/// `Content-Security-Policy` of every page here.
pub const CONTENT_SECURITY_POLICY: &str =
    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

#[cfg(test)]
mod tests;
