//! `journeyman-agent`: the agent (`run`), its job runner (`run-job`), the git of machines without one
//! (`git`), and what an upgrade calls (`take-over`).

use std::{
    ffi::OsString,
    io::{self, Read, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Args, Parser, Subcommand, error::ErrorKind};
use journeyman_agent::{
    job::{built_in_git, channel::RunnerInput, leftovers::RUNNER_SUBCOMMAND, runner, trial},
    state::ReleaseName,
    supervision::{self, AgentOptions, StartError},
    take_over,
};
use journeyman_host::{
    arguments::{self, ConnectionArguments, EXIT_BAD_ARGUMENTS},
    logging::{self, Terminal},
    properties::{CONSOLE_TO_OWN_OUTPUT, Properties},
    workdir::WorkDir,
};
use journeyman_protocol::agent::UNKNOWN_VERSION;

/// Log of the job runners. The agent's own would be rotated under them.
const JOB_LOG: &str = "go-agent-job.log";
/// What launchers call; see [`take_over`].
const TAKE_OVER: &str = "take-over";

#[derive(Parser)]
#[command(name = "journeyman-agent", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Work for a server, in the current folder
    Run(Box<RunArguments>),
    /// Run one job, given on standard input; started by `run`
    #[command(hide = true)]
    RunJob { folder: PathBuf },
    /// Become the current release; called by the launcher in the working directory
    ///
    /// Tests itself, makes its own state out of a copy of that of the release before, and switches
    /// the link `current`. If anything fails, nothing has changed.
    TakeOver {
        /// The release's folder in releases/, which this program must be in
        name: ReleaseName,
    },
    /// A task of the self-test; started by `take-over`
    #[command(name = trial::SUBCOMMAND, hide = true)]
    StandIn,
}

#[derive(Args)]
struct RunArguments {
    #[command(flatten)]
    connection: ConnectionArguments,
    /// Standard input is a pipe or socket held by the parent: end when it closes
    #[arg(long)]
    lifeline: bool,
    /// Version of the bootstrapper, to tell the server
    #[arg(long, value_name = "VERSION", default_value = UNKNOWN_VERSION)]
    bootstrapper_version: String,
    /// Version of the launcher, for the log
    #[arg(long, value_name = "VERSION")]
    launcher_version: Option<String>,
    /// Name of the installed release that this agent is
    #[arg(long, value_name = "NAME")]
    release: Option<ReleaseName>,
}

fn main() -> ExitCode {
    let own: Vec<OsString> = std::env::args_os().skip(1).collect();
    if own
        .first()
        .is_some_and(|word| word == built_in_git::SUBCOMMAND)
    {
        return run_git(&own[1..]);
    }
    // The words of the environment are for the agent only.
    let is_for_others = |word: &OsString| {
        [RUNNER_SUBCOMMAND, trial::SUBCOMMAND, TAKE_OVER].contains(&&*word.to_string_lossy())
    };
    let words = if own.first().is_some_and(is_for_others) {
        own
    } else {
        arguments::of_process()
    };
    match Cli::try_parse_from(std::iter::once("journeyman-agent".into()).chain(words)) {
        Ok(Cli {
            command: Command::Run(arguments),
        }) => run_agent(*arguments),
        Ok(Cli {
            command: Command::RunJob { folder },
        }) => run_job(folder),
        Ok(Cli {
            command: Command::TakeOver { name },
        }) => match take_over::take_over(&name, &mut io::stdout().lock()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error, error.exit_status()),
        },
        Ok(Cli {
            command: Command::StandIn,
        }) => {
            trial::stand_in(&mut io::stdout().lock());
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = error.print();
            match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
                _ => ExitCode::from(EXIT_BAD_ARGUMENTS),
            }
        }
    }
}

fn run_agent(arguments: RunArguments) -> ExitCode {
    let connection = match arguments.connection.validate() {
        Ok(connection) => connection,
        Err(error) => return fail(&error, EXIT_BAD_ARGUMENTS),
    };
    if let Err(error) = WorkDir::current().and_then(|workdir| workdir.prepare()) {
        return fail(&error, 1);
    }
    let terminal = terminal();
    if let Err(error) = start_log(|workdir| workdir.agent_log(), terminal) {
        return fail(&*error, 1);
    }
    let options = AgentOptions {
        connection,
        lifeline: arguments.lifeline,
        bootstrapper_version: arguments.bootstrapper_version,
        launcher_version: arguments.launcher_version,
        release: arguments.release,
    };
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error, 1),
    };
    let result = runtime.block_on(supervision::run(options));
    // What still blocks a thread (processes of a dead job being ended) is the next agent's matter.
    runtime.shutdown_background();
    match result {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            let code = match error {
                StartError::Connection(_) | StartError::Lifeline(_) => EXIT_BAD_ARGUMENTS,
                _ => 1,
            };
            tracing::error!("{error}");
            // The log has just said it there.
            match terminal {
                Terminal::Echo => ExitCode::from(code),
                Terminal::Silent => fail(&error, code),
            }
        }
    }
}

/// GoCD: a container shows the log on its own output as well.
fn terminal() -> Terminal {
    match Properties::of_launcher().is_on(CONSOLE_TO_OWN_OUTPUT) {
        Some(true) => Terminal::Echo,
        _ => Terminal::if_watched(),
    }
}

/// Started by a job runner, with the words that it has for git.
fn run_git(words: &[OsString]) -> ExitCode {
    let _ = nix::sys::prctl::set_name(c"journeyman-git");
    let words: Vec<String> = words
        .iter()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let code = built_in_git::run(&words, &mut io::stdout().lock(), &mut io::stderr().lock());
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

fn run_job(folder: PathBuf) -> ExitCode {
    // A session of its own: no signal of a terminal or of the launcher's group reaches the job.
    // It fails only for a process that leads a group already, which is good enough as well.
    let _ = nix::unistd::setsid();
    let _ = nix::sys::prctl::set_name(c"journeyman-job");
    if let Err(error) = start_log(|workdir| workdir.logs().join(JOB_LOG), Terminal::Silent) {
        return fail(&*error, 1);
    }
    let mut document = Vec::new();
    let input: Result<RunnerInput, io::Error> = io::stdin()
        .lock()
        .read_to_end(&mut document)
        .and_then(|_| serde_json::from_slice(&document).map_err(io::Error::other));
    drop(document);
    match input {
        Ok(input) => runner::run(&folder, input),
        Err(error) => {
            // Most likely the agent died while it was writing: then nobody has this job.
            tracing::warn!(%error, "Got no job on standard input");
            fail(&error, 1)
        }
    }
}

fn start_log(
    file: impl FnOnce(&WorkDir) -> PathBuf,
    terminal: Terminal,
) -> Result<(), Box<dyn std::error::Error>> {
    let workdir = WorkDir::current()?;
    logging::start(&file(&workdir), terminal)?;
    Ok(())
}

fn fail(error: &dyn std::error::Error, code: u8) -> ExitCode {
    let _ = writeln!(io::stderr(), "journeyman-agent: {error}");
    ExitCode::from(code)
}
