//! People: a browser's way in, by form and cookie, and what the command line does for admins.

use std::io::Write as _;
use std::process::{Output, Stdio};

use journeyman_tests::{
    binaries::binary,
    chain::Chain,
    patience::wait_until,
    scene::Scene,
    server::{PASSWORD, Server},
};
use reqwest::{Client, RequestBuilder, redirect::Policy};
use serde_json::Value;

/// A browser, as far as a login goes: it keeps cookies and follows no redirect by itself.
pub(crate) struct Browser {
    http: Client,
    runtime: tokio::runtime::Runtime,
}

pub(crate) struct Shown {
    pub(crate) status: u16,
    pub(crate) location: String,
    cookie: String,
    pub(crate) body: String,
}

impl Browser {
    pub(crate) fn new() -> Self {
        Self {
            http: Client::builder()
                .cookie_store(true)
                .redirect(Policy::none())
                .danger_accept_invalid_certs(true)
                .no_proxy()
                .build()
                .unwrap(),
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap(),
        }
    }

    pub(crate) fn get(&self, url: &str) -> Shown {
        self.show(self.http.get(url))
    }

    pub(crate) fn send(&self, url: &str, fields: &[(&str, &str)]) -> Shown {
        self.show(self.http.post(url).form(fields))
    }

    fn show(&self, request: RequestBuilder) -> Shown {
        self.runtime.block_on(async {
            let response = request.send().await.unwrap();
            let header = |name: &str| {
                let value = response.headers().get(name);
                value.map_or_else(String::new, |value| value.to_str().unwrap().to_owned())
            };
            let (location, cookie) = (header("location"), header("set-cookie"));
            Shown {
                status: response.status().as_u16(),
                location,
                cookie,
                body: response.text().await.unwrap(),
            }
        })
    }
}

/// The hidden field of a page's forms.
fn field(page: &str) -> &str {
    let (_, rest) = page.split_once("name=\"csrf\" value=\"").unwrap();
    rest.split_once('"').unwrap().0
}

#[test]
fn an_admin_logs_in_by_the_form_and_enables_an_agent() {
    let scene = Scene::new("login");
    let server = Server::start(&scene);
    let chain = Chain::install(&scene, "agent", &server.http_url).started();
    let uuid = chain.uuid();
    wait_until("the agent is known", || server.api().agent(&uuid).is_some());

    let browser = Browser::new();
    let url = |path: &str| format!("{}{path}", server.https_url);
    let asked = browser.get(&url("/agents"));
    assert_eq!(asked.status, 303);
    assert_eq!(asked.location, "/go/auth/login?to=%2Fgo%2Fagents");
    let form = browser.get(&url("/auth/login?to=%2Fgo%2Fagents"));
    assert!(form.body.contains("j_password"), "{}", form.body);
    let login = |password: &str| {
        let fields = [
            ("j_username", "admin"),
            ("j_password", password),
            ("to", "/go/agents"),
        ];
        browser.send(&url("/auth/security_check"), &fields)
    };
    assert_eq!(login("not the password").status, 401);
    assert_eq!(browser.get(&url("/agents")).status, 303);
    let done = login(PASSWORD);
    assert_eq!((done.status, done.location.as_str()), (303, "/go/agents"));
    for part in ["HttpOnly", "SameSite=Lax", "Secure", "Path=/go"] {
        assert!(done.cookie.contains(part), "{}", done.cookie);
    }

    let page = browser.get(&url("/agents"));
    assert!(page.body.contains(&uuid), "{}", page.body);
    let enable = url(&format!("/agents/{uuid}/enable"));
    assert_eq!(browser.send(&enable, &[]).status, 403);
    let csrf = [("csrf", field(&page.body))];
    assert_eq!(browser.send(&enable, &csrf).status, 303);
    server.api().wait_for_agent(&uuid, "Enabled", "Idle");
    assert_eq!(browser.send(&url("/auth/logout"), &csrf).status, 303);
    assert_eq!(browser.get(&url("/agents")).status, 303);

    let log: Value = serde_json::from_str(&server.must_cli(&["audit", "--json"])).unwrap();
    let did = |who: &str, what: &str| {
        let mut entries = log.as_array().unwrap().iter();
        entries.any(|entry| entry["actor"] == who && entry["action"] == what)
    };
    assert!(did("admin", "log in"), "{log}");
    assert!(
        did("admin", &format!("POST /go/agents/{uuid}/enable")),
        "{log}"
    );
    assert!(!log.to_string().contains(PASSWORD));
}

#[test]
fn users_are_made_and_removed_on_the_command_line() {
    let scene = Scene::new("users");
    let server = Server::start(&scene);
    let with_input = |arguments: &[&str], input: &str| -> Output {
        let mut child = scene
            .command(&binary("journeyman-server"))
            .args(arguments)
            .arg("--data")
            .arg(server.data())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).unwrap();
        drop(stdin);
        child.wait_with_output().unwrap()
    };
    let add = ["users", "add", "ann", "--role", "operate:apps"];
    let output = with_input(&add, "short\n");
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("8 characters"),
        "{output:?}"
    );
    assert!(with_input(&add, "correct horse\n").status.success());
    let again = with_input(&add, "correct horse\n");
    assert!(
        String::from_utf8_lossy(&again.stderr).contains("already"),
        "{again:?}"
    );
    let list = server.must_cli(&["users", "list"]);
    assert!(
        list.contains("ann") && list.contains("operate:apps") && list.contains("admin"),
        "{list}"
    );

    // A token, with which the command line is ann from anywhere.
    let token = server.must_cli(&["users", "token", "ann", "--description", "her laptop"]);
    let as_ann = |arguments: &[&str]| {
        let output = scene
            .command(&binary("journeyman-server"))
            .args(arguments)
            .args(["--server-url", &server.http_url])
            .env("JOURNEYMAN_TOKEN", token.trim())
            .output()
            .unwrap();
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    assert_eq!(as_ann(&["agents", "list"]).0, Some(0));
    let (code, said) = as_ann(&["users", "list"]);
    assert!(code == Some(2) && said.contains("not authorized"), "{said}");
    let tokens = server.must_cli(&["users", "tokens", "ann"]);
    assert!(
        tokens.contains("her laptop") && !tokens.contains(token.trim()),
        "{tokens}"
    );
    server.must_cli(&["users", "role", "ann", "view"]);
    assert!(
        with_input(&["users", "password", "ann"], "battery staple\n")
            .status
            .success()
    );
    server.must_cli(&["users", "remove", "ann"]);
    let (code, said) = as_ann(&["agents", "list"]);
    assert!(
        code == Some(2) && said.contains("does not know who you are"),
        "{said}"
    );
    assert!(!server.must_cli(&["users", "list"]).contains("ann"));
    // Nothing of it is in the log.
    let log = server.output();
    for secret in ["correct horse", "battery staple", token.trim(), PASSWORD] {
        assert!(!log.contains(secret), "{log}");
    }
}
