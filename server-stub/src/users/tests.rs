//! A real server with a login, spoken to by HTTP.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use pretty_assertions::assert_eq;
use reqwest::{Client, Method, RequestBuilder, Response, redirect::Policy};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};

use super::{Login, Password, store};
use crate::{
    clock::ManualClock,
    scheduling::tests::{Scene, serve},
};

mod published;

const PASSWORD: &str = "of the first admin";
const YAML: &str = "format_version: 11
pipelines:
  web:
    group: apps
    materials: { src: { type: configrepo } }
    stages: [ { build: { approval: manual, jobs: { unit: { tasks: [ { script: make } ] } } } } ]
  vault:
    group: secrets
    materials: { src: { type: configrepo } }
    stages: [ { build: { approval: manual, jobs: { unit: { tasks: [ { script: make } ] } } } } ]
";

/// A server with users: `admin`, and one for each role in the group `apps` (`viewer`, `operator`),
/// in all groups (`auditor` may see all), and in none (`nobody`).
struct People {
    scene: Scene,
    clock: Arc<ManualClock>,
    client: Client,
}

/// How a request says who it is from.
enum As<'a> {
    Nobody,
    User(&'a str),
    Password(&'a str, &'a str),
    Token(&'a str),
    Session(&'a str),
}

impl People {
    async fn new() -> Self {
        let now: Timestamp = "2031-05-06T07:08:09Z".parse().unwrap();
        let clock = Arc::new(ManualClock::new(now));
        let login = Login::On {
            admin_password: Some(SecretString::from(PASSWORD)),
            password_file: None,
        };
        let scene = Scene::started(YAML, login, clock.clone()).await;
        let app = scene.app();
        let password = Password::new(SecretString::from(PASSWORD)).unwrap();
        let hash = password.hash().await.unwrap();
        let mut write = app.database.write().await.unwrap();
        for (name, roles) in [
            ("viewer", "view:apps"),
            ("operator", "operate:Apps"),
            ("auditor", "view"),
            ("nobody", ""),
        ] {
            let roles: Vec<_> = roles
                .split_whitespace()
                .map(|one| one.parse().unwrap())
                .collect();
            store::set_password(&mut write, name, &hash, 0)
                .await
                .unwrap();
            store::set_rights(&mut write, name, &roles).await.unwrap();
        }
        write.commit().await.unwrap();
        let client = Client::builder().redirect(Policy::none()).build().unwrap();
        Self {
            scene,
            clock,
            client,
        }
    }

    fn request(&self, who: &As<'_>, method: &str, path: &str) -> RequestBuilder {
        let url = format!("{}{path}", self.scene.app().endpoints.http_url);
        let method: Method = method.parse().unwrap();
        let request = self.client.request(method, url);
        match who {
            As::Nobody => request,
            As::User(name) => request.basic_auth(name, Some(PASSWORD)),
            As::Password(name, password) => request.basic_auth(name, Some(password)),
            As::Token(token) => request.header("Authorization", format!("bEaReR {token}")),
            As::Session(id) => request.header("Cookie", format!("a=b; JSESSIONID={id}; c=d")),
        }
    }

    async fn status(&self, who: As<'_>, method: &str, path: &str) -> u16 {
        let request = self.request(&who, method, path);
        let request = if method == "GET" {
            request
        } else {
            request.header("X-GoCD-Confirm", "true")
        };
        request.send().await.unwrap().status().as_u16()
    }

    async fn json(&self, who: As<'_>, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let request = self.request(&who, method, path);
        let request = if body.is_null() {
            request.header("X-GoCD-Confirm", "true")
        } else {
            request.json(body)
        };
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        (status, response.json().await.unwrap_or_default())
    }

    /// Sends the login form.
    async fn log_in(&self, name: &str, password: &str, earlier: Option<&str>) -> Response {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.append_pair("j_username", name)
            .append_pair("j_password", password)
            .append_pair("to", "/go/agents");
        let who = earlier.map_or(As::Nobody, As::Session);
        self.request(&who, "POST", "/auth/security_check")
            .header("Content-Type", "application/x-www-form-urlencoded")
            .body(form.finish())
            .send()
            .await
            .unwrap()
    }

    /// The id of a new session.
    async fn session(&self, name: &str) -> String {
        let response = self.log_in(name, PASSWORD, None).await;
        assert_eq!(response.status(), 303);
        cookie(&response)
    }

    async fn form(&self, session: &str, path: &str, body: &str) -> u16 {
        let request = self.request(&As::Session(session), "POST", path);
        let request = request.header("Content-Type", "application/x-www-form-urlencoded");
        request
            .body(body.to_owned())
            .send()
            .await
            .unwrap()
            .status()
            .as_u16()
    }
}

fn cookie(response: &Response) -> String {
    let header = response.headers()["set-cookie"].to_str().unwrap();
    let pair = header.split(';').next().unwrap();
    pair.strip_prefix("JSESSIONID=").unwrap().to_owned()
}

fn field(page: &str) -> String {
    let (_, rest) = page.split_once("name=\"csrf\" value=\"").unwrap();
    rest.split_once('"').unwrap().0.to_owned()
}

#[tokio::test]
async fn each_role_may_what_it_may() {
    let people = People::new().await;
    people.scene.agent("a", &[], &[]).await;
    assert_eq!(
        people
            .status(As::User("admin"), "POST", "/api/pipelines/web/schedule")
            .await,
        202
    );
    assert_eq!(
        people
            .status(As::User("admin"), "POST", "/api/pipelines/vault/schedule")
            .await,
        202
    );
    let stage = "/api/stages/web/1/build/1";
    let console = |run: i64| format!("/api/journeyman/consoles/{run}");
    let (job, other) = (console(1), console(2));
    // Statuses for nobody in particular, and the users nobody, viewer, operator, auditor, admin.
    let table: [(&str, &str, [u16; 6]); 27] = [
        ("GET", "/api/version", [200; 6]),
        ("GET", "/api/v1/health", [200; 6]),
        ("GET", "/assets/style.css", [200; 6]),
        ("GET", "/nothing/here", [404; 6]),
        ("GET", "/api/current_user", [401, 200, 200, 200, 200, 200]),
        ("GET", "/api/agents", [401, 403, 200, 200, 200, 200]),
        ("GET", "/agents", [303, 403, 200, 200, 200, 200]),
        ("POST", "/agents/a/disable", [303, 403, 403, 403, 403, 303]),
        (
            "POST",
            "/api/agents/a/kill_running_tasks",
            [401, 403, 403, 403, 403, 409],
        ),
        ("DELETE", "/api/agents/none", [401, 403, 403, 403, 403, 404]),
        ("GET", "/pipelines", [303, 403, 200, 200, 200, 200]),
        (
            "GET",
            "/api/pipelines/web/history",
            [401, 403, 200, 200, 200, 200],
        ),
        (
            "GET",
            "/api/pipelines/VAULT/history",
            [401, 403, 403, 403, 200, 200],
        ),
        (
            "GET",
            "/api/pipelines/none/history",
            [401, 403, 404, 404, 404, 404],
        ),
        (
            "GET",
            "/api/pipelines/%76ault/1",
            [401, 403, 403, 403, 200, 200],
        ),
        ("GET", stage, [401, 403, 200, 200, 200, 200]),
        (
            "GET",
            "/pipelines/vault/1/build/1",
            [303, 403, 403, 403, 200, 200],
        ),
        ("GET", &job, [401, 403, 200, 200, 200, 200]),
        ("GET", &other, [401, 403, 403, 403, 200, 200]),
        (
            "GET",
            "/files/web/1/build/1/unit.json",
            [401, 403, 200, 200, 200, 200],
        ),
        (
            "GET",
            "/files//vault/1/build/1/unit.json",
            [401, 403, 403, 403, 200, 200],
        ),
        (
            "GET",
            "/files/./%76ault/1/build/1/unit.json",
            [401, 403, 403, 403, 200, 200],
        ),
        (
            "PUT",
            "/files/vault/1/build/1/unit/x",
            [401, 403, 403, 403, 403, 200],
        ),
        (
            "GET",
            "/api/admin/config_repos",
            [401, 403, 403, 403, 403, 200],
        ),
        (
            "GET",
            "/api/journeyman/audit",
            [401, 403, 403, 403, 403, 200],
        ),
        (
            "GET",
            "/api/journeyman/users",
            [401, 403, 403, 403, 403, 200],
        ),
        (
            "POST",
            "/api/stages/web/1/build/1/cancel",
            [401, 403, 403, 200, 403, 200],
        ),
    ];
    for (method, path, expected) in table {
        let mut got = vec![people.status(As::Nobody, method, path).await];
        for user in ["nobody", "viewer", "operator", "auditor", "admin"] {
            got.push(people.status(As::User(user), method, path).await);
        }
        assert_eq!(got, expected, "{method} {path}");
    }
    for (user, seen, unseen) in [("viewer", "web", Some("vault")), ("auditor", "vault", None)] {
        for path in ["/pipelines", "/api/journeyman/pipelines"] {
            let response = people
                .request(&As::User(user), "GET", path)
                .send()
                .await
                .unwrap();
            let text = response.text().await.unwrap();
            assert!(text.contains(seen), "{path}: {text}");
            assert!(
                unseen.is_none_or(|name| !text.contains(name)),
                "{path}: {text}"
            );
        }
    }
    let run = people
        .json(
            As::User("viewer"),
            "GET",
            "/api/pipelines/web/1",
            &Value::Null,
        )
        .await
        .1;
    assert_eq!(run["build_cause"]["approver"], "admin");
}

#[tokio::test]
async fn agents_need_no_login() {
    let people = People::new().await;
    // Refused for their own reasons, and by their own means.
    for (method, path, expected) in [
        ("POST", "/remoting/api/agent/ping", 403),
        ("GET", "/remoting/files/web/1/build/1/unit.json", 403),
        ("GET", "/admin/agent/token", 409),
        ("POST", "/admin/journeyman/release", 400),
    ] {
        let response = people
            .request(&As::Nobody, method, path)
            .send()
            .await
            .unwrap();
        assert_eq!(response.status().as_u16(), expected, "{path}");
        assert!(
            !response.headers().contains_key("www-authenticate"),
            "{path}"
        );
    }
}

#[tokio::test]
async fn who_is_not_known_is_told_as_gocd_tells() {
    let people = People::new().await;
    let send = async |who: As<'_>, path: &str, xhr: bool| {
        let mut request = people.request(&who, "GET", path);
        if xhr {
            request = request.header("X-Requested-With", "XMLHttpRequest");
        }
        let response = request.send().await.unwrap();
        let header = |name: &str| {
            response
                .headers()
                .get(name)
                .map(|value| value.to_str().unwrap().to_owned())
        };
        let (challenge, location) = (header("www-authenticate"), header("location"));
        let status = response.status().as_u16();
        (status, challenge, location, response.text().await.unwrap())
    };
    let challenge = Some("Basic realm=\"GoCD\"".to_owned());
    let wrong = || As::Password("admin", "not the password");
    for who in [As::Nobody, wrong()] {
        let (status, told, _, body) = send(who, "/api/agents", false).await;
        assert_eq!((status, told), (401, challenge.clone()));
        assert_eq!(body, "{\"message\":\"You are not authenticated!\"}");
    }
    let (status, told, ..) = send(As::Nobody, "/api/agents", true).await;
    assert_eq!((status, told), (401, None));
    let (status, told, ..) = send(As::Token("0000"), "/api/agents", false).await;
    assert_eq!((status, told), (401, None));
    let (status, _, location, _) = send(As::Nobody, "/agents?x=1", false).await;
    assert_eq!(
        (status, location.as_deref()),
        (303, Some("/go/auth/login?to=%2Fgo%2Fagents%3Fx%3D1"))
    );
    // An unknown user and a wrong password are told the same.
    let (unknown, known) = (
        send(As::User("who"), "/api/agents", false).await,
        send(wrong(), "/api/agents", false).await,
    );
    assert_eq!(unknown, known);
    let (status, .., body) = send(As::User("viewer"), "/api/journeyman/users", false).await;
    assert_eq!(
        (status, body.as_str()),
        (
            403,
            "{\"message\":\"You are not authorized to perform this action.\"}"
        )
    );
}

#[tokio::test]
async fn a_page_of_an_artifact_drives_nothing() {
    let people = People::new().await;
    let session = people.session("admin").await;
    let request = people.request(&As::Session(&session), "GET", "/api/agents");
    let url = &people.scene.app().endpoints.http_url;
    let referer = format!("{url}/files/web/1/build/1/unit/report.html");
    let response = request.header("Referer", referer).send().await.unwrap();
    assert_eq!(response.status(), 400);
    people
        .status(As::User("admin"), "POST", "/api/pipelines/web/schedule")
        .await;
    let path = "/files/web/1/build/1/unit.json";
    let response = people
        .request(&As::User("admin"), "GET", path)
        .send()
        .await
        .unwrap();
    let policy = response.headers()["content-security-policy"]
        .to_str()
        .unwrap();
    assert!(
        policy.starts_with("sandbox") && !policy.contains("same-origin"),
        "{policy}"
    );
}

#[tokio::test]
async fn a_session_is_opened_by_the_form_and_closed() {
    let people = People::new().await;
    let wrong = people.log_in("admin", "not the password", None).await;
    assert_eq!(wrong.status(), 401);
    assert!(!wrong.headers().contains_key("set-cookie"));
    let page = wrong.text().await.unwrap();
    assert!(
        page.contains("The name or the password is wrong.") && !page.contains("not the password")
    );

    let response = people.log_in("Admin", PASSWORD, None).await;
    assert_eq!(
        (
            response.status().as_u16(),
            response.headers()["location"].to_str().unwrap()
        ),
        (303, "/go/agents")
    );
    let header = response.headers()["set-cookie"]
        .to_str()
        .unwrap()
        .to_owned();
    assert!(
        header.contains("HttpOnly") && header.contains("SameSite=Lax"),
        "{header}"
    );
    assert!(!header.contains("Secure"), "{header}");
    let session = cookie(&response);

    // What a browser had before is not what it has now, and is worth nothing.
    let again = people.log_in("admin", PASSWORD, Some(&session)).await;
    let fresh = cookie(&again);
    assert_ne!(fresh, session);
    assert_eq!(
        people.status(As::Session(&session), "GET", "/agents").await,
        303
    );
    let given = people
        .log_in("admin", PASSWORD, Some("chosen-by-somebody-else"))
        .await;
    assert_ne!(cookie(&given), "chosen-by-somebody-else");
    assert_eq!(
        people
            .status(As::Session("chosen-by-somebody-else"), "GET", "/agents")
            .await,
        303
    );

    let response = people
        .request(&As::Session(&fresh), "GET", "/agents")
        .send()
        .await
        .unwrap();
    let page = response.text().await.unwrap();
    assert!(page.contains("Log out") && page.contains("admin"), "{page}");
    let token = field(&page);
    assert_eq!(people.form(&fresh, "/auth/logout", "").await, 403);
    assert_eq!(
        people
            .form(&fresh, "/auth/logout", &format!("csrf={token}"))
            .await,
        303
    );
    assert_eq!(
        people.status(As::Session(&fresh), "GET", "/agents").await,
        303
    );
}

#[tokio::test]
async fn a_session_ends_by_time_and_with_its_password() {
    let people = People::new().await;
    let session = people.session("viewer").await;
    let seen = async |id: &str| people.status(As::Session(id), "GET", "/agents").await;
    let hours = |count: u64| people.clock.advance(Duration::from_secs(count * 3600));
    for _ in 0..3 {
        hours(11);
        assert_eq!(seen(&session).await, 200);
    }
    hours(12);
    assert_eq!(seen(&session).await, 303);
    let session = people.session("viewer").await;
    for _ in 0..16 {
        hours(10);
        assert_eq!(seen(&session).await, 200);
    }
    hours(10);
    assert_eq!(seen(&session).await, 303, "7 days are over");

    let session = people.session("viewer").await;
    let path = "/api/journeyman/users/viewer";
    let body = json!({ "password": "another password" });
    assert_eq!(
        people.json(As::User("admin"), "PUT", path, &body).await.0,
        200
    );
    assert_eq!(seen(&session).await, 303);
    assert_eq!(
        people
            .status(As::User("viewer"), "GET", "/api/agents")
            .await,
        401
    );
    assert_eq!(
        people
            .status(
                As::Password("viewer", "another password"),
                "GET",
                "/api/agents"
            )
            .await,
        200
    );
}

#[tokio::test]
async fn a_form_of_a_session_must_be_ours() {
    let people = People::new().await;
    people.scene.agent("a", &[], &[]).await;
    let (session, other) = (people.session("admin").await, people.session("admin").await);
    let page = async |id: &str| {
        let response = people
            .request(&As::Session(id), "GET", "/agents")
            .send()
            .await
            .unwrap();
        response.text().await.unwrap()
    };
    let (token, foreign) = (field(&page(&session).await), field(&page(&other).await));
    assert_ne!(token, foreign);
    for body in ["", "csrf=", "csrf=abc", &format!("csrf={foreign}")] {
        assert_eq!(
            people.form(&session, "/agents/a/disable", body).await,
            403,
            "{body}"
        );
    }
    // The API takes a session's writes by the same rule.
    let write = |name: &'static str, value: String| {
        let request = people.request(
            &As::Session(&session),
            "POST",
            "/api/pipelines/web/schedule",
        );
        request
            .header("X-GoCD-Confirm", "true")
            .header(name, value)
            .send()
    };
    assert_eq!(write("X-Other", token.clone()).await.unwrap().status(), 403);
    assert_eq!(
        write("X-CSRF-Token", token.clone()).await.unwrap().status(),
        202
    );
    assert_eq!(
        people
            .form(&session, "/agents/a/disable", &format!("csrf={token}"))
            .await,
        303
    );
    assert!(page(&session).await.contains("Enable"));
}

