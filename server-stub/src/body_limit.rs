//! Refusing bodies that are larger than any real one, so that the sender hears of it.

use std::{
    future::poll_fn,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, BodyDataStream, Bytes},
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

/// Reads what is left of a body whose request was refused before it was read, so that an agent
/// hears that it need not try again.
pub async fn hear_out(request: Request, next: Next) -> Response {
    let announced = request
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    // A client that asked first has not sent anything yet.
    let asked_first = request.headers().contains_key(header::EXPECT);
    let (head, body) = request.into_parts();
    let left = Shared(Arc::new(Mutex::new(body.into_data_stream())));
    let mut lent = left.clone();
    let lent = futures_util::stream::poll_fn(move |context| lent.poll(context));
    let response = next
        .run(Request::from_parts(head, Body::from_stream(lent)))
        .await;
    let refused = response.status().is_client_error() || response.status().is_server_error();
    if refused && !asked_first && announced.is_none_or(|announced| announced <= LISTENED_TO) {
        let _ = tokio::time::timeout(PATIENCE, left.throw_away()).await;
    }
    response
}

/// A body that outlives the handler it was given to.
#[derive(Clone)]
struct Shared(Arc<Mutex<BodyDataStream>>);

impl Shared {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, axum::Error>>> {
        let mut body = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        body.poll_next_unpin(context)
    }

    async fn throw_away(mut self) {
        let mut read: u64 = 0;
        while let Some(Ok(part)) = poll_fn(|context| self.poll(context)).await {
            read = read.saturating_add(part.len() as u64);
            if read > LISTENED_TO {
                return;
            }
        }
    }
}

/// The same for a request that is refused before anybody else has looked at it.
pub(crate) async fn listen_out(headers: &http::HeaderMap, body: Body) {
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let asked_first = headers.contains_key(header::EXPECT);
    if !asked_first && announced.is_none_or(|announced| announced <= LISTENED_TO) {
        let left = Shared(Arc::new(Mutex::new(body.into_data_stream())));
        let _ = tokio::time::timeout(PATIENCE, left.throw_away()).await;
    }
}

async fn throw_away(body: Body) {
    let mut parts = body.into_data_stream();
    while let Some(Ok(_)) = parts.next().await {}
}
