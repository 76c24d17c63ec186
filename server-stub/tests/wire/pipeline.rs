//! A pipeline out of a real git repository.

use std::{fs, path::Path, process::Command};

use serde_json::json;

use crate::server::Server;

const YAML: &str = "\
format_version: 11
pipelines:
  web:
    group: tests
    materials:
      source: { git: \"{url}\" }
    stages:
      - build:
          approval: manual
          jobs:
            unit:
              tasks:
                - script: echo hello
";

impl Server {
    /// Makes the server read a pipeline `web` with a stage `build` of one job, `unit`.
    pub(crate) async fn add_pipeline(&self) {
        let path = self.folder.path().join("repo");
        fs::create_dir(&path).unwrap();
        let url = format!("file://{}", path.display());
        git(&path, &["init", "-q", "-b", "master"]);
        fs::write(path.join("ci.gocd.yaml"), YAML.replace("{url}", &url)).unwrap();
        git(&path, &["add", "--all"]);
        git(&path, &["commit", "-q", "-m", "Describe the pipeline"]);
        let body = json!({ "id": "repo", "plugin_id": "yaml.config.plugin", "material":
            { "type": "git", "attributes": { "url": url, "branch": "master" } } });
        let added = crate::server::answer(self.post("/api/admin/config_repos").json(&body)).await;
        assert_eq!(added.status, 200, "{added:?}");
        crate::server::until("the pipeline is known", async || {
            let status = self.get("/api/pipelines/web/status").send().await.unwrap();
            status.status().is_success().then_some(())
        })
        .await;
    }

    /// Starts a run of the pipeline.
    pub(crate) async fn trigger(&self) {
        let accepted = self.confirm("/api/pipelines/web/schedule").await;
        assert_eq!(accepted.status, 202, "{accepted:?}");
    }

    /// State and result of the job of a run.
    pub(crate) async fn job_state(&self, run: u32) -> (String, String) {
        let job = self
            .json(&format!("/api/jobs/web/{run}/build/1/unit"))
            .await;
        let text = |name: &str| job[name].as_str().unwrap().to_owned();
        (text("state"), text("result"))
    }
}

fn git(folder: &Path, arguments: &[&str]) {
    let output = Command::new("git")
        .current_dir(folder)
        .args(["-c", "user.name=Ann Example"])
        .args(["-c", "user.email=ann@example.com"])
        .args(arguments)
        // What the person who runs the tests has configured must not matter.
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null")
        .env_remove("GIT_DIR")
        .env_remove("GIT_WORK_TREE")
        .output()
        .unwrap();
    assert!(output.status.success(), "git {arguments:?}: {output:?}");
}
