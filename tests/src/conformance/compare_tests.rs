//! That the comparison finds what differs, and lets pass what may.

use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::{case::Case, compare::compare, differences::Meant, recording::Recording};

/// A job with one rule of artifacts that has wildcards, and one test artifact.
fn case() -> Case {
    let plans = json!([
        { "artifactPlanType": "file", "src": "*.txt", "dest": "d" },
        { "artifactPlanType": "unit", "src": "reports", "dest": "testoutput" },
    ]);
    Case {
        job: serde_json::from_value(json!({
            "name": "x", "about": "x", "setup": [], "agent_environment": {},
            "work": { "assignment": { "artifactPlans": plans } },
        }))
        .unwrap(),
        expected: recording(&document()),
        recorded: document().to_string(),
    }
}

/// What was recorded.
fn document() -> Value {
    json!({
        "order": "exact",
        "requests": [
            call("get_cookie", &json!({})),
            call("get_work", &json!({})),
            call("is_ignored", &json!({})),
            call("report_current_status", &json!({ "jobState": "Preparing" })),
            upload("d", "a.txt"),
            upload("d", "b.txt"),
            upload("testoutput", "index.html"),
            call("report_completed", &json!({ "jobResult": "Passed" })),
        ],
        "console_put": {
            "method": "PUT", "path": "/remoting/files/x/console.log", "query": "attempt=1",
            "headers": { "X-Go-Artifact-Size": "17" },
        },
        "console": [
            "##|<T> [go] Job Started: <date>",
            "##|<T> [go] Start to build x",
            "&1|<T> one",
            "&2|<T> two",
            "&1|<T> three",
            "ex|<T> [go] Job completed x",
        ],
        "result": { "reports": ["Preparing", "report_completed:Passed"], "final": "Passed" },
        "files": [{ "path": "a", "type": "dir" }, { "path": "a/b", "type": "file", "size": 1, "sha256": "x" }],
    })
}

fn call(action: &str, body: &Value) -> Value {
    let mut call = json!({
        "method": "POST", "path": format!("/remoting/api/agent/{action}"), "query": "",
        "headers": { "Accept": "application/vnd.go.cd+json" }, "body": body,
    });
    if action.starts_with("report_") {
        call["console_lines_before"] = 2.into();
    }
    call
}

fn upload(dest: &str, name: &str) -> Value {
    let mut entry = json!({ "name": name, "size": 2, "sha256": format!("of {name}") });
    if name == "index.html" {
        entry["visible_text"] = "Tests run: 1".into();
    }
    json!({
        "method": "POST", "path": format!("/remoting/files/web/1/build/1/unit/{dest}"), "query": "",
        "headers": { "X-Go-Artifact-Size": "2" },
        "upload": {
            "parts": [{ "name": "zipfile", "filename": format!("{name}.zip"),
                "content_type": "application/octet-stream", "transfer_encoding": "binary" }],
            "zip": [entry],
            "checksum_comment_lines": 2, "checksum_entries": [format!("{dest}/{name}=0123")],
        },
    })
}

fn recording(document: &Value) -> Recording {
    serde_json::from_value(document.clone()).unwrap()
}

/// The sections in which the agent differs from what was recorded, when these two are compared.
fn sections_of(recorded: &Value, ours: &Value) -> Vec<String> {
    let mut ours = recording(ours);
    if let Some(put) = &mut ours.console_put {
        let size = put.headers.get_mut("x-go-artifact-size").unwrap();
        *size = super::compare::console_size(size, 17);
    }
    compare(&case(), recording(recorded), ours, &Meant::default())
        .into_iter()
        .map(|finding| finding.section)
        .collect()
}

/// The sections in which an agent differs that does what was recorded, but for this change.
fn sections(order: &str, change: impl FnOnce(&mut Value)) -> Vec<String> {
    let mut recorded = document();
    recorded["order"] = order.into();
    let mut ours = recorded.clone();
    change(&mut ours);
    sections_of(&recorded, &ours)
}

fn list<'a>(document: &'a mut Value, name: &str) -> &'a mut Vec<Value> {
    document[name].as_array_mut().unwrap()
}

/// What an agent does otherwise.
type Change = fn(&mut Value);

const NOTHING: [&str; 0] = [];

