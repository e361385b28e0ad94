//! Who is on the other end of a connection, and how this end proves who it is.
//!
//! This crate refuses by default: TLS below 1.3 on a listener, a client certificate that is not anchored, revoked, of
//! unknown revocation status, made for another use, or that has two readings; a server whose name, chain or pin does not
//! fit. It opens no socket and reads no file: PEM text goes in, rustls configurations and identities come out.

pub mod authority;
pub mod client;
pub mod peer;
mod pem;
pub mod server;

pub use authority::{Authority, AuthorityError, Issued, LeafNames, Validity};
pub use client::{Roots, UpstreamTls, upstream_config};
pub use peer::{PeerIdentity, PeerRefused, SpiffeId};
pub use pem::TlsRefused;
pub use server::{ClientAuth, ClientTrust, ServerTls, ServerTlsPem, SwappableTls};
