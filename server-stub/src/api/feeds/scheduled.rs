//! The jobs that wait for an agent.

use std::collections::HashMap;

use axum::response::Response;

use super::super::xml::{Element, element};
use super::{AnyCall, FEED, link_to_self};
use crate::answer::Refusal;
use crate::database::DatabaseError;
use crate::pipelines::definition::Variable;
use crate::pipelines::outline;
use crate::pipelines::store::decode;
use crate::scheduling::run::{JobRow, Run, StageRow};
use crate::scheduling::view;
use crate::users::Actor;

/// What is shown of a secure variable.
const MASK: &str = "********";

pub(super) async fn feed(call: AnyCall, actor: Actor) -> Result<Response, Refusal> {
    let mut connection = call.reader().await?;
    let jobs: Vec<JobRow> =
        sqlx::query_as("SELECT * FROM jobs WHERE state = 'Scheduled' ORDER BY scheduled_at, id")
            .fetch_all(&mut *connection)
            .await
            .map_err(DatabaseError::from)?;
    let ids: Vec<i64> = jobs.iter().map(|job| job.stage_id).collect();
    let stages = view::stages_by_id(&mut connection, &ids).await?;
    let ids: Vec<i64> = stages.iter().map(|stage| stage.run_id).collect();
    let runs = view::runs_by_id(&mut connection, &ids).await?;
    let stages: HashMap<i64, StageRow> = stages.into_iter().map(|one| (one.id, one)).collect();
    let runs: HashMap<i64, Run> = runs.into_iter().map(|one| (one.id, one)).collect();
    let outlines = outline::all(&mut connection).await?;
    let groups = outlines
        .into_iter()
        .map(|one| (one.name.to_lowercase(), one.group));
    let groups: HashMap<String, String> = groups.collect();
    let is_seen = |run: &Run| {
        let group = groups.get(&run.pipeline.to_lowercase());
        actor.sees(group.unwrap_or(&run.definition.pipeline.group))
    };
    let mut document = element("scheduledJobs");
    for job in &jobs {
        let Some(stage) = stages.get(&job.stage_id) else {
            continue;
        };
        match runs.get(&stage.run_id) {
            Some(run) if is_seen(run) => {
                document = document.child(show(&call, run, stage, job)?);
            }
            _ => {}
        }
    }
    document.answer()
}

fn show(call: &AnyCall, run: &Run, stage: &StageRow, job: &JobRow) -> Result<Element, Refusal> {
    let locator = format!(
        "{}/{}/{}/{}/{}",
        run.pipeline, run.counter, stage.name, stage.counter, job.name
    );
    let page = element("link")
        .with("rel", "alternate")
        .with("href", call.url(&format!("/tab/build/detail/{locator}")))
        .with("title", format!("{} Job Detail", job.name))
        .with("type", "text/html");
    let mut shown = element("job")
        .with("name", &job.name)
        .child(link_to_self(call.url(&format!("{FEED}/{locator}.xml"))))
        .child(page)
        .child(element("buildLocator").text(&locator));
    if let Some(environment) = &job.environment {
        shown = shown.child(element("environment").text(environment));
    }
    let resources: Vec<String> = decode("the resources of a job", &job.resources)?;
    if !resources.is_empty() {
        let resources = resources.into_iter();
        let resources = resources.map(|one| element("resource").text(one));
        shown = shown.child(element("resources").children(resources));
    }
    let variables = variables(run, stage, job);
    if !variables.is_empty() {
        let variables = variables.into_iter().map(|one| {
            let value = if one.secure { MASK } else { &one.value };
            element("variable").with("name", &one.name).text(value)
        });
        shown = shown.child(element("environmentVariables").children(variables));
    }
    Ok(shown)
}

/// The variables of pipeline, stage and job, and those given with the trigger: a later one takes the
/// place of an earlier.
fn variables<'r>(run: &'r Run, stage: &StageRow, job: &JobRow) -> Vec<&'r Variable> {
    let definition = &run.definition;
    let of_stage = definition.stage(&stage.name).map(|(_, stage)| stage);
    let of_job = definition.job(&stage.name, &job.name);
    let layers = [
        Some(&definition.pipeline.variables),
        of_stage.map(|stage| &stage.variables),
        of_job.map(|job| &job.variables),
    ];
    let mut all: Vec<&Variable> = Vec::new();
    for variable in layers.into_iter().flatten().flatten() {
        match all.iter_mut().find(|known| known.name == variable.name) {
            Some(known) => *known = variable,
            None => all.push(variable),
        }
    }
    for variable in &definition.overrides {
        let mut known = all.iter_mut().filter(|known| known.name == variable.name);
        match known.next() {
            // What is secret stays so.
            Some(known) if !known.secure => *known = variable,
            _ => {}
        }
    }
    all
}
