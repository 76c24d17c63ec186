//! The seven calls of an agent.

use std::time::{Duration, Instant};

use pretty_assertions::assert_eq;
use serde_json::json;

use crate::{
    agent::Agent,
    server::{PATIENCE, Server, answer},
};

const MEDIA_TYPE: &str = "application/vnd.go.cd.v1+json;charset=utf-8";
const ACTIONS: [&str; 7] = [
    "get_cookie",
    "ping",
    "get_work",
    "report_current_status",
    "report_completing",
    "report_completed",
    "is_ignored",
];

fn same(media_type: &str) -> String {
    media_type.to_ascii_lowercase().replace(' ', "")
}

#[tokio::test]
async fn a_stranger_gets_403_and_no_word_more() {
    let server = Server::start().await;
    let agent = Agent::registered(&server).await;
    let unknown = Agent::with_token(&server).await;
    let table = [
        (None, None),
        (Some(&agent.uuid), None),
        (None, Some(&agent.token)),
        (Some(&agent.uuid), Some(&unknown.token)),
        (Some(&unknown.uuid), Some(&unknown.token)),
    ];
    for action in ACTIONS {
        for (uuid, token) in table {
            let mut request = server
                .post(&format!("/remoting/api/agent/{action}"))
                .header("Content-Type", "application/json")
                .body(agent.body(action, json!({})));
            if let Some(uuid) = uuid {
                request = request.header("X-Agent-GUID", uuid);
            }
            if let Some(token) = token {
                request = request.header("Authorization", token);
            }
            let refused = answer(request).await;
            assert_eq!(
                (refused.status, refused.text.as_str()),
                (403, ""),
                "{action} {uuid:?} {token:?}"
            );
        }
    }
}

#[tokio::test]
async fn an_agent_speaks_for_itself_only() {
    let server = Server::start().await;
    let agent = Agent::registered(&server).await;
    let other = Agent::registered(&server).await;
    for action in ["get_cookie", "ping", "get_work"] {
        let refused = agent
            .call(action, json!({ "agentRuntimeInfo": other.info("Idle") }))
            .await;
        assert_eq!(refused.status, 403, "{action}");
        assert!(refused.json()["message"].is_string(), "{refused:?}");
    }
    assert_eq!(other.ping("Idle").await, "\"NONE\"");
}

