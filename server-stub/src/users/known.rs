//! All users: those whose passwords are here, and those of the password file.

use super::{
    Rights,
    details::{self, Details},
    identities::{self, Identity},
    password_file, store,
};
use crate::{App, answer::Refusal};

/// A user who can log in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KnownUser {
    pub name: String,
    pub rights: Rights,
    pub details: Details,
    pub login: By,
    /// Whether a provider vouches for them.
    pub identity: Identity,
}

/// Where a user's password is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum By {
    Password,
    /// There is none.
    Nothing,
    /// In the password file, where it is changed.
    File,
}

/// All users by name. One who is here and in the file as well counts as here.
pub(crate) async fn all(app: &App) -> Result<Vec<KnownUser>, Refusal> {
    let mut connection = app
        .database
        .readers()
        .acquire()
        .await
        .map_err(crate::database::DatabaseError::from)?;
    let here = store::list(&mut connection).await?;
    let mut names: Vec<(String, By)> = Vec::with_capacity(here.len());
    for user in here {
        let by = if user.has_password() {
            By::Password
        } else {
            By::Nothing
        };
        names.push((user.name, by));
    }
    if let Some(path) = &app.users.password_file {
        let file = password_file::all(path).await;
        let file = file.map_err(|error| Refusal::internal("list users", &error))?;
        names.extend(file.into_iter().map(|(name, _)| (name, By::File)));
    }
    names.sort();
    names.dedup_by(|later, first| later.0 == first.0);
    let mut users = Vec::with_capacity(names.len());
    for (name, login) in names {
        users.push(KnownUser {
            rights: store::rights(&mut connection, &name).await?,
            details: details::of(&mut connection, &name).await?,
            identity: identities::of(&mut connection, &name).await?,
            name,
            login,
        });
    }
    Ok(users)
}

/// One user.
pub(crate) async fn find(app: &App, name: &str) -> Result<Option<KnownUser>, Refusal> {
    Ok(all(app).await?.into_iter().find(|user| user.name == name))
}
