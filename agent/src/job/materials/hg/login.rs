//! Giving `hg` a password that no other program of the machine sees.

use std::{
    env,
    ffi::OsString,
    fs::File,
    io::{self, Write},
    os::fd::{AsRawFd, OwnedFd},
    path::Path,
};

use journeyman_protocol::secret::Secret;
use nix::sys::memfd::{MFdFlags, memfd_create};

use super::url::HgUrl;
use crate::job::{
    materials::{MaterialError, url},
    tasks::find_executable,
};

/// A configuration file for `hg` in memory. It is there for as long as this is, for the programs
/// that are started meanwhile.
pub(super) struct Login {
    file: OwnedFd,
}

impl Login {
    /// The configuration that logs in to the repository's host; none without a password.
    ///
    /// # Errors
    /// The password cannot be written in a configuration, or there is no memory for it.
    pub(super) fn to(repository: &HgUrl) -> Result<Option<Self>, MaterialError> {
        let Some((user, password)) = &repository.login else {
            return Ok(None);
        };
        let Some(config) = config(&repository.for_hg, password) else {
            return Err(MaterialError::new(format!(
                "The password of {user} for {} has a line break in it, which Mercurial cannot \
                 take: correct it in the material.",
                repository.for_display()
            )));
        };
        match in_memory(&config) {
            Ok(file) => Ok(Some(Self { file })),
            Err(error) => Err(MaterialError::new(format!(
                "Cannot keep the password for {} in memory: {error}",
                repository.for_display()
            ))),
        }
    }

    /// The value of `HGRCPATH` that has `hg` read this configuration after all that it reads
    /// anyway.
    pub(super) fn config_path(&self, root: &Path) -> OsString {
        let mut path = env::var_os("HGRCPATH").unwrap_or_else(|| default_config_path(root));
        path.push(format!(":/proc/self/fd/{}", self.file.as_raw_fd()));
        path
    }
}

/// The user is in the URL that `hg` is given, so it needs not be here. As with a password in the
/// URL, all of the host is logged in to, since subrepositories beside the repository need it; and
/// nothing in the user's own configuration is nearer to the repository than its whole URL.
fn config(for_hg: &str, password: &Secret) -> Option<String> {
    let password = password.expose();
    if password.contains(['\n', '\r']) {
        return None;
    }
    let whole = url::with_user_info(for_hg, None);
    let start = whole.find("://")? + 3;
    let end = whole[start..]
        .find(['/', '?', '#'])
        .map_or(whole.len(), |end| start + end);
    let (host, whole) = (&whole[..end], whole.split('#').next()?);
    Some(format!(
        "[auth]\n\
         journeyman.prefix = {whole}\njourneyman.password = {password}\n\
         journeyman-host.prefix = {host}/\njourneyman-host.password = {password}\n"
    ))
}

fn in_memory(text: &str) -> io::Result<OwnedFd> {
    // Without CLOEXEC: the program inherits it. The runner starts no other one meanwhile.
    let file = memfd_create("hgrc", MFdFlags::empty())?;
    let mut file = File::from(file);
    file.write_all(text.as_bytes())?;
    Ok(file.into())
}

/// What `hg` reads without `HGRCPATH`: the files of its installation, of the system, of the user.
fn default_config_path(root: &Path) -> OsString {
    let program = find_executable("hg", root);
    let installation = program
        .as_deref()
        .and_then(Path::parent)
        .and_then(Path::parent)
        .filter(|folder| *folder != Path::new("/"));
    let mut path = OsString::new();
    for folder in installation.into_iter().chain([Path::new("/")]) {
        let folder = folder.join("etc/mercurial");
        path.push(folder.join("hgrc"));
        path.push(":");
        path.push(folder.join("hgrc.d"));
        path.push(":");
    }
    path.push("~/.hgrc:");
    match env::var_os("XDG_CONFIG_HOME").filter(|folder| Path::new(folder).is_absolute()) {
        Some(folder) => path.push(folder),
        None => path.push("~/.config"),
    }
    path.push("/hg/hgrc");
    path
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use pretty_assertions::{assert_eq, assert_ne};

    use super::*;

    #[test]
    fn all_of_the_host_is_logged_in_to() {
        assert_eq!(
            config("https://u@h:1/a/b#c", &"p w#1".into()).unwrap(),
            "[auth]\n\
             journeyman.prefix = https://h:1/a/b\njourneyman.password = p w#1\n\
             journeyman-host.prefix = https://h:1/\njourneyman-host.password = p w#1\n"
        );
        assert_eq!(config("https://u@h/a", &"p\n[hooks]\nx = y".into()), None);
    }

    /// The existing files that `hg` reads.
    fn read_by_hg(home: &Path, config_path: Option<OsString>) -> Vec<String> {
        let mut command = Command::new("hg");
        command
            .args(["config", "--debug"])
            .env_remove("HGRCPATH")
            .env("HOME", home);
        if let Some(path) = config_path {
            command.env("HGRCPATH", path);
        }
        let output = command.output().expect("hg is needed for this test");
        String::from_utf8_lossy(&output.stdout)
            .lines()
            .filter_map(|line| line.strip_prefix("read config from: "))
            .filter(|file| Path::new(file).exists())
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn hg_still_reads_what_it_reads_by_itself() {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join(".hgrc"), "").unwrap();
        let default = read_by_hg(home.path(), None);
        assert_ne!(default, [""; 0]);
        let path = default_config_path(Path::new("/"));
        assert_eq!(read_by_hg(home.path(), Some(path)), default);
    }
}
