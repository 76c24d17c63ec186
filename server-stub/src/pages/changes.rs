//! What went into runs: materials with their commits.

use journeyman_protocol::material::Material;
use journeyman_protocol::revision::{MaterialRevisions, Modification, ModifiedAction};
use regex::{Regex, RegexBuilder};

use super::times::Moment;
use crate::pipelines::definition::TrackingTool;
use crate::pipelines::location;

/// A material and what is new in it.
pub(super) struct Change {
    pub(super) kind: &'static str,
    /// Repository and branch, or pipeline and stage.
    pub(super) name: String,
    pub(super) changed: bool,
    pub(super) commits: Vec<Commit>,
}

/// A commit, or a run of an upstream pipeline.
pub(super) struct Commit {
    pub(super) revision: String,
    /// As short as it is recognized.
    pub(super) short: String,
    /// Of an upstream run.
    pub(super) page: Option<String>,
    pub(super) author: String,
    pub(super) when: Option<Moment>,
    pub(super) comment: Vec<Piece>,
    pub(super) files: Vec<(&'static str, String)>,
}

impl Commit {
    /// The author without the address.
    pub(super) fn name(&self) -> &str {
        let author = &self.author;
        author.split_once(" <").map_or(author, |(name, _)| name)
    }
}

/// A piece of a text, which may lead to a bug tracker.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) text: String,
    pub(super) link: Option<String>,
}

/// Makes links of what commit messages mention.
pub(super) struct Tracker(Option<(Regex, String)>);

/// Bytes of the greatest program that a pattern may become.
const LARGEST_PATTERN: usize = 256 * 1024;

impl Tracker {
    /// A pattern that cannot be used matches nothing.
    pub(super) fn new(tool: Option<&TrackingTool>) -> Self {
        Self(tool.and_then(|tool| {
            let pattern = RegexBuilder::new(&tool.regex)
                .size_limit(LARGEST_PATTERN)
                .build();
            let is_web = ["http://", "https://"]
                .iter()
                .any(|scheme| tool.link.starts_with(scheme));
            Some((pattern.ok()?, tool.link.clone())).filter(|_| is_web)
        }))
    }

    pub(super) fn pieces(&self, text: &str) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let mut plain = |text: &str, link: Option<String>| {
            if !text.is_empty() {
                let text = text.to_owned();
                pieces.push(Piece { text, link });
            }
        };
        let mut end = 0;
        if let Some((pattern, link)) = &self.0 {
            for found in pattern.captures_iter(text) {
                let Some(all) = found.get(0).filter(|all| !all.is_empty()) else {
                    continue;
                };
                let id = found.get(1).unwrap_or(all);
                plain(&text[end..all.start()], None);
                plain(all.as_str(), Some(link.replace("${ID}", id.as_str())));
                end = all.end();
            }
        }
        plain(&text[end..], None);
        pieces
    }
}

/// All materials of a run.
pub(super) fn of_run(revisions: &MaterialRevisions, tracker: &Tracker, now: i64) -> Vec<Change> {
    let all = revisions.revisions.iter();
    all.map(|one| change(&one.material, &one.modifications, one.changed, tracker, now))
        .collect()
}

pub(super) fn change(
    material: &Material,
    modifications: &[Modification],
    changed: bool,
    tracker: &Tracker,
    now: i64,
) -> Change {
    let (kind, name) = describe(material);
    Change {
        kind,
        name,
        changed,
        commits: modifications
            .iter()
            .map(|one| commit(one, tracker, now))
            .collect(),
    }
}

/// What kind of material it is, and which.
pub(super) fn describe(material: &Material) -> (&'static str, String) {
    match material {
        Material::GitMaterial(git) => {
            let url = location::without_credentials(&git.url.url);
            ("Git", format!("{url} · {}", git.ref_spec_or_branch))
        }
        Material::DependencyMaterial(one) => {
            let name = format!("{} / {}", one.pipeline_name, one.stage_name);
            ("Pipeline", name)
        }
        _ => ("Material", String::new()),
    }
}

fn commit(one: &Modification, tracker: &Tracker, now: i64) -> Commit {
    let upstream = one.revision.matches('/').count() == 3;
    let page = upstream.then(|| format!("/go/pipelines/{}", one.revision));
    let short = match upstream {
        true => one.revision.clone(),
        false => one.revision.chars().take(10).collect(),
    };
    let author = one.user_name.clone().or_else(|| one.email_address.clone());
    let comment = match (&one.comment, &one.pipeline_label) {
        (Some(comment), _) => comment.trim().to_owned(),
        (None, Some(label)) => format!("label {label}"),
        (None, None) => String::new(),
    };
    let files = one.files.iter().map(|file| {
        let sign = match file.action {
            ModifiedAction::Added => "added",
            ModifiedAction::Modified => "modified",
            ModifiedAction::Deleted => "deleted",
            ModifiedAction::Unknown => "touched",
        };
        (sign, file.file_name.clone())
    });
    Commit {
        short,
        page,
        author: author.unwrap_or_default(),
        when: one
            .modified_time
            .map(|time| Moment::ago(time.as_millisecond(), now)),
        comment: tracker.pieces(&comment),
        files: files.collect(),
        revision: one.revision.clone(),
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    fn shown(tool: (&str, &str), text: &str) -> Vec<(String, Option<String>)> {
        let (regex, link) = tool;
        let tool = TrackingTool {
            link: link.to_owned(),
            regex: regex.to_owned(),
        };
        let pieces = Tracker::new(Some(&tool)).pieces(text);
        pieces.into_iter().map(|one| (one.text, one.link)).collect()
    }

    #[test]
    fn what_messages_mention_becomes_links() {
        let bugs = (r"BUG-(\d+)", "https://bugs.example/${ID}");
        let plain = |text: &str| (text.to_owned(), None);
        let link = |text: &str, to: &str| (text.to_owned(), Some(to.to_owned()));
        assert_eq!(
            shown(bugs, "Fix BUG-7, BUG-8."),
            [
                plain("Fix "),
                link("BUG-7", "https://bugs.example/7"),
                plain(", "),
                link("BUG-8", "https://bugs.example/8"),
                plain("."),
            ]
        );
        // A pattern of another kind, one that matches nothing, and a link that would run a script.
        for tool in [
            ("(?<=x)1", "https://bugs.example/${ID}"),
            ("", "https://bugs.example/${ID}"),
            ("1", "javascript:${ID}"),
        ] {
            assert_eq!(shown(tool, "x1"), [plain("x1")], "{tool:?}");
        }
    }
}
