//! Rules on connections: who may reach the gateway, and whom it reaches how.

use crate::config::{ClientAuth, ConsentSource, MtlsMode, Network, Serves, SmartMode, UpstreamAuth, is_loopback};
use crate::control::{Control, Facts, Held, Severity, Unmet, unmet};

pub(super) const CONTROLS: &[Control] = &[
    Control {
        id: "listener-tls",
        severity: Severity::Violation,
        cites: "45 CFR 164.312(e)(1); NIST SP 800-207 section 2.1",
        asks: "Clients are served over TLS 1.3 alone.",
        fix: "give every listener `tls` with a certificate and its key",
        held: Held::AtLoad("this key is required"),
    },
    Control {
        id: "client-authority",
        severity: Severity::Violation,
        cites: "45 CFR 164.312(d)",
        asks: "Where client certificates are asked for, an authority is named to verify them.",
        fix: "add `client_ca_file`",
        held: Held::AtLoad("no authority is named"),
    },
    Control {
        id: "client-revocation",
        severity: Severity::Risk,
        cites: "45 CFR 164.308(a)(3)(ii)(C)",
        asks: "A client certificate can be revoked.",
        fix: "add `crl_files` with the list of the authority in `client_ca_file`",
        held: Held::ByCheck(client_revocation),
    },
    Control {
        id: "fhir-listener-mtls",
        severity: Severity::Risk,
        cites: "NIST SP 800-207 section 2.1; 45 CFR 164.312(d)",
        asks: "A listener that serves FHIR alone asks every client for a certificate, if every partner has one.",
        fix: "set `client_auth: required`",
        held: Held::ByCheck(fhir_listener_mtls),
    },
    Control {
        id: "smart-listener",
        severity: Severity::Risk,
        cites: "SMART App Launch 2.2, section \"Launch\"",
        asks: "Authorization endpoints that the gateway guards or is are served somewhere.",
        fix: "add `smart` to the `serves` of a listener",
        held: Held::ByCheck(smart_listener),
    },
    Control {
        id: "smart-listener-open",
        severity: Severity::Risk,
        cites: "SMART App Launch 2.2, section \"Client types\"",
        asks: "Browsers and public clients can reach the authorization endpoints: they have no certificate.",
        fix: "set `client_auth: optional` on the listener that serves `smart`",
        held: Held::ByCheck(smart_listener_open),
    },
    Control {
        id: "admin-mtls",
        severity: Severity::Violation,
        cites: "45 CFR 164.312(a)(1), (d)",
        asks: "The admin address is on loopback, or asks for client certificates.",
        fix: "bind 127.0.0.1, or add `tls` with `client_auth: required`",
        held: Held::AtLoad("admin address is off loopback"),
    },
    Control {
        id: "admin-operator",
        severity: Severity::Advice,
        cites: "45 CFR 164.308(a)(6)(ii)",
        asks: "Somebody may suspend a partner and lock down in an incident.",
        fix: "add an entry with `role: operator` to `admin.roles`",
        held: Held::ByCheck(admin_operator),
    },
    Control {
        id: "proxy-everybody",
        severity: Severity::Violation,
        cites: "45 CFR 164.312(a)(2)(i); RFC 9440 section 4",
        asks: "Not everybody may speak for a client's address or certificate.",
        fix: "name the proxies' own addresses in `trusted_proxies`",
        held: Held::AtLoad("trusts everybody"),
    },
    Control {
        id: "proxy-range",
        severity: Severity::Risk,
        cites: "NIST SP 800-207 section 2.1; RFC 9440 section 4",
        asks: "Trusted proxies are few: at most 256 IPv4 addresses, or one IPv6 subnet.",
        fix: "name a range of /24 (IPv4) or /64 (IPv6) at most",
        held: Held::ByCheck(proxy_range),
    },
    Control {
        id: "upstream-tls",
        severity: Severity::Violation,
        cites: "45 CFR 164.312(e)(1)",
        asks: "The EHR is asked over TLS, or within this machine.",
        fix: "use https in `upstream.urls`, a Unix socket, or loopback",
        held: Held::AtLoad("plain text leaves this machine"),
    },
    Control {
        id: "upstream-authority",
        severity: Severity::Risk,
        cites: "NIST SP 800-207 section 2.1; 45 CFR 164.312(e)(1)",
        asks: "The EHR is known by its own authority or key, not by any of the system's many roots.",
        fix: "add `ca_file` or `pins_sha256` to the upstream",
        held: Held::ByCheck(upstream_authority),
    },
    Control {
        id: "upstream-identity",
        severity: Severity::Risk,
        cites: "45 CFR 164.312(d); NIST SP 800-207 section 2.1",
        asks: "The EHR can tell the gateway from everybody else, so that nobody goes around it.",
        fix: "add a client certificate or `auth` to the upstream, and have the EHR refuse whoever lacks it",
        held: Held::ByCheck(upstream_identity),
    },
    Control {
        id: "upstream-credential-per-exchange",
        severity: Severity::Advice,
        cites: "RFC 9700 section 2.2.1; SMART App Launch 2.2, section \"Backend Services\"",
        asks: "The gateway's own authorization at the EHR runs out soon.",
        fix: "use `auth: {kind: backend-service, …}` in place of a header from a file",
        held: Held::ByCheck(upstream_static_credential),
    },
    Control {
        id: "upstream-spare",
        severity: Severity::Advice,
        cites: "45 CFR 164.308(a)(7)(i)",
        asks: "An endpoint has a second EHR address, unless it is on this machine.",
        fix: "add another URL to `upstream.urls`",
        held: Held::ByCheck(upstream_spare),
    },
    Control {
        id: "consent-server-authority",
        severity: Severity::Risk,
        cites: "42 CFR 2.31; NIST SP 800-207 section 2.1",
        asks: "A consent server is known by its own authority: what it says opens records.",
        fix: "add `ca_file` to `consent`",
        held: Held::ByCheck(consent_server_authority),
    },
];

