//! `journeyman-server encrypt`: values for `secure_variables` and `encrypted_password`.

use std::io::{self, IsTerminal, Read};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::{ERROR, output};
use crate::answer::Chain;
use crate::configuration::Paths;
use crate::pipelines::cipher::{Cipher, KeyError};

/// Bytes of a value; more cannot be an environment variable.
const MAX_VALUE: u64 = 128 * 1024;

#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// The data folder of the server that is to decrypt the value.
    #[arg(
        long,
        env = "JOURNEYMAN_DATA",
        default_value = "journeyman-server",
        value_name = "DIR"
    )]
    data: PathBuf,
}

/// Why nothing was encrypted.
#[derive(Debug, thiserror::Error)]
enum EncryptError {
    #[error(
        "there is no data folder {}: start the server once, or name its folder with --data",
        path.display()
    )]
    NoFolder { path: PathBuf },
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error("cannot read the value from standard input")]
    Read(#[source] io::Error),
    #[error("the value has more than {MAX_VALUE} bytes")]
    TooLong,
    #[error("the value is empty; it is read from standard input")]
    Empty,
    #[error("cannot encrypt the value")]
    Encrypt(#[from] openssl::error::ErrorStack),
}

/// Encrypts what standard input says; a line's end at its end is no part of it.
pub(super) fn run(arguments: &Arguments) -> ExitCode {
    if io::stdin().is_terminal() {
        output::complain("Type the value, then Return and Ctrl-D:");
    }
    match encrypt(arguments, io::stdin().lock()) {
        Ok(text) => {
            output::say(&text);
            ExitCode::SUCCESS
        }
        Err(error) => {
            output::complain(&format!("journeyman-server: {}", Chain(&error)));
            ExitCode::from(ERROR)
        }
    }
}

fn encrypt(arguments: &Arguments, input: impl Read) -> Result<String, EncryptError> {
    if !arguments.data.is_dir() {
        return Err(EncryptError::NoFolder {
            path: arguments.data.clone(),
        });
    }
    let mut value = String::new();
    let mut input = input.take(MAX_VALUE + 1);
    input
        .read_to_string(&mut value)
        .map_err(EncryptError::Read)?;
    if input.limit() == 0 {
        return Err(EncryptError::TooLong);
    }
    let value = value.strip_suffix('\n').unwrap_or(&value);
    let value = value.strip_suffix('\r').unwrap_or(value);
    if value.is_empty() {
        return Err(EncryptError::Empty);
    }
    let paths = Paths::new(arguments.data.clone(), None);
    Ok(Cipher::open(&paths.cipher_key())?.encrypt(value)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_from_standard_input_is_encrypted_for_the_server() {
        let folder = tempfile::tempdir().unwrap();
        let arguments = Arguments {
            data: folder.path().to_path_buf(),
        };
        let text = encrypt(&arguments, &b" two words \n"[..]).unwrap();
        let paths = Paths::new(folder.path().to_path_buf(), None);
        let cipher = Cipher::open(&paths.cipher_key()).unwrap();
        assert_eq!(cipher.decrypt(&text).unwrap(), " two words ");

        let table: [(&[u8], &str); 3] = [
            (b"\n", "the value is empty"),
            (b"\xff", "cannot read the value"),
            (&[b'x'; 200_000], "the value has more than"),
        ];
        for (input, expected) in table {
            let error = encrypt(&arguments, input).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
        let nowhere = Arguments {
            data: folder.path().join("nowhere"),
        };
        let error = encrypt(&nowhere, &b"x"[..]).unwrap_err();
        assert!(error.to_string().contains("start the server once"));
    }
}
