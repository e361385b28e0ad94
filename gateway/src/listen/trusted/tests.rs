use fhirwall_certs::authority::{Authority, Issued, LeafNames, Revoked, Validity};
use fhirwall_certs::server::{ClientAuth, ClientTrust, ServerTlsPem};
use rustls::pki_types::pem::PemObject as _;
use time::OffsetDateTime;

use super::*;
use crate::identify::partners::CertificateMatch;

const NOW: i64 = 1_790_000_000;

fn at(offset_days: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(NOW).unwrap() + time::Duration::days(offset_days)
}

fn now() -> UnixTime {
    UnixTime::since_unix_epoch(std::time::Duration::from_secs(NOW.unsigned_abs()))
}

fn names(name: &str) -> LeafNames {
    let uris = vec![format!("spiffe://{name}.example/gateway")];
    LeafNames { common_name: name.to_owned(), uris, dns: vec![format!("{name}.example")], ..LeafNames::default() }
}

fn der(issued: &Issued) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(issued.certificate_pem.as_bytes()).unwrap()
}

fn header(issued: &Issued) -> String {
    format!(":{}:", STANDARD.encode(der(issued)))
}

/// A listener that trusts one authority, with a proxy's and several clients' certificates of it.
struct Site {
    tls: ServerTls,
    proxy: Issued,
    good: Issued,
    revoked: Issued,
    expired: Issued,
    server: Issued,
    foreign: Issued,
}

impl Site {
    fn new() -> Self {
        let valid = Validity::days(at(-1), 30).unwrap();
        let authority = Authority::create("partners", Validity::days(at(-60), 365).unwrap()).unwrap();
        let other = Authority::create("others", valid).unwrap();
        let client = |name: &str| authority.issue_client(&names(name), valid).unwrap();
        let (proxy, good, revoked) = (client("proxy"), client("app"), client("gone"));
        let expired = authority.issue_client(&names("old"), Validity::days(at(-40), 30).unwrap()).unwrap();
        let server = authority.issue_server(&names("server"), valid).unwrap();
        let foreign = other.issue_client(&names("app"), valid).unwrap();
        let serial = PeerIdentity::from_der_chain(&[der(&revoked)]).unwrap().serial;
        let gone = [Revoked { serial, at: at(-1) }];
        let crl = authority.crl(&gone, 1, at(-1), 7).unwrap();
        let pem = ServerTlsPem {
            certificates: server.certificate_pem.clone().into_bytes(),
            key: server.key_pem.clone().unwrap().into_bytes(),
            client_auth: ClientAuth::Optional(ClientTrust {
                ca: authority.certificate_pem().as_bytes().to_vec(),
                crls: vec![crl.into_bytes()],
            }),
        };
        Self { tls: ServerTls::from_pem(&pem).unwrap(), proxy, good, revoked, expired, server, foreign }
    }
}

fn proxy(addresses: &[&str]) -> TrustedProxy {
    TrustedProxy {
        addresses: addresses.iter().map(|text| crate::config::Network::parse(text).unwrap()).collect(),
        x_forwarded_for: false,
        proxy_protocol: false,
        client_cert: false,
        certificates: Vec::new(),
    }
}

fn forwarding() -> TrustedProxies {
    TrustedProxies::new(&[TrustedProxy { x_forwarded_for: true, ..proxy(&["10.0.0.0/8", "2001:db8:1::/48"]) }])
}

fn certifying() -> TrustedProxies {
    let certificates = vec![CertificateMatch::SanDns("proxy.example".to_owned())];
    TrustedProxies::new(&[TrustedProxy { client_cert: true, certificates, ..proxy(&["10.0.0.0/8"]) }])
}

fn from(address: &str, peer: Option<&Issued>) -> Connection {
    let peer = peer.map(|issued| Arc::new(PeerIdentity::from_der_chain(&[der(issued)]).unwrap()));
    Connection { peer, address: address.parse().unwrap(), server_name: None, listener: 0 }
}

fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(*name, value.parse().unwrap());
    }
    headers
}

#[test]
fn the_client_is_the_first_hop_from_the_right_that_is_not_trusted() {
    let trusted = forwarding();
    let bad = Err(Untrue::Malformed);
    for (peer, lines, client) in [
        ("10.0.0.1:9", vec!["192.0.2.1"], Ok("192.0.2.1:0")),
        ("10.0.0.1:9", vec!["192.0.2.1:5566"], Ok("192.0.2.1:5566")),
        ("10.0.0.1:9", vec!["2001:db8::7"], Ok("[2001:db8::7]:0")),
        ("10.0.0.1:9", vec!["[2001:db8::7]"], Ok("[2001:db8::7]:0")),
        ("10.0.0.1:9", vec!["[2001:db8::7]:443"], Ok("[2001:db8::7]:443")),
        ("10.0.0.1:9", vec!["::ffff:192.0.2.1"], Ok("192.0.2.1:0")),
        // What the client wrote itself stands on the left, and is never reached.
        ("10.0.0.1:9", vec!["127.0.0.1, 192.0.2.1"], Ok("192.0.2.1:0")),
        ("10.0.0.1:9", vec!["127.0.0.1", "192.0.2.1"], Ok("192.0.2.1:0")),
        ("10.0.0.1:9", vec!["10.0.0.9, 192.0.2.1"], Ok("192.0.2.1:0")),
        ("10.0.0.1:9", vec!["<script>, 192.0.2.1"], Ok("192.0.2.1:0")),
        // Over further trusted hops, also when they are written as IPv6.
        ("10.0.0.1:9", vec!["192.0.2.1, 10.0.0.2"], Ok("192.0.2.1:0")),
        ("10.0.0.1:9", vec!["192.0.2.1, ::ffff:10.0.0.2, 2001:db8:1::2"], Ok("192.0.2.1:0")),
        ("[::ffff:10.0.0.1]:9", vec!["192.0.2.1"], Ok("192.0.2.1:0")),
        // Trusted hops alone: the one that began.
        ("10.0.0.1:9", vec!["10.0.0.3, 10.0.0.2"], Ok("10.0.0.3:0")),
        ("10.0.0.1:9", vec![], Ok("10.0.0.1:9")),
        // What the neighbour itself wrote must be an address.
        ("10.0.0.1:9", vec!["192.0.2.1, unknown"], bad),
        ("10.0.0.1:9", vec!["192.0.2.1, "], bad),
        ("10.0.0.1:9", vec!["192.0.2.999"], bad),
        ("10.0.0.1:9", vec!["fe80::1%eth0"], bad),
        ("10.0.0.1:9", vec![""], bad),
    ] {
        let lines: Vec<(&'static str, &str)> = lines.into_iter().map(|line| ("x-forwarded-for", line)).collect();
        let told = trusted.client(&from(peer, None), &mut headers(&lines), None, now());
        let told = told.map(|told| told.unwrap().address.to_string());
        assert_eq!(told, client.map(str::to_owned), "{peer} {lines:?}");
    }
    let many = vec!["10.0.0.2"; 33].join(",");
    let told = trusted.client(&from("10.0.0.1:9", None), &mut headers(&[("x-forwarded-for", &many)]), None, now());
    assert_eq!(told.unwrap_err(), Untrue::Malformed);
}

#[test]
fn from_anybody_else_the_headers_are_dropped_unread() {
    let site = Site::new();
    let good = header(&site.good);
    let lines = [
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-host", "evil.example"),
        ("forwarded", "for=127.0.0.1"),
        ("x-real-ip", "127.0.0.1"),
        ("client-cert", good.as_str()),
        ("client-cert-chain", good.as_str()),
        ("accept", "application/fhir+json"),
    ];
    for (trusted, address, peer) in [
        (TrustedProxies::default(), "10.0.0.1:9", None),
        (forwarding(), "192.0.2.1:9", None),
        (certifying(), "192.0.2.1:9", Some(&site.proxy)),
        // At the proxy's address, but not the proxy.
        (certifying(), "10.0.0.1:9", None),
        (certifying(), "10.0.0.1:9", Some(&site.good)),
    ] {
        let mut headers = headers(&lines);
        let told = trusted.client(&from(address, peer), &mut headers, Some(&site.tls), now()).unwrap();
        assert!(told.is_none(), "{address}");
        assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["accept"]);
    }
}

