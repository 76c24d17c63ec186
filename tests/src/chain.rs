//! The real chain of one agent: bootstrapper, launcher, agent and job runner.

use std::{
    fs::{self, File},
    io::ErrorKind,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
};

use journeyman_packaging::bootstrapper_file;
use journeyman_protocol::release::Component;

#[cfg(target_arch = "x86_64")]
use crate::faults::{self, Fault, Point, Traced};
use crate::{
    binaries::binary,
    package::Package,
    patience::{wait_for, wait_until},
    processes::{self, Process, Role, kill_nine, terminate},
    releases::Releases,
    scene::Scene,
    server::{KEY, wait_for_end},
};

/// GoCD's timings, by GoCD's names, in milliseconds: short, so that tests need not wait.
const TIMINGS: &str = "-Dagent.ping.delay=100 -Dagent.ping.interval=300 \
    -Dagent.instruction.delay=100 -Dagent.instruction.interval=200 \
    -Dagent.get.work.delay=100 -Dagent.get.work.interval=500";

/// Ours, in milliseconds.
const QUICK_UPGRADES: &str = "-Djourneyman.release.poll=200 -Djourneyman.probation=1000 \
    -Djourneyman.probation.silence=6000";

/// An agent's working directory and what runs in it.
pub struct Chain<'a> {
    scene: &'a Scene,
    folder: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    child: Option<Child>,
}

impl<'a> Chain<'a> {
    /// An agent folder with nothing but the bootstrapper in it. Nothing is started.
    pub fn install(scene: &'a Scene, name: &str, server_url: &str) -> Self {
        Self::install_in(scene, scene.folder(name), server_url)
    }

    /// The same in a folder that exists.
    pub fn install_in(scene: &'a Scene, folder: PathBuf, server_url: &str) -> Self {
        let bootstrapper = folder.join("journeyman-bootstrapper");
        // This is all there is to an installation.
        fs::copy(&Releases::of_this_run().bootstrapper, &bootstrapper)
            .expect("the bootstrapper in its folder");
        Self {
            scene,
            folder,
            arguments: vec!["-serverUrl".to_owned(), server_url.to_owned()],
            environment: vec![("AGENT_STARTUP_ARGS".to_owned(), TIMINGS.to_owned())],
            child: None,
        }
    }

    /// Writes `config/autoregister.properties` with the tests' key and these resources.
    pub fn with_key(self, resources: &str) -> Self {
        self.with_properties(&format!(
            "agent.auto.register.key={KEY}\nagent.auto.register.resources={resources}\n"
        ))
    }

    /// Writes `config/autoregister.properties`.
    pub fn with_properties(self, properties: &str) -> Self {
        let config = self.folder.join("config");
        fs::create_dir_all(&config).expect("config");
        fs::write(config.join("autoregister.properties"), properties).expect("properties");
        self
    }

    /// Lets the bootstrapper carry this launcher instead of this run's.
    pub fn with_launcher(self, launcher: &Package) -> Self {
        let bootstrapper = fs::read(binary("journeyman-bootstrapper")).expect("the bootstrapper");
        let file = bootstrapper_file(&bootstrapper, launcher.program());
        let place = self.folder.join("journeyman-bootstrapper");
        fs::write(&place, file).expect("the bootstrapper in its folder");
        self
    }

    /// Puts the package of this run's agent into the folder, as an operator does for a GoCD server.
    pub fn with_package(self) -> Self {
        self.put_package(Releases::of_this_run());
        self
    }

    /// Puts the package of an agent into the folder, in the place of one that may be there.
    pub fn put_package(&self, releases: &Releases) {
        let package = releases.package(Component::Agent);
        let place = self.folder.join(package.file_name().expect("a name"));
        // Not copied in place: the launcher may be reading it.
        let new = place.with_extension("new");
        fs::copy(package, &new).expect("the agent's package in the folder");
        fs::rename(new, place).expect("the agent's package in its place");
    }

    pub fn with_arguments(mut self, arguments: &[&str]) -> Self {
        self.arguments
            .extend(arguments.iter().map(|argument| (*argument).to_owned()));
        self
    }

    /// Leaves the server's URL to the environment.
    pub fn without_arguments(mut self) -> Self {
        self.arguments.clear();
        self
    }

    pub fn with_environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Asks for releases every moment, and has a short probation.
    pub fn with_quick_upgrades(self) -> Self {
        let properties = format!("{TIMINGS} {QUICK_UPGRADES}");
        self.with_environment("AGENT_STARTUP_ARGS", &properties)
    }

    /// Leaves the agent the timings it has without being told others: for measurements.
    pub fn with_gocds_timings(mut self) -> Self {
        self.environment
            .retain(|(name, _)| name != "AGENT_STARTUP_ARGS");
        self
    }

    /// Starts the bootstrapper.
    pub fn start(&mut self) {
        assert!(self.child.is_none(), "the bootstrapper still runs");
        let bootstrapper = self.folder.join("journeyman-bootstrapper");
        let mut command = self.completed(self.scene.command(&bootstrapper));
        // A test beside this one may just be between fork and exec, with a copy of the handle that
        // wrote the file: it is "busy" as long.
        let child = wait_for("the bootstrapper starts", || match command.spawn() {
            Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => None,
            started => Some(started.expect("the bootstrapper")),
        });
        self.child = Some(child);
    }

