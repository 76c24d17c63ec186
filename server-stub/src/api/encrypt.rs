//! `/api/admin/encrypt`, version 1: values for `secure_variables` and `encrypted_password`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Extension, Router};
use http::{HeaderName, HeaderValue, StatusCode};
use serde_json::json;

use super::body::Body;
use super::call::Call;
use crate::App;
use crate::answer::Refusal;
use crate::users::Actor;

/// Values that one user may have encrypted in a minute. GoCD: 30.
const LIMIT: u32 = 30;
const MINUTE_MS: i64 = 60_000;

const X_RATELIMIT_LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const X_RATELIMIT_REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");

const PATH: &str = "/api/admin/encrypt";

/// Who has had how many values encrypted in which minute.
#[derive(Default)]
struct Counts(Mutex<HashMap<String, (i64, u32)>>);

pub(super) fn router() -> Router<Arc<App>> {
    Router::new()
        .route(PATH, post(encrypt))
        .layer(Extension(Arc::new(Counts::default())))
}

impl Counts {
    /// How many more this user may have in this minute, after this one; none if this one is too
    /// many.
    fn take(&self, user: &str, now: i64) -> Option<u32> {
        let minute = now.div_euclid(MINUTE_MS);
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.retain(|_, (when, _)| *when == minute);
        let (_, count) = counts.entry(user.to_owned()).or_insert((minute, 0));
        if *count == LIMIT {
            return None;
        }
        *count += 1;
        Some(LIMIT - *count)
    }
}

async fn encrypt(
    call: Call<1>,
    actor: Actor,
    Extension(counts): Extension<Arc<Counts>>,
    body: Body,
) -> Result<Response, Refusal> {
    let remaining = counts.take(&actor.name, call.app.now_ms());
    let mut response = match remaining {
        Some(_) => {
            let value = body.required("value")?;
            let encrypted = call.app.cipher.encrypt(value);
            let encrypted =
                encrypted.map_err(|error| Refusal::internal("encrypt a value", &error))?;
            call.answer(&json!({
                "_links": call.links(PATH, "encryption", None),
                "encrypted_value": encrypted,
            }))
        }
        None => {
            let text = format!(
                "You have had {LIMIT} values encrypted in this minute. Wait for the next one."
            );
            Refusal::message(StatusCode::TOO_MANY_REQUESTS, text).into_response()
        }
    };
    let headers = response.headers_mut();
    headers.insert(X_RATELIMIT_LIMIT, HeaderValue::from(LIMIT));
    headers.insert(
        X_RATELIMIT_REMAINING,
        HeaderValue::from(remaining.unwrap_or(0)),
    );
    Ok(response)
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    #[test]
    fn each_user_has_so_many_values_a_minute() {
        let counts = Counts::default();
        for left in (0..LIMIT).rev() {
            assert_eq!(counts.take("ann", 1), Some(left));
        }
        assert_eq!(counts.take("ann", MINUTE_MS - 1), None);
        assert_eq!(counts.take("bob", 2), Some(LIMIT - 1));
        assert_eq!(counts.take("ann", MINUTE_MS), Some(LIMIT - 1));
    }
}
