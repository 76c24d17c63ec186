//! Materials: git repositories, the configuration repository itself, stages of other pipelines.

use crate::pipelines::definition::{DependencyMaterial, Filter, GitMaterial, Material};
use crate::pipelines::location;
use crate::pipelines::names;

use super::Home;
use super::links::Target;
use super::section::{Place, Report, Section};

/// GoCD's default.
const DEFAULT_BRANCH: &str = "master";

/// What says by itself which type a material has.
const SHORT_FORMS: [(&str, &str); 8] = [
    ("git", "git"),
    ("pipeline", "dependency"),
    ("hg", "hg"),
    ("svn", "svn"),
    ("p4", "p4"),
    ("tfs", "tfs"),
    ("scm", "scm"),
    ("package", "package"),
];

pub(super) fn read_all(
    pipeline: &str,
    place: &Place<'_>,
    home: &Home,
    report: &mut Report<'_>,
) -> Vec<Material> {
    let mut materials: Vec<Material> = Vec::new();
    for (key, place) in place.named(report) {
        report.check(&place, names::check_name(&key.text));
        let Some(material) = read(pipeline, &key.text, &place, home, report) else {
            continue;
        };
        let name = material.name();
        if name != key.text {
            report.check(&place, names::check_name(name));
        }
        if materials
            .iter()
            .any(|known| known.name().eq_ignore_ascii_case(name))
        {
            place.wrong(report, format!("two materials have the name `{name}`"));
        }
        if let Material::Dependency(new) = &material
            && let Some(known) = materials
                .iter()
                .filter_map(Material::dependency)
                .find(|known| known.pipeline.eq_ignore_ascii_case(&new.pipeline))
        {
            let message = format!(
                "`{}` depends on the pipeline `{}` already; one stage of it can be named",
                known.name, new.pipeline
            );
            place.wrong(report, message);
        }
        materials.push(material);
    }
    check_destinations(place, &materials, report);
    materials
}

fn read(
    pipeline: &str,
    name: &str,
    place: &Place<'_>,
    home: &Home,
    report: &mut Report<'_>,
) -> Option<Material> {
    let mut section = place.section(report)?;
    let kind = match section.get("type") {
        Some(place) => place.text(report)?,
        None => {
            let mut forms = SHORT_FORMS.into_iter();
            let Some((_, kind)) = forms.find(|(key, _)| section.get(key).is_some()) else {
                place.wrong(
                    report,
                    "neither `git`, `pipeline` nor `type` says what kind it is",
                );
                return None;
            };
            kind.to_owned()
        }
    };
    let own_name = section.text(report, "name");
    let name = own_name.unwrap_or_else(|| name.to_owned());
    let material = match kind.as_str() {
        "git" => read_git(name, &mut section, report).map(Material::Git),
        "configrepo" => read_configrepo(name, home, &mut section, report).map(Material::Git),
        "dependency" => {
            read_dependency(pipeline, name, &mut section, report).map(Material::Dependency)
        }
        "hg" | "svn" | "p4" | "tfs" => {
            let message = format!(
                "materials of type `{kind}` are not supported; this server checks out git repositories only"
            );
            place.wrong(report, message);
            return None;
        }
        "scm" | "plugin" | "pluggable" | "package" => {
            let message =
                format!("materials of type `{kind}` need a plugin, which this server does not run");
            place.wrong(report, message);
            return None;
        }
        _ => {
            let message = format!(
                "`{kind}` is no type of material: `git`, `dependency` and `configrepo` are"
            );
            place.wrong(report, message);
            return None;
        }
    };
    section.close(report);
    material
}

fn read_git(
    name: String,
    section: &mut Section<'_>,
    report: &mut Report<'_>,
) -> Option<GitMaterial> {
    let place = match section.get("git") {
        Some(place) => Some(place),
        None => section.required(report, "url"),
    };
    let url = place.as_ref().and_then(|place| place.text(report));
    if let (Some(place), Some(url)) = (&place, &url)
        && (url.trim().is_empty() || url.starts_with('-') || url.contains(char::is_control))
    {
        place.wrong(report, "this is no address of a git repository");
    }
    let branch = section.get("branch");
    let branch = branch.and_then(|place| {
        let branch = place.text(report)?;
        report.check(&place, check_branch(&branch));
        Some(branch)
    });
    let username = section.text(report, "username");
    let password = read_password(section, report);
    let shallow_clone = section.boolean(report, "shallow_clone", false);
    let auto_update = section.boolean(report, "auto_update", true);
    let destination = read_destination(section, report);
    let filter = read_filter(section, report);
    let url = url?;
    if (username.is_some() || password.is_some())
        && location::has_credentials(&url)
        && let Some(place) = place
    {
        place.wrong(
            report,
            "credentials in the address and as `username` and `password` exclude each other",
        );
    }
    Some(GitMaterial {
        name,
        url,
        branch: branch.unwrap_or_else(|| DEFAULT_BRANCH.to_owned()),
        destination,
        shallow_clone,
        auto_update,
        username,
        password,
        filter,
    })
}

