//! Who may talk to whom: fingerprints, client certificates, and what does not belong together.

use std::{fs, os::unix::fs::PermissionsExt, time::Duration};

use journeyman_tests::{
    api::Job, chain::Chain, patience::wait_until, repo::Repo, scene::Scene, server::Server,
};
use reqwest::{Certificate, Client, Identity, StatusCode};
use serde_json::json;
use tokio::runtime;

#[test]
fn a_pinned_fingerprint_is_enough_and_leads_to_mutual_tls() {
    let scene = Scene::new("pinned");
    let server = Server::start(&scene);
    let mut chain = Chain::install(&scene, "agent", &server.https_url)
        .with_key("")
        .with_arguments(&["--server-fingerprint", &server.fingerprint])
        .started();
    let uuid = chain.uuid();
    server.api().wait_for_agent(&uuid, "Enabled", "Idle");
    let trust = chain.folder().join("config/journeyman");
    for name in ["agent.key", "agent.crt", "trust.pem", "server.json"] {
        wait_until("the agent has its certificate", || {
            trust.join(name).exists()
        });
        let mode = fs::metadata(trust.join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name} is for its owner only");
    }
    let repo = Repo::with_pipeline(
        &scene,
        "secret",
        "any:\n  tasks:\n    - exec: { command: \"true\" }\n",
    );
    server.add_repo(&repo);
    let job = Job::new("secret", server.api().trigger("secret"), "any");
    assert_eq!(server.api().wait_for_result(&job).result, "Passed");

    // The key never leaves the machine: the server has nothing that could be one.
    let key = fs::read_to_string(trust.join("agent.key")).unwrap();
    let middle = key.lines().nth(1).unwrap();
    assert!(!server.output().contains(middle));

    // With the certificate it has, the agent comes back after a restart.
    chain.stop();
    chain.start();
    let job = Job::new("secret", server.api().trigger("secret"), "any");
    assert_eq!(server.api().wait_for_result(&job).result, "Passed");
}

#[test]
fn an_unknown_host_certificate_is_refused_with_advice() {
    let scene = Scene::new("unknown");
    let server = Server::start(&scene);
    let chain = Chain::install(&scene, "agent", &server.https_url)
        .with_key("")
        .started();
    chain.wait_until_said("--server-fingerprint");
    assert!(server.api().agents().is_empty());
}

#[test]
fn a_wrong_fingerprint_is_refused() {
    let scene = Scene::new("wrongpin");
    let server = Server::start(&scene);
    let wrong = "00".repeat(32);
    let chain = Chain::install(&scene, "agent", &server.https_url)
        .with_key("")
        .with_arguments(&["--server-fingerprint", &wrong])
        .started();
    chain.wait_until_said("fingerprint");
    assert!(server.api().agents().is_empty());
}

#[test]
fn plain_http_to_another_machine_wants_to_be_said_in_so_many_words() {
    let scene = Scene::new("plain");
    // An address for documentation: nobody is there.
    let mut chain = Chain::install(&scene, "agent", "http://192.0.2.1:8153/go").started();
    let status = chain.wait_for_end();
    assert_eq!(status.code(), Some(64), "{}", chain.said());
    let said = chain.said();
    assert!(said.contains("--allow-plain-http"), "{said}");
}

#[test]
fn certificate_token_and_guid_must_belong_together() {
    let scene = Scene::new("together");
    let server = Server::start(&scene);
    let install = |name: &str| {
        Chain::install(&scene, name, &server.http_url)
            .with_key("")
            .started()
    };
    let (one, two) = (install("one"), install("two"));
    for chain in [&one, &two] {
        server
            .api()
            .wait_for_agent(&chain.uuid(), "Enabled", "Idle");
    }
    let token = |chain: &Chain| fs::read_to_string(chain.folder().join("config/token")).unwrap();
    for chain in [&one, &two] {
        wait_until("the agent has its certificate", || {
            chain
                .folder()
                .join("config/journeyman/server.json")
                .exists()
        });
    }
    let own = Caller::with_certificate_of(&one, &server);
    let nobody = Caller::without_certificate(&one, &server);

    let (one_id, two_id) = (one.uuid(), two.uuid());
    let (one_token, two_token) = (token(&one), token(&two));
    for (caller, uuid, token, expected, what) in [
        (&own, &one_id, &one_token, StatusCode::OK, "its own three"),
        (
            &nobody,
            &one_id,
            &one_token,
            StatusCode::OK,
            "a Java agent has no certificate",
        ),
        (
            &own,
            &two_id,
            &two_token,
            StatusCode::FORBIDDEN,
            "another agent's GUID and token",
        ),
        (
            &own,
            &one_id,
            &two_token,
            StatusCode::FORBIDDEN,
            "another agent's token",
        ),
        (
            &own,
            &two_id,
            &one_token,
            StatusCode::FORBIDDEN,
            "another agent's GUID",
        ),
        (
            &nobody,
            &two_id,
            &one_token,
            StatusCode::FORBIDDEN,
            "a token without its GUID",
        ),
    ] {
        assert_eq!(caller.is_ignored(uuid, token), expected, "{what}");
    }

    // A certificate of another authority is not even listened to.
    let other = Server::start_with(&scene, "other", &[]);
    let stranger = Chain::install(&scene, "stranger", &other.http_url)
        .with_key("")
        .started();
    other
        .api()
        .wait_for_agent(&stranger.uuid(), "Enabled", "Idle");
    wait_until("the stranger has a certificate", || {
        stranger
            .folder()
            .join("config/journeyman/server.json")
            .exists()
    });
    let foreign = Caller::with_certificate_of(&stranger, &server);
    assert_ne!(
        foreign.try_is_ignored(&one_id, &one_token),
        Some(StatusCode::OK)
    );
}

