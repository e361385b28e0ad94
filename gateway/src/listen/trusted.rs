//! Who may speak for a client: load balancers that the configuration names, and nobody else (`trusted_proxies`).
//!
//! A neighbour is known by its address, and where `certificates` are named, by its own certificate on the connection too. Only
//! then is it believed: the client's address from `X-Forwarded-For`, read from the right; the client's certificate from
//! `Client-Cert` and `Client-Cert-Chain` (RFC 9440), verified as if it had been shown on this very connection. From everybody
//! else these headers are dropped unread. None of them is ever forwarded.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fhirwall_certs::peer::PeerIdentity;
use fhirwall_certs::server::ServerTls;
use http::{HeaderMap, HeaderName};
use rustls::pki_types::{CertificateDer, UnixTime};

use super::Connection;
use crate::config::TrustedProxy;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const CLIENT_CERT: HeaderName = HeaderName::from_static("client-cert");
const CLIENT_CERT_CHAIN: HeaderName = HeaderName::from_static("client-cert-chain");
/// A chain longer than this is not looked at.
const LONGEST_CHAIN: usize = 8;
/// More hops than this are no way to here.
const MOST_HOPS: usize = 32;

/// The neighbours of one generation.
#[derive(Debug, Default)]
pub struct TrustedProxies(Vec<TrustedProxy>);

/// What a trusted neighbour said is not to be understood, or not true.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Untrue {
    /// A header that is not what its specification says.
    Malformed,
    /// A certificate that would have been refused in the handshake.
    Certificate,
}

impl TrustedProxies {
    pub fn new(configured: &[TrustedProxy]) -> Self {
        Self(configured.to_vec())
    }

    /// Does whoever connects from here begin with a PROXY header?
    pub(super) fn announces(&self, address: IpAddr) -> bool {
        self.at(address).any(|proxy| proxy.proxy_protocol)
    }

    /// The client behind the connection, as far as a trusted neighbour speaks for it; `None` when nobody does. The headers
    /// by which neighbours speak are gone afterwards, whoever sent them.
    ///
    /// # Errors
    /// When a trusted neighbour said what cannot be understood or is not true: nothing is guessed in its place.
    pub fn client(
        &self,
        connection: &Connection,
        headers: &mut HeaderMap,
        tls: Option<&ServerTls>,
        now: UnixTime,
    ) -> Result<Option<Connection>, Untrue> {
        let said = take(headers);
        let believed: Vec<&TrustedProxy> =
            self.at(connection.address.ip()).filter(|proxy| is_itself(proxy, connection.peer.as_deref())).collect();
        if !believed.iter().any(|proxy| proxy.x_forwarded_for || proxy.client_cert) {
            return Ok(None);
        }
        let address = if believed.iter().any(|proxy| proxy.x_forwarded_for) {
            self.first_untrusted(connection.address, &said.forwarded_for)?
        } else {
            connection.address
        };
        // A proxy's own certificate is nobody's behind it.
        let peer = if believed.iter().any(|proxy| proxy.client_cert) {
            certificate(&said, tls, now)?.map(Arc::new)
        } else if believed.iter().any(|proxy| !proxy.certificates.is_empty()) {
            None
        } else {
            connection.peer.clone()
        };
        let (server_name, listener) = (connection.server_name.clone(), connection.listener);
        Ok(Some(Connection { peer, address, server_name, listener }))
    }

    fn at(&self, address: IpAddr) -> impl Iterator<Item = &TrustedProxy> {
        self.0.iter().filter(move |proxy| proxy.addresses.iter().any(|network| network.contains(address)))
    }