#[test]
fn the_same_is_no_difference() {
    for order in ["exact", "streams", "any", "lost"] {
        assert_eq!(sections(order, |_| {}), NOTHING, "{order}");
    }
}

#[test]
fn every_line_counts_in_every_order() {
    let changes: &[Change] = &[
        |ours| ours["console"][2] = "&1|<T> One".into(),
        |ours| ours["console"][0] = "##|<T> [go] Job started: <date>".into(),
        |ours| ours["console"][5] = "ex|<T> [go] Job completed y".into(),
        |ours| drop(list(ours, "console").remove(3)),
    ];
    for change in changes {
        assert_eq!(sections("exact", change), ["console (Exact)"]);
        assert_eq!(sections("streams", change), ["console (Streams)"]);
        assert_eq!(sections("any", change), ["console (Any)"]);
        assert_eq!(sections("lost", change), ["console (Lost)"]);
    }
    let more = |ours: &mut Value| list(ours, "console").insert(3, "&1|<T> more".into());
    assert_eq!(sections("exact", more), ["console (Exact)"]);
    assert_eq!(sections("streams", more), ["console (Streams)"]);
    assert_eq!(sections("any", more), ["console (Any)"]);
    assert_eq!(sections("lost", more), NOTHING);
}

#[test]
fn only_what_is_chance_may_change_places() {
    let streams = |ours: &mut Value| list(ours, "console").swap(2, 3);
    assert_eq!(sections("exact", streams), ["console (Exact)"]);
    assert_eq!(sections("streams", streams), NOTHING);
    assert_eq!(sections("any", streams), NOTHING);
    assert_eq!(sections("lost", streams), ["console (Lost)"]);

    let one_stream = |ours: &mut Value| list(ours, "console").swap(2, 4);
    assert_eq!(sections("streams", one_stream), ["console (Streams)"]);
    assert_eq!(sections("any", one_stream), NOTHING);

    let the_last = |ours: &mut Value| list(ours, "console").swap(4, 5);
    assert_eq!(sections("any", the_last), ["console (Any)"]);
    let the_first = |ours: &mut Value| list(ours, "console").swap(0, 1);
    assert_eq!(sections("any", the_first), ["console (Any)"]);
}

#[test]
fn a_very_long_console_is_compared_by_its_digest() {
    let digest = json!({ "lines": 2000, "sha256": "x", "head": ["a"], "tail": ["b"] });
    let mut recorded = document();
    recorded["console_digest"] = digest;
    assert_eq!(sections_of(&recorded, &document()), ["console_digest"]);
    let mut ours = recorded.clone();
    assert_eq!(sections_of(&recorded, &ours), NOTHING);
    ours["console_digest"]["sha256"] = "y".into();
    assert_eq!(sections_of(&recorded, &ours), ["console_digest"]);
}

#[test]
fn requests_may_not_be_missing_more_or_elsewhere() {
    let changes: &[Change] = &[
        |ours| drop(list(ours, "requests").remove(4)),
        |ours| {
            let again = ours["requests"][2].clone();
            list(ours, "requests").insert(3, again);
        },
        |ours| list(ours, "requests").swap(2, 3),
        |ours| list(ours, "requests").swap(5, 6),
        |ours| ours["requests"][4]["query"] = "attempt=2".into(),
        |ours| ours["requests"][4]["answered"] = 500.into(),
    ];
    for change in changes {
        assert_eq!(sections("exact", change), ["requests"]);
    }
    // Before and after the job, and inside of one rule.
    let others: &[Change] = &[
        |ours| {
            let again = ours["requests"][1].clone();
            list(ours, "requests").insert(1, again);
        },
        |ours| {
            let idle = ours["requests"][1].clone();
            list(ours, "requests").push(idle);
        },
        |ours| list(ours, "requests").swap(4, 5),
    ];
    for change in others {
        assert_eq!(sections("exact", change), NOTHING);
    }
}