fn client_revocation(facts: &Facts<'_>) -> Vec<Unmet> {
    let mut found = Vec::new();
    for (index, listener) in facts.config.gateway.listeners.iter().enumerate() {
        if listener.tls.client_ca_file.is_some() && listener.tls.crl_files.is_empty() {
            found.push(unmet(
                format!("listeners[{index}].tls"),
                "no revocation list of the partners' authority is named",
            ));
        }
    }
    let admin = facts.config.gateway.admin.tls.as_ref();
    if admin.is_some_and(|tls| tls.client_ca_file.is_some() && tls.crl_files.is_empty()) {
        found.push(unmet("admin.tls", "no revocation list of the staff's authority is named"));
    }
    found
}

fn fhir_listener_mtls(facts: &Facts<'_>) -> Vec<Unmet> {
    let all_mutual = facts.config.partners.iter().all(|partner| partner.file.mtls == MtlsMode::Required);
    let listeners = facts.config.gateway.listeners.iter().enumerate();
    listeners
        .filter(|(_, listener)| {
            all_mutual && listener.serves == [Serves::Fhir] && listener.tls.client_auth == ClientAuth::Optional
        })
        .map(|(index, _)| {
            unmet(format!("listeners[{index}]"), "every partner has a certificate, and clients without one are let in")
        })
        .collect()
}

fn smart_listener(facts: &Facts<'_>) -> Vec<Unmet> {
    let gateway = &facts.config.gateway;
    let served = gateway.listeners.iter().any(|listener| listener.serves.contains(&Serves::Smart));
    if gateway.smart.mode == SmartMode::Resource || served {
        return Vec::new();
    }
    vec![unmet("listeners", "no listener serves the authorization endpoints, so nobody can get a token through them")]
}

