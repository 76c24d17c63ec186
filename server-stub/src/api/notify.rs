//! `/api/admin/materials/git/notify`, version 2: somebody says that a repository has changed.

use std::sync::Arc;

use axum::Router;
use axum::response::Response;
use axum::routing::post;
use http::StatusCode;

use super::body::Body;
use super::call::Call;
use crate::App;
use crate::answer::Refusal;
use crate::webhooks;

pub(super) fn router() -> Router<Arc<App>> {
    Router::new().route("/api/admin/materials/git/notify", post(notify))
}

async fn notify(call: Call<2>, body: Body) -> Result<Response, Refusal> {
    let address = body.required("repository_url")?.to_owned();
    if webhooks::pushed(&call.app, &[address], None).await? == 0 {
        return Err(Refusal::message(
            StatusCode::NOT_FOUND,
            "Unable to find material: no pipeline and no configuration repository is made of a git repository with this address.",
        ));
    }
    let text = "The material is now scheduled for an update. Please check relevant pipeline(s) for status.";
    Ok(call.message_with(StatusCode::ACCEPTED, text))
}
