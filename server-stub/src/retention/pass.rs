//! One pass: which runs are to go, and their going.

use std::{
    collections::HashSet,
    fs, io,
    path::{Path, PathBuf},
};

use crate::{
    App, configuration::Retention, database::DatabaseError, pipelines::store::decode,
    scheduling::run::RunDefinition, space,
};

/// A run that is over and has consoles and artifacts.
#[derive(sqlx::FromRow)]
struct Candidate {
    id: i64,
    pipeline: String,
    counter: i64,
    ended_at: i64,
    /// How many newer runs the pipeline has.
    newer: i64,
}

/// A pass could not be made to its end; the next one goes on.
#[derive(Debug, thiserror::Error)]
pub enum PassError {
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error("cannot delete {}", path.display())]
    Delete {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot find out how much space is free in {}", path.display())]
    Space {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Deletes what is to go now, and answers how many runs' files that were.
///
/// # Errors
///
/// See [`PassError`].
pub async fn pass(app: &App, retention: &Retention) -> Result<usize, PassError> {
    delete_files(app).await?;
    if *retention == Retention::default() {
        return Ok(0);
    }
    let protected = protected(app).await?;
    let now = app.now_ms();
    let mut gone = 0;
    // The oldest first: they go first when space is wanted.
    for run in candidates(app).await? {
        if protected.contains(&run.id) {
            continue;
        }
        let age = u128::try_from(now - run.ended_at).unwrap_or(0);
        let reason = if retention.age.is_some_and(|limit| age > limit.as_millis()) {
            "it is too old"
        } else if retention
            .runs
            .is_some_and(|limit| run.newer >= i64::from(limit))
        {
            "there are enough newer ones"
        } else if lacks_space(app, retention.free_space)? {
            "the disk is too full"
        } else {
            continue;
        };
        if !give_up(app, &run).await? {
            continue;
        }
        let bytes = delete_files(app).await?;
        let name = format!("{}/{}", run.pipeline, run.counter);
        tracing::info!(run = name, bytes, reason, "deleted consoles and artifacts");
        gone += 1;
    }
    if gone > 0 {
        app.state_changed.raise();
    }
    Ok(gone)
}

fn lacks_space(app: &App, wanted: Option<u64>) -> Result<bool, PassError> {
    let Some(wanted) = wanted else {
        return Ok(false);
    };
    let free = space::free(&app.paths.data).map_err(|source| PassError::Space {
        path: app.paths.data.clone(),
        source,
    })?;
    Ok(free < wanted)
}

async fn candidates(app: &App) -> Result<Vec<Candidate>, DatabaseError> {
    Ok(sqlx::query_as(
        "SELECT run.id, run.pipeline, run.counter, max(stages.completed_at) AS ended_at, \
         (SELECT count(*) FROM pipeline_runs newer WHERE lower(newer.pipeline) = lower(run.pipeline) \
          AND newer.counter > run.counter) AS newer \
         FROM pipeline_runs run JOIN stages ON stages.run_id = run.id \
         WHERE run.id IN (SELECT run_id FROM stages WHERE artifacts_deleted = 0) \
         AND run.waiting_stage IS NULL \
         GROUP BY run.id HAVING count(*) = count(stages.completed_at) ORDER BY ended_at, run.id",
    )
    .fetch_all(app.database.readers())
    .await?)
}

/// The runs that may not go.
async fn protected(app: &App) -> Result<HashSet<i64>, DatabaseError> {
    let mut connection = app.database.readers().acquire().await?;
    let mut ids: HashSet<i64> = sqlx::query_scalar("SELECT run_id FROM pinned_runs")
        .fetch_all(&mut *connection)
        .await?
        .into_iter()
        .collect();
    // What the next run downstream would be made from.
    let latest: Vec<(i64, i64)> = sqlx::query_as(
        "SELECT run.id, max(run.counter) FROM stages JOIN pipeline_runs run ON run.id = stages.run_id \
         WHERE stages.state = 'Passed' AND stages.completed_at IS NOT NULL \
         GROUP BY lower(run.pipeline), lower(stages.name)",
    )
    .fetch_all(&mut *connection)
    .await?;
    ids.extend(latest.into_iter().map(|(id, _)| id));
    let active: Vec<String> = sqlx::query_scalar(
        "SELECT material_revisions FROM pipeline_runs WHERE id IN \
         (SELECT run_id FROM stages WHERE completed_at IS NULL)",
    )
    .fetch_all(&mut *connection)
    .await?;
    for revisions in active {
        for (pipeline, counter) in runs_in(&revisions) {
            let id: Option<i64> = sqlx::query_scalar(
                "SELECT id FROM pipeline_runs WHERE lower(pipeline) = lower($1) AND counter = $2",
            )
            .bind(pipeline)
            .bind(counter)
            .fetch_optional(&mut *connection)
            .await?;
            ids.extend(id);
        }
    }
    Ok(ids)
}

/// The runs upstream that a document of revisions names: `pipeline/counter/stage/counter`.
fn runs_in(document: &str) -> Vec<(String, i64)> {
    fn collect(value: &serde_json::Value, found: &mut Vec<(String, i64)>) {
        match value {
            serde_json::Value::String(text) => {
                let parts: Vec<&str> = text.split('/').collect();
                if let [pipeline, counter, _, _] = parts[..]
                    && let Ok(counter) = counter.parse()
                {
                    found.push((pipeline.to_owned(), counter));
                }
            }
            serde_json::Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
            serde_json::Value::Object(fields) => {
                fields.values().for_each(|field| collect(field, found));
            }
            _ => {}
        }
    }
    let mut found = Vec::new();
    if let Ok(value) = serde_json::from_str(document) {
        collect(&value, &mut found);
    }
    found
}

/// Forgets the artifacts of a run, if it still may; answers whether there was anything to forget.
async fn give_up(app: &App, run: &Candidate) -> Result<bool, DatabaseError> {
    let mut write = app.database.write().await?;
    // It may have been pinned or run again since it was chosen.
    let definition: Option<String> = sqlx::query_scalar(
        "SELECT definition FROM pipeline_runs WHERE id = $1 \
         AND NOT EXISTS (SELECT 1 FROM pinned_runs WHERE run_id = $1) \
         AND NOT EXISTS (SELECT 1 FROM stages WHERE run_id = $1 AND completed_at IS NULL)",
    )
    .bind(run.id)
    .fetch_optional(&mut *write)
    .await?;
    let Some(definition) = definition else {
        return Ok(false);
    };
    let name = format!("{}/{}", run.pipeline, run.counter);
    let definition: RunDefinition = decode(&format!("the definition of {name}"), &definition)?;
    let stages: Vec<(i64, String)> =
        sqlx::query_as("SELECT id, name FROM stages WHERE run_id = $1 AND artifacts_deleted = 0")
            .bind(run.id)
            .fetch_all(&mut *write)
            .await?;
    let mut given_up = false;
    for (id, name) in stages {
        let kept = definition
            .stage(&name)
            .is_some_and(|(_, stage)| stage.keep_artifacts);
        given_up |= !kept;
        sqlx::query("UPDATE stages SET artifacts_deleted = $2 WHERE id = $1")
            .bind(id)
            .bind(if kept { 3 } else { 1 })
            .execute(&mut *write)
            .await?;
        if !kept {
            sqlx::query(
                "DELETE FROM artifacts WHERE job_id IN (SELECT id FROM jobs WHERE stage_id = $1)",
            )
            .bind(id)
            .execute(&mut *write)
            .await?;
        }
    }
    write.commit().await?;
    Ok(given_up)
}

/// Deletes the files of all stages that were given up, and answers how many bytes that were.
async fn delete_files(app: &App) -> Result<u64, PassError> {
    let stages: Vec<i64> = sqlx::query_scalar("SELECT id FROM stages WHERE artifacts_deleted = 1")
        .fetch_all(app.database.readers())
        .await
        .map_err(DatabaseError::from)?;
    let mut bytes = 0;
    for stage in stages {
        let jobs: Vec<i64> = sqlx::query_scalar("SELECT id FROM jobs WHERE stage_id = $1")
            .bind(stage)
            .fetch_all(app.database.readers())
            .await
            .map_err(DatabaseError::from)?;
        for job in jobs {
            let _turn = app.artifact_locks.lock(job).await;
            let console = app.paths.consoles().join(format!("{job}.log"));
            let note = console.with_extension("own");
            for path in [console, note, app.paths.artifacts(job)] {
                bytes += remove(path).await?;
            }
        }
        let mut write = app.database.write().await?;
        sqlx::query("UPDATE stages SET artifacts_deleted = 2 WHERE id = $1")
            .bind(stage)
            .execute(&mut *write)
            .await
            .map_err(DatabaseError::from)?;
        write.commit().await.map_err(DatabaseError::from)?;
    }
    app.metrics.deleted(bytes);
    Ok(bytes)
}

/// Removes a file or a folder, and answers its size.
async fn remove(path: PathBuf) -> Result<u64, PassError> {
    let failed = |source| PassError::Delete {
        path: path.clone(),
        source,
    };
    let here = path.clone();
    let removed = tokio::task::spawn_blocking(move || -> io::Result<u64> {
        let size = size(&here)?;
        if here.is_dir() {
            fs::remove_dir_all(&here)?;
        } else {
            fs::remove_file(&here)?;
        }
        Ok(size)
    })
    .await
    .map_err(|error| failed(io::Error::other(error)))?;
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        outcome => outcome.map_err(failed),
    }
}

fn size(path: &Path) -> io::Result<u64> {
    let metadata = fs::symlink_metadata(path)?;
    if !metadata.is_dir() {
        return Ok(metadata.len());
    }
    let mut total = 0;
    for item in fs::read_dir(path)? {
        total += size(&item?.path())?;
    }
    Ok(total)
}
