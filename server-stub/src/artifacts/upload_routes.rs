//! POST (store) and PUT (append) of a job's files.

use std::{
    fs::{self, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::Path,
    sync::Arc,
};

use axum::{
    Extension,
    body::Body,
    extract::{FromRequest as _, Multipart, OriginalUri, Request, State},
    response::{IntoResponse, Response},
};
use futures_util::StreamExt as _;
use http::{HeaderMap, StatusCode, Uri};
use journeyman_protocol::files::{BUILD_ID, CONFIRM, X_GOCD_CONFIRM};

use super::{
    receive::{self, Received, Zip},
    store::{CHECKSUMS, PlaceError, Placing, StoredArtifact, remember},
    unpack::{self, Unpacked},
};
use crate::hex::hex;
use crate::{
    App,
    agents::Agent,
    answer::Refusal,
    console,
    database::DatabaseError,
    jobs::{self, LocatedJob, Locator},
    listening::Peer,
    remoting::authenticate,
    space,
};

pub(super) async fn post_by_agent(
    State(state): State<Arc<App>>,
    Extension(peer): Extension<Peer>,
    OriginalUri(uri): OriginalUri,
    request: Request,
) -> Result<Response, Refusal> {
    let agent = authenticate(&state, &peer, request.headers()).await?;
    store(&state, &uri, request, Some(&agent)).await
}

pub(super) async fn put_by_agent(
    State(state): State<Arc<App>>,
    Extension(peer): Extension<Peer>,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let agent = authenticate(&state, &peer, &headers).await?;
    append_to(&state, &uri, &headers, body, Some(&agent)).await
}

pub(super) async fn post(
    State(app): State<Arc<App>>,
    OriginalUri(uri): OriginalUri,
    request: Request,
) -> Result<Response, Refusal> {
    store(&app, &uri, request, None).await
}

pub(super) async fn put(
    State(app): State<Arc<App>>,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    append_to(&app, &uri, &headers, body, None).await
}

/// Stores an upload; an agent's only among what belongs to its job.
async fn store(
    app: &Arc<App>,
    uri: &Uri,
    request: Request,
    by: Option<&Agent>,
) -> Result<Response, Refusal> {
    let confirmed = [X_GOCD_CONFIRM, CONFIRM].iter().any(|name| {
        request
            .headers()
            .get(*name)
            .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"true"))
    });
    if !confirmed {
        return Err(Refusal::text(
            StatusCode::BAD_REQUEST,
            format!("an upload needs the header {X_GOCD_CONFIRM}: true\n"),
        ));
    }
    let budget = space::admit(app, request.headers())?;
    let (job, segments) = target(app, uri, by).await?;
    if !segments.is_empty()
        && app
            .paths
            .artifacts(job.id)
            .join(segments.join("/"))
            .is_file()
    {
        return Err(PlaceError::Exists(segments.join("/")).into());
    }
    let multipart = Multipart::from_request(request, app)
        .await
        .map_err(|error| {
            Refusal::text(
                StatusCode::BAD_REQUEST,
                format!("an upload is multipart/form-data: {error}\n"),
            )
        })?;
    let received = receive::parts(app, multipart, budget).await?;
    if received.zip.is_none() && received.file.is_none() {
        return Err(Refusal::text(
            StatusCode::BAD_REQUEST,
            "the upload has neither a part `zipfile` nor a part `file`\n",
        ));
    }
    let shown = segments.join("/");
    // A task of its own: a client that goes away does not leave half of it in place.
    let task = app.tasks.spawn({
        let app = Arc::clone(app);
        async move { take_in(&app, job.id, segments, received).await }
    });
    let count = task
        .await
        .map_err(|error| Refusal::internal("store an upload", &error))??;
    let created = format!("stored {count} file(s) at /{shown}\n");
    Ok((StatusCode::CREATED, created).into_response())
}

/// Appends to a file of a job; an agent only to one of its job.
async fn append_to(
    app: &Arc<App>,
    uri: &Uri,
    headers: &HeaderMap,
    body: Body,
    by: Option<&Agent>,
) -> Result<Response, Refusal> {
    let (job, segments) = target(app, uri, by).await?;
    if console::is_console(&segments) {
        return console::put(app, &job, headers, body).await;
    }
    let budget = space::admit(app, headers)?;
    let body = body.into_data_stream().map(|chunk| {
        chunk.map_err(|_| Refusal::text(StatusCode::BAD_REQUEST, "the body broke off\n"))
    });
    let received = receive::stream(app, body, budget, budget).await?;
    let task = app.tasks.spawn({
        let app = Arc::clone(app);
        async move {
            let _turn = app.artifact_locks.lock(job.id).await;
            let root = app.paths.artifacts(job.id);
            let path = segments.join("/");
            let stored = blocking(move || {
                let mut placing = Placing::new(&root);
                let to = placing.place(&segments)?;
                let measured = append(received.content.path(), &to, false)
                    .and_then(|()| unpack::measure(&to))
                    .map_err(|error| Refusal::internal("append to an artifact", &error))?;
                placing.finish()?;
                Ok(measured)
            })
            .await?;
            let (size, sha256) = stored;
            remember(&app, job.id, &[artifact(path, size, sha256)]).await?;
            Ok::<(), Refusal>(())
        }
    });
    task.await
        .map_err(|error| Refusal::internal("append to an artifact", &error))??;
    Ok(StatusCode::OK.into_response())
}

