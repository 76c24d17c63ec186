//! `GET /admin/agent/token` and `POST /admin/agent`.

use std::sync::Arc;

use axum::{
    Extension, Json,
    body::Body,
    extract::{Query, State},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, StatusCode, header};
use journeyman_protocol::{
    agent::{ElasticAgent, RuntimeStatus, UNKNOWN_VERSION},
    registration::{Certificate, RegistrationForm},
    secret::Secret,
};
use serde::Deserialize;
use uuid::Uuid;

use super::form;
use crate::{
    App,
    agents::{self, Agent, ConfigState, NameKind},
    answer::Refusal,
    database::DatabaseError,
    listening::Peer,
    trust::RequestError,
};

/// GoCD: `max.pending.agents.allowed`.
const MOST_PENDING: i64 = 100;
/// A form is small, even with a certificate request.
const LARGEST_FORM: usize = 256 * 1024;
/// The longest uuid: it has to fit into the common name of a certificate.
const LONGEST_UUID: usize = 64;

#[derive(Deserialize)]
pub(super) struct TokenQuery {
    #[serde(default)]
    uuid: String,
}

/// There are no Java archives here; a Java agent that was started by hand asks for none.
pub(super) async fn no_archive() -> Refusal {
    Refusal::text(
        StatusCode::NOT_FOUND,
        "this server has no Java agent to offer\n",
    )
}

pub(super) async fn token(
    State(app): State<Arc<App>>,
    Extension(peer): Extension<Peer>,
    Query(TokenQuery { uuid }): Query<TokenQuery>,
) -> Result<String, Refusal> {
    let conflict = |text: String| Err(Refusal::text(StatusCode::CONFLICT, text));
    if uuid.trim().is_empty() {
        return conflict("an agent needs a uuid to get a token\n".to_owned());
    }
    // Whoever shows the certificate of that agent is that agent.
    if peer.certificate.as_deref() != Some(uuid.as_str()) {
        let mut connection = app
            .database
            .readers()
            .acquire()
            .await
            .map_err(DatabaseError::from)?;
        if let Some(agent) = agents::find(&mut connection, &uuid).await? {
            let what = if agent.config_state == ConfigState::Pending {
                "waiting for approval"
            } else {
                "registered"
            };
            return conflict(format!(
                "an agent with this uuid is already {what}: a token is given out once. If the agent lost it, \
                 delete the agent here, or give it another uuid\n"
            ));
        }
    }
    Ok(app.keys.token(&uuid))
}

pub(super) async fn register(
    State(app): State<Arc<App>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let content_type = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let body = axum::body::to_bytes(body, LARGEST_FORM)
        .await
        .map_err(|_| {
            Refusal::text(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!(
                    "the registration form is larger than {LARGEST_FORM} bytes, or broke off\n"
                ),
            )
        })?;
    let form = form::read(content_type, &body).map_err(|error| {
        Refusal::text(
            StatusCode::BAD_REQUEST,
            format!("cannot read the registration: {error}\n"),
        )
    })?;
    if !app.keys.is_token(&form.uuid, form.token.expose()) || !peer.may_speak_for(&form.uuid) {
        tracing::warn!(agent = %form.uuid, peer = %peer.address, "a registration with a wrong token or certificate");
        return Err(Refusal::text(
            StatusCode::FORBIDDEN,
            "the token is not the one of this uuid: ask for a new token and register again\n",
        ));
    }
    if !admit(&app, &peer, &form).await? {
        return Ok(StatusCode::ACCEPTED.into_response());
    }
    let Some(request) = &form.certificate_request else {
        return Ok((StatusCode::OK, [(header::CONTENT_TYPE, "application/json")]).into_response());
    };
    let life = app.configuration.certificate_life;
    let issued = app
        .trust
        .issue(request, &form.uuid, app.clock.now(), life)
        .map_err(|error| match error {
            RequestError::Openssl(_) => Refusal::internal("make a certificate", &error),
            refused => refusal(refused.to_string()),
        })?;
    let trust_store = app
        .trust
        .trust_store()
        .map_err(|error| Refusal::internal("read the authority's certificate", &error))?;
    tracing::info!(agent = %form.uuid, not_after = %issued.not_after, "issued a client certificate");
    Ok(Json(Certificate {
        certificate: issued.chain,
        trust_store,
        secure_url: app.secure_url(&headers),
        not_after: issued.not_after,
    })
    .into_response())
}

fn refusal(reason: impl Into<String>) -> Refusal {
    Refusal::text(
        StatusCode::UNPROCESSABLE_ENTITY,
        format!("{}\n", reason.into()),
    )
}

