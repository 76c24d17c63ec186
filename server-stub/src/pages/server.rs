//! The page of the server's health: what is wrong, and how much there is of everything.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use askama::Template;
use axum::Extension;
use axum::extract::{Path as UrlPath, State};
use axum::response::{IntoResponse, Redirect, Response};
use http::StatusCode;

use super::{may, render, when};
use crate::App;
use crate::answer::Refusal;
use crate::backup::asked::{self, Asked};
use crate::cli::size;
use crate::database::DatabaseError;
use crate::health::{self, Level};
use crate::maintenance;
use crate::space;
use crate::users::Actor;

/// So many backups are shown.
const BACKUPS: i64 = 5;

#[derive(Template)]
#[template(path = "health.html")]
struct Page {
    messages: Vec<Message>,
    maintenance: bool,
    /// Whether the one who looks may change what the server does.
    may_administer: bool,
    backups: Vec<BackupRow>,
    backing_up: bool,
    facts: Vec<Group>,
}

impl Page {
    fn here(&self) -> &'static str {
        "health"
    }
}

struct Message {
    is_error: bool,
    message: String,
    detail: String,
    since: String,
}

struct BackupRow {
    at: String,
    by: String,
    state: &'static str,
    tone: &'static str,
    path: String,
    message: String,
}

struct Group {
    name: &'static str,
    facts: Vec<(&'static str, String)>,
}

pub(super) async fn page(State(app): State<Arc<App>>) -> Result<Response, Refusal> {
    let messages = health::list(&app).into_iter().map(|one| Message {
        is_error: one.level == Level::Error,
        message: one.message,
        detail: one.detail,
        since: when(one.since),
    });
    let count = async |statement: &'static str| -> Result<i64, Refusal> {
        let mut connection = app
            .database
            .readers()
            .acquire()
            .await
            .map_err(DatabaseError::from)?;
        let count: i64 = sqlx::query_scalar(statement)
            .fetch_one(&mut *connection)
            .await
            .map_err(DatabaseError::from)?;
        Ok(count)
    };
    let number = async |statement| Ok::<_, Refusal>(count(statement).await?.to_string());
    let bytes = async |statement| Ok::<_, Refusal>(size(count(statement).await?));
    let folders = [app.paths.consoles(), app.paths.repositories()];
    let [consoles, repositories] =
        folders.map(|path| tokio::task::spawn_blocking(move || size_of_folder(path)));
    let walked = |error| Refusal::internal("look at the data folder", &error);
    let free = match space::available(&app) {
        Ok(free) => size(i64::try_from(free).unwrap_or(i64::MAX)),
        Err(_) => "unknown".to_owned(),
    };
    let facts = vec![
        Group {
            name: "Server",
            facts: vec![
                ("Journeyman", env!("CARGO_PKG_VERSION").to_owned()),
                ("Compatible with GoCD", crate::api::API_VERSION.to_owned()),
                ("Time", when(app.now_ms())),
                ("HTTP", app.endpoints.http_url.clone()),
                ("HTTPS", app.endpoints.https_url.clone()),
            ],
        },
        Group {
            name: "Data folder",
            facts: vec![
                ("Free for uploads", free),
                ("Database", size(size_of_files(&app.paths.database()))),
                ("Consoles", size(consoles.await.map_err(walked)?)),
                ("Artifacts", bytes("SELECT COALESCE(sum(size), 0) FROM artifacts").await?),
                ("Packages", bytes("SELECT COALESCE(sum(size), 0) FROM packages").await?),
                ("Repositories", size(repositories.await.map_err(walked)?)),
                ("Place", app.paths.data.display().to_string()),
            ],
        },
        Group {
            name: "Work",
            facts: vec![
                ("Pipelines", number("SELECT count(*) FROM pipelines").await?),
                ("Runs", number("SELECT count(*) FROM pipeline_runs").await?),
                ("Jobs waiting", number("SELECT count(*) FROM jobs WHERE state = 'Scheduled'").await?),
                ("Jobs on agents", number("SELECT count(*) FROM jobs WHERE state IN ('Assigned', 'Preparing', 'Building', 'Completing')").await?),
                ("Jobs ended", number("SELECT count(*) FROM jobs WHERE state = 'Completed'").await?),
                ("Agents enabled", number("SELECT count(*) FROM agents WHERE config_state = 'Enabled'").await?),
                ("Agents pending", number("SELECT count(*) FROM agents WHERE config_state = 'Pending'").await?),
                ("Agents lost", number("SELECT count(*) FROM agents WHERE config_state = 'Enabled' AND runtime_status IN ('LostContact', 'Missing')").await?),
            ],
        },
    ];
    let may_administer = may::administer();
    let mut backups = Vec::new();
    if may_administer {
        let acquired = app.database.readers().acquire().await;
        let mut connection = acquired.map_err(DatabaseError::from)?;
        backups = asked::latest(&mut connection, BACKUPS).await?;
    }
    let page = Page {
        messages: messages.collect(),
        maintenance: app.maintenance.is_on(),
        may_administer,
        backing_up: backups.iter().any(|one| one.status == "IN_PROGRESS"),
        backups: backups.into_iter().map(backup).collect(),
        facts,
    };
    Ok(render(StatusCode::OK, &page))
}

fn backup(one: Asked) -> BackupRow {
    let (state, tone) = match one.status.as_str() {
        "IN_PROGRESS" => ("being made", "building"),
        "COMPLETED" => ("made", "passed"),
        "ABORTED" => ("cut short", "cancelled"),
        _ => ("failed", "failed"),
    };
    BackupRow {
        at: when(one.started_at),
        by: one.started_by,
        state,
        tone,
        path: one.path,
        message: one.message,
    }
}

/// Begins or ends maintenance. Somebody else may have done it just before, which is as good.
pub(super) async fn maintenance(
    State(app): State<Arc<App>>,
    Extension(actor): Extension<Actor>,
    UrlPath(switch): UrlPath<String>,
) -> Result<Response, Refusal> {
    let on = match switch.as_str() {
        "on" => true,
        "off" => false,
        _ => return Err(super::not_found("such page")),
    };
    maintenance::switch(&app, on, &actor.name).await?;
    Ok(Redirect::to("/go/health").into_response())
}

/// Begins a backup, unless one is under way.
pub(super) async fn back_up(
    State(app): State<Arc<App>>,
    Extension(actor): Extension<Actor>,
) -> Result<Response, Refusal> {
    asked::ask(&app, &actor.name).await?;
    Ok(Redirect::to("/go/health").into_response())
}

/// The database with the files beside it.
fn size_of_files(database: &Path) -> i64 {
    let sizes = ["", "-wal", "-shm"].map(|end| {
        let mut path = database.as_os_str().to_owned();
        path.push(end);
        std::fs::metadata(path).map_or(0, |metadata| metadata.len())
    });
    i64::try_from(sizes.iter().sum::<u64>()).unwrap_or(i64::MAX)
}

/// Bytes of all files below a folder. What is removed meanwhile does not count.
fn size_of_folder(path: PathBuf) -> i64 {
    let mut folders = vec![path];
    let mut total: u64 = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => folders.push(entry.path()),
                Ok(metadata) => total += metadata.len(),
                Err(_) => {}
            }
        }
    }
    i64::try_from(total).unwrap_or(i64::MAX)
}
