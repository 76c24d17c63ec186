//! Lets a request through only if who sends it may.

use std::{net::IpAddr, sync::Arc};

use axum::{
    body::{Body, to_bytes},
    extract::{FromRequestParts as _, MatchedPath, RawPathParams, Request, State},
    middleware::Next,
    response::{IntoResponse, Redirect, Response},
};
use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header, request::Parts};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::{
    Means, Rights,
    access::{self, Need},
    audit::{self, Said},
    authentication::{self, Unknown},
    forms::{self, FirstPart},
    secret,
};
use crate::{
    App, answer::Refusal, body_limit, database::DatabaseError, listening::Peer, pages,
    pipelines::store, scheduling::run,
};

/// Bytes of the longest form.
const LONGEST_FORM: usize = 64 * 1024;

/// Bytes in which the first field of a form with files has to end. What comes with it of a file may
/// be more.
const LONGEST_FIRST_PART: usize = 4 * 1024;

/// Why a request is not let through.
enum Denied {
    Unknown(Unknown),
    /// Known, and not allowed.
    Forbidden,
    /// The server keeps still.
    Maintenance,
    /// The form is not of a page of ours.
    ForeignForm,
    Failed(Refusal),
}

/// Finds out who sends a request and whether they may; records what was changed.
pub async fn guard(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let Some(route) = request.extensions().get::<MatchedPath>().cloned() else {
        // Nothing is there, which everybody may know.
        return next.run(request).await;
    };
    let (mut parts, body) = request.into_parts();
    let parameters = RawPathParams::from_request_parts(&mut parts, &())
        .await
        .ok();
    let need = access::need(&parts.method, route.as_str(), parts.uri.path(), |name| {
        let mut all = parameters.iter().flatten();
        all.find_map(|(key, value)| (key == name).then(|| value.to_owned()))
    });
    if need == Need::Nothing {
        return next.run(Request::from_parts(parts, body)).await;
    }
    let for_programs = access::is_for_programs(route.as_str());
    if route.as_str().starts_with("/go/api/") && pages::is_from_artifact(&parts.headers) {
        body_limit::listen_out(&parts.headers, body).await;
        let text = "A page that a job has published may not call the API.";
        return Refusal::message(StatusCode::BAD_REQUEST, text).into_response();
    }
    let address = address(&parts);
    let admitted = async {
        let actor = authentication::authenticate(&app, &parts.headers, address, for_programs).await;
        let actor = actor.map_err(Denied::Unknown)?;
        let allowed = is_allowed(&app, &actor.rights, &need).await;
        Ok((
            actor,
            allowed.map_err(|error| Denied::Failed(error.into()))?,
        ))
    };
    let (actor, allowed) = match admitted.await {
        Ok(admitted) => admitted,
        Err(denied) => {
            body_limit::listen_out(&parts.headers, body).await;
            return answer(denied, &parts, for_programs);
        }
    };
    let changes = !matches!(parts.method, Method::GET | Method::HEAD | Method::OPTIONS);
    let entry = changes.then(|| audit::New {
        at: app.now_ms(),
        actor: actor.name.clone(),
        address,
        action: format!("{} {}", parts.method, parts.uri.path()),
    });
    if !allowed {
        if let Some(entry) = &entry {
            let status = StatusCode::FORBIDDEN.as_u16();
            audit::ended(&app, entry, &Said::default(), status).await;
        }
        body_limit::listen_out(&parts.headers, body).await;
        return answer(Denied::Forbidden, &parts, for_programs);
    }
    if changes && app.maintenance.is_on() && !access::is_for_maintenance(route.as_str()) {
        body_limit::listen_out(&parts.headers, body).await;
        return answer(Denied::Maintenance, &parts, for_programs);
    }
    let body = match &actor.means {
        Means::Session { form_token } if changes => {
            match own_form(&mut parts.headers, body, form_token).await {
                Ok(body) => body,
                Err(denied) => return answer(denied, &parts, for_programs),
            }
        }
        _ => body,
    };
    parts.extensions.insert(actor.clone());
    let running = pages::with_health(&app, next.run(Request::from_parts(parts, body)));
    let running = forms::viewed_by(actor, running);
    let (response, said) = audit::listening(entry.clone(), running).await;
    let status = response.status();
    let is_done = said.has_changed() || status.is_success() || status.is_redirection();
    if let Some(entry) = entry.filter(|_| is_done) {
        audit::ended(&app, &entry, &said, status.as_u16()).await;
    }
    response
}

