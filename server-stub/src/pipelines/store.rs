//! The pipelines in force, as the database keeps them.

use serde::de::DeserializeOwned;
use sqlx::SqliteConnection;

use super::definition::{Configuration, Environment, Pipeline, TemplateFile, Variable};
use crate::database::DatabaseError;

/// A pipeline and the repository that defines it.
#[derive(Clone, Debug)]
pub struct StoredPipeline {
    pub repository: String,
    pub pipeline: Pipeline,
}

/// All pipelines, by group, then by their place in it, then by name.
pub async fn pipelines(
    connection: &mut SqliteConnection,
) -> Result<Vec<StoredPipeline>, DatabaseError> {
    let rows: Vec<(String, String)> = sqlx::query_as("SELECT repo_id, definition FROM pipelines")
        .fetch_all(connection)
        .await?;
    let mut pipelines = Vec::with_capacity(rows.len());
    for (repository, definition) in rows {
        let pipeline: Pipeline = decode("a pipeline", &definition)?;
        pipelines.push(StoredPipeline {
            repository,
            pipeline,
        });
    }
    let key = |one: &StoredPipeline| {
        let pipeline = &one.pipeline;
        let order = pipeline.display_order;
        (
            pipeline.group.to_lowercase(),
            order,
            pipeline.name.to_lowercase(),
        )
    };
    pipelines.sort_by_key(key);
    Ok(pipelines)
}

/// One pipeline; letter case does not matter.
pub async fn pipeline(
    connection: &mut SqliteConnection,
    name: &str,
) -> Result<Option<Pipeline>, DatabaseError> {
    let definition: Option<String> =
        sqlx::query_scalar("SELECT definition FROM pipelines WHERE lower(name) = lower($1)")
            .bind(name)
            .fetch_optional(connection)
            .await?;
    definition
        .map(|definition| decode("a pipeline", &definition))
        .transpose()
}

/// All environments; one that several repositories define is put together.
pub async fn environments(
    connection: &mut SqliteConnection,
) -> Result<Vec<Environment>, DatabaseError> {
    let rows: Vec<String> =
        sqlx::query_scalar("SELECT definition FROM environments ORDER BY name, repo_id")
            .fetch_all(connection)
            .await?;
    let mut environments: Vec<Environment> = Vec::new();
    for row in rows {
        let part: Environment = decode("an environment", &row)?;
        let known = environments
            .iter_mut()
            .find(|known| known.name.eq_ignore_ascii_case(&part.name));
        match known {
            Some(known) => {
                known.variables.extend(part.variables);
                known.pipelines.extend(part.pipelines);
                known.agents.extend(part.agents);
            }
            None => environments.push(part),
        }
    }
    Ok(environments)
}

/// The environment that a pipeline is in, with its variables.
pub async fn environment_of(
    connection: &mut SqliteConnection,
    pipeline: &str,
) -> Result<Option<(String, Vec<Variable>)>, DatabaseError> {
    let environments = environments(connection).await?;
    Ok(environments
        .into_iter()
        .find(|one| {
            one.pipelines
                .iter()
                .any(|name| name.eq_ignore_ascii_case(pipeline))
        })
        .map(|one| (one.name, one.variables)))
}

/// Puts one repository's pipelines and environments in the place of what it had before.
pub async fn replace(
    connection: &mut SqliteConnection,
    repository: &str,
    configuration: &Configuration,
) -> Result<(), DatabaseError> {
    for table in [
        "pipelines",
        "environments",
        "environment_agents",
        "template_files",
    ] {
        sqlx::query(sqlx::AssertSqlSafe(format!(
            "DELETE FROM {table} WHERE repo_id = $1"
        )))
        .bind(repository)
        .execute(&mut *connection)
        .await?;
    }
    for pipeline in &configuration.pipelines {
        sqlx::query(
            "INSERT INTO pipelines (name, repo_id, group_name, definition) VALUES ($1, $2, $3, $4)",
        )
        .bind(&pipeline.name)
        .bind(repository)
        .bind(&pipeline.group)
        .bind(encode(pipeline)?)
        .execute(&mut *connection)
        .await?;
    }
    for environment in &configuration.environments {
        sqlx::query("INSERT INTO environments (name, repo_id, definition) VALUES ($1, $2, $3)")
            .bind(&environment.name)
            .bind(repository)
            .bind(encode(environment)?)
            .execute(&mut *connection)
            .await?;
        for agent in &environment.agents {
            sqlx::query(
                "INSERT OR IGNORE INTO environment_agents (agent_uuid, environment, repo_id) \
                 VALUES ($1, $2, $3)",
            )
            .bind(agent)
            .bind(&environment.name)
            .bind(repository)
            .execute(&mut *connection)
            .await?;
        }
    }
    for file in &configuration.templates {
        sqlx::query(
            "INSERT INTO template_files (repo_id, path, sha256, content) VALUES ($1, $2, $3, $4)",
        )
        .bind(repository)
        .bind(&file.path)
        .bind(&file.sha256)
        .bind(&file.content)
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// The files of templates that other repositories than this one have, each with its repository.
/// Their content is encrypted.
pub async fn templates_of_others(
    connection: &mut SqliteConnection,
    repository: &str,
) -> Result<Vec<(String, TemplateFile)>, DatabaseError> {
    let rows: Vec<(String, String, String, String)> = sqlx::query_as(
        "SELECT repo_id, path, sha256, content FROM template_files WHERE repo_id <> $1 \
         ORDER BY repo_id, path",
    )
    .bind(repository)
    .fetch_all(connection)
    .await?;
    let file = |(repository, path, sha256, content)| {
        let file = TemplateFile {
            path,
            sha256,
            content,
        };
        (repository, file)
    };
    Ok(rows.into_iter().map(file).collect())
}

/// A document for a text column.
pub fn encode<T: serde::Serialize>(value: &T) -> Result<String, DatabaseError> {
    serde_json::to_string(value).map_err(|error| DatabaseError::content("a document", error))
}

/// A document out of a text column.
pub fn decode<T: DeserializeOwned>(what: &str, text: &str) -> Result<T, DatabaseError> {
    serde_json::from_str(text).map_err(|error| DatabaseError::content(what, error))
}
