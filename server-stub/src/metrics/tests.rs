use std::sync::Arc;

use crate::{clock::SystemClock, scheduling::tests::serve, users::Login};

#[tokio::test]
async fn what_happened_and_what_is_so_are_one_document() {
    let folder = tempfile::tempdir().unwrap();
    let running = serve(folder.path(), Login::Off, Arc::new(SystemClock)).await;
    running.app.metrics.assigned(1500);
    running.app.metrics.material_polled(false);
    let base = running
        .app
        .endpoints
        .http_url
        .trim_end_matches("/go")
        .to_owned();
    reqwest::get(format!("{base}/go/api/version"))
        .await
        .unwrap();
    let answer = reqwest::get(format!("{base}/metrics")).await.unwrap();
    assert_eq!(answer.status(), 200);
    let text = answer.text().await.unwrap();
    for line in [
        "journeyman_requests_total{class=\"api\",status=\"2xx\"} 1",
        "journeyman_request_duration_seconds_count{class=\"api\"} 1",
        "journeyman_scheduling_latency_seconds_sum 1.5",
        "journeyman_material_polls_total{outcome=\"failed\"} 1",
        "journeyman_jobs{state=\"Scheduled\"} 0",
        "journeyman_queue_age_seconds 0.0",
        "journeyman_health_messages{level=\"ERROR\"} 0",
    ] {
        assert!(
            text.lines().any(|one| one == line),
            "{line} is not in\n{text}"
        );
    }
    for name in ["database_size", "disk_available"] {
        let begin = format!("journeyman_{name}_bytes ");
        let line = text.lines().find_map(|line| line.strip_prefix(&begin));
        assert!(line.unwrap().parse::<i64>().unwrap() > 0, "{text}");
    }
    assert_eq!(text.matches("# EOF").count(), 1, "{text}");
    assert!(text.ends_with("# EOF\n"));
    running.stop().await;
}