#[tokio::test]
async fn a_form_with_files_of_a_session_begins_with_the_field() {
    let people = People::new().await;
    let path = "/api/pipelines/web/schedule";
    let status = people.status(As::User("admin"), "POST", path).await;
    assert_eq!(status, 202);
    let agent = people.scene.agent("a", &[], &[]).await;
    let job = people.scene.take(&agent).await;
    let session = people.session("admin").await;
    let page = people.request(&As::Session(&session), "GET", "/agents");
    let token = field(&page.send().await.unwrap().text().await.unwrap());
    // As a browser sends a form without a script: fields in their order, and no header of ours.
    let send = async |name: &str, parts: &[(&str, &str)]| {
        let mut form = reqwest::multipart::Form::new();
        for (field, text) in parts {
            let part = reqwest::multipart::Part::text((*text).to_owned());
            let part = match *field {
                "file" => part.file_name("x"),
                _ => part,
            };
            form = form.part((*field).to_owned(), part);
        }
        let path = format!("/files/{}/{name}", job.locator());
        let request = people.request(&As::Session(&session), "POST", &path);
        request
            .multipart(form)
            .send()
            .await
            .unwrap()
            .status()
            .as_u16()
    };
    let large = "x".repeat(300_000);
    for (name, content) in [("small.txt", "abc"), ("large.txt", large.as_str())] {
        let parts = [("csrf", token.as_str()), ("file", content)];
        assert_eq!(send(name, &parts).await, 201, "{name}");
    }
    let path = format!("/files/{}/large.txt", job.locator());
    let stored = people.request(&As::Session(&session), "GET", &path);
    assert_eq!(stored.send().await.unwrap().text().await.unwrap(), large);
    let wrong: [&[(&str, &str)]; 5] = [
        &[("file", "abc"), ("csrf", &token)],
        &[("csrf", "abc"), ("file", "abc")],
        &[("file", "abc")],
        &[("csrf", &large), ("file", "abc")],
        &[],
    ];
    for parts in wrong {
        assert_eq!(send("no.txt", parts).await, 403);
    }
}

