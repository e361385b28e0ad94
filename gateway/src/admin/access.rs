//! Who is on the admin listener, and what that person may do there (`admin.roles`).
//!
//! Off loopback everybody shows a certificate of the staff's authority; a certificate opens probes and metrics, and roles open
//! the rest. On loopback without TLS whoever reaches the address is the machine's own operator and may do everything.
//! Handlers find the [`Caller`] among the request's extensions.

use std::fmt;
use std::sync::Arc;

use axum::http::{Method, Uri};
use fhirwall_certs::peer::PeerIdentity;

use crate::config::{AdminRole, Role};

/// The connection of a request: set by the listener, from the handshake.
#[derive(Clone, Debug)]
pub enum AdminConnection {
    /// Plain, from this machine.
    Loopback,
    /// With a verified certificate.
    Tls(Arc<PeerIdentity>),
}

/// Who acts.
#[derive(Clone, PartialEq, Eq)]
pub struct Caller {
    name: String,
    roles: Vec<Role>,
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caller").field("roles", &self.roles).finish_non_exhaustive()
    }
}

impl Caller {
    /// The caller on this connection, under these roles.
    pub fn on(connection: &AdminConnection, roles: &[AdminRole]) -> Self {
        match connection {
            AdminConnection::Loopback => {
                Self { name: "loopback".to_owned(), roles: vec![Role::Viewer, Role::Privacy, Role::Operator] }
            }
            AdminConnection::Tls(peer) => {
                let has = |role: &&AdminRole| role.certificates.iter().any(|certificate| certificate.names(peer));
                let name = peer
                    .san_uris
                    .first()
                    .or_else(|| peer.san_dns.first())
                    .cloned()
                    .unwrap_or_else(|| peer.sha256_hex());
                Self { name, roles: roles.iter().filter(has).map(|role| role.role).collect() }
            }
        }
    }

    /// The first name in the certificate, or its digest: for the record.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Has the caller this role? Every role may also look at what holds no PHI.
    pub fn may(&self, role: Role) -> bool {
        match role {
            Role::Viewer => !self.roles.is_empty(),
            Role::Privacy | Role::Operator => self.roles.contains(&role),
        }
    }

    /// The roles, as written in the configuration.
    pub fn roles(&self) -> &[Role] {
        &self.roles
    }
}

/// What a request on the admin listener takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// To be here.
    Nothing,
    Role(Role),
}

impl Need {
    /// By method and path alone, so that a route that nobody thought of is no open one: acts are for operators, decisions
    /// for privacy officers, the rest for viewers.
    pub(super) fn of(method: &Method, uri: &Uri) -> Self {
        let looks = matches!(*method, Method::GET | Method::HEAD);
        match uri.path() {
            _ if !looks => Self::Role(Role::Operator),
            "/livez" | "/startupz" | "/metrics" => Self::Nothing,
            "/readyz" if uri.query().is_none() => Self::Nothing,
            path if path.starts_with("/decisions/") => Self::Role(Role::Privacy),
            _ => Self::Role(Role::Viewer),
        }
    }

    /// Is it put on record: every act, and whatever may name a patient.
    pub(super) const fn is_recorded(self) -> bool {
        match self {
            Self::Nothing | Self::Role(Role::Viewer) => false,
            Self::Role(Role::Privacy | Role::Operator) => true,
        }
    }

    pub(super) fn is_met_by(self, caller: &Caller) -> bool {
        match self {
            Self::Nothing => true,
            Self::Role(role) => caller.may(role),
        }
    }
}

#[cfg(test)]
mod tests {
    use fhirwall_certs::authority::{Authority, LeafNames, Validity};
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject as _;
    use time::OffsetDateTime;

    use super::*;
    use crate::identify::partners::CertificateMatch;

    fn peer(uri: &str) -> AdminConnection {
        let validity = Validity::days(OffsetDateTime::UNIX_EPOCH + time::Duration::days(20_000), 30).unwrap();
        let names = LeafNames { common_name: "x".to_owned(), uris: vec![uri.to_owned()], ..LeafNames::default() };
        let issued = Authority::create("staff", validity).unwrap().issue_client(&names, validity).unwrap();
        let leaf = CertificateDer::from_pem_slice(issued.certificate_pem.as_bytes()).unwrap();
        AdminConnection::Tls(Arc::new(PeerIdentity::from_der_chain(&[leaf]).unwrap()))
    }

    fn roles() -> Vec<AdminRole> {
        let role = |role, name: &str| {
            let certificates = vec![CertificateMatch::SanUri(format!("spiffe://staff.example/{name}"))];
            AdminRole { role, certificates }
        };
        vec![
            role(Role::Viewer, "vera"),
            role(Role::Operator, "otto"),
            role(Role::Privacy, "paula"),
            role(Role::Operator, "both"),
            role(Role::Privacy, "both"),
        ]
    }

    #[test]
    fn each_role_opens_its_own_and_no_other() {
        const RANKS: [Role; 3] = [Role::Viewer, Role::Operator, Role::Privacy];
        for (name, may) in [
            ("nobody", [false, false, false]),
            ("vera", [true, false, false]),
            ("otto", [true, true, false]),
            ("paula", [true, false, true]),
            ("both", [true, true, true]),
        ] {
            let caller = Caller::on(&peer(&format!("spiffe://staff.example/{name}")), &roles());
            assert_eq!(RANKS.map(|role| caller.may(role)), may, "{name}");
            assert_eq!(caller.name(), format!("spiffe://staff.example/{name}"));
        }
        let local = Caller::on(&AdminConnection::Loopback, &[]);
        assert_eq!(RANKS.map(|role| local.may(role)), [true, true, true]);
    }

    #[test]
    fn what_nobody_thought_of_is_not_open() {
        let need = |method: Method, uri: &'static str| Need::of(&method, &Uri::from_static(uri));
        for open in ["/livez", "/readyz", "/startupz", "/metrics"] {
            assert_eq!(need(Method::GET, open), Need::Nothing, "{open}");
            assert_eq!(need(Method::POST, open), Need::Role(Role::Operator), "{open}");
        }
        for (method, uri, role) in [
            (Method::GET, "/readyz?verbose", Role::Viewer),
            (Method::GET, "/config", Role::Viewer),
            (Method::GET, "/", Role::Viewer),
            (Method::GET, "/anything/new", Role::Viewer),
            (Method::GET, "/decisions/018f", Role::Privacy),
            (Method::HEAD, "/decisions/018f", Role::Privacy),
            (Method::POST, "/consents/changed", Role::Operator),
            (Method::DELETE, "/anything/new", Role::Operator),
        ] {
            assert_eq!(need(method.clone(), uri), Need::Role(role), "{method} {uri}");
        }
    }
}
