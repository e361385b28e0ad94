//! The metrics, by the names of product.md section 5, over OpenTelemetry and served to Prometheus.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::num::NonZeroU32;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{AsyncInstrument, Counter, Gauge, Histogram, MeterProvider};
use opentelemetry_sdk::metrics::SdkMeterProvider;
use prometheus::{Encoder, Registry, TextEncoder};
use thiserror::Error;

/// Partners beyond this many are counted as `other`, unless told otherwise: a label's cardinality is bounded.
const MAX_PARTNERS: usize = 100;
/// Upper bounds of the duration histograms, in seconds.
const SECONDS: [f64; 14] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Why metrics cannot be served.
#[derive(Debug, Error)]
pub enum MetricsError {
    #[error("the Prometheus exporter cannot be built")]
    Exporter,
    #[error("the metrics cannot be written as text")]
    Encode(#[source] prometheus::Error),
}

/// Every metric of the gateway.
pub struct Metrics {
    registry: Registry,
    provider: SdkMeterProvider,
    requests: Counter<u64>,
    request_seconds: Histogram<f64>,
    stage_seconds: Histogram<f64>,
    decisions: Counter<u64>,
    shadow_denials: Counter<u64>,
    emergency_accesses: Counter<u64>,
    redactions: Counter<u64>,
    label_shadow: Counter<u64>,
    consent_evaluations: Counter<u64>,
    ratelimit_rejections: Counter<u64>,
    risk_events: Counter<u64>,
    jwks_refresh: Counter<u64>,
    audit_records: Counter<u64>,
    audit_chain_breaks: Counter<u64>,
    audit_sink_behind: Gauge<u64>,
    audit_sink_parked: Gauge<u64>,
    alerts: Counter<u64>,
    denial_exceptions: Counter<u64>,
    config_generation: Gauge<u64>,
    config_reloads: Counter<u64>,
    certificate_expiry: Gauge<f64>,
    partners: Mutex<HashSet<String>>,
    max_partners: AtomicUsize,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics(..)")
    }
}

/// One finished request, in labels of closed sets.
#[derive(Clone, Copy, Debug)]
pub struct RequestLabels<'a> {
    pub interaction: &'static str,
    pub resource_type: &'static str,
    pub status: u16,
    pub partner: &'a str,
}

impl Metrics {
    pub fn new() -> Result<Self, MetricsError> {
        let registry = Registry::new();
        let exporter = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .scope_info_enabled(false)
            .without_target_info()
            .build()
            .map_err(|_| MetricsError::Exporter)?;
        let provider = SdkMeterProvider::builder().with_reader(exporter).build();
        let meter = provider.meter("fhirwall");
        let seconds = |name: &'static str| meter.f64_histogram(name).with_boundaries(SECONDS.to_vec()).build();
        let count = |name: &'static str| meter.u64_counter(name).build();
        let metrics = Self {
            requests: count("fhirwall_requests"),
            request_seconds: seconds("fhirwall_request_duration_seconds"),
            stage_seconds: seconds("fhirwall_stage_duration_seconds"),
            decisions: count("fhirwall_decisions"),
            shadow_denials: count("fhirwall_shadow_denials"),
            emergency_accesses: count("fhirwall_emergency_accesses"),
            redactions: count("fhirwall_redactions"),
            label_shadow: count("fhirwall_label_shadow"),
            consent_evaluations: count("fhirwall_consent_evaluations"),
            ratelimit_rejections: count("fhirwall_ratelimit_rejections"),
            risk_events: count("fhirwall_risk_events"),
            jwks_refresh: count("fhirwall_jwks_refresh"),
            audit_records: count("fhirwall_audit_records"),
            audit_chain_breaks: count("fhirwall_audit_chain_breaks"),
            audit_sink_behind: meter.u64_gauge("fhirwall_audit_sink_behind_records").build(),
            audit_sink_parked: meter.u64_gauge("fhirwall_audit_sink_parked_records").build(),
            alerts: count("fhirwall_alerts"),
            denial_exceptions: count("fhirwall_denial_exceptions"),
            config_generation: meter.u64_gauge("fhirwall_config_generation").build(),
            config_reloads: count("fhirwall_config_reloads"),
            certificate_expiry: meter.f64_gauge("fhirwall_certificate_expiry_seconds").build(),
            partners: Mutex::new(HashSet::new()),
            max_partners: AtomicUsize::new(MAX_PARTNERS),
            registry,
            provider: provider.clone(),
        };
        let build = meter.u64_gauge("fhirwall_build_info").build();
        build.record(1, &[KeyValue::new("version", env!("CARGO_PKG_VERSION"))]);
        metrics.audit_chain_breaks.add(0, &[]);
        Ok(metrics)
    }

