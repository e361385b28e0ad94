use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value as Json;

use super::node::{Node, Value};
use super::*;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config/fixtures").join(name)
}

pub(crate) fn env(name: &str) -> Option<String> {
    let url = match name {
        "REDIS_URL" | "REDIS_URL_2" => "rediss://user:s3cret@redis.internal",
        "REDIS_URL_OPEN" => "rediss://redis.internal",
        "REDIS_URL_HERE" => "redis://127.0.0.1:6379/0",
        "REDIS_URL_HERE_6" => "redis://[::1]:6379/0",
        "REDIS_URL_NAMED_SO" => "redis://127.0.0.1.evil.example:6379/0",
        "REDIS_URL_PLAIN" => "redis://user:s3cret@redis.internal",
        _ => return None,
    };
    Some(url.to_owned())
}

/// A copy of the good fixture that a test may spoil.
pub(crate) struct Site(tempfile::TempDir);

impl Site {
    pub(crate) fn good() -> Self {
        let dir = tempfile::tempdir().unwrap();
        copy(&fixture("good"), dir.path());
        Self(dir)
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.0.path().join(file)
    }

    #[track_caller]
    pub(crate) fn patch(&self, file: &str, old: &str, new: &str) {
        let text = std::fs::read_to_string(self.path(file)).unwrap();
        assert!(text.contains(old), "{file} has no {old}");
        std::fs::write(self.path(file), text.replacen(old, new, 1)).unwrap();
    }

