//! What is meant to be different from GoCD's agent: `tests/conformance/differences.json`.
//!
//! A difference says why, for which kind of case, and exactly what our agent does instead. Where it
//! applies, what was recorded is rewritten to that; then both are compared as ever. So a line that
//! no difference names still has to be the same, and a difference that is not there fails nothing.

mod kind;
mod masked;
mod reworded;

use std::{cell::RefCell, collections::BTreeSet, fs, path::Path};

use regex::Regex;
use serde::{Deserialize, Deserializer, de::Error};

use self::{
    kind::Kind,
    masked::{Masked, Secrets},
    reworded::Reworded,
};
use super::{
    case::Case,
    recording::{Order, Recording, Request},
};
use crate::binaries::repository;

/// The declared differences.
#[derive(Default)]
pub(super) struct Differences(Vec<Difference>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Difference {
    name: String,
    /// Why it is meant.
    #[serde(rename = "reason")]
    _reason: String,
    /// Which cases.
    when: Kind,
    /// Lines of the console.
    #[serde(default)]
    console: Vec<Lines>,
    /// Secrets that GoCD shows.
    masked: Option<Masked>,
    /// Words that ours has others for.
    reworded: Option<Reworded>,
    /// Names in recorded zips of what ours does not upload.
    not_uploaded: Option<Pattern>,
    /// A step that a cancel breaks off leaves fewer files and downloads fewer.
    #[serde(default)]
    broken_off: bool,
    /// What is reported instead.
    #[serde(default)]
    results: Vec<JobResult>,
}

/// Lines that stand in the place of others.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Lines {
    /// What GoCD's agent has there.
    recorded: Vec<Pattern>,
    /// What ours has there. One that begins with `*` stands for any number of lines, none too.
    ours: Vec<Repeated>,
    /// The recorded line before, if it matters.
    after: Option<Pattern>,
    /// The recorded line behind, if it matters.
    before: Option<Pattern>,
}

/// A result in place of another.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JobResult {
    recorded: String,
    ours: String,
}

/// Matches a whole line.
struct Pattern(Regex);

struct Repeated {
    pattern: Pattern,
    any_number: bool,
}

/// The differences that apply to one case, and those that were met.
pub(super) struct Meant<'a> {
    differences: Vec<&'a Difference>,
    secrets: Secrets,
    met: RefCell<BTreeSet<String>>,
}

impl Differences {
    /// Those that this repository declares.
    ///
    /// # Errors
    /// The file cannot be read or understood.
    pub(super) fn declared() -> Result<Self, String> {
        let file = repository().join("tests/conformance/differences.json");
        let text = fs::read_to_string(&file)
            .map_err(|error| format!("read {}: {error}", file.display()))?;
        serde_json::from_str(&text).map_err(|error| format!("read {}: {error}", file.display()))
    }

    /// Those that apply to a case which was run in this sandbox.
    pub(super) fn of(&self, case: &Case, sandbox: &Path) -> Meant<'_> {
        let differences = self.0.iter();
        Meant {
            differences: differences
                .filter(|difference| difference.when.is(case, sandbox))
                .collect(),
            secrets: Secrets::of(&case.job.work),
            met: RefCell::default(),
        }
    }
}

