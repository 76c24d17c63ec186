//! What a server knows of its users from the start.

use std::{
    fs,
    path::{Path, PathBuf},
};

use secrecy::{ExposeSecret as _, SecretString};
use sqlx::SqliteConnection;

use super::{
    Grant, Password, PasswordError, Role,
    attempts::Attempts,
    passwords::Passwords,
    secret::{self, NoRandomness},
    store,
};
use crate::{configuration::Paths, database::DatabaseError, durable};

/// The user that the first start makes.
pub const FIRST_ADMIN: &str = "admin";

/// Whether people have to say who they are.
#[derive(Clone, Debug)]
pub enum Login {
    /// They need not, and may do everything: for a server that only this machine reaches.
    Off,
    On {
        /// Of the admin that the first start makes. Default: one is made up, and said once.
        admin_password: Option<SecretString>,
        /// A file with further users.
        password_file: Option<PathBuf>,
    },
}

/// Why the users of a server cannot be made ready.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("the first admin's password cannot be used")]
    AdminPassword(#[source] PasswordError),
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error(transparent)]
    Write(#[from] durable::WriteError),
    #[error(transparent)]
    Randomness(#[from] NoRandomness),
}

/// The users of a running server.
pub struct Users {
    /// Whether there is a login.
    pub login: bool,
    pub(super) password_file: Option<PathBuf>,
    /// Digest of the command line's token.
    pub(super) local: String,
    pub(super) passwords: Passwords,
    pub(super) attempts: Attempts,
}

impl Users {
    /// Makes the first admin if there is no user yet, and the command line's token if there is
    /// none. Returns the admin's password when it was made up: it is stored nowhere.
    ///
    /// # Errors
    ///
    /// See [`OpenError`].
    pub(crate) async fn open(
        login: Login,
        paths: &Paths,
        connection: &mut SqliteConnection,
        now: i64,
    ) -> Result<(Self, Option<SecretString>), OpenError> {
        let mut users = Self {
            login: false,
            password_file: None,
            local: secret::digest_of(&local_token(&paths.command_line_token())?),
            passwords: Passwords::new()?,
            attempts: Attempts::default(),
        };
        let Login::On {
            admin_password,
            password_file,
        } = login
        else {
            return Ok((users, None));
        };
        users.login = true;
        users.password_file = password_file;
        if !store::list(connection).await?.is_empty() {
            return Ok((users, None));
        }
        let (text, told) = match admin_password {
            Some(given) => (given, None),
            None => {
                let made = SecretString::from(secret::new_password()?);
                (made.clone(), Some(made))
            }
        };
        let password = Password::new(text).map_err(OpenError::AdminPassword)?;
        let hash = password.hash().await.map_err(OpenError::AdminPassword)?;
        store::set_password(connection, FIRST_ADMIN, &hash, now).await?;
        let grants = [Grant::everywhere(Role::Admin)];
        store::set_rights(connection, FIRST_ADMIN, &grants).await?;
        Ok((users, told))
    }
}

/// The token by which commands on this machine are let in: whoever may read the data folder may do
/// anything anyhow. It stays over restarts, so that a command that waits for the server goes on.
fn local_token(path: &Path) -> Result<String, OpenError> {
    if let Ok(text) = fs::read_to_string(path)
        && let text = text.trim()
        && text.len() == 64
    {
        return Ok(text.to_owned());
    }
    let token = SecretString::from(secret::new()?);
    let line = format!("{}\n", token.expose_secret());
    durable::write(path, line.as_bytes(), 0o600)?;
    Ok(token.expose_secret().to_owned())
}
