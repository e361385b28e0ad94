use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::LazyLock;

use fhirwall_certs::authority::{Authority, LeafNames, Validity};
use time::macros::datetime;

use super::*;
use crate::config::tests::Site;

const NOW: OffsetDateTime = datetime!(2026-11-22 12:00 UTC);

/// The authority's certificate, a server's, and a revocation list.
static PEMS: LazyLock<[String; 3]> = LazyLock::new(|| {
    let authority = Authority::create("tests", Validity::days(NOW, 3650).unwrap()).unwrap();
    let dns = vec!["gw.example.org".to_owned()];
    let names = LeafNames { common_name: "gateway".to_owned(), dns, uris: vec![], ips: vec![] };
    let issued = authority.issue_server(&names, Validity::days(NOW, 300).unwrap()).unwrap();
    let crl = authority.crl(&[], 1, NOW, 10).unwrap();
    [authority.certificate_pem().to_owned(), issued.certificate_pem, crl]
});

/// The good configuration with every file that it names.
fn complete_site() -> Site {
    let [ca, server, crl] = &*PEMS;
    let site = Site::good();
    std::fs::remove_file(site.path("policies/base.cedar")).unwrap();
    for (name, text) in PolicySet::shipped_files() {
        std::fs::write(site.path("policies").join(name), text).unwrap();
    }
    for dir in ["tls", "keys"] {
        std::fs::create_dir(site.path(dir)).unwrap();
    }
    for file in site.load().unwrap().files().into_iter().filter(|file| !file.exists()) {
        let name = file.display().to_string();
        let content = match name.rsplit_once('.') {
            Some((_, "crl")) => crl,
            Some((_, "pem")) if name.ends_with("-ca.pem") => ca,
            Some((_, "pem")) if name.contains("/tls/") => server,
            _ => "a file of the tests",
        };
        std::fs::write(&file, content).unwrap();
    }
    for dir in ["keys", "tls", "partners/secrets"] {
        for entry in std::fs::read_dir(site.path(dir)).unwrap() {
            chmod(&entry.unwrap().path(), 0o640);
        }
    }
    site
}

/// Loading a policy set takes long; most examples leave the shipped one as it is.
fn findings(config: &Config, now: OffsetDateTime) -> Vec<Finding> {
    static SHIPPED: LazyLock<Result<PolicySet, Vec<PolicyProblem>>> = LazyLock::new(PolicySet::shipped);
    let texts = |(name, text): &(&str, &str)| ((*name).to_owned(), (*text).to_owned());
    let mut shipped: Vec<_> = PolicySet::shipped_files().iter().map(texts).collect();
    shipped.sort();
    if config.policy_files() == shipped {
        return findings_under(config, SHIPPED.as_ref().map_err(Vec::as_slice), now);
    }
    super::findings(config, now)
}

