//! Rules on the record, on bounds, and on running the gateway.

use std::path::Path;
use std::time::Duration;

use crate::config::{ByteSize, LogLevel, SinkKind, is_loopback};
use crate::control::{Control, Facts, Held, Severity, Unmet, controls, unmet, volatile};

pub(super) const CONTROLS: &[Control] = &[
    Control {
        id: "audit-on",
        severity: Severity::Violation,
        cites: "45 CFR 164.312(b); 42 CFR 2.16(a)",
        asks: "Every disclosure and refusal is recorded.",
        fix: "add `audit: {dir: …}`",
        held: Held::AtLoad("this key is required"),
    },
    Control {
        id: "audit-durable",
        severity: Severity::Violation,
        cites: "45 CFR 164.312(b)",
        asks: "A disclosure is on disk before its first byte is sent.",
        fix: "set `audit.durability: before-response`",
        held: Held::AtLoad("unknown value"),
    },
    Control {
        id: "audit-place",
        severity: Severity::Risk,
        cites: "45 CFR 164.312(b), 164.316(b)(2)(i)",
        asks: "The record is kept where a restart does not clear it.",
        fix: "set `audit.dir` to a lasting volume, as `/var/lib/fhirwall/audit`",
        held: Held::ByCheck(audit_place),
    },
    Control {
        id: "audit-volatile",
        severity: Severity::Violation,
        cites: "45 CFR 164.312(b), (c)(1), 164.308(a)(7)(ii)(A)",
        asks: "Records in memory alone are on another machine as well, before their answer is sent.",
        fix: "set `audit.dir` to a lasting volume, or `acknowledged: true` on a sink of kind `fhir`, `ocsf` or `otlp`",
        held: Held::ByCheck(audit_volatile),
    },
    Control {
        id: "audit-retention",
        severity: Severity::Violation,
        cites: "45 CFR 164.316(b)(2)(i), 164.528(a)",
        asks: "Records are kept for six years.",
        fix: "set `audit.retention` to `2192d` at least",
        held: Held::ByCheck(audit_retention),
    },
    Control {
        id: "audit-copy",
        severity: Severity::Risk,
        cites: "45 CFR 164.308(a)(7)(ii)(A), 164.312(c)(1)",
        asks: "Records are copied off this machine, so that their loss or change shows.",
        fix: "add a sink of kind `fhir`, `ocsf` or `otlp`",
        held: Held::ByCheck(audit_copy),
    },
    Control {
        id: "audit-reserve",
        severity: Severity::Risk,
        cites: "45 CFR 164.312(a)(2)(ii); 42 CFR 2.51(c)",
        asks: "Emergency access stays recordable when the disk is full.",
        fix: "set `audit.reserve` to `1MiB` at least",
        held: Held::ByCheck(audit_reserve),
    },
    Control {
        id: "limits-bounded",
        severity: Severity::Violation,
        cites: "45 CFR 164.308(a)(7)(i); OWASP API4:2023",
        asks: "Everything has a bound, and no number means without.",
        fix: "write a number from 1",
        held: Held::AtLoad("is out of range"),
    },
    Control {
        id: "limits-response",
        severity: Severity::Risk,
        cites: "OWASP API4:2023",
        asks: "One answer takes 128 MiB at most, and an eighth of what may be in flight.",
        fix: "lower `limits.response_bytes`, or raise `limits.inflight_bytes`",
        held: Held::ByCheck(limits_response),
    },
    Control {
        id: "limits-slow",
        severity: Severity::Risk,
        cites: "OWASP API4:2023; RFC 9112 section 9.5",
        asks: "Slow clients are let go: handshake and head take 30 s at most, a body two minutes.",
        fix: "lower `handshake_timeout`, `header_timeout` or `body_timeout`",
        held: Held::ByCheck(limits_slow),
    },
    Control {
        id: "limits-patients",
        severity: Severity::Risk,
        cites: "45 CFR 164.502(b), 164.308(a)(1)(ii)(D)",
        asks: "One user may read the records of 1,000 patients an hour at most.",
        fix: "lower `limits.user.distinct_patients_per_hour`",
        held: Held::ByCheck(limits_patients),
    },
    Control {
        id: "drain",
        severity: Severity::Risk,
        cites: "45 CFR 164.308(a)(7)(i)",
        asks: "Open requests can end before the gateway does.",
        fix: "set `shutdown.drain` longer than every `upstream.timeout`",
        held: Held::ByCheck(drain),
    },
    Control {
        id: "state-tls",
        severity: Severity::Violation,
        cites: "45 CFR 164.312(e)(1)",
        asks: "Shared state is reached over TLS, or within this machine.",
        fix: "use `rediss://`",
        held: Held::AtLoad("no `rediss://` URL"),
    },
    Control {
        id: "state-password",
        severity: Severity::Risk,
        cites: "45 CFR 164.312(d)",
        asks: "Shared state, which holds revocations, is not open to whoever finds it.",
        fix: "put user and password into the URL in the environment",
        held: Held::ByCheck(state_password),
    },
    Control {
        id: "log-level",
        severity: Severity::Advice,
        cites: "45 CFR 164.308(a)(8)",
        asks: "Logs are short enough to be read.",
        fix: "set `telemetry.log_level: info`",
        held: Held::ByCheck(log_level),
    },
    Control {
        id: "public-base",
        severity: Severity::Advice,
        cites: "RFC 8707 section 2",
        asks: "The base URL that clients see is not this machine's loopback.",
        fix: "set `base_url` to the public https address",
        held: Held::ByCheck(public_base),
    },
    Control {
        id: "waiver-expired",
        severity: Severity::Risk,
        cites: "45 CFR 164.308(a)(1)(ii)(B)",
        asks: "A waiver that ended was decided on anew.",
        fix: "meet the control and remove the waiver, or give it a new reason and last day",
        held: Held::ByCheck(waiver_expired),
    },
    Control {
        id: "waiver-expiring",
        severity: Severity::Advice,
        cites: "45 CFR 164.308(a)(1)(ii)(B)",
        asks: "A waiver that ends within a month is decided on before it does.",
        fix: "meet the control and remove the waiver, or give it a new reason and last day",
        held: Held::ByCheck(waiver_expiring),
    },
    Control {
        id: "waiver-known",
        severity: Severity::Risk,
        cites: "45 CFR 164.308(a)(1)(ii)(B)",
        asks: "A waiver names a control that exists.",
        fix: "write the control's id as `check` prints it",
        held: Held::ByCheck(waiver_known),
    },
    Control {
        id: "waiver-length",
        severity: Severity::Risk,
        cites: "45 CFR 164.308(a)(1)(ii)(B), (a)(8)",
        asks: "A waiver holds for a year at most.",
        fix: "bring its last day nearer",
        held: Held::ByCheck(waiver_length),
    },
];

