//! Console PUTs of agents, and reading by line.

use std::sync::Arc;

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use futures_util::StreamExt as _;
use http::{HeaderMap, StatusCode, header};
use journeyman_protocol::extension::{JOURNEYMAN_CONSOLE_LENGTH, JOURNEYMAN_CONSOLE_OFFSET};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio_util::io::ReaderStream;

use super::AppendError;
use crate::{App, answer::Refusal, jobs::LocatedJob, space};

/// Appends the body to the job's console.
///
/// # Errors
///
/// 400 for an offset that is none, 409 for one beyond the end, 413 when the disk is full, 500 when
/// it cannot be written.
pub async fn put(
    app: &Arc<App>,
    job: &LocatedJob,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    space::admit(app, headers)?;
    let offset = match headers.get(JOURNEYMAN_CONSOLE_OFFSET) {
        None => None,
        Some(value) => Some(
            value
                .to_str()
                .ok()
                .and_then(|text| text.trim().parse().ok())
                .ok_or_else(|| {
                    Refusal::text(
                        StatusCode::BAD_REQUEST,
                        format!("{JOURNEYMAN_CONSOLE_OFFSET} is not a number of bytes\n"),
                    )
                })?,
        ),
    };
    let console = app.consoles.of(job.id);
    let counted = Arc::clone(app);
    let stream = body.into_data_stream().map(move |chunk| {
        let chunk = chunk.map_err(drop)?;
        counted.metrics.console_received(chunk.len());
        Ok::<_, ()>(chunk)
    });
    // A task of its own, so that a client that goes away leaves no write in flight.
    let appended = app
        .tasks
        .spawn(async move { console.append(offset, stream).await })
        .await
        .map_err(|error| Refusal::internal("write a console", &error))?;
    let length = |length: u64| [(JOURNEYMAN_CONSOLE_LENGTH, length.to_string())];
    match appended {
        Ok(now) => Ok((StatusCode::OK, length(now)).into_response()),
        Err(AppendError::Gap { length: now }) => Ok((
            StatusCode::CONFLICT,
            length(now),
            format!("the console has {now} bytes: send from there\n"),
        )
            .into_response()),
        Err(AppendError::BrokenOff) => Err(Refusal::text(
            StatusCode::BAD_REQUEST,
            "the body broke off\n",
        )),
        Err(error) => Err(Refusal::internal("write a console", &error)),
    }
}

/// The console from a line on, as it is now: it is streamed, and what comes later is not in it.
///
/// # Errors
///
/// 404 when the job is over and has no console, 500 when it cannot be read.
pub async fn get(app: &App, job: &LocatedJob, start_line: u64) -> Result<Response, Refusal> {
    let failed = |error: std::io::Error| Refusal::internal("read a console", &error);
    let console = app.consoles.of(job.id);
    let content_type = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
    let Some(mut file) = console.open().await.map_err(failed)? else {
        if job.state == "Completed" {
            return Err(Refusal::text(
                StatusCode::NOT_FOUND,
                "this job has no console\n",
            ));
        }
        return Ok((content_type, String::new()).into_response());
    };
    let length = file.metadata().await.map_err(failed)?.len();
    let start = console
        .offset_of_line(start_line)
        .await
        .map_err(failed)?
        .min(length);
    file.seek(std::io::SeekFrom::Start(start))
        .await
        .map_err(failed)?;
    let rest = length - start;
    let stream = ReaderStream::with_capacity(file.take(rest), 64 * 1024);
    let headers = [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8".to_owned()),
        (header::CONTENT_LENGTH, rest.to_string()),
    ];
    Ok((headers, Body::from_stream(stream)).into_response())
}
