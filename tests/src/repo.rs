//! A real git repository with a pipeline in it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::scene::Scene;

/// A git repository in the scene's folder, branch `master`.
pub struct Repo {
    path: PathBuf,
}

impl Repo {
    /// A repository with one file, `ci.gocd.yaml`. `{url}` in the text becomes its own URL.
    pub fn new(scene: &Scene, name: &str, yaml: &str) -> Self {
        let repo = Self {
            path: scene.folder(name),
        };
        repo.git(&["init", "-q", "-b", "master"]);
        repo.commit("ci.gocd.yaml", &yaml.replace("{url}", &repo.url()));
        repo
    }

    /// A repository with one pipeline of one stage `build`, started only by hand, which checks out
    /// this repository. `jobs` are YAML lines at no indent.
    pub fn with_pipeline(scene: &Scene, name: &str, jobs: &str) -> Self {
        let jobs: String = jobs
            .lines()
            .map(|line| format!("            {line}\n"))
            .collect();
        let yaml = format!(
            "\
format_version: 11
pipelines:
  {name}:
    group: tests
    materials:
      source: {{ git: \"{{url}}\" }}
    stages:
      - build:
          approval: manual
          jobs:
{jobs}"
        );
        Self::new(scene, &format!("{name}.repo"), &yaml)
    }

    /// What to give to git and to the server.
    pub fn url(&self) -> String {
        format!("file://{}", self.path.display())
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The newest commit.
    pub fn revision(&self) -> String {
        let head = self.path.join(".git/refs/heads/master");
        let text = fs::read_to_string(head).expect("a commit");
        text.trim().to_owned()
    }

    /// Writes a file and commits it.
    pub fn commit(&self, file: &str, content: &str) {
        let path = self.path.join(file);
        fs::create_dir_all(path.parent().expect("a file is in a folder")).expect("a folder");
        fs::write(path, content).expect("a file of the repository");
        self.git(&["add", "--all"]);
        self.git(&["commit", "-q", "-m", &format!("Write {file}")]);
    }

    fn git(&self, arguments: &[&str]) {
        let output = Command::new("git")
            .current_dir(&self.path)
            .args([
                "-c",
                "user.name=Ann Example",
                "-c",
                "user.email=ann@example.com",
            ])
            .args(arguments)
            // What the person who runs the tests has configured must not matter.
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_SYSTEM", "/dev/null")
            .env_remove("GIT_DIR")
            .env_remove("GIT_WORK_TREE")
            .output()
            .expect("git");
        assert!(
            output.status.success(),
            "git {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}
