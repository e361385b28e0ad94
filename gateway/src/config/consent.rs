//! Where patients' consents come from, and how they are read where FHIR leaves a choice.

use std::time::Duration;

use fhirwall_policy::consent::{ConsentReading, Expiry, Part2Elements, RecipientNamed, Signature, Zone};
use fhirwall_policy::partner::Recipient;
use time::UtcOffset;

use crate::config::address::WebUrl;
use crate::config::endpoint::UpstreamAuth;
use crate::config::read::{At, Setting};
use crate::config::section::{section, words, words_of};
use crate::config::shape::{Form, Shape};
use crate::config::value::FilePath;

section! {
    /// Where patients' consents come from.
    pub struct Consent {
        /// The source.
        source: ConsentSource = ConsentSource::Upstream,
        /// server: the base URL of the FHIR server that holds the Consents.
        url: Option<WebUrl>,
        /// server: the authorities that may vouch for it, PEM.
        ca_file: Option<FilePath>,
        /// server: the certificate that the gateway shows, PEM.
        client_certificate_file: Option<FilePath>,
        /// server: its private key, PEM.
        client_key_file: Option<FilePath>,
        /// server: how the gateway authorizes itself.
        auth: UpstreamAuth = UpstreamAuth::None,
        /// server: how long one exchange may take.
        timeout: Duration = Duration::from_secs(5),
        /// How long a patient's consents are kept: a revocation written elsewhere holds after at most this long.
        cache: Duration = Duration::from_secs(30),
        /// What a Consent that cannot be read counts as.
        unreadable: Unreadable = Unreadable::Deny,
        /// How Consents name the holder of these records, where they name a custodian: `{reference: Organization/us}`, or
        /// `{identifier: {system, value}}`.
        custodians: Vec<Recipient> = Vec::new(),
        /// The lowest offset from UTC that the clocks behind the Consents can show, for dates written without one.
        zone_west: Offset = Offset::WEST,
        /// The highest.
        zone_east: Offset = Offset::EAST,
        /// How strictly the elements of 42 CFR 2.31(a) must show in a Consent for Part 2 records.
        part2: ConsentPart2,
    }
    check check_consent;
}

section! {
    /// How strictly the elements of 42 CFR 2.31(a) must show in a Consent for Part 2 records, where FHIR leaves a choice.
    pub struct ConsentPart2 {
        /// 2.31(a)(8): how the patient's signature must show.
        signature: Signature = Signature::Attributed,
        /// 2.31(a)(4): whether a consent for treatment, payment and operations must name its recipient.
        recipient: RecipientNamed = RecipientNamed::Always,
        /// 2.31(a)(7): whether a consent for treatment, payment and operations must expire.
        expiry: Expiry = Expiry::UnlessTpo,
    }
}

words_of!(Signature {
    Attributed = "attributed", "It names who agreed, or shows a signed form or a verification; and nobody found it unverified.";
    SourceOrVerified = "source-or-verified", "It holds or refers to the signed form, or was verified.";
    Verified = "verified", "It was verified.";
    Unchecked = "unchecked", "Whoever records Consents here is trusted to record signed ones alone.";
});

words_of!(RecipientNamed {
    Always = "always", "It must.";
    UnlessTpo = "unless-tpo", "It may name none, which stands for a class (2.31(a)(4)).";
});

words_of!(Expiry {
    Always = "always", "It must.";
    UnlessTpo = "unless-tpo", "It need not (2.31(a)(7)).";
});

/// An offset from UTC, as `-05:00`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offset(pub UtcOffset);

impl Offset {
    const WEST: Self = Self(Zone::ANYWHERE.west);
    const EAST: Self = Self(Zone::ANYWHERE.east);

    fn parse(text: &str) -> Option<Self> {
        let form = time::macros::format_description!("[offset_hour sign:mandatory]:[offset_minute]");
        UtcOffset::parse(text, form).ok().map(Self)
    }
}

impl Setting for Offset {
    fn read(at: &At<'_>) -> Option<Self> {
        let text = at.text()?;
        match Self::parse(&text) {
            Some(offset) => Some(offset),
            None => at.refuse(format!("`{}` is no offset from UTC", at.written()), "write `-05:00` or `+00:00`"),
        }
    }

    fn shape() -> Shape {
        Shape::Text(Form { what: "an offset from UTC", pattern: None, example: "-05:00" })
    }

    fn shown(&self) -> serde_json::Value {
        serde_json::Value::from(self.to_string())
    }
}

impl core::fmt::Display for Offset {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let (hours, minutes, _) = self.0.as_hms();
        let sign = if self.0.is_negative() { '-' } else { '+' };
        write!(f, "{sign}{:02}:{:02}", hours.unsigned_abs(), minutes.unsigned_abs())
    }
}

impl Consent {
    /// How the Consents of this configuration are read. The role is the endpoint's own.
    pub fn reading(&self) -> ConsentReading {
        ConsentReading {
            custodians: self.custodians.clone(),
            zone: Zone { west: self.zone_west.0, east: self.zone_east.0 },
            part2: Part2Elements {
                signature: self.part2.signature,
                recipient: self.part2.recipient,
                expiry: self.part2.expiry,
                ..Part2Elements::default()
            },
        }
    }
}

words! {
    /// Where patients' consents come from.
    pub enum ConsentSource {
        /// The Consent resources of the endpoint itself.
        Upstream = "upstream",
        /// Another FHIR server, named by `url`.
        Server = "server",
    }
}

words! {
    /// What a Consent that cannot be read counts as.
    pub enum Unreadable {
        /// As a denial.
        Deny = "deny",
    }
}

fn check_consent(consent: &Consent, at: &At<'_>) {
    match (consent.source, &consent.url) {
        (ConsentSource::Server, None) => {
            at.problem_at("url", "`source: server` needs its address", "add `url: https://…/fhir`")
        }
        (ConsentSource::Upstream, Some(_)) => {
            at.problem_at("url", "`source: upstream` takes no address", "remove it, or set `source: server`");
        }
        (ConsentSource::Server, Some(_)) | (ConsentSource::Upstream, None) => {}
    }
    let of_server = [
        ("client_certificate_file", consent.client_certificate_file.is_some()),
        ("client_key_file", consent.client_key_file.is_some()),
        ("auth", consent.auth != UpstreamAuth::None),
    ];
    for (key, _) in of_server.iter().filter(|(_, set)| *set && consent.source == ConsentSource::Upstream) {
        at.problem_at(key, "`source: upstream` asks with the endpoint's own credential", "remove it");
    }
    if consent.client_certificate_file.is_some() != consent.client_key_file.is_some() {
        at.problem_at("client_key_file", "a certificate and its key go together", "name both, or neither");
    }
    if consent.zone_west.0 > consent.zone_east.0 {
        at.problem_at("zone_west", "it lies east of `zone_east`", "write the lower offset here, as `-05:00`");
    }
    if consent.cache > Duration::from_secs(300) {
        at.problem_at(
            "cache",
            "a revoked consent would still open records after five minutes (42 CFR 2.31(a)(6))",
            "write at most `5m`",
        );
    }
}
