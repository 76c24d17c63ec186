//! Paths of old releases that published clients still call, and that answer nothing of interest.

use std::sync::Arc;

use axum::Router;
use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header;

use super::call::{counter, not_found};
use crate::App;
use crate::answer::Refusal;
use crate::database::DatabaseError;
use crate::scheduling::run;

type Job = (String, String, String, String, String);

pub(super) fn router() -> Router<Arc<App>> {
    let job = "/properties/{pipeline}/{counter}/{stage}/{stage_counter}/{job}";
    Router::new()
        .route(job, get(properties))
        .route(&format!("{job}/{{name}}"), get(property))
}

/// Properties of a job: GoCD has had none since release 20, and its clients expect a table.
async fn properties(
    axum::extract::State(app): axum::extract::State<Arc<App>>,
    Path((pipeline, number, ..)): Path<Job>,
) -> Result<Response, Refusal> {
    let mut connection = app
        .database
        .readers()
        .acquire()
        .await
        .map_err(DatabaseError::from)?;
    let found = run::find_run(&mut connection, &pipeline, counter(&number)?).await?;
    if found.is_none() {
        return Err(not_found(
            "Pipeline",
            "name",
            &format!("{pipeline}/{number}"),
        ));
    }
    let media_type = [(header::CONTENT_TYPE, "text/csv; charset=utf-8")];
    Ok((media_type, "\n\n").into_response())
}

async fn property(
    Path((.., name)): Path<(String, String, String, String, String, String)>,
) -> Refusal {
    not_found("Property", "name", &name)
}
