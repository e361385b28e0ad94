//! Metrics of product.md section 5, traces whose spans are the stages, and structured logs.
//!
//! No patient id, user id or token is ever a label, a span attribute or a log field: the types that carry them do not
//! print, and what is recorded here is drawn from closed sets.

mod metrics;

pub use metrics::{Metrics, MetricsError, RequestLabels};

use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::WithExportConfig;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use thiserror::Error;
use tracing_subscriber::filter::{FilterExt as _, LevelFilter, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry};

use crate::config::LogFormat;

/// The telemetry of this process; flushes what is buffered when told to.
#[derive(Debug, Default)]
pub struct Telemetry {
    traces: Option<SdkTracerProvider>,
}

/// Why telemetry could not start.
#[derive(Debug, Error)]
pub enum TelemetryError {
    #[error("the OTLP exporter cannot be built; check telemetry.otlp_endpoint")]
    Exporter(#[source] opentelemetry_otlp::ExporterBuildError),
    #[error("another subscriber is installed already")]
    Installed(#[source] tracing_subscriber::util::TryInitError),
}

impl Telemetry {
    /// Logs on stderr in the form asked for, filtered by `FHIRWALL_LOG` (default `info`); traces to `otlp_endpoint`, where
    /// given.
    pub fn start(otlp_endpoint: Option<&str>, filter: &str, format: LogFormat) -> Result<Self, TelemetryError> {
        Self::start_on(std::io::stderr, otlp_endpoint.map(tracer_provider).transpose()?, filter, format)
    }

    /// The same with logs to any writer and spans to any provider.
    pub fn start_on<W>(
        writer: W,
        traces: Option<SdkTracerProvider>,
        filter: &str,
        format: LogFormat,
    ) -> Result<Self, TelemetryError>
    where
        W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
    {
        let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
        // Without the hint every library would prepare its finest records for nobody.
        let own = filter_fn(may_be_told).with_max_level_hint(LevelFilter::TRACE);
        let logs = lines(format, writer).with_filter(filter.and(own));
        let spans = traces.as_ref().map(|provider| {
            tracing_opentelemetry::layer()
                .with_tracer(provider.tracer("fhirwall"))
                .with_filter(EnvFilter::new("off,fhirwall=info"))
        });
        tracing_subscriber::registry().with(logs).with(spans).try_init().map_err(TelemetryError::Installed)?;
        Ok(Self { traces })
    }

    /// Sends what is buffered. Called once, at the end of the process.
    pub fn stop(self) {
        if let Some(traces) = self.traces
            && let Err(error) = traces.shutdown()
        {
            tracing::warn!(%error, "spans were lost at shutdown");
        }
    }
}

/// Our own events are written so that they name no patient and no secret. What libraries tell below `info` (headers, frames,
/// bodies) is not: it stays out, whatever the filter asks for. Spans are for traces alone.
fn may_be_told(event: &tracing::Metadata<'_>) -> bool {
    if event.is_span() {
        return false;
    }
    let target = event.target();
    let own = ["fhirwall", "fhirwall_policy", "fhirwall_certs"]
        .iter()
        .any(|name| target.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with("::")));
    own || *event.level() <= tracing::Level::INFO
}

/// Log lines in this form: one JSON object each, or for people. Neither names spans: these are for traces.
fn lines<W>(format: LogFormat, writer: W) -> Box<dyn Layer<Registry> + Send + Sync>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    match format {
        LogFormat::Json => lines.json().with_current_span(false).with_span_list(false).boxed(),
        LogFormat::Text => lines.with_ansi(false).event_format(tracing_subscriber::fmt::format().compact()).boxed(),
    }
}

fn tracer_provider(endpoint: &str) -> Result<SdkTracerProvider, TelemetryError> {
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .build()
        .map_err(TelemetryError::Exporter)?;
    Ok(SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(Resource::builder().with_service_name("fhirwall").build())
        .build())
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat) -> String {
        let written = Written::default();
        let writer = written.clone();
        let subscriber = tracing_subscriber::registry().with(lines(format, move || writer.clone()));
        tracing::subscriber::with_default(subscriber, || tracing::warn!(partner = "app", "a caller stands out"));
        let bytes = written.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn what_libraries_say_below_info_is_never_told() {
        let written = Written::default();
        let writer = written.clone();
        let filter = EnvFilter::new("trace").and(filter_fn(may_be_told));
        let logs = lines(LogFormat::Text, move || writer.clone()).with_filter(filter);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(logs), || {
            tracing::trace!("our own");
            tracing::info!(target: "h2::server", "a library's word");
            tracing::debug!(target: "h2::server", "a header");
            tracing::trace!(target: "fhirwall_elsewhere", "a crate of a like name");
        });
        let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        assert!(text.contains("our own") && text.contains("a library's word"), "{text}");
        assert!(!text.contains("a header") && !text.contains("like name"), "{text}");
    }

    #[test]
    fn lines_are_json_for_machines_or_text_for_people() {
        let json: serde_json::Value = serde_json::from_str(&logged(LogFormat::Json)).unwrap();
        assert_eq!((&json["level"], &json["fields"]["partner"]), (&"WARN".into(), &"app".into()));
        let text = logged(LogFormat::Text);
        assert!(text.contains("WARN") && text.contains("a caller stands out partner=\"app\""), "{text}");
        assert!(serde_json::from_str::<serde_json::Value>(&text).is_err() && !text.contains('\u{1b}'), "{text}");
    }
}
