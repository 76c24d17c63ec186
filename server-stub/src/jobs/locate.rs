//! `pipeline/counter/stage/counter/job`, and which row of the table `jobs` that is.

use std::fmt;

use journeyman_protocol::files::encode_path;
use percent_encoding::percent_decode_str;
use sqlx::SqliteConnection;

use crate::database::DatabaseError;

/// The names in a job's path. Either counter may be `latest`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Locator {
    pub pipeline: String,
    pub counter: String,
    pub stage: String,
    pub stage_counter: String,
    pub job: String,
}

/// A job that was found.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct LocatedJob {
    /// The job whose files these are: the wire's `buildId`, or for a copied job that of the original.
    pub id: i64,
    pub state: String,
    pub result: String,
    /// Whether its console and artifacts were deleted.
    pub purged: bool,
    /// The agent that has it or had it.
    pub agent_uuid: Option<String>,
}

/// A path that cannot be that of a job's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LocatorError {
    #[error("the path does not begin with pipeline/counter/stage/counter/job")]
    TooShort,
    #[error("the path is not UTF-8 text")]
    NotText,
    #[error("the path leaves the job's folder")]
    Leaves,
}

/// Finds the newest job at a locator, or the one with the given `buildId` if it is there. A job
/// that was rescheduled is found by its id only: at its path is the one that took its place.
///
/// # Errors
///
/// The database could not be read.
pub async fn locate(
    connection: &mut SqliteConnection,
    locator: &Locator,
    build_id: Option<i64>,
) -> Result<Option<LocatedJob>, DatabaseError> {
    let Some(run) = run(connection, locator).await? else {
        return Ok(None);
    };
    let stage: Option<i64> = if locator.stage_counter.eq_ignore_ascii_case("latest") {
        sqlx::query_scalar("SELECT id FROM stages WHERE run_id = $1 AND lower(name) = lower($2) ORDER BY counter DESC LIMIT 1")
            .bind(run)
            .bind(&locator.stage)
            .fetch_optional(&mut *connection)
            .await?
    } else {
        let Ok(counter) = locator.stage_counter.parse::<i64>() else {
            return Ok(None);
        };
        sqlx::query_scalar(
            "SELECT id FROM stages WHERE run_id = $1 AND lower(name) = lower($2) AND counter = $3",
        )
        .bind(run)
        .bind(&locator.stage)
        .bind(counter)
        .fetch_optional(&mut *connection)
        .await?
    };
    let Some(stage) = stage else { return Ok(None) };
    Ok(sqlx::query_as(
        "SELECT COALESCE(original_job_id, id) AS id, state, result, agent_uuid, \
         EXISTS (SELECT 1 FROM jobs original JOIN stages ON stages.id = original.stage_id \
          WHERE original.id = COALESCE(jobs.original_job_id, jobs.id) AND stages.artifacts_deleted IN (1, 2)) AS purged \
         FROM jobs WHERE stage_id = $1 AND lower(name) = lower($2) \
         AND (($3 IS NULL AND state <> 'Rescheduled') OR id = $3) ORDER BY jobs.id DESC LIMIT 1",
    )
    .bind(stage)
    .bind(&locator.job)
    .bind(build_id)
    .fetch_optional(connection)
    .await?)
}

async fn run(
    connection: &mut SqliteConnection,
    locator: &Locator,
) -> Result<Option<i64>, DatabaseError> {
    if locator.counter.eq_ignore_ascii_case("latest") {
        // GoCD: the latest run that has the stage, not the latest of all.
        return Ok(sqlx::query_scalar(
            "SELECT pipeline_runs.id FROM pipeline_runs JOIN stages ON stages.run_id = pipeline_runs.id \
             WHERE lower(pipeline_runs.pipeline) = lower($1) AND lower(stages.name) = lower($2) \
             ORDER BY pipeline_runs.counter DESC LIMIT 1",
        )
        .bind(&locator.pipeline)
        .bind(&locator.stage)
        .fetch_optional(connection)
        .await?);
    }
    let Ok(counter) = locator.counter.parse::<i64>() else {
        return Ok(None);
    };
    Ok(sqlx::query_scalar(
        "SELECT id FROM pipeline_runs WHERE lower(pipeline) = lower($1) AND counter = $2",
    )
    .bind(&locator.pipeline)
    .bind(counter)
    .fetch_optional(connection)
    .await?)
}

// === impl Locator ===

impl Locator {
    /// Takes `P/C/S/SC/J/path` apart, still percent-encoded, into the job and the path of a file:
    /// its segments, none when it is the root. Empty and `.` segments are dropped.
    ///
    /// # Errors
    ///
    /// A segment that is `..` or, once decoded, would be more than one name.
    pub fn parse(path: &str) -> Result<(Self, Vec<String>), LocatorError> {
        let mut segments = Vec::new();
        for segment in path.split('/') {
            let segment = percent_decode_str(segment)
                .decode_utf8()
                .map_err(|_| LocatorError::NotText)?;
            if segment == ".." || segment.contains(['/', '\0']) {
                return Err(LocatorError::Leaves);
            }
            if !segment.is_empty() && segment != "." {
                segments.push(segment.into_owned());
            }
        }
        if segments.len() < 5 {
            return Err(LocatorError::TooShort);
        }
        let file = segments.split_off(5);
        let mut names = segments.into_iter();
        let mut next = || names.next().ok_or(LocatorError::TooShort);
        let locator = Self {
            pipeline: next()?,
            counter: next()?,
            stage: next()?,
            stage_counter: next()?,
            job: next()?,
        };
        Ok((locator, file))
    }
}

/// The locator as a path of a URL.
impl fmt::Display for Locator {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            pipeline,
            counter,
            stage,
            stage_counter,
            job,
        } = self;
        formatter.write_str(&encode_path(&format!(
            "{pipeline}/{counter}/{stage}/{stage_counter}/{job}"
        )))
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    #[test]
    fn a_path_is_taken_apart() {
        let (locator, file) = Locator::parse("web/42/build/1/unit/pkg/a%20b%23.txt").unwrap();
        assert_eq!(locator.to_string(), "web/42/build/1/unit");
        assert_eq!(file, ["pkg", "a b#.txt"]);
        assert_eq!(
            Locator::parse("web/42/build/1/unit/").unwrap().1,
            Vec::<String>::new()
        );
    }

    #[test]
    fn a_path_that_leaves_the_job_is_refused() {
        for path in [
            "w/1/b/1/u/../x",
            "w/1/b/1/u/%2e%2e/x",
            "w/1/b/1/u/a%2Fb",
            "w/1/b/1/u/%00",
        ] {
            assert_eq!(Locator::parse(path), Err(LocatorError::Leaves), "{path}");
        }
        assert_eq!(Locator::parse("w/1/b/1"), Err(LocatorError::TooShort));
        assert_eq!(Locator::parse("w/1/b/1/u/%ff"), Err(LocatorError::NotText));
    }
}
