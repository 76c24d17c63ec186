//! Whether this release can run on this machine: each of its parts is started for real.

use std::{
    fmt::Display,
    fs, io,
    path::Path,
    process::{Command, Stdio},
};

use journeyman_host::{durable, trust::certificates_in, workdir::WorkDir};
use reqwest::{Certificate, Client, Identity};

use crate::job::{built_in_git, trial};

/// Starts all parts. Changes nothing.
///
/// # Errors
/// A line for each that does not work.
pub(super) fn run(workdir: &WorkDir, program: &Path) -> Result<(), Vec<String>> {
    let mut failures = Vec::new();
    let mut note = |result: Result<(), String>| failures.extend(result.err());
    note(logs(workdir));
    note(git(program));
    match tls(workdir) {
        Ok(client) => note(job(workdir, program, client)),
        Err(error) => note(Err(error)),
    }
    if failures.is_empty() {
        Ok(())
    } else {
        Err(failures)
    }
}

fn logs(workdir: &WorkDir) -> Result<(), String> {
    let folder = workdir.logs();
    // Without a name: nothing is left of it if this is killed.
    tempfile::tempfile_in(&folder)
        .map(drop)
        .map_err(|error| format!("it cannot write logs to {}: {error}", folder.display()))
}

fn git(program: &Path) -> Result<(), String> {
    let ended = Command::new(program)
        .args([built_in_git::SUBCOMMAND, "version"])
        .stdin(Stdio::null())
        .output();
    match ended {
        Ok(ended) if ended.status.success() => Ok(()),
        Ok(ended) => Err(format!(
            "its built-in git does not work: {}, {}",
            ended.status,
            String::from_utf8_lossy(&ended.stderr).trim()
        )),
        Err(error) => Err(format!("its built-in git cannot be started: {error}")),
    }
}

/// A client with this machine's certificates: those of the secure connection where there is one,
/// else the system's.
fn tls(workdir: &WorkDir) -> Result<Client, String> {
    let mut builder = Client::builder();
    let trust = workdir.trust_store();
    if trust.exists() {
        let mut roots = Vec::new();
        for root in certificates_in(&trust).map_err(|error| unusable(&trust, &error))? {
            let der = root.to_der().map_err(|error| unusable(&trust, &error))?;
            roots.push(Certificate::from_der(&der).map_err(|error| unusable(&trust, &error))?);
        }
        builder = builder.tls_certs_only(roots);
    }
    let (certificate, key) = (workdir.agent_certificate(), workdir.agent_key());
    if let (Some(chain), Some(pem)) = (kept(&certificate)?, kept(&key)?) {
        let identity = Identity::from_pkcs8_pem(&chain, &pem)
            .map_err(|error| unusable(&certificate, &error))?;
        builder = builder.identity(identity);
    }
    builder
        .build()
        .map_err(|error| format!("it cannot make a TLS client: {error}"))
}

fn kept(path: &Path) -> Result<Option<Vec<u8>>, String> {
    durable::read_tolerant(path).map_err(|error| error.to_string())
}

fn unusable(path: &Path, error: &dyn Display) -> String {
    format!("it cannot use the certificate {}: {error}", path.display())
}

fn job(workdir: &WorkDir, program: &Path, client: Client) -> Result<(), String> {
    let tried = || -> io::Result<Result<(), trial::TrialError>> {
        let folder = tempfile::Builder::new()
            .prefix("self-test-")
            .tempdir_in(workdir.data())?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let result = runtime.block_on(trial::run(folder.path(), program, client));
        // A task that could not be ended blocks a thread.
        runtime.shutdown_background();
        Ok(result)
    };
    match tried() {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(error) => Err(format!("it cannot try a job: {error}")),
    }
}

/// Removes what a self-test that was killed has left in `data/`.
pub(super) fn remove_leftovers(workdir: &WorkDir) {
    for entry in fs::read_dir(workdir.data()).into_iter().flatten().flatten() {
        if entry
            .file_name()
            .to_string_lossy()
            .starts_with("self-test-")
        {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
