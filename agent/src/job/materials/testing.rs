//! What the tests of materials share: a working directory with a console, and eyes on what every
//! user of the machine can see.

use std::{
    cell::Cell,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use journeyman_protocol::{
    material::Material,
    revision::{MaterialRevision, MaterialRevisions, Modification},
};
use tempfile::TempDir;

use super::{MaterialContext, MaterialError};
use crate::job::{
    console::{Charset, Console},
    containment::Children,
    spool::SpoolWriter,
};

/// An agent's working directory with the pipeline `P` in it.
pub(super) struct Bench {
    dir: TempDir,
    seen: Cell<usize>,
    pub(super) context: MaterialContext,
}

impl Bench {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        // As the agent has it: without links.
        let root = dir.path().canonicalize().unwrap().join("agent");
        fs::create_dir_all(root.join("pipelines/P")).unwrap();
        let console = Console::new(
            SpoolWriter::open(&dir.path().join("console")).unwrap(),
            Charset::for_name("utf-8"),
            Arc::new(jiff::Zoned::now),
        );
        let context = MaterialContext {
            console,
            children: Children::default(),
            root,
            base: PathBuf::from("pipelines/P"),
            is_cancelled: Arc::new(|| false),
            host_name: "build-07".to_owned(),
        };
        Self {
            dir,
            seen: Cell::new(0),
            context,
        }
    }

    /// A path beside the agent's working directory.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().canonicalize().unwrap().join(name)
    }

    /// The pipeline's working directory.
    pub(super) fn base(&self) -> PathBuf {
        self.context.root.join(&self.context.base)
    }

    /// Brings materials up to date, each at a revision.
    pub(super) fn update(
        &self,
        materials: impl IntoIterator<Item = (Material, String)>,
    ) -> Result<(), MaterialError> {
        let revision = |(material, revision)| MaterialRevision {
            material,
            modifications: vec![Modification {
                revision,
                ..Modification::default()
            }],
            changed: true,
        };
        let revisions = MaterialRevisions {
            revisions: materials.into_iter().map(revision).collect(),
        };
        super::update(&revisions, &self.context)
    }

    /// All lines of the console so far, `tag|text` without the time. The temporary folder is
    /// shown as `~`.
    pub(super) fn lines(&self) -> Vec<String> {
        self.seen.set(0);
        self.new_lines()
    }

    /// The lines since the last call.
    pub(super) fn new_lines(&self) -> Vec<String> {
        let text = fs::read_to_string(self.dir.path().join("console")).unwrap();
        let seen = self.seen.replace(text.len());
        let here = self.path("");
        let here = here.display().to_string();
        text[seen..]
            .replace(here.trim_end_matches('/'), "~")
            .lines()
            .map(|line| format!("{}{}", &line[..3], &line[16..]))
            .collect()
    }
}

/// Runs a program that must succeed and gives what it printed.
pub(super) fn run(folder: &Path, words: &[&str]) -> String {
    let output = Command::new(words[0])
        .args(&words[1..])
        .current_dir(folder)
        .env("HGUSER", "dev <dev@example.com>")
        .output()
        .unwrap_or_else(|error| panic!("{words:?} is needed for this test: {error}"));
    assert!(output.status.success(), "{words:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The processes of this machine that have a text among their arguments.
pub(super) fn seen_in_arguments(text: &str) -> Vec<String> {
    let folders = fs::read_dir("/proc").unwrap().flatten();
    folders
        .filter_map(|item| fs::read(item.path().join("cmdline")).ok())
        .map(|words| String::from_utf8_lossy(&words).replace('\0', " "))
        .filter(|words| words.contains(text))
        .collect()
}

/// The files below a folder that hold a text.
pub(super) fn seen_in_files(folder: &Path, text: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for item in fs::read_dir(folder).unwrap().flatten() {
        let path = item.path();
        if path.is_dir() && !path.is_symlink() {
            found.extend(seen_in_files(&path, text));
        } else if String::from_utf8_lossy(&fs::read(&path).unwrap_or_default()).contains(text) {
            found.push(path);
        }
    }
    found
}