fn audit_place(facts: &Facts<'_>) -> Vec<Unmet> {
    let dir = &facts.config.gateway.audit.dir;
    let fleeting = ["/tmp", "/run", "/dev", "/var/run", "/var/tmp"].iter().any(|root| dir.starts_with(Path::new(root)));
    if fleeting { vec![unmet("audit.dir", format!("{} is cleared at restart", dir.display()))] } else { Vec::new() }
}

fn audit_volatile(facts: &Facts<'_>) -> Vec<Unmet> {
    let audit = &facts.config.gateway.audit;
    if audit.sinks.iter().any(|sink| sink.acknowledged) {
        return Vec::new();
    }
    match volatile::file_system(&audit.dir) {
        Some(kind) => vec![unmet("audit.dir", format!("{} is on {kind}: in memory alone", audit.dir.display()))],
        None => Vec::new(),
    }
}

fn audit_retention(facts: &Facts<'_>) -> Vec<Unmet> {
    const SIX_YEARS: Duration = Duration::from_hours(24 * 2191);
    if facts.config.gateway.audit.retention < SIX_YEARS {
        return vec![unmet("audit.retention", "it is shorter than six years")];
    }
    Vec::new()
}

fn audit_copy(facts: &Facts<'_>) -> Vec<Unmet> {
    let away = |kind: SinkKind| matches!(kind, SinkKind::Fhir | SinkKind::Ocsf | SinkKind::Otlp);
    if facts.config.gateway.audit.sinks.iter().any(|sink| away(sink.kind)) {
        return Vec::new();
    }
    vec![unmet("audit.sinks", "the only record is on this machine")]
}

fn audit_reserve(facts: &Facts<'_>) -> Vec<Unmet> {
    let reserve = facts.config.gateway.audit.reserve;
    if reserve < ByteSize::mib(1) {
        vec![unmet("audit.reserve", format!("{reserve} are kept back"))]
    } else {
        Vec::new()
    }
}

fn limits_response(facts: &Facts<'_>) -> Vec<Unmet> {
    let limits = &facts.config.gateway.limits;
    let mut found = Vec::new();
    if limits.response_bytes > ByteSize::mib(128) {
        found.push(unmet("limits.response_bytes", format!("one answer may take {}", limits.response_bytes)));
    }
    if limits.inflight_bytes.0 / 8 < limits.response_bytes.0 {
        found.push(unmet("limits.inflight_bytes", "less than eight answers of full size may be in flight"));
    }
    found
}

