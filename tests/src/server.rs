//! The real `journeyman-server`.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
};

use serde_json::Value;

use crate::{
    api::Api,
    binaries::binary,
    patience::{patience, wait_for, wait_until},
    processes::{kill_nine, terminate},
    releases::Releases,
    repo::Repo,
    scene::Scene,
};

/// The auto-register key of every server of the tests.
pub const KEY: &str = "a-key-only-for-tests";

/// The password of the user `admin` of every server of the tests.
pub const PASSWORD: &str = "a password only for tests";

/// A running server with data of its own.
pub struct Server<'a> {
    scene: &'a Scene,
    data: PathBuf,
    arguments: Vec<String>,
    child: Option<Child>,
    api: Api,
    /// Base URLs, up to and including `/go`.
    pub http_url: String,
    pub https_url: String,
    /// SHA-256 of the server's CA certificate, as the server says it.
    pub fingerprint: String,
}

impl<'a> Server<'a> {
    /// Starts a server on free ports, with this run's packages to offer.
    pub fn start(scene: &'a Scene) -> Self {
        Self::start_with(scene, "server", &[])
    }

    /// The same with a name for its folder and further arguments of `serve`.
    pub fn start_with(scene: &'a Scene, name: &str, arguments: &[&str]) -> Self {
        let data = scene.folder(name);
        let key = data.with_extension("key");
        fs::write(&key, KEY).expect("a file for the key");
        let mut all = vec![
            "--auto-register-key-file".to_owned(),
            key.display().to_string(),
        ];
        if !arguments.contains(&"--releases") {
            let releases = Releases::of_this_run();
            all.push("--releases".to_owned());
            all.push(releases.folder.display().to_string());
        }
        all.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        let child = spawn(scene, &data, &all, "0", "0");
        let mut server = Self {
            scene,
            api: Api::new(""),
            data,
            arguments: all,
            child: Some(child),
            http_url: String::new(),
            https_url: String::new(),
            fingerprint: String::new(),
        };
        server.wait_for_endpoints();
        server.api = Api::new(&server.http_url);
        server
    }

    pub fn api(&self) -> &Api {
        &self.api
    }

    pub fn data(&self) -> &Path {
        &self.data
    }

    pub fn pid(&self) -> i32 {
        self.child.as_ref().expect("the server runs").id() as i32
    }

    /// Ends the server as a power cut would.
    pub fn kill_nine(&mut self) {
        let mut child = self.child.take().expect("the server runs");
        kill_nine(child.id() as i32);
        child.wait().expect("the end of the server");
    }

    /// Asks the server to end and waits until it has; panics when it says that it failed.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            terminate(child.id() as i32);
            wait_until("the server has stopped", || {
                child.try_wait().expect("its state").is_some()
            });
            let status = child.wait().expect("its status");
            assert!(status.success(), "the server ended with {status}");
        }
    }

    /// Starts the stopped or killed server again: same data, same ports.
    pub fn start_again(&mut self) {
        assert!(self.child.is_none(), "the server still runs");
        let port = |url: &str| {
            let rest = url.strip_suffix("/go").unwrap_or(url);
            rest.rsplit_once(':').expect("a port").1.to_owned()
        };
        let (http, https) = (port(&self.http_url), port(&self.https_url));
        let _ = fs::remove_file(self.data.join("endpoints.json"));
        self.child = Some(spawn(
            self.scene,
            &self.data,
            &self.arguments,
            &http,
            &https,
        ));
        self.wait_for_endpoints();
    }

    /// Runs a command of `journeyman-server` for people against this server.
    pub fn cli(&self, arguments: &[&str]) -> Output {
        self.scene
            .command(&binary("journeyman-server"))
            .args(arguments)
            .arg("--data")
            .arg(&self.data)
            .output()
            .expect("journeyman-server")
    }

    /// The same; must succeed. Returns what it printed.
    pub fn must_cli(&self, arguments: &[&str]) -> String {
        let output = self.cli(arguments);
        assert!(
            output.status.success(),
            "journeyman-server {arguments:?}: {output:?}"
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Makes the server read its pipelines from this repository.
    pub fn add_repo(&self, repo: &Repo) {
        self.must_cli(&["repos", "add", &repo.url(), "--branch", "master"]);
    }

    /// What the server has printed so far.
    pub fn output(&self) -> String {
        let bytes = fs::read(output_path(&self.data)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn wait_for_endpoints(&mut self) {
        let child = self.child.as_mut().expect("the server was started");
        let pid = child.id();
        let endpoints = wait_for("the server listens", || {
            if let Some(status) = child.try_wait().expect("its state") {
                let output = fs::read(output_path(&self.data)).unwrap_or_default();
                panic!(
                    "the server ended with {status}: {}",
                    String::from_utf8_lossy(&output)
                );
            }
            let text = fs::read_to_string(self.data.join("endpoints.json")).ok()?;
            let endpoints: Value = serde_json::from_str(&text).ok()?;
            (endpoints["pid"].as_u64() == Some(u64::from(pid))).then_some(endpoints)
        });
        let text = |name: &str| endpoints[name].as_str().unwrap_or_default().to_owned();
        self.http_url = text("http_url");
        self.https_url = text("https_url");
        self.fingerprint = text("ca_fingerprint");
    }
}

impl Drop for Server<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            if self.child.is_some() {
                self.kill_nine();
            }
        } else {
            self.stop();
        }
    }
}

fn spawn(scene: &Scene, data: &Path, arguments: &[String], http: &str, https: &str) -> Child {
    let output = File::options()
        .create(true)
        .append(true)
        .open(output_path(data))
        .expect("a file for the server's output");
    let password = data.with_extension("password");
    fs::write(&password, PASSWORD).expect("a file for the password");
    let mut command = serve(scene, data);
    // A test that does not say how often repositories are looked at wants no runs but its own.
    if !arguments.iter().any(|one| one == "--material-interval") {
        command.arg("--no-automatic-runs");
    }
    command
        .env("JOURNEYMAN_ADMIN_PASSWORD_FILE", password)
        .args(["--http-port", http, "--https-port", https])
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(output.try_clone().expect("the same file"))
        .stderr(output)
        .spawn()
        .expect("journeyman-server")
}

/// `journeyman-server serve` with its data folder, not started.
pub fn serve(scene: &Scene, data: &Path) -> Command {
    let mut command = scene.command(&binary("journeyman-server"));
    command.arg("serve").arg("--data").arg(data);
    command
}

fn output_path(data: &Path) -> PathBuf {
    data.with_extension("log")
}

/// Waits until a process that should end by itself has; ends it when patience does.
pub fn wait_for_end(child: &mut Child) -> std::process::ExitStatus {
    let start = std::time::Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("its state") {
            return status;
        }
        if start.elapsed() > patience() {
            let _ = child.kill();
            panic!("process {} did not end by itself", child.id());
        }
        thread::sleep(std::time::Duration::from_millis(10));
    }
}
