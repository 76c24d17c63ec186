//! The jobs that one job definition becomes when its stage starts.

use sqlx::SqliteConnection;

use super::{Refused, queue};
use crate::agents::{self, ConfigState};
use crate::database::DatabaseError;
use crate::pipelines::definition::{Instances, Job};
use crate::pipelines::names::{self, COUNTED, ON_ALL};
use journeyman_protocol::agent::RuntimeStatus;

/// A job to be made.
pub(super) struct Instance {
    pub(super) name: String,
    /// The only agent that gets it.
    pub(super) bound_agent: Option<String>,
}

/// The jobs that a definition becomes now; refused when it is to run on all agents and none fits.
pub(super) async fn of(
    connection: &mut SqliteConnection,
    job: &Job,
    environment: Option<&str>,
) -> Result<Result<Vec<Instance>, Refused>, DatabaseError> {
    let free = |name| Instance {
        name,
        bound_agent: None,
    };
    let name = &job.name;
    match job.instances {
        Instances::One => Ok(Ok(vec![free(name.clone())])),
        Instances::Count(count) => {
            let names = (1..=count).map(|index| free(format!("{name}{COUNTED}{index}")));
            Ok(Ok(names.collect()))
        }
        Instances::All => {
            let mut made = Vec::new();
            for agent in agents::list(connection).await? {
                let works = agent.config_state == ConfigState::Enabled
                    && agent.elastic.is_none()
                    && agent.runtime_status != RuntimeStatus::LostContact;
                if !works {
                    continue;
                }
                let home = queue::environments(connection, &agent).await?;
                if queue::fits(&agent, &home, &job.resources, environment) {
                    made.push(Instance {
                        name: format!("{name}{ON_ALL}{}", made.len() + 1),
                        bound_agent: Some(agent.uuid),
                    });
                }
            }
            if made.is_empty() {
                let job = name.clone();
                return Ok(Err(Refused::NoAgent { job }));
            }
            Ok(Ok(made))
        }
    }
}

/// The name of the definition that a job was made from. No definition is called like an instance.
pub(super) fn definition_of(job: &str) -> &str {
    index(job).map_or(job, |(name, _)| name)
}

/// The number of a job that runs several times, and how many there are.
pub(super) fn index_and_count(definition: &Job, job: &str) -> Option<(u32, u32)> {
    match (definition.instances, index(job)) {
        (Instances::Count(count), Some((_, index))) => Some((index, count)),
        _ => None,
    }
}

fn index(job: &str) -> Option<(&str, u32)> {
    let mut markers = [COUNTED, ON_ALL].into_iter();
    let (name, index) = markers.find_map(|marker| names::instance(job, marker))?;
    Some((name, index.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    #[test]
    fn names_lead_back_to_their_definition() {
        for (job, definition) in [
            ("unit", "unit"),
            ("unit-runInstance-3", "unit"),
            ("unit-runOnAll-12", "unit"),
            ("a-runOnAll-x", "a-runOnAll-x"),
        ] {
            assert_eq!(definition_of(job), definition);
        }
    }
}