#[test]
fn a_certificate_is_renewed_before_it_ends() {
    let scene = Scene::new("renew");
    let server = Server::start_with(&scene, "server", &["--certificate-life", "24"]);
    let chain = Chain::install(&scene, "agent", &server.https_url)
        .with_key("")
        .with_arguments(&["--server-fingerprint", &server.fingerprint])
        .started();
    let uuid = chain.uuid();
    server.api().wait_for_agent(&uuid, "Enabled", "Idle");
    let path = chain.folder().join("config/journeyman/agent.crt");
    // The server knows of the registration before the agent has its answer.
    wait_until("the agent has a certificate", || path.exists());
    let first = fs::read(&path).unwrap();
    wait_until("the certificate is another one", || {
        fs::read(&path).is_ok_and(|now| !now.is_empty() && now != first)
    });
    let second = fs::read(&path).unwrap();
    wait_until("it is renewed again, with the renewed one", || {
        fs::read(&path).is_ok_and(|now| !now.is_empty() && now != second)
    });
    server.api().wait_for_agent(&uuid, "Enabled", "Idle");
}

/// Calls a server as an agent would.
struct Caller {
    http: Client,
    url: String,
    runtime: runtime::Runtime,
}

impl Caller {
    fn with_certificate_of(chain: &Chain, server: &Server) -> Self {
        let trust = chain.folder().join("config/journeyman");
        let certificate = fs::read(trust.join("agent.crt")).unwrap();
        let key = fs::read(trust.join("agent.key")).unwrap();
        Self::new(
            server,
            Some(Identity::from_pkcs8_pem(&certificate, &key).unwrap()),
        )
    }

    fn without_certificate(_chain: &Chain, server: &Server) -> Self {
        Self::new(server, None)
    }

    fn new(server: &Server, identity: Option<Identity>) -> Self {
        let authority = fs::read(server.data().join("trust/ca.crt")).unwrap();
        let mut builder = Client::builder()
            .tls_certs_only([Certificate::from_pem(&authority).unwrap()])
            .timeout(Duration::from_secs(20));
        if let Some(identity) = identity {
            builder = builder.identity(identity);
        }
        Self {
            http: builder.build().unwrap(),
            url: server.https_url.clone(),
            runtime: runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap(),
        }
    }

    fn is_ignored(&self, uuid: &str, token: &str) -> StatusCode {
        self.try_is_ignored(uuid, token).expect("an answer")
    }

    /// Asks about a job nobody knows; `None` when the connection was refused.
    fn try_is_ignored(&self, uuid: &str, token: &str) -> Option<StatusCode> {
        let body = json!({
            "type": "IsIgnoredRequest",
            "agentRuntimeInfo": {
                "type": "AgentRuntimeInfo",
                "identifier": { "hostName": "h", "ipAddress": "127.0.0.1", "uuid": uuid },
                "runtimeStatus": "Idle",
                "buildingInfo": { "buildingInfo": "", "buildLocator": "" },
                "location": "/", "usableSpace": 1, "operatingSystemName": "Linux",
                "agentBootstrapperVersion": "UNKNOWN", "agentVersion": "1"
            },
            "jobIdentifier": {
                "pipelineName": "none", "pipelineCounter": 1, "pipelineLabel": "1",
                "stageName": "none", "buildName": "none", "buildId": 987_654_321,
                "stageCounter": "1"
            }
        });
        let request = self
            .http
            .post(format!("{}/remoting/api/agent/is_ignored", self.url))
            .header("Accept", "application/vnd.go.cd+json")
            .header("X-Agent-GUID", uuid)
            .header("Authorization", token)
            .header("Content-Type", "application/json; charset=UTF-8")
            .body(body.to_string());
        let answer = self.runtime.block_on(async { request.send().await }).ok()?;
        Some(answer.status())
    }
}