#[test]
fn every_part_of_a_request_counts() {
    let cookie = "request get_cookie";
    let a = "request POST /remoting/files/web/1/build/1/unit/d";
    let report = "request POST /remoting/api/agent/report_completed Passed";
    let changes: &[(&str, Change)] = &[
        (cookie, |ours| ours["requests"][0]["body"]["x"] = 1.into()),
        (a, |ours| {
            ours["requests"][4]["headers"]["X-Other"] = "1".into()
        }),
        (a, |ours| {
            ours["requests"][4]["headers"]["X-Go-Artifact-Size"] = "3".into()
        }),
        (a, |ours| {
            ours["requests"][4]["upload"]["parts"][0]["filename"] = "x".into()
        }),
        (a, |ours| {
            ours["requests"][4]["upload"]["zip"][0]["sha256"] = "x".into()
        }),
        (a, |ours| {
            ours["requests"][4]["upload"]["checksum_comment_lines"] = 1.into()
        }),
        (a, |ours| {
            ours["requests"][4]["upload"]["checksum_entries"][0] = "x".into()
        }),
        (report, |ours| ours["requests"][7]["body"]["x"] = 1.into()),
        (report, |ours| {
            ours["requests"][7]["console_lines_before"] = 1.into()
        }),
    ];
    for (section, change) in changes {
        assert_eq!(sections("exact", change), [*section]);
    }
    // Lines may come sooner; the case of a header's name is free.
    let sooner = |ours: &mut Value| ours["requests"][7]["console_lines_before"] = 3.into();
    assert_eq!(sections("exact", sooner), NOTHING);
    let lower = |ours: &mut Value| {
        ours["requests"][0]["headers"] = json!({ "accept": "application/vnd.go.cd+json" });
    };
    assert_eq!(sections("exact", lower), NOTHING);
}

#[test]
fn only_the_mark_up_of_the_test_report_is_free() {
    let other_mark_up = |ours: &mut Value, text: &str| {
        let page = &mut ours["requests"][6];
        page["headers"]["X-Go-Artifact-Size"] = "9".into();
        page["upload"]["zip"][0] =
            json!({ "name": "index.html", "size": 9, "sha256": "y", "visible_text": text });
        page["upload"]["checksum_entries"][0] = "testoutput/index.html=4567".into();
    };
    let same = |ours: &mut Value| other_mark_up(ours, "Tests run: 1");
    assert_eq!(sections("exact", same), NOTHING);
    let other = |ours: &mut Value| other_mark_up(ours, "Tests run: 2");
    let page = "request POST /remoting/files/web/1/build/1/unit/testoutput";
    assert_eq!(sections("exact", other), [page]);
}

#[test]
fn the_text_about_an_answer_of_500_is_free() {
    let mut recorded = document();
    recorded["requests"][3]["answered"] = 500.into();
    recorded["console"][3] = "&2|<T> org.apache.http.client.ClientProtocolException: x".into();
    let with_line = |line: &str| {
        let mut ours = recorded.clone();
        ours["console"][3] = line.into();
        sections_of(&recorded, &ours)
    };
    assert_eq!(with_line("&2|<T> the server answered 500"), NOTHING);
    assert_eq!(with_line("&2|<T> "), ["console (Exact)"]);
    assert_eq!(
        with_line("&1|<T> the server answered 500"),
        ["console (Exact)"]
    );
    // Not where nothing was answered with 500.
    recorded["requests"][3] = document()["requests"][3].clone();
    let mut ours = recorded.clone();
    ours["console"][3] = "&2|<T> other".into();
    assert_eq!(sections_of(&recorded, &ours), ["console (Exact)"]);
}

#[test]
fn the_first_upload_of_lines_the_result_and_what_is_left_count() {
    let changes: &[(&str, Change)] = &[
        ("console_put", |ours| ours["console_put"] = Value::Null),
        ("console_put", |ours| {
            ours["console_put"]["query"] = "".into()
        }),
        ("console_put", |ours| {
            ours["console_put"]["headers"]["X-Go-Artifact-Size"] = "18".into();
        }),
        ("result", |ours| ours["result"]["final"] = Value::Null),
        ("result", |ours| {
            drop(list(&mut ours["result"], "reports").pop())
        }),
        ("files", |ours| ours["files"][1]["sha256"] = "y".into()),
        ("files", |ours| {
            ours["files"][0] = json!({ "path": "a", "type": "link", "target": "b" })
        }),
        ("files", |ours| drop(list(ours, "files").pop())),
        ("files", |ours| {
            list(ours, "files").push(json!({ "path": "c", "type": "dir" }))
        }),
    ];
    for (section, change) in changes {
        assert_eq!(sections("exact", change), [*section]);
    }
}
