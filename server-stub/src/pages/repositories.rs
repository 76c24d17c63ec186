//! The page of the repositories that pipelines are read from.

use std::sync::Arc;
use std::time::Duration;

use askama::Template;
use axum::Form;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Redirect, Response};
use http::StatusCode;
use serde::Deserialize;

use super::{not_found, render, when};
use crate::App;
use crate::answer::Refusal;
use crate::database::DatabaseError;
use crate::pipelines::repositories::{self, ConfigRepo, RepositoryError};
use crate::pipelines::{location, store};
use crate::users::audit;

const PAGE: &str = "/go/admin/config_repos";

/// How long a button waits for what comes of a look; it goes on after that.
const GLANCE: Duration = Duration::from_secs(10);

#[derive(Template)]
#[template(path = "repositories.html")]
struct Page {
    repos: Vec<Row>,
    notice: Option<String>,
    /// What was typed and not taken.
    typed: Typed,
}

impl Page {
    fn here(&self) -> &'static str {
        "repositories"
    }
}

struct Row {
    id: String,
    url: String,
    branch: String,
    state: &'static str,
    tone: &'static str,
    good: Option<String>,
    seen: Option<String>,
    checked: Option<String>,
    pipelines: Vec<String>,
    problems: Vec<Problem>,
}

/// What is wrong with the newest revision.
struct Problem {
    /// File, line and column, if it is about a place.
    place: Option<String>,
    text: String,
}

#[derive(Default, Deserialize)]
pub(super) struct Typed {
    #[serde(default)]
    url: String,
    #[serde(default)]
    branch: String,
    #[serde(default)]
    id: String,
    #[serde(default)]
    user: String,
    #[serde(default)]
    password: String,
}

pub(super) async fn page(State(app): State<Arc<App>>) -> Result<Response, Refusal> {
    show(&app, StatusCode::OK, None, Typed::default()).await
}

async fn show(
    app: &App,
    status: StatusCode,
    notice: Option<String>,
    typed: Typed,
) -> Result<Response, Refusal> {
    let mut connection = app
        .database
        .readers()
        .acquire()
        .await
        .map_err(DatabaseError::from)?;
    let repos = repositories::list(&mut connection).await?;
    let pipelines = store::pipelines(&mut connection).await?;
    let repos = repos.into_iter().map(|repo| {
        let own = pipelines.iter().filter(|one| one.repository == repo.id);
        let names = own.map(|one| one.pipeline.name.clone()).collect();
        row(repo, names)
    });
    let page = Page {
        repos: repos.collect(),
        notice,
        typed,
    };
    Ok(render(status, &page))
}

fn row(repo: ConfigRepo, pipelines: Vec<String>) -> Row {
    let (state, tone) = match (&repo.error, &repo.good_revision) {
        (Some(_), Some(_)) => ("An older revision is in force", "bad"),
        (Some(_), None) => ("Refused", "bad"),
        (None, Some(_)) => ("In force", "good"),
        (None, None) => ("Not looked at yet", "busy"),
    };
    let short = |revision: String| revision.chars().take(10).collect::<String>();
    Row {
        state,
        tone,
        url: location::without_credentials(&repo.url),
        branch: repo.branch,
        seen: repo
            .seen_revision
            .filter(|seen| repo.good_revision.as_ref() != Some(seen))
            .map(short),
        good: repo.good_revision.map(short),
        checked: repo.checked_at.map(when),
        problems: repo
            .error
            .iter()
            .flat_map(|error| error.lines())
            .map(problem)
            .collect(),
        id: repo.id,
        pipelines,
    }
}

/// `file:line:column: text`.
fn problem(line: &str) -> Problem {
    let place = line.split_once(": ").filter(|(place, _)| {
        let numbers = place.rsplit(':').take(2);
        place.contains(".yaml:")
            && numbers.clone().count() == 2
            && numbers.into_iter().all(|one| one.parse::<u32>().is_ok())
    });
    match place {
        Some((place, text)) => Problem {
            place: Some(place.to_owned()),
            text: text.to_owned(),
        },
        None => Problem {
            place: None,
            text: line.to_owned(),
        },
    }
}