    /// From the right, over the hops that are trusted themselves, to the first that is not: each hop appends the address it
    /// was called from, and what stands further left is whatever that caller wrote.
    fn first_untrusted(&self, from: SocketAddr, lines: &[String]) -> Result<SocketAddr, Untrue> {
        let hops: Vec<&str> = lines.iter().flat_map(|line| line.split(',')).map(str::trim).collect();
        if hops.len() > MOST_HOPS {
            return Err(Untrue::Malformed);
        }
        let mut client = from;
        for hop in hops.into_iter().rev() {
            client = hop_address(hop).ok_or(Untrue::Malformed)?;
            if !self.at(client.ip()).any(|proxy| proxy.x_forwarded_for) {
                break;
            }
        }
        Ok(client)
    }
}

/// Is it the neighbour, and not somebody at its address? Where certificates are named, one of them must be on the connection.
fn is_itself(proxy: &TrustedProxy, peer: Option<&PeerIdentity>) -> bool {
    proxy.certificates.is_empty()
        || peer.is_some_and(|peer| proxy.certificates.iter().any(|certificate| certificate.names(peer)))
}

/// What neighbours say by headers.
struct Said {
    forwarded_for: Vec<String>,
    certificate: Vec<String>,
    chain: Vec<String>,
}

/// Takes every header by which a proxy speaks for a client out of the request.
fn take(headers: &mut HeaderMap) -> Said {
    let mut texts = |name: HeaderName| -> Vec<String> {
        let values: Vec<String> =
            headers.get_all(&name).iter().filter_map(|value| value.to_str().ok()).map(str::to_owned).collect();
        headers.remove(&name);
        values
    };
    let said =
        Said { forwarded_for: texts(FORWARDED_FOR), certificate: texts(CLIENT_CERT), chain: texts(CLIENT_CERT_CHAIN) };
    let speaks = |name: &HeaderName| {
        let name = name.as_str();
        name.starts_with("x-forwarded-") || name.starts_with("x-client-") || name == "forwarded" || name == "x-real-ip"
    };
    let others: Vec<HeaderName> = headers.keys().filter(|name| speaks(name)).cloned().collect();
    for name in others {
        headers.remove(name);
    }
    said
}

/// `192.0.2.1`, `192.0.2.1:443`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:443`. A v4 address written as v6 counts as v4.
fn hop_address(text: &str) -> Option<SocketAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = match (bare.parse::<IpAddr>(), text.parse::<SocketAddr>()) {
        (Ok(address), _) => SocketAddr::new(address, 0),
        (Err(_), Ok(address)) => address,
        (Err(_), Err(_)) => return None,
    };
    Some(SocketAddr::new(address.ip().to_canonical(), address.port()))
}

/// The certificate that the neighbour passes on, verified by the listener's own authorities and revocation lists.
fn certificate(said: &Said, tls: Option<&ServerTls>, now: UnixTime) -> Result<Option<PeerIdentity>, Untrue> {
    let leaf = match said.certificate.as_slice() {
        // A chain of nobody is a mistake of the neighbour's.
        [] if said.chain.is_empty() => return Ok(None),
        [one] => binary(one)?,
        _ => return Err(Untrue::Malformed),
    };
    let mut chain = vec![leaf];
    for item in said.chain.iter().flat_map(|line| line.split(',')) {
        chain.push(binary(item)?);
    }
    if chain.len() > LONGEST_CHAIN {
        return Err(Untrue::Malformed);
    }
    let tls = tls.ok_or(Untrue::Certificate)?;
    tls.verify_client(&chain, now).map(Some).map_err(|_| Untrue::Certificate)
}

/// One byte sequence (RFC 8941 3.3.5; RFC 9440 2.1: DER in canonical base64, without parameters).
fn binary(item: &str) -> Result<CertificateDer<'static>, Untrue> {
    let inner = item.trim_matches([' ', '\t']).strip_prefix(':').and_then(|rest| rest.strip_suffix(':'));
    let bytes = inner.and_then(|inner| STANDARD.decode(inner).ok()).filter(|bytes| !bytes.is_empty());
    bytes.map(CertificateDer::from).ok_or(Untrue::Malformed)
}

#[cfg(test)]
mod tests;
