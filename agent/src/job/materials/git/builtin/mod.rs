//! Git built in, for machines without one: the commands of a checkout, with the words git has for
//! them and the lines git prints.
//!
//! It is a program of its own (the agent's executable with the subcommand `git`), started by the
//! job runner in git's place: a cancel ends it as it ends git, and whatever libgit2 does to its
//! process ends with it. The user's configuration files are read as git reads them; credential
//! helpers and programs such as filters and hooks are not run.

mod fetch;
mod refs;
mod remote;
mod shallow;
mod submodule;
mod worktree;

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use git2::{Repository, RepositoryOpenFlags};

use super::config::ConfigFile;
use remote::Settings;

/// The subcommand of the agent's executable.
pub const SUBCOMMAND: &str = "git";
/// Of git: every failure that ends it.
const FATAL: i32 = 128;

/// Why a command ended early.
#[derive(Debug)]
enum Failure {
    /// To be printed behind `fatal: `.
    Fatal(String),
    /// All is printed; what is left to say is the exit code.
    Code(i32),
}

type Outcome = Result<(), Failure>;

impl From<git2::Error> for Failure {
    fn from(error: git2::Error) -> Self {
        Self::Fatal(error.message().to_owned())
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Fatal(error.to_string())
    }
}

/// One run of the program.
struct Git<'a> {
    /// Where it works.
    dir: PathBuf,
    settings: Settings,
    out: &'a mut dyn Write,
    err: &'a mut dyn Write,
}

/// Runs a command in the current folder and returns its exit code.
pub fn run(words: &[String], out: &mut dyn Write, err: &mut dyn Write) -> i32 {
    let dir = std::env::current_dir().unwrap_or_default();
    run_in(dir, Settings::of_process(), words, out, err)
}

fn run_in(
    dir: PathBuf,
    settings: Settings,
    words: &[String],
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> i32 {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut git = Git {
        dir,
        settings,
        out,
        err,
    };
    match git.command(&words) {
        Ok(()) => 0,
        Err(Failure::Code(code)) => code,
        Err(Failure::Fatal(text)) => {
            let _ = writeln!(git.err, "fatal: {text}");
            FATAL
        }
    }
}

impl Git<'_> {
    /// Exactly what a checkout asks for; anything else is a flaw in this program.
    fn command(&mut self, words: &[&str]) -> Outcome {
        match words {
            ["-C", dir, rest @ ..] => {
                self.dir = self.dir.join(dir);
                self.command(rest)
            }
            ["-c", setting, rest @ ..] => {
                self.settings.add(setting);
                self.command(rest)
            }
            // The newest whose ways are followed here.
            ["version"] => self.print("git version 2.47.0 (built into journeyman-agent)"),
            ["clone", options @ .., url, dir] => self.clone_to(options, url, Path::new(dir)),
            ["fetch", options @ ..] => self.fetch(options),
            ["config", "--get-all", name] => self.config(name, false),
            ["config", "--get-regexp", _] => self.submodule_urls(),
            ["config", "--replace-all", name, value] => self.replace_all(name, value),
            ["config", "--remove-section", section] => self.remove_section(section),
            ["config", name] => self.config(name, true),
            ["rev-parse", "--abbrev-ref", "HEAD"] => self.branch(),
            ["branch", "-r", "--contains", revision] => self.contains(revision),
            ["checkout", "-B", local, remote] => self.checkout_branch(local, remote),
            ["checkout", "--force", "--quiet"] => self.checkout_head(),
            ["checkout", "."] => self.checkout_index(),
            ["reset", "--hard", revision] => self.reset(revision),
            ["clean", "-dffx"] => self.clean(true),
            ["clean", "-dff"] => self.clean(false),
            // What a collection would save is not worth it here: packs come from fetches alone.
            ["gc", "--auto"] => Ok(()),
            ["submodule", "foreach", "--recursive", command] => self.foreach(command),
            ["submodule", "init"] => self.submodule_init(),
            ["submodule", "sync"] => self.submodule_sync(),
            ["submodule", "update", options @ ..] => self.submodule_update(options),
            ["submodule", "status"] => self.submodule_status(),
            _ => Err(Failure::Fatal(format!(
                "the git built into the agent does not know: git {}",
                words.join(" ")
            ))),
        }
    }

    fn open(&self) -> Result<Repository, Failure> {
        // Never one of the folders above.
        let none: [&str; 0] = [];
        Repository::open_ext(&self.dir, RepositoryOpenFlags::NO_SEARCH, none)
            .map_err(|error| Failure::Fatal(format!("not a git repository: {}", error.message())))
    }

    fn print(&mut self, line: &str) -> Outcome {
        Ok(writeln!(self.out, "{line}")?)
    }

    fn complain(&mut self, line: &str) -> Outcome {
        Ok(writeln!(self.err, "{line}")?)
    }

    // --- configuration

    fn config(&mut self, name: &str, only_last: bool) -> Outcome {
        let config = self.open()?.config()?;
        let mut values = Vec::new();
        let entries = config.multivar(name, None);
        if let Ok(entries) = entries {
            entries.for_each(|entry| values.extend(entry.value().map(ToOwned::to_owned)))?;
        }
        if only_last {
            values = values.pop().into_iter().collect();
        }
        for value in &values {
            self.print(value)?;
        }
        if values.is_empty() {
            return Err(Failure::Code(1));
        }
        Ok(())
    }

    fn submodule_urls(&mut self) -> Outcome {
        let config = ConfigFile::read(&self.dir.join(".git/config"))
            .map_err(|error| Failure::Fatal(error.to_string()))?;
        for (name, url) in config.submodules() {
            self.print(&format!("submodule.{name}.url {url}"))?;
        }
        Ok(())
    }

    fn replace_all(&mut self, name: &str, value: &str) -> Outcome {
        let mut config = self
            .open()?
            .config()?
            .open_level(git2::ConfigLevel::Local)?;
        let _ = config.remove_multivar(name, ".*");
        Ok(config.set_str(name, value)?)
    }

    fn remove_section(&mut self, section: &str) -> Outcome {
        let mut config = self
            .open()?
            .config()?
            .open_level(git2::ConfigLevel::Local)?;
        let mut names = Vec::new();
        let prefix = format!("{section}.");
        config.entries(None)?.for_each(|entry| {
            let name = entry.name().unwrap_or_default();
            let key = name.strip_prefix(&prefix);
            if key.is_some_and(|key| !key.contains('.')) {
                names.push(name.to_owned());
            }
        })?;
        for name in names {
            config.remove_multivar(&name, ".*")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
