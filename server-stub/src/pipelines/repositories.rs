//! Configuration repositories: git repositories whose `*.gocd.yaml` files define pipelines.
//!
//! A revision is taken over whole or not at all. What is wrong with one that was refused is kept
//! with the repository, and the last good revision stays in force.

use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::Arc;

use ring::digest::{Context, SHA256};
use sqlx::SqliteConnection;

use super::cipher::Cipher;
use super::definition::Configuration;
use super::git::{self, GitError, Mirror, Remote};
use super::reader::links::{self, Elsewhere, Link};
use super::reader::template::Others;
use super::reader::{self, Home, Source};
use super::{location, names, store};
use crate::health::{self, Level};
use crate::hex::hex;
use crate::scheduling::production;
use crate::{App, answer::Chain, database::DatabaseError};

/// A configuration repository and what became of its latest revision.
#[derive(Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct ConfigRepo {
    pub id: String,
    /// May hold credentials.
    pub url: String,
    pub branch: String,
    /// The revision in force.
    pub good_revision: Option<String>,
    /// The newest revision that was looked at.
    pub seen_revision: Option<String>,
    /// Why the newest revision is not in force; several lines.
    pub error: Option<String>,
    /// Milliseconds since the epoch.
    pub checked_at: Option<i64>,
    /// Stands for the templates that other repositories had when this one was last read.
    pub templates_seen: Option<String>,
}

/// Why a configuration repository was not added or looked at.
#[derive(Debug, thiserror::Error)]
pub enum RepositoryError {
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error("there is no configuration repository `{id}`")]
    Unknown { id: String },
    #[error("there is a configuration repository `{id}` already; give another id")]
    Duplicate { id: String },
    #[error("`{id}` is the repository {url}, branch {branch}, already")]
    Same {
        id: String,
        url: String,
        branch: String,
    },
    #[error("{0}")]
    Invalid(String),
    #[error("`{id}` is being looked at just now")]
    Busy { id: String },
    #[error("cannot use the folder {} for configuration repositories", path.display())]
    Folder {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

impl From<sqlx::Error> for RepositoryError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error.into())
    }
}

/// All configuration repositories, by id.
pub async fn list(connection: &mut SqliteConnection) -> Result<Vec<ConfigRepo>, DatabaseError> {
    Ok(sqlx::query_as("SELECT * FROM config_repos ORDER BY id")
        .fetch_all(connection)
        .await?)
}

/// One configuration repository.
pub async fn find(
    connection: &mut SqliteConnection,
    id: &str,
) -> Result<Option<ConfigRepo>, DatabaseError> {
    Ok(sqlx::query_as("SELECT * FROM config_repos WHERE id = $1")
        .bind(id)
        .fetch_optional(connection)
        .await?)
}

/// Remembers a repository; nothing is fetched yet.
///
/// # Errors
///
/// See [`RepositoryError`]; nothing is remembered then.
pub async fn add(app: &App, id: &str, url: &str, branch: &str) -> Result<(), RepositoryError> {
    names::check_name(id).map_err(RepositoryError::Invalid)?;
    check_address(url, branch)?;
    let mut write = app.database.write().await?;
    for known in list(&mut write).await? {
        if known.id.eq_ignore_ascii_case(id) {
            return Err(RepositoryError::Duplicate { id: known.id });
        }
        if known.url == url && known.branch == branch {
            return Err(same(known));
        }
    }
    sqlx::query("INSERT INTO config_repos (id, url, branch) VALUES ($1, $2, $3)")
        .bind(id)
        .bind(url)
        .bind(branch)
        .execute(&mut *write)
        .await?;
    write.commit().await?;
    Ok(())
}

