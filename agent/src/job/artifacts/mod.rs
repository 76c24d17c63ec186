//! Publishing what a job made.

mod checksums;
mod destination;
mod packing;
mod pattern;
mod report;
mod scan;
mod tree;
mod upload;

use std::{
    error::Error,
    fs, io,
    path::{Path, PathBuf},
};

use journeyman_protocol::{
    artifact::{ArtifactPlan, ArtifactPlanType},
    console::Tag,
    work::BuildAssignment,
};

use super::{console::Console, server::JobServer};
use scan::Match;
use upload::{Pauses, Uploader};
use uuid::Uuid;

/// Where test reports go. GoCD: whatever the plans say.
const TEST_OUTPUT: &str = "testoutput";
/// Where temporary files are, relative to the agent's working directory.
const DATA: &str = "data";
/// Begins the name of a report's temporary folder.
const REPORT: &str = "cruise-";

/// Publishes all artifacts of a job. False when one of them failed; the others are published all
/// the same. `root` is the agent's working directory, absolute.
pub(crate) async fn publish(
    assignment: &BuildAssignment,
    server: &JobServer,
    console: &Console,
    root: &Path,
) -> bool {
    let publisher = Publisher {
        assignment,
        console,
        root,
        uploader: Uploader {
            server,
            console,
            pauses: Pauses::default(),
        },
    };
    let mut failed = publisher.refuse_external();
    let plans = &assignment.artifact_plans;
    let is_test = |plan: &&ArtifactPlan| plan.artifact_plan_type == ArtifactPlanType::Unit;
    let tests: Vec<&ArtifactPlan> = plans.iter().filter(is_test).collect();
    let mut tests_done = false;
    for plan in plans {
        let failure = match plan.artifact_plan_type {
            ArtifactPlanType::File => {
                let published = publisher.publish_file(plan).await;
                (!published).then(|| source(plan).to_owned())
            }
            // GoCD: all test plans are one, at the place of the first.
            ArtifactPlanType::Unit if !tests_done => {
                tests_done = true;
                let sources: Vec<&str> = tests.iter().map(|plan| source(plan)).collect();
                let published = publisher.publish_tests(&tests).await;
                (!published).then(|| sources.join(", "))
            }
            _ => None,
        };
        failed.extend(failure);
    }
    if failed.is_empty() {
        return true;
    }
    let list: String = failed.iter().map(|name| format!("[{name}]")).collect();
    // GoCD says its prefix twice here, and so must we.
    console.line(
        Tag::PublishErr,
        &format!("[go] [go] Uploading finished. Failed to upload {list}."),
    );
    false
}

struct Publisher<'a> {
    assignment: &'a BuildAssignment,
    console: &'a Console,
    root: &'a Path,
    uploader: Uploader<'a>,
}

