//! Reading a secret: asked for on a terminal, without showing it, else a line of standard input.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use secrecy::{ExposeSecret as _, SecretString};

use super::ClientError;

/// Reads a secret; on a terminal it is asked for twice.
pub(super) fn read(what: &str) -> Result<SecretString, ClientError> {
    if !io::stdin().is_terminal() {
        return line();
    }
    let hidden = Hidden::new()?;
    let first = ask(what)?;
    let second = ask("The same again")?;
    drop(hidden);
    if first.expose_secret() != second.expose_secret() {
        let message = "the two are not the same: nothing was changed".to_owned();
        return Err(ClientError::Usage(message));
    }
    Ok(first)
}

fn ask(what: &str) -> Result<SecretString, ClientError> {
    // Standard error, because standard output is for what was asked for.
    let _ = write!(io::stderr(), "{what}: ");
    let given = line();
    let _ = writeln!(io::stderr());
    given
}

fn line() -> Result<SecretString, ClientError> {
    let mut text = String::new();
    let failed = |error: io::Error| {
        ClientError::Usage(format!(
            "cannot read the password from standard input: {error}"
        ))
    };
    io::stdin().lock().read_line(&mut text).map_err(failed)?;
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() {
        let message = "no password was given on standard input".to_owned();
        return Err(ClientError::Usage(message));
    }
    Ok(SecretString::from(text))
}

/// Keeps the terminal from showing what is typed, for as long as this is there.
struct Hidden {
    before: Termios,
}

impl Hidden {
    fn new() -> Result<Self, ClientError> {
        let failed = |error: nix::Error| {
            ClientError::Usage(format!(
                "cannot keep the terminal from showing the password ({error}): give it on standard input"
            ))
        };
        let before = tcgetattr(io::stdin()).map_err(failed)?;
        let mut quiet = before.clone();
        quiet.local_flags.remove(LocalFlags::ECHO);
        tcsetattr(io::stdin(), SetArg::TCSANOW, &quiet).map_err(failed)?;
        Ok(Self { before })
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), SetArg::TCSANOW, &self.before);
    }
}
