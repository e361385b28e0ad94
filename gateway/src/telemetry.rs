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
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

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
    /// Logs as JSON lines on stderr, filtered by `FHIRWALL_LOG` (default `info`); traces to `otlp_endpoint`, where given.
    pub fn start(otlp_endpoint: Option<&str>, filter: &str) -> Result<Self, TelemetryError> {
        let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
        let logs = tracing_subscriber::fmt::layer()
            .json()
            .with_current_span(false)
            .with_span_list(false)
            .with_writer(std::io::stderr)
            .with_filter(filter);
        let traces = otlp_endpoint.map(tracer_provider).transpose()?;
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