    /// Gives so many partners a label of their own. Who has one keeps it: a series that stops would look like an outage.
    pub fn label_partners(&self, most: NonZeroU32) {
        self.max_partners.store(usize::try_from(most.get()).unwrap_or(usize::MAX), Ordering::Relaxed);
    }

    /// Shows the health of the EHRs' URLs, as `read` tells it whenever metrics are read: endpoint, place in
    /// `upstream.urls`, healthy or not.
    pub fn upstreams(&self, read: impl Fn() -> Vec<(String, usize, bool)> + Send + Sync + 'static) {
        let observe = move |observer: &dyn AsyncInstrument<u64>| {
            for (endpoint, url, healthy) in read() {
                let url = i64::try_from(url).unwrap_or(i64::MAX);
                observer.observe(u64::from(healthy), &[KeyValue::new("endpoint", endpoint), KeyValue::new("url", url)]);
            }
        };
        // The provider keeps the callback; the instrument itself is only a handle.
        let meter = self.provider.meter("fhirwall");
        let _handle = meter.u64_observable_gauge("fhirwall_upstream_healthy").with_callback(observe).build();
    }

    /// The series of a counter, by labels.
    pub fn totals(&self, name: &str) -> Vec<(BTreeMap<String, String>, u64)> {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == name);
        let series = |metric: &prometheus::proto::Metric| {
            let labels = metric.get_label().iter().map(|label| (label.name().to_owned(), label.value().to_owned()));
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a counter of whole things")]
            let value = metric.get_counter().get_value() as u64;
            (labels.collect(), value)
        };
        family.into_iter().flat_map(|family| family.get_metric().iter().map(series)).collect()
    }

    /// A histogram's series of which `label` is `value`: how many stayed within each bound, in seconds, above the bound
    /// before it. The last bound is infinite.
    pub fn spread(&self, name: &str, label: &str, value: &str) -> Vec<(f64, u64)> {
        let families = self.registry.gather();
        let metrics = families.iter().filter(|family| family.name() == name).flat_map(|family| family.get_metric());
        let wanted = |metric: &&prometheus::proto::Metric| {
            metric.get_label().iter().any(|pair| pair.name() == label && pair.value() == value)
        };
        let Some(metric) = metrics.into_iter().find(wanted) else { return Vec::new() };
        let histogram = metric.get_histogram();
        let (mut spread, mut before) = (Vec::new(), 0);
        for bucket in histogram.get_bucket().iter().filter(|bucket| bucket.upper_bound().is_finite()) {
            spread.push((bucket.upper_bound(), bucket.cumulative_count().saturating_sub(before)));
            before = bucket.cumulative_count();
        }
        spread.push((f64::INFINITY, histogram.get_sample_count().saturating_sub(before)));
        spread
    }

    /// The exposition text for `/metrics`.
    pub fn text(&self) -> Result<String, MetricsError> {
        let mut out = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut out).map_err(MetricsError::Encode)?;
        Ok(String::from_utf8_lossy(&out).into_owned())
    }

    fn partner(&self, partner: &str) -> String {
        let Ok(mut known) = self.partners.lock() else { return "other".to_owned() };
        if known.contains(partner) {
            return partner.to_owned();
        }
        if known.len() >= self.max_partners.load(Ordering::Relaxed) {
            return "other".to_owned();
        }
        known.insert(partner.to_owned());
        partner.to_owned()
    }

    pub fn request(&self, labels: RequestLabels<'_>, took: Duration) {
        let attributes = [
            KeyValue::new("interaction", labels.interaction),
            KeyValue::new("resource_type", labels.resource_type),
            KeyValue::new("status", i64::from(labels.status)),
            KeyValue::new("partner", self.partner(labels.partner)),
        ];
        self.requests.add(1, &attributes);
        self.request_seconds.record(took.as_secs_f64(), &[]);
    }

    pub fn stage(&self, stage: &'static str, took: Duration) {
        self.stage_seconds.record(took.as_secs_f64(), &[KeyValue::new("stage", stage)]);
    }

    pub fn decision(&self, decision: &'static str, reason: &'static str, mode: &'static str) {
        let attributes =
            [KeyValue::new("decision", decision), KeyValue::new("reason", reason), KeyValue::new("mode", mode)];
        self.decisions.add(1, &attributes);
    }

    /// What a forbid in shadow mode would have denied. `policy` is an id of the policy set; `moment` is `request` or `record`.
    pub fn shadow_denial(&self, policy: &str, moment: &'static str, count: u64) {
        let attributes = [KeyValue::new("policy", policy.to_owned()), KeyValue::new("moment", moment)];
        self.shadow_denials.add(count, &attributes);
    }

    /// `outcome` is `disclosed` or `refused`.
    pub fn emergency_access(&self, outcome: &'static str) {
        self.emergency_accesses.add(1, &[KeyValue::new("outcome", outcome)]);
    }

    /// `label` is the code of a known label.
    pub fn redaction(&self, label: &str, level: &'static str, count: u64) {
        self.redactions.add(count, &[KeyValue::new("label", label.to_owned()), KeyValue::new("level", level)]);
    }

    /// Records that the candidate code lists would label otherwise. `label` is the code of a known label.
    pub fn label_shadow(&self, label: &'static str, change: &'static str, records: u64) {
        self.label_shadow.add(records, &[KeyValue::new("label", label), KeyValue::new("change", change)]);
    }

    /// `outcome` is `permit`, `deny` or `silent`.
    pub fn consent_evaluations(&self, outcome: &'static str, count: u64) {
        self.consent_evaluations.add(count, &[KeyValue::new("outcome", outcome)]);
    }

    pub fn ratelimit_rejection(&self, limit: &'static str) {
        self.ratelimit_rejections.add(1, &[KeyValue::new("limit", limit)]);
    }

    pub fn risk_event(&self, kind: &'static str, answer: &'static str) {
        self.risk_events.add(1, &[KeyValue::new("kind", kind), KeyValue::new("answer", answer)]);
    }

    /// `issuer` comes from the configuration, never from a token.
    pub fn jwks_refresh(&self, issuer: &str, result: &'static str) {
        self.jwks_refresh.add(1, &[KeyValue::new("issuer", issuer.to_owned()), KeyValue::new("result", result)]);
    }

    pub fn audit_record(&self) {
        self.audit_records.add(1, &[]);
    }

    pub fn audit_chain_break(&self) {
        self.audit_chain_breaks.add(1, &[]);
    }

    /// How many durable records a sink has not taken yet. `sink` comes from the configuration.
    pub fn audit_sink_behind(&self, sink: &str, records: u64) {
        self.audit_sink_behind.record(records, &[KeyValue::new("sink", sink.to_owned())]);
    }

    /// How many records a sink will never take, since the start.
    pub fn audit_sink_parked(&self, sink: &str, records: u64) {
        self.audit_sink_parked.record(records, &[KeyValue::new("sink", sink.to_owned())]);
    }

    pub fn alert(&self, alert: &'static str) {
        self.alerts.add(1, &[KeyValue::new("alert", alert)]);
    }

    /// A denial by the information-blocking exception that it rests on (45 CFR 171.201 to 205), or `none`.
    pub fn denial_exception(&self, exception: &'static str) {
        self.denial_exceptions.add(1, &[KeyValue::new("exception", exception)]);
    }

    pub fn config(&self, generation: u64, result: &'static str) {
        self.config_generation.record(generation, &[]);
        self.config_reloads.add(1, &[KeyValue::new("result", result)]);
    }

    pub fn certificate_expiry(&self, name: &str, seconds: f64) {
        self.certificate_expiry.record(seconds, &[KeyValue::new("name", name.to_owned())]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_has_the_name_of_the_contract() {
        let metrics = Metrics::new().unwrap();
        let labels = RequestLabels { interaction: "read", resource_type: "Patient", status: 200, partner: "app" };
        metrics.request(labels, Duration::from_millis(3));
        metrics.stage("decide", Duration::from_micros(20));
        metrics.decision("permit", "none", "enforce");
        metrics.shadow_denial("no-exports", "request", 1);
        metrics.emergency_access("disclosed");
        metrics.redaction("42CFRPart2", "resource", 2);
        metrics.label_shadow("HIV", "added", 3);
        metrics.consent_evaluations("permit", 1);
        metrics.ratelimit_rejection("partner");
        metrics.risk_event("export", "observe");
        metrics.jwks_refresh("https://idp.example", "ok");
        metrics.audit_record();
        metrics.audit_sink_behind("fhir https://arr.example/fhir", 7);
        metrics.audit_sink_parked("ocsf", 1);
        metrics.alert("denials");
        metrics.denial_exception("45 CFR 171.202");
        metrics.config(3, "ok");
        metrics.certificate_expiry("listener", 60.0);
        metrics.upstreams(|| vec![("main".to_owned(), 0, true), ("main".to_owned(), 1, false)]);
        let text = metrics.text().unwrap();
        for line in [
            r#"fhirwall_requests_total{interaction="read",partner="app",resource_type="Patient",status="200"} 1"#,
            "fhirwall_request_duration_seconds_count 1",
            r#"fhirwall_stage_duration_seconds_count{stage="decide"} 1"#,
            r#"fhirwall_decisions_total{decision="permit",mode="enforce",reason="none"} 1"#,
            r#"fhirwall_shadow_denials_total{moment="request",policy="no-exports"} 1"#,
            r#"fhirwall_emergency_accesses_total{outcome="disclosed"} 1"#,
            r#"fhirwall_redactions_total{label="42CFRPart2",level="resource"} 2"#,
            r#"fhirwall_label_shadow_total{change="added",label="HIV"} 3"#,
            r#"fhirwall_consent_evaluations_total{outcome="permit"} 1"#,
            r#"fhirwall_ratelimit_rejections_total{limit="partner"} 1"#,
            r#"fhirwall_risk_events_total{answer="observe",kind="export"} 1"#,
            r#"fhirwall_jwks_refresh_total{issuer="https://idp.example",result="ok"} 1"#,
            "fhirwall_audit_records_total 1",
            "fhirwall_audit_chain_breaks_total 0",
            r#"fhirwall_audit_sink_behind_records{sink="fhir https://arr.example/fhir"} 7"#,
            r#"fhirwall_audit_sink_parked_records{sink="ocsf"} 1"#,
            r#"fhirwall_alerts_total{alert="denials"} 1"#,
            r#"fhirwall_denial_exceptions_total{exception="45 CFR 171.202"} 1"#,
            "fhirwall_config_generation 3",
            r#"fhirwall_config_reloads_total{result="ok"} 1"#,
            r#"fhirwall_certificate_expiry_seconds{name="listener"} 60"#,
            r#"fhirwall_upstream_healthy{endpoint="main",url="0"} 1"#,
            r#"fhirwall_upstream_healthy{endpoint="main",url="1"} 0"#,
            "fhirwall_build_info",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn a_histogram_is_read_bound_by_bound() {
        let metrics = Metrics::new().unwrap();
        for millis in [1, 2, 2, 40, 20_000] {
            metrics.stage("audit", Duration::from_millis(millis));
        }
        metrics.stage("decide", Duration::from_millis(1));
        let spread = metrics.spread("fhirwall_stage_duration_seconds", "stage", "audit");
        let found: Vec<_> = spread.iter().filter(|(_, count)| *count > 0).copied().collect();
        assert_eq!(found, [(0.001, 1), (0.0025, 2), (0.05, 1), (f64::INFINITY, 1)]);
        assert!(metrics.spread("fhirwall_stage_duration_seconds", "stage", "none").is_empty());
    }

    #[test]
    fn partners_beyond_the_bound_are_counted_as_other() {
        let metrics = Metrics::new().unwrap();
        let few = NonZeroU32::new(3).unwrap();
        metrics.label_partners(few);
        for n in 0..few.get() {
            assert_eq!(metrics.partner(&format!("p{n}")), format!("p{n}"));
        }
        assert_eq!(metrics.partner("one-more"), "other");
        assert_eq!(metrics.partner("p0"), "p0");
        metrics.label_partners(NonZeroU32::new(4).unwrap());
        assert_eq!(metrics.partner("one-more"), "one-more");
    }
}
