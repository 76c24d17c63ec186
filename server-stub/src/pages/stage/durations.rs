//! How long the latest runs of a stage took, as a chart of bars.

use crate::history::StageRun;
use crate::pages::times::length;

/// Measures of the drawing.
const HEIGHT: i64 = 80;
const STEP: i64 = 22;

/// A chart, oldest run first.
pub(super) struct Chart {
    pub(super) width: i64,
    pub(super) height: i64,
    /// The length of time at the top.
    pub(super) longest: String,
    pub(super) bars: Vec<Column>,
}

pub(super) struct Column {
    pub(super) x: i64,
    pub(super) y: i64,
    pub(super) height: i64,
    pub(super) state: String,
    pub(super) page: String,
    pub(super) title: String,
}

impl Chart {
    /// Of the runs that have ended.
    pub(super) fn of(runs: &[StageRun]) -> Self {
        let ended: Vec<(&StageRun, i64)> = runs
            .iter()
            .rev()
            .filter_map(|one| Some((one, one.row.completed_at? - one.row.scheduled_at)))
            .collect();
        let longest = ended
            .iter()
            .map(|(_, took)| *took)
            .max()
            .unwrap_or(0)
            .max(1);
        let bars = (0_i64..).zip(&ended).map(|(place, (one, took))| {
            let height = (took.max(&0) * HEIGHT / longest).max(2);
            let (run, row) = (&one.run, &one.row);
            Column {
                x: place * STEP,
                y: HEIGHT - height,
                height,
                state: row.state.to_lowercase(),
                page: format!(
                    "/go/pipelines/{}/{}/{}/{}",
                    run.pipeline, run.counter, row.name, row.counter
                ),
                title: format!("{}: {} in {}", run.label, row.state, length(*took)),
            }
        });
        let bars: Vec<Column> = bars.collect();
        Self {
            width: i64::try_from(bars.len()).unwrap_or(0) * STEP,
            height: HEIGHT,
            longest: length(longest),
            bars,
        }
    }
}