/// Where a request comes from.
pub(super) fn address(parts: &Parts) -> IpAddr {
    let peer = parts.extensions.get::<Peer>();
    peer.map_or(IpAddr::from([0, 0, 0, 0]), |peer| peer.address.ip())
}

async fn is_allowed(app: &App, rights: &Rights, need: &Need) -> Result<bool, DatabaseError> {
    let (pipeline, role) = match need {
        Need::Nothing | Need::Account => return Ok(true),
        Need::Anywhere(role) => return Ok(rights.anywhere() >= Some(*role)),
        Need::Everywhere(role) => return Ok(rights.everywhere() >= Some(*role)),
        // Most people may see all, and need no look at the group.
        Need::Pipeline(_, role) | Need::Job(_, role) if rights.everywhere() >= Some(*role) => {
            return Ok(true);
        }
        Need::Pipeline(pipeline, role) => (Some(pipeline.clone()), *role),
        Need::Job(id, role) => (pipeline_of_job(app, *id).await?, *role),
    };
    let group = match pipeline {
        Some(pipeline) => group_of(app, &pipeline).await?,
        None => None,
    };
    Ok(match group {
        Some(group) => rights.in_group(&group) >= Some(role),
        // There is no such pipeline, which the handler will say.
        None => rights.anywhere() >= Some(role),
    })
}

/// The group a pipeline is in, or was when it ran last.
async fn group_of(app: &App, pipeline: &str) -> Result<Option<String>, DatabaseError> {
    let mut connection = app.database.readers().acquire().await?;
    if let Some(found) = store::pipeline(&mut connection, pipeline).await? {
        return Ok(Some(found.group));
    }
    let runs = run::runs_of(&mut connection, pipeline, None, 1).await?;
    Ok(runs
        .into_iter()
        .next()
        .map(|run| run.definition.pipeline.group))
}

async fn pipeline_of_job(app: &App, id: i64) -> Result<Option<String>, DatabaseError> {
    let mut connection = app.database.readers().acquire().await?;
    Ok(sqlx::query_scalar(
        "SELECT pipeline_runs.pipeline FROM jobs JOIN stages ON stages.id = jobs.stage_id \
         JOIN pipeline_runs ON pipeline_runs.id = stages.run_id WHERE jobs.id = $1",
    )
    .bind(id)
    .fetch_optional(&mut *connection)
    .await?)
}

/// The body of a request of a session, if it is from a page of ours.
async fn own_form(headers: &mut HeaderMap, body: Body, token: &str) -> Result<Body, Denied> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(given) = text(forms::HEADER) {
        return if secret::same(given, token) {
            Ok(body)
        } else {
            body_limit::listen_out(headers, body).await;
            Err(Denied::ForeignForm)
        };
    }
    let kind = text("content-type").unwrap_or_default();
    if let Some(boundary) = boundary(kind) {
        let body = own_files(headers, body, &boundary, token).await?;
        // No other site can have sent it, which is all that this header says.
        let confirmed = HeaderValue::from_static("true");
        headers.insert("x-gocd-confirm", confirmed);
        return Ok(body);
    }
    if !kind.starts_with("application/x-www-form-urlencoded") {
        body_limit::listen_out(headers, body).await;
        return Err(Denied::ForeignForm);
    }
    let bytes = to_bytes(body, LONGEST_FORM).await.map_err(|_| {
        let text = format!("a form has at most {LONGEST_FORM} bytes\n");
        Denied::Failed(Refusal::text(StatusCode::PAYLOAD_TOO_LARGE, text))
    })?;
    match forms::token_in(&bytes) {
        Some(given) if secret::same(&given, token) => Ok(Body::from(bytes)),
        _ => Err(Denied::ForeignForm),
    }
}