impl Meant<'_> {
    /// Names of the differences that were met.
    pub(super) fn met(&self) -> Vec<String> {
        self.met.borrow().iter().cloned().collect()
    }

    /// Rewrites recorded lines that show a secret, or have words that ours has others for, to
    /// what ours are, wherever they stand.
    pub(super) fn within_lines(&self, recorded: &mut [String], ours: &[String]) {
        for difference in &self.differences {
            for line in recorded.iter_mut().filter(|line| !ours.contains(line)) {
                let instead = ours.iter().find(|ours| {
                    let masked = difference.masked.as_ref();
                    let reworded = difference.reworded.as_ref();
                    masked.is_some_and(|masked| masked.fits(&self.secrets, line, ours))
                        || reworded.is_some_and(|reworded| reworded.fits(line, ours))
                });
                if let Some(instead) = instead {
                    line.clone_from(instead);
                    self.met.borrow_mut().insert(difference.name.clone());
                }
            }
        }
    }

    /// Rewrites recorded lines to what is meant, where ours are so. Both are sorted.
    pub(super) fn console(&self, recorded: &mut Vec<String>, ours: &[String], order: Order) {
        let (mut at, mut our) = (0, 0);
        while our < ours.len() {
            if recorded.get(at) == Some(&ours[our]) {
                (at, our) = (at + 1, our + 1);
            } else if let Some((left_out, taken)) = self.instead(recorded, at, &ours[our..]) {
                let put_in = ours[our..our + taken].iter().cloned();
                recorded.splice(at..at + left_out, put_in);
                (at, our) = (at + taken, our + taken);
            } else if order == Order::Lost {
                our += 1;
            } else {
                return;
            }
        }
    }

    /// How many recorded lines from `at` on have how many of ours in their place.
    fn instead(&self, recorded: &[String], at: usize, ours: &[String]) -> Option<(usize, usize)> {
        self.differences.iter().find_map(|difference| {
            let mut lines = difference.console.iter();
            let found = lines.find_map(|lines| lines.fit(recorded, at, ours))?;
            self.met.borrow_mut().insert(difference.name.clone());
            Some(found)
        })
    }

    /// Takes out of recorded uploads what ours does not upload; those that had nothing else go.
    pub(super) fn uploads(&self, recorded: &mut Recording, ours: &Recording) {
        for difference in &self.differences {
            let Some(names) = &difference.not_uploaded else {
                continue;
            };
            let ours = ours
                .requests
                .iter()
                .filter_map(|request| request.upload.as_ref());
            if ours
                .flat_map(|upload| &upload.zip)
                .any(|entry| names.is_match(&entry.name))
            {
                continue;
            }
            let mut taken_out = 0;
            recorded.requests.retain_mut(|request| {
                let Some(upload) = &mut request.upload else {
                    return true;
                };
                let before = upload.zip.len();
                upload.zip.retain(|entry| !names.is_match(&entry.name));
                taken_out += before - upload.zip.len();
                before == 0 || !upload.zip.is_empty()
            });
            if taken_out > 0 {
                self.met.borrow_mut().insert(difference.name.clone());
            }
        }
    }

    /// Takes out of what was recorded the files and downloads that a step which is broken off does
    /// not come to.
    pub(super) fn broken_off(&self, recorded: &mut Recording, ours: &Recording) {
        let mut differences = self.differences.iter();
        let Some(difference) = differences.find(|difference| difference.broken_off) else {
            return;
        };
        let before = recorded.files.len() + recorded.requests.len();
        recorded.files.retain(|file| ours.files.contains(file));
        let is_download = |request: &Request| {
            request.method == "GET" && request.path.starts_with("/remoting/files/")
        };
        let ours = ours.requests.iter().filter(|request| is_download(request));
        let mut left = ours.count();
        recorded.requests.retain(|request| {
            let stays = !is_download(request) || left > 0;
            left -= usize::from(is_download(request) && stays);
            stays
        });
        if recorded.files.len() + recorded.requests.len() < before {
            self.met.borrow_mut().insert(difference.name.clone());
        }
    }

    /// Rewrites recorded results to those that are meant, where ours are so.
    pub(super) fn results(&self, recorded: &mut Recording, ours: &Recording) {
        for difference in &self.differences {
            for result in &difference.results {
                if recorded.result.last.as_deref() == Some(&result.recorded)
                    && ours.result.last.as_deref() == Some(&result.ours)
                {
                    replace_result(recorded, result);
                    self.met.borrow_mut().insert(difference.name.clone());
                }
            }
        }
    }
}

fn replace_result(recorded: &mut Recording, result: &JobResult) {
    for request in &mut recorded.requests {
        let told = request.body.as_mut();
        if let Some(told) = told.and_then(|body| body.get_mut("jobResult"))
            && *told == *result.recorded
        {
            *told = result.ours.clone().into();
        }
    }
    for report in &mut recorded.result.reports {
        if let Some((action, told)) = report.split_once(':')
            && told == result.recorded
        {
            *report = format!("{action}:{}", result.ours);
        }
    }
    recorded.result.last = Some(result.ours.clone());
}

