//! The row of bars that shows the stages of a run.

use crate::dashboard::CardRun;
use crate::pipelines::definition::Approval;
use crate::scheduling::run::StageRow;
use crate::scheduling::state::PipelineState;
use crate::scheduling::view::RunView;

/// A stage in the row.
pub(super) struct Bar {
    pub(super) name: String,
    /// In lower case; of a stage that has not run nothing.
    pub(super) state: String,
    /// A few words about it.
    pub(super) title: String,
    pub(super) page: Option<String>,
    /// Where a person's word starts it, if it waits for that and they may.
    pub(super) gate: Option<String>,
}

/// What a bar is made from.
struct Stage<'a> {
    name: &'a str,
    approval: Approval,
    row: Option<&'a StageRow>,
    may_run: bool,
}

/// The bars of a run on the dashboard.
pub(super) fn of_card(pipeline: &str, state: &PipelineState, run: &CardRun) -> Vec<Bar> {
    let stages = run.stages.iter().map(|stage| Stage {
        name: &stage.name,
        approval: stage.approval,
        row: stage.row.as_ref(),
        may_run: stage.can_operate,
    });
    bars(pipeline, run.counter, state, stages.collect())
}

/// The bars of a run for somebody who looks at it.
pub(super) fn of_view(state: &PipelineState, view: &RunView, group: &str) -> Vec<Bar> {
    let stages = view.stages.iter().map(|stage| Stage {
        name: &stage.name,
        approval: stage.approval,
        row: stage.row.as_ref(),
        may_run: super::may::run_stage(&view.run, &stage.name, group),
    });
    bars(
        &view.run.pipeline,
        view.run.counter,
        state,
        stages.collect(),
    )
}

fn bars(pipeline: &str, counter: i64, state: &PipelineState, stages: Vec<Stage<'_>>) -> Vec<Bar> {
    let run = format!("/go/pipelines/{pipeline}/{counter}");
    let busy = stages
        .iter()
        .any(|stage| stage.row.is_some_and(StageRow::is_active));
    let free = !busy && state.pause.is_none() && state.locked_against(counter).is_none();
    let mut before: Option<&StageRow> = None;
    let mut bars = Vec::with_capacity(stages.len());
    for stage in &stages {
        let reached = match stage.approval {
            Approval::Success => false,
            Approval::Manual => before.is_some(),
            Approval::ManualOnSuccess => before.is_some_and(|row| row.state == "Passed"),
        };
        let waits = stage.row.is_none() && reached && free && stage.may_run;
        bars.push(Bar {
            name: stage.name.to_owned(),
            state: stage
                .row
                .map_or(String::new(), |row| row.state.to_lowercase()),
            title: title(stage),
            page: stage
                .row
                .map(|row| format!("{run}/{}/{}", row.name, row.counter)),
            gate: waits.then(|| format!("{run}/{}/run", stage.name)),
        });
        before = stage.row;
    }
    bars
}

fn title(stage: &Stage<'_>) -> String {
    let name = stage.name;
    match stage.row {
        Some(row) if row.counter > 1 => format!("{name}: {}, run {}", row.state, row.counter),
        Some(row) => format!("{name}: {}", row.state),
        None if stage.approval == Approval::Success => format!("{name} has not run"),
        None => format!("{name} waits for somebody to run it"),
    }
}