/// What separates the parts of a form with files.
fn boundary(kind: &str) -> Option<String> {
    let parameters = kind.strip_prefix("multipart/form-data")?;
    let mut parameters = parameters.split(';').map(str::trim);
    let boundary = parameters.find_map(|one| one.strip_prefix("boundary="))?;
    Some(boundary.trim_matches('"').to_owned())
}

/// A form with files, whose first field shows that it is ours; the rest of it, not read yet.
async fn own_files(
    headers: &HeaderMap,
    body: Body,
    boundary: &str,
    token: &str,
) -> Result<Body, Denied> {
    let mut begin = Vec::new();
    let mut stream = body.into_data_stream();
    let next = loop {
        match forms::first_part(&begin, boundary) {
            FirstPart::Token(given, next) if secret::same(&given, token) => break Some(next),
            FirstPart::Unfinished if begin.len() < LONGEST_FIRST_PART => {}
            _ => break None,
        }
        match stream.next().await {
            Some(Ok(chunk)) => begin.extend_from_slice(&chunk),
            Some(Err(_)) | None => break None,
        }
    };
    let Some(next) = next else {
        body_limit::listen_out(headers, Body::from_stream(stream)).await;
        return Err(Denied::ForeignForm);
    };
    let begin = Bytes::from(begin).slice(next..);
    let begin = futures_util::stream::once(async move { Ok(begin) });
    Ok(Body::from_stream(begin.chain(stream)))
}

fn answer(denied: Denied, parts: &Parts, for_programs: bool) -> Response {
    let refuse = |status: StatusCode, message: &str| {
        if for_programs {
            Refusal::message(status, message).into_response()
        } else {
            Refusal::text(status, format!("{message}\n")).into_response()
        }
    };
    match denied {
        Denied::Failed(refusal) | Denied::Unknown(Unknown::Failed(refusal)) => {
            refusal.into_response()
        }
        Denied::Forbidden => refuse(
            StatusCode::FORBIDDEN,
            "You are not authorized to perform this action.",
        ),
        // GoCD's words.
        Denied::Maintenance => refuse(
            StatusCode::SERVICE_UNAVAILABLE,
            "Server is in maintenance mode, please try later.",
        ),
        Denied::ForeignForm => refuse(
            StatusCode::FORBIDDEN,
            "This form is out of date or was sent by another site, and has had no effect. Load the page again.",
        ),
        Denied::Unknown(Unknown::TooMany(seconds)) => too_many(seconds, refuse),
        Denied::Unknown(Unknown::Token) => refuse(
            StatusCode::UNAUTHORIZED,
            "This access token is wrong or was revoked.",
        ),
        Denied::Unknown(Unknown::Password) => {
            let by_password = parts.headers.contains_key(header::AUTHORIZATION);
            if !for_programs && !by_password {
                return Redirect::to(&login_address(parts)).into_response();
            }
            let mut response = refuse(StatusCode::UNAUTHORIZED, "You are not authenticated!");
            // A script's own request must not make the browser ask for a password.
            let by_script = parts.headers.get("x-requested-with");
            if by_script.is_none_or(|value| value.as_bytes() != b"XMLHttpRequest") {
                let challenge = HeaderValue::from_static("Basic realm=\"GoCD\"");
                response
                    .headers_mut()
                    .insert(header::WWW_AUTHENTICATE, challenge);
            }
            response
        }
    }
}

/// The answer to one password too many.
pub(super) fn too_many(
    seconds: i64,
    refuse: impl FnOnce(StatusCode, &str) -> Response,
) -> Response {
    let message = format!("Too many logins have failed. Try again in {seconds} s.");
    let mut response = refuse(StatusCode::TOO_MANY_REQUESTS, &message);
    let after = HeaderValue::from(seconds);
    response.headers_mut().insert(header::RETRY_AFTER, after);
    response
}

/// The login page, which leads back to the page that was asked for.
fn login_address(parts: &Parts) -> String {
    let asked = parts.uri.path_and_query();
    match asked.filter(|_| parts.method == Method::GET) {
        Some(asked) => {
            let to = utf8_percent_encode(asked.as_str(), NON_ALPHANUMERIC);
            format!("/go/auth/login?to={to}")
        }
        None => "/go/auth/login".to_owned(),
    }
}
