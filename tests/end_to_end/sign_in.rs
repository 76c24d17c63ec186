//! Signing in with a real OpenID provider, by HTTP as a browser sends it.

use journeyman_tests::{
    provider::{Provider, SECRET},
    scene::Scene,
    server::{PASSWORD, Server},
};
use pretty_assertions::assert_eq;
use reqwest::Url;
use serde_json::Value;

use crate::people::{Browser, Shown};

fn serve<'a>(scene: &'a Scene, provider: &Provider, name: &str, more: &[&str]) -> Server<'a> {
    let mut arguments = provider.arguments();
    arguments.extend(more.iter().map(|one| (*one).to_owned()));
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let server = Server::start_with(scene, name, &arguments);
    provider.open(&server);
    server
}

/// Goes to the provider, says who one is, and returns the address that leads back from there.
fn way_back(browser: &Browser, server: &Server<'_>, who: &str) -> String {
    let mut url = format!("{}/auth/sign_in?to=%2Fgo%2Fagents", server.http_url);
    for _ in 0..10 {
        let shown = browser.get(&url);
        let shown = if shown.status == 200 {
            let fields = [("prompt", "login"), ("login", who), ("password", "any")];
            browser.send(&url, &fields)
        } else {
            shown
        };
        assert!((300..400).contains(&shown.status), "{url}: {}", shown.body);
        url = Url::parse(&url)
            .unwrap()
            .join(&shown.location)
            .unwrap()
            .to_string();
        if url.starts_with(&server.http_url) {
            return url;
        }
    }
    panic!("the provider leads nowhere: {url}");
}

fn sign_in(server: &Server<'_>, who: &str) -> (Browser, Shown) {
    let browser = Browser::new();
    let back = way_back(&browser, server, who);
    let shown = browser.get(&back);
    (browser, shown)
}

fn users(server: &Server<'_>) -> Vec<(String, String)> {
    let users = server.must_cli(&["users", "list", "--json"]);
    let users: Value = serde_json::from_str(&users).unwrap();
    let users = users.as_array().unwrap().iter();
    users
        .map(|user| {
            (
                user["name"].as_str().unwrap().to_owned(),
                user["roles"].to_string(),
            )
        })
        .collect()
}

