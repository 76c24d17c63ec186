//! Against the real program: repositories in the file system and behind `hg serve`.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Bytes,
    http::{HeaderMap, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use journeyman_protocol::material::{HgMaterial, Material, UrlArgument};
use pretty_assertions::assert_eq;
use tokio::runtime::Runtime;

use crate::job::materials::testing::{Bench, run, seen_in_arguments, seen_in_files};

/// A repository with `a` as `one` in its first revision, as `two` in its second, and as `branch`
/// in the third, on the branch `other`. Gives the three.
fn repository(bench: &Bench, name: &str) -> [String; 3] {
    let folder = bench.path(name);
    run(&bench.path(""), &["hg", "init", name]);
    ["one", "two", "branch"].map(|text| {
        if text == "branch" {
            run(&folder, &["hg", "branch", "-q", "other"]);
        }
        fs::write(folder.join("a"), text).unwrap();
        run(&folder, &["hg", "commit", "-q", "-A", "-m", text]);
        run(&folder, &["hg", "log", "-r", ".", "-T", "{node}"])
    })
}

fn material(url: impl Into<String>, folder: &str) -> HgMaterial {
    let mut material = HgMaterial {
        url: UrlArgument::from(url.into()),
        ..HgMaterial::default()
    };
    material.scm.folder = Some(folder.to_owned());
    material
}

fn at(material: &HgMaterial, revision: &str) -> [(Material, String); 1] {
    [(Material::HgMaterial(material.clone()), revision.to_owned())]
}

fn read(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_else(|error| format!("{error}"))
}

#[test]
fn clone_then_update_with_changes_undone() {
    let bench = Bench::new();
    let [one, two, _] = repository(&bench, "repo");
    let hg = material(bench.path("repo").display().to_string(), "code");
    let code = bench.base().join("code");

    bench.update(at(&hg, &one)).unwrap();
    let short = |revision: &str| revision[..12].to_owned();
    assert_eq!(
        bench.new_lines(),
        [
            "pr|[go] Start to update materials.".to_owned(),
            "pr|".to_owned(),
            format!("pr|[go] Start updating code at revision {one} from ~/repo"),
            "pr|adding changesets".to_owned(),
            "pr|adding manifests".to_owned(),
            "pr|adding file changes".to_owned(),
            "pr|added 2 changesets with 2 changes to 1 files".to_owned(),
            format!("pr|new changesets {}:{}", short(&one), short(&two)),
            "pr|updating to branch default".to_owned(),
            "pr|1 files updated, 0 files merged, 0 files removed, 0 files unresolved".to_owned(),
            "pr|pulling from ~/repo".to_owned(),
            "pr|no changes found".to_owned(),
            "pr|1 files updated, 0 files merged, 0 files removed, 0 files unresolved".to_owned(),
            "pr|[go] Done.".to_owned(),
            "pr|".to_owned(),
        ]
    );
    assert_eq!(read(&code.join("a")), "one");

    fs::write(code.join("a"), "mine").unwrap();
    fs::write(code.join("unversioned"), "").unwrap();
    bench.update(at(&hg, &two)).unwrap();
    assert_eq!(
        bench.new_lines()[4..],
        [
            "pr|pulling from ~/repo",
            "pr|no changes found",
            "pr|1 files updated, 0 files merged, 0 files removed, 0 files unresolved",
            "pr|[go] Done.",
            "pr|",
        ]
    );
    assert_eq!(read(&code.join("a")), "two");
    assert!(code.join("unversioned").exists(), "GoCD leaves it");
}

#[test]
fn a_branch_is_named_by_itself_or_by_the_url() {
    let bench = Bench::new();
    let [_, _, other] = repository(&bench, "repo");
    let url = bench.path("repo").display().to_string();
    let mut by_name = material(url.clone(), "code");
    by_name.branch = Some("other".to_owned());
    bench.update(at(&by_name, &other)).unwrap();
    assert_eq!(read(&bench.base().join("code/a")), "branch");

    let by_url = material(format!("{url}#other"), "more");
    bench.update(at(&by_url, &other)).unwrap();
    assert_eq!(read(&bench.base().join("more/a")), "branch");
    let start = format!("pr|[go] Start updating more at revision {other} from ~/repo##other");
    let lines = bench.new_lines();
    assert!(lines.contains(&start), "{lines:?}");

    // Its own branch has not got the revision.
    by_name.branch = None;
    by_name.scm.folder = Some("default".to_owned());
    assert_eq!(
        bench.update(at(&by_name, &other)).unwrap_err().to_string(),
        format!("Unable to update to revision [StringRevision[{other}]]")
    );
}

#[test]
fn another_url_is_cloned_anew_and_the_same_in_other_words_is_not() {
    let bench = Bench::new();
    let [_, tip, _] = repository(&bench, "one");
    repository(&bench, "two");
    let mark = bench.base().join("code/unversioned");
    let path = |name: &str| bench.path(name).display().to_string();
    bench
        .update(at(&material(path("one"), "code"), &tip))
        .unwrap();
    fs::write(&mark, "").unwrap();
    bench
        .update(at(
            &material(format!("file://{}/", path("one")), "code"),
            &tip,
        ))
        .unwrap();
    assert!(mark.exists());
    let _ = bench.update(at(&material(path("two"), "code"), "0"));
    assert!(!mark.exists());
    assert!(
        bench
            .lines()
            .contains(&"pr|updating to branch default".to_owned())
    );
}

#[test]
fn failures_are_told_as_gocd_tells_them() {
    let bench = Bench::new();
    let missing = material(bench.path("missing").display().to_string(), "code");
    assert_eq!(
        bench.update(at(&missing, "0")).unwrap_err().to_string(),
        "Failed to run hg clone command"
    );
    assert_eq!(
        bench.new_lines()[3..],
        ["pe|STDERR: abort: repository ~/missing not found"]
    );
    // A clone without a default path: GoCD asks, and takes no answer for an error.
    run(&bench.base(), &["hg", "init", "code"]);
    let error = bench.update(at(&missing, "0")).unwrap_err().to_string();
    assert_eq!(
        error,
        "Error performing command: --- Command ---\nhg showconfig paths.default\n\
         --- Environment ---\n{}\n--- INPUT ----\n\n\n--- EXIT CODE (1) ---\n\
         --- STANDARD OUT ---\n\n--- STANDARD ERR ---\n\n---\n"
    );
}

/// `hg serve`, and a server before it that wants user `builder` and looks for the password in the
/// arguments of every process at each request.
struct Server {
    process: Child,
    port: u16,
    seen: Arc<Mutex<Vec<String>>>,
    _runtime: Runtime,
}

impl Server {
    fn start(repository: &Path, password: &'static str) -> Self {
        let mut process = Command::new("hg")
            .args([
                "serve",
                "--address",
                "127.0.0.1",
                "--port",
                "0",
                "--print-url",
            ])
            .current_dir(repository)
            .stdout(Stdio::piped())
            .spawn()
            .expect("hg is needed for this test");
        let mut upstream = String::new();
        let mut stdout = BufReader::new(process.stdout.take().unwrap());
        stdout.read_line(&mut upstream).unwrap();
        // Kept open: the server writes on.
        std::mem::forget(stdout);
        let upstream = upstream.trim().trim_end_matches('/').to_owned();

        let seen = Arc::new(Mutex::new(Vec::new()));
        let found = Arc::clone(&seen);
        let login = format!(
            "Basic {}",
            BASE64_STANDARD.encode(format!("builder:{password}"))
        );
        let client = reqwest::Client::new();
        let handler = move |method: Method, uri: Uri, headers: HeaderMap, body: Bytes| {
            let authorised = headers
                .get(header::AUTHORIZATION)
                .is_some_and(|value| *value == login);
            found.lock().unwrap().extend(seen_in_arguments(password));
            let mut request = client
                .request(method, format!("{upstream}{uri}"))
                .body(body);
            for (name, value) in &headers {
                if name.as_str().starts_with("x-hg") || *name == header::ACCEPT {
                    request = request.header(name, value);
                }
            }
            let found = Arc::clone(&found);
            async move {
                if !authorised {
                    let wanted = [(header::WWW_AUTHENTICATE, "Basic realm=\"hg\"")];
                    return (StatusCode::UNAUTHORIZED, wanted).into_response();
                }
                found.lock().unwrap().push("logged in".to_owned());
                let answer = request.send().await.unwrap();
                let (status, headers) = (answer.status(), answer.headers().clone());
                let mut response = Response::new(answer.bytes().await.unwrap().into());
                *response.status_mut() = status;
                if let Some(kind) = headers.get(header::CONTENT_TYPE) {
                    response
                        .headers_mut()
                        .insert(header::CONTENT_TYPE, kind.clone());
                }
                response
            }
        };
        let runtime = Runtime::new().unwrap();
        let listener = runtime
            .block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))
            .unwrap();
        let port = listener.local_addr().unwrap().port();
        let router = Router::new().fallback(handler);
        runtime.spawn(async move { axum::serve(listener, router).await });
        Self {
            process,
            port,
            seen,
            _runtime: runtime,
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_password_logs_in_and_is_seen_nowhere() {
    let bench = Bench::new();
    let [one, two, _] = repository(&bench, "repo");
    let password = "pa ss-Hg%41#;$HOME";
    let server = Server::start(&bench.path("repo"), password);
    let host = format!("127.0.0.1:{}", server.port);
    let encoded = "pa%20ss-Hg%2541%23%3B%24HOME";

    // In the URL; the repository is at the root of the server, with no path behind the host.
    let hg = material(format!("http://builder:{encoded}@{host}"), "in-url");
    bench.update(at(&hg, &one)).unwrap();
    assert_eq!(read(&bench.base().join("in-url/a")), "one");
    let lines = bench.new_lines();
    let start = format!(
        "pr|[go] Start updating in-url at revision {one} from http://builder:******@{host}"
    );
    assert!(lines.contains(&start), "{lines:?}");
    // As `hg` shows it when it has the password.
    let pulling = format!("pr|pulling from http://builder:***@{host}/");
    assert!(lines.contains(&pulling), "{lines:?}");
    bench.update(at(&hg, &two)).unwrap();
    let lines = bench.new_lines();
    assert!(
        !lines.iter().any(|line| line.contains("adding changesets")),
        "{lines:?}"
    );
    assert_eq!(read(&bench.base().join("in-url/a")), "two");

    // Beside the URL, which has a path.
    let mut hg = material(format!("http://{host}/"), "beside");
    hg.scm.user_name = Some("builder".to_owned());
    hg.scm.password = Some(password.into());
    bench.update(at(&hg, &one)).unwrap();
    assert_eq!(read(&bench.base().join("beside/a")), "one");

    let seen = server.seen.lock().unwrap().clone();
    assert!(
        seen.len() > 3 && seen.iter().all(|line| line == "logged in"),
        "{seen:?}"
    );
    for form in [password, encoded] {
        assert_eq!(
            seen_in_files(&bench.path("agent"), form),
            Vec::<PathBuf>::new()
        );
    }

    hg.scm.password = Some("wrong".into());
    hg.scm.folder = Some("refused".to_owned());
    assert_eq!(
        bench.update(at(&hg, &one)).unwrap_err().to_string(),
        "Failed to run hg clone command"
    );
    let lines = bench.new_lines();
    assert_eq!(
        lines.last().unwrap(),
        "pe|STDERR: abort: authorization failed",
        "{lines:?}"
    );
}
