//! The configuration file of a checkout, read and written without starting git: a value in git's
//! arguments could be read by everybody on the machine.

use std::{fs, io, os::unix::fs::PermissionsExt, path::Path};

use git2::{Config, ConfigLevel, ErrorCode};
use journeyman_host::durable::{self, FileError};
use thiserror::Error;

/// A configuration file that cannot be changed. No text of it has a value in it.
#[derive(Debug, Error)]
pub(super) enum ConfigError {
    #[error("cannot change the configuration of the checkout: {0}")]
    File(#[from] FileError),
    #[error("cannot change the configuration of the checkout: {0}; is the disk full?")]
    Copy(#[from] io::Error),
    #[error("cannot read the configuration of the checkout: {}", .0.message())]
    Git(#[from] git2::Error),
}

/// Gives each name one value, and leaves all else as it is. The file is only its owner's from then
/// on, and so is every copy of it on the way: the values may hold passwords.
pub(super) fn set(file: &Path, values: &[(String, &str)]) -> Result<(), ConfigError> {
    let folder = file.parent().unwrap_or(Path::new("."));
    // libgit2 writes beside the file, with a mode that others can read: so in a closed folder.
    let closed = tempfile::Builder::new()
        .prefix("journeyman-")
        .permissions(fs::Permissions::from_mode(0o700))
        .tempdir_in(folder)?;
    let copy = closed.path().join("config");
    fs::copy(file, &copy)?;
    let mut config = open(&copy)?;
    for (name, value) in values {
        if read(&config, name)?.len() > 1 {
            config.remove_multivar(name, ".*")?;
        }
        config.set_str(name, value)?;
    }
    durable::write_secret(file, &fs::read(&copy)?)?;
    Ok(())
}

/// All values of a name in this very file.
pub(super) fn get(file: &Path, name: &str) -> Result<Vec<String>, ConfigError> {
    Ok(read(&open(file)?, name)?)
}

/// Names and URLs of the submodules in this very file.
pub(super) fn submodule_urls(file: &Path) -> Result<Vec<(String, String)>, ConfigError> {
    let config = open(file)?;
    let mut found = Vec::new();
    config.entries(None)?.for_each(|entry| {
        let name = entry
            .name()
            .ok()
            .and_then(|name| name.strip_prefix("submodule.")?.strip_suffix(".url"));
        if let (Some(name), Ok(url)) = (name, entry.value()) {
            found.push((name.to_owned(), url.to_owned()));
        }
    })?;
    Ok(found)
}

/// One file and no other: not the user's, not the system's.
fn open(file: &Path) -> Result<Config, git2::Error> {
    let mut config = Config::new()?;
    config.add_file(file, ConfigLevel::Local, false)?;
    Ok(config)
}

fn read(config: &Config, name: &str) -> Result<Vec<String>, git2::Error> {
    let mut values = Vec::new();
    let collected = config.multivar(name, None).and_then(|entries| {
        entries.for_each(|entry| values.extend(entry.value().map(ToOwned::to_owned).ok()))
    });
    match collected {
        Err(error) if error.code() != ErrorCode::NotFound => Err(error),
        _ => Ok(values),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_value_is_changed_and_the_file_closed() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config");
        let text = "[core]\n\tbare = false # why\n[remote \"origin\"]\n\turl = a\n\tfetch = +x:y\n";
        fs::write(&file, text).unwrap();
        set(
            &file,
            &[("remote.origin.url".to_owned(), "http://u:p@h/\"x\"")],
        )
        .unwrap();
        assert_eq!(
            get(&file, "remote.origin.url").unwrap(),
            ["http://u:p@h/\"x\""]
        );
        let written = fs::read_to_string(&file).unwrap();
        let expected = text.replace("url = a", "url = http://u:p@h/\\\"x\\\"");
        assert_eq!(written, expected);
        assert_eq!(
            fs::metadata(&file).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(get(&file, "remote.other.url").unwrap().is_empty());
    }

    #[test]
    fn of_several_values_one_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config");
        fs::write(&file, "[remote \"origin\"]\n\turl = a\n\turl = b\n").unwrap();
        set(&file, &[("remote.origin.url".to_owned(), "c")]).unwrap();
        assert_eq!(get(&file, "remote.origin.url").unwrap(), ["c"]);
    }
}
