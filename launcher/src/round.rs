//! One run, from the lock to the end.

use std::{env, io, path::PathBuf, time::Duration};

use journeyman_host::{
    arguments::ConnectionSettings,
    autoregister::ImageVariables,
    lock::{Lock, LockError},
    logging::{self, Terminal},
    workdir::WorkDir,
};
use thiserror::Error;
use tracing::{error, info};

use crate::{
    RunArguments, VERSION, agent, exit_code, java_agent, machine::Machine, stop::Stops, watch,
};

/// A launcher whose bootstrapper was killed ends at once; a job's end is not waited for here.
const DYING_PREDECESSOR: Duration = Duration::from_secs(10);

/// Runs the launcher and returns its exit code, see [`exit_code`]. Errors are told to the
/// operator here.
pub fn run(arguments: &RunArguments) -> u8 {
    let settings = match arguments.connection.validate() {
        Ok(settings) => settings,
        Err(error) => return hopeless(&error, exit_code::USAGE),
    };
    match prepare() {
        Ok((workdir, lock)) => {
            info!(
                version = VERSION,
                server = settings.base_url(),
                "launcher starts"
            );
            let code = match in_runtime(&workdir, &lock, &settings, arguments) {
                Ok(code) => code,
                Err(error) => {
                    error!(%error, "cannot run the launcher");
                    exit_code::FAILED
                }
            };
            java_agent::make_old(&lock);
            code
        }
        Err(error @ (PrepareError::Locked(_) | PrepareError::JavaAgent { .. })) => {
            hopeless(&error, exit_code::LOCKED)
        }
        // A full disk or a folder that cannot be written: any launcher would say so.
        Err(error) => hopeless(&error, exit_code::AGAIN),
    }
}

/// Says on standard error why the launcher cannot run.
#[expect(
    clippy::print_stderr,
    reason = "the log may not be there yet, and an operator waits"
)]
fn hopeless(error: &dyn std::fmt::Display, code: u8) -> u8 {
    eprintln!("journeyman-launcher: {error}");
    error!(%error, "the launcher cannot run");
    code
}

#[derive(Debug, Error)]
enum PrepareError {
    #[error(transparent)]
    Folder(#[from] journeyman_host::workdir::WorkDirError),
    #[error(transparent)]
    File(#[from] journeyman_host::durable::FileError),
    #[error(transparent)]
    Locked(LockError),
    #[error(
        "a Java agent runs in {} (process {process}): stop it first, two agents of one GUID take \
         their jobs from each other",
        folder.display()
    )]
    JavaAgent { folder: PathBuf, process: i32 },
    #[error(transparent)]
    Lock(LockError),
    #[error(transparent)]
    AutoRegister(#[from] journeyman_host::autoregister::AutoRegisterError),
}

fn prepare() -> Result<(WorkDir, Lock), PrepareError> {
    let workdir = WorkDir::current()?;
    workdir.prepare()?;
    let lock = Lock::acquire(&workdir.launcher_lock(), DYING_PREDECESSOR).map_err(|error| {
        if matches!(error, LockError::Held { .. }) {
            PrepareError::Locked(error)
        } else {
            PrepareError::Lock(error)
        }
    })?;
    if let Some(process) = java_agent::in_folder(workdir.root(), DYING_PREDECESSOR) {
        let folder = workdir.root().to_owned();
        return Err(PrepareError::JavaAgent { folder, process });
    }
    // There are few lines, and whoever started the bootstrapper waits for them.
    logging::start(&workdir.launcher_log(), Terminal::Echo)?;
    agent::end_stuck(&workdir, DYING_PREDECESSOR);
    ImageVariables::from_environment(|name| env::var_os(name)).append_to_file(&workdir)?;
    Ok((workdir, lock))
}

/// One thread: there is never more than one thing to do.
fn in_runtime(
    workdir: &WorkDir,
    lock: &Lock,
    settings: &ConnectionSettings,
    arguments: &RunArguments,
) -> io::Result<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut stops = Stops::take(arguments.lifeline)?;
        let machine = Machine::new(workdir, settings, &arguments.bootstrapper_version);
        tokio::select! {
            code = watch::run(&machine, &mut stops) => Ok(code),
            () = java_agent::keep_young(lock) => Ok(exit_code::FAILED),
        }
    })
}