pub(super) async fn add(
    State(app): State<Arc<App>>,
    Form(typed): Form<Typed>,
) -> Result<Response, Refusal> {
    let given = typed.url.trim();
    let branch = match typed.branch.trim() {
        "" => "master",
        branch => branch,
    };
    let id = match typed.id.trim() {
        "" => name_of(given),
        id => id.to_owned(),
    };
    let password = Some(typed.password.as_str()).filter(|password| !password.is_empty());
    let url = match typed.user.trim() {
        "" => Some(given.to_owned()),
        user => location::with_credentials(given, user, password),
    };
    let added = match url {
        Some(url) => repositories::add(&app, &id, &url, branch).await,
        None => Err(RepositoryError::Invalid(
            "this address can take no user name".to_owned(),
        )),
    };
    audit::detail(format!("{id}: {}", location::without_credentials(given)));
    match added {
        Ok(()) => {
            look(&app, &id).await.ok();
            Ok(Redirect::to(PAGE).into_response())
        }
        Err(RepositoryError::Database(error)) => Err(error.into()),
        Err(error) => {
            let notice = Some(format!("The repository was not added: {error}."));
            let typed = Typed {
                // Never sent back.
                password: String::new(),
                ..typed
            };
            show(&app, StatusCode::UNPROCESSABLE_ENTITY, notice, typed).await
        }
    }
}

/// The last part of an address, as a name.
fn name_of(url: &str) -> String {
    let last = url.trim_end_matches('/').rsplit(['/', ':']).next();
    let last = last.unwrap_or_default().trim_end_matches(".git");
    let allowed = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    last.chars().filter(allowed).collect()
}

pub(super) async fn act(
    State(app): State<Arc<App>>,
    Path((id, action)): Path<(String, String)>,
) -> Result<Response, Refusal> {
    let outcome = match action.as_str() {
        "check" => look(&app, &id).await,
        "remove" => repositories::remove(&app, &id).await,
        _ => return Err(not_found("such action")),
    };
    match outcome {
        // Whoever looks at it now does what was asked for.
        Ok(()) | Err(RepositoryError::Busy { .. }) => Ok(Redirect::to(PAGE).into_response()),
        Err(RepositoryError::Database(error)) => Err(error.into()),
        Err(error) => {
            let notice = Some(format!("{error}."));
            show(&app, StatusCode::CONFLICT, notice, Typed::default()).await
        }
    }
}

/// Looks at a repository, in a task that goes on when it takes long.
async fn look(app: &Arc<App>, id: &str) -> Result<(), RepositoryError> {
    let turn = repositories::take_turn(app, id).await?;
    let looking = {
        let app = Arc::clone(app);
        app.tasks
            .clone()
            .spawn(async move { repositories::look(&app, turn).await })
    };
    match tokio::time::timeout(GLANCE, looking).await {
        Ok(Ok(outcome)) => Ok(outcome.map(drop)?),
        // What comes of it is on the page later.
        Ok(Err(_)) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    #[test]
    fn places_are_told_from_texts() {
        let taken_apart = |line| {
            let one = problem(line);
            (one.place, one.text)
        };
        assert_eq!(
            taken_apart("ci/a.gocd.yaml:3:7: pipelines.x: no: stages"),
            (
                Some("ci/a.gocd.yaml:3:7".to_owned()),
                "pipelines.x: no: stages".to_owned()
            )
        );
        let text = "cannot fetch file:///srv/x: gone";
        assert_eq!(taken_apart(text), (None, text.to_owned()));
        assert_eq!(name_of("https://h/team/shop.git/"), "shop");
        assert_eq!(name_of("git@h:shop.git"), "shop");
    }
}
