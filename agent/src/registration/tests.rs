use std::{fs, sync::Arc};

use journeyman_host::workdir::WorkDir;
use journeyman_protocol::agent::{AgentRuntimeInfo, ElasticAgent};
use pretty_assertions::assert_eq;
use tokio::net::TcpListener;

use super::*;
use crate::{
    fake_server::{FakeServer, UUID, quick, session},
    lifecycle::{Effect, Lifecycle, State},
    remoting::Session,
    state::Place,
};

const PROPERTIES: &str =
    "agent.auto.register.key=388b633a\nagent.auto.register.resources=ant,java\n";

fn write_properties(workdir: &WorkDir) {
    fs::write(workdir.autoregister(), PROPERTIES).unwrap();
}

fn properties(workdir: &WorkDir) -> String {
    fs::read_to_string(workdir.autoregister()).unwrap()
}

/// Registers to the end; gives the state.
async fn register_with(session: &Session) -> State {
    let (lifecycle, mut effects) = Lifecycle::new(State::Unregistered);
    register(session, &lifecycle, &quick()).await;
    assert!(matches!(
        effects.recv().await,
        Some(Effect::GetCookie { .. })
    ));
    lifecycle.state()
}

fn field<'a>(form: &'a str, name: &str) -> &'a str {
    form.split('&')
        .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
        .unwrap()
}

#[tokio::test]
async fn a_key_registers_at_once_and_is_scrubbed() {
    let server = FakeServer::start().await;
    let (_folder, session) = session(&server.url).await;
    write_properties(&session.workdir);
    assert_eq!(register_with(&session).await, State::Registered);
    let form = server.calls("agent")[0].body.clone();
    assert_eq!(field(&form, "uuid"), UUID);
    assert_eq!(field(&form, "token"), "token-1");
    assert_eq!(field(&form, "agentAutoRegisterKey"), "388b633a");
    assert_eq!(field(&form, "agentAutoRegisterResources"), "ant%2Cjava");
    assert_eq!(field(&form, "elasticAgentId"), "");
    assert!(
        !form.contains("certificateRequest"),
        "GoCD knows no such field"
    );
    let left = properties(&session.workdir);
    assert!(
        left.contains("# agent.auto.register.key=388b633a"),
        "{left}"
    );
    assert!(!left.lines().any(|line| line.starts_with("agent.auto")));
}

#[tokio::test]
async fn a_pending_agent_asks_again_and_keeps_its_properties() {
    let server = FakeServer::start().await;
    server.answers("agent", &[(202, ""), (202, ""), (202, ""), (200, "")]);
    let (_folder, session) = session(&server.url).await;
    write_properties(&session.workdir);
    let session = Arc::new(session);
    let (lifecycle, _effects) = Lifecycle::new(State::Unregistered);
    let mut states = lifecycle.watch();
    let task = tokio::spawn({
        let (session, lifecycle) = (session.clone(), lifecycle.clone());
        async move { register(&session, &lifecycle, &quick()).await }
    });
    states
        .wait_for(|state| *state == State::Pending)
        .await
        .unwrap();
    assert_eq!(properties(&session.workdir), PROPERTIES);
    task.await.unwrap();
    assert_eq!(lifecycle.state(), State::Registered);
    assert_eq!(server.calls("agent").len(), 4);
    assert_eq!(server.calls("token").len(), 1);
    assert_ne!(properties(&session.workdir), PROPERTIES);
}

#[tokio::test]
async fn a_wrong_token_is_replaced() {
    let server = FakeServer::start().await;
    server.answers("agent", &[(403, ""), (200, "")]);
    server.answers("token", &[(200, "token-new")]);
    let (_folder, session) = session(&server.url).await;
    session.keep_token("token-old".into()).unwrap();
    assert_eq!(register_with(&session).await, State::Registered);
    let calls = server.calls("agent");
    assert_eq!(field(&calls[0].body, "token"), "token-old");
    assert_eq!(field(&calls[1].body, "token"), "token-new");
    assert_eq!(session.token().unwrap().expose(), "token-new");
    let kept = fs::read_to_string(session.workdir.token()).unwrap();
    assert_eq!(kept, "token-new");
}

#[tokio::test]
async fn refusals_and_failures_are_asked_again() {
    let server = FakeServer::start().await;
    server.answers(
        "agent",
        &[
            (422, "no more pending agents"),
            (503, "backup"),
            (400, "?"),
            (200, ""),
        ],
    );
    server.answers(
        "token",
        &[(409, "known"), (500, ""), (200, ""), (200, "token-1")],
    );
    let (_folder, session) = session(&server.url).await;
    assert_eq!(register_with(&session).await, State::Registered);
    assert_eq!(server.calls("token").len(), 4);
    assert_eq!(server.calls("agent").len(), 4);
}

#[tokio::test]
async fn a_server_that_is_down_is_waited_for() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let (_folder, session) = session(&format!("http://{address}/go")).await;
    let session = Arc::new(session);
    let (lifecycle, _effects) = Lifecycle::new(State::Unregistered);
    let task = tokio::spawn({
        let (session, lifecycle) = (session.clone(), lifecycle.clone());
        async move { register(&session, &lifecycle, &quick()).await }
    });
    let _server = FakeServer::start_on(TcpListener::bind(address).await.unwrap());
    task.await.unwrap();
    assert_eq!(lifecycle.state(), State::Registered);
}

