//! A pipeline's definition in GoCD's form: pipeline configuration, version 11.

use serde_json::{Value, json};

use crate::answer::Refusal;
use crate::pipelines::cipher::{self, Cipher};
use crate::pipelines::definition::{
    Action, Approval, Artifact, ArtifactKind, Build, BuildTool, DependencyMaterial, Fetch, Filter,
    GitMaterial, Instances, Job, Material, Pipeline, RunIf, Stage, Task, Variable,
};
use crate::pipelines::location;

/// Variables; secret values are shown encrypted.
pub(super) fn variables(cipher: &Cipher, variables: &[Variable]) -> Result<Vec<Value>, Refusal> {
    let show = |variable: &Variable| {
        let Variable {
            name,
            value,
            secure,
        } = variable;
        Ok(if *secure {
            json!({ "secure": true, "name": name, "encrypted_value": encrypted(cipher, value)? })
        } else {
            json!({ "secure": false, "name": name, "value": value })
        })
    };
    variables.iter().map(show).collect()
}

/// A secret, encrypted if it is not already.
pub(super) fn encrypted(cipher: &Cipher, value: &str) -> Result<String, Refusal> {
    if cipher::is_encrypted(value) {
        return Ok(value.to_owned());
    }
    let encrypted = cipher.encrypt(value);
    encrypted.map_err(|error| Refusal::internal("encrypt a value", &error))
}

/// A pipeline without its `_links` and `origin`.
pub(super) fn pipeline(cipher: &Cipher, pipeline: &Pipeline) -> Result<Value, Refusal> {
    let materials = pipeline.materials.iter();
    let materials = materials.map(|one| material(cipher, one));
    // Of a pipeline that has a template GoCD shows no stages.
    let stages = match pipeline.template {
        Some(_) => Value::Null,
        None => {
            let stages = pipeline.stages.iter().map(|one| stage(cipher, one));
            json!(stages.collect::<Result<Vec<_>, _>>()?)
        }
    };
    Ok(json!({
        "label_template": pipeline.label_template,
        "lock_behavior": pipeline.lock_behavior.wire_name(),
        "name": pipeline.name,
        "template": pipeline.template,
        "group": pipeline.group,
        "display_order_weight": pipeline.display_order,
        "parameters": [],
        "environment_variables": variables(cipher, &pipeline.variables)?,
        "materials": materials.collect::<Result<Vec<_>, _>>()?,
        "stages": stages,
        "tracking_tool": pipeline.tracking_tool.as_ref().map(|tool| json!({
            "type": "generic",
            "attributes": { "url_pattern": tool.link, "regex": tool.regex },
        })),
        "timer": pipeline.timer.as_ref().map(|timer| json!({
            "spec": timer.spec, "only_on_changes": timer.only_on_changes,
        })),
    }))
}

/// A material with its `type` and `attributes`.
pub(super) fn material(cipher: &Cipher, material: &Material) -> Result<Value, Refusal> {
    let (kind, attributes) = match material {
        Material::Git(material) => ("git", git(cipher, material)?),
        Material::Dependency(material) => ("dependency", dependency(material)),
    };
    Ok(json!({ "type": kind, "attributes": attributes }))
}

fn git(cipher: &Cipher, material: &GitMaterial) -> Result<Value, Refusal> {
    let (filter, invert) = match &material.filter {
        Filter::None => (Value::Null, false),
        Filter::Ignore(patterns) => (json!({ "ignore": patterns }), false),
        Filter::Includes(patterns) => (json!({ "includes": patterns }), true),
    };
    let in_url = location::credentials(&material.url);
    let (in_url_user, in_url_password) = in_url.unzip();
    let user = material.username.clone().or(in_url_user);
    let password = material.password.clone().or(in_url_password.flatten());
    let mut attributes = json!({
        "url": location::without_credentials(&material.url),
        "destination": material.destination,
        "filter": filter,
        "invert_filter": invert,
        "name": material.name,
        "auto_update": material.auto_update,
        "branch": material.branch,
        "submodule_folder": null,
        "shallow_clone": material.shallow_clone,
    });
    if let Some(user) = user {
        attributes["username"] = json!(user);
    }
    if let Some(password) = password {
        attributes["encrypted_password"] = json!(encrypted(cipher, &password)?);
    }
    Ok(attributes)
}

