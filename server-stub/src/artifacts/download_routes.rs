//! GET of a job's files: a file, the console, a folder's listing or a folder as a zip.

use std::{io, path::Path, sync::Arc};

use axum::{
    Extension, Json,
    extract::{OriginalUri, State},
    response::{IntoResponse, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, StatusCode, Uri};
use journeyman_protocol::files::SHA1;
use sha1::{Digest as _, Sha1};

use super::{listing, reports, zip_stream};
use crate::{
    App,
    answer::Refusal,
    console,
    database::DatabaseError,
    download,
    jobs::{self, LocatedJob, Locator},
    listening::Peer,
    remoting::authenticate,
    users::{Actor, Means},
};

pub(super) async fn for_agents(
    state: State<Arc<App>>,
    Extension(peer): Extension<Peer>,
    uri: OriginalUri,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    authenticate(&state, &peer, &headers).await?;
    answer(&state.0, &peer, &uri, &headers).await
}

pub(super) async fn for_people(
    State(app): State<Arc<App>>,
    Extension(peer): Extension<Peer>,
    actor: Actor,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    if matches!(actor.means, Means::Session { .. }) {
        let (locator, segments) = Locator::parse(below_files(&uri))?;
        if reports::is_page(&segments) {
            return Ok(reports::lead(&app, &locator, &segments));
        }
    }
    answer(&app, &peer, &uri, &headers).await
}

async fn answer(
    app: &Arc<App>,
    peer: &Peer,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<Response, Refusal> {
    let (mut locator, segments) = Locator::parse(below_files(uri))?;
    // `job.json` and `job.zip` are the root of the job's files, unless a job is called that.
    let mut form = Form::File;
    if segments.is_empty() && locate(app, &locator).await?.is_none() {
        let (name, asked) = Form::of(&locator.job);
        (locator.job, form) = (name.to_owned(), asked);
    }
    let job = of_job(app, &locator, &segments).await?;
    if console::is_console(&segments) {
        let start = parameter(uri, "startLineNumber")
            .and_then(|line| line.parse().ok())
            .unwrap_or(0);
        return console::get(app, &job, start).await;
    }
    let root = app.paths.artifacts(job.id);
    let path = root.join(segments.join("/"));
    if !segments.is_empty() && path.is_file() {
        return file(&path, uri, headers).await;
    }
    let folder = match segments.split_last() {
        None => Vec::new(),
        Some((last, folders)) => {
            let (name, asked) = Form::of(last);
            form = asked;
            folders
                .iter()
                .map(String::as_str)
                .chain((!name.is_empty()).then_some(name))
                .map(str::to_owned)
                .collect()
        }
    };
    let url = format!("{}/files/{locator}", app.base_url(headers, Some(peer)));
    let has_console = app
        .consoles
        .of(job.id)
        .length()
        .await
        .is_ok_and(|length| length.is_some());
    match form {
        Form::File => None,
        Form::Listing => {
            let listed = move || listing::list(&root, &folder, &url, has_console);
            let listed = tokio::task::spawn_blocking(listed)
                .await
                .map_err(|error| Refusal::internal("list artifacts", &error))?
                .map_err(|error| Refusal::internal("list artifacts", &error))?;
            listed.map(|entries| Json(entries).into_response())
        }
        Form::Zip => {
            let name = folder.last().unwrap_or(&locator.job).clone();
            let path = root.join(folder.join("/"));
            path.is_dir().then(|| zip_stream::folder(app, path, name))
        }
    }
    .ok_or_else(|| missing(&segments))
}

/// What follows `/files/` in the path, still encoded.
pub(super) fn below_files(uri: &Uri) -> &str {
    uri.path()
        .split_once("/files/")
        .map_or("", |(_, path)| path)
}

/// The first value of a parameter of the query.
pub(super) fn parameter(uri: &Uri, name: &str) -> Option<String> {
    let query = uri.query()?.as_bytes();
    url::form_urlencoded::parse(query)
        .find(|(key, _)| key == name)
        .map(|(_, value)| value.into_owned())
}

/// What is asked for, told by the end of the name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    File,
    Listing,
    Zip,
}

impl Form {
    /// The name without its end, and what the end says.
    fn of(name: &str) -> (&str, Self) {
        if let Some(folder) = name.strip_suffix(".json") {
            (folder, Self::Listing)
        } else if let Some(folder) = name.strip_suffix(".zip") {
            (folder, Self::Zip)
        } else {
            (name, Self::File)
        }
    }
}

/// The job whose file is asked for.
pub(super) async fn of_job(
    app: &App,
    locator: &Locator,
    segments: &[String],
) -> Result<LocatedJob, Refusal> {
    let missing = |text: String| Refusal::text(StatusCode::NOT_FOUND, text);
    let Some(job) = locate(app, locator).await? else {
        return Err(missing(format!("there is no job {locator}\n")));
    };
    if job.purged && !segments.is_empty() {
        return Err(missing(
            "the console and artifacts of this job were deleted: the server keeps those of so many runs, so many days \
             or so much free space; pinned runs are kept\n"
                .to_owned(),
        ));
    }
    Ok(job)
}

async fn locate(app: &App, locator: &Locator) -> Result<Option<LocatedJob>, Refusal> {
    let mut connection = app
        .database
        .readers()
        .acquire()
        .await
        .map_err(DatabaseError::from)?;
    Ok(jobs::locate(&mut connection, locator, None).await?)
}

pub(super) fn missing(segments: &[String]) -> Refusal {
    Refusal::text(
        StatusCode::NOT_FOUND,
        format!("there is no artifact /{}\n", segments.join("/")),
    )
}

pub(super) async fn file(path: &Path, uri: &Uri, headers: &HeaderMap) -> Result<Response, Refusal> {
    let failed = |error: io::Error| Refusal::internal("read an artifact", &error);
    if let Some(known) = parameter(uri, SHA1) {
        let path = path.to_path_buf();
        let now = tokio::task::spawn_blocking(move || sha1(&path))
            .await
            .map_err(|error| Refusal::internal("read an artifact", &error))?
            .map_err(failed)?;
        if now == known {
            return Ok(StatusCode::NOT_MODIFIED.into_response());
        }
    }
    download::send(path, content_type(path), headers)
        .await
        .map_err(failed)
}

fn sha1(path: &Path) -> io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    let mut hasher = Sha1::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = io::Read::read(&mut file, &mut buffer)?;
        if read == 0 {
            return Ok(STANDARD.encode(hasher.finalize()));
        }
        hasher.update(&buffer[..read]);
    }
}

fn content_type(path: &Path) -> &'static str {
    let extension = path
        .extension()
        .and_then(|extension| extension.to_str())
        .unwrap_or_default();
    match extension.to_ascii_lowercase().as_str() {
        "txt" | "log" | "md" | "checksum" => "text/plain; charset=utf-8",
        "html" | "htm" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "csv" => "text/csv; charset=utf-8",
        "json" => "application/json",
        "xml" => "application/xml",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "pdf" => "application/pdf",
        "zip" => "application/zip",
        "gz" | "tgz" => "application/gzip",
        "jar" => "application/java-archive",
        _ => "application/octet-stream",
    }
}