/// The very repository that the file is in.
fn read_configrepo(
    name: String,
    home: &Home,
    section: &mut Section<'_>,
    report: &mut Report<'_>,
) -> Option<GitMaterial> {
    Some(GitMaterial {
        name,
        url: home.url.clone(),
        branch: home.branch.clone(),
        destination: read_destination(section, report),
        shallow_clone: section.boolean(report, "shallow_clone", false),
        auto_update: section.boolean(report, "auto_update", true),
        username: None,
        password: None,
        filter: read_filter(section, report),
    })
}

fn read_dependency(
    pipeline: &str,
    name: String,
    section: &mut Section<'_>,
    report: &mut Report<'_>,
) -> Option<DependencyMaterial> {
    let upstream_place = section.required(report, "pipeline");
    let stage_place = section.required(report, "stage");
    let ignore_for_scheduling = section.boolean(report, "ignore_for_scheduling", false);
    let upstream = upstream_place.as_ref().and_then(|one| one.text(report));
    let stage = stage_place.as_ref().and_then(|one| one.text(report));
    let (upstream_place, upstream, stage) = (upstream_place?, upstream?, stage?);
    if upstream.eq_ignore_ascii_case(pipeline) {
        upstream_place.wrong(report, "a pipeline cannot depend on itself");
        return None;
    }
    let target = Target::Stage {
        pipeline: upstream.clone(),
        stage: stage.clone(),
    };
    let Place { node, path } = upstream_place;
    report.link(node.at, &path, pipeline, target);
    Some(DependencyMaterial {
        name,
        pipeline: upstream,
        stage,
        ignore_for_scheduling,
    })
}

fn read_password(section: &mut Section<'_>, report: &mut Report<'_>) -> Option<String> {
    let plain = section.get("password");
    let encrypted = section.get("encrypted_password");
    if let (Some(_), Some(place)) = (&plain, &encrypted) {
        place.wrong(
            report,
            "`password` and `encrypted_password` exclude each other",
        );
    }
    if let Some(place) = encrypted {
        let text = place.text(report)?;
        report.check_encrypted(&place, &text);
        return Some(text);
    }
    let place = plain?;
    let text = place.text(report)?;
    if text.contains("{{SECRET:") {
        place.wrong(
            report,
            "references to secret stores need a plugin, which this server does not run",
        );
    } else {
        report.warn(
            place.node.at,
            &place.path,
            "the password is readable in the repository; `encrypted_password` is not",
        );
    }
    Some(text)
}

fn read_destination(section: &mut Section<'_>, report: &mut Report<'_>) -> Option<String> {
    let place = section.get("destination")?;
    let text = place.text(report)?;
    report.check(&place, names::check_inside(&text));
    let parts: Vec<&str> = text
        .split('/')
        .filter(|part| !matches!(*part, "" | "."))
        .collect();
    (!parts.is_empty()).then(|| parts.join("/"))
}

/// Both spellings of each list are taken at any version of the format.
fn read_filter(section: &mut Section<'_>, report: &mut Report<'_>) -> Filter {
    let mut filter = Filter::None;
    for name in ["ignore", "blacklist", "includes", "whitelist"] {
        let Some(place) = section.get(name) else {
            continue;
        };
        let patterns = place.texts(report);
        if filter != Filter::None {
            place.wrong(
                report,
                "only one list of patterns can be given: `ignore` or `includes`",
            );
        } else if !patterns.is_empty() {
            filter = match name {
                "ignore" | "blacklist" => Filter::Ignore(patterns),
                _ => Filter::Includes(patterns),
            };
        }
    }
    filter
}

/// A branch, or a refspec from anywhere at the remote to a plain name.
fn check_branch(branch: &str) -> Result<(), String> {
    let plain = |name: &str| {
        !name.starts_with('-') && git2::Reference::is_valid_name(&format!("refs/heads/{name}"))
    };
    match branch.split_once(':') {
        None if plain(branch) => Ok(()),
        None => Err(format!("`{branch}` is no name of a branch")),
        Some((source, name)) => {
            let known = match source.strip_prefix("refs/") {
                Some(_) => git2::Reference::is_valid_name(source),
                None => plain(source),
            };
            if known && plain(name) {
                Ok(())
            } else {
                Err(format!(
                    "`{branch}` is no refspec such as `refs/pull/7/head:pr7`, without wildcards"
                ))
            }
        }
    }
}

/// Two checkouts must not lie in each other.
fn check_destinations(place: &Place<'_>, materials: &[Material], report: &mut Report<'_>) {
    let all: Vec<&GitMaterial> = materials.iter().filter_map(Material::git).collect();
    if all.len() < 2 {
        return;
    }
    let mut seen: Vec<(&str, &str)> = Vec::new();
    for material in all {
        let Some(own) = material.destination.as_deref() else {
            let message = format!(
                "with several repositories each needs a `destination`; `{}` has none",
                material.name
            );
            place.wrong(report, message);
            continue;
        };
        let below = |inner: &str, outer: &str| {
            inner
                .strip_prefix(outer)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        // One neighbour is enough to say what is wrong.
        let other = seen
            .iter()
            .find(|(_, theirs)| below(own, theirs) || below(theirs, own));
        if let Some((other, theirs)) = other {
            let message = format!(
                "`{other}` and `{}` are checked out into each other (`{theirs}`, `{own}`)",
                material.name
            );
            place.wrong(report, message);
        }
        seen.push((&material.name, own));
    }
}
