//! SMART App Launch at the gateway: discovery, and the authorization endpoints where the gateway has a part in them.
//!
//! Refused here: PKCE `plain` or none, redirects that are not registered to the letter, scopes beyond a registration,
//! codes and assertions used twice, refresh tokens that were rotated away.

pub mod answer;
pub mod authorize;
pub mod broker;
pub mod client_keys;
pub mod clients;
pub mod cors;
pub mod front;
pub mod login;
pub mod parameters;
pub mod pkce;
pub mod remote;
pub mod request;
pub mod scopes;
pub mod seal;
pub mod signing;
pub mod upstream;
pub mod wellknown;
