//! The gateway: the thin shell around `policy` and `fhir-profiles`.
//!
//! It forwards nothing without a permit, answers nothing that it did not record, and shows nothing that it did not
//! understand. The journey of a request is the order of the modules below.

pub mod admin;
pub mod admit;
pub mod alerts;
pub mod audit;
pub mod behaviour;
pub mod cli;
pub mod clock;
pub mod config;
pub mod consents;
pub mod control;
pub mod dashboard;
pub mod decide;
pub mod demo;
pub mod emergency;
pub mod evidence;
pub mod forward;
pub mod generation;
pub mod identify;
pub mod interpret;
pub mod jobs;
pub mod links;
pub mod listen;
pub mod lockdown;
pub mod offers;
pub mod pki;
pub mod prove;
pub mod proxy;
pub mod reach;
pub mod redact;
pub mod refusal;
pub mod reload;
pub mod resolve;
pub mod scan;
pub mod schedule;
pub mod serve;
pub mod shared;
pub mod smart;
pub mod state;
pub mod telemetry;
