//! Handing credentials to git without showing them to anybody else.
//!
//! Arguments of processes can be read by everybody on the machine, the environment only by the
//! same user. So git is given a URL without credentials, and in its environment a configuration
//! that makes it answer the server with them. The environment of a job's tasks has none of this.

use std::{env, ffi::OsString};

use super::url::RepositoryUrl;

/// From this version on git reads configuration from numbered variables.
const NUMBERED_VARIABLES: (u32, u32) = (2, 31);
const COUNT: &str = "GIT_CONFIG_COUNT";
/// What `git -c` passes on to its children, in every version.
const PARAMETERS: &str = "GIT_CONFIG_PARAMETERS";
pub(super) const USER: &str = "JOURNEYMAN_GIT_USER";
pub(super) const PASSWORD: &str = "JOURNEYMAN_GIT_PASSWORD";
/// Run by a shell, whose builtins these are: nothing of it is seen in arguments.
const HELPER: &str = "!f() { test \"$1\" = get && printf 'username=%s\\npassword=%s\\n' \
    \"$JOURNEYMAN_GIT_USER\" \"$JOURNEYMAN_GIT_PASSWORD\"; }; f";

/// For an URL with a user alone, such as a token. GoCD: git tries it with an empty password.
const NO_PASSWORD: &str = "!f() { test \"$1\" = get && echo password=; }; f";

/// Settings for one run of git, as `-c` would give it, in order.
#[derive(Default)]
pub(super) struct Settings {
    entries: Vec<(String, OsString)>,
    login: Vec<(String, OsString)>,
}

impl Settings {
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn set(&mut self, key: impl Into<String>, value: impl Into<OsString>) {
        self.entries.push((key.into(), value.into()));
    }

    /// Makes git reach the repository with its credentials, though it is only given
    /// [`RepositoryUrl::for_arguments`].
    pub(super) fn log_in(&mut self, url: &RepositoryUrl) {
        let Some(login) = url.login() else { return };
        let bare = url.for_arguments();
        // What the checkout's own configuration says; and the bare URL itself, so that no shorter
        // rule of the user's for this host, which the full URL was never subject to, takes it.
        self.set(format!("url.{bare}.insteadOf"), url.for_config());
        self.set(format!("url.{bare}.insteadOf"), bare);
        // The credential protocol has one line per value and no way to write a line feed.
        let speakable = |text: &OsString| {
            let bytes = text.as_encoded_bytes();
            !bytes.iter().any(|byte| matches!(byte, b'\n' | b'\r' | 0))
        };
        match &login.password {
            Some(password) if speakable(password) && speakable(&login.user) => {
                // An empty one takes back all others: the user's helpers are not asked first, and
                // do not get our password to keep.
                self.set(format!("credential.{bare}.helper"), "");
                self.set(format!("credential.{bare}.helper"), HELPER);
                self.login = vec![
                    (USER.to_owned(), login.user.clone()),
                    (PASSWORD.to_owned(), password.clone()),
                ];
            }
            None if speakable(&login.user) => {
                self.set(format!("credential.{bare}.username"), login.user.clone());
                // Behind the user's own helpers, which may know a password.
                self.set(format!("credential.{bare}.helper"), NO_PASSWORD);
            }
            _ => tracing::warn!(
                url = bare,
                "User or password has a line feed in it and cannot be given to git"
            ),
        }
    }

    /// The variables that bring the settings to a git of this version. What the agent's own
    /// environment has in the same place stays in force.
    pub(super) fn variables(self, version: (u32, u32)) -> Vec<(String, OsString)> {
        let mut variables = self.login;
        if version >= NUMBERED_VARIABLES {
            let first = env::var(COUNT)
                .ok()
                .and_then(|count| count.trim().parse::<usize>().ok())
                .unwrap_or(0);
            let count = first + self.entries.len();
            for (number, (key, value)) in (first..).zip(self.entries) {
                variables.push((format!("GIT_CONFIG_KEY_{number}"), key.into()));
                variables.push((format!("GIT_CONFIG_VALUE_{number}"), value));
            }
            variables.push((COUNT.to_owned(), count.to_string().into()));
        } else {
            let mut words = env::var_os(PARAMETERS).unwrap_or_default();
            for (key, value) in self.entries {
                if !words.is_empty() {
                    words.push(" ");
                }
                let mut word = OsString::from(format!("{key}="));
                word.push(value);
                words.push(quoted(&word));
            }
            variables.push((PARAMETERS.to_owned(), words));
        }
        variables
    }
}

/// In quotes, as git's own quoting has it.
fn quoted(word: &OsString) -> OsString {
    use std::os::unix::ffi::OsStringExt;
    let mut quoted = vec![b'\''];
    for byte in word.as_encoded_bytes() {
        match byte {
            b'\'' | b'!' => quoted.extend([b'\'', b'\\', *byte, b'\'']),
            _ => quoted.push(*byte),
        }
    }
    quoted.push(b'\'');
    OsString::from_vec(quoted)
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        process::{Command, Stdio},
    };

    use journeyman_protocol::material::GitMaterial;
    use pretty_assertions::assert_eq;

    use super::*;

    const OWN: &str = "[credential]\n\thelper = \"!echo username=own; echo password=own; true\"\n";

    /// What git would log in with at an address, asked with our settings over somebody's own.
    fn filled(url: &str, asked: &str, version: (u32, u32)) -> String {
        filled_over(OWN, url, asked, version)
    }

    fn filled_over(own: &str, url: &str, asked: &str, version: (u32, u32)) -> String {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join(".gitconfig"), own).unwrap();
        let url = RepositoryUrl::of(&GitMaterial::new(url, "main"));
        let mut settings = Settings::default();
        settings.log_in(&url);
        let mut child = Command::new("git")
            .args(["credential", "fill"])
            .env("HOME", home.path())
            .envs(settings.variables(version))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let asked = format!("url={asked}\n\n");
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(asked.as_bytes()).unwrap();
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let wanted = |line: &&str| line.starts_with("username=") || line.starts_with("password=");
        text.lines().filter(wanted).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn every_git_answers_with_our_credentials_for_our_repository_only() {
        let url = "http://bot:it's%20a%21b@h:81/g/app.git";
        for version in [(2, 20), (2, 31)] {
            assert_eq!(
                filled(url, "http://h:81/g/app.git", version),
                "username=bot password=it's a!b"
            );
            assert_eq!(
                filled(url, "http://h:81/g/other.git", version),
                "username=own password=own"
            );
            // Without a password the user's own helpers are asked; this one knows better.
            assert_eq!(
                filled("http://bot@h/x", "http://h/x", version),
                "username=own password=own"
            );
            assert_eq!(
                filled_over("", "http://token@h/x", "http://h/x", version),
                "username=token password="
            );
            assert_eq!(
                filled("http://a:%0Apassword%3Dx@h/x", "http://h/x", version),
                "username=own password=own"
            );
        }
    }
}
