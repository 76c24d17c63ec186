//! What is so at this moment, read from the database and the disk.

use std::{fs, sync::atomic::AtomicU64};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};

use crate::{App, agents, database::DatabaseError, health, space};

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfState {
    state: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfLevel {
    level: &'static str,
}

/// The states of jobs that are not over.
const ACTIVE: [&str; 5] = [
    "Scheduled",
    "Assigned",
    "Preparing",
    "Building",
    "Completing",
];

/// Gauges with their values.
pub(super) async fn registry(app: &App) -> Result<Registry, DatabaseError> {
    let mut registry = Registry::with_prefix("journeyman");
    let mut connection = app.database.readers().acquire().await?;

    let family = Family::<OfState, Gauge>::default();
    registry.register("agents", "Agents by their state", family.clone());
    for agent in agents::list(&mut connection).await? {
        let state = agent.shown_status().to_string();
        family.get_or_create(&OfState { state }).inc();
    }

    let family = Family::<OfState, Gauge>::default();
    registry.register("jobs", "Jobs that are not over, by state", family.clone());
    for state in ACTIVE {
        let state = state.to_owned();
        family.get_or_create(&OfState { state }).set(0);
    }
    let counted: Vec<(String, i64)> = sqlx::query_as(
        "SELECT state, count(*) FROM jobs WHERE state IN ('Scheduled', 'Assigned', 'Preparing', 'Building', \
         'Completing') GROUP BY state",
    )
    .fetch_all(&mut *connection)
    .await?;
    for (state, count) in counted {
        family.get_or_create(&OfState { state }).set(count);
    }

    let oldest: Option<i64> =
        sqlx::query_scalar("SELECT min(scheduled_at) FROM jobs WHERE state = 'Scheduled'")
            .fetch_one(&mut *connection)
            .await?;
    drop(connection);
    let age = oldest.map_or(0, |at| (app.now_ms() - at).max(0));
    let seconds = f64::from(u32::try_from(age).unwrap_or(u32::MAX)) / 1000.0;
    let gauge = Gauge::<f64, AtomicU64>::default();
    gauge.set(seconds);
    registry.register_with_unit(
        "queue_age",
        "For how long the oldest job has waited for an agent",
        Unit::Seconds,
        gauge,
    );

    let family = Family::<OfLevel, Gauge>::default();
    registry.register("health_messages", "What is wrong", family.clone());
    for level in [health::Level::Error, health::Level::Warning] {
        let level = level.wire_name();
        family.get_or_create(&OfLevel { level }).set(0);
    }
    for message in health::list(app) {
        let level = message.level.wire_name();
        family.get_or_create(&OfLevel { level }).inc();
    }

    let mut bytes = |name: &str, help: &str, value: u64| {
        let gauge: Gauge = Gauge::default();
        gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        registry.register_with_unit(name, help, Unit::Bytes, gauge);
    };
    let database = app.paths.database();
    let size = |path: &std::path::Path| fs::metadata(path).map_or(0, |file| file.len());
    bytes(
        "database_size",
        "Size of the database with its log",
        size(&database) + size(&database.with_extension("db-wal")),
    );
    bytes(
        "disk_available",
        "Bytes that uploads may still use, less the reserve",
        space::available(app).unwrap_or(0),
    );
    Ok(registry)
}
