//! A run, a stage, a job, a material's changes: one document for each.

use std::collections::HashMap;

use axum::extract::Path;
use axum::response::Response;
use journeyman_protocol::material::Material;
use journeyman_protocol::revision::{MaterialRevision, Modification};
use serde_json::json;
use sqlx::SqliteConnection;

use super::super::cctray::moment;
use super::super::xml::{Element, element};
use super::super::{instances, material as shown, stages};
use super::{AnyCall, FEED, URN, call, document_name, link_to_self};
use crate::answer::Refusal;
use crate::database::DatabaseError;
use crate::materials::File;
use crate::pipelines::store::decode;
use crate::scheduling::run::{Run, StageRow};
use crate::scheduling::trigger;

pub(super) async fn run_at(
    call: AnyCall,
    Path((pipeline, name)): Path<(String, String)>,
) -> Result<Response, Refusal> {
    run(&call, &pipeline, document_name(&name)?).await
}

/// A run, by its counter.
pub(in super::super) async fn run(
    call: &AnyCall,
    pipeline: &str,
    counter: &str,
) -> Result<Response, Refusal> {
    let counter = call::counter(counter)?;
    let mut connection = call.reader().await?;
    let view = instances::find(&mut connection, pipeline, counter).await?;
    let run = &view.run;
    let url = |counter: i64| call.url(&format!("{FEED}/{}/{counter}.xml", run.pipeline));
    let mut document = element("pipeline")
        .with("name", &run.pipeline)
        .with("counter", run.counter.to_string())
        .child(link_to_self(url(run.counter)))
        .child(element("id").text(format!("{URN}:pipeline:{}:{}", run.pipeline, run.counter)))
        .child(element("scheduleTime").text(moment(run.scheduled_at)));
    let (before, after): (Option<i64>, Option<i64>) = sqlx::query_as(
        "SELECT (SELECT max(counter) FROM pipeline_runs WHERE lower(pipeline) = lower($1) AND counter < $2), \
         (SELECT min(counter) FROM pipeline_runs WHERE lower(pipeline) = lower($1) AND counter > $2)",
    )
    .bind(&run.pipeline)
    .bind(run.counter)
    .fetch_one(&mut *connection)
    .await
    .map_err(DatabaseError::from)?;
    for (relation, counter) in [("insertedBefore", before), ("insertedAfter", after)] {
        if let Some(counter) = counter {
            let link = element("link").with("rel", relation);
            document = document.child(link.with("href", url(counter)));
        }
    }
    let revisions = run.revisions.revisions.iter();
    let files = files_of(&mut connection, &run.revisions.revisions).await?;
    let materials = revisions.map(|one| material_of(call, run, one, &files));
    let rows = view.stages.iter().filter_map(|stage| stage.row.as_ref());
    let stages = rows
        .map(|row| element("stage").with("href", stage_url(call, &run.pipeline, run.counter, row)));
    document
        .child(element("materials").children(materials))
        .child(element("stages").children(stages))
        .child(element("approvedBy").text(approver(run)))
        .answer()
}

fn approver(run: &Run) -> &str {
    match run.approver.as_str() {
        "" => "changes",
        user => user,
    }
}

fn stage_url(call: &AnyCall, pipeline: &str, counter: i64, row: &StageRow) -> String {
    call.url(&format!(
        "{FEED}/{pipeline}/{counter}/{}/{}.xml",
        row.name, row.counter
    ))
}

/// The files that commits have changed, by revision, as far as they are known.
async fn files_of(
    connection: &mut SqliteConnection,
    revisions: &[MaterialRevision],
) -> Result<HashMap<String, Vec<File>>, DatabaseError> {
    let commits = revisions.iter().flat_map(|one| &one.modifications);
    let commits: Vec<&String> = commits.map(|one| &one.revision).collect();
    let fingerprints = revisions
        .iter()
        .map(|one| trigger::fingerprint(&one.material));
    let fingerprints: Vec<String> = fingerprints.collect();
    let rows: Vec<(String, String)> = sqlx::query_as(
        "SELECT revision, files FROM modifications \
         WHERE fingerprint IN (SELECT value FROM json_each($1)) \
         AND revision IN (SELECT value FROM json_each($2))",
    )
    .bind(json!(fingerprints).to_string())
    .bind(json!(commits).to_string())
    .fetch_all(connection)
    .await?;
    let mut files = HashMap::new();
    for (revision, of_commit) in rows {
        files.insert(revision, decode("the files of a modification", &of_commit)?);
    }
    Ok(files)
}

fn material_of(
    call: &AnyCall,
    run: &Run,
    revision: &MaterialRevision,
    files: &HashMap<String, Vec<File>>,
) -> Element {
    let material = &revision.material;
    let url = call.url(&format!(
        "/api/feed/materials/{}/{}/{}.xml",
        run.pipeline,
        run.counter,
        trigger::fingerprint(material)
    ));
    let described = element("material")
        .with("materialUri", url.as_str())
        .with("type", material.kind());
    let described = match material {
        Material::GitMaterial(git) => described
            .with("url", git.url.for_display())
            .with("branch", &git.ref_spec_or_branch),
        Material::DependencyMaterial(one) => described
            .with("pipelineName", one.pipeline_name.to_string())
            .with("stageName", one.stage_name.to_string()),
        _ => described,
    };
    let is_upstream = matches!(material, Material::DependencyMaterial(_));
    let changes = revision.modifications.iter();
    let changes = changes.map(|one| match is_upstream {
        true => element("changeset")
            .with(
                "changesetUri",
                call.url(&format!("{FEED}/{}.xml", one.revision)),
            )
            .child(element("checkinTime").text(made_at(one)))
            .child(element("revision").text(&one.revision)),
        false => commit(one, &url, files),
    });
    described.child(element("modifications").children(changes))
}