/// The job and the path in it that a URL names. An agent is refused at a job that was never its own, or
/// is no longer at this path: of one that was rescheduled another agent may have the place.
async fn target(
    app: &App,
    uri: &Uri,
    by: Option<&Agent>,
) -> Result<(LocatedJob, Vec<String>), Refusal> {
    let (locator, segments) = Locator::parse(super::download_routes::below_files(uri))?;
    let build_id = super::download_routes::parameter(uri, BUILD_ID).and_then(|id| id.parse().ok());
    let mut connection = app
        .database
        .readers()
        .acquire()
        .await
        .map_err(DatabaseError::from)?;
    let job = jobs::locate(&mut connection, &locator, build_id).await?;
    let Some(job) = job else {
        return Err(Refusal::text(
            StatusCode::NOT_FOUND,
            format!("there is no job {locator}\n"),
        ));
    };
    if let Some(agent) = by
        && job.agent_uuid.as_ref() != Some(&agent.uuid)
    {
        tracing::warn!(agent = agent.uuid, job = %locator, "refused what an agent writes to another's job");
        return Err(Refusal::text(
            StatusCode::FORBIDDEN,
            format!("the job {locator} is not this agent's, which writes to its own job only\n"),
        ));
    }
    Ok((job, segments))
}

/// Puts what was received into place; answers how many files that were.
async fn take_in(
    app: &App,
    build_id: i64,
    folder: Vec<String>,
    received: Received,
) -> Result<usize, Refusal> {
    let _turn = app.artifact_locks.lock(build_id).await;
    let root = app.paths.artifacts(build_id);
    let artifacts = blocking(move || {
        let mut artifacts = Vec::new();
        let mut placing = Placing::new(&root);
        if let Some(zip) = &received.zip {
            artifacts.extend(take_in_zip(zip, &mut placing, &folder)?);
        }
        if let Some(file) = &received.file {
            let failed = |error: io::Error| Refusal::internal("store an artifact", &error);
            file.content.as_file().sync_data().map_err(failed)?;
            placing.move_in(file.content.path(), &folder)?;
            artifacts.push(artifact(folder.join("/"), file.size, hex(&file.sha256)));
        }
        if let Some(checksums) = &received.checksums {
            let to = placing.place(&CHECKSUMS.map(str::to_owned))?;
            append(checksums.content.path(), &to, true)
                .map_err(|error| Refusal::internal("append to the file of checksums", &error))?;
        }
        placing.finish()?;
        Ok(artifacts)
    })
    .await?;
    remember(app, build_id, &artifacts).await?;
    Ok(artifacts.len())
}

fn take_in_zip(
    zip: &Zip,
    placing: &mut Placing<'_>,
    folder: &[String],
) -> Result<Vec<StoredArtifact>, Refusal> {
    placing.folder(folder)?;
    let mut artifacts = Vec::new();
    for entry in &zip.entries {
        let names = entry.path.split('/');
        let inside = names.filter(|name| !matches!(*name, "" | "."));
        let path: Vec<String> = folder
            .iter()
            .cloned()
            .chain(inside.map(str::to_owned))
            .collect();
        match &entry.file {
            None => {
                placing.folder(&path)?;
            }
            Some(Unpacked {
                staged,
                size,
                sha256,
            }) => {
                placing.move_in(&zip.staging.path().join(staged.to_string()), &path)?;
                artifacts.push(artifact(path.join("/"), *size, hex(sha256)));
            }
        }
    }
    Ok(artifacts)
}

fn artifact(path: String, size: u64, sha256: String) -> StoredArtifact {
    StoredArtifact {
        path,
        size: i64::try_from(size).unwrap_or(i64::MAX),
        sha256,
    }
}

/// Appends a file to another; with `whole_lines`, beginning on a line of its own even when an
/// earlier append was cut off.
fn append(from: &Path, to: &Path, whole_lines: bool) -> io::Result<()> {
    let mut source = fs::File::open(from)?;
    let mut file = OpenOptions::new()
        .create(true)
        .read(true)
        .append(true)
        .open(to)?;
    if whole_lines && file.metadata()?.len() > 0 {
        let mut last = [0];
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            file.write_all(b"\n")?;
        }
    }
    io::copy(&mut source, &mut file)?;
    file.sync_data()
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Refusal::internal("store an upload", &error))?
}
