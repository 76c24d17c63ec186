//! What the machine of each agent said last.

use journeyman_protocol::release::MachineReport;
use sqlx::SqliteConnection;

use crate::{
    database::DatabaseError,
    pipelines::store::{decode, encode},
};

/// What an agent's machine said last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    pub agent_uuid: String,
    pub report: MachineReport,
    /// Milliseconds since the epoch.
    pub reported_at: i64,
    /// When the state of its upgrade changed last, in milliseconds since the epoch.
    pub upgrade_changed_at: Option<i64>,
}

/// Keeps a report. Answers whether it says anything new.
pub(super) async fn keep(
    connection: &mut SqliteConnection,
    agent: &str,
    report: &MachineReport,
    now: i64,
) -> Result<bool, DatabaseError> {
    let before = find(&mut *connection, agent).await?;
    let state = |report: &MachineReport| {
        let upgrade = report.upgrade.as_ref();
        upgrade.map(|upgrade| (upgrade.component, upgrade.to.clone(), upgrade.state))
    };
    let changed_at = match &before {
        _ if report.upgrade.is_none() => None,
        Some(before) if state(&before.report) == state(report) => before.upgrade_changed_at,
        _ => Some(now),
    };
    sqlx::query(
        "INSERT INTO machines (agent_uuid, report, reported_at, upgrade_changed_at) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (agent_uuid) DO UPDATE SET report = excluded.report, \
         reported_at = excluded.reported_at, upgrade_changed_at = excluded.upgrade_changed_at",
    )
    .bind(agent)
    .bind(encode(report)?)
    .bind(now)
    .bind(changed_at)
    .execute(connection)
    .await?;
    Ok(before.is_none_or(|before| before.report != *report))
}

/// What an agent's machine said last.
pub async fn find(
    connection: &mut SqliteConnection,
    agent: &str,
) -> Result<Option<Machine>, DatabaseError> {
    let row: Option<Row> = sqlx::query_as("SELECT * FROM machines WHERE agent_uuid = $1")
        .bind(agent)
        .fetch_optional(connection)
        .await?;
    row.map(Machine::try_from).transpose()
}

/// What all machines said last.
pub async fn list(connection: &mut SqliteConnection) -> Result<Vec<Machine>, DatabaseError> {
    let rows: Vec<Row> = sqlx::query_as("SELECT * FROM machines ORDER BY agent_uuid")
        .fetch_all(connection)
        .await?;
    rows.into_iter().map(Machine::try_from).collect()
}

/// A row of the table `machines`.
#[derive(sqlx::FromRow)]
struct Row {
    agent_uuid: String,
    report: String,
    reported_at: i64,
    upgrade_changed_at: Option<i64>,
}

impl TryFrom<Row> for Machine {
    type Error = DatabaseError;

    fn try_from(row: Row) -> Result<Self, DatabaseError> {
        Ok(Self {
            report: decode("the report of a machine", &row.report)?,
            agent_uuid: row.agent_uuid,
            reported_at: row.reported_at,
            upgrade_changed_at: row.upgrade_changed_at,
        })
    }
}
