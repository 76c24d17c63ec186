//! Users in a file as Apache's `htpasswd -B` writes it: `name:bcrypt hash`, a line for each.

use std::{
    io,
    path::{Path, PathBuf},
};

/// The password file could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the password file {}; check --password-file and that this user may read it", path.display())]
pub(super) struct PasswordFileError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// The hash of a user's password, if the file has the user. Read each time: a change counts at
/// once.
pub(super) async fn find(path: &Path, name: &str) -> Result<Option<String>, PasswordFileError> {
    Ok(all(path)
        .await?
        .into_iter()
        .find_map(|(one, hash)| (one == name).then_some(hash)))
}

/// All users of the file with the hashes of their passwords.
pub(super) async fn all(path: &Path) -> Result<Vec<(String, String)>, PasswordFileError> {
    let text = tokio::fs::read(path)
        .await
        .map_err(|source| PasswordFileError {
            path: path.to_path_buf(),
            source,
        })?;
    Ok(parse(&String::from_utf8_lossy(&text)))
}

/// Lines that are none of a user, and those with other kinds of hashes, count for nobody.
fn parse(text: &str) -> Vec<(String, String)> {
    text.lines()
        .filter_map(|line| {
            let (name, hash) = line.trim().split_once(':')?;
            // Some tools write further fields behind it.
            let hash = hash.split(':').next()?;
            let name = super::store::valid_name(name).ok()?;
            let bcrypt = ["$2a$", "$2b$", "$2y$"]
                .iter()
                .any(|kind| hash.starts_with(kind));
            bcrypt.then(|| (name, hash.to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    #[test]
    fn what_is_no_user_is_left_out() {
        let text = "# a comment\nAnn:$2y$05$abc\n\nbob:{SHA}abc\nlocal:$2y$05$abc\n:$2y$05$abc\nx y:$2y$05$a\ncarl:$2b$10$d:more\n";
        let expected = [("ann", "$2y$05$abc"), ("carl", "$2b$10$d")];
        let expected = expected.map(|(name, hash)| (name.to_owned(), hash.to_owned()));
        assert_eq!(parse(text), expected);
    }
}
