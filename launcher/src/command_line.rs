//! The command line: what the bootstrapper puts first, then what the operator wrote.

use clap::{Args, Parser, Subcommand};
use journeyman_host::arguments::ConnectionArguments;

/// What is read from the environment, for `--help`.
const ENVIRONMENT: &str = "\
Environment (GoCD's names):
  GO_SERVER_URL, GO_EA_SERVER_URL  The server's URL, if it is not an argument
  AGENT_BOOTSTRAPPER_ARGS          More arguments, with a shell's quotes
  AGENT_STARTUP_ARGS               Settings as -Dname=value, such as -Dagent.ping.interval=5000;
                                   GOCD_AGENT_JVM_OPTS has more of them
  AGENT_BOOTSTRAPPER_JVM_ARGS      The same for the launcher, such as -Dgo.console.stdout=true
  AGENT_AUTO_REGISTER_KEY, _RESOURCES, _ENVIRONMENTS, _HOSTNAME
                                   Go into config/autoregister.properties; jobs do not see them
  GO_EA_AUTO_REGISTER_KEY, _ENVIRONMENT, _ELASTIC_AGENT_ID, _ELASTIC_PLUGIN_ID
                                   The same for an elastic agent, when GO_EA_SERVER_URL is set
  JOURNEYMAN_LOG                   Level of the logs, for example debug";

/// Keeps a build agent up to date and running in the current folder.
#[derive(Debug, Parser)]
#[command(
    name = "journeyman-bootstrapper",
    bin_name = "journeyman-bootstrapper",
    version,
    disable_help_subcommand = true
)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What a launcher can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Install an agent from the server in the current folder, keep it up to date and run it.
    // The word `run` comes from the bootstrapper: an operator never writes it.
    #[command(
        version,
        override_usage = "journeyman-bootstrapper --server-url <URL> [OPTIONS]",
        after_help = ENVIRONMENT
    )]
    Run(RunArguments),
}

/// Arguments of [`Command::Run`].
#[derive(Args, Debug)]
pub struct RunArguments {
    /// Standard input is a pipe held by the parent: end when it does.
    #[arg(long, hide = true)]
    pub lifeline: bool,
    /// Version of the bootstrapper, for the server.
    #[arg(long, hide = true, default_value = "UNKNOWN", value_name = "VERSION")]
    pub bootstrapper_version: String,
    /// The server and how to reach it.
    #[command(flatten)]
    pub connection: ConnectionArguments,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use journeyman_host::{arguments::normalise, autoregister::ImageVariables};

    use super::*;

    fn parse(words: &str) -> Result<RunArguments, clap::Error> {
        let words = normalise(words.split(' ').map(Into::into));
        let words = std::iter::once("journeyman-launcher".into()).chain(words);
        Arguments::try_parse_from(words).map(
            |Arguments {
                 command: Command::Run(run),
             }| run,
        )
    }

    #[test]
    fn gocds_arguments_are_taken_after_the_bootstrappers() {
        Arguments::command().debug_assert();
        let run = parse(
            "run --lifeline --bootstrapper-version 0.1.0 -serverUrl http://127.0.0.1:8153/go \
             -sslVerificationMode NONE",
        )
        .unwrap();
        assert!(run.lifeline);
        assert_eq!(run.bootstrapper_version, "0.1.0");
        let url = run.connection.server_url.as_deref();
        assert_eq!(url, Some("http://127.0.0.1:8153/go"));
    }

    #[test]
    fn an_unknown_argument_is_named() {
        let error = parse("run -serverUrl http://127.0.0.1/go --colour").unwrap_err();
        assert!(error.use_stderr());
        assert!(error.to_string().contains("--colour"), "{error}");
        let help = parse("run -help").unwrap_err();
        assert!(!help.use_stderr());
        for variable in ImageVariables::NAMES {
            let end = variable
                .strip_prefix("AGENT_AUTO_REGISTER")
                .or(variable.strip_prefix("GO_EA_AUTO_REGISTER"))
                .unwrap_or(variable);
            assert!(help.to_string().contains(end), "{variable} in {help}");
        }
    }
}