#[tokio::test]
async fn what_cannot_be_read_is_refused() {
    let server = Server::start().await;
    let agent = Agent::registered(&server).await;
    let request = |content_type: &str| {
        agent
            .signed(server.post("/remoting/api/agent/ping"))
            .header("Content-Type", content_type)
    };
    let good = agent.body("ping", json!({}));
    for media_type in ["text/plain", "application/x-www-form-urlencoded", ""] {
        let refused = answer(request(media_type).body(good.clone())).await;
        assert_eq!(refused.status, 415, "{media_type}");
        assert!(refused.json()["message"].is_string(), "{refused:?}");
    }
    for media_type in ["application/json", "Application/JSON; charset=utf-8"] {
        let taken = answer(request(media_type).body(good.clone())).await;
        assert_eq!(taken.status, 200, "{media_type}");
    }
    let mut no_type = agent.info("Idle");
    no_type.as_object_mut().unwrap().remove("type");
    let mut other_type = agent.info("Idle");
    other_type["type"] = json!("SomeOtherInfo");
    for bad in [
        "{".to_owned(),
        String::new(),
        "[]".to_owned(),
        json!({ "agentRuntimeInfo": no_type }).to_string(),
        json!({ "agentRuntimeInfo": other_type }).to_string(),
    ] {
        let refused = answer(request("application/json").body(bad.clone())).await;
        assert_eq!(refused.status, 400, "{bad}");
        assert!(refused.json()["error"].is_string(), "{refused:?}");
    }
    // The outer type is told by the URL already, and members nobody knows are left alone.
    let strange = json!({ "type": "Else", "more": 1, "agentRuntimeInfo": agent.info("Idle") });
    let taken = answer(request("application/json").body(strange.to_string())).await;
    assert_eq!(taken.status, 200, "{taken:?}");
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_in_words() {
    let server = Server::start().await;
    let agent = Agent::registered(&server).await;
    let refused = answer(agent.request("ping").body(vec![b' '; 3 * 1024 * 1024])).await;
    assert_eq!(refused.status, 413);
    let message = refused.json()["message"].as_str().unwrap().to_owned();
    assert!(message.contains("1048576"), "{message}");
    assert!(refused.media_type.contains("json"), "{refused:?}");
}

#[tokio::test]
async fn a_body_that_does_not_announce_its_length_has_the_same_limit() {
    let server = Server::start().await;
    let agent = Agent::registered(&server).await;
    let chunk = || Ok::<_, std::io::Error>(vec![b' '; 64 * 1024]);
    let chunks = futures_util::stream::iter((0..48).map(move |_| chunk()));
    let request = agent
        .request("ping")
        .body(reqwest::Body::wrap_stream(chunks));
    let refused = answer(request).await;
    assert_eq!(refused.status, 413, "{refused:?}");
    assert!(refused.json()["message"].is_string(), "{refused:?}");
}

#[tokio::test]
async fn an_elastic_agent_speaks_as_one() {
    let server = Server::start().await;
    let mut agent = Agent::with_token(&server).await;
    let mut form = agent.form(crate::server::KEY);
    for (name, value) in &mut form {
        if name.starts_with("elastic") {
            *value = "pod-1".to_owned();
        }
    }
    assert_eq!(agent.register(&form).await.status, 200);
    agent.new_cookie().await;
    assert_eq!(agent.call("ping", json!({})).await.status, 500);
    let mut info = agent.info("Idle");
    info["type"] = json!("ElasticAgentRuntimeInfo");
    info["elasticAgentId"] = json!("pod-1");
    info["elasticPluginId"] = json!("pod-1");
    let pong = agent
        .call("ping", json!({ "agentRuntimeInfo": info }))
        .await;
    assert_eq!((pong.status, pong.text.as_str()), (200, "\"NONE\""));
}

#[tokio::test]
async fn the_cookie_is_the_one_that_was_given_last() {
    let server = Server::start().await;
    let mut agent = Agent::registered(&server).await;
    let body = agent.body("get_cookie", json!({}));
    let given = answer(agent.request("get_cookie").body(body)).await;
    assert_eq!(given.status, 200);
    assert_eq!(same(&given.media_type), MEDIA_TYPE);
    // Bare text: no quotes, no end of line.
    assert!(uuid::Uuid::parse_str(&given.text).is_ok(), "{given:?}");
    assert_eq!(given.text.len(), 36);

    let first = agent.cookie.replace(given.text);
    let pong = agent.call("ping", json!({})).await;
    assert_eq!((pong.status, pong.text.as_str()), (200, "\"NONE\""));
    assert_eq!(same(&pong.media_type), MEDIA_TYPE);

    for (cookie, word) in [(first, "no longer valid"), (None, "no cookie")] {
        agent.cookie = cookie;
        let refused = agent.call("ping", json!({})).await;
        assert_eq!(refused.status, 500, "{word}");
        let error = refused.json()["error"].as_str().unwrap().to_owned();
        assert!(error.contains(word) && error.contains("cookie"), "{error}");
        assert!(error.contains(&agent.uuid), "{error}");
        // Nobody looks at the cookie here.
        assert_eq!(agent.work().await, json!({ "type": "NoWork" }));
    }
}

#[tokio::test]
async fn a_job_goes_through_its_states() {
    let server = Server::start().await;
    server.add_pipeline().await;
    let agent = Agent::registered(&server).await;
    let state = async || server.job_state(1).await;
    let pair = |state: &str, result: &str| (state.to_owned(), result.to_owned());
    server.trigger().await;
    assert_eq!(state().await, pair("Scheduled", "Unknown"));
    let work = agent.call("get_work", json!({})).await;
    assert_eq!(same(&work.media_type), MEDIA_TYPE);
    let work = work.json();
    assert_eq!(work["type"], "BuildWork");
    let job = work["assignment"]["jobIdentifier"].clone();
    assert_eq!(
        (
            &job["pipelineName"],
            &job["pipelineCounter"],
            &job["stageCounter"],
            &job["buildName"]
        ),
        (&json!("web"), &json!(1), &json!("1"), &json!("unit"))
    );
    assert_eq!(state().await, pair("Assigned", "Unknown"));
    let ignored = agent
        .call("is_ignored", json!({ "jobIdentifier": job }))
        .await;
    assert_eq!((ignored.status, ignored.text.as_str()), (200, "false"));
    for step in ["Preparing", "Building"] {
        let taken = agent.report_state(&job, step).await;
        assert_eq!((taken.status, taken.text.as_str()), (200, ""), "{step}");
        assert_eq!(state().await, pair(step, "Unknown"));
    }

    // Another agent has no say.
    let other = Agent::registered(&server).await;
    let refused = other.report_state(&job, "Completing").await;
    assert_eq!(refused.status, 500);
    assert!(refused.json()["error"].is_string(), "{refused:?}");
    for report in ["report_completing", "report_completed"] {
        let refused = other.report_result(report, &job, "Failed").await;
        assert_eq!(refused.status, 500, "{report}");
    }
    assert_eq!(state().await, pair("Building", "Unknown"));

    let taken = agent
        .report_result("report_completing", &job, "Passed")
        .await;
    assert_eq!((taken.status, taken.text.as_str()), (200, ""));
    assert_eq!(state().await, pair("Completing", "Passed"));
    assert_eq!(agent.report_state(&job, "Completing").await.status, 200);
    let stage = server.json("/api/stages/web/1/build/1").await;
    assert_eq!(stage["result"], "Unknown");
    let taken = agent
        .report_result("report_completed", &job, "Passed")
        .await;
    assert_eq!(taken.status, 200);
    assert_eq!(state().await, pair("Completed", "Passed"));
    let stage = server.json("/api/stages/web/1/build/1").await;
    assert_eq!(stage["result"], "Passed");
    assert_eq!(agent.work().await, json!({ "type": "NoWork" }));
}

#[tokio::test]
async fn a_job_is_handed_out_once_and_again_only_to_replace_a_lost_one() {
    let server = Server::start().await;
    server.add_pipeline().await;
    let agent = Agent::registered(&server).await;
    let other = Agent::registered(&server).await;
    server.trigger().await;
    let first = agent.job().await;
    assert_eq!(other.work().await, json!({ "type": "NoWork" }));
    assert_eq!(agent.report_state(&first, "Building").await.status, 200);

    // Who asks for work has none: the first answer was lost, or the agent started anew.
    let second = agent.job().await;
    assert!(first["buildId"] != second["buildId"], "{second}");
    assert_eq!(second["buildName"], "unit");
    assert_eq!(agent.is_ignored(&first).await, "true");
    assert_eq!(agent.is_ignored(&second).await, "false");
    assert_eq!(other.work().await, json!({ "type": "NoWork" }));
    // What is said about the old one is taken and changes nothing.
    let late = agent
        .report_result("report_completed", &first, "Failed")
        .await;
    assert_eq!(late.status, 200);
    let done = agent
        .report_result("report_completed", &second, "Passed")
        .await;
    assert_eq!(done.status, 200);
    let passed = ("Completed".to_owned(), "Passed".to_owned());
    assert_eq!(server.job_state(1).await, passed);
}

#[tokio::test]
async fn a_cancelled_job_is_ignored_and_its_agent_told_until_it_is_idle() {
    let server = Server::start().await;
    server.add_pipeline().await;
    let agent = Agent::registered(&server).await;
    server.trigger().await;
    let job = agent.job().await;
    assert_eq!(agent.report_state(&job, "Building").await.status, 200);
    assert_eq!(agent.ping("Building").await, "\"NONE\"");
    let cancelled = server.confirm("/api/stages/web/1/build/1/cancel").await;
    assert_eq!(cancelled.status, 200, "{cancelled:?}");
    for status in ["Building", "Building", "Cancelled", "Building"] {
        assert_eq!(agent.ping(status).await, "\"CANCEL\"", "{status}");
    }
    assert_eq!(agent.is_ignored(&job).await, "true");
    let kill = format!("/api/agents/{}/kill_running_tasks", agent.uuid);
    assert_eq!(server.confirm(&kill).await.status, 202);
    assert_eq!(agent.ping("Cancelled").await, "\"KILL_RUNNING_TASKS\"");
    let late = agent
        .report_result("report_completed", &job, "Passed")
        .await;
    assert_eq!(late.status, 200);
    let state = server.job_state(1).await;
    assert_eq!(state, ("Completed".to_owned(), "Cancelled".to_owned()));
    assert_eq!(agent.ping("Idle").await, "\"NONE\"");
    assert_eq!(agent.ping("Building").await, "\"NONE\"");
}

#[tokio::test]
async fn a_waiting_agent_gets_a_job_when_there_is_one() {
    let server = Server::start().await;
    server.add_pipeline().await;
    let agent = Agent::registered(&server).await;
    let started = Instant::now();
    let mut waiting = std::pin::pin!(agent.job());
    // Held, not answered with NoWork.
    let early = tokio::time::timeout(Duration::from_millis(300), &mut waiting).await;
    assert!(early.is_err(), "answered before there was a job");
    let (job, ()) = tokio::join!(waiting, server.trigger());
    assert_eq!(job["pipelineCounter"], 1);
    assert!(started.elapsed() < PATIENCE / 2, "nobody woke it");
}

#[tokio::test]
async fn a_held_ping_brings_a_cancel_as_soon_as_it_is_asked_for() {
    let server = Server::start().await;
    server.add_pipeline().await;
    let agent = Agent::registered(&server).await;
    server.trigger().await;
    let job = agent.job().await;
    agent.report_state(&job, "Building").await;
    let ping = async |status: &str, seconds: u32| {
        let body = agent.body("ping", json!({ "agentRuntimeInfo": agent.info(status) }));
        let wait = format!("wait={seconds}");
        answer(agent.request("ping").header("Prefer", wait).body(body)).await
    };
    // Nobody has anything to tell: it is answered when its time is over.
    assert_eq!(ping("Building", 1).await.text, "\"NONE\"");
    // The server holds no call longer than 20 s, and would answer `NONE` then.
    let mut held = std::pin::pin!(ping("Building", 600));
    let early = tokio::time::timeout(Duration::from_millis(300), &mut held).await;
    assert!(early.is_err(), "{early:?}");
    let cancelled = server.confirm("/api/stages/web/1/build/1/cancel").await;
    assert_eq!(cancelled.status, 200, "{cancelled:?}");
    assert_eq!(held.await.text, "\"CANCEL\"");
}

#[tokio::test]
async fn a_job_goes_to_another_when_the_agent_that_waited_longest_is_gone() {
    let server = Server::start().await;
    server.add_pipeline().await;
    let first = Agent::registered(&server).await;
    let second = Agent::registered(&server).await;
    let third = Agent::registered(&server).await;
    {
        let mut gone = std::pin::pin!(first.job());
        let early = tokio::time::timeout(Duration::from_millis(300), &mut gone).await;
        assert!(early.is_err(), "answered before there was a job");
    }
    let started = Instant::now();
    let (job, ()) = tokio::join!(second.job(), server.trigger());
    assert_eq!(job["pipelineCounter"], 1);
    for action in ["report_completing", "report_completed"] {
        let done = second.report_result(action, &job, "Passed").await;
        assert_eq!(done.status, 200, "{done:?}");
    }
    // What an admin changes counts for an agent that waits already.
    let body = json!({ "resources": ["linux"] });
    let waiting = third.job();
    let path = format!("/api/agents/{}", third.uuid);
    let change = async {
        let changed = server.patch(&path, &body).await;
        assert_eq!(changed.status, 200, "{changed:?}");
        server.trigger().await;
    };
    let (job, ()) = tokio::join!(waiting, change);
    assert_eq!(job["pipelineCounter"], 2);
    assert!(started.elapsed() < PATIENCE, "nobody woke it");
}