    pub(crate) fn load(&self) -> Result<Config, Problems> {
        Config::load(&self.path("fhirwall.yaml"), &env)
    }
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir(&target).unwrap();
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

pub(crate) fn good() -> Config {
    match Config::load(&fixture("good/fhirwall.yaml"), &env) {
        Ok(config) => config,
        Err(problems) => panic!("{problems}"),
    }
}

/// What the gateway's file `text` is refused for, the directory left out.
fn problems_of(text: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fhirwall.yaml");
    std::fs::write(&path, text).unwrap();
    let (_, problems) = read_document::<Gateway>(&path, &env);
    told(Problems::none_in(problems), dir.path())
}

fn partner_problems_of(text: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("partner.yaml");
    std::fs::write(&path, text).unwrap();
    told(load_partner(&path, &env).map(drop), dir.path())
}

fn told(result: Result<(), Problems>, dir: &Path) -> String {
    match result {
        Ok(()) => "no problem".to_owned(),
        Err(problems) => problems.to_string().replace(&format!("{}/", dir.display()), ""),
    }
}

#[test]
fn code_lists_are_read_with_the_configuration_and_their_mistakes_told_with_its_own() {
    let site = Site::good();
    let config = site.load().unwrap();
    let names = |lists: &[CodeListFile]| lists.iter().map(|list| list.version.clone()).collect::<Vec<_>>();
    assert_eq!(
        (names(&config.code_lists), names(&config.shadow_lists)),
        (vec!["2026-10".into()], vec!["2026-12".into()])
    );
    assert!(config.files().contains(&site.path("lists/site-hiv.yaml")), "a changed list is a changed configuration");
    for (old, new, problem) in [
        ("labels: [HIV]", "labels: [HVI]", "`HVI` is no security label"),
        ("labels: [HIV]", "labels: [MASK]", "`MASK` is no security label"),
        ("labels: [HIV]", "labels: []", "gives no label"),
        ("codes: [B20, Z21]", "codes: []", "no code here"),
        ("2099-12-31", "2001-01-01", "ends before it begins"),
        ("version:", "versoin:", "did you mean `version`"),
    ] {
        let site = Site::good();
        site.patch("lists/site-hiv.yaml", old, new);
        let problems = site.load().unwrap_err().to_string();
        assert!(problems.contains(problem), "{new}: {problems}");
    }
    let site = Site::good();
    std::fs::remove_file(site.path("lists/site-hiv.yaml")).unwrap();
    assert!(site.load().unwrap_err().to_string().contains("site-hiv.yaml"));
}

#[test]
fn a_program_is_named_by_an_entry_of_the_directory() {
    for (reference, good) in [
        ("Organization/harbor-house", true),
        ("PractitionerRole/counsellor", true),
        ("Patient/amara-osei", false),
        ("harbor-house", false),
        ("https://elsewhere.example/fhir/Organization/harbor-house", false),
        ("Organization/harbor-house/_history/2", false),
    ] {
        let site = Site::good();
        site.patch("fhirwall.yaml", "Organization/harbor-house", reference);
        match site.load() {
            Ok(_) => assert!(good, "{reference}"),
            Err(problems) => assert!(!good && problems.to_string().contains("programs.references"), "{problems}"),
        }
    }
}

#[test]
fn ten_mistakes_are_told_at_once_each_with_line_and_fix() {
    let path = fixture("ten/fhirwall.yaml");
    let problems = Config::load(&path, &env).unwrap_err();
    assert!(problems.len() >= 10);
    assert!(problems.iter().all(|problem| problem.line.is_some() && !problem.fix.is_empty()));
    let text = problems.to_string().replace(&format!("{}/", path.parent().unwrap().display()), "");
    assert!(!text.contains("hunter2"), "a secret was printed");
    insta::assert_snapshot!(text, @r"
    fhirwall.yaml:1: audit: this key is required
        fix: add `audit: {dir: …}`
    fhirwall.yaml:4: listeners[0].address: `0.0.0.0` is no address with a port
        fix: write an IP address and a port, as `0.0.0.0:8443` or `[::]:8443`
    fhirwall.yaml:9: listeners[0].tls.client_auht: unknown key `client_auht`
        fix: did you mean `client_auth`?
    fhirwall.yaml:12: admin.tls: the admin address is off loopback and has no TLS (45 CFR 164.312(a)(1))
        fix: bind 127.0.0.1, or add `tls` with `client_auth: required`
    fhirwall.yaml:16: keys.audit_signing_file: this is key or certificate text, where a path belongs
        fix: write it to a file and name the file here
    fhirwall.yaml:22: endpoints[0].upstream.urls[0]: plain text leaves this machine (45 CFR 164.312(e)(1))
        fix: use https; http is accepted to loopback only, as `http://127.0.0.1:8080/fhir`
    fhirwall.yaml:23: endpoints[0].upstream.timeout: a duration needs its unit
        fix: write a number and its unit: ms, s, m, h or d, as `30s`
    fhirwall.yaml:26: issuers[0].algorithms[1]: unknown value `HS256`
        fix: did you mean `RS256`? Known: RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA
    fhirwall.yaml:30: labels.sources[1]: unknown value `inlin`
        fix: did you mean `inline`? Known: meta, inline, codes
    fhirwall.yaml:32: limits.response_bytes: `16MB` is no size
        fix: write a number and its unit: B, KiB, MiB or GiB, as `16MiB`
    fhirwall.yaml:33: limits.connections: 0 is out of range
        fix: write a number from 1 to 4294967295; no number means without limit
    fhirwall.yaml:35: mode: this key is written twice
        fix: keep one of the two
    fhirwall.yaml:37: state.redis_url: a secret stands in the file
        fix: write `${NAME}` and set NAME in the environment, or use the `_file` form of this key
    13 problems
    ");
}

#[test]
fn the_whole_format_loads() {
    let config = good();
    assert_eq!(config.gateway.listeners.len(), 2);
    assert_eq!(config.gateway.listeners[0].tls.key_file.0, fixture("good/tls/server.key"));
    assert_eq!(config.gateway.endpoints[0].base_path(), "/fhir");
    assert_eq!(config.gateway.limits.response_bytes, ByteSize::mib(16));
    assert_eq!(config.gateway.state.redis_url.as_ref().unwrap().reveal(), "rediss://user:s3cret@redis.internal");
    assert_eq!(config.partners.len(), 3);
    let partner = &config.partners.get("recovery-path").unwrap().partner;
    assert_eq!(partner.baa_expires.unwrap().to_string(), "2028-02-02 0:00:00.0 +00:00:00");
    assert!(config.partners.get("recovery").is_none());
    assert_eq!(config.policies.iter().map(|policy| policy.name.as_str()).collect::<Vec<_>>(), ["base.cedar"]);
}

#[test]
fn secrets_are_neither_shown_nor_printed() {
    let config = good();
    let shown = config.gateway.shown().to_string() + &format!("{config:?}");
    assert!(!shown.contains("s3cret"));
    assert!(!problems_of(&good_with("cache: 30s", "cache: \"${REDIS_URL}\"")).contains("s3cret"));
    let orders = &config.partners.get("reporting").unwrap().file;
    assert_eq!(orders.court_orders[0].expires, time::macros::datetime!(2027-02-01 00:00 UTC));
    assert!(!orders.shown().to_string().contains("p-1") && orders.shown().to_string().contains("2027-01-31"));
    assert!(shown.contains("(secret)") && shown.contains("Secret(..)"));
}

/// The key paths of a shape, list items as the list itself.
fn paths_of_shape(shape: &Shape, path: &str, out: &mut BTreeSet<String>) {
    match shape {
        Shape::Section(section) => {
            for key in &section.keys {
                let path = format!("{path}.{}", key.name);
                paths_of_shape(&key.shape, &path, out);
                out.insert(path);
            }
        }
        Shape::List(of) => paths_of_shape(of, path, out),
        Shape::Text(_) | Shape::Bool | Shape::Integer { .. } | Shape::Words(_) => {}
    }
}

fn paths_of_schema(schema: &Json, path: &str, out: &mut BTreeSet<String>) {
    for (key, below) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{key}");
        paths_of_schema(below, &path, out);
        out.insert(path);
    }
    if schema["items"].is_object() {
        paths_of_schema(&schema["items"], path, out);
    }
}

fn paths_of_document(node: &Node, path: &str, out: &mut BTreeSet<String>) {
    match &node.value {
        Value::Map(entries) => {
            for entry in entries {
                let path = format!("{path}.{}", entry.key);
                paths_of_document(&entry.node, &path, out);
                out.insert(path);
            }
        }
        Value::List(items) => items.iter().for_each(|item| paths_of_document(item, path, out)),
        Value::Null | Value::Bool(_) | Value::Integer(_) | Value::Float | Value::Text(_) => {}
    }
}

#[track_caller]
fn parser_schema_and_fixture_agree(shape: &Shape, files: &[&str]) {
    let (mut parsed, mut described, mut written) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    paths_of_shape(shape, "", &mut parsed);
    paths_of_schema(&shape.json_schema(), "", &mut described);
    for file in files {
        let tree = node::parse(&std::fs::read_to_string(fixture(file)).unwrap()).unwrap();
        paths_of_document(&tree, "", &mut written);
    }
    assert_eq!(parsed, described);
    // The fixture loads (another test), so each of its keys is one that the parser takes.
    assert_eq!(parsed.difference(&written).filter(|path| !path.contains("waivers")).collect::<Vec<_>>(), [""; 0]);
    assert_eq!(written.difference(&parsed).collect::<Vec<_>>(), [""; 0]);
}

#[test]
fn every_key_of_the_parser_is_in_the_schema_and_the_other_way_round() {
    parser_schema_and_fixture_agree(&Gateway::shape(), &["good/fhirwall.yaml"]);
    parser_schema_and_fixture_agree(
        &PartnerFile::shape(),
        &["good/partners/recovery-path.yaml", "good/partners/portal.yaml", "good/partners/reporting.yaml"],
    );
}

/// The good file with one line's text replaced.
fn good_with(old: &str, new: &str) -> String {
    let text = std::fs::read_to_string(fixture("good/fhirwall.yaml")).unwrap();
    assert!(text.contains(old), "the fixture has no {old}");
    text.replacen(old, new, 1)
}

fn partner_with(old: &str, new: &str) -> String {
    let text = std::fs::read_to_string(fixture("good/partners/recovery-path.yaml")).unwrap();
    assert!(text.contains(old), "the fixture has no {old}");
    text.replacen(old, new, 1)
}

#[test]
fn a_configuration_that_drops_a_protection_is_refused_at_its_key() {
    for (old, new, key, what) in [
        (
            "urls: [http://localhost/fhir]\n      unix_socket: /run/ehr.sock",
            "urls: [http://10.0.0.1/fhir]",
            "urls[0]",
            "plain text leaves this machine",
        ),
        (
            "client_ca_file: tls/partners-ca.pem\n      crl",
            "crl",
            "listeners[0].tls.client_ca_file",
            "no authority is named",
        ),
        (
            "client_auth: required, client_ca_file: tls/staff-ca.pem",
            "client_auth: optional, client_ca_file: x",
            "admin.tls",
            "open to clients without a certificate",
        ),
        (
            "  tls: {certificate_file: tls/server.pem, key_file: tls/server.key, client_auth: required, client_ca_file: tls/staff-ca.pem, crl_files: [tls/staff.crl]}\n",
            "",
            "admin.roles",
            "no role is ever held",
        ),
        (
            ", certificates: [{san_dns: proxy.example.org}",
            ", certificates: []}\n#",
            "client_cert",
            "any partner's certificate",
        ),
        ("inflight_bytes: 512MiB", "inflight_bytes: 31MiB", "limits.inflight_bytes", "never hold one answer"),
        ("seal_files: [keys/seal-2.key, keys/seal-1.key]", "seal_files: []", "keys.seal_files", "no paging link"),
        ("sources: [meta, inline, codes]", "sources: [codes]", "labels.sources", "without `meta`"),
        ("cache: 30s", "cache: 1h", "consent.cache", "revoked consent"),
        ("unreadable: deny", "unreadable: permit", "consent.unreadable", "unknown value `permit`"),
        ("durability: before-response", "durability: later", "audit.durability", "unknown value `later`"),
        ("  dir: /var/lib/fhirwall/audit\n", "", "audit.dir", "required"),
        ("policies: {dir: policies, proof: optional}\n", "", "policies", "required"),
        ("partners: {dir: partners}\n", "", "partners", "required"),
        ("algorithms: [RS256, ES384]", "algorithms: [none]", "algorithms[0]", "unknown value `none`"),
        ("algorithms: [RS256, ES384]", "algorithms: []", "issuers[0].algorithms", "no algorithm is accepted"),
        ("audience: [https://fhir.example.org/fhir]", "audience: []", "issuers[0].audience", "no audience"),
        ("addresses: [10.1.2.0/24, \"2001:db8::/64\"]", "addresses: [0.0.0.0/0]", "addresses", "trusts everybody"),
        ("x_forwarded_for: true", "x_forwarded_for: yes", "x_forwarded_for", "expected true or false"),
        ("connections: 10000", "connections: 0", "limits.connections", "out of range"),
        ("inflight_bytes: 512MiB", "inflight_bytes: 1MiB", "limits.inflight_bytes", "never hold one answer"),
        ("timeout: 10s", "timeout: 0s", "upstream.timeout", "is no duration"),
        (
            "base_url: https://fhir.example.org/side",
            "base_url: https://fhir.example.org/fhir/side",
            "endpoints[1].base_url",
            "within the base",
        ),
        ("  - name: side", "  - name: main", "endpoints[1]", "there already"),
        ("token_signing_files: [keys/token.pem]\n", "\n", "keys", "signs tokens"),
        ("${REDIS_URL}", "rediss://u:p@h", "state.redis_url", "a secret stands in the file"),
        ("${REDIS_URL}", "${NO_SUCH}", "state.redis_url", "no variable `NO_SUCH`"),
        ("${REDIS_URL}", "${REDIS_URL_PLAIN}", "state.redis_url", "nor `redis://` to loopback"),
        ("${REDIS_URL}", "${REDIS_URL_NAMED_SO}", "state.redis_url", "nor `redis://` to loopback"),
    ] {
        let told = problems_of(&good_with(old, new));
        assert!(told.contains(key) && told.contains(what), "{new}: {told}");
    }
    assert_eq!(problems_of(&good_with("mode: enforce", "mode: observe")), "no problem");
    for here in ["${REDIS_URL_HERE}", "${REDIS_URL_HERE_6}"] {
        assert_eq!(problems_of(&good_with("${REDIS_URL}", here)), "no problem", "{here}");
    }
    assert_eq!(
        problems_of(&good_with(
            "0.0.0.0:9901\n  tls: {certificate_file: tls/server.pem, key_file: tls/server.key, client_auth: required, client_ca_file: tls/staff-ca.pem, crl_files: [tls/staff.crl]}\n  roles:\n    - role: operator\n      certificates: [{san_dns: operator.example.org}, {san_uri: \"spiffe://example.org/operator\"}, {sha256: \"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\"}]\n",
            "127.0.0.1:9901\n"
        )),
        "no problem"
    );
}

#[test]
fn a_partner_that_could_do_harm_or_nothing_is_refused_at_its_key() {
    for (old, new, key, what) in [
        (
            "redirect_uris: [https://recovery.example/cb]",
            "redirect_uris: [\"https://*.example/cb\"]",
            "redirect_uris[0]",
            "wildcard",
        ),
        (
            "redirect_uris: [https://recovery.example/cb]",
            "redirect_uris: [http://recovery.example/cb]",
            "redirect_uris[0]",
            "plain text",
        ),
        (
            "redirect_uris: [https://recovery.example/cb]",
            "redirect_uris: [\"javascript:alert(1)\"]",
            "redirect_uris[0]",
            "no scheme",
        ),
        ("origins: [https://recovery.example]", "origins: [\"*\"]", "origins[0]", "no URL"),
        (
            "origins: [https://recovery.example]",
            "origins: [https://recovery.example/app]",
            "origins[0]",
            "scheme, host and port",
        ),
        ("mtls: required", "mtls: none", "mtls", "stolen token"),
        (
            "san_uri: \"spiffe://recovery.example/gateway\"",
            "san_uri: \"spiffe://r/g\", san_dns: r.example",
            "certificates[0]",
            "exactly one",
        ),
        ("san_dns: gw.recovery.example", "san_dns: \"*.example\"", "certificates[1]", "wildcard"),
        ("purposes_of_use: [TREAT]", "purposes_of_use: [TREATMENT]", "purposes_of_use[0]", "unknown value"),
        ("jwks_uri: https://recovery.example/jwks.json\n", "", "jwks_uri", "signs with its own key"),
        (
            "scopes: [\"patient/Observation.rs?category=laboratory\", \"patient/Condition.rs\"]\n",
            "",
            "scopes",
            "required",
        ),
        ("expires: 2028-02-01", "expires: 2026-01-01", "evidence.baa.expires", "ends before it begins"),
        ("expires: 2028-02-01", "expires: 2028-02-31", "evidence.baa.expires", "is no date"),
        (
            "  - reference: Organization/recovery-path\n  - identifier: {system: \"urn:ietf:rfc:3986\", value: \"https://recovery.example\"}",
            "  []",
            "consent_recipients",
            "no Consent could name",
        ),
        ("basis: consent", "basis: consnet", "part2.basis", "did you mean `consent`"),
        ("status: active", "stauts: suspended", "stauts", "did you mean `status`"),
    ] {
        let told = partner_problems_of(&partner_with(old, new));
        assert!(told.contains(key) && told.contains(what), "{new}: {told}");
    }
    assert_eq!(partner_problems_of(&partner_with("status: active", "status: suspended")), "no problem");
    assert_eq!(partner_problems_of(&partner_with("dpop: optional", "dpop: required")), "no problem");
}

#[test]
fn one_client_id_in_two_files_and_an_overlooked_file_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(fixture("good/partners/portal.yaml")).unwrap();
    for name in ["a.yaml", "b.yaml", "c.yml", ".hidden.yaml"] {
        std::fs::write(dir.path().join(name), &text).unwrap();
    }
    let mut problems = Vec::new();
    let partners = identity::read_partners(dir.path(), &env, &mut problems);
    assert_eq!(partners.len(), 1);
    let told = told(Problems::none_in(problems), dir.path());
    assert!(told.contains("b.yaml: client_id `portal` is registered by"), "{told}");
    assert!(told.contains("c.yml: partner files end in .yaml"), "{told}");
}

