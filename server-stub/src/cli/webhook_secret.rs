//! `journeyman-server webhook-secret`: what hosts of git repositories prove themselves with.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgMatches, Args};

use super::{ERROR, output};
use crate::answer::Chain;
use crate::configuration::{Effective, Paths, Problem, Settings, effective};
use crate::webhooks::{SecretError, WebhookSecret};

/// The settings that `serve` is started with: one of them may hold the secret.
#[derive(Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    settings: Settings,
}

/// Why the secret was not shown.
#[derive(Debug, thiserror::Error)]
enum ShowError {
    #[error("{0}")]
    Setting(Problem),
    #[error(
        "there is no data folder {}: start the server once, or name its folder with --data",
        path.display()
    )]
    NoFolder { path: PathBuf },
    #[error(transparent)]
    Secret(#[from] SecretError),
}

/// Prints the secret that is in force for a server with these flags, this environment and its file.
pub(super) fn run(flags: &ArgMatches) -> ExitCode {
    let secret = effective(flags, |name| std::env::var_os(name));
    let secret = secret.map_err(|problems| {
        let errors = problems.into_iter().map(ShowError::Setting);
        errors.collect::<Vec<_>>()
    });
    let secret = secret.and_then(|effective| secret_of(&effective).map_err(|error| vec![error]));
    match secret {
        Ok(secret) => {
            output::say(secret.text());
            ExitCode::SUCCESS
        }
        Err(errors) => {
            for error in &errors {
                let text = Chain(error).to_string();
                output::complain(&format!("journeyman-server: {}", output::clean(&text)));
            }
            ExitCode::from(ERROR)
        }
    }
}

fn secret_of(effective: &Effective) -> Result<WebhookSecret, ShowError> {
    let configuration = effective.configuration().map_err(ShowError::Setting)?;
    if let Some(given) = configuration.webhook_secret {
        return Ok(WebhookSecret::given(given));
    }
    let paths = Paths::from_settings(&effective.settings);
    if !paths.data.is_dir() {
        return Err(ShowError::NoFolder { path: paths.data });
    }
    Ok(WebhookSecret::open(&paths.webhook_secret())?)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use clap::Command;
    use pretty_assertions::assert_eq;

    use super::*;
    use crate::configuration::without_environment;

    #[test]
    fn the_secret_that_is_shown_is_the_one_in_force() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().to_str().unwrap();
        let shown = |flags: &[&str], variable: Option<&str>| {
            let command = Settings::augment_args(Command::new("x").no_binary_name(true));
            let flags = [&["--data", data], flags].concat();
            let flags = without_environment(command).try_get_matches_from(flags);
            let effective = effective(&flags.unwrap(), |name| {
                let is_it = name == "JOURNEYMAN_WEBHOOK_SECRET";
                variable.filter(|_| is_it).map(OsString::from)
            });
            secret_of(&effective.unwrap()).unwrap().text().to_owned()
        };
        let of_file = shown(&[], None);
        assert_eq!(of_file, shown(&[], None));
        assert!(of_file.len() >= 32, "{of_file}");
        let variable = Some("of the environment");
        assert_eq!(shown(&[], variable), "of the environment");
        assert_eq!(
            shown(&["--webhook-secret", "of a flag"], variable),
            "of a flag"
        );
        std::fs::write(
            folder.path().join("server.toml"),
            "webhook-secret = \"of the settings\"\n",
        )
        .unwrap();
        assert_eq!(shown(&[], None), "of the settings");
    }
}