impl Publisher<'_> {
    /// Artifacts for stores need plugins that run in a JVM. Returns their names.
    fn refuse_external(&self) -> Vec<String> {
        let mut names = Vec::new();
        for plan in &self.assignment.artifact_plans {
            let kind = plan.artifact_plan_type;
            if !matches!(kind, ArtifactPlanType::External | ArtifactPlanType::Unknown) {
                continue;
            }
            let config: Option<serde_json::Value> = plan
                .pluggable_artifact_config_json
                .as_ref()
                .and_then(|json| serde_json::from_str(json.expose()).ok());
            let text = |name: &str| {
                config
                    .as_ref()
                    .and_then(|config| config.get(name)?.as_str())
                    .unwrap_or("unknown")
            };
            let stores = &self.assignment.artifact_stores;
            let plugin = stores
                .iter()
                .find(|store| store.id == text("storeId"))
                .map_or("unknown", |store| store.plugin_id.as_str());
            self.console.line(
                Tag::Publish,
                &format!("[go] Start to upload pluggable artifact using plugin `{plugin}`."),
            );
            self.console.line(
                Tag::Err,
                &format!(
                    "[go] This agent cannot publish the artifact `{}`: it needs the plugin \
                     `{plugin}`, and plugins run in GoCD's Java agent only.",
                    text("id")
                ),
            );
            names.push(text("id").to_owned());
        }
        if !names.is_empty() {
            self.console.line(
                Tag::Publish,
                "[go] No pluggable artifact metadata to upload.",
            );
        }
        names
    }

    async fn publish_file(&self, plan: &ArtifactPlan) -> bool {
        let Some(matches) = self.scan(plan).await else {
            return false;
        };
        if matches.is_empty() {
            self.console.line(
                Tag::PublishErr,
                &format!(
                    "[go] The rule [{}] cannot match any resource under [{}]",
                    source(plan),
                    self.base().display()
                ),
            );
            return false;
        }
        self.upload(plan, &matches).await
    }

    /// The plans' files first, up to the first that fails; then the report of all of them. That it
    /// cannot be made is no failure; that the folder it is in cannot be uploaded is one.
    async fn publish_tests(&self, plans: &[&ArtifactPlan]) -> bool {
        let mut found = Vec::new();
        for plan in plans {
            let Some(matches) = self.scan(plan).await else {
                return false;
            };
            if matches.is_empty() {
                self.console.line(
                    Tag::PublishErr,
                    &format!(
                        "[go] The directory {} specified as a test artifact was not found. \
                         Please check your configuration",
                        self.base()
                            .join(source(plan))
                            .components()
                            .collect::<PathBuf>()
                            .display(),
                    ),
                );
                continue;
            }
            if !self.upload(plan, &matches).await {
                return false;
            }
            found.extend(matches.into_iter().map(|item| item.path));
        }
        if found.is_empty() {
            self.console.line(
                Tag::PublishErr,
                "[go] No files were found in the Test Results folders",
            );
            return true;
        }
        self.publish_report(found).await
    }

    async fn publish_report(&self, matched: Vec<PathBuf>) -> bool {
        let folder = match ReportFolder::make(self.root) {
            Ok(folder) => folder,
            Err(error) => {
                self.unable_to_report(&error);
                return false;
            }
        };
        let (console, page) = (self.console.clone(), folder.result().join("index.html"));
        let made = tokio::task::spawn_blocking({
            let page = page.clone();
            move || {
                let html = report::make(&matched, |name| {
                    console.line(
                        Tag::Notice,
                        &format!("Ignoring file {name} - it is not a recognised test file."),
                    );
                })?;
                fs::write(page, html)
            }
        })
        .await
        .unwrap_or_else(|error| Err(io::Error::other(error)));
        match made {
            Ok(()) => {
                if let Err(error) = self.uploader.upload(&page, TEST_OUTPUT).await {
                    self.unable_to_report(&error);
                }
            }
            Err(error) => self.unable_to_report(&error),
        }
        let uploaded = self.uploader.upload(&folder.result(), TEST_OUTPUT).await;
        uploaded.is_ok()
    }

    fn unable_to_report(&self, error: &dyn Error) {
        self.console.line(
            Tag::Err,
            &format!("Unable to publish test properties. Error was {error}"),
        );
    }

    /// The first item that fails ends its plan.
    async fn upload(&self, plan: &ArtifactPlan, matches: &[Match]) -> bool {
        for item in matches {
            let dest = destination::of(
                source(plan),
                plan.dest.as_deref().unwrap_or_default(),
                self.base(),
                &item.relative,
            );
            if self.uploader.upload(&item.path, &dest).await.is_err() {
                return false;
            }
        }
        true
    }

    /// What a plan matches. None: that cannot be found out, which fails the plan. GoCD says nothing
    /// when the working directory is gone, and leaves out names that are not Unicode.
    async fn scan(&self, plan: &ArtifactPlan) -> Option<Vec<Match>> {
        let base = self.root.join(self.base());
        let pattern = source(plan).to_owned();
        let scanned = tokio::task::spawn_blocking(move || scan::scan(&base, &pattern))
            .await
            .unwrap_or_else(|error| Err(io::Error::other(error)));
        match scanned {
            Ok(matches) => Some(matches),
            Err(error) => {
                tracing::warn!(%error, source = source(plan), "Looking for artifacts failed");
                if error.kind() == io::ErrorKind::InvalidFilename {
                    self.console.line(
                        Tag::PublishErr,
                        &format!("[go] Cannot publish [{}]: {error}", source(plan)),
                    );
                }
                None
            }
        }
    }

    /// The job's working directory, relative to the agent's.
    fn base(&self) -> &Path {
        &self.assignment.build_working_directory
    }
}

