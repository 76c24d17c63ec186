//! What the tests of materials share: a working directory with a console.

use std::{fs, path::PathBuf, sync::Arc};

use tempfile::TempDir;

use super::MaterialContext;
use crate::job::{
    console::{Charset, Console},
    containment::Children,
    spool::SpoolWriter,
};

/// An agent's working directory with the pipeline `P` in it.
pub(super) struct Bench {
    dir: TempDir,
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
        };
        Self { dir, context }
    }

    /// A path beside the agent's working directory.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().canonicalize().unwrap().join(name)
    }

    /// All lines of the console so far, `tag|text` without the time. The temporary folder is
    /// shown as `~`.
    pub(super) fn lines(&self) -> Vec<String> {
        let text = fs::read_to_string(self.dir.path().join("console")).unwrap();
        let here = self.path("");
        let here = here.display().to_string();
        text.replace(here.trim_end_matches('/'), "~")
            .lines()
            .map(|line| format!("{}{}", &line[..3], &line[16..]))
            .collect()
    }
}
