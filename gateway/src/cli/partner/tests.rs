use fhirwall_certs::authority::{Authority, LeafNames, Validity};
use fhirwall_policy::partner::{Redaction, Status};
use time::macros::datetime;

use super::*;
use crate::config::MtlsMode;
use crate::config::tests::Site;
use crate::identify::partners::CertificateMatch;

/// The good site, without what takes a variable of the environment.
fn site() -> Site {
    let site = Site::good();
    site.patch("fhirwall.yaml", "redis_url: \"${REDIS_URL}\", ca_file: tls/redis-ca.pem, ", "");
    site
}

fn partner(site: &Site, line: &str) -> ExitCode {
    #[derive(clap::Parser)]
    struct Command {
        #[command(flatten)]
        args: Args,
    }
    let config = site.path("fhirwall.yaml");
    let words = std::iter::once("partner").chain(line.split(' ')).map(str::to_owned);
    let words = words.chain(["--config".to_owned(), config.display().to_string()]);
    run_at(<Command as clap::Parser>::try_parse_from(words).unwrap().args, NOW)
}

fn is(code: ExitCode, expected: u8) -> bool {
    format!("{code:?}") == format!("{:?}", ExitCode::from(expected))
}

const NEW: &str = "new --client-id clinic --name Clinic --type confidential-asymmetric --jwks-uri https://clinic.example/jwks --redirect-uri https://clinic.example/cb --scope patient/Condition.rs --purpose TREAT --baa-signed 2026-01-01 --baa-expires 2030-01-01 --security-contact security@clinic.example";

#[test]
fn a_new_partner_is_a_good_file_and_marked_when_it_treats() {
    let site = site();
    assert!(is(partner(&site, &format!("{NEW} --san-uri spiffe://clinic.example/gw")), 0));
    let config = site.load().unwrap();
    let file = &config.partners.get("clinic").unwrap().file;
    assert_eq!(file.part2.redaction, Redaction::Marked);
    assert_eq!(file.certificates, [CertificateMatch::SanUri("spiffe://clinic.example/gw".to_owned())]);
    assert_eq!(file.mtls, MtlsMode::Required);
    assert!(
        is(partner(&site, &format!("{NEW} --san-uri spiffe://clinic.example/gw")), exit::USAGE),
        "it is there already"
    );
}

#[test]
fn a_partner_that_would_be_refused_leaves_no_file() {
    let site = site();
    assert!(is(partner(&site, NEW), exit::USAGE), "no certificate");
    assert!(is(partner(&site, &format!("{NEW} --san-dns *.example")), exit::USAGE));
    assert!(is(partner(&site, &NEW.replace("--client-id clinic", "--client-id ../clinic")), exit::USAGE));
    let names: Vec<_> =
        std::fs::read_dir(site.path("partners")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!names.iter().any(|name| name.to_string_lossy().contains("clinic")), "{names:?}");
}

#[test]
fn a_request_is_signed_with_the_names_given_here() {
    let site = site();
    let pki = site.path("pki");
    crate::pki::PkiDirectory::create(&pki, "tests", NOW).unwrap();
    std::fs::write(site.path("clinic.csr"), csr()).unwrap();
    let line = format!(
        "{NEW} --csr {} --pki {} --san-dns gw.clinic.example",
        site.path("clinic.csr").display(),
        pki.display()
    );
    assert!(is(partner(&site, &line), 0));
    let known = enrol::certificate_of(&pki.join("clinic.pem")).unwrap();
    assert_eq!(known, [CertificateMatch::SanDns("gw.clinic.example".to_owned())]);
    assert_eq!(site.load().unwrap().partners.get("clinic").unwrap().file.certificates, known);
}

const NOW: OffsetDateTime = datetime!(2026-11-22 12:00 UTC);

/// A request that wishes for a name of its own, which it does not get.
fn csr() -> String {
    let key = rcgen::KeyPair::generate().unwrap();
    let wishes = rcgen::CertificateParams::new(vec!["admin.example.org".to_owned()]).unwrap();
    wishes.serialize_request(&key).unwrap().pem().unwrap()
}

#[test]
fn suspending_and_resuming_change_one_line() {
    let site = site();
    let path = site.path("partners/recovery-path.yaml");
    let before = std::fs::read_to_string(&path).unwrap();
    assert!(is(partner(&site, "suspend recovery-path"), 0));
    assert_eq!(site.load().unwrap().partners.get("recovery-path").unwrap().partner.status, Status::Suspended);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), before.replace("status: active", "status: suspended"));
    assert!(is(partner(&site, "suspend recovery-path --resume"), 0));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), before);
    assert!(is(partner(&site, "suspend portal"), 0), "a file without a status gets one");
    assert!(is(partner(&site, "suspend nobody"), exit::USAGE));
}

#[test]
fn a_certificate_is_renewed_beside_the_old_and_the_old_retired() {
    let site = site();
    let authority = Authority::create("outside", Validity::days(NOW, 100).unwrap()).unwrap();
    let names = |dns: Option<&str>| LeafNames {
        common_name: "new".to_owned(),
        dns: dns.map(str::to_owned).into_iter().collect(),
        uris: Vec::new(),
        ips: Vec::new(),
    };
    let issued =
        authority.issue_client(&names(Some("new.recovery.example")), Validity::days(NOW, 90).unwrap()).unwrap();
    std::fs::write(site.path("new.pem"), issued.certificate_pem).unwrap();
    let count = || site.load().unwrap().partners.get("recovery-path").unwrap().file.certificates.len();
    let line = format!("rotate recovery-path --certificate {}", site.path("new.pem").display());
    assert!(is(partner(&site, &line), 0));
    assert_eq!(count(), 4);
    assert!(is(partner(&site, &line), 0), "again changes nothing");
    assert_eq!(count(), 4);
    assert!(is(partner(&site, "rotate recovery-path --retire"), 0));
    let config = site.load().unwrap();
    let left = &config.partners.get("recovery-path").unwrap().file.certificates;
    assert_eq!(*left, [CertificateMatch::SanDns("new.recovery.example".to_owned())]);
}

#[test]
fn a_secret_is_replaced_by_a_random_one_that_only_its_owner_reads() {
    use std::os::unix::fs::PermissionsExt as _;
    let site = site();
    let file = site.path("partners/secrets/reporting");
    let before = std::fs::read_to_string(&file).unwrap();
    assert!(is(partner(&site, "rotate reporting --secret"), 0));
    let after = std::fs::read_to_string(&file).unwrap();
    assert!(after != before && after.len() == 43);
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(is(partner(&site, "rotate recovery-path --secret"), exit::USAGE), "it has none");
}

#[test]
fn check_and_list_tell_by_their_exit_code() {
    let site = site();
    assert!(is(partner(&site, "list"), 0));
    assert!(is(partner(&site, "check recovery-path --offline"), 0));
    site.patch("partners/recovery-path.yaml", "[TREAT]", "[TREAT, HMARKT]");
    assert!(is(partner(&site, "check recovery-path --offline -o json"), exit::FINDINGS));
    assert!(is(partner(&site, "check nobody --offline"), exit::USAGE));
}
