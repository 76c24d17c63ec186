//! The results of a job's tests.

use std::path::PathBuf;

use journeyman_protocol::files::encode_path;

use crate::answer::Refusal;
use crate::pipelines::definition::{ArtifactKind, Job};
use crate::scheduling::view::ArtifactView;
use crate::test_results::{self, Outcome, Results, Test};

/// Where agents put results of tests when nothing else is said.
const TEST_OUTPUT: &str = "testoutput";
/// Files that are read.
const MOST_FILES: usize = 2000;

pub(super) struct View {
    pub(super) results: Results,
    pub(super) seconds: String,
    /// The report that the agent has made, where it is all there is.
    pub(super) report: Option<String>,
    /// Files that are not read because there are too many.
    pub(super) unread: usize,
}

/// Reads the XML files among what the job has published as tests.
pub(super) async fn view(
    root: PathBuf,
    definition: Option<&Job>,
    stored: Vec<ArtifactView>,
    files: &str,
) -> Result<View, Refusal> {
    let published = definition.map_or(&[][..], |job| &job.artifacts);
    let tests = published
        .iter()
        .filter(|one| one.kind == ArtifactKind::Test);
    let mut folders: Vec<&str> = tests
        .map(|one| one.destination.trim_matches('/'))
        .map(|folder| {
            if folder.is_empty() {
                TEST_OUTPUT
            } else {
                folder
            }
        })
        .collect();
    if !folders.contains(&TEST_OUTPUT) {
        folders.push(TEST_OUTPUT);
    }
    let is_in = |path: &str, folder: &str| {
        path.strip_prefix(folder)
            .is_some_and(|rest| rest.starts_with('/'))
    };
    let paths = stored.iter().map(|one| one.path.as_str());
    let is_xml = |path: &str| path.len() > 4 && path[path.len() - 4..].eq_ignore_ascii_case(".xml");
    let mut xml: Vec<String> = paths
        .clone()
        .filter(|path| path.is_char_boundary(path.len().saturating_sub(4)) && is_xml(path))
        .filter(|path| folders.iter().any(|folder| is_in(path, folder)))
        .map(str::to_owned)
        .collect();
    let unread = xml.len().saturating_sub(MOST_FILES);
    xml.truncate(MOST_FILES);
    // The agent makes one of all, in the folder of the first.
    let report = format!("{TEST_OUTPUT}/index.html");
    let report = paths
        .clone()
        .find(|path| **path == report)
        .or_else(|| {
            paths
                .clone()
                .find(|path| is_in(path, TEST_OUTPUT) && path.ends_with("/index.html"))
        })
        .map(|path| format!("{files}/{}", encode_path(path)));
    let reading = tokio::task::spawn_blocking(move || test_results::read(&root, xml)).await;
    let results = reading.map_err(|error| Refusal::internal("read test results", &error))?;
    Ok(View {
        seconds: seconds(results.seconds),
        report: report.filter(|_| results.count() == 0),
        results,
        unread,
    })
}

fn seconds(seconds: f64) -> String {
    format!("{seconds:.3} s")
}

impl View {
    pub(super) fn of(&self, outcome: Outcome) -> impl Iterator<Item = &Test> {
        let tests = self.results.tests.iter();
        tests.filter(move |test| test.outcome == outcome)
    }

    pub(super) fn not_passed(&self) -> Vec<&Test> {
        self.of(Outcome::Failed)
            .chain(self.of(Outcome::Skipped))
            .collect()
    }

    pub(super) fn passed(&self) -> Vec<&Test> {
        self.of(Outcome::Passed).collect()
    }
}

impl Test {
    /// For the page.
    pub(in crate::pages) fn took(&self) -> String {
        self.seconds.map_or(String::new(), seconds)
    }

    pub(in crate::pages) fn tone(&self) -> &'static str {
        match self.outcome {
            Outcome::Failed => "Failed",
            Outcome::Skipped => "Skipped",
            Outcome::Passed => "Passed",
        }
    }
}
