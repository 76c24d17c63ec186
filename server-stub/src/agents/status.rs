//! What an agent is taken to be doing. One place decides it, whoever has something to say: the
//! agent, the scheduler or the person who cancels.

use journeyman_protocol::{agent::RuntimeStatus, remoting::AgentInstruction};
use sqlx::SqliteConnection;

use super::Agent;
use crate::database::DatabaseError;

/// The part of an agent that changes as it works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Doing {
    pub(super) status: RuntimeStatus,
    pub(super) build_locator: String,
    pub(super) kill_requested: bool,
    pub(super) cancelled_at: Option<i64>,
}

impl Doing {
    pub(super) fn of(agent: &Agent) -> Self {
        Self {
            status: agent.runtime_status,
            build_locator: agent.build_locator.clone(),
            kill_requested: agent.kill_requested,
            cancelled_at: agent.cancelled_at,
        }
    }

    /// What follows from what the agent reports. GoCD: `AgentInstance.update`.
    ///
    /// Cancelled ends only when the agent says that it is idle: until then it may not have heard
    /// of it yet. An agent that is busy and does not say with what keeps the job it was given, so
    /// that a cancel of that job still finds it.
    pub(super) fn after_report(
        self,
        reported: RuntimeStatus,
        build_locator: &str,
        now_ms: i64,
    ) -> Self {
        let build_locator = match build_locator {
            "" => self.build_locator.clone(),
            told => told.to_owned(),
        };
        match reported {
            RuntimeStatus::Idle => Self {
                status: RuntimeStatus::Idle,
                build_locator: String::new(),
                kill_requested: false,
                cancelled_at: None,
            },
            RuntimeStatus::Cancelled => Self {
                status: RuntimeStatus::Cancelled,
                build_locator,
                cancelled_at: self.cancelled_at.or(Some(now_ms)),
                ..self
            },
            _ if self.status == RuntimeStatus::Cancelled => Self {
                build_locator,
                ..self
            },
            other => Self {
                status: other,
                build_locator,
                ..self
            },
        }
    }

    /// What the answer to a ping says.
    pub(super) fn instruction(&self) -> AgentInstruction {
        match self.status {
            RuntimeStatus::Cancelled if self.kill_requested => AgentInstruction::KillRunningTasks,
            RuntimeStatus::Cancelled => AgentInstruction::Cancel,
            _ => AgentInstruction::None,
        }
    }
}

/// A job was given to the agent: it counts as building before it knows of it.
///
/// # Errors
///
/// The database could not be written.
pub async fn mark_building(
    connection: &mut SqliteConnection,
    uuid: &str,
    build_locator: &str,
) -> Result<(), DatabaseError> {
    sqlx::query(
        "UPDATE agents SET runtime_status = 'Building', build_locator = $2, kill_requested = 0, \
         cancelled_at = NULL WHERE uuid = $1",
    )
    .bind(uuid)
    .bind(build_locator)
    .execute(connection)
    .await?;
    Ok(())
}

/// The agent's job was cancelled: its pings are answered with CANCEL from now on. Answers false,
/// and changes nothing, when the agent builds another job by now or none.
///
/// # Errors
///
/// The database could not be written.
pub async fn mark_cancelled(
    connection: &mut SqliteConnection,
    uuid: &str,
    build_locator: &str,
    now_ms: i64,
) -> Result<bool, DatabaseError> {
    let marked = sqlx::query(
        "UPDATE agents SET runtime_status = 'Cancelled', cancelled_at = $3 \
         WHERE uuid = $1 AND build_locator = $2 AND runtime_status <> 'Idle'",
    )
    .bind(uuid)
    .bind(build_locator)
    .bind(now_ms)
    .execute(connection)
    .await?;
    Ok(marked.rows_affected() > 0)
}

/// The agent's job was taken from it before it began: it counts as idle.
///
/// # Errors
///
/// The database could not be written.
pub async fn mark_free(connection: &mut SqliteConnection, uuid: &str) -> Result<(), DatabaseError> {
    sqlx::query(
        "UPDATE agents SET runtime_status = 'Idle', build_locator = '', kill_requested = 0, \
         cancelled_at = NULL WHERE uuid = $1 AND runtime_status IN ('Building', 'Cancelled')",
    )
    .bind(uuid)
    .execute(connection)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    fn doing(status: RuntimeStatus) -> Doing {
        Doing {
            status,
            build_locator: "up/1/build/1/unit".to_owned(),
            kill_requested: status == RuntimeStatus::Cancelled,
            cancelled_at: (status == RuntimeStatus::Cancelled).then_some(5),
        }
    }

    #[test]
    fn idle_ends_everything() {
        for status in [
            RuntimeStatus::Building,
            RuntimeStatus::Cancelled,
            RuntimeStatus::LostContact,
        ] {
            let after = doing(status).after_report(RuntimeStatus::Idle, "", 9);
            assert_eq!(
                after,
                Doing {
                    status: RuntimeStatus::Idle,
                    build_locator: String::new(),
                    kill_requested: false,
                    cancelled_at: None
                }
            );
            assert_eq!(after.instruction(), AgentInstruction::None);
        }
    }

    #[test]
    fn building_does_not_end_a_cancellation() {
        let after = doing(RuntimeStatus::Cancelled).after_report(
            RuntimeStatus::Building,
            "up/1/build/1/unit",
            9,
        );
        assert_eq!(after, doing(RuntimeStatus::Cancelled));
        assert_eq!(after.instruction(), AgentInstruction::KillRunningTasks);
    }

    #[test]
    fn a_lost_agent_that_reports_building_is_building() {
        for status in [
            RuntimeStatus::LostContact,
            RuntimeStatus::Missing,
            RuntimeStatus::Unknown,
        ] {
            let after = doing(status).after_report(RuntimeStatus::Building, "up/2/build/1/unit", 9);
            assert_eq!(after.status, RuntimeStatus::Building);
            assert_eq!(after.build_locator, "up/2/build/1/unit");
        }
    }

    #[test]
    fn a_busy_agent_that_names_no_job_keeps_the_one_it_was_given() {
        let after = doing(RuntimeStatus::Building).after_report(RuntimeStatus::Building, "", 9);
        assert_eq!(after, doing(RuntimeStatus::Building));
    }

    #[test]
    fn cancelled_is_always_taken_over() {
        let after = doing(RuntimeStatus::Building).after_report(
            RuntimeStatus::Cancelled,
            "up/1/build/1/unit",
            9,
        );
        assert_eq!(
            (after.status, after.cancelled_at),
            (RuntimeStatus::Cancelled, Some(9))
        );
        assert_eq!(after.instruction(), AgentInstruction::Cancel);
    }
}