fn chmod(file: &std::path::Path, mode: u32) {
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// How an example breaks a rule.
enum Break {
    Patch(&'static str, &'static str, &'static str),
    Later(OffsetDateTime),
    Open(&'static str, u32),
    Remove(&'static str),
    Write(&'static str, &'static str),
}
use Break::{Later, Open, Patch, Remove, Write};

const GATEWAY: &str = "fhirwall.yaml";
const RECOVERY: &str = "partners/recovery-path.yaml";
const PORTAL: &str = "partners/portal.yaml";

/// For every rule at least one way to break it.
#[rustfmt::skip]
fn examples() -> Vec<(&'static str, Vec<Break>)> {
    vec![
        // network
        ("listener-tls", vec![Patch(GATEWAY, "    tls: {certificate_file: tls/server.pem, key_file: tls/server.key, client_auth: optional, client_ca_file: tls/partners-ca.pem, crl_files: [tls/partners.crl]}\n", "")]),
        ("client-authority", vec![Patch(GATEWAY, "      client_ca_file: tls/partners-ca.pem\n      crl_files: [tls/partners.crl]\n", "")]),
        ("client-revocation", vec![Patch(GATEWAY, "      crl_files: [tls/partners.crl]\n", "")]),
        ("client-revocation", vec![Patch(GATEWAY, ", crl_files: [tls/staff.crl]", "")]),
        ("fhir-listener-mtls", vec![Patch(GATEWAY, "client_auth: required\n", "client_auth: optional\n"), Remove(PORTAL)]),
        ("smart-listener", vec![Patch(GATEWAY, "serves: [fhir, smart]", "serves: [fhir]")]),
        ("smart-listener-open", vec![Patch(GATEWAY, "client_auth: optional", "client_auth: required")]),
        ("admin-mtls", vec![Patch(GATEWAY, "  tls: {certificate_file: tls/server.pem, key_file: tls/server.key, client_auth: required, client_ca_file: tls/staff-ca.pem, crl_files: [tls/staff.crl]}\n", "")]),
        ("admin-operator", vec![Patch(GATEWAY, "role: operator", "role: viewer")]),
        ("proxy-everybody", vec![Patch(GATEWAY, "10.1.2.0/24", "0.0.0.0/0")]),
        ("proxy-range", vec![Patch(GATEWAY, "10.1.2.0/24", "10.0.0.0/8")]),
        ("proxy-range", vec![Patch(GATEWAY, "2001:db8::/64", "2001:db8::/32")]),
        ("upstream-tls", vec![Patch(GATEWAY, "https://ehr-1.internal", "http://ehr-1.internal")]),
        ("upstream-authority", vec![Patch(GATEWAY, "      ca_file: tls/ehr-ca.pem\n      pins_sha256: [\"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\"]\n", "")]),
        ("upstream-identity", vec![Patch(GATEWAY, "      urls: [http://localhost/fhir]\n      unix_socket: /run/ehr.sock\n      auth: {kind: header_file, header: X-Api-Key, file: keys/ehr-header}", "      urls: [https://side.internal/fhir]\n      ca_file: tls/ehr-ca.pem")]),
        ("upstream-credential-per-exchange", vec![Patch(GATEWAY, "      urls: [http://localhost/fhir]\n      unix_socket: /run/ehr.sock", "      urls: [https://side.internal/fhir]\n      ca_file: tls/ehr-ca.pem")]),
        ("upstream-spare", vec![Patch(GATEWAY, "https://ehr-1.internal:9443/fhir, ", ""), Patch(GATEWAY, "endpoints[main].upstream", "elsewhere")]),
        ("consent-server-authority", vec![Patch(GATEWAY, "url: https://consent.example.org/fhir, ca_file: tls/ehr-ca.pem", "url: https://consent.example.org/fhir")]),
        // files
        ("file-missing", vec![Remove("tls/server.key")]),
        ("key-permissions", vec![Open("keys/audit.pem", 0o644)]),
        ("key-permissions", vec![Open("partners/secrets/reporting", 0o604)]),
        ("config-permissions", vec![Open(RECOVERY, 0o666)]),
        ("config-permissions", vec![Open("policies", 0o777)]),
        ("key-in-configuration", vec![Patch(GATEWAY, "keys/audit.pem", "\"-----BEGIN PRIVATE KEY-----\"")]),
        ("secret-in-configuration", vec![Patch(GATEWAY, "${REDIS_URL}", "rediss://u:p@redis.internal")]),
        ("key-one-purpose", vec![Patch(GATEWAY, "audit_signing_file: keys/audit.pem", "audit_signing_file: keys/token.pem")]),
        ("certificate-expired", vec![Later(datetime!(2027-10-01 0:00 UTC))]),
        ("certificate-expiring", vec![Later(datetime!(2027-09-14 0:00 UTC))]),
        ("crl-outdated", vec![Later(datetime!(2026-12-03 0:00 UTC))]),
        // identity
        ("issuer-tls", vec![Patch(GATEWAY, "issuer: https://idp.example.org", "issuer: http://idp.example.org")]),
        ("issuer-algorithms", vec![Patch(GATEWAY, "[RS256, ES384]", "[HS256]")]),
        ("issuer-pkcs1", vec![Patch(GATEWAY, "[RS256, ES384]", "[RS256]")]),
        ("issuer-audience", vec![Patch(GATEWAY, "audience: [https://fhir.example.org/fhir]", "audience: []")]),
        ("issuer-audience-ours", vec![Patch(GATEWAY, "audience: [https://fhir.example.org/fhir]", "audience: [https://fhir.example.org]")]),
        ("issuer-token-type", vec![Patch(GATEWAY, "[at+jwt]", "[at+jwt, JWT]")]),
        ("issuer-stale-keys", vec![Patch(GATEWAY, "jwks_stale_limit: 1h", "jwks_stale_limit: 2d")]),
        ("introspection-cache", vec![Patch(GATEWAY, "cache: 10s", "cache: 1h")]),
        ("broker-token-lifetime", vec![Patch(GATEWAY, "access_token_lifetime: 5m", "access_token_lifetime: 8h")]),
        ("broker-signing-key", vec![Patch(GATEWAY, "  token_signing_files: [keys/token.pem]\n", "")]),
        ("login-monitoring", vec![Patch(GATEWAY, "failures_per_minute: 30", "failures_per_minute: 1000")]),
        ("mass-access-answer", vec![Patch(GATEWAY, "{threshold: 300, window: 1h, answer: step-up}", "{threshold: 300, window: 1h, answer: alert}")]),
        ("step-up-authentication", vec![Patch(GATEWAY, "  step_up_acr_values: [phr]\n", "")]),
        // partners
        ("partner-baa", vec![Patch(RECOVERY, "  baa: {signed: 2026-02-01, expires: 2028-02-01, document: evidence/recovery-baa.pdf}\n", "")]),
        ("partner-baa-expired", vec![Later(datetime!(2028-02-02 0:00 UTC))]),
        ("partner-baa-expiring", vec![Later(datetime!(2028-02-01 23:59 UTC))]),
        ("partner-assessment", vec![Patch(RECOVERY, "  security_assessment: {framework: HITRUST, expires: 2027-06-30, document: evidence/hitrust.pdf}\n", "")]),
        ("partner-assessment-expired", vec![Later(datetime!(2027-07-01 0:00 UTC))]),
        ("partner-assessment-expiring", vec![Later(datetime!(2027-06-30 0:00 UTC))]),
        ("partner-mtls", vec![Patch(RECOVERY, "mtls: required", "mtls: none"), Patch(RECOVERY, "waivers: []", "waivers: [{control: partner-mtls, reason: old app, owner: a@example.org, until: 2026-11-21}]")]),
        ("partner-certificates", vec![Patch(PORTAL, "mtls: none", "mtls: required")]),
        ("partner-certificate-shared", vec![Patch("partners/reporting.yaml", "san_dns: reporting.example.org", "san_dns: GW.recovery.example")]),
        ("partner-certificate-digest", vec![Patch(RECOVERY, "{san_uri: \"spiffe://recovery.example/gateway\"}, {san_dns: gw.recovery.example}, ", "")]),
        ("partner-client-secret", vec![Write("partners/secrets/reporting", "password1")]),
        ("partner-client-keys", vec![Patch(RECOVERY, "jwks_uri: https://recovery.example/jwks.json\n", "")]),
        ("partner-redirect", vec![Patch(RECOVERY, "https://recovery.example/cb", "https://*.recovery.example/cb")]),
        ("partner-redirect-loopback", vec![Patch(RECOVERY, "https://recovery.example/cb", "http://127.0.0.1:9/cb")]),
        ("partner-origin", vec![Patch(RECOVERY, "origins: [https://recovery.example]", "origins: [\"https://*.example\"]")]),
        ("partner-scope-unknown", vec![Patch(RECOVERY, "patient/Condition.rs", "patient/Condition.sr")]),
        ("partner-scope-everything", vec![Patch(RECOVERY, "patient/Condition.rs", "user/*.rs"), Patch(RECOVERY, "[TREAT]", "[TREAT, HOPERAT]")]),
        ("partner-scope-system", vec![Patch(RECOVERY, "patient/Condition.rs", "system/Condition.rs")]),
        ("partner-silent-writes", vec![Patch(RECOVERY, "patient/Condition.rs", "patient/Condition.cruds"), Patch(RECOVERY, "redaction: marked", "redaction: silent")]),
        ("partner-emergency-silent", vec![Patch(RECOVERY, "[TREAT]", "[TREAT, BTG]"), Patch(RECOVERY, "redaction: marked", "redaction: silent")]),
        ("partner-purpose", vec![Patch(RECOVERY, "[TREAT]", "[]")]),
        ("partner-marketing", vec![Patch(RECOVERY, "[TREAT]", "[HMARKT]")]),
        ("partner-part2-basis", vec![Patch(RECOVERY, "basis: consent", "basis: research")]),
        ("partner-part2-basis", vec![Patch(PORTAL, "[PATRQT]", "[PATRQT, TREAT]")]),
        ("partner-part2-agreement", vec![Patch(PORTAL, "basis: patient", "basis: program")]),
        ("partner-part2-recipient", vec![Patch(RECOVERY, "consent_recipients:\n  - reference: Organization/recovery-path\n  - identifier: {system: \"urn:ietf:rfc:3986\", value: \"https://recovery.example\"}\n", "")]),
        ("partner-jurisdiction", vec![Patch(RECOVERY, "jurisdiction: US", "jurisdiction: DE")]),
        ("partner-patients", vec![Patch(RECOVERY, "type: confidential-asymmetric", "type: backend-service"), Patch(RECOVERY, "redirect_uris: [https://recovery.example/cb]\n", ""), Patch(RECOVERY, ", distinct_patients_per_hour: 200", "")]),
        ("partner-limits", vec![Patch(RECOVERY, "distinct_patients_per_hour: 200", "distinct_patients_per_hour: 20000")]),
        ("partner-security-contact", vec![Patch(PORTAL, "contacts: {security: security@portal.example.org}\n", "")]),
        ("partner-issuer", vec![Patch(RECOVERY, "issuers: [https://idp.example.org/realms/hospital]", "issuers: [https://idp.example.org]")]),
        // privacy
        ("policy-set", vec![Remove("policies/ceilings.cedar"), Remove("policies/interactions.cedar"), Remove("policies/part2.cedar"), Remove("policies/partners.cedar"), Remove("policies/records.cedar")]),
        ("policy-valid", vec![Write("policies/own.cedar", "permit (principal, action, resource);")]),
        ("policy-part2", vec![Remove("policies/part2.cedar"), Remove("policies/interactions.cedar")]),
        ("policy-consent", vec![Remove("policies/part2.cedar"), Remove("policies/records.cedar"), Remove("policies/partners.cedar")]),
        ("policy-shadow", vec![Write("policies/own.cedar", "@id(\"trial\") @cites(\"45 CFR 164.502(b)\") @says(\"A trial.\") @reason(\"policy-forbids\") @mode(\"shadow\") forbid (principal, action in Action::\"interact\", resource) when { principal.silent };")]),
        ("labels-meta", vec![Patch(GATEWAY, "[meta, inline, codes]", "[inline, codes]")]),
        ("labels-sources", vec![Patch(GATEWAY, "[meta, inline, codes]", "[meta, codes]")]),
        ("labels-sources", vec![Patch(GATEWAY, "[meta, inline, codes]", "[meta, inline]")]),
        ("labels-map", vec![Patch(GATEWAY, "as: 42CFRPart2", "as: N")]),
        ("labels-map", vec![Patch(GATEWAY, "as: 42CFRPart2", "as: SECRET")]),
        ("consent-unreadable", vec![Patch(GATEWAY, "unreadable: deny", "unreadable: permit")]),
        ("consent-cache-bound", vec![Patch(GATEWAY, "cache: 30s", "cache: 10m")]),
        ("consent-cache", vec![Patch(GATEWAY, "cache: 30s", "cache: 2m")]),
        ("endpoint-recipient", vec![Patch(GATEWAY, "part2: {role: program,", "part2: {role: recipient,")]),
        ("observe-mode", vec![Patch(GATEWAY, "mode: enforce", "mode: observe")]),
        ("partners-some", vec![Remove(RECOVERY), Remove(PORTAL), Remove("partners/reporting.yaml")]),
        // operation
        ("audit-on", vec![Patch(GATEWAY, "  dir: /var/lib/fhirwall/audit\n", "")]),
        ("audit-durable", vec![Patch(GATEWAY, "durability: before-response", "durability: sometimes")]),
        ("audit-place", vec![Patch(GATEWAY, "dir: /var/lib/fhirwall/audit", "dir: /tmp/audit")]),
        ("audit-retention", vec![Patch(GATEWAY, "retention: 2192d", "retention: 365d")]),
        ("audit-copy", vec![Patch(GATEWAY, "    - {kind: fhir, url: https://arr.example.org/fhir, ca_file: tls/ehr-ca.pem, client_certificate_file: tls/gateway.pem, client_key_file: tls/gateway.key}\n", ""), Patch(GATEWAY, "    - {kind: otlp, url: https://otel.example.org:4318, authorization_file: keys/otel, acknowledged: true}\n", "")]),
        ("audit-volatile", vec![Patch(GATEWAY, "dir: /var/lib/fhirwall/audit", "dir: /dev/shm/audit"), Patch(GATEWAY, "acknowledged: true", "acknowledged: false")]),
        ("audit-reserve", vec![Patch(GATEWAY, "reserve: 64MiB", "reserve: 1KiB")]),
        ("limits-bounded", vec![Patch(GATEWAY, "requests_per_second: 20,", "requests_per_second: 0,")]),
        ("limits-response", vec![Patch(GATEWAY, "response_bytes: 16MiB", "response_bytes: 256MiB")]),
        ("limits-response", vec![Patch(GATEWAY, "inflight_bytes: 512MiB", "inflight_bytes: 64MiB")]),
        ("limits-slow", vec![Patch(GATEWAY, "header_timeout: 10s", "header_timeout: 5m")]),
        ("limits-patients", vec![Patch(GATEWAY, "user: {requests_per_second: 20, concurrent_requests: 16, distinct_patients_per_hour: 200}", "user: {distinct_patients_per_hour: 5000}")]),
        ("drain", vec![Patch(GATEWAY, "drain: 30s", "drain: 10s")]),
        ("state-tls", vec![Patch(GATEWAY, "${REDIS_URL}", "${REDIS_URL_PLAIN}")]),
        ("state-password", vec![Patch(GATEWAY, "${REDIS_URL}", "${REDIS_URL_OPEN}")]),
        ("log-level", vec![Patch(GATEWAY, "log_level: info", "log_level: debug")]),
        ("public-base", vec![Patch(GATEWAY, "base_url: https://fhir.example.org/side", "base_url: http://127.0.0.1:8443/side")]),
        ("waiver-expired", vec![Patch(GATEWAY, "until: 2027-03-31", "until: 2026-11-21")]),
        ("waiver-expiring", vec![Patch(GATEWAY, "until: 2027-03-31", "until: 2026-12-21")]),
        ("waiver-known", vec![Patch(GATEWAY, "control: upstream-spare", "control: upstream-spear")]),
        ("waiver-length", vec![Patch(GATEWAY, "until: 2027-03-31", "until: 2028-03-31")]),
    ]
}

fn spoil(site: &Site, breaks: &[Break]) -> OffsetDateTime {
    let mut now = NOW;
    for one in breaks {
        match one {
            Patch(file, old, new) => site.patch(file, old, new),
            Later(time) => now = *time,
            Open(file, mode) => chmod(&site.path(file), *mode),
            Remove(file) => std::fs::remove_file(site.path(file)).unwrap(),
            Write(file, text) => std::fs::write(site.path(file), text).unwrap(),
        }
    }
    now
}

#[test]
fn a_good_configuration_meets_every_rule() {
    let site = complete_site();
    let found: Vec<_> = findings(&site.load().unwrap(), NOW).iter().map(ToString::to_string).collect();
    assert_eq!(found, [""; 0]);
}

#[test]
fn every_rule_finds_what_breaks_it() {
    for (id, breaks) in examples() {
        let control = controls().find(|control| control.id == id).unwrap_or_else(|| panic!("no control {id}"));
        let site = complete_site();
        let now = spoil(&site, &breaks);
        match (control.held, site.load()) {
            (Held::AtLoad(words), Err(problems)) => {
                assert!(problems.to_string().contains(words), "{id}: {problems}");
            }
            (Held::ByCheck(_), Ok(config)) => {
                let findings = findings(&config, now);
                let finding = findings.iter().find(|finding| finding.control.id == id);
                let finding = finding.unwrap_or_else(|| panic!("{id} is not found, but {findings:#?}"));
                assert!(finding.waiver.is_none(), "{id} is waived");
            }
            (Held::ByScan, _) => panic!("{id}: the tests of `scan` show it"),
            (Held::AtLoad(_), Ok(_)) => panic!("{id}: it loads"),
            (Held::ByCheck(_), Err(problems)) => panic!("{id}: it does not load: {problems}"),
        }
    }
}

#[test]
fn every_rule_has_an_id_of_its_own_a_source_and_an_example() {
    let ids: Vec<_> = controls().map(|control| control.id).collect();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len());
    assert!(ids.len() >= 60, "{}", ids.len());
    let shown: BTreeSet<_> = examples().into_iter().map(|(id, _)| id).chain(crate::scan::tests::SHOWN).collect();
    assert_eq!(ids.iter().filter(|id| !shown.contains(**id)).collect::<Vec<_>>(), [&""; 0]);
    assert!(
        controls().all(|control| !control.cites.is_empty() && !control.fix.is_empty() && control.asks.ends_with('.'))
    );
}

#[test]
fn a_waiver_covers_its_subject_until_its_last_day_and_is_shown() {
    let site = complete_site();
    site.patch(GATEWAY, "https://ehr-1.internal:9443/fhir, ", "");
    let on =
        |now| findings(&site.load().unwrap(), now).into_iter().find(|one| one.control.id == "upstream-spare").unwrap();
    let waived = on(NOW);
    assert!(
        !waived.counts()
            && waived.to_string().contains("waived until 2027-03-31 by platform@example.org: moved in March")
    );
    assert!(on(datetime!(2027-03-31 23:59 UTC)).waiver.is_some());
    assert!(on(datetime!(2027-04-01 0:00 UTC)).waiver.is_none());
    site.patch(GATEWAY, "endpoints[main].upstream", "endpoints[side].upstream");
    assert!(on(NOW).waiver.is_none());
}

#[test]
fn a_partners_own_waiver_covers_that_partner_alone() {
    let site = complete_site();
    for file in [RECOVERY, PORTAL] {
        let text = std::fs::read_to_string(site.path(file)).unwrap();
        let without: String =
            text.lines().filter(|line| !line.starts_with("contacts")).map(|line| format!("{line}\n")).collect();
        std::fs::write(site.path(file), without).unwrap();
    }
    site.patch(
        RECOVERY,
        "waivers: []",
        "waivers: [{control: partner-security-contact, reason: moving, owner: a@example.org, until: 2026-12-31}]",
    );
    let findings = findings(&site.load().unwrap(), NOW);
    let of = |subject: &str| findings.iter().find(|one| one.subject == subject).unwrap().waiver.is_some();
    assert!(of("partner recovery-path"));
    assert!(!of("partner portal"));
}

#[test]
fn the_catalogue_page_is_as_the_code_says() {
    let page = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/controls.md");
    assert_eq!(
        std::fs::read_to_string(page).unwrap(),
        markdown(),
        "run `fhirwall check --catalogue > docs/controls.md`"
    );
}

/// A paper or certificate that runs out stops its own partner or listener, never every patient's record at the next restart.
#[test]
fn time_alone_never_forbids_a_start() {
    let site = complete_site();
    let config = site.load().unwrap();
    for years in [1, 2, 5, 20] {
        let later = NOW + time::Duration::days(365 * years);
        let found = findings(&config, later);
        assert!(found.len() > 1);
        assert_eq!(start_forbidden_by(&found), None);
    }
}

#[test]
fn treatment_and_the_patients_own_access_may_have_every_type() {
    let site = complete_site();
    site.patch(RECOVERY, "patient/Condition.rs", "user/*.rs");
    assert!(findings(&site.load().unwrap(), NOW).is_empty());
}

#[test]
fn violations_alone_forbid_a_start_and_a_waiver_lifts_that() {
    let site = complete_site();
    let forbidden = || start_forbidden_by(&findings(&site.load().unwrap(), NOW));
    assert_eq!(forbidden(), None);
    site.patch(GATEWAY, "mode: enforce", "mode: observe");
    assert_eq!(forbidden(), None, "a risk is for somebody to decide on");
    site.patch(RECOVERY, "[TREAT]", "[HMARKT]");
    assert!(forbidden().unwrap().contains("partner-marketing: partner recovery-path"));
    site.patch(
        RECOVERY,
        "waivers: []",
        "waivers: [{control: partner-marketing, reason: checked by hand, owner: a@example.org, until: 2026-12-31}]",
    );
    assert_eq!(forbidden(), None);
}