impl Lines {
    /// How many of the recorded lines from `at` on, and how many of ours, these are about.
    fn fit(&self, recorded: &[String], at: usize, ours: &[String]) -> Option<(usize, usize)> {
        let end = at + self.recorded.len();
        let fits = |pattern: &Option<Pattern>, line: Option<&String>| match (pattern, line) {
            (None, _) => true,
            (Some(pattern), Some(line)) => pattern.is_match(line),
            (Some(_), None) => false,
        };
        let are_there = end <= recorded.len()
            && self
                .recorded
                .iter()
                .zip(&recorded[at..])
                .all(|(pattern, line)| pattern.is_match(line))
            && fits(
                &self.after,
                at.checked_sub(1).map(|before| &recorded[before]),
            )
            && fits(&self.before, recorded.get(end));
        let taken = are_there.then(|| take(&self.ours, ours)).flatten()?;
        // Nothing for nothing would be found again and again.
        (!self.recorded.is_empty() || taken > 0).then_some((self.recorded.len(), taken))
    }
}

/// How many lines the patterns fit, as many as they can.
fn take(patterns: &[Repeated], lines: &[String]) -> Option<usize> {
    let Some((first, rest)) = patterns.split_first() else {
        return Some(0);
    };
    let is_first = |line: &&String| first.pattern.is_match(line);
    let fitting = lines.iter().take_while(is_first).count();
    let (least, most) = match first.any_number {
        true => (0, fitting),
        false => (1, fitting.min(1)),
    };
    let mut counts = (least..=most).rev();
    counts.find_map(|count| Some(count + take(rest, &lines[count..])?))
}

impl<'de> Deserialize<'de> for Differences {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::deserialize(deserializer).map(Self)
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::new(&text).map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Repeated {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let one = text.strip_prefix('*');
        Ok(Self {
            pattern: Pattern::new(one.unwrap_or(&text)).map_err(D::Error::custom)?,
            any_number: one.is_some(),
        })
    }
}

impl Pattern {
    fn new(text: &str) -> Result<Self, regex::Error> {
        Regex::new(&format!("(?s)^(?:{text})$")).map(Self)
    }

    fn is_match(&self, text: &str) -> bool {
        self.0.is_match(text)
    }
}

