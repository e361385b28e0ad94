//! Who may call: tokens, certificates, keys, proofs and flows, each attack beside its legitimate neighbour.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::large_enum_variant,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "tests may stop at the first surprise"
)]

mod broker;
mod clients;
mod conformance;
mod front;
mod keys;
mod opaque;
mod proofs;
mod site;
mod tokens;
mod upstream;
mod world;
mod wycheproof;