    /// Starts the bootstrapper under a tracer, with one fault if there is to be one. It is not known
    /// to this chain: end it with [`Chain::power_off`].
    #[cfg(target_arch = "x86_64")]
    pub fn start_traced(&self, fault: Option<(Point, Fault)>) -> Traced {
        let mut command = faults::stopped(self.scene.command(Path::new("sh")));
        command.arg(self.folder.join("journeyman-bootstrapper"));
        faults::trace(self.completed(command), &self.folder, fault)
    }

    /// Ends every process of this folder as a power cut would.
    pub fn power_off(&mut self) {
        if let Some(mut child) = self.child.take() {
            kill_nine(child.id() as i32);
            child.wait().expect("the end of the bootstrapper");
        }
        wait_until("every process of the folder is gone", || {
            let mut left = self.scene.processes();
            left.retain(|process| {
                let cwd = process.cwd.as_deref();
                cwd.is_some_and(|cwd| cwd.starts_with(&self.folder))
            });
            for process in &left {
                kill_nine(process.pid);
            }
            left.is_empty()
        });
    }

    /// The command with all that follows the program.
    fn completed(&self, mut command: Command) -> Command {
        let output = File::options()
            .create(true)
            .append(true)
            .open(self.output_path())
            .expect("a file for the output");
        command
            .args(&self.arguments)
            .envs(self.environment.iter().cloned())
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("the same file"))
            .stderr(output);
        command
    }

    pub fn started(mut self) -> Self {
        self.start();
        self
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The file with the agent's own state, of the release that runs.
    pub fn state(&self) -> PathBuf {
        let release = fs::read_link(self.folder.join("current")).expect("an installed release");
        let name = release.file_name().expect("a link to its folder");
        self.folder.join("state").join(name).join("state.json")
    }

    /// What the bootstrapper and launcher have printed so far.
    pub fn output(&self) -> String {
        let bytes = fs::read(self.output_path()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The log file of this name, for example `go-agent.log`; empty when there is none.
    pub fn log(&self, name: &str) -> String {
        let bytes = fs::read(self.folder.join("logs").join(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Everything that was said: output and all logs.
    pub fn said(&self) -> String {
        [
            "go-agent-bootstrapper.log",
            "go-agent-launcher.log",
            "go-agent.log",
        ]
        .iter()
        .map(|name| self.log(name))
        .chain([self.output()])
        .collect()
    }

    /// Waits until the output or a log has `text`.
    pub fn wait_until_said(&self, text: &str) {
        wait_until(&format!("the chain says {text:?}"), || {
            self.said().contains(text)
        });
    }

    /// The agent's GUID, as soon as it has one.
    pub fn uuid(&self) -> String {
        wait_for("the agent has a GUID", || {
            let text = fs::read_to_string(self.folder.join("config/guid.txt")).ok()?;
            Some(text.trim().to_owned()).filter(|uuid| uuid.len() == 36)
        })
    }

    /// The living process of this role in this folder.
    pub fn process(&self, role: Role) -> Option<Process> {
        let mut found = self.processes(role);
        found.pop()
    }

    /// All living processes of the scene, this chain's and others'.
    pub fn all_processes(&self) -> Vec<Process> {
        self.scene.processes()
    }

    /// All living processes of this role in this folder.
    pub fn processes(&self, role: Role) -> Vec<Process> {
        let mut found = self.scene.processes();
        found.retain(|process| {
            process.cwd.as_deref() == Some(&self.folder) && process.role() == Some(role)
        });
        found
    }

    /// The pid of this role, waiting for it to start.
    pub fn pid(&self, role: Role) -> i32 {
        wait_for(&format!("{role:?} runs"), || {
            self.process(role).map(|process| process.pid)
        })
    }

    /// Ends this member of the chain as a power cut would, and waits until it is gone. Returns its
    /// pid. The bootstrapper can be started again after it.
    pub fn kill_nine(&mut self, role: Role) -> i32 {
        let pid = self.pid(role);
        kill_nine(pid);
        if role == Role::Bootstrapper
            && let Some(mut child) = self.child.take()
        {
            child.wait().expect("the end of the bootstrapper");
        }
        wait_until(&format!("{role:?} {pid} is gone"), || {
            !processes::alive(pid)
        });
        pid
    }

    /// Asks the bootstrapper to end (as Ctrl-C does) without waiting.
    pub fn ask_to_stop(&self) {
        terminate(self.child.as_ref().expect("the bootstrapper runs").id() as i32);
    }

    /// Waits until the bootstrapper has ended.
    pub fn wait_for_end(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("the bootstrapper runs");
        wait_for_end(&mut child)
    }

    /// Asks the chain to end and waits until it has; panics when it says that it failed.
    pub fn stop(&mut self) {
        if self.child.is_some() {
            self.ask_to_stop();
            let status = self.wait_for_end();
            assert!(status.success(), "the bootstrapper ended with {status}");
        }
    }

    fn output_path(&self) -> PathBuf {
        let name = self.folder.file_name().expect("a name").to_string_lossy();
        self.scene.path().join(format!("{name}.output.log"))
    }
}

impl Drop for Chain<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            // The scene ends what is left.
            if let Some(mut child) = self.child.take() {
                let _ = child.kill();
                let _ = child.wait();
            }
        } else {
            self.stop();
        }
    }
}