#[test]
fn a_certificate_that_is_passed_on_is_judged_as_if_it_were_on_the_connection() {
    let site = Site::new();
    let through = |lines: &[(&'static str, &str)], tls: Option<&ServerTls>| {
        let connection = from("10.0.0.1:9", Some(&site.proxy));
        let told = certifying().client(&connection, &mut headers(lines), tls, now())?;
        Ok(told.unwrap().peer.map(|peer| peer.san_dns.join(",")))
    };
    let one = |issued: &Issued| through(&[("client-cert", &header(issued))], Some(&site.tls));
    assert_eq!(one(&site.good), Ok(Some("app.example".to_owned())));
    assert_eq!(through(&[], Some(&site.tls)), Ok(None), "the proxy's own certificate is nobody's behind it");
    for (what, issued) in [
        ("revoked", &site.revoked),
        ("expired", &site.expired),
        ("for servers", &site.server),
        ("of another authority", &site.foreign),
    ] {
        assert_eq!(one(issued), Err(Untrue::Certificate), "{what}");
    }
    let good = header(&site.good);
    assert_eq!(through(&[("client-cert", &good)], None), Err(Untrue::Certificate), "a listener without authorities");
    let long = [good.as_str(); LONGEST_CHAIN].join(", ");
    let bare = STANDARD.encode(der(&site.good));
    let parameter = format!("{good};a=1");
    let (head, tail) = bare.split_at(8);
    let with_space = format!(":{head} {tail}:");
    for (what, lines) in [
        ("twice", vec![("client-cert", good.as_str()), ("client-cert", &good)]),
        ("a chain without a certificate", vec![("client-cert-chain", &good)]),
        ("no byte sequence", vec![("client-cert", &bare)]),
        ("a PEM text", vec![("client-cert", "-----BEGIN CERTIFICATE-----")]),
        ("empty", vec![("client-cert", "::")]),
        ("nothing", vec![("client-cert", "")]),
        ("with a parameter", vec![("client-cert", &parameter)]),
        ("broken base64", vec![("client-cert", &with_space)]),
        ("a list", vec![("client-cert", &long)]),
        ("a long chain", vec![("client-cert", &good), ("client-cert-chain", &long)]),
        ("a chain with a hole", vec![("client-cert", &good), ("client-cert-chain", ":AAAA:,,:AAAA:")]),
    ] {
        assert_eq!(through(&lines, Some(&site.tls)), Err(Untrue::Malformed), "{what}");
    }
    assert_eq!(through(&[("client-cert", ":AAAA:")], Some(&site.tls)), Err(Untrue::Certificate));
    assert_eq!(
        through(&[("client-cert", &good), ("client-cert-chain", &good)], Some(&site.tls)),
        Ok(Some("app.example".to_owned())),
        "what the chain does not need does no harm",
    );
}

#[test]
fn only_the_named_neighbours_begin_with_a_proxy_header() {
    let trusted = TrustedProxies::new(&[TrustedProxy { proxy_protocol: true, ..proxy(&["10.0.0.0/24"]) }]);
    for (address, announces) in [
        ("10.0.0.7", true),
        ("::ffff:10.0.0.7", true),
        ("10.0.1.7", false),
        ("::10.0.0.7", false),
        ("2001:db8::1", false),
    ] {
        assert_eq!(trusted.announces(address.parse().unwrap()), announces, "{address}");
    }
    assert!(!forwarding().announces("10.0.0.7".parse().unwrap()));
}
