//! `journeyman-server check`: what the server would say of configuration files, before they are
//! committed. It asks no server.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::{ERROR, output};
use crate::pipelines::reader::template::Others;
use crate::pipelines::reader::{self, Home, Problem, Reading, Source, links};
use crate::pipelines::yaml::MAX_FILE_BYTES;

#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// Files, and folders that are searched for *.gocd.yaml, *.gocd.yml and *.gocd-templates.yaml. All
    /// of them together are checked as one repository.
    #[arg(required = true, value_name = "FILE")]
    paths: Vec<PathBuf>,

    /// Answer with JSON, for programs.
    #[arg(long)]
    json: bool,
}

/// A file or folder that was named could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {}: {source}", path.display())]
struct ReadError {
    path: PathBuf,
    source: io::Error,
}

/// Checks files; 0 when they are good, 1 when they are not, 2 when they could not be read.
pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let (files, unreadable) = match gather(&arguments.paths) {
        Ok(gathered) => gathered,
        Err(error) => {
            output::complain(&format!("journeyman-server: {error}"));
            return ExitCode::from(ERROR);
        }
    };
    if files.is_empty() && unreadable.is_empty() {
        output::complain("journeyman-server: there is no *.gocd.yaml or *.gocd.yml file there");
        return ExitCode::from(ERROR);
    }
    let (problems, warnings) = check(&files, unreadable);
    if arguments.json {
        let list = |problems: &[Problem]| -> Vec<_> { problems.iter().map(document).collect() };
        output::json(&json!({ "errors": list(&problems), "warnings": list(&warnings) }));
    } else {
        for warning in &warnings {
            output::complain(&line(warning, "warning: "));
        }
        for problem in &problems {
            output::say(&line(problem, ""));
        }
    }
    if problems.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// What is wrong with files, and what of them has no effect.
fn check(files: &[Source], mut problems: Vec<Problem>) -> (Vec<Problem>, Vec<Problem>) {
    // Stands for the repository that nobody has named: `type: configrepo` is right in any.
    let home = Home {
        url: ".".to_owned(),
        branch: "HEAD".to_owned(),
        cipher: None,
        templates: Others::Unknown,
    };
    let Reading {
        configuration,
        problems: found,
        warnings,
        links,
    } = reader::read(files, &home);
    problems.extend(found);
    // Of half a configuration nobody can tell what is missing in it.
    if let Some(configuration) = configuration.filter(|_| problems.is_empty()) {
        problems = links::check(&links, &configuration.pipelines, None);
    }
    problems.sort_by(|a, b| (&a.file, a.at).cmp(&(&b.file, b.at)));
    (problems, warnings)
}

fn line(problem: &Problem, kind: &str) -> String {
    let Problem {
        file,
        at,
        path,
        message,
    } = problem;
    let path = match path.as_str() {
        "" => String::new(),
        path => format!("{path}: "),
    };
    output::clean(&format!("{file}:{}: {kind}{path}{message}", at.line))
}

fn document(problem: &Problem) -> serde_json::Value {
    json!({
        "file": problem.file,
        "line": problem.at.line,
        "column": problem.at.column,
        "path": problem.path,
        "message": problem.message,
    })
}

/// Reads the files that were named, and those in folders that were; each once. What is no text is
/// a problem of that file.
fn gather(paths: &[PathBuf]) -> Result<(Vec<Source>, Vec<Problem>), ReadError> {
    let mut files = BTreeSet::new();
    for path in paths {
        if path.is_dir() {
            search(path, &mut files)?;
        } else {
            files.insert(path.clone());
        }
    }
    let (mut sources, mut problems) = (Vec::new(), Vec::new());
    for path in files {
        let content = read(&path).map_err(|source| ReadError {
            path: path.clone(),
            source,
        })?;
        match Source::new(path.to_string_lossy().into_owned(), content) {
            Ok(source) => sources.push(source),
            Err(problem) => problems.push(problem),
        }
    }
    Ok((sources, problems))
}

/// Reads a little more than is allowed at most, so that whoever looks at it can tell.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    let limit = u64::try_from(MAX_FILE_BYTES).unwrap_or(u64::MAX);
    let file = File::open(path)?;
    file.take(limit.saturating_add(1))
        .read_to_end(&mut content)?;
    Ok(content)
}

/// Adds the configuration files in a folder and all below it. Links to folders are not followed:
/// git has no files there.
fn search(folder: &Path, files: &mut BTreeSet<PathBuf>) -> Result<(), ReadError> {
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let failed = |source| ReadError {
            path: folder.clone(),
            source,
        };
        for entry in folder.read_dir().map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let kind = entry.file_type().map_err(failed)?;
            let name = entry.file_name();
            if kind.is_dir() && name != OsStr::new(".git") {
                folders.push(entry.path());
            } else if kind.is_file() && reader::is_configuration_file(&name.to_string_lossy()) {
                files.insert(entry.path());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "format_version: 10
pipelines:
  app:
    group: core
    materials: { up: { pipeline: elsewhere, stage: build } }
    stages: [ { build: { tasks: [ { script: make } ] } } ]
";

    fn checked(files: &[(&str, &[u8])]) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        let (sources, unreadable) = gather(&[folder.path().to_path_buf()]).unwrap();
        let (problems, _) = check(&sources, unreadable);
        let prefix = format!("{}/", folder.path().display());
        let lines = problems.iter().map(|problem| line(problem, ""));
        lines.map(|line| line.replace(&prefix, "")).collect()
    }

    #[test]
    fn pipelines_of_other_repositories_are_taken_to_be_there() {
        assert_eq!(checked(&[("ci/a.gocd.yaml", GOOD.as_bytes())]), [""; 0]);
    }

    #[test]
    fn problems_are_a_line_each_in_all_files() {
        let wrong = GOOD.replace("group: core", "grup: core");
        let circle = GOOD
            .replace("app:", "elsewhere:")
            .replace("pipeline: elsewhere", "pipeline: APP");
        assert_eq!(
            checked(&[
                ("a.gocd.yaml", GOOD.as_bytes()),
                ("b.gocd.yml", b"format_version: 10\ncommon: \xff\n"),
                ("c/.git/x.gocd.yaml", b"nonsense"),
                ("c/x.yaml", b"nonsense"),
                ("d.gocd.yaml", wrong.replace("app:", "other:").as_bytes()),
            ]),
            [
                "b.gocd.yml:2: this is no UTF-8 text",
                "d.gocd.yaml:4: pipelines.other: `group` is missing",
            ]
        );
        assert_eq!(
            checked(&[
                ("a.gocd.yaml", GOOD.as_bytes()),
                ("b.gocd.yaml", circle.as_bytes())
            ]),
            [
                "a.gocd.yaml:5: pipelines.app.materials.up.pipeline: the pipelines wait for each other \
              in a circle: app -> elsewhere -> app"
            ]
        );
        let escape = GOOD.replace("group: core", "group: \"a\\eb\"");
        let problems = checked(&[("a.gocd.yaml", escape.as_bytes())]);
        assert!(
            problems[0].contains("group: `a b` is no name"),
            "{problems:?}"
        );
        let long = vec![b'#'; MAX_FILE_BYTES + 100];
        let problems = checked(&[("a.gocd.yaml", &long)]);
        assert!(
            problems[0].starts_with("a.gocd.yaml:1: the file has more than"),
            "{problems:?}"
        );
    }
}
