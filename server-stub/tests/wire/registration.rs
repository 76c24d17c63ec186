//! Tokens and the registration form.

use pretty_assertions::assert_eq;
use serde_json::json;

use crate::{
    agent::{Agent, Form},
    server::{KEY, Server, answer},
};

fn with(form: &Form, changes: &[(&'static str, &str)]) -> Form {
    let mut form = form.clone();
    for (name, value) in changes {
        let field = form.iter_mut().find(|(field, _)| field == name).unwrap();
        field.1 = (*value).to_owned();
    }
    form
}

#[tokio::test]
async fn a_token_is_given_once() {
    let server = Server::start().await;
    let token = async |query: &str| {
        answer(server.get(&format!("/admin/agent/token{query}")))
            .await
            .status
    };
    for blank in ["", "?uuid=", "?uuid=%20"] {
        assert_eq!(token(blank).await, 409, "{blank}");
    }
    let agent = Agent::with_token(&server).await;
    assert_eq!(agent.token.len(), 44);
    let own = format!("?uuid={}", agent.uuid);
    // Asking registers nothing.
    assert_eq!(token(&own).await, 200);
    assert_eq!(agent.register(&agent.form("")).await.status, 202);
    assert_eq!(token(&own).await, 409);
    assert_eq!(agent.register(&agent.form(KEY)).await.status, 200);
    assert_eq!(token(&own).await, 409);
}

#[tokio::test]
async fn an_agent_without_the_key_waits_until_it_is_enabled() {
    let server = Server::start().await;
    let agent = Agent::with_token(&server).await;
    let path = format!("/api/agents/{}", agent.uuid);
    for key in ["", "a wrong key"] {
        assert_eq!(agent.register(&agent.form(key)).await.status, 202, "{key}");
        let shown = server.json(&path).await;
        assert_eq!(shown["agent_config_state"], "Pending", "{key}");
        assert_eq!(agent.call("get_cookie", json!({})).await.status, 403);
    }
    let enable = json!({ "agent_config_state": "enabled" });
    assert_eq!(server.patch(&path, &enable).await.status, 200);
    let registered = agent.register(&agent.form("")).await;
    assert_eq!(
        (registered.status, registered.text.as_str()),
        (200, ""),
        "{registered:?}"
    );
    assert_eq!(registered.media_type, "application/json");
    assert_eq!(agent.call("get_cookie", json!({})).await.status, 200);
}

#[tokio::test]
async fn resources_and_names_are_taken_with_the_key_and_only_the_first_time() {
    let server = Server::start().await;
    let agent = Agent::with_token(&server).await;
    let path = format!("/api/agents/{}", agent.uuid);
    let first = with(
        &agent.form(KEY),
        &[
            ("agentAutoRegisterResources", "java, ant,,JAVA"),
            ("agentAutoRegisterHostname", "shown"),
        ],
    );
    assert_eq!(agent.register(&first).await.status, 200);
    let again = with(
        &agent.form(KEY),
        &[
            ("agentAutoRegisterResources", "docker"),
            ("agentAutoRegisterHostname", "other"),
        ],
    );
    assert_eq!(agent.register(&again).await.status, 200);
    let shown = server.json(&path).await;
    assert_eq!(shown["resources"], json!(["java", "ant"]));
    assert_eq!(shown["hostname"], "shown");
    assert_eq!(shown["agent_state"], "Idle");

    let other = Agent::with_token(&server).await;
    let ignored = with(
        &other.form(""),
        &[
            ("agentAutoRegisterResources", "java"),
            ("agentAutoRegisterHostname", "shown"),
        ],
    );
    assert_eq!(other.register(&ignored).await.status, 202);
    let shown = server.json(&format!("/api/agents/{}", other.uuid)).await;
    assert_eq!(
        (&shown["hostname"], &shown["resources"]),
        (&json!("build-07"), &json!([]))
    );
}

#[tokio::test]
async fn a_registration_with_a_wrong_token_is_refused_before_anything_else() {
    let server = Server::start().await;
    let agent = Agent::with_token(&server).await;
    let other = Agent::with_token(&server).await;
    for token in ["", "nonsense", &other.token] {
        let form = with(&agent.form(KEY), &[("token", token), ("location", "")]);
        assert_eq!(agent.register(&form).await.status, 403, "{token}");
    }
    let path = format!("/api/agents/{}", agent.uuid);
    assert_eq!(answer(server.get(&path)).await.status, 404);
}

#[tokio::test]
async fn a_registration_that_makes_no_sense_is_refused_with_a_reason() {
    let server = Server::start().await;
    let agent = Agent::with_token(&server).await;
    let both = [("elasticAgentId", "pod-1"), ("elasticPluginId", "k8s")];
    let table = [
        (KEY, &[("location", "")][..]),
        ("", &both),
        ("a wrong key", &both),
        ("", &both[..1]),
        (KEY, &both[..1]),
        (KEY, &both[1..]),
        (KEY, &[("agentAutoRegisterResources", "a/b")]),
        (KEY, &[("agentAutoRegisterEnvironments", "a/b")]),
        (
            KEY,
            &[both[0], both[1], ("agentAutoRegisterResources", "java")],
        ),
    ];
    for (key, changes) in table {
        let refused = agent.register(&with(&agent.form(key), changes)).await;
        assert_eq!(refused.status, 422, "{key} {changes:?}: {refused:?}");
        assert!(refused.text.trim().len() > 10, "{changes:?}: {refused:?}");
        let path = format!("/api/agents/{}", agent.uuid);
        assert_eq!(answer(server.get(&path)).await.status, 404, "{changes:?}");
    }
    // A token can be had for any text, so that the uuid is looked at only here.
    for uuid in ["not/a uuid", "<b>", &"x".repeat(65)] {
        let token = server.get("/admin/agent/token").query(&[("uuid", uuid)]);
        let token = answer(token).await.text;
        let form = with(&agent.form(KEY), &[("uuid", uuid), ("token", &token)]);
        assert_eq!(agent.register(&form).await.status, 422, "{uuid}");
    }
    // None of this was held against the agent.
    let form = with(&agent.form(KEY), &both);
    assert_eq!(agent.register(&form).await.status, 200);
    let second = Agent::with_token(&server).await;
    let taken = second.register(&with(&second.form(KEY), &both)).await;
    assert_eq!(taken.status, 422, "{taken:?}");
}

#[tokio::test]
async fn all_twelve_parameters_are_needed() {
    let server = Server::start().await;
    let agent = Agent::with_token(&server).await;
    let whole = agent.form(KEY);
    for (missing, _) in &whole {
        let mut form = whole.clone();
        form.retain(|(name, _)| name != missing);
        let refused = agent.register(&form).await;
        assert_eq!(refused.status, 400, "{missing}");
        assert!(refused.text.contains(missing), "{missing}: {refused:?}");
    }
    let form = with(&whole, &[("usablespace", "much")]);
    assert_eq!(agent.register(&form).await.status, 400);
    assert_eq!(agent.register(&whole).await.status, 200);
}

#[tokio::test]
async fn a_disabled_agent_is_denied_work_and_may_be_deleted() {
    let server = Server::start().await;
    let agent = Agent::registered(&server).await;
    let path = format!("/api/agents/{}", agent.uuid);
    let delete = async || answer(server.client.delete(server.url(&path))).await.status;
    assert_eq!(delete().await, 422);
    let disable = json!({ "agent_config_state": "Disabled" });
    assert_eq!(server.patch(&path, &disable).await.status, 200);
    assert_eq!(
        agent.work().await,
        json!({ "type": "DeniedAgentWork", "uuid": agent.uuid })
    );
    // It still is registered: it pings, and keeps its registration.
    assert_eq!(agent.ping("Idle").await, "\"NONE\"");
    assert_eq!(agent.register(&agent.form("")).await.status, 200);

    agent.ping("Building").await;
    assert_eq!(delete().await, 422);
    agent.ping("Idle").await;
    assert_eq!(delete().await, 200);
    assert_eq!(delete().await, 404);
    assert_eq!(agent.call("ping", json!({})).await.status, 403);
    // The old token is good for a new registration, as in GoCD.
    assert_eq!(agent.register(&agent.form("")).await.status, 202);
    assert_eq!(delete().await, 422);
}
