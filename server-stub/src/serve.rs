//! `journeyman-server serve`: from flags to a running server and back.

use std::{io, process::ExitCode, sync::Arc};

use clap::ArgMatches;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{
    answer::Chain,
    clock::SystemClock,
    configuration::{
        DEFAULT_HTTP_PORT, DEFAULT_HTTPS_PORT, Effective, Paths, Port, Problem, effective,
    },
    log,
    start::{self, Running, Start, StartError},
    users::{FIRST_ADMIN, Login},
};

/// The exit code for settings that are wrong, as clap's for flags.
const WRONG_SETTINGS: u8 = 2;

/// Why `serve` ended with an error.
#[derive(Debug, thiserror::Error)]
enum ServeError {
    #[error("{0}")]
    Setting(Problem),
    #[error("cannot listen for signals")]
    Signals(#[source] io::Error),
    #[error(transparent)]
    Start(#[from] StartError),
}

/// Runs the server until SIGTERM or Ctrl-C, with settings from flags, environment and file.
pub async fn main(flags: &ArgMatches) -> ExitCode {
    let effective = match effective(flags, |name| std::env::var_os(name)) {
        Ok(effective) => effective,
        Err(problems) => {
            problems
                .iter()
                .for_each(|problem| complain(&problem.to_string()));
            return ExitCode::from(WRONG_SETTINGS);
        }
    };
    log::start(&effective.settings);
    match serve(&effective).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&Chain(&error).to_string());
            ExitCode::FAILURE
        }
    }
}

/// Says on standard error why the program ends.
#[expect(clippy::print_stderr, reason = "the command line's own output")]
pub fn complain(message: &str) {
    eprintln!("journeyman-server: {message}");
}

async fn serve(effective: &Effective) -> Result<(), ServeError> {
    let mut stop = Stop::new().map_err(ServeError::Signals)?;
    let settings = &effective.settings;
    let key = effective.auto_register_key();
    let given = Start {
        configuration: effective.configuration().map_err(ServeError::Setting)?,
        http_port: Port::from_flag(settings.http_port, DEFAULT_HTTP_PORT),
        https_port: Port::from_flag(settings.https_port, DEFAULT_HTTPS_PORT),
        auto_register_key: key
            .map_err(ServeError::Setting)?
            .map(|key| SecretString::from(key.expose_secret().trim())),
        login: login(effective)?,
        paths: Paths::from_settings(settings),
        clock: Arc::new(SystemClock),
    };
    let running = start::start(given).await?;
    announce(&running);
    stop.asked().await;
    tracing::info!("stopping");
    tokio::select! {
        () = running.stop() => {}
        () = stop.asked() => tracing::warn!("asked twice to stop: ending at once"),
    }
    Ok(())
}

fn login(effective: &Effective) -> Result<Login, ServeError> {
    if effective.settings.no_login {
        return Ok(Login::Off);
    }
    Ok(Login::On {
        admin_password: effective.admin_password().map_err(ServeError::Setting)?,
        password_file: effective.settings.password_file.clone(),
    })
}

/// Says where everything is.
#[expect(clippy::print_stdout, reason = "the command line's own output")]
fn announce(running: &Running) {
    let app = &running.app;
    let port = running.http_address().port();
    if port != DEFAULT_HTTP_PORT {
        println!("HTTP port:         {port} (GoCD's default is {DEFAULT_HTTP_PORT})");
    }
    if app.endpoints.https_port != DEFAULT_HTTPS_PORT {
        println!(
            "HTTPS port:        {} (GoCD's default is {DEFAULT_HTTPS_PORT})",
            app.endpoints.https_port
        );
    }
    println!("server URL:        {}", app.endpoints.http_url);
    println!("secure server URL: {}", app.endpoints.https_url);
    println!("CA fingerprint:    {} (SHA-256)", running.ca_fingerprint);
    println!("pages:             {}/agents", app.endpoints.http_url);
    println!(
        "auto-register key: in {}",
        app.paths.auto_register_key().display()
    );
    if let Some(password) = &running.first_password {
        println!("first user:        {FIRST_ADMIN}");
        println!(
            "password:          {} (shown only now; `journeyman-server users password {FIRST_ADMIN}` changes it)",
            password.expose_secret()
        );
    }
    if !app.users.login {
        complain(
            "WARNING: there is no login: every program on this machine may run anything on the agents",
        );
    } else if !app.configuration.listen.is_loopback() {
        complain(&format!(
            "WARNING: listening on {}: passwords sent to the server URL cross the network in the clear; have \
             people use the secure server URL",
            app.configuration.listen
        ));
    }
}

/// The signals that ask the server to stop.
struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn asked(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
