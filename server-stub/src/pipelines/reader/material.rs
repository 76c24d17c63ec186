//! Materials: git repositories, and the configuration repository itself.

use crate::pipelines::definition::Material;
use crate::pipelines::location;
use crate::pipelines::names;

use super::Home;
use super::section::{Place, Report, Section};

/// GoCD's default.
const DEFAULT_BRANCH: &str = "master";

pub(super) fn read_all(place: &Place<'_>, home: &Home, report: &mut Report<'_>) -> Vec<Material> {
    let mut materials: Vec<Material> = Vec::new();
    for (key, place) in place.named(report) {
        report.check(&place, names::check_name(&key.text));
        let Some(material) = read(&key.text, &place, home, report) else {
            continue;
        };
        let same = |known: &&Material| known.name.eq_ignore_ascii_case(&material.name);
        if let Some(known) = materials.iter().find(same) {
            let message = format!("two materials have the name `{}`", known.name);
            place.wrong(report, message);
        }
        materials.push(material);
    }
    check_destinations(place, &materials, report);
    materials
}

fn read(name: &str, place: &Place<'_>, home: &Home, report: &mut Report<'_>) -> Option<Material> {
    let mut section = place.section(report)?;
    let kind = match section.text(report, "type") {
        Some(kind) => kind,
        None => {
            let short = [
                "git", "pipeline", "hg", "svn", "p4", "tfs", "scm", "package",
            ];
            let found = short.into_iter().find(|key| section.get(key).is_some());
            match found {
                Some("pipeline") => "dependency".to_owned(),
                Some(kind) => kind.to_owned(),
                None => {
                    place.wrong(report, "neither `git` nor `type` says what kind it is");
                    return None;
                }
            }
        }
    };
    let mut material = match kind.as_str() {
        "git" => read_git(&mut section, report)?,
        "configrepo" => Material {
            name: String::new(),
            url: home.url.clone(),
            branch: home.branch.clone(),
            destination: None,
            shallow_clone: section.boolean(report, "shallow_clone", false),
            auto_update: true,
            username: None,
            password: None,
        },
        "dependency" | "hg" | "svn" | "p4" | "tfs" | "scm" | "plugin" | "package" => {
            let message = format!("materials of type `{kind}` are not supported yet");
            place.wrong(report, message);
            return None;
        }
        _ => {
            place.wrong(report, format!("`{kind}` is no type of material"));
            return None;
        }
    };
    if let Some(place) = section.get("destination")
        && let Some(destination) = place.text(report)
    {
        report.check(&place, names::check_inside(&destination));
        let trimmed = destination.trim_end_matches('/').trim_start_matches("./");
        if !trimmed.is_empty() && trimmed != "." {
            material.destination = Some(trimmed.to_owned());
        }
    }
    section.not_yet(
        report,
        &[
            "ignore",
            "blacklist",
            "includes",
            "whitelist",
            "encrypted_password",
        ],
    );
    material.name = section
        .text(report, "name")
        .unwrap_or_else(|| name.to_owned());
    section.close(report);
    Some(material)
}

fn read_git(section: &mut Section<'_>, report: &mut Report<'_>) -> Option<Material> {
    let place = match section.get("git") {
        Some(place) => Some(place),
        None => section.required(report, "url"),
    };
    let url = place.as_ref().and_then(|place| place.text(report));
    if let (Some(place), Some(url)) = (&place, &url)
        && (url.trim().is_empty() || url.starts_with('-'))
    {
        place.wrong(report, "this is no address of a git repository");
    }
    let branch = match section.get("branch") {
        Some(place) => {
            let branch = place.text(report)?;
            check_branch(&place, &branch, report);
            branch
        }
        None => DEFAULT_BRANCH.to_owned(),
    };
    let username = section.text(report, "username");
    let password_place = section.get("password");
    let password = password_place.as_ref().and_then(|place| place.text(report));
    if let (Some(place), Some(password)) = (&password_place, &password)
        && password.contains("{{SECRET:")
    {
        place.wrong(report, "references to secret stores are not supported yet");
    }
    let material = Material {
        name: String::new(),
        url: url?,
        branch,
        destination: None,
        shallow_clone: section.boolean(report, "shallow_clone", false),
        auto_update: section.boolean(report, "auto_update", true),
        username,
        password,
    };
    if (material.username.is_some() || material.password.is_some())
        && location::has_credentials(&material.url)
        && let Some(place) = place
    {
        place.wrong(
            report,
            "credentials in the address and as `username` and `password` exclude each other",
        );
    }
    Some(material)
}

fn check_branch(place: &Place<'_>, branch: &str, report: &mut Report<'_>) {
    if branch.contains(':') {
        place.wrong(report, "a refspec for a branch is not supported yet");
    } else if branch.starts_with('-')
        || !git2::Reference::is_valid_name(&format!("refs/heads/{branch}"))
    {
        place.wrong(report, format!("`{branch}` is no name of a branch"));
    }
}

/// Two checkouts must not lie in each other.
fn check_destinations(place: &Place<'_>, materials: &[Material], report: &mut Report<'_>) {
    if materials.len() < 2 {
        return;
    }
    for (index, material) in materials.iter().enumerate() {
        let Some(own) = &material.destination else {
            let message = format!(
                "with several materials each needs a `destination`; `{}` has none",
                material.name
            );
            place.wrong(report, message);
            continue;
        };
        for other in &materials[index + 1..] {
            let Some(theirs) = &other.destination else {
                continue;
            };
            let below = |inner: &str, outer: &str| {
                inner
                    .strip_prefix(outer)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            };
            if below(own, theirs) || below(theirs, own) {
                let message = format!(
                    "`{}` and `{}` are checked out into each other (`{own}`, `{theirs}`)",
                    material.name, other.name
                );
                place.wrong(report, message);
            }
        }
    }
}