/// Gives a repository another address or branch; nothing is fetched yet, and its pipelines stay
/// until a revision of the new one is taken over.
///
/// # Errors
///
/// See [`RepositoryError`]; nothing is changed then.
pub async fn change(app: &App, id: &str, url: &str, branch: &str) -> Result<(), RepositoryError> {
    check_address(url, branch)?;
    let mut write = app.database.write().await?;
    for known in list(&mut write).await? {
        if known.id != id && known.url == url && known.branch == branch {
            return Err(same(known));
        }
    }
    let changed = sqlx::query(
        "UPDATE config_repos SET url = $2, branch = $3, good_revision = NULL, \
         seen_revision = NULL, error = NULL WHERE id = $1",
    )
    .bind(id)
    .bind(url)
    .bind(branch)
    .execute(&mut *write)
    .await?
    .rows_affected();
    if changed == 0 {
        return Err(RepositoryError::Unknown { id: id.to_owned() });
    }
    write.commit().await?;
    app.state_changed.raise();
    Ok(())
}

fn check_address(url: &str, branch: &str) -> Result<(), RepositoryError> {
    if url.trim().is_empty() || url.starts_with('-') || url.chars().any(char::is_control) {
        return Err(RepositoryError::Invalid(
            "the address of the repository is missing or malformed".to_owned(),
        ));
    }
    if !git2::Reference::is_valid_name(&format!("refs/heads/{branch}")) {
        let message = format!("`{branch}` is no name of a branch");
        return Err(RepositoryError::Invalid(message));
    }
    Ok(())
}

fn same(known: ConfigRepo) -> RepositoryError {
    RepositoryError::Same {
        id: known.id,
        url: location::without_credentials(&known.url),
        branch: known.branch,
    }
}

/// Forgets a repository and its pipelines. Runs that exist go on.
///
/// # Errors
///
/// See [`RepositoryError`]; nothing is forgotten then.
pub async fn remove(app: &App, id: &str) -> Result<(), RepositoryError> {
    let mut write = app.database.write().await?;
    store::replace(&mut write, id, &Configuration::default()).await?;
    let removed = sqlx::query("DELETE FROM config_repos WHERE id = $1")
        .bind(id)
        .execute(&mut *write)
        .await?
        .rows_affected();
    if removed == 0 {
        return Err(RepositoryError::Unknown { id: id.to_owned() });
    }
    write.commit().await?;
    health::clear(app, &health_key(id));
    changed(app);
    Ok(())
}

/// Tells everybody that pipelines have changed.
fn changed(app: &App) {
    app.materials.configuration_changed();
    production::configuration_changed(app);
    // Files put agents into environments.
    app.polls.wake_all();
    app.state_changed.raise();
}

/// The right to look at one repository; there is one of these per repository at a time.
pub struct Turn {
    repo: ConfigRepo,
    _lock: File,
}

/// Takes the turn to look at a repository.
///
/// # Errors
///
/// [`RepositoryError::Busy`] when somebody else has it.
pub async fn take_turn(app: &App, id: &str) -> Result<Turn, RepositoryError> {
    let mut connection = app.database.readers().acquire().await?;
    let repo = find(&mut connection, id).await?;
    let repo = repo.ok_or_else(|| RepositoryError::Unknown { id: id.to_owned() })?;
    let path = app.paths.repositories().join(format!("{}.turn", repo.id));
    let open = fs::create_dir_all(app.paths.repositories()).and_then(|()| File::create(&path));
    let lock = open.map_err(|source| RepositoryError::Folder { path, source })?;
    match lock.try_lock() {
        Ok(()) => Ok(Turn { repo, _lock: lock }),
        Err(_) => Err(RepositoryError::Busy { id: repo.id }),
    }
}

