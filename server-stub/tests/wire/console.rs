//! Console PUTs.

use pretty_assertions::assert_eq;
use reqwest::RequestBuilder;
use serde_json::Value;

use crate::{
    agent::Agent,
    server::{Server, answer},
};

const OFFSET: &str = "Journeyman-Console-Offset";
const LENGTH: &str = "Journeyman-Console-Length";

fn path(job: &Value) -> String {
    let id = &job["buildId"];
    format!("/remoting/files/web/1/build/1/unit/cruise-output/console.log?attempt=1&buildId={id}")
}

fn put(agent: &Agent<'_>, job: &Value, text: &str) -> RequestBuilder {
    let url = agent.server.url(&path(job));
    agent
        .signed(agent.server.client.put(url))
        .header("X-Go-Artifact-Size", text.len())
        .header("Content-Type", "text/plain; charset=UTF-8")
        .body(text.to_owned())
}

/// Status and the length the server says it has.
pub(crate) async fn put_at(
    agent: &Agent<'_>,
    job: &Value,
    offset: &str,
    text: &str,
) -> (u16, Option<u64>) {
    let request = put(agent, job, text).header(OFFSET, offset);
    let response = request.send().await.unwrap();
    let length = response.headers().get(LENGTH);
    let length = length.map(|length| length.to_str().unwrap().parse().unwrap());
    (response.status().as_u16(), length)
}

pub(crate) async fn console(server: &Server, query: &str) -> String {
    let path = format!("/files/web/1/build/1/unit/cruise-output/console.log{query}");
    let answer = answer(server.get(&path)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.text
}

#[tokio::test]
async fn bodies_are_appended_byte_for_byte() {
    let server = Server::start().await;
    server.add_pipeline().await;
    let agent = Agent::registered(&server).await;
    server.trigger().await;
    let job = agent.job().await;
    for text in ["one\n", "one\n", "zwei ü\r\n", "no end"] {
        let taken = answer(put(&agent, &job, text)).await;
        assert_eq!((taken.status, taken.text.as_str()), (200, ""), "{text}");
    }
    assert_eq!(console(&server, "").await, "one\none\nzwei ü\r\nno end");
    for (line, rest) in [
        (0, "one\none\nzwei ü\r\nno end"),
        (2, "zwei ü\r\nno end"),
        (3, "no end"),
        (99, ""),
    ] {
        let query = format!("?startLineNumber={line}");
        assert_eq!(console(&server, &query).await, rest, "from line {line}");
    }

    let unsigned = server.client.put(server.url(&path(&job))).body("x");
    assert_eq!(answer(unsigned).await.status, 403);
    for wrong in [
        "web/2/build/1/unit",
        "web/1/build/1/none",
        "no/1/build/1/unit",
    ] {
        let path = format!("/remoting/files/{wrong}/cruise-output/console.log?attempt=1");
        let request = agent.signed(server.client.put(server.url(&path)));
        assert_eq!(answer(request.body("x")).await.status, 404, "{wrong}");
    }
    let too_much = agent
        .signed(server.client.put(server.url(&path(&job))))
        .header("X-Go-Artifact-Size", u64::MAX / 4)
        .body("x");
    assert_eq!(answer(too_much).await.status, 413);
    assert!(console(&server, "").await.ends_with("no end"));
}

#[tokio::test]
async fn with_an_offset_nothing_is_stored_twice_or_left_out() {
    let server = Server::start().await;
    server.add_pipeline().await;
    let agent = Agent::registered(&server).await;
    server.trigger().await;
    let job = agent.job().await;
    let table = [
        ("0", "one\n", (200, Some(4))),
        // The answer was lost, and the same comes again, with more.
        ("0", "one\n", (200, Some(4))),
        ("0", "one\ntwo\n", (200, Some(8))),
        ("4", "two\nthree\n", (200, Some(14))),
        ("2", "e\n", (200, Some(14))),
        // A hole: the answer says where to go on.
        ("15", "four\n", (409, Some(14))),
        ("14", "four\n", (200, Some(19))),
        ("-1", "x", (400, None)),
        ("x", "x", (400, None)),
    ];
    for (offset, text, expected) in table {
        let answered = put_at(&agent, &job, offset, text).await;
        assert_eq!(answered, expected, "{text:?} at {offset}");
    }
    assert_eq!(console(&server, "").await, "one\ntwo\nthree\nfour\n");
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_power_cut() {
    let mut server = Server::start().await;
    server.add_pipeline().await;
    let agent = Agent::registered(&server).await;
    server.trigger().await;
    let job = agent.job().await;
    let (uuid, token) = (agent.uuid.clone(), agent.token.clone());
    let mut whole = String::new();
    for cut in 0..3 {
        for line in 0..20 {
            let text = format!("##|10:00:00.000 cut {cut}, line {line}\n");
            let agent = Agent {
                server: &server,
                uuid: uuid.clone(),
                token: token.clone(),
                cookie: None,
            };
            let offset = whole.len().to_string();
            whole.push_str(&text);
            let length = Some(whole.len() as u64);
            assert_eq!(put_at(&agent, &job, &offset, &text).await, (200, length));
        }
        server.kill_nine_and_restart().await;
        assert_eq!(console(&server, "").await, whole, "after cut {cut}");
    }
    let agent = Agent {
        server: &server,
        uuid,
        token,
        cookie: None,
    };
    // The agent does not know what came through: it sends the last body again.
    let offset = (whole.len() - 5).to_string();
    let answered = put_at(&agent, &job, &offset, &whole[whole.len() - 5..]).await;
    assert_eq!(answered, (200, Some(whole.len() as u64)));
    assert_eq!(console(&server, "").await, whole);
}