fn limits_slow(facts: &Facts<'_>) -> Vec<Unmet> {
    let limits = &facts.config.gateway.limits;
    let bounds = [
        ("handshake_timeout", limits.handshake_timeout, 30),
        ("header_timeout", limits.header_timeout, 30),
        ("body_timeout", limits.body_timeout, 120),
    ];
    let long = bounds.into_iter().filter(|(_, time, most)| *time > Duration::from_secs(*most));
    long.map(|(key, time, _)| unmet(format!("limits.{key}"), format!("it is {} s", time.as_secs()))).collect()
}

fn limits_patients(facts: &Facts<'_>) -> Vec<Unmet> {
    let patients = facts.config.gateway.limits.user.distinct_patients_per_hour.get();
    if patients > 1000 {
        return vec![unmet("limits.user.distinct_patients_per_hour", format!("{patients} are allowed"))];
    }
    Vec::new()
}

fn drain(facts: &Facts<'_>) -> Vec<Unmet> {
    let gateway = &facts.config.gateway;
    let longest = gateway.endpoints.iter().map(|endpoint| endpoint.upstream.timeout).max().unwrap_or_default();
    if gateway.shutdown.drain <= longest {
        return vec![unmet("shutdown.drain", "an exchange with the EHR may take longer")];
    }
    Vec::new()
}

fn state_password(facts: &Facts<'_>) -> Vec<Unmet> {
    let url = facts.config.gateway.state.redis_url.as_ref().and_then(|url| url::Url::parse(url.reveal()).ok());
    if url.is_some_and(|url| url.password().is_none() && !is_loopback(&url)) {
        return vec![unmet("state.redis_url", "it holds no password")];
    }
    Vec::new()
}

fn log_level(facts: &Facts<'_>) -> Vec<Unmet> {
    if facts.config.gateway.telemetry.log_level == LogLevel::Debug {
        return vec![unmet("telemetry.log_level", "it is `debug`")];
    }
    Vec::new()
}

fn public_base(facts: &Facts<'_>) -> Vec<Unmet> {
    let endpoints = facts.config.gateway.endpoints.iter();
    endpoints
        .filter(|endpoint| is_loopback(endpoint.base_url.url()))
        .map(|endpoint| unmet(format!("endpoints[{}].base_url", endpoint.name), "clients elsewhere cannot reach it"))
        .collect()
}

fn waivers<'a>(facts: &Facts<'a>) -> impl Iterator<Item = (String, &'a crate::config::Waiver)> {
    let config: &'a crate::config::Config = facts.config;
    let own = config.gateway.waivers.iter().map(|waiver| (format!("waiver of {}", waiver.control), waiver));
    let partners = config.partners.iter().flat_map(|partner| {
        let subject = super::partner::subject(&partner.file.client_id);
        partner.file.waivers.iter().map(move |waiver| (subject.clone(), waiver))
    });
    own.chain(partners)
}

fn waiver_expired(facts: &Facts<'_>) -> Vec<Unmet> {
    waivers(facts)
        .filter(|(_, waiver)| waiver.until < facts.now.date())
        .map(|(subject, waiver)| unmet(subject, format!("the waiver of {} ended on {}", waiver.control, waiver.until)))
        .collect()
}

fn waiver_expiring(facts: &Facts<'_>) -> Vec<Unmet> {
    let today = facts.now.date();
    waivers(facts)
        .filter(|(_, waiver)| waiver.until >= today && waiver.until - today < time::Duration::days(30))
        .map(|(subject, waiver)| unmet(subject, format!("the waiver of {} ends on {}", waiver.control, waiver.until)))
        .collect()
}

fn waiver_known(facts: &Facts<'_>) -> Vec<Unmet> {
    waivers(facts)
        .filter(|(_, waiver)| !controls().any(|control| control.id == waiver.control))
        .map(|(subject, waiver)| unmet(subject, format!("there is no control `{}`", waiver.control)))
        .collect()
}

fn waiver_length(facts: &Facts<'_>) -> Vec<Unmet> {
    waivers(facts)
        .filter(|(_, waiver)| waiver.until - facts.now.date() > time::Duration::days(366))
        .map(|(subject, waiver)| {
            unmet(subject, format!("the waiver of {} holds until {}", waiver.control, waiver.until))
        })
        .collect()
}
