//! Everything that the gateway stands between, embedded: a sample EHR, a sample SMART authorization server, development
//! certificates, three partner apps. `fhirwall demo` shows it to people; `tests/journey` drives the gateway with it.

pub mod apps;
pub mod authorization_server;
pub mod client;
pub mod ehr;
pub(crate) mod files;
pub(crate) mod patients;
pub(crate) mod pki;
pub(crate) mod tls_server;
pub(crate) mod tour;
pub mod world;
