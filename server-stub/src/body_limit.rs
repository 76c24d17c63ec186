//! Refusing bodies that are larger than any real one, so that the sender hears of it.

use std::time::Duration;

use axum::{
    body::Body,
    extract::Request,
    middleware::Next,
    response::{IntoResponse, Response},
};
use futures_util::StreamExt;
use http::{StatusCode, header};

use crate::answer::Refusal;

/// The largest body of a call, in bytes. Files, which have limits of their own, are no calls.
pub const LARGEST_BODY: u64 = 1024 * 1024;
/// A client that still sends does not look at an answer, and one whose connection is closed
/// meanwhile never sees it. So much is read and thrown away before the answer, and for so long.
const LISTENED_TO: u64 = 128 * LARGEST_BODY;
const PATIENCE: Duration = Duration::from_secs(10);

/// Answers 413 to a request that announces more than [`LARGEST_BODY`].
pub async fn refuse_large_bodies(request: Request, next: Next) -> Response {
    let announced = request
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    match announced {
        Some(announced) if announced > LARGEST_BODY => {
            if announced <= LISTENED_TO {
                // A client that is slower than that has to live without the answer.
                let _ = tokio::time::timeout(PATIENCE, throw_away(request.into_body())).await;
            }
            Refusal::message(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!(
                    "the body has {announced} bytes, and at most {LARGEST_BODY} are taken here"
                ),
            )
            .into_response()
        }
        _ => next.run(request).await,
    }
}

async fn throw_away(body: Body) {
    let mut parts = body.into_data_stream();
    while let Some(Ok(_)) = parts.next().await {}
}
