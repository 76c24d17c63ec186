//! The environment variables of a job, in GoCD's order: of two with one name the later counts.

use journeyman_protocol::{
    environment::{EnvironmentVariable, EnvironmentVariableContext},
    material::{DependencyMaterial, Material},
    revision::MaterialRevision,
};

use super::instances;
use super::run::{JobRow, Run, StageRow};
use crate::pipelines::definition::{Job, Stage, Variable};
use crate::pipelines::location;

/// Whose work it is.
pub(super) struct Setting<'a> {
    pub(super) run: &'a Run,
    pub(super) stage_row: &'a StageRow,
    pub(super) stage: &'a Stage,
    pub(super) job_row: &'a JobRow,
    pub(super) job: &'a Job,
    pub(super) agent_resources: &'a [String],
}

/// All variables that the server knows; the agent puts `GO_SERVER_URL` before them.
pub(super) fn context(setting: &Setting<'_>) -> EnvironmentVariableContext {
    let run = setting.run;
    let definition = &run.definition;
    let mut context = EnvironmentVariableContext::default();
    let mut plain = |name: &str, value: &str| context.push(EnvironmentVariable::plain(name, value));
    plain("GO_PIPELINE_GROUP_NAME", &definition.pipeline.group);
    if let Some(environment) = &definition.environment {
        plain("GO_ENVIRONMENT_NAME", &environment.name);
        for variable in &environment.variables {
            context.push(on_wire(variable));
        }
    }
    let resources = resource_list(setting.agent_resources);
    if !resources.is_empty() {
        context.push(EnvironmentVariable::plain("GO_AGENT_RESOURCES", resources));
    }
    let pairs = [
        ("GO_TRIGGER_USER", trigger_user(run).to_owned()),
        ("GO_PIPELINE_NAME", run.pipeline.clone()),
        ("GO_PIPELINE_COUNTER", run.counter.to_string()),
        ("GO_PIPELINE_LABEL", run.label.clone()),
        ("GO_STAGE_NAME", setting.stage_row.name.clone()),
        ("GO_STAGE_COUNTER", setting.stage_row.counter.to_string()),
        ("GO_JOB_NAME", setting.job_row.name.clone()),
    ];
    for (name, value) in pairs {
        context.push(EnvironmentVariable::plain(name, value));
    }
    if let Some((index, count)) = instances::index_and_count(setting.job, &setting.job_row.name) {
        context.push(EnvironmentVariable::plain(
            "GO_JOB_RUN_INDEX",
            index.to_string(),
        ));
        context.push(EnvironmentVariable::plain(
            "GO_JOB_RUN_COUNT",
            count.to_string(),
        ));
    }
    if let Some(counter) = setting.stage_row.rerun_of_counter {
        let counter = counter.to_string();
        context.push(EnvironmentVariable::plain(
            "GO_RERUN_OF_STAGE_COUNTER",
            counter,
        ));
    }
    for revision in &run.revisions.revisions {
        material(revision, &mut context);
    }
    for variable in configured(setting) {
        context.push(on_wire(variable));
    }
    for variable in &definition.overrides {
        // Only what is there already can be overridden; a secret stays one.
        if let Some(known) = context.get(&variable.name) {
            let secure = variable.secure || known.secure;
            context.push(EnvironmentVariable {
                secure,
                ..on_wire(variable)
            });
        }
    }
    context
}

/// The user who triggered the run, or `changes`.
pub(super) fn trigger_user(run: &Run) -> &str {
    if run.approver.is_empty() {
        super::progression::CHANGES
    } else {
        &run.approver
    }
}

/// Pipeline, stage and job variables: the later replaces the earlier in its place.
fn configured<'a>(setting: &Setting<'a>) -> Vec<&'a Variable> {
    let mut all: Vec<&Variable> = Vec::new();
    let layers = [
        &setting.run.definition.pipeline.variables,
        &setting.stage.variables,
        &setting.job.variables,
    ];
    for variable in layers.into_iter().flatten() {
        match all.iter_mut().find(|known| known.name == variable.name) {
            Some(known) => *known = variable,
            None => all.push(variable),
        }
    }
    all
}

fn on_wire(variable: &Variable) -> EnvironmentVariable {
    if variable.secure {
        EnvironmentVariable::secure(&variable.name, &variable.value)
    } else {
        EnvironmentVariable::plain(&variable.name, &variable.value)
    }
}

fn resource_list(resources: &[String]) -> String {
    let mut sorted: Vec<&str> = resources.iter().map(String::as_str).collect();
    sorted.sort_unstable();
    sorted.dedup();
    sorted.join(",")
}

fn material(revision: &MaterialRevision, context: &mut EnvironmentVariableContext) {
    let git = match &revision.material {
        Material::GitMaterial(git) => git,
        Material::DependencyMaterial(one) => return dependency(one, revision, context),
        _ => return,
    };
    let name = git.scm.attributes.name.as_ref().map(|name| name.as_str());
    let suffix = name.or(git.scm.folder.as_deref()).map(escape);
    let suffix = suffix.map_or(String::new(), |name| format!("_{name}"));
    let text = |found: Option<&journeyman_protocol::revision::Modification>| {
        found.map(|one| one.revision.clone()).unwrap_or_default()
    };
    let (newest, oldest) = (text(revision.newest()), text(revision.oldest()));
    let branch = match git.ref_spec_or_branch.as_str() {
        "" => "master",
        branch => branch,
    };
    let pairs = [
        (format!("GO_REVISION{suffix}"), newest.clone()),
        (format!("GO_TO_REVISION{suffix}"), newest),
        (format!("GO_FROM_REVISION{suffix}"), oldest),
        (
            format!("GO_MATERIAL_URL{suffix}"),
            location::without_credentials(&git.url.url),
        ),
        (format!("GO_MATERIAL_BRANCH{suffix}"), branch.to_owned()),
        (
            format!("GO_MATERIAL{suffix}_HAS_CHANGED"),
            revision.changed.to_string(),
        ),
    ];
    for (name, value) in pairs {
        context.push(EnvironmentVariable::plain(name, value));
    }
}

fn dependency(
    material: &DependencyMaterial,
    revision: &MaterialRevision,
    context: &mut EnvironmentVariableContext,
) {
    let name = material.attributes.name.as_ref();
    let suffix = escape(name.unwrap_or(&material.pipeline_name).as_str());
    let newest = revision.newest();
    let label = newest.and_then(|one| one.pipeline_label.clone());
    let locator = newest.map(|one| one.revision.clone());
    let pairs = [
        (
            format!("GO_DEPENDENCY_LABEL_{suffix}"),
            label.unwrap_or_default(),
        ),
        (
            format!("GO_DEPENDENCY_LOCATOR_{suffix}"),
            locator.unwrap_or_default(),
        ),
        (
            format!("GO_MATERIAL_{suffix}_HAS_CHANGED"),
            revision.changed.to_string(),
        ),
    ];
    for (name, value) in pairs {
        context.push(EnvironmentVariable::plain(name, value));
    }
}

fn escape(name: &str) -> String {
    let allowed = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    name.chars().map(allowed).collect::<String>().to_uppercase()
}