#[test]
fn no_policy_and_no_directory_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut problems = Vec::new();
    read_policies(dir.path(), &mut problems);
    read_policies(&dir.path().join("absent"), &mut problems);
    identity::read_partners(&dir.path().join("absent"), &env, &mut problems);
    assert_eq!(problems.len(), 3);
    std::fs::write(dir.path().join("a.cedar"), "").unwrap();
    let mut problems = Vec::new();
    assert_eq!(read_policies(dir.path(), &mut problems).len(), 1);
    assert!(problems.is_empty());
}

#[test]
fn what_is_shown_reads_back_the_same() {
    let config = good();
    // The patients of court orders are not shown, so such a file does not read back.
    for partner in config.partners.iter().filter(|partner| partner.file.court_orders.is_empty()) {
        let text = serde_json::to_string_pretty(&partner.file.shown()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("partner.yaml");
        std::fs::write(&path, text).unwrap();
        assert_eq!(load_partner(&path, &env).map_err(|problems| problems.to_string()), Ok(partner.file.clone()));
    }
}

#[test]
fn partners_stand_ready_for_identification() {
    use crate::identify::partners::{ClientKeys, Mtls, Partners as _};
    let config = good();
    let entry = config.partners.by_client_id("recovery-path").unwrap();
    assert!(matches!((&entry.mtls, &entry.keys), (Mtls::Required, ClientKeys::ByUrl(_))));
    assert_eq!(entry.certificates.len(), 3);
    let portal = config.partners.by_client_id("portal").unwrap();
    assert_eq!(portal.mtls, Mtls::None { unbound_tokens_until: None });
    let reporting = config.partners.by_client_id("reporting").unwrap();
    assert!(matches!(&reporting.keys, ClientKeys::ByValue(keys) if keys.len() == 1));
    assert!(reporting.secret.as_ref().unwrap().is("no-secret-but-a-fixture-of-the-tests"));
    assert!(config.partners.by_client_id("Recovery-Path").is_none());
    assert!(config.partners.origin_registered("https://recovery.example"));
    assert!(!config.partners.origin_registered("https://recovery.example.evil.example"));
}

#[test]
fn a_waiver_opens_unbound_tokens_until_its_last_day_has_ended() {
    let text = partner_with("mtls: required", "mtls: none").replace(
        "waivers: []",
        "waivers: [{control: partner-mtls, reason: legacy app, owner: ciso@example.org, until: 2026-12-31}]",
    );
    assert_eq!(partner_problems_of(&text), "no problem");
    let other = text.replace("partner-mtls", "partner-baa");
    assert!(partner_problems_of(&other).contains("stolen token"));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("partner.yaml");
    std::fs::write(&path, text).unwrap();
    let until = load_partner(&path, &env).unwrap().unbound_tokens_until().unwrap();
    assert_eq!(until, time::macros::datetime!(2027-01-01 00:00 UTC));
}

#[test]
fn short_secrets_and_private_keys_of_partners_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let yaml = std::fs::read_to_string(fixture("good/partners/reporting.yaml")).unwrap();
    let jwks = std::fs::read_to_string(fixture("good/partners/reporting.jwks")).unwrap();
    std::fs::write(dir.path().join("reporting.yaml"), yaml).unwrap();
    std::fs::create_dir(dir.path().join("secrets")).unwrap();
    let told = |secret: &str, jwks: &str| {
        std::fs::write(dir.path().join("secrets/reporting"), secret).unwrap();
        std::fs::write(dir.path().join("reporting.jwks"), jwks).unwrap();
        let mut problems = Vec::new();
        identity::read_partners(dir.path(), &env, &mut problems);
        told(Problems::none_in(problems), dir.path())
    };
    assert_eq!(told("0123456789abcdef0123456789\n", &jwks), "no problem");
    assert!(told("hunter2", &jwks).contains("too short"));
    assert!(told("0123456789abcdef0123456789", r#"{"keys": []}"#).contains("no JSON Web Key Set"));
    assert!(
        told("0123456789abcdef0123456789", &jwks.replace("\"x\"", "\"d\": \"AA\", \"x\""))
            .contains("private or shared key")
    );
}

#[test]
fn issuers_take_the_endpoints_as_audience_when_none_is_written() {
    let text =
        good_with("    audience: [https://fhir.example.org/fhir]\n", "").replace("    ca_file: tls/idp-ca.pem\n", "");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fhirwall.yaml");
    std::fs::write(&path, &text).unwrap();
    std::fs::create_dir(dir.path().join("keys")).unwrap();
    let (gateway, problems) = read_document::<Gateway>(&path, &env);
    assert_eq!(problems, []);
    let gateway = gateway.unwrap();
    assert!(gateway.issuer_configs().unwrap_err().to_string().contains("keys/introspection: cannot be read"));
    std::fs::write(dir.path().join("keys/introspection"), "of the tests\n").unwrap();
    let issuers = gateway.issuer_configs().unwrap();
    assert_eq!(issuers[0].audience, ["https://fhir.example.org/fhir", "https://fhir.example.org/side"]);
    assert_eq!(issuers[0].introspection.as_ref().unwrap().client_secret, "of the tests");
}

#[test]
fn every_file_that_is_read_is_known_and_no_place_that_is_written() {
    let files = good().files();
    for file in [
        "fhirwall.yaml",
        "partners",
        "policies",
        "tls/server.key",
        "tls/partners.crl",
        "keys/backend.pem",
        "partners/reporting.jwks",
    ] {
        assert!(files.contains(&fixture("good").join(file)), "{file}");
    }
    assert!(!files.iter().any(|file| file.starts_with("/var") || file.starts_with("/run")));
    assert!(!files.iter().any(|file| file.to_string_lossy().contains("evidence")));
}

#[test]
fn the_reference_page_is_as_the_parser_says() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
    let written = std::fs::read_to_string(page).unwrap();
    assert_eq!(written, reference(), "run `fhirwall config reference > docs/configuration.md`");
}
