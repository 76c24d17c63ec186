//! Things whose order is chance, brought into one order on both sides.

use std::{mem, sync::LazyLock};

use percent_encoding::percent_decode_str;
use regex::Regex;
use serde_json::Value;

use super::recording::{Order, Request};

/// Groups of tags that are two streams of one process.
const STREAMS: &[&[&str]] = &[&["&1", "&2"], &["pr", "pe"], &["ar", "ae"]];

/// Lines whose order is that of the file system.
static OF_THE_FILE_SYSTEM: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"^..\|<T> (\[go\] )?((Keeping|Deleting) folder|Ignoring file) "));
static UPLOADING: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"^ar\|<T> \[go\] Uploading artifacts from (?s)(.*) to (.*)$"));
const START_TO_BUILD: &str = "[go] Start to build ";

/// The artifact rules of a job, to tell which uploads belong to one of them.
pub(super) struct Rules(Vec<Rule>);

struct Rule {
    dest: String,
    /// Whether folders below `dest` can come from it.
    has_wildcards: bool,
    /// Last part of the source.
    name: String,
}

/// What an upload is known by: where it goes and the name of the file or folder.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Target {
    dest: String,
    name: String,
}

impl Rules {
    /// The rules of a work document.
    pub(super) fn of(work: &Value) -> Self {
        let plans = work.pointer("/assignment/artifactPlans");
        let plans = plans.and_then(Value::as_array).into_iter().flatten();
        Self(plans.filter_map(Rule::of).collect())
    }

    /// Puts lines whose order is chance in order.
    pub(super) fn sort_lines(&self, lines: &mut Vec<String>, order: Order) {
        sort_runs(lines, |line| {
            OF_THE_FILE_SYSTEM.is_match(line).then(|| line.clone())
        });
        let blocks = self.upload_blocks(mem::take(lines));
        *lines = blocks.into_iter().flatten().collect();
        match order {
            Order::Exact | Order::Lost => {}
            Order::Streams => sort_streams(lines),
            Order::Any => sort_middle(lines),
        }
    }

    /// Puts uploads of one rule that follow each other in order.
    pub(super) fn sort_requests(&self, requests: &mut Vec<Request>) {
        let blocks = mem::take(requests).into_iter().map(|request| {
            let target = request.is_artifact_upload().then(|| target_of(&request));
            (target, vec![request])
        });
        let blocks = self.sort_blocks(blocks.collect());
        *requests = blocks.into_iter().flatten().collect();
    }

    /// Blocks of a line that announces an upload and what follows it about that, sorted.
    fn upload_blocks(&self, lines: Vec<String>) -> Vec<Vec<String>> {
        let mut blocks: Vec<(Option<Target>, Vec<String>)> = Vec::new();
        for line in lines {
            let announced = UPLOADING.captures(&line).map(|found| Target {
                dest: normal_dest(match &found[2] {
                    "[defaultRoot]" => "",
                    dest => dest,
                }),
                name: found[1].rsplit('/').next().unwrap_or_default().to_owned(),
            });
            let is_about_it = line.starts_with("ae|") && !line.contains("Uploading finished");
            match blocks.last_mut() {
                Some((Some(_), block)) if announced.is_none() && is_about_it => block.push(line),
                _ => blocks.push((announced, vec![line])),
            }
        }
        self.sort_blocks(blocks)
    }

    /// Sorts blocks that follow each other and belong to one rule. Rules are worked through in
    /// their order, so a block belongs to the first rule it fits that is not over.
    fn sort_blocks<T>(&self, blocks: Vec<(Option<Target>, T)>) -> Vec<T> {
        let mut current = 0;
        let mut known: Vec<(Option<(usize, Target)>, T)> = blocks
            .into_iter()
            .map(|(target, block)| {
                let place = target.and_then(|target| {
                    let rules = self.0.iter().enumerate().skip(current);
                    let (rule, _) = rules.into_iter().find(|(_, rule)| rule.fits(&target))?;
                    current = rule;
                    Some((rule, target))
                });
                (place, block)
            })
            .collect();
        sort_runs(&mut known, |(place, _)| place.clone());
        known.into_iter().map(|(_, block)| block).collect()
    }
}

impl Rule {
    fn of(plan: &Value) -> Option<Self> {
        let member = |name: &str| {
            let text = plan.get(name).and_then(Value::as_str)?;
            Some(text.trim().replace('\\', "/"))
        };
        let source = member("src")?;
        Some(Self {
            dest: normal_dest(&member("dest")?),
            has_wildcards: source.contains(['*', '?'])
                || source.ends_with('/')
                || source.contains("//"),
            name: source.rsplit('/').next().unwrap_or_default().to_owned(),
        })
    }

    fn fits(&self, target: &Target) -> bool {
        if !self.has_wildcards {
            return target.dest == self.dest && target.name == self.name;
        }
        let below = target.dest.strip_prefix(&self.dest);
        let is_below = below.is_some_and(|below| {
            below.is_empty() || self.dest.is_empty() || below.starts_with('/')
        });
        is_below && (self.name.is_empty() || name_fits(&self.name, &target.name))
    }
}

/// Where an upload goes.
fn target_of(request: &Request) -> Target {
    let path = request.path.strip_prefix("/remoting/files/");
    // After pipeline, counter, stage, counter and job.
    let dest = path.unwrap_or_default().splitn(6, '/').nth(5);
    let dest = percent_decode_str(dest.unwrap_or_default()).decode_utf8_lossy();
    let entries = request.upload.as_ref().map(|upload| &upload.zip);
    let first = entries.and_then(|entries| entries.first());
    let name = first.and_then(|entry| entry.name.split('/').next());
    Target {
        dest: normal_dest(&dest),
        name: name.unwrap_or_default().to_owned(),
    }
}