fn dependency(material: &DependencyMaterial) -> Value {
    json!({
        "pipeline": material.pipeline,
        "stage": material.stage,
        "name": material.name,
        "auto_update": true,
        "ignore_for_scheduling": material.ignore_for_scheduling,
    })
}

fn stage(cipher: &Cipher, stage: &Stage) -> Result<Value, Refusal> {
    let jobs = stage.jobs.iter().map(|one| job(cipher, one));
    Ok(json!({
        "name": stage.name,
        "fetch_materials": stage.fetch_materials,
        "clean_working_directory": stage.clean_workspace,
        "never_cleanup_artifacts": stage.keep_artifacts,
        "approval": {
            "type": stage.approval.wire_name(),
            "allow_only_on_success": stage.approval == Approval::ManualOnSuccess,
            "authorization": {
                "users": stage.operators.users,
                "roles": stage.operators.roles,
            },
        },
        "environment_variables": variables(cipher, &stage.variables)?,
        "jobs": jobs.collect::<Result<Vec<_>, _>>()?,
    }))
}

fn job(cipher: &Cipher, job: &Job) -> Result<Value, Refusal> {
    let instances = match job.instances {
        Instances::One => Value::Null,
        Instances::Count(count) => json!(count),
        Instances::All => json!("all"),
    };
    let tabs = job.tabs.iter();
    let tabs = tabs.map(|tab| json!({ "name": tab.name, "path": tab.path }));
    Ok(json!({
        "name": job.name,
        "run_instance_count": instances,
        "timeout": job.timeout,
        "environment_variables": variables(cipher, &job.variables)?,
        "resources": job.resources,
        "tasks": job.tasks.iter().map(task).collect::<Vec<_>>(),
        "tabs": tabs.collect::<Vec<_>>(),
        "artifacts": job.artifacts.iter().map(artifact).collect::<Vec<_>>(),
    }))
}

fn artifact(artifact: &Artifact) -> Value {
    json!({
        "type": match artifact.kind {
            ArtifactKind::Build => "build",
            ArtifactKind::Test => "test",
        },
        "source": artifact.source,
        "destination": artifact.destination,
    })
}

fn task(task: &Task) -> Value {
    let mut shown = action(&task.action);
    shown["attributes"]["run_if"] = json!([match task.run_if {
        RunIf::Passed => "passed",
        RunIf::Failed => "failed",
        RunIf::Any => "any",
    }]);
    shown["attributes"]["on_cancel"] = task.on_cancel.as_ref().map_or(Value::Null, |one| {
        let mut shown = action(one);
        shown["attributes"]["run_if"] = json!([]);
        shown
    });
    shown
}

fn action(action: &Action) -> Value {
    match action {
        Action::Exec {
            command,
            arguments,
            working_directory,
        } => json!({ "type": "exec", "attributes": {
            "command": command, "arguments": arguments, "working_directory": working_directory,
        }}),
        Action::Script(script) => json!({ "type": "pluggable_task", "attributes": {
            "plugin_configuration": { "id": "script-executor", "version": "1" },
            "configuration": [{ "key": "script", "value": script }],
        }}),
        Action::Fetch(fetch) => {
            let Fetch {
                ancestors,
                stage,
                job,
                source,
                is_file,
                destination,
            } = fetch;
            json!({ "type": "fetch", "attributes": {
                "artifact_origin": "gocd",
                "pipeline": ancestors.join("/"),
                "stage": stage, "job": job, "source": source,
                "is_source_a_file": is_file,
                "destination": destination,
            }})
        }
        Action::Build(build) => {
            let Build {
                tool,
                build_file,
                target,
                working_directory,
            } = build;
            let (kind, nant_path) = match tool {
                BuildTool::Ant => ("ant", None),
                BuildTool::Rake => ("rake", None),
                BuildTool::Nant { path } => ("nant", Some(path)),
            };
            let mut shown = json!({ "type": kind, "attributes": {
                "working_directory": working_directory,
                "build_file": build_file,
                "target": target,
            }});
            if let Some(path) = nant_path {
                shown["attributes"]["nant_path"] = json!(path);
            }
            shown
        }
    }
}
