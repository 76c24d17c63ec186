//! A real OpenID provider: `oidc-provider` of npm.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Stdio},
};

use crate::{
    binaries::repository, installed::node_modules, processes::kill_nine, scene::Scene,
    server::Server,
};

/// What its clients prove themselves with.
pub const SECRET: &str = "a client secret only for tests";

/// A provider that knows anybody: who says `ann-1` has that subject and the name `ann`.
pub struct Provider {
    child: Option<Child>,
    pub issuer: String,
    secret: PathBuf,
}

impl Provider {
    pub fn start(scene: &Scene) -> Self {
        let modules = node_modules("provider", "oidc-provider from npm");
        let secret = scene.path().join("client.secret");
        fs::write(&secret, SECRET).expect("a file for the secret");
        let log = fs::File::create(scene.path().join("provider.log")).expect("a log");
        let mut child = scene
            .command(Path::new("node"))
            .arg(repository().join("tests/provider/provider.mjs"))
            .env("PROVIDER_MODULES", modules)
            .env("PROVIDER_SECRET", SECRET)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("node");
        let said = child.stdout.take().expect("what it says");
        let mut issuer = String::new();
        BufReader::new(said)
            .read_line(&mut issuer)
            .expect("its issuer");
        Self {
            child: Some(child),
            issuer: issuer.trim().to_owned(),
            secret,
        }
    }

    /// The arguments of a server whose people sign in here.
    pub fn arguments(&self) -> Vec<String> {
        let secret = self.secret.display().to_string();
        [
            ("issuer", self.issuer.as_str()),
            ("client-id", "journeyman"),
            ("client-secret-file", &secret),
            ("name", "Example"),
        ]
        .map(|(name, value)| format!("--oidc-{name}={value}"))
        .to_vec()
    }

    /// Registers a server.
    pub fn open(&self, server: &Server<'_>) {
        self.tell(&format!("open?redirect={}/auth/signed_in", server.http_url));
    }

    /// From now on its tokens are for another client.
    pub fn misbehave(&self) {
        self.tell("mode?mode=other");
    }

    fn tell(&self, what: &str) {
        let url = format!("{}/test/{what}", self.issuer);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let client = reqwest::Client::builder().no_proxy().build();
        let told = runtime.block_on(client.expect("a client").get(url).send());
        assert!(told.expect("the provider").status().is_success());
    }

    /// Ends it.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            kill_nine(child.id() as i32);
            child.wait().expect("its end");
        }
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.stop();
    }
}
