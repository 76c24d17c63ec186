//! Figures for Prometheus: what happened since the start, and what is so when it asks.

mod requests;
mod state;
#[cfg(test)]
mod tests;

use std::sync::{Arc, atomic::AtomicU64};

use axum::{Router, extract::State, routing::get};
use http::{HeaderValue, StatusCode, header};
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{
        counter::Counter,
        family::Family,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};

pub use requests::count;

use crate::{App, answer::Refusal};

/// The text format of OpenMetrics, which Prometheus reads.
const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Kinds of requests by what they are for: few, whatever is asked.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Class {
    class: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Answered {
    class: &'static str,
    /// `2xx` and so on.
    status: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

/// Counters of what happened since the start.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: Family<Answered, Counter>,
    durations: Family<Class, Histogram, fn() -> Histogram>,
    latency: Histogram,
    console_received: Counter,
    artifacts_received: Counter,
    artifacts_sent: Counter,
    polls: Family<Outcome, Counter>,
    purged: Counter<u64, AtomicU64>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("journeyman");
        let requests = Family::default();
        registry.register("requests", "Requests answered", requests.clone());
        // From 1 ms to 33 s.
        let seconds: fn() -> Histogram = || Histogram::new(exponential_buckets(0.001, 2.0, 16));
        let durations = Family::new_with_constructor(seconds);
        registry.register_with_unit(
            "request_duration",
            "Time until the head of the answer, by class",
            Unit::Seconds,
            durations.clone(),
        );
        let latency = seconds();
        registry.register_with_unit(
            "scheduling_latency",
            "Time from a job's scheduling until an agent had it",
            Unit::Seconds,
            latency.clone(),
        );
        let mut bytes = |name: &str, help: &str| {
            let counter = Counter::default();
            registry.register_with_unit(name, help, Unit::Bytes, counter.clone());
            counter
        };
        let console_received = bytes("console_received", "Bytes of consoles received");
        let artifacts_received = bytes("artifacts_received", "Bytes of artifacts received");
        let artifacts_sent = bytes(
            "artifacts_sent",
            "Bytes of artifacts sent, but for folders, whose size nobody knows before",
        );
        let purged = bytes(
            "retention_deleted",
            "Bytes of consoles and artifacts deleted to keep to the limits",
        );
        let polls = Family::default();
        registry.register("material_polls", "Looks at materials", polls.clone());
        Self {
            registry,
            requests,
            durations,
            latency,
            console_received,
            artifacts_received,
            artifacts_sent,
            polls,
            purged,
        }
    }
}

impl Metrics {
    /// A job was given to an agent, so long after it was scheduled.
    pub fn assigned(&self, milliseconds: i64) {
        let milliseconds = u32::try_from(milliseconds.max(0)).unwrap_or(u32::MAX);
        self.latency.observe(f64::from(milliseconds) / 1000.0);
    }

    /// A part of a console came in.
    pub fn console_received(&self, bytes: usize) {
        self.console_received.inc_by(bytes as u64);
    }

    /// A part of an artifact came in.
    pub fn artifact_received(&self, bytes: usize) {
        self.artifacts_received.inc_by(bytes as u64);
    }

    /// A material was looked at.
    pub fn material_polled(&self, succeeded: bool) {
        let outcome = if succeeded { "succeeded" } else { "failed" };
        self.polls.get_or_create(&Outcome { outcome }).inc();
    }

    /// Consoles and artifacts were deleted.
    pub fn deleted(&self, bytes: u64) {
        self.purged.inc_by(bytes);
    }
}

/// `/metrics`, for those who may see everything: give Prometheus an access token of such a user.
pub fn router() -> Router<Arc<App>> {
    Router::new().route("/metrics", get(metrics))
}

async fn metrics(
    State(app): State<Arc<App>>,
) -> Result<(StatusCode, [(header::HeaderName, HeaderValue); 1], String), Refusal> {
    let failed = |error: std::fmt::Error| Refusal::internal("write the metrics", &error);
    let now = state::registry(&app).await?;
    let mut text = String::new();
    encode(&mut text, &app.metrics.registry).map_err(failed)?;
    // Each ends with a line that says so; there is one document.
    let text_of_events = text.trim_end_matches("# EOF\n").len();
    text.truncate(text_of_events);
    encode(&mut text, &now).map_err(failed)?;
    let content_type = [(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE))];
    Ok((StatusCode::OK, content_type, text))
}