#[test]
fn people_sign_in_with_a_provider() {
    let scene = Scene::new("sign-in");
    let mut provider = Provider::start(&scene);
    let server = serve(&scene, &provider, "server", &[]);
    let login = format!("{}/auth/login", server.http_url);
    let shown = Browser::new().get(&login);
    assert!(
        shown.body.contains("Sign in with Example"),
        "{}",
        shown.body
    );

    // Nobody gets in by being known elsewhere, and learns what an admin has to do.
    let (_, shown) = sign_in(&server, "ann-1");
    assert_eq!(shown.status, 403, "{}", shown.body);
    assert!(
        shown
            .body
            .contains("journeyman-server users sign-in ann --role view"),
        "{}",
        shown.body
    );
    server.must_cli(&["users", "sign-in", "ann", "--role", "view"]);
    let (browser, shown) = sign_in(&server, "ann-1");
    assert_eq!((shown.status, shown.location.as_str()), (303, "/go/agents"));
    let shown = browser.get(&format!("{}/agents", server.http_url));
    assert_eq!(shown.status, 200);
    assert!(shown.body.contains("Log out"), "{}", shown.body);
    // It is a session as after a password, with roles and forms as such.
    let shown = browser.get(&format!("{}/admin/users", server.http_url));
    assert_eq!(shown.status, 403);
    let shown = browser.send(&format!("{}/auth/logout", server.http_url), &[]);
    assert_eq!(shown.status, 403, "a form without the session's text");
    let audit = server.must_cli(&["audit", "--json"]);
    assert!(
        audit.contains("signed in with Example; bound to the subject ann-1"),
        "{audit}"
    );

    // A name that has changed hands, and one that has a password here, open nothing.
    let (_, shown) = sign_in(&server, "ann-2");
    assert_eq!(shown.status, 403, "{}", shown.body);
    assert!(
        shown.body.contains("somebody else at Example"),
        "{}",
        shown.body
    );
    let (_, shown) = sign_in(&server, "admin-1");
    assert_eq!(shown.status, 403, "{}", shown.body);
    assert!(
        shown.body.contains("logs in with a password here"),
        "{}",
        shown.body
    );
    server.must_cli(&["users", "sign-in", "admin"]);
    let (_, shown) = sign_in(&server, "admin-1");
    assert_eq!(shown.status, 303, "{}", shown.body);

    // A state of another login, no state, another browser, and the same answer twice.
    let browser = Browser::new();
    let back = way_back(&browser, &server, "ann-1");
    let tampered = back.replace("state=", "state=0");
    assert_eq!(browser.get(&tampered).status, 400);
    let browser = Browser::new();
    let back = way_back(&browser, &server, "ann-1");
    let shown = Browser::new().get(&back);
    assert_eq!(shown.status, 400);
    assert!(shown.body.contains("Begin again"), "{}", shown.body);
    assert_eq!(browser.get(&back).status, 303);
    assert_eq!(browser.get(&back).status, 400);

    // A token that the provider has made for another client.
    provider.misbehave();
    let (_, shown) = sign_in(&server, "ann-1");
    assert_eq!(shown.status, 502, "{}", shown.body);
    assert!(
        shown.body.contains("not meant for this server"),
        "{}",
        shown.body
    );
    assert!(
        server
            .output()
            .contains("for another client than journeyman")
    );

    // What is made up is not tried again and again.
    let made_up = format!("{}/auth/signed_in?state=x&code=y", server.http_url);
    let statuses: Vec<u16> = (0..5)
        .map(|_| Browser::new().get(&made_up).status)
        .collect();
    assert_eq!(statuses, [400, 400, 400, 429, 429]);

    // Without the provider people still get in.
    provider.stop();
    let mut server = server;
    server.stop();
    server.start_again();
    let start = format!("{}/auth/sign_in", server.http_url);
    let shown = Browser::new().get(&start);
    assert_eq!(shown.status, 503);
    assert!(
        shown.body.contains("Example does not answer"),
        "{}",
        shown.body
    );
    let fields = [("j_username", "admin"), ("j_password", PASSWORD)];
    let check = format!("{}/auth/security_check", server.http_url);
    assert_eq!(Browser::new().send(&check, &fields).status, 303);
    let output = server.output();
    assert!(output.contains("a sign-in failed"), "{output}");
    let code = Url::parse(&back).unwrap();
    let code = code.query_pairs().find(|(name, _)| name == "code").unwrap();
    for secret in [SECRET, &code.1, "id_token"] {
        assert!(!output.contains(secret), "{output}");
    }
}

#[test]
fn an_admin_can_leave_users_and_roles_to_the_provider() {
    let scene = Scene::new("sign-in-roles");
    let provider = Provider::start(&scene);
    let more = [
        "--oidc-new-users=create",
        "--oidc-role=operators=operate:web,staff=view",
    ];
    let server = serve(&scene, &provider, "server", &more);
    let (_, shown) = sign_in(&server, "op-1");
    assert_eq!(shown.status, 303, "{}", shown.body);
    let (_, shown) = sign_in(&server, "eve-1");
    assert_eq!(shown.status, 303, "{}", shown.body);
    let everywhere = r#"{"role":"view","group":"*"}"#;
    let expected = [
        ("admin", r#"[{"role":"admin","group":"*"}]"#.to_owned()),
        ("eve", format!("[{everywhere}]")),
        (
            "op",
            format!(r#"[{everywhere},{{"role":"operate","group":"web"}}]"#),
        ),
    ];
    let expected = expected.map(|(name, roles)| (name.to_owned(), roles));
    assert_eq!(users(&server), expected);
    // Who has no password has none that could be guessed.
    let check = format!("{}/auth/security_check", server.http_url);
    let fields = [("j_username", "op"), ("j_password", "!")];
    assert_eq!(Browser::new().send(&check, &fields).status, 401);
    drop(server);

    // A server that proves itself with another secret.
    let wrong = scene.path().join("wrong.secret");
    std::fs::write(&wrong, "another").unwrap();
    let mut arguments = provider.arguments();
    arguments[2] = format!("--oidc-client-secret-file={}", wrong.display());
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let server = Server::start_with(&scene, "another", &arguments);
    provider.open(&server);
    let (_, shown) = sign_in(&server, "op-1");
    assert_eq!(shown.status, 502, "{}", shown.body);
    assert!(shown.body.contains("proves itself with"), "{}", shown.body);
    assert!(server.output().contains("check --oidc-client-id"));
}
