//! What a run was made from.

use journeyman_protocol::material::Material;
use journeyman_protocol::revision::MaterialRevisions;

use crate::pages::when;
use crate::pipelines::location;

/// A material with its modifications.
pub(super) struct Changes {
    pub(super) kind: &'static str,
    pub(super) name: String,
    pub(super) place: String,
    pub(super) changed: bool,
    pub(super) changes: Vec<Change>,
}

pub(super) struct Change {
    pub(super) short: String,
    pub(super) revision: String,
    /// Of a run of another pipeline.
    pub(super) page: Option<String>,
    pub(super) comment: String,
    pub(super) author: String,
    pub(super) when: String,
}

pub(super) fn changes(revisions: &MaterialRevisions) -> Vec<Changes> {
    let revisions = revisions.revisions.iter();
    revisions
        .map(|one| {
            let (kind, name, place, upstream) = match &one.material {
                Material::GitMaterial(git) => {
                    let url = location::without_credentials(&git.url.url);
                    let place = format!("{url}, branch {}", git.ref_spec_or_branch);
                    ("git", git.scm.attributes.name.as_ref(), place, false)
                }
                Material::DependencyMaterial(upstream) => {
                    let pipeline = &upstream.pipeline_name;
                    let place = format!("{pipeline} / {}", upstream.stage_name);
                    ("pipeline", upstream.attributes.name.as_ref(), place, true)
                }
                _ => ("material", None, String::new(), false),
            };
            let name = name.map_or_else(|| place.clone(), ToString::to_string);
            let changes = one.modifications.iter().map(|change| Change {
                short: if upstream {
                    change.revision.clone()
                } else {
                    change.revision.chars().take(10).collect()
                },
                page: upstream.then(|| format!("/go/pipelines/{}", change.revision)),
                revision: change.revision.clone(),
                comment: match (&change.comment, &change.pipeline_label) {
                    (Some(comment), _) => comment.clone(),
                    (None, Some(label)) => format!("run {label}"),
                    (None, None) => String::new(),
                },
                author: change.user_name.clone().unwrap_or_default(),
                when: change
                    .modified_time
                    .map_or(String::new(), |time| when(time.as_millisecond())),
            });
            Changes {
                kind,
                place: if place == name { String::new() } else { place },
                name,
                changed: one.changed,
                changes: changes.collect(),
            }
        })
        .collect()
}