impl Default for Meant<'_> {
    /// Nothing is meant to differ.
    fn default() -> Self {
        Self {
            differences: Vec::new(),
            secrets: Secrets::default(),
            met: RefCell::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;
    use serde_json::{Value, json};

    use super::*;

    /// What is recorded, rewritten by one declared difference.
    fn rewritten(difference: &Value, recorded: &[&str], ours: &[&str]) -> Vec<String> {
        let mut difference = difference.clone();
        difference["name"] = "x".into();
        difference["reason"] = "x".into();
        difference["when"] = json!({});
        let difference: Difference = serde_json::from_value(difference).unwrap();
        let meant = Meant {
            differences: vec![&difference],
            secrets: Secrets::of(&json!({ "assignment": { "initialContext": { "properties": [
                { "name": "S", "value": "topsecret", "secure": true },
            ] } } })),
            met: RefCell::default(),
        };
        let owned = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect();
        let (mut recorded, ours): (Vec<String>, Vec<String>) = (owned(recorded), owned(ours));
        let before = recorded.clone();
        meant.within_lines(&mut recorded, &ours);
        meant.console(&mut recorded, &ours, Order::Exact);
        assert_eq!(!meant.met().is_empty(), recorded != before);
        recorded
    }

    #[test]
    fn what_is_not_uploaded_is_taken_out_of_what_was() {
        let recording = |zips: &[&[&str]]| -> Recording {
            let uploads = zips.iter().map(|names| {
                let zip: Vec<Value> = names.iter().map(|name| json!({ "name": name })).collect();
                json!({ "method": "POST", "path": "/", "query": "", "headers": {}, "upload": {
                    "parts": [], "zip": zip, "checksum_comment_lines": 2, "checksum_entries": [],
                } })
            });
            serde_json::from_value(json!({
                "order": "exact", "requests": uploads.collect::<Vec<_>>(), "console_put": null,
                "result": { "reports": [], "final": null }, "files": [],
            }))
            .unwrap()
        };
        let difference: Difference = serde_json::from_value(json!({
            "name": "x", "reason": "x", "when": {}, "not_uploaded": "(.*/)?<uuid>/",
        }))
        .unwrap();
        let after = |ours: &[&[&str]]| {
            let meant = Meant {
                differences: vec![&difference],
                ..Meant::default()
            };
            let mut recorded = recording(&[&["a/"], &["<uuid>/"], &["web/", "web/<uuid>/"]]);
            meant.uploads(&mut recorded, &recording(ours));
            let zips = recorded
                .requests
                .into_iter()
                .filter_map(|request| request.upload);
            let names = zips.map(|upload| upload.zip.into_iter().map(|entry| entry.name).collect());
            (names.collect::<Vec<Vec<String>>>(), meant.met().len())
        };
        let without = vec![vec!["a/".to_owned()], vec!["web/".to_owned()]];
        assert_eq!(after(&[&["a/"], &["web/"]]), (without, 1));
        assert_eq!(after(&[&["a/"], &["<uuid>/"]]).1, 0);
    }

    #[test]
    fn a_step_that_is_broken_off_leaves_and_downloads_less() {
        let recording = |files: &[&str], downloads: usize| -> Recording {
            let files = files
                .iter()
                .map(|path| json!({ "path": path, "type": "file" }));
            let download = json!({
                "method": "GET", "path": "/remoting/files/a", "query": "", "headers": {},
            });
            serde_json::from_value(json!({
                "order": "any", "requests": vec![download; downloads], "console_put": null,
                "result": { "reports": [], "final": null }, "files": files.collect::<Vec<_>>(),
            }))
            .unwrap()
        };
        let difference: Difference = serde_json::from_value(json!({
            "name": "x", "reason": "x", "when": {}, "broken_off": true,
        }))
        .unwrap();
        let after = |ours: Recording| {
            let meant = Meant {
                differences: vec![&difference],
                ..Meant::default()
            };
            let mut recorded = recording(&["a", "b"], 2);
            meant.broken_off(&mut recorded, &ours);
            (
                recorded.files.len(),
                recorded.requests.len(),
                meant.met().len(),
            )
        };
        assert_eq!(after(recording(&["a"], 1)), (1, 1, 1));
        assert_eq!(after(recording(&["a", "b"], 2)), (2, 2, 0));
        // What ours has beyond that is for the comparison to find.
        assert_eq!(after(recording(&["a", "b", "c"], 3)), (2, 2, 0));
    }

    #[test]
    fn declared_differences_can_be_read() {
        assert!(!Differences::declared().unwrap().0.is_empty());
    }

    #[test]
    fn lines_are_replaced_where_ours_are_as_declared() {
        let difference = json!({ "console": [
            { "after": "task", "recorded": ["failed"], "ours": ["*out .*", "passed"] },
        ] });
        let ours = ["task", "out 1", "out 2", "passed", "end"];
        assert_eq!(
            rewritten(&difference, &["task", "failed", "end"], &ours),
            ours
        );
        let none = ["task", "passed", "end"];
        assert_eq!(
            rewritten(&difference, &["task", "failed", "end"], &none),
            none
        );
        // Elsewhere, and when ours are not as declared, nothing changes.
        for (recorded, ours) in [
            (["other", "failed", "end"], ["other", "passed", "end"]),
            (["task", "failed", "end"], ["task", "out 1", "end"]),
            (["task", "ended", "end"], ["task", "passed", "end"]),
        ] {
            assert_eq!(rewritten(&difference, &recorded, &ours), recorded);
        }
    }

    #[test]
    fn lines_are_put_in_where_declared_and_nowhere_else() {
        let difference = json!({ "console": [
            { "recorded": [], "ours": ["out .*", "*out .*"], "before": "passed" },
        ] });
        let ours = ["task", "out 1", "out 2", "out 3", "passed"];
        assert_eq!(
            rewritten(&difference, &["task", "out 1", "passed"], &ours),
            ours
        );
        let recorded = ["task", "out 2", "passed"];
        assert_eq!(rewritten(&difference, &recorded, &ours), recorded);
    }

    #[test]
    fn secrets_are_hidden_in_the_lines_that_are_declared() {
        let difference = json!({ "masked": { "lines": "!!.*", "forms": ["plain"] } });
        let ours = ["!! a ******", "&1 ******"];
        assert_eq!(
            rewritten(&difference, &["!! a topsecret", "&1 topsecret"], &ours),
            ["!! a ******", "&1 topsecret"]
        );
        let recorded = ["!! a word", "&1 ******"];
        assert_eq!(rewritten(&difference, &recorded, &ours), recorded);
    }
}