#[tokio::test]
async fn tokens_are_shown_once_and_revoked() {
    let people = People::new().await;
    let root = "/api/current_user/access_tokens";
    let asked = json!({ "description": "ci bot" });
    let (status, made) = people.json(As::User("viewer"), "POST", root, &asked).await;
    assert_eq!(status, 200, "{made}");
    let token = made["token"].as_str().unwrap().to_owned();
    let id = made["id"].as_i64().unwrap();
    assert_eq!(made["created_at"], "2031-05-06T07:08:09Z");
    assert_eq!(
        people.status(As::Token(&token), "GET", "/api/agents").await,
        200
    );
    assert_eq!(
        people
            .status(As::Token(&token), "GET", "/api/pipelines/vault/history")
            .await,
        403
    );
    // Not on pages, and not to make others.
    assert_eq!(
        people.status(As::Token(&token), "GET", "/agents").await,
        401
    );
    assert_eq!(
        people.json(As::Token(&token), "POST", root, &asked).await.0,
        403
    );
    let (_, listed) = people
        .json(As::User("viewer"), "GET", root, &Value::Null)
        .await;
    assert!(!listed.to_string().contains(&token));
    assert_eq!(
        listed["_embedded"]["access_tokens"][0]["last_used_at"],
        "2031-05-06T07:08:09Z"
    );
    let stored: Vec<String> = sqlx::query_scalar("SELECT token_hash FROM access_tokens")
        .fetch_all(people.scene.app().database.readers())
        .await
        .unwrap();
    assert!(stored.iter().all(|stored| *stored != token));

    // Another user's is not there.
    let own = format!("{root}/{id}");
    assert_eq!(
        people
            .json(As::User("operator"), "GET", &own, &Value::Null)
            .await
            .0,
        404
    );
    assert_eq!(
        people
            .json(
                As::User("viewer"),
                "GET",
                &format!("{root}?filter=some"),
                &Value::Null
            )
            .await
            .0,
        400
    );
    let revoke = format!("/api/admin/access_tokens/{id}/revoke");
    assert_eq!(
        people
            .json(As::User("viewer"), "POST", &revoke, &Value::Null)
            .await
            .0,
        403
    );
    let cause = json!({ "revoke_cause": "lost" });
    let (status, revoked) = people
        .json(As::User("admin"), "POST", &revoke, &cause)
        .await;
    assert_eq!(
        (status, &revoked["revoked_by"], &revoked["revoke_cause"]),
        (200, &json!("admin"), &json!("lost"))
    );
    assert_eq!(
        people
            .json(As::User("admin"), "POST", &revoke, &cause)
            .await
            .0,
        422
    );
    assert_eq!(
        people.status(As::Token(&token), "GET", "/api/agents").await,
        401
    );

    // With its user a token goes for good.
    let made = people
        .json(As::User("viewer"), "POST", root, &asked)
        .await
        .1;
    let token = made["token"].as_str().unwrap();
    let user = "/api/journeyman/users/viewer";
    assert_eq!(
        people
            .json(As::User("admin"), "DELETE", user, &Value::Null)
            .await
            .0,
        200
    );
    let body = json!({ "password": PASSWORD, "roles": [{ "role": "view" }] });
    assert_eq!(
        people.json(As::User("admin"), "PUT", user, &body).await.0,
        200
    );
    assert_eq!(
        people.status(As::Token(token), "GET", "/api/agents").await,
        401
    );
}

