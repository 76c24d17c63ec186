//! What a job leaves behind when its runner dies: processes that nobody watches any more.

use std::{fs, path::Path, time::Duration};

use journeyman_protocol::job::JobIdentifier;

use super::containment::{Process, Table, end_politely};

/// The argument that tells a job runner's process from others.
pub const RUNNER_SUBCOMMAND: &str = "run-job";

/// Which processes are left of a job.
///
/// Those whose environment names this run of the job and that no living runner watches, with all
/// below them. (The same run may be under a living runner: of another agent on this machine, when
/// the server gave the job away.) Also every child of `adopter` that is not in `known`: an agent
/// is a child subreaper, so what a dead runner leaves becomes the agent's.
#[derive(Debug, Clone)]
pub struct Leftovers<'a> {
    pub job: &'a JobIdentifier,
    /// The URL that the job saw as `GO_SERVER_URL`.
    pub server_url: &'a str,
    /// Process id of the agent itself.
    pub adopter: i32,
    /// Its children that are no leftovers.
    pub known: &'a [i32],
}

impl Leftovers<'_> {
    /// Asks what is left to end, and ends after `grace` what has not. Blocks until then, so not to
    /// be called on an async thread. Returns the number of processes that could not be ended.
    pub fn end(&self, grace: Duration) -> usize {
        end_politely(grace, || self.find(&Table::read())).len()
    }

    /// Whether anything is left.
    pub fn any(&self) -> bool {
        !self.find(&Table::read()).is_empty()
    }

    fn find(&self, table: &Table) -> Vec<Process> {
        let own = i32::try_from(std::process::id()).unwrap_or(self.adopter);
        let mut found: Vec<Process> = Vec::new();
        let orphans = table
            .children(self.adopter)
            .into_iter()
            .filter(|child| !self.known.contains(&child.pid) && !is_runner(child.pid));
        let named = table
            .all()
            .filter(|process| self.is_of_job(process.pid))
            .filter(|process| {
                !is_runner(process.pid) && !table.ancestors(process.pid).into_iter().any(is_runner)
            });
        for root in orphans.chain(named) {
            for process in std::iter::once(root).chain(table.descendants(root.pid)) {
                if process.pid != own && process.pid != self.adopter && !found.contains(&process) {
                    found.push(process);
                }
            }
        }
        found
    }

    fn is_of_job(&self, pid: i32) -> bool {
        // The environment of another user's process cannot be read: it is not ours.
        let Ok(environment) = fs::read(format!("/proc/{pid}/environ")) else {
            return false;
        };
        let counter = self.job.pipeline_counter.to_string();
        [
            ("GO_SERVER_URL", self.server_url.trim_end_matches('/')),
            ("GO_PIPELINE_NAME", &self.job.pipeline_name),
            ("GO_PIPELINE_COUNTER", &counter),
            ("GO_STAGE_NAME", &self.job.stage_name),
            ("GO_STAGE_COUNTER", &self.job.stage_counter),
            ("GO_JOB_NAME", &self.job.build_name),
        ]
        .iter()
        .all(|(name, value)| {
            let entry = format!("{name}={value}");
            environment
                .split(|b| *b == 0)
                .any(|variable| variable == entry.as_bytes())
        })
    }
}

/// Ends what dead jobs have left in `pipelines`, the folder of their working directories, when
/// nothing says which jobs they were: the processes that work there, have a job's variables and no
/// living runner above them, with all below them. Blocks like [`Leftovers::end`], and returns the
/// same.
pub fn end_strays(pipelines: &Path, grace: Duration) -> usize {
    // As the kernel names it.
    let pipelines = pipelines
        .canonicalize()
        .unwrap_or_else(|_| pipelines.to_owned());
    end_politely(grace, || strays(&pipelines, &Table::read())).len()
}

fn strays(pipelines: &Path, table: &Table) -> Vec<Process> {
    let mut found: Vec<Process> = Vec::new();
    let roots = table.all().filter(|process| {
        works_in(process.pid, pipelines)
            && has_variable(process.pid, "GO_JOB_NAME")
            && !table.ancestors(process.pid).into_iter().any(is_runner)
    });
    for root in roots {
        for process in std::iter::once(root).chain(table.descendants(root.pid)) {
            if !found.contains(&process) {
                found.push(process);
            }
        }
    }
    found
}

fn works_in(pid: i32, folder: &Path) -> bool {
    fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(folder))
}

fn has_variable(pid: i32, name: &str) -> bool {
    let start = format!("{name}=");
    fs::read(format!("/proc/{pid}/environ")).is_ok_and(|environment| {
        environment
            .split(|b| *b == 0)
            .any(|variable| variable.starts_with(start.as_bytes()))
    })
}

/// Whether this process is a job runner.
fn is_runner(pid: i32) -> bool {
    fs::read(format!("/proc/{pid}/cmdline"))
        .is_ok_and(|line| line.split(|b| *b == 0).nth(1) == Some(RUNNER_SUBCOMMAND.as_bytes()))
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::process::CommandExt,
        process::{Child, Command},
    };

    use super::*;

    fn job() -> JobIdentifier {
        JobIdentifier {
            pipeline_name: format!("leftovers-{}", std::process::id()),
            pipeline_counter: 3,
            stage_name: "s".into(),
            stage_counter: "1".into(),
            build_name: "b".into(),
            ..JobIdentifier::default()
        }
    }

    fn start(job: &JobIdentifier, name: &str) -> Child {
        Command::new("sleep")
            .arg("1000")
            .arg0(name)
            .env("GO_SERVER_URL", "http://h/go")
            .env("GO_PIPELINE_NAME", &job.pipeline_name)
            .env("GO_PIPELINE_COUNTER", "3")
            .env("GO_STAGE_NAME", "s")
            .env("GO_STAGE_COUNTER", "1")
            .env("GO_JOB_NAME", "b")
            .spawn()
            .unwrap()
    }

    #[test]
    fn strays_are_what_works_there_for_a_job() {
        let folder = tempfile::tempdir().unwrap();
        let pipelines = folder.path().canonicalize().unwrap();
        let sleep = |job: bool| {
            let mut command = Command::new("sleep");
            command.arg("1000").current_dir(&pipelines);
            if job {
                command.env("GO_JOB_NAME", "b");
            } else {
                command.env_remove("GO_JOB_NAME");
            }
            command.spawn().unwrap()
        };
        let (mut of_a_job, mut of_a_person) = (sleep(true), sleep(false));
        assert_eq!(end_strays(&pipelines, Duration::from_secs(5)), 0);
        of_a_job.wait().unwrap();
        assert!(of_a_person.try_wait().unwrap().is_none());
        of_a_person.kill().unwrap();
        of_a_person.wait().unwrap();
    }

    #[test]
    fn ends_what_names_the_job_and_nothing_else() {
        let job = job();
        let mut left = start(&job, "sleep");
        let other = JobIdentifier {
            build_name: "c".into(),
            ..job.clone()
        };
        let leftovers = |job| Leftovers {
            job,
            server_url: "http://h/go/",
            // Nobody's children: those of a process that cannot exist.
            adopter: i32::MAX,
            known: &[],
        };
        assert!(leftovers(&job).any());
        assert!(!leftovers(&other).any());
        assert_eq!(leftovers(&job).end(Duration::from_secs(5)), 0);
        assert!(!leftovers(&job).any());
        left.wait().unwrap();
    }
}