/// Looks at the newest revision of a repository and takes it over if it is good. Whatever goes
/// wrong with the repository is stored as its error, and is no error of this call.
///
/// # Errors
///
/// The database could not be used.
pub async fn look(app: &App, turn: Turn) -> Result<ConfigRepo, DatabaseError> {
    let repo = turn.repo.clone();
    let folder = app.paths.repositories();
    let (asked, cipher) = (repo.clone(), Arc::clone(&app.cipher));
    let others = {
        let mut connection = app.database.readers().acquire().await?;
        templates_of_others(&mut connection, app, &repo.id).await?
    };
    let templates_seen = others.fingerprint.clone();
    let read = move || read_newest(&folder, &asked, others, cipher);
    let outcome = git::in_background(&repo.url, app.configuration.fetch_limit, read).await;
    let mut write = app.database.write().await?;
    let (revision, outcome) = match outcome {
        Ok(Newest::Known(revision)) => (Some(revision), None),
        Ok(Newest::Read(revision, outcome)) => (Some(revision), Some(outcome)),
        Err(error) => (None, Some(Err(Chain(&error).to_string()))),
    };
    let outcome = match outcome {
        Some(Ok((configuration, links))) => {
            Some(take_over(&mut write, &repo.id, &configuration, &links).await?)
        }
        Some(Err(message)) => Some(Err(message)),
        None => None,
    };
    let now = app.now_ms();
    let id = &repo.id;
    match &outcome {
        None => sqlx::query("UPDATE config_repos SET checked_at = $2 WHERE id = $1")
            .bind(id)
            .bind(now),
        Some(Ok(())) => sqlx::query(
            "UPDATE config_repos SET checked_at = $2, good_revision = $3, seen_revision = $3, \
             error = NULL, templates_seen = $4 WHERE id = $1",
        )
        .bind(id)
        .bind(now)
        .bind(&revision)
        .bind(&templates_seen),
        Some(Err(message)) => sqlx::query(
            "UPDATE config_repos SET checked_at = $2, seen_revision = COALESCE($3, seen_revision), \
             error = $4 WHERE id = $1",
        )
        .bind(id)
        .bind(now)
        .bind(&revision)
        .bind(message),
    }
    .execute(&mut *write)
    .await?;
    let now_stored = find(&mut write, id).await?.unwrap_or(repo);
    write.commit().await?;
    tell_health(app, &now_stored);
    match outcome {
        None => {}
        Some(Ok(())) => {
            tracing::info!(repository = %now_stored.id, revision, "new configuration in force");
            changed(app);
        }
        Some(Err(error)) => {
            tracing::error!(repository = %now_stored.id, error, "a configuration was refused");
            app.state_changed.raise();
        }
    }
    Ok(now_stored)
}

/// What a repository's health message goes under.
fn health_key(id: &str) -> String {
    format!("config-repo:{id}")
}

fn tell_health(app: &App, repo: &ConfigRepo) {
    let key = health_key(&repo.id);
    let Some(error) = &repo.error else {
        return health::clear(app, &key);
    };
    let (url, branch) = (location::without_credentials(&repo.url), &repo.branch);
    let message = format!(
        "Parsing configuration repository failed for material: URL: {url}, Branch: {branch}"
    );
    health::raise(app, &key, Level::Error, message, error);
}

enum Newest {
    /// Nothing new since the last look.
    Known(String),
    /// What it defines, or what is wrong with it.
    Read(String, Result<(Configuration, Vec<Link>), String>),
}