#[tokio::test]
async fn wrong_passwords_are_heard_five_times_a_minute() {
    let people = People::new().await;
    let wrong = || As::Password("viewer", "not the password");
    for _ in 0..5 {
        assert_eq!(people.status(wrong(), "GET", "/api/agents").await, 401);
    }
    for who in [wrong(), As::User("viewer")] {
        let response = people
            .request(&who, "GET", "/api/agents")
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), 429);
        assert_eq!(response.headers()["retry-after"], "60");
    }
    assert_eq!(people.log_in("viewer", PASSWORD, None).await.status(), 429);
    assert_eq!(
        people
            .status(As::User("operator"), "GET", "/api/agents")
            .await,
        200
    );
    people.clock.advance(Duration::from_secs(60));
    assert_eq!(
        people
            .status(As::User("viewer"), "GET", "/api/agents")
            .await,
        200
    );
}

#[tokio::test]
async fn changes_are_in_the_audit_log() {
    let people = People::new().await;
    people.scene.agent("a", &[], &[]).await;
    let body = json!({ "agent_config_state": "Disabled" });
    people
        .json(As::User("admin"), "PATCH", "/api/agents/a", &body)
        .await;
    people
        .json(As::User("viewer"), "PATCH", "/api/agents/a", &body)
        .await;
    people
        .status(As::User("operator"), "POST", "/api/pipelines/web/schedule")
        .await;
    people
        .status(As::User("operator"), "POST", "/api/pipelines/web/schedule")
        .await;
    let user = json!({ "new": true, "password": "secret password", "roles": [{ "role": "operate", "group": "apps" }] });
    people
        .json(As::User("admin"), "PUT", "/api/journeyman/users/eve", &user)
        .await;
    let (_, log) = people
        .json(
            As::User("admin"),
            "GET",
            "/api/journeyman/audit",
            &Value::Null,
        )
        .await;
    let entries = log["entries"].as_array().unwrap().iter();
    let told: Vec<String> = entries
        .map(|entry| {
            let text = |name: &str| entry[name].as_str().unwrap();
            format!(
                "{} {} {} {}",
                text("actor"),
                entry["status"],
                text("action"),
                text("detail")
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            "admin 200 PUT /go/api/journeyman/users/eve a new password; roles: operate:apps",
            "operator 202 POST /go/api/pipelines/web/schedule run 1",
            "viewer 403 PATCH /go/api/agents/a ",
            "admin 200 PATCH /go/api/agents/a {\"agent_config_state\":\"Disabled\"}",
        ]
    );
    assert!(!log.to_string().contains("secret password"));
}

#[tokio::test]
async fn users_are_made_by_admins_only_with_good_passwords() {
    let people = People::new().await;
    let path = "/api/journeyman/users/eve";
    for (body, expected) in [
        (json!({ "roles": [{ "role": "view" }] }), 404),
        (json!({ "password": "short" }), 422),
        (json!({ "password": 12345678 }), 422),
        (json!({ "passwort": "a long password" }), 422),
        (
            json!({ "password": "a long password", "roles": [{ "role": "root" }] }),
            422,
        ),
        (json!({ "new": true, "password": "a long password" }), 200),
        (json!({ "new": true, "password": "a long password" }), 422),
        (json!({ "roles": [{ "role": "view" }] }), 200),
    ] {
        assert_eq!(
            people.json(As::User("admin"), "PUT", path, &body).await.0,
            expected,
            "{body}"
        );
    }
    assert_eq!(
        people
            .status(As::Password("EVE", "a long password"), "GET", "/api/agents")
            .await,
        200
    );
    for name in ["local", "anonymous", "a%20b"] {
        let path = format!("/api/journeyman/users/{name}");
        let body = json!({ "password": "a long password" });
        assert_eq!(
            people.json(As::User("admin"), "PUT", &path, &body).await.0,
            422,
            "{name}"
        );
    }
    let (_, users) = people
        .json(As::User("admin"), "GET", "/api/users", &Value::Null)
        .await;
    assert_eq!(users["_embedded"]["users"].as_array().unwrap().len(), 6);
}

#[tokio::test]
async fn the_first_start_makes_an_admin_and_later_ones_do_not() {
    let data = tempfile::tempdir().unwrap();
    let file = data.path().join("passwords");
    let hash = Password::new(SecretString::from("out of a file"))
        .unwrap()
        .hash()
        .await
        .unwrap();
    std::fs::write(&file, format!("fay:{hash}\nbroken:$2y$99$x\n")).unwrap();
    let login = || Login::On {
        admin_password: None,
        password_file: Some(file.clone()),
    };
    let clock = || Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
    let folder = data.path().join("data");
    let running = serve(&folder, login(), clock()).await;
    let password = running.first_password.clone().unwrap();
    let call = async |url: &str, name: &str, password: &str| {
        let request = Client::new().get(format!("{url}/api/current_user"));
        request
            .basic_auth(name, Some(password))
            .send()
            .await
            .unwrap()
            .status()
            .as_u16()
    };
    let url = running.app.endpoints.http_url.clone();
    assert_eq!(call(&url, "admin", password.expose_secret()).await, 200);
    assert_eq!(call(&url, "fay", "out of a file").await, 200);
    assert_eq!(call(&url, "broken", "out of a file").await, 401);
    let token = running.app.paths.command_line_token();
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&token).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let token = std::fs::read_to_string(token).unwrap();
    running.stop().await;

    // It is stored nowhere: not even in what was written and overwritten.
    for entry in std::fs::read_dir(&folder).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        assert!(!text.contains(password.expose_secret()));
    }
    let running = serve(&folder, login(), clock()).await;
    assert!(running.first_password.is_none());
    let url = running.app.endpoints.http_url.clone();
    assert_eq!(call(&url, "admin", password.expose_secret()).await, 200);
    let request = Client::new().get(format!("{url}/api/journeyman/users"));
    let response = request.bearer_auth(token.trim()).send().await.unwrap();
    assert_eq!(
        response.status(),
        200,
        "the command line's token outlives a restart"
    );
    // Who leaves the file is out.
    std::fs::write(&file, "").unwrap();
    assert_eq!(call(&url, "fay", "out of a file").await, 401);
    running.stop().await;
}

