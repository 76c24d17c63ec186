//! Counting requests.

use std::{sync::Arc, time::Instant};

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use http::{Method, header};

use super::{Answered, Class};
use crate::App;

const ARTIFACTS: &str = "artifacts";

/// Counts a request and the time until its answer began.
pub async fn count(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let class = class(request.uri().path());
    let sends = request.method() == Method::GET;
    let start = Instant::now();
    let response = next.run(request).await;
    let metrics = &app.metrics;
    let status = format!("{}xx", response.status().as_u16() / 100);
    metrics
        .requests
        .get_or_create(&Answered { class, status })
        .inc();
    metrics
        .durations
        .get_or_create(&Class { class })
        .observe(start.elapsed().as_secs_f64());
    if sends && class == ARTIFACTS {
        let length = response.headers().get(header::CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
        metrics.artifacts_sent.inc_by(length.unwrap_or(0));
    }
    response
}

fn class(path: &str) -> &'static str {
    let begins = |begin: &str| path.starts_with(begin);
    if begins("/go/remoting/files/") || begins("/go/files/") {
        let console = path.contains("/cruise-output/console.log");
        if console { "consoles" } else { ARTIFACTS }
    } else if begins("/go/api/journeyman/consoles/") {
        "consoles"
    } else if begins("/go/remoting/") {
        // It may be held until there is work.
        if path.ends_with("/get_work") {
            "get_work"
        } else {
            "remoting"
        }
    } else if begins("/go/admin/agent") || begins("/go/admin/journeyman") {
        "registration"
    } else if begins("/go/api/webhooks/") {
        "webhooks"
    } else if begins("/go/api/") || begins("/go/cctray.xml") {
        "api"
    } else {
        "pages"
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    #[test]
    fn there_are_few_classes() {
        let table = [
            ("/go/remoting/api/agent/get_work", "get_work"),
            ("/go/remoting/api/agent/ping", "remoting"),
            (
                "/go/remoting/files/p/1/s/1/j/cruise-output/console.log",
                "consoles",
            ),
            ("/go/files/p/1/s/1/j/a.txt", "artifacts"),
            ("/go/admin/agent", "registration"),
            ("/go/api/webhooks/github/notify", "webhooks"),
            ("/go/api/agents", "api"),
            ("/go/pipelines", "pages"),
            ("/etc/passwd", "pages"),
        ];
        for (path, expected) in table {
            assert_eq!(class(path), expected, "{path}");
        }
    }
}