/// The temporary folder of a report, deleted when dropped. GoCD's name, since the console shows it.
struct ReportFolder {
    path: PathBuf,
    inner: String,
}

impl ReportFolder {
    fn make(root: &Path) -> io::Result<Self> {
        let data = root.join(DATA);
        // One job runs at a time: what is there was left by one that was killed.
        for entry in fs::read_dir(&data)?.flatten() {
            if entry
                .file_name()
                .as_encoded_bytes()
                .starts_with(REPORT.as_bytes())
            {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        let folder = Self {
            path: data.join(format!("{REPORT}{}", Uuid::new_v4())),
            inner: Uuid::new_v4().to_string(),
        };
        fs::create_dir_all(folder.result())?;
        Ok(folder)
    }

    fn result(&self) -> PathBuf {
        self.path.join(&self.inner).join("result")
    }
}

impl Drop for ReportFolder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            tracing::warn!(%error, path = %self.path.display(), "A temporary folder stays");
        }
    }
}

fn source(plan: &ArtifactPlan) -> &str {
    plan.src.as_deref().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use journeyman_protocol::artifact::ArtifactStore;
    use pretty_assertions::assert_eq;

    use super::*;
    use crate::job::bench;

    #[tokio::test]
    async fn what_needs_a_plugin_fails_by_name_and_the_rest_is_tried_all_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        fs::create_dir_all(root.join("pipelines/web")).unwrap();
        let external = |json: &str| ArtifactPlan {
            artifact_plan_type: ArtifactPlanType::External,
            pluggable_artifact_config_json: Some(json.into()),
            ..ArtifactPlan::default()
        };
        let assignment = BuildAssignment {
            artifact_plans: vec![
                ArtifactPlan::file("nothing/*", "x"),
                external(r#"{"id":"img","storeId":"hub","configuration":{}}"#),
                external("no JSON"),
            ],
            artifact_stores: vec![ArtifactStore {
                id: "hub".into(),
                plugin_id: "cd.go.docker".into(),
                ..ArtifactStore::default()
            }],
            build_working_directory: "pipelines/web".into(),
            ..BuildAssignment::default()
        };
        let console = bench::console(&root);
        // Nobody is asked.
        let server = bench::server(([127, 0, 0, 1], 1).into(), &root);
        assert!(!publish(&assignment, &server, &console, &root).await);
        assert_eq!(
            bench::lines(&root, "~"),
            [
                "ar|[go] Start to upload pluggable artifact using plugin `cd.go.docker`.",
                "&2|[go] This agent cannot publish the artifact `img`: it needs the plugin \
                 `cd.go.docker`, and plugins run in GoCD's Java agent only.",
                "ar|[go] Start to upload pluggable artifact using plugin `unknown`.",
                "&2|[go] This agent cannot publish the artifact `unknown`: it needs the plugin \
                 `unknown`, and plugins run in GoCD's Java agent only.",
                "ar|[go] No pluggable artifact metadata to upload.",
                "ae|[go] The rule [nothing/*] cannot match any resource under [pipelines/web]",
                "ae|[go] [go] Uploading finished. Failed to upload [img][unknown][nothing/*].",
            ]
        );
    }
}
