//! `PUT /api/admin/journeyman/releases/packages`: adding a package, which is streamed to the disk.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use axum::routing::put;
use futures_util::StreamExt as _;
use http::{HeaderMap, StatusCode, header};
use tempfile::NamedTempFile;
use tokio::io::AsyncWriteExt as _;

use super::body::confirmed;
use super::releases;
use crate::App;
use crate::answer::Refusal;
use crate::body_limit::hear_out;
use crate::releases::store::{self, Origin};
use crate::space;

/// Bytes of a package at most.
const LARGEST_PACKAGE: u64 = 1024 * 1024 * 1024;

pub(super) fn router() -> Router<Arc<App>> {
    Router::new()
        .route(&format!("{}/packages", releases::ROOT), put(add))
        .layer(axum::middleware::from_fn(hear_out))
}

async fn add(call: releases::Call, headers: HeaderMap, body: Body) -> Result<Response, Refusal> {
    confirmed(&headers)?;
    let app = &call.app;
    let incoming = receive(app, &headers, body).await?;
    // A task of its own: a client that goes away leaves nothing half-done.
    let task = app.tasks.spawn({
        let app = Arc::clone(app);
        async move {
            let measured = store::measure(&app, incoming, "that was sent".into()).await?;
            store::add(&app, measured, Vec::new(), Origin::Admin).await
        }
    });
    let added = task
        .await
        .map_err(|error| Refusal::internal("store a package", &error))?
        .map_err(releases::store_refusal)?;
    let status = if added.changed {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    Ok(call.answer_with(status, &releases::show_added(&added)))
}

async fn receive(app: &App, headers: &HeaderMap, body: Body) -> Result<NamedTempFile, Refusal> {
    let available = space::available(app)
        .map_err(|error| Refusal::internal("find out how much space is free", &error))?;
    let check = |size: u64| {
        let (limit, what) = if available < LARGEST_PACKAGE {
            (available, "the server's disk has room for")
        } else {
            (LARGEST_PACKAGE, "a package may have")
        };
        if size <= limit {
            return Ok(());
        }
        let text = format!("The package has at least {size} bytes, and {what} {limit}.");
        Err(Refusal::message(StatusCode::PAYLOAD_TOO_LARGE, text))
    };
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse().ok());
    check(announced.unwrap_or(0))?;
    let failed = |error: std::io::Error| Refusal::internal("store a package", &error);
    let incoming = NamedTempFile::new_in(app.paths.incoming()).map_err(failed)?;
    let mut file = tokio::fs::File::from_std(incoming.as_file().try_clone().map_err(failed)?);
    let mut size = 0;
    let mut parts = body.into_data_stream();
    while let Some(part) = parts.next().await {
        let part =
            part.map_err(|_| Refusal::message(StatusCode::BAD_REQUEST, "The package broke off."))?;
        size += part.len() as u64;
        check(size)?;
        file.write_all(&part).await.map_err(failed)?;
    }
    file.flush().await.map_err(failed)?;
    Ok(incoming)
}
