//! The order of a pipeline's runs by what they were made from (GoCD's `naturalOrder`): a run that
//! somebody made from revisions older than those of another has its place before that one, at a
//! fraction between its neighbours. All others are at whole numbers.

use std::cmp::Ordering;

use futures_util::TryStreamExt as _;
use jiff::Timestamp;
use journeyman_protocol::revision::MaterialRevisions;
use sqlx::SqliteConnection;

use super::wire;
use crate::database::DatabaseError;
use crate::pipelines::store::decode;

/// The place of a new run.
pub(super) async fn of_new(
    connection: &mut SqliteConnection,
    pipeline: &str,
    revisions: &MaterialRevisions,
) -> Result<f64, DatabaseError> {
    let mut rows = sqlx::query_as::<_, (f64, String)>(
        "SELECT natural_order, material_revisions FROM pipeline_runs \
         WHERE lower(pipeline) = lower($1) ORDER BY natural_order DESC",
    )
    .bind(pipeline)
    .fetch(connection);
    let mut above = None;
    let mut below = 0.0;
    // The first is mostly older already.
    while let Some((order, text)) = rows.try_next().await? {
        let earlier: MaterialRevisions = decode("the materials of a run", &text)?;
        if by_age(&earlier, revisions) != Ordering::Greater {
            below = order;
            break;
        }
        above = Some(order);
    }
    Ok(match above {
        Some(above) => f64::midpoint(below, above),
        None => below + 1.0,
    })
}

/// Whether a run is bisecting: made between two others.
pub(crate) fn is_between(order: f64) -> bool {
    order.fract() > 0.0
}

/// Which is the older: as the oldest revision says that one has, and the other has not.
fn by_age(one: &MaterialRevisions, other: &MaterialRevisions) -> Ordering {
    let newest = |revisions: &MaterialRevisions| -> Vec<(String, Timestamp)> {
        let times = revisions.revisions.iter().filter_map(|revision| {
            let time = revision.newest()?.modified_time?;
            Some((wire::fingerprint(&revision.material), time))
        });
        times.collect()
    };
    let others = newest(other);
    let mut oldest: Option<Timestamp> = None;
    let mut decided = Ordering::Equal;
    for (fingerprint, time) in newest(one) {
        let Some((_, of_other)) = others.iter().find(|(of, _)| *of == fingerprint) else {
            continue;
        };
        let order = time.cmp(of_other);
        if order == Ordering::Equal {
            continue;
        }
        let older = time.min(*of_other);
        match oldest.map_or(Ordering::Less, |oldest| older.cmp(&oldest)) {
            Ordering::Less => (oldest, decided) = (Some(older), order),
            // Two that say different things say nothing.
            Ordering::Equal if order != decided => decided = Ordering::Equal,
            Ordering::Equal | Ordering::Greater => {}
        }
    }
    decided
}