fn read_newest(
    folder: &std::path::Path,
    repo: &ConfigRepo,
    others: OthersTemplates,
    cipher: Arc<Cipher>,
) -> Result<Newest, GitError> {
    let remote = Remote {
        url: repo.url.clone(),
        branch: repo.branch.clone(),
        username: None,
        password: None,
    };
    let mirror = Mirror::fetch(folder, &remote)?;
    let head = mirror.head()?;
    let revision = head.to_string();
    if repo.good_revision.as_ref() == Some(&revision)
        && repo.error.is_none()
        && repo.templates_seen.as_ref() == Some(&others.fingerprint)
    {
        return Ok(Newest::Known(revision));
    }
    let (files, refused) = mirror.configuration_files(head)?;
    let home = Home {
        url: repo.url.clone(),
        branch: repo.branch.clone(),
        cipher: Some(Arc::clone(&cipher)),
        templates: Others::Known(others.files),
    };
    let reading = reader::read(&files, &home);
    for warning in &reading.warnings {
        tracing::warn!(repository = %repo.id, %warning, "in a configuration file");
    }
    let problems = refused.iter().chain(&reading.problems);
    let mut problems: Vec<String> = problems.map(ToString::to_string).collect();
    if files.is_empty() && problems.is_empty() {
        problems.push("there is no *.gocd.yaml file in the repository".to_owned());
    }
    let outcome = match reading.configuration {
        Some(mut configuration) if problems.is_empty() => match configuration.seal(&cipher) {
            Ok(()) => Ok((configuration, reading.links)),
            Err(error) => Err(format!("cannot encrypt its secrets: {error}")),
        },
        _ => Err(problems.join("\n")),
    };
    Ok(Newest::Read(revision, outcome))
}

/// The templates of all repositories but one.
pub struct OthersTemplates {
    /// Each file is named with its repository.
    pub files: Vec<Source>,
    /// Another one when any of them has changed.
    pub fingerprint: String,
}

/// Reads the templates of all repositories but the one with this id.
///
/// # Errors
///
/// The database could not be read, or what it holds is not encrypted with this server's key.
pub async fn templates_of_others(
    connection: &mut SqliteConnection,
    app: &App,
    id: &str,
) -> Result<OthersTemplates, DatabaseError> {
    let mut all = Context::new(&SHA256);
    let mut files = Vec::new();
    for (repository, file) in store::templates_of_others(connection, id).await? {
        all.update(format!("{repository}\0{}\0{}\0", file.path, file.sha256).as_bytes());
        let text = app
            .cipher
            .decrypt(&file.content)
            .map_err(|error| DatabaseError::content("a file of templates", error))?;
        let path = format!("repository {repository}: {}", file.path);
        files.push(Source { path, text });
    }
    Ok(OthersTemplates {
        files,
        fingerprint: hex(all.finish().as_ref()),
    })
}

/// Checks what only all repositories together can tell, and stores the configuration.
async fn take_over(
    connection: &mut SqliteConnection,
    id: &str,
    configuration: &Configuration,
    links: &[Link],
) -> Result<Result<(), String>, DatabaseError> {
    let problems = conflicts(connection, id, configuration, links).await?;
    if !problems.is_empty() {
        return Ok(Err(problems.join("\n")));
    }
    store::replace(connection, id, configuration).await?;
    Ok(Ok(()))
}

/// What is wrong with a configuration that only all repositories together can tell, were it to take
/// the place of what the repository with this id has.
///
/// # Errors
///
/// The database could not be read.
pub async fn conflicts(
    connection: &mut SqliteConnection,
    id: &str,
    configuration: &Configuration,
    links: &[Link],
) -> Result<Vec<String>, DatabaseError> {
    let (own, others): (Vec<_>, Vec<_>) = store::pipelines(connection)
        .await?
        .into_iter()
        .partition(|one| one.repository == id);
    let mut elsewhere = Elsewhere {
        pipelines: others,
        environments: Vec::new(),
    };
    let parts: Vec<(String, String)> =
        sqlx::query_as("SELECT repo_id, definition FROM environments WHERE repo_id <> $1")
            .bind(id)
            .fetch_all(&mut *connection)
            .await?;
    for (repository, definition) in parts {
        let part = store::decode("an environment", &definition)?;
        elsewhere.environments.push((repository, part));
    }
    let problems = links::check(links, &configuration.pipelines, Some(&elsewhere));
    let mut problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
    let old: Vec<_> = own.into_iter().map(|one| one.pipeline).collect();
    problems.extend(links::broken(&old, &configuration.pipelines, &elsewhere));
    Ok(problems)
}
