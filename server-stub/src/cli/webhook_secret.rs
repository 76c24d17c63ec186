//! `journeyman-server webhook-secret`: what hosts of git repositories prove themselves with.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::{ERROR, output};
use crate::answer::Chain;
use crate::configuration::Paths;
use crate::webhooks::{SecretError, WebhookSecret};

#[derive(Args, Debug)]
pub struct Arguments {
    /// The data folder of the server.
    #[arg(
        long,
        env = "JOURNEYMAN_DATA",
        default_value = "journeyman-server",
        value_name = "DIR"
    )]
    data: PathBuf,
}

/// Why the secret was not shown.
#[derive(Debug, thiserror::Error)]
enum ShowError {
    #[error(
        "there is no data folder {}: start the server once, or name its folder with --data",
        path.display()
    )]
    NoFolder { path: PathBuf },
    #[error(transparent)]
    Secret(#[from] SecretError),
}

/// Prints the secret.
pub(super) fn run(arguments: &Arguments) -> ExitCode {
    match secret(arguments) {
        Ok(secret) => {
            output::say(secret.text());
            ExitCode::SUCCESS
        }
        Err(error) => {
            output::complain(&format!("journeyman-server: {}", Chain(&error)));
            ExitCode::from(ERROR)
        }
    }
}

fn secret(arguments: &Arguments) -> Result<WebhookSecret, ShowError> {
    if !arguments.data.is_dir() {
        return Err(ShowError::NoFolder {
            path: arguments.data.clone(),
        });
    }
    let paths = Paths::new(arguments.data.clone(), None);
    Ok(WebhookSecret::open(&paths.webhook_secret())?)
}