const ELASTIC: &str = "agent.auto.register.key=once\n\
    agent.auto.register.elasticAgent.agentId=pod-1\n\
    agent.auto.register.elasticAgent.pluginId=kubernetes\n";

/// A session of an agent that the server's plugin has made.
async fn elastic_session(url: &str) -> (tempfile::TempDir, Session) {
    let (folder, plain) = session(url).await;
    fs::write(plain.workdir.autoregister(), ELASTIC).unwrap();
    let template = AgentRuntimeInfo {
        elastic: Some(ElasticAgent {
            agent_id: "pod-1".into(),
            plugin_id: "kubernetes".into(),
        }),
        ..plain.template().clone()
    };
    let connection = plain.connection();
    let elastic = Session::new(
        plain.workdir.clone(),
        plain.settings.clone(),
        template,
        connection,
        Place::of(&plain.workdir, None),
    );
    (folder, elastic.unwrap())
}

#[tokio::test]
async fn an_elastic_agent_whose_key_is_used_up_finds_out_that_it_is_registered() {
    let server = FakeServer::start().await;
    // The server has registered it, but the answer was lost; the key counts once.
    server.answers("agent", &[(502, "lost"), (422, "no such key")]);
    let (_folder, session) = elastic_session(&server.url).await;
    assert_eq!(register_with(&session).await, State::Registered);
    let forms = server.calls("agent");
    assert_eq!(forms.len(), 2);
    assert_eq!(field(&forms[0].body, "agentAutoRegisterKey"), "once");
    assert_eq!(field(&forms[0].body, "elasticAgentId"), "pod-1");
    assert_eq!(field(&forms[0].body, "elasticPluginId"), "kubernetes");
    let asked = &server.calls("get_cookie")[0].body;
    assert!(
        asked.contains(
            r#""type":"ElasticAgentRuntimeInfo","elasticAgentId":"pod-1","elasticPluginId":"kubernetes""#
        ),
        "{asked}"
    );
    // What the answer to the registration would have done, the cookie does.
    let (lifecycle, _effects) = Lifecycle::new(State::Registered);
    obtain_cookie(&session, &lifecycle, &quick(), None).await;
    let left = properties(&session.workdir);
    assert!(
        left.contains("\n# agent.auto.register.key=once\n"),
        "{left}"
    );
    assert!(left.contains("\nagent.auto.register.elasticAgent.pluginId=kubernetes\n"));
}

#[tokio::test]
async fn an_elastic_agent_that_is_refused_asks_again() {
    let server = FakeServer::start().await;
    server.answers("agent", &[(422, "no"), (422, "no"), (200, "")]);
    server.answers("get_cookie", &[(403, "")]);
    let (_folder, session) = elastic_session(&server.url).await;
    assert_eq!(register_with(&session).await, State::Registered);
    assert_eq!(server.calls("agent").len(), 3);
}

#[tokio::test]
async fn our_own_server_is_asked_for_a_certificate() {
    let server = FakeServer::start().await;
    server.be_journeyman(std::time::Duration::ZERO);
    // It cannot be used, which must not undo the registration.
    server.answers(
        "agent",
        &[(
            200,
            r#"{"certificate":"x","trustStore":"y","secureUrl":"https://127.0.0.1:1/go","notAfter":"2030-01-01T00:00:00Z"}"#,
        )],
    );
    let (_folder, session) = session(&server.url).await;
    assert_eq!(register_with(&session).await, State::Registered);
    let form = server.calls("agent")[0].body.clone();
    assert!(field(&form, "certificateRequest").contains("BEGIN+CERTIFICATE+REQUEST"));
    assert!(!session.connection().is_secure());
}

#[tokio::test]
async fn a_cookie_is_got_and_kept_across_restarts() {
    let server = FakeServer::start().await;
    server.answers("get_cookie", &[(500, ""), (200, "\"cookie-7\"")]);
    let (_folder, session) = session(&server.url).await;
    session.keep_token("token-1".into()).unwrap();
    let (lifecycle, _effects) = Lifecycle::new(State::Registered);
    obtain_cookie(&session, &lifecycle, &quick(), None).await;
    assert_eq!(lifecycle.state(), State::Idle);
    assert_eq!(session.cookie().unwrap().expose(), "cookie-7");
    let kept = fs::read_to_string(session.workdir.cookie()).unwrap();
    assert_eq!(kept, "cookie-7");
}

#[tokio::test]
async fn an_agent_that_is_not_known_registers_instead_of_getting_a_cookie() {
    let server = FakeServer::start().await;
    server.answers("get_cookie", &[(403, "")]);
    let (_folder, session) = session(&server.url).await;
    session.keep_token("token-1".into()).unwrap();
    let (lifecycle, mut effects) = Lifecycle::new(State::Registered);
    obtain_cookie(&session, &lifecycle, &quick(), None).await;
    assert_eq!(lifecycle.state(), State::Unregistered);
    assert_eq!(effects.recv().await, Some(Effect::Register));
}
