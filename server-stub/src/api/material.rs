//! Materials and their changes, as the calls about runs show them.

use jiff::Timestamp;
use journeyman_protocol::material::{GitMaterial, Material};
use journeyman_protocol::revision::{MaterialRevision, Modification};
use serde_json::{Value, json};

use crate::scheduling::trigger;

/// A material's kind as GoCD shows it, its name and what it is.
fn describe(material: &Material) -> (&str, Option<String>, String) {
    match material {
        Material::GitMaterial(git) => {
            let description = format!(
                "URL: {}, Branch: {}",
                git.url.for_display(),
                git.ref_spec_or_branch
            );
            ("Git", name_of(material), description)
        }
        Material::DependencyMaterial(one) => {
            let description = format!("{} [ {} ]", one.pipeline_name, one.stage_name);
            ("Pipeline", name_of(material), description)
        }
        other => (other.kind(), name_of(other), other.kind().to_owned()),
    }
}

fn name_of(material: &Material) -> Option<String> {
    let attributes = match material {
        Material::GitMaterial(git) => &git.scm.attributes,
        other => other.attributes()?,
    };
    attributes.name.as_ref().map(ToString::to_string)
}

/// A material in one line: in histories, and in the list of groups.
pub(super) fn brief(material: &Material) -> Value {
    let (kind, name, description) = describe(material);
    json!({
        "name": name,
        "fingerprint": trigger::fingerprint(material),
        "type": kind,
        "description": description,
    })
}

/// A material with its changes in a run.
pub(super) fn revision(revision: &MaterialRevision) -> Value {
    let modifications = revision.modifications.iter().map(|one| {
        json!({
            "revision": one.revision,
            "modified_time": one.modified_time.map(Timestamp::as_millisecond),
            "user_name": committer(one),
            "comment": one.comment,
            "email_address": null,
        })
    });
    json!({
        "changed": revision.changed,
        "material": brief(&revision.material),
        "modifications": modifications.collect::<Vec<_>>(),
    })
}

/// A material with all its settings but its credentials.
pub(super) fn settings(material: &Material) -> Value {
    let (display_type, name, description) = describe(material);
    let (kind, mut attributes) = match material {
        Material::GitMaterial(git) => ("git", git_settings(git)),
        Material::DependencyMaterial(one) => {
            let attributes = json!({
                "pipeline": one.pipeline_name,
                "stage": one.stage_name,
                "auto_update": true,
                "ignore_for_scheduling": one.ignore_for_scheduling,
            });
            ("dependency", attributes)
        }
        other => (other.kind(), json!({})),
    };
    attributes["name"] = json!(name);
    attributes["display_type"] = json!(display_type);
    attributes["description"] = json!(description);
    json!({ "type": kind, "attributes": attributes })
}

fn git_settings(git: &GitMaterial) -> Value {
    let patterns = git.scm.filter.as_deref().unwrap_or_default();
    let patterns: Vec<&str> = patterns.iter().map(|one| one.pattern.as_str()).collect();
    let filter = match (patterns.is_empty(), git.scm.invert_filter) {
        (true, _) => Value::Null,
        (false, false) => json!({ "ignore": patterns }),
        (false, true) => json!({ "includes": patterns }),
    };
    json!({
        "url": git.url.for_display(),
        "destination": git.scm.folder,
        "filter": filter,
        "invert_filter": git.scm.invert_filter,
        "auto_update": git.scm.auto_update,
        "branch": git.ref_spec_or_branch,
        "submodule_folder": null,
        "shallow_clone": git.shallow_clone,
    })
}

/// Who made a change: `Name <address>`, which clients take apart.
pub(super) fn committer(modification: &Modification) -> Option<String> {
    let name = modification.user_name.as_deref()?;
    let address = modification.email_address.as_deref();
    Some(match address.filter(|address| !address.is_empty()) {
        Some(address) if !name.contains('<') => format!("{name} <{address}>"),
        _ => name.to_owned(),
    })
}