fn smart_listener_open(facts: &Facts<'_>) -> Vec<Unmet> {
    let listeners =
        || facts.config.gateway.listeners.iter().filter(|listener| listener.serves.contains(&Serves::Smart));
    let open = listeners().any(|listener| listener.tls.client_auth == ClientAuth::Optional);
    let needed = facts.config.partners.iter().any(|partner| !partner.file.redirect_uris.is_empty());
    if listeners().next().is_none() || open || !needed {
        return Vec::new();
    }
    vec![unmet("listeners", "every listener that serves `smart` asks for a certificate, which a user's browser lacks")]
}

fn admin_operator(facts: &Facts<'_>) -> Vec<Unmet> {
    let admin = &facts.config.gateway.admin;
    let operator =
        admin.roles.iter().any(|role| role.role == crate::config::Role::Operator && !role.certificates.is_empty());
    if admin.tls.is_none() || operator {
        return Vec::new();
    }
    vec![unmet("admin.roles", "no certificate has the operator's role")]
}

fn proxy_range(facts: &Facts<'_>) -> Vec<Unmet> {
    let wide = |network: &&Network| network.prefix() < if network.is_v4() { 24 } else { 64 };
    let proxies = facts.config.gateway.trusted_proxies.iter().enumerate();
    let ranges =
        proxies.flat_map(|(index, proxy)| proxy.addresses.iter().filter(wide).map(move |network| (index, network)));
    ranges
        .map(|(index, network)| unmet(format!("trusted_proxies[{index}]"), format!("{network} is a wide range")))
        .collect()
}

/// The upstreams that are reached over a network.
fn remote<'a>(facts: &Facts<'a>) -> impl Iterator<Item = (String, &'a crate::config::Upstream)> {
    let gateway: &'a crate::config::Gateway = &facts.config.gateway;
    gateway
        .endpoints
        .iter()
        .map(|endpoint| (format!("endpoints[{}].upstream", endpoint.name), &endpoint.upstream))
        .filter(|(_, upstream)| {
            upstream.unix_socket.is_none() && !upstream.urls.iter().all(|url| is_loopback(url.url()))
        })
}

fn upstream_authority(facts: &Facts<'_>) -> Vec<Unmet> {
    remote(facts)
        .filter(|(_, upstream)| upstream.ca_file.is_none() && upstream.pins_sha256.is_empty())
        .map(|(subject, _)| unmet(subject, "any certificate of the system's roots passes for the EHR"))
        .collect()
}

fn upstream_identity(facts: &Facts<'_>) -> Vec<Unmet> {
    remote(facts)
        .filter(|(_, upstream)| upstream.client_certificate_file.is_none() && upstream.auth == UpstreamAuth::None)
        .map(|(subject, _)| {
            unmet(subject, "the gateway shows neither certificate nor token, so the EHR cannot know it")
        })
        .collect()
}

fn upstream_static_credential(facts: &Facts<'_>) -> Vec<Unmet> {
    remote(facts)
        .filter(|(_, upstream)| matches!(upstream.auth, UpstreamAuth::HeaderFile { .. }))
        .map(|(subject, _)| unmet(subject, "a header from a file is a credential that never runs out by itself"))
        .collect()
}

fn upstream_spare(facts: &Facts<'_>) -> Vec<Unmet> {
    remote(facts)
        .filter(|(_, upstream)| upstream.urls.len() == 1)
        .map(|(subject, _)| unmet(subject, "one EHR address: when it is away, so is the endpoint"))
        .collect()
}

fn consent_server_authority(facts: &Facts<'_>) -> Vec<Unmet> {
    let consent = &facts.config.gateway.consent;
    let remote = consent.url.as_ref().is_some_and(|url| !is_loopback(url.url()));
    if consent.source == ConsentSource::Server && remote && consent.ca_file.is_none() {
        return vec![unmet("consent.ca_file", "any certificate of the system's roots passes for the consent server")];
    }
    Vec::new()
}
