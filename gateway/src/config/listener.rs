//! Where the gateway listens, whom it trusts to speak for a client, and the admin address.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::config::read::At;
use crate::config::section::{section, words};
use crate::config::value::{FilePath, Network};
use crate::identify::partners::CertificateMatch;

section! {
    /// One address on which clients are served.
    pub struct Listener {
        /// The IP address and port to bind.
        address: SocketAddr,
        /// What is served here: `fhir`, the FHIR bases; `smart`, the authorization endpoints.
        serves: Vec<Serves>,
        /// The certificate shown to clients, and what is asked of theirs. TLS 1.3 only (45 CFR 164.312(e)(1)).
        tls: ListenerTls,
    }
    check check_listener;
}

words! {
    /// What a listener serves.
    pub enum Serves {
        /// The FHIR bases.
        Fhir = "fhir",
        /// The SMART authorization endpoints, which browsers and public clients reach without a certificate.
        Smart = "smart",
    }
}

section! {
    /// TLS of a listener. Files are read again when they change.
    pub struct ListenerTls {
        /// The certificate chain, PEM.
        certificate_file: FilePath,
        /// Its private key, PEM.
        key_file: FilePath,
        /// Whether a client must show a certificate.
        client_auth: ClientAuth = ClientAuth::Required,
        /// The authorities whose client certificates are accepted, PEM.
        client_ca_file: Option<FilePath>,
        /// Revocation lists of those authorities.
        crl_files: Vec<FilePath> = Vec::new(),
    }
    check check_listener_tls;
}

words! {
    /// Whether a client must show a certificate.
    pub enum ClientAuth {
        /// No handshake without a certificate that verifies.
        Required = "required",
        /// A certificate that is shown must verify; partners registered with `mtls: required` need one all the same.
        Optional = "optional",
    }
}

section! {
    /// Neighbours that may speak for a client's address or certificate. Nobody else's headers are believed.
    pub struct TrustedProxy {
        /// From which addresses it connects.
        addresses: Vec<Network>,
        /// Believe its X-Forwarded-For: the first address from the right that is no such neighbour's itself.
        x_forwarded_for: bool = false,
        /// Expect a PROXY header, version 2, at the start of its connections; without one they are closed.
        proxy_protocol: bool = false,
        /// Believe the certificate in its Client-Cert and Client-Cert-Chain headers (RFC 9440), judged as if it were shown on
        /// the connection.
        client_cert: bool = false,
        /// Its own certificates, of an authority in the listener's `client_ca_file`: headers are believed only with one of
        /// them on the connection.
        certificates: Vec<CertificateMatch> = Vec::new(),
    }
    check check_trusted_proxy;
}

section! {
    /// The address for operators: probes, metrics, decisions, the dashboard.
    pub struct Admin {
        /// The IP address and port to bind.
        address: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9901),
        /// TLS; off loopback it is required, with client certificates.
        tls: Option<ListenerTls>,
        /// Who may do what; without an entry a certificate opens probes and metrics only.
        roles: Vec<AdminRole> = Vec::new(),
    }
    check check_admin;
}

section! {
    /// A role on the admin listener.
    pub struct AdminRole {
        /// What it may do.
        role: Role,
        /// The certificates that have it.
        certificates: Vec<CertificateMatch>,
    }
}

words! {
    /// What a person on the admin listener may do.
    pub enum Role {
        /// Look at everything that holds no PHI.
        Viewer = "viewer",
        /// Look at decisions and disclosures with their patients.
        Privacy = "privacy",
        /// Suspend a partner, lock down.
        Operator = "operator",
    }
}

fn check_listener(listener: &Listener, at: &At<'_>) {
    if listener.serves.is_empty() {
        at.problem_at(
            "serves",
            "this listener serves nothing",
            "write `[fhir]`, `[smart]` or both, or remove the listener",
        );
    }
}

fn check_listener_tls(tls: &ListenerTls, at: &At<'_>) {
    if tls.client_ca_file.is_none() && tls.client_auth == ClientAuth::Required {
        at.problem_at(
            "client_ca_file",
            "client certificates are required, and no authority is named to verify them",
            "add `client_ca_file: tls/partners-ca.pem`",
        );
    }
    if tls.client_ca_file.is_none() && !tls.crl_files.is_empty() {
        at.problem_at("crl_files", "revocation lists without an authority do nothing", "add `client_ca_file`");
    }
}

fn check_trusted_proxy(proxy: &TrustedProxy, at: &At<'_>) {
    if proxy.addresses.is_empty() {
        at.problem_at("addresses", "this proxy has no address", "list from where it connects, or remove it");
    }
    if let Some(wide) = proxy.addresses.iter().find(|network| network.prefix() == 0) {
        at.problem_at(
            "addresses",
            format!("{wide} trusts everybody to say who they are"),
            "name the proxies' own addresses",
        );
    }
    if !(proxy.x_forwarded_for || proxy.proxy_protocol || proxy.client_cert) {
        at.problem(
            "this proxy is trusted with nothing",
            "set x_forwarded_for, proxy_protocol or client_cert, or remove it",
        );
    }
    if proxy.client_cert && proxy.certificates.is_empty() {
        at.problem_at(
            "client_cert",
            "whoever connects from this address could show any partner's certificate (RFC 9440 section 4)",
            "name the proxy's own certificates: `certificates: [{san_dns: proxy.internal}]`",
        );
    }
    if proxy.x_forwarded_for && proxy.proxy_protocol {
        at.problem(
            "two sources for one client address can contradict each other",
            "keep x_forwarded_for or proxy_protocol",
        );
    }
}

fn check_admin(admin: &Admin, at: &At<'_>) {
    if admin.tls.is_none() && !admin.roles.is_empty() {
        at.problem_at(
            "roles",
            "without TLS nobody shows a certificate, so no role is ever held",
            "add `tls`, or remove them",
        );
    }
    if let Some(tls) = &admin.tls
        && tls.client_auth == ClientAuth::Optional
    {
        at.problem_at(
            "tls",
            "the admin address is open to clients without a certificate",
            "set `client_auth: required`",
        );
    }
    if admin.address.ip().is_loopback() {
        return;
    }
    if admin.tls.is_none() {
        at.problem_at(
            "tls",
            "the admin address is off loopback and has no TLS (45 CFR 164.312(a)(1))",
            "bind 127.0.0.1, or add `tls` with `client_auth: required`",
        );
    }
}