/// Whether the agent may work; if not it is pending from now on. The order of checks is GoCD's.
async fn admit(app: &App, peer: &Peer, form: &RegistrationForm) -> Result<bool, Refusal> {
    let key_accepted = app
        .keys
        .is_auto_register_key(form.agent_auto_register_key.expose());
    let elastic = check(form, key_accepted)?;
    let now = app.now_ms();
    let mut write = app.database.write().await?;
    let known = agents::find(&mut write, &form.uuid).await?;
    if let Some(elastic) = &elastic {
        let user: Option<String> = sqlx::query_scalar(
            "SELECT uuid FROM agents WHERE elastic_agent_id = $1 AND elastic_plugin_id = $2 AND uuid <> $3",
        )
        .bind(&elastic.agent_id)
        .bind(&elastic.plugin_id)
        .bind(&form.uuid)
        .fetch_optional(&mut *write)
        .await
        .map_err(DatabaseError::from)?;
        if user.is_some() {
            return Err(refusal("another agent has this elastic agent id"));
        }
    }
    let is_new = known.is_none();
    let mut agent = match known {
        Some(agent) => agent,
        None => {
            if !key_accepted {
                let pending: i64 = sqlx::query_scalar(
                    "SELECT count(*) FROM agents WHERE config_state = 'Pending'",
                )
                .fetch_one(&mut *write)
                .await
                .map_err(DatabaseError::from)?;
                if pending >= MOST_PENDING {
                    return Err(refusal(format!(
                        "{MOST_PENDING} agents are already waiting for approval: an administrator has to enable or \
                         delete some first"
                    )));
                }
            }
            newcomer(form, now)
        }
    };
    if key_accepted && agent.config_state == ConfigState::Pending {
        enable(&mut agent, form, elastic)?;
    }
    if matches!(
        agent.runtime_status,
        RuntimeStatus::Missing | RuntimeStatus::LostContact
    ) {
        agent.runtime_status = RuntimeStatus::Idle;
    }
    agent.ip_address = peer.address.ip().to_canonical().to_string();
    agent.location.clone_from(&form.location);
    agent.operating_system.clone_from(&form.operating_system);
    agent.usable_space = Some(form.usable_space);
    agent.last_heard_at = Some(now);
    agents::insert(&mut write, &agent).await?;
    write.commit().await.map_err(DatabaseError::from)?;
    if is_new {
        tracing::info!(agent = %agent.uuid, hostname = %agent.hostname, state = %agent.config_state, "an agent registered");
        app.state_changed.raise();
    }
    Ok(agent.config_state != ConfigState::Pending)
}

fn check(form: &RegistrationForm, key_accepted: bool) -> Result<Option<ElasticAgent>, Refusal> {
    let agent_id = form.elastic_agent_id.trim();
    let plugin_id = form.elastic_plugin_id.trim();
    if (!agent_id.is_empty() || !plugin_id.is_empty()) && !key_accepted {
        return Err(refusal("an elastic agent needs the auto-register key"));
    }
    let well_formed = !form.uuid.is_empty()
        && form.uuid.len() <= LONGEST_UUID
        && form
            .uuid
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if !well_formed {
        return Err(refusal(format!(
            "the uuid is not well formed: up to {LONGEST_UUID} letters, digits, `-`, `_` and `.`"
        )));
    }
    if form.location.trim().is_empty() {
        return Err(refusal(
            "the agent's working directory (`location`) cannot be empty",
        ));
    }
    match (agent_id.is_empty(), plugin_id.is_empty()) {
        (true, true) => Ok(None),
        (false, false) => Ok(Some(ElasticAgent {
            agent_id: agent_id.to_owned(),
            plugin_id: plugin_id.to_owned(),
        })),
        _ => Err(refusal(
            "elasticAgentId and elasticPluginId go together: send both or neither",
        )),
    }
}

fn newcomer(form: &RegistrationForm, now: i64) -> Agent {
    Agent {
        uuid: form.uuid.clone(),
        hostname: form.hostname.clone(),
        ip_address: String::new(),
        location: String::new(),
        operating_system: String::new(),
        usable_space: None,
        agent_version: UNKNOWN_VERSION.to_owned(),
        bootstrapper_version: UNKNOWN_VERSION.to_owned(),
        config_state: ConfigState::Pending,
        runtime_status: RuntimeStatus::Unknown,
        resources: Vec::new(),
        environments: Vec::new(),
        elastic: None,
        cookie: None,
        build_locator: String::new(),
        kill_requested: false,
        cancelled_at: None,
        last_heard_at: None,
        registered_at: now,
    }
}

/// The key was right: what the agent says about itself is taken, this once.
fn enable(
    agent: &mut Agent,
    form: &RegistrationForm,
    elastic: Option<ElasticAgent>,
) -> Result<(), Refusal> {
    let resources = names(NameKind::Resource, &form.agent_auto_register_resources)?;
    if elastic.is_some() && !resources.is_empty() {
        return Err(refusal("an elastic agent cannot have resources"));
    }
    agent.resources = resources;
    agent.environments = names(
        NameKind::Environment,
        &form.agent_auto_register_environments,
    )?;
    agent.elastic = elastic;
    let shown = form.agent_auto_register_hostname.trim();
    if !shown.is_empty() {
        agent.hostname = shown.to_owned();
    }
    agent.config_state = ConfigState::Enabled;
    agent.runtime_status = RuntimeStatus::Idle;
    // As GoCD: nobody gets by without asking for a cookie.
    agent.cookie = Some(Secret::from(Uuid::new_v4().to_string()));
    Ok(())
}

fn names(kind: NameKind, list: &str) -> Result<Vec<String>, Refusal> {
    let mut names: Vec<String> = Vec::new();
    for name in list
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty())
    {
        if !kind.allows(name) {
            return Err(refusal(format!(
                "`{name}` is not a valid name for an agent's {kind}"
            )));
        }
        if !names.iter().any(|known| known.eq_ignore_ascii_case(name)) {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}
