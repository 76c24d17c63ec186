//! Who this agent is: GUID and token, each in a file of its own.
//!
//! GoCD: `config/guid.txt` and `config/token`, text without a line end.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::Path,
};

use journeyman_protocol::secret::Secret;
use tracing::warn;
use uuid::Uuid;

use crate::{
    durable::{self, FileError},
    workdir::WorkDir,
};

/// Longest token or cookie that is believed, in bytes.
const LONGEST: usize = 4096;

/// The agent's GUID; a new random one at first need. A file with something else in it (empty,
/// binary, several words) is set aside with a warning and a new GUID is made: to the server it is
/// then another agent.
///
/// # Errors
/// The file cannot be read or written.
pub fn guid(workdir: &WorkDir) -> Result<String, FileError> {
    let path = workdir.guid();
    if let Some(guid) = read_plausible(&path, is_plausible_guid)? {
        return Ok(guid);
    }
    let guid = Uuid::new_v4().to_string();
    durable::write(&path, guid.as_bytes())?;
    Ok(guid)
}

/// The registration token, if there is one. A corrupt file counts as none. A file that others may
/// read, as the Java agent leaves it, is closed to them.
///
/// # Errors
/// The file is there and cannot be read.
pub fn token(workdir: &WorkDir) -> Result<Option<Secret>, FileError> {
    let path = workdir.token();
    let token = read_plausible(&path, is_plausible_secret)?;
    if token.is_some() {
        close(&path);
    }
    Ok(token.map(Secret::from))
}

/// Keeps the token.
///
/// # Errors
/// The file cannot be written.
pub fn save_token(workdir: &WorkDir, token: &Secret) -> Result<(), FileError> {
    durable::write_secret(&workdir.token(), token.expose().as_bytes())
}

/// Forgets the token; the server said it is wrong.
///
/// # Errors
/// The file is there and cannot be removed.
pub fn remove_token(workdir: &WorkDir) -> Result<(), FileError> {
    durable::remove(&workdir.token())
}

/// The trimmed text of a file if it passes `plausible`; otherwise the file is set aside.
fn read_plausible(
    path: &Path,
    plausible: impl FnOnce(&str) -> bool,
) -> Result<Option<String>, FileError> {
    let Some(content) = durable::read_tolerant(path)? else {
        return Ok(None);
    };
    let text = String::from_utf8(content).unwrap_or_default();
    let text = text.trim();
    if plausible(text) {
        return Ok(Some(text.to_owned()));
    }
    let aside = durable::set_aside(path)?;
    warn!(
        file = %path.display(),
        kept_as = %aside.display(),
        "the file is corrupt; going on as if there were none"
    );
    Ok(None)
}

fn is_plausible_guid(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 255
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

fn close(path: &Path) {
    let closed = fs::metadata(path).and_then(|facts| {
        if facts.permissions().mode() & 0o077 == 0 {
            return Ok(());
        }
        fs::set_permissions(path, Permissions::from_mode(0o600))
    });
    if let Err(error) = closed {
        warn!(path = %path.display(), %error, "the token may be read by others on this machine");
    }
}

/// Whether this can be a token or a cookie, which travel in headers: anything visible in ASCII.
pub fn is_plausible_secret(text: &str) -> bool {
    !text.is_empty() && text.len() <= LONGEST && text.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workdir() -> (tempfile::TempDir, WorkDir) {
        let folder = tempfile::tempdir().unwrap();
        let workdir = WorkDir::new(folder.path());
        workdir.prepare().unwrap();
        (folder, workdir)
    }

    #[test]
    fn guid_is_made_once_and_read_trimmed() {
        let (_folder, workdir) = workdir();
        let made = guid(&workdir).unwrap();
        assert_eq!(guid(&workdir).unwrap(), made);
        assert_eq!(fs::read_to_string(workdir.guid()).unwrap(), made);
        fs::write(workdir.guid(), "  some-guid \n").unwrap();
        assert_eq!(guid(&workdir).unwrap(), "some-guid");
    }

    #[test]
    fn corrupt_guids_are_set_aside_and_replaced() {
        let (_folder, workdir) = workdir();
        for corrupt in [
            &b""[..],
            b" \n",
            b"a b",
            b"\x00\x01",
            b"\xff\xfe",
            b"<html>",
        ] {
            fs::write(workdir.guid(), corrupt).unwrap();
            let made = guid(&workdir).unwrap();
            assert!(Uuid::parse_str(&made).is_ok());
            assert_eq!(
                fs::read(workdir.config().join("guid.txt.corrupt")).unwrap(),
                corrupt
            );
        }
    }

    #[test]
    fn the_token_is_a_secret_file() {
        let (_folder, workdir) = workdir();
        assert_eq!(token(&workdir).unwrap(), None);
        save_token(&workdir, &"ab+/=".into()).unwrap();
        assert_eq!(token(&workdir).unwrap().unwrap().expose(), "ab+/=");
        let mode = fs::metadata(workdir.token()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        // As the Java agent writes it.
        fs::set_permissions(workdir.token(), Permissions::from_mode(0o644)).unwrap();
        assert_eq!(token(&workdir).unwrap().unwrap().expose(), "ab+/=");
        let mode = fs::metadata(workdir.token()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        remove_token(&workdir).unwrap();
        assert_eq!(token(&workdir).unwrap(), None);
    }

    #[test]
    fn a_corrupt_token_counts_as_none() {
        let (_folder, workdir) = workdir();
        fs::write(workdir.token(), b"two words\n").unwrap();
        assert_eq!(token(&workdir).unwrap(), None);
        assert!(workdir.config().join("token.corrupt").exists());
    }
}
