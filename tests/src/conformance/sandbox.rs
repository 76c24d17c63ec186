//! The folder that a case runs in, and what is left there.

use std::{
    fs, io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use tempfile::TempDir;

use super::{
    case::Job,
    recording::{FileKind, LeftFile, sha256},
};

/// A temporary folder with `agent/` and `home/`, as the case's script left it.
pub(super) struct Sandbox {
    folder: Option<TempDir>,
    path: PathBuf,
}

impl Sandbox {
    /// Makes the folder and runs the script of the case in it.
    ///
    /// # Errors
    /// No folder, or the script failed: what it printed.
    pub(super) fn prepare(job: &Job) -> Result<Self, String> {
        let folder = tempfile::Builder::new()
            .prefix("jm-")
            .tempdir()
            .map_err(|error| format!("make a sandbox: {error}"))?;
        let path = folder
            .path()
            .canonicalize()
            .map_err(|error| format!("make a sandbox: {error}"))?;
        let sandbox = Self {
            folder: Some(folder),
            path,
        };
        for name in ["agent", "home"] {
            fs::create_dir(sandbox.path.join(name))
                .map_err(|error| format!("make a sandbox: {error}"))?;
        }
        sandbox.run(&job.setup.join("\n"))?;
        Ok(sandbox)
    }

    fn run(&self, script: &str) -> Result<(), String> {
        let output = Command::new("bash")
            .args(["-e", "-c", script])
            .current_dir(&self.path)
            .env_clear()
            .env("SANDBOX", &self.path)
            .env("HOME", self.path.join("home"))
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("TZ", "UTC")
            .env("LC_ALL", "C.UTF-8")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .stdin(Stdio::null())
            .output()
            .map_err(|error| format!("run bash for the setup: {error}"))?;
        if output.status.success() {
            return Ok(());
        }
        Err(format!(
            "the setup of the case ended with {}:\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        ))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The agent's working folder.
    pub(super) fn agent(&self) -> PathBuf {
        self.path.join("agent")
    }

    /// Does not delete the folder.
    pub(super) fn keep(&mut self) {
        if let Some(folder) = self.folder.take() {
            let _ = folder.keep();
        }
    }
}

/// Everything in the working directory of the pipeline but git's own folders, by path.
///
/// # Errors
/// Something there cannot be read.
pub(super) fn files_left(folder: &Path) -> io::Result<Vec<LeftFile>> {
    let mut found = Vec::new();
    if folder.is_dir() {
        collect(folder, folder, &mut found)?;
    }
    found.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(found)
}

fn collect(top: &Path, folder: &Path, found: &mut Vec<LeftFile>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().as_bytes() == b".git" {
            continue;
        }
        let path = entry.path();
        let mut left = LeftFile {
            path: path
                .strip_prefix(top)
                .unwrap_or(&path)
                .to_string_lossy()
                .into_owned(),
            kind: FileKind::Dir,
            size: None,
            sha256: None,
            target: None,
        };
        let kind = entry.file_type()?;
        if kind.is_dir() {
            collect(top, &path, found)?;
        } else if kind.is_symlink() {
            left.kind = FileKind::Link;
            left.target = Some(fs::read_link(&path)?.to_string_lossy().into_owned());
        } else if !kind.is_file() {
            // Reading a named pipe would wait for ever.
            left.kind = FileKind::File;
        } else {
            let content = fs::read(&path)?;
            left.kind = FileKind::File;
            left.size = Some(content.len() as u64);
            left.sha256 = Some(sha256(&content));
        }
        found.push(left);
    }
    Ok(())
}