fn commit(
    modification: &Modification,
    material: &str,
    files: &HashMap<String, Vec<File>>,
) -> Element {
    let user = shown::committer(modification).unwrap_or_default();
    let files = files.get(&modification.revision).into_iter().flatten();
    let files = files.map(|file| {
        element("file")
            .with("name", &file.path)
            .with("action", file.action.to_string())
    });
    element("changeset")
        .with("changesetUri", material)
        .child(element("user").text(user))
        .child(element("checkinTime").text(made_at(modification)))
        .child(element("revision").text(&modification.revision))
        .child(element("message").text(modification.comment.as_deref().unwrap_or_default()))
        .children(files)
}

fn made_at(modification: &Modification) -> String {
    let time = modification.modified_time;
    time.map(|time| moment(time.as_millisecond()))
        .unwrap_or_default()
}

/// The changes of one material in a run.
pub(super) async fn material(
    call: AnyCall,
    Path((pipeline, counter, name)): Path<(String, String, String)>,
) -> Result<Response, Refusal> {
    let fingerprint = document_name(&name)?;
    let counter = call::counter(&counter)?;
    let mut connection = call.reader().await?;
    let view = instances::find(&mut connection, &pipeline, counter).await?;
    let mut revisions = view.run.revisions.revisions.iter();
    let found = revisions.find(|one| trigger::fingerprint(&one.material) == fingerprint);
    let found = found.ok_or_else(|| call::not_found("Material", "fingerprint", fingerprint))?;
    let files = files_of(&mut connection, std::slice::from_ref(found)).await?;
    material_of(&call, &view.run, found, &files).answer()
}

pub(super) async fn stage(
    call: AnyCall,
    Path((pipeline, counter, stage, name)): Path<(String, String, String, String)>,
) -> Result<Response, Refusal> {
    let stage_counter = document_name(&name)?.to_owned();
    let locator = stages::locator((pipeline, counter, stage, stage_counter))?;
    let (run, row, jobs) = stages::find(&call, &locator).await?;
    let changes = jobs.iter().flat_map(|job| &job.transitions);
    let updated = changes.map(|one| one.at).max();
    let url = stage_url(&call, &run.pipeline, run.counter, &row);
    let folder = url.trim_end_matches(".xml");
    let entries = jobs
        .iter()
        .map(|job| element("job").with("href", format!("{folder}/{}.xml", job.row.name)));
    let id = format!("{URN}:stage-id:{}", place(&run, &row));
    element("stage")
        .with("name", &row.name)
        .with("counter", row.counter.to_string())
        .child(link_to_self(url.clone()))
        .child(element("id").text(id))
        .child(of_pipeline(&call, &run))
        .child(element("updated").text(moment(updated.unwrap_or(row.scheduled_at))))
        .child(element("result").text(row.result()))
        .child(element("state").text(match row.is_active() {
            true => &row.state,
            false => "Completed",
        }))
        .child(element("approvedBy").text(&row.approved_by))
        .child(element("jobs").children(entries))
        .answer()
}

fn place(run: &Run, row: &StageRow) -> String {
    format!(
        "{}:{}:{}:{}",
        run.pipeline, run.counter, row.name, row.counter
    )
}

fn of_pipeline(call: &AnyCall, run: &Run) -> Element {
    let url = call.url(&format!("{FEED}/{}/{}.xml", run.pipeline, run.counter));
    element("pipeline")
        .with("name", &run.pipeline)
        .with("counter", run.counter.to_string())
        .with("label", &run.label)
        .with("href", url)
}

pub(super) async fn job(
    call: AnyCall,
    Path((pipeline, counter, stage, stage_counter, name)): Path<(
        String,
        String,
        String,
        String,
        String,
    )>,
) -> Result<Response, Refusal> {
    let name = document_name(&name)?;
    let locator = stages::locator((pipeline, counter, stage, stage_counter))?;
    let (run, row, jobs) = stages::find(&call, &locator).await?;
    let mut jobs = jobs.iter();
    let job = jobs.find(|one| one.row.name.eq_ignore_ascii_case(name));
    let job = &job.ok_or_else(|| call::not_found("Job", "name", name))?.row;
    let stage_url = stage_url(&call, &run.pipeline, run.counter, &row);
    let url = format!("{}/{}.xml", stage_url.trim_end_matches(".xml"), job.name);
    let id = format!("{URN}:job-id:{}:{}", place(&run, &row), job.name);
    let files = call.url(&format!(
        "/files/{}/{}",
        place(&run, &row).replace(':', "/"),
        job.name
    ));
    let mut document = element("job")
        .with("name", &job.name)
        .child(link_to_self(url))
        .child(element("id").text(id))
        .child(of_pipeline(&call, &run))
        .child(
            element("stage")
                .with("name", &row.name)
                .with("counter", row.counter.to_string())
                .with("href", stage_url),
        )
        .child(element("result").text(&job.result))
        .child(element("state").text(&job.state));
    if let Some(agent) = &job.agent_uuid {
        document = document.child(element("agent").with("uuid", agent));
    }
    document
        .child(element("artifacts").with("baseUri", files).with(
            "pathFromArtifactRoot",
            format!(
                "pipelines/{}/{}",
                place(&run, &row).replace(':', "/"),
                job.name
            ),
        ))
        .child(element("resources"))
        .child(element("environmentVariables"))
        .answer()
}
