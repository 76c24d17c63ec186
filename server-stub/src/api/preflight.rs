//! `/api/admin/config_repo_ops/preflight`, version 1: what the server would say of pipeline files.

use std::sync::Arc;

use axum::Router;
use axum::extract::multipart::MultipartError;
use axum::extract::{FromRequest, Multipart, Query, Request};
use axum::response::Response;
use axum::routing::post;
use http::{HeaderMap, StatusCode, header};
use serde::Deserialize;
use serde_json::json;

use super::body::confirmed;
use super::call::{Call, invalid, not_found};
use super::config_repos::PLUGIN;
use crate::App;
use crate::answer::Refusal;
use crate::pipelines::reader::template::Others;
use crate::pipelines::reader::{self, Home, Source};
use crate::pipelines::repositories;

#[derive(Deserialize)]
struct Asked {
    #[serde(rename = "pluginId")]
    plugin: Option<String>,
    #[serde(rename = "repoId")]
    repository: Option<String>,
}

pub(super) fn router() -> Router<Arc<App>> {
    Router::new().route("/api/admin/config_repo_ops/preflight", post(preflight))
}

/// Reads files as if a repository had them, and changes nothing.
async fn preflight(
    call: Call<1>,
    Query(asked): Query<Asked>,
    request: Request,
) -> Result<Response, Refusal> {
    match asked.plugin.as_deref() {
        Some(PLUGIN) => {}
        None => return Err(invalid("The query parameter 'pluginId' is missing.")),
        Some(other) => return Err(not_found("Plugin", "id", other)),
    }
    let mut connection = call.reader().await?;
    let repository = match &asked.repository {
        None => None,
        Some(id) => {
            let found = repositories::find(&mut connection, id).await?;
            Some(found.ok_or_else(|| not_found("Config repo", "id", id))?)
        }
    };
    let sent = receive(&call.app, request).await?;
    if sent.is_empty() {
        let text = "No file was sent: a file is a part of the body named 'files[]'.";
        return Ok(call.answer(&json!({ "errors": [text], "valid": false })));
    }
    let (mut files, mut errors) = (Vec::new(), Vec::new());
    for (path, content) in sent {
        match Source::new(path, content) {
            Ok(file) => files.push(file),
            Err(problem) => errors.push(problem.to_string()),
        }
    }
    let id = repository.as_ref().map_or("", |one| &one.id);
    let others = repositories::templates_of_others(&mut connection, &call.app, id).await?;
    // Of a repository that nobody has named, `type: configrepo` may be anything.
    let home = Home {
        url: repository.as_ref().map_or(".", |one| &one.url).to_owned(),
        branch: repository
            .as_ref()
            .map_or("HEAD", |one| &one.branch)
            .to_owned(),
        cipher: Some(Arc::clone(&call.app.cipher)),
        templates: Others::Known(others.files),
    };
    let reading = reader::read(&files, &home);
    errors.extend(reading.problems.iter().map(ToString::to_string));
    // Of half a configuration nobody can tell what is missing in it.
    if let Some(configuration) = reading.configuration.filter(|_| errors.is_empty()) {
        errors =
            repositories::conflicts(&mut connection, id, &configuration, &reading.links).await?;
    }
    let valid = errors.is_empty();
    Ok(call.answer(&json!({ "errors": errors, "valid": valid })))
}

/// Whether a body has parts; one that is not there has none.
fn has_parts(headers: &HeaderMap) -> Result<bool, Refusal> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let media_type = text(header::CONTENT_TYPE).unwrap_or_default();
    if media_type.is_empty() || text(header::CONTENT_LENGTH) == Some("0") {
        confirmed(headers)?;
        return Ok(false);
    }
    if !media_type.starts_with("multipart/form-data") {
        return Err(Refusal::message(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "The files must be sent with the header 'Content-Type: multipart/form-data'.",
        ));
    }
    Ok(true)
}

/// The files in a body, with their names.
async fn receive(app: &Arc<App>, request: Request) -> Result<Vec<(String, Vec<u8>)>, Refusal> {
    if !has_parts(request.headers())? {
        return Ok(Vec::new());
    }
    let parts = Multipart::from_request(request, app).await;
    let mut parts =
        parts.map_err(|refused| Refusal::message(refused.status(), refused.body_text()))?;
    let broken = |error: MultipartError| Refusal::message(error.status(), error.body_text());
    let mut files = Vec::new();
    while let Some(part) = parts.next_field().await.map_err(broken)? {
        if part.name() != Some("files[]") {
            continue;
        }
        let name = part.file_name().unwrap_or("file").to_owned();
        let content = part.bytes().await.map_err(broken)?;
        files.push((name, content.to_vec()));
    }
    Ok(files)
}
