//! `journeyman-server serve`: from flags to a running server and back.

use std::{fs, io, path::PathBuf, process::ExitCode, sync::Arc};

use secrecy::{ExposeSecret as _, SecretString};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{
    answer::Chain,
    clock::SystemClock,
    configuration::{
        Configuration, DEFAULT_HTTP_PORT, DEFAULT_HTTPS_PORT, Paths, Port, ServeArguments,
    },
    log,
    start::{self, Running, Start, StartError},
    users::{FIRST_ADMIN, Login},
};

/// Why `serve` ended with an error.
#[derive(Debug, thiserror::Error)]
enum ServeError {
    #[error("cannot read the auto-register key from {}", path.display())]
    KeyFile {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the auto-register key is empty: give one, or leave it out to keep the stored one")]
    EmptyKey,
    #[error("cannot read the first admin's password from {}", path.display())]
    AdminPasswordFile {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot listen for signals")]
    Signals(#[source] io::Error),
    #[error(transparent)]
    Start(#[from] StartError),
}

/// Runs the server until SIGTERM or Ctrl-C.
pub async fn main(arguments: ServeArguments) -> ExitCode {
    log::start();
    match serve(arguments).await {
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

async fn serve(arguments: ServeArguments) -> Result<(), ServeError> {
    let mut stop = Stop::new().map_err(ServeError::Signals)?;
    let given = Start {
        configuration: Configuration::from_arguments(&arguments),
        http_port: Port::from_flag(arguments.http_port, DEFAULT_HTTP_PORT),
        https_port: Port::from_flag(arguments.https_port, DEFAULT_HTTPS_PORT),
        auto_register_key: auto_register_key(&arguments)?,
        login: login(&arguments)?,
        paths: Paths::new(arguments.data, arguments.releases),
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

fn auto_register_key(arguments: &ServeArguments) -> Result<Option<SecretString>, ServeError> {
    let key = match (
        &arguments.auto_register_key,
        &arguments.auto_register_key_file,
    ) {
        (Some(key), _) => Some(key.expose_secret().trim().to_owned()),
        (None, Some(path)) => {
            let text = fs::read_to_string(path).map_err(|source| ServeError::KeyFile {
                path: path.clone(),
                source,
            })?;
            Some(text.trim().to_owned())
        }
        (None, None) => None,
    };
    match key {
        Some(key) if key.is_empty() => Err(ServeError::EmptyKey),
        key => Ok(key.map(SecretString::from)),
    }
}

fn login(arguments: &ServeArguments) -> Result<Login, ServeError> {
    if arguments.no_login {
        return Ok(Login::Off);
    }
    let admin_password = match &arguments.admin_password_file {
        Some(path) => {
            let text =
                fs::read_to_string(path).map_err(|source| ServeError::AdminPasswordFile {
                    path: path.clone(),
                    source,
                })?;
            Some(text)
        }
        None => std::env::var("JOURNEYMAN_ADMIN_PASSWORD").ok(),
    };
    Ok(Login::On {
        admin_password: admin_password
            .map(|text| SecretString::from(text.trim_end_matches(['\r', '\n']))),
        password_file: arguments.password_file.clone(),
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
