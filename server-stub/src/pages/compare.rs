//! What is new in a run, compared with an earlier one.

use std::sync::Arc;

use askama::Template;
use axum::Extension;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Redirect, Response};
use http::StatusCode;
use serde::Deserialize;

use super::changes::{self, Change, Tracker};
use super::{not_found, render};
use crate::App;
use crate::answer::Refusal;
use crate::compare::{self, CompareError};
use crate::database::DatabaseError;
use crate::pipelines::store;
use crate::users::Actor;

#[derive(Template)]
#[template(path = "compare.html")]
struct Page {
    pipeline: String,
    from: i64,
    to: i64,
    /// Labels of the two runs.
    from_label: String,
    to_label: String,
    changes: Vec<Change>,
}

impl Page {
    fn here(&self) -> &'static str {
        "pipelines"
    }
}

/// What the form on the page asks for.
#[derive(Deserialize)]
pub(super) struct Other {
    from: Option<i64>,
    to: Option<i64>,
}

pub(super) async fn page(
    State(app): State<Arc<App>>,
    Extension(actor): Extension<Actor>,
    Path((pipeline, from, to)): Path<(String, i64, i64)>,
    Query(other): Query<Other>,
) -> Result<Response, Refusal> {
    if let (Some(from), Some(to)) = (other.from, other.to) {
        let address = format!("/go/compare/{pipeline}/{from}/with/{to}");
        return Ok(Redirect::to(&address).into_response());
    }
    let found = compare::between(&app, &pipeline, from, to, &actor).await;
    let found = match found {
        Ok(found) => found,
        Err(CompareError::Database(error)) => return Err(error.into()),
        Err(CompareError::UnknownRun { .. }) => return Err(not_found("such run")),
    };
    let connection = app.database.readers().acquire().await;
    let mut connection = connection.map_err(DatabaseError::from)?;
    let defined = store::pipeline(&mut connection, &found.pipeline).await?;
    let tracker = Tracker::new(defined.as_ref().and_then(|one| one.tracking_tool.as_ref()));
    let labels: Vec<(i64, String)> = sqlx::query_as(
        "SELECT counter, label FROM pipeline_runs WHERE lower(pipeline) = lower($1) \
         AND counter IN ($2, $3)",
    )
    .bind(&found.pipeline)
    .bind(found.from)
    .bind(found.to)
    .fetch_all(&mut *connection)
    .await
    .map_err(DatabaseError::from)?;
    let label = |counter| {
        let known = labels.iter().find(|(known, _)| *known == counter);
        known.map_or_else(|| "the beginning".to_owned(), |(_, label)| label.clone())
    };
    let now = app.now_ms();
    let page = Page {
        from_label: label(found.from),
        to_label: label(found.to),
        changes: found
            .changes
            .iter()
            .map(|one| changes::change(&one.material, &one.modifications, false, &tracker, now))
            .collect(),
        pipeline: found.pipeline,
        from: found.from,
        to: found.to,
    };
    Ok(render(StatusCode::OK, &page))
}