fn normal_dest(dest: &str) -> String {
    dest.trim().trim_matches('/').to_owned()
}

/// Whether a name fits a part of a pattern with `*` and `?`.
fn name_fits(part: &str, name: &str) -> bool {
    let mut text = regex::escape(part);
    text = text.replace(r"\*", ".*").replace(r"\?", ".");
    Regex::new(&format!("(?s)^{text}$")).is_ok_and(|part| part.is_match(name))
}

/// Sorts each run of elements that have a key.
fn sort_runs<T, K: Ord>(elements: &mut [T], key: impl Fn(&T) -> Option<K>) {
    for run in elements.chunk_by_mut(|one, other| key(one).is_some() && key(other).is_some()) {
        run.sort_by_key(&key);
    }
}

/// Sorts runs of lines of one process by stream; the order inside a stream stays.
fn sort_streams(lines: &mut [String]) {
    let tag = |line: &String| line.get(..2).unwrap_or_default().to_owned();
    let group = |line: &String| {
        let tag = tag(line);
        STREAMS
            .iter()
            .position(|tags| tags.contains(&tag.as_str()) && line.as_bytes().get(2) == Some(&b'|'))
    };
    for run in lines.chunk_by_mut(|one, other| group(one).is_some() && group(one) == group(other)) {
        run.sort_by_key(tag);
    }
}

/// Sorts what lies between the start of the tasks and the last line.
fn sort_middle(lines: &mut [String]) {
    let begin = lines.iter().position(|line| line.contains(START_TO_BUILD));
    let begin = begin.map_or(1, |at| at + 1).min(lines.len());
    let end = lines.len().saturating_sub(1).max(begin);
    lines[begin..end].sort();
}

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("a pattern of this file")
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;
    use serde_json::json;

    use super::*;

    fn sorted(plans: &Value, lines: &[&str], order: Order) -> Vec<String> {
        let rules = Rules::of(&json!({ "assignment": { "artifactPlans": plans } }));
        let mut lines = lines.iter().map(|line| (*line).to_owned()).collect();
        rules.sort_lines(&mut lines, order);
        lines
    }

    #[test]
    fn streams_are_sorted_by_tag_inside_of_a_run_only() {
        let lines = [
            "&2|<T> b", "&1|<T> z", "&2|<T> a", "&1|<T> y", "##|<T> x", "&2|<T> 2", "&1|<T> 1",
        ];
        assert_eq!(sorted(&json!([]), &lines, Order::Exact), lines);
        assert_eq!(
            sorted(&json!([]), &lines, Order::Streams),
            [
                "&1|<T> z", "&1|<T> y", "&2|<T> b", "&2|<T> a", "##|<T> x", "&1|<T> 1", "&2|<T> 2"
            ]
        );
        let two_processes = ["pe|<T> 1", "&1|<T> 2", "pr|<T> 3"];
        assert_eq!(
            sorted(&json!([]), &two_processes, Order::Streams),
            two_processes
        );
    }

    #[test]
    fn any_order_is_between_the_start_of_the_tasks_and_the_last_line() {
        let lines = [
            "##|<T> [go] Job Started: <date>",
            "pr|<T> z",
            "pr|<T> a",
            "##|<T> [go] Start to build x",
            "&1|<T> c",
            "!!|<T> b",
            "ex|<T> a",
        ];
        let mut expected = lines.map(str::to_owned);
        expected.swap(4, 5);
        assert_eq!(sorted(&json!([]), &lines, Order::Any), expected);
    }

    #[test]
    fn folders_that_are_kept_or_deleted_are_in_the_order_of_the_file_system() {
        let lines = [
            "pr|<T> [go] Keeping folder b",
            "pr|<T> [go] Deleting folder c",
            "pr|<T> [go] Deleting folder a",
            "pr|<T> x",
            "pr|<T> [go] Deleting folder a",
        ];
        let expected = [lines[2], lines[1], lines[0], lines[3], lines[4]];
        assert_eq!(sorted(&json!([]), &lines, Order::Exact), expected);
    }

    #[test]
    fn uploads_may_change_places_inside_of_one_rule() {
        let plans = json!([
            { "src": "target/*.jar", "dest": "jars" },
            { "src": "b.jar", "dest": "jars" },
        ]);
        let line = |name: &str, dest: &str| {
            format!("ar|<T> [go] Uploading artifacts from ${{SANDBOX}}/x/{name} to {dest}")
        };
        let (a, c) = (line("a.jar", "jars"), line("c.jar", "jars"));
        let (failed, b) = (
            "ae|<T> [go] Failed to upload c.jar",
            line("x/b.txt", "jars"),
        );
        let other = "ar|<T> [go] Start to upload";
        // What is said about an upload goes with it; another rule's stays.
        let lines = [other, &c, failed, &a, &b];
        let expected = [other, &a, &c, failed, &b];
        assert_eq!(sorted(&plans, &lines, Order::Exact), expected);
        let rule_by_rule =
            json!([{ "src": "c.jar", "dest": "jars" }, { "src": "a.jar", "dest": "jars" }]);
        assert_eq!(sorted(&rule_by_rule, &lines, Order::Exact), lines);
    }
}
