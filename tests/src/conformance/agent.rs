//! The real agent, as a process, in the sandbox of a case.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom},
    os::unix::process::CommandExt,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use super::{case::Job, sandbox::Sandbox};
use crate::{
    binaries::binary,
    processes::{kill_nine, terminate, with_environment},
};

/// The GUID the agents have.
pub(super) const UUID: &str = "2f6a8e0c-93d1-4b7e-8a55-c1b0f4e7d962";
/// The token they have: as long as GoCD's.
const TOKEN: &str = "b1pYV2x2cU5mZ0hKa0xNbk9wUXJTdFV2V3hZejAxMjM=";
/// How long an agent without a job may take to end.
const GRACE: Duration = Duration::from_secs(10);

/// A running agent. Its processes end with the value.
pub(super) struct Agent<'a> {
    sandbox: &'a Sandbox,
    home: Option<String>,
    child: Child,
    output: File,
}

impl<'a> Agent<'a> {
    /// Gives the sandbox an identity and starts the agent in it, with exactly the environment
    /// that the job names.
    ///
    /// # Errors
    /// A file that cannot be written, or the agent cannot be started.
    pub(super) fn start(sandbox: &'a Sandbox, job: &Job, server_url: &str) -> io::Result<Self> {
        let config = sandbox.agent().join("config");
        fs::create_dir_all(&config)?;
        fs::write(config.join("guid.txt"), UUID)?;
        fs::write(config.join("token"), TOKEN)?;
        let output = tempfile::tempfile()?;
        let child = Command::new(binary("journeyman-agent"))
            .args(["run", "--server-url", server_url])
            .current_dir(sandbox.agent())
            .env_clear()
            .envs(&job.agent_environment)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output.try_clone()?)
            // Ctrl-C is for the runner alone, which then ends the agents.
            .process_group(0)
            .spawn()?;
        Ok(Self {
            sandbox,
            home: job.agent_environment.get("HOME").cloned(),
            child,
            output,
        })
    }

    /// Says that the agent has ended.
    ///
    /// # Errors
    /// When it has.
    pub(super) fn still_runs(&mut self) -> Result<(), String> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(format!("the agent ended with {status}")),
            Err(error) => Err(format!("look after the agent: {error}")),
        }
    }

    /// What the agent printed, and the end of its log.
    pub(super) fn said(&mut self) -> String {
        let mut text = String::new();
        let _ = self.output.seek(SeekFrom::Start(0));
        let _ = self.output.read_to_string(&mut text);
        for name in ["go-agent.log", "go-agent-job.log"] {
            let log = self.sandbox.agent().join("logs").join(name);
            let log = fs::read_to_string(log).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            for line in &lines[lines.len().saturating_sub(20)..] {
                text += &format!("{name}: {line}\n");
            }
        }
        text
    }

    /// Ends the agent and everything that it left.
    fn end(&mut self) {
        terminate(self.child.id() as i32);
        let begun = Instant::now();
        while begun.elapsed() < GRACE && matches!(self.child.try_wait(), Ok(None)) {
            thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        // The sandbox is in the value, so that nobody else has it.
        let Some(home) = &self.home else { return };
        if home.starts_with(&*self.sandbox.path().to_string_lossy()) {
            for process in with_environment("HOME", home) {
                kill_nine(process.pid);
            }
        }
    }
}

impl Drop for Agent<'_> {
    fn drop(&mut self) {
        self.end();
    }
}