#[tokio::test]
async fn users_say_how_they_are_reached() {
    let people = People::new().await;
    let path = "/api/current_user";
    let who = || As::User("viewer");
    let table = [
        (json!({ "email": "v@example.org", "email_me": true }), 200),
        (json!({ "checkin_aliases": "vi, V. Ewer" }), 200),
        (json!({ "email": "nowhere" }), 422),
        (json!({ "email_me": "yes" }), 422),
    ];
    for (body, status) in table {
        let (answered, document) = people.json(who(), "PATCH", path, &body).await;
        assert_eq!(answered, status, "{body}: {document}");
    }
    let (_, shown) = people.json(who(), "GET", path, &Value::Null).await;
    assert_eq!(shown["email"], "v@example.org");
    assert_eq!(shown["email_me"], true);
    assert_eq!(shown["checkin_aliases"], json!(["vi", "V. Ewer"]));
    let admin = As::User("admin");
    let (_, seen) = people
        .json(admin, "GET", "/api/users/viewer", &Value::Null)
        .await;
    assert_eq!(seen["email"], "v@example.org");
    assert_eq!(seen["is_admin"], false);
}

#[tokio::test]
async fn a_change_and_its_row_in_the_audit_log_are_one() {
    let people = People::new().await;
    let app = people.scene.app();
    let pause = async || {
        people
            .status(As::User("operator"), "POST", "/api/pipelines/web/pause")
            .await
    };
    let paused = async || {
        let mut connection = app.database.readers().acquire().await.unwrap();
        let state = crate::scheduling::state::state_of(&mut connection, "web").await;
        state.unwrap().pause.is_some()
    };
    let execute = async |statement: &'static str| {
        let mut write = app.database.write().await.unwrap();
        sqlx::query(statement).execute(&mut *write).await.unwrap();
        write.commit().await.unwrap();
    };
    // Without the row there is no change.
    execute("CREATE TRIGGER no_rows BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'full'); END")
        .await;
    assert_eq!(pause().await, 500);
    assert!(!paused().await);
    // With the change there is the row, whatever becomes of the answer.
    execute("DROP TRIGGER no_rows").await;
    execute(
        "CREATE TRIGGER no_answers BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'full'); END",
    )
    .await;
    assert_eq!(pause().await, 200);
    assert!(paused().await);
    let newest = async || {
        let mut connection = app.database.readers().acquire().await.unwrap();
        let entry = super::audit::list(&mut connection, None, 1)
            .await
            .unwrap()
            .remove(0);
        (entry.actor, entry.action, entry.status)
    };
    let action = "POST /go/api/pipelines/web/pause".to_owned();
    assert_eq!(newest().await, ("operator".to_owned(), action.clone(), 0));
    execute("DROP TRIGGER no_answers").await;
    assert_eq!(pause().await, 409);
    assert_eq!(newest().await, ("operator".to_owned(), action.clone(), 0));
    let unpause = "/api/pipelines/web/unpause";
    assert_eq!(
        people.status(As::User("operator"), "POST", unpause).await,
        200
    );
    assert_eq!(newest().await.2, 200);
}
