//! The URL of a repository: with its credentials for `.git/config`, without them for arguments.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use journeyman_protocol::{
    material::{GitMaterial, UrlArgument},
    secret::Secret,
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::job::materials::scm::Hidden;

/// What stays as it is in user info. A colon does not, unlike in GoCD: git does not decode what
/// stands before one, so the login would fail.
const NOT_IN_USER_INFO: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'!')
    .remove(b'$')
    .remove(b'&')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'*')
    .remove(b'+')
    .remove(b',')
    .remove(b';')
    .remove(b'=');

/// The URL of a material.
#[derive(Clone)]
pub(super) struct RepositoryUrl {
    /// With user and password.
    full: String,
    /// Without what is secret in it.
    bare: String,
    /// As the server configured it, the secret masked.
    display: String,
    login: Option<Login>,
}

/// What a URL says about who logs in, decoded.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Login {
    pub(super) user: OsString,
    /// None: git asks whoever the machine's owner has set up for it.
    pub(super) password: Option<OsString>,
}

impl RepositoryUrl {
    pub(super) fn of(material: &GitMaterial) -> Self {
        let user = material
            .scm
            .user_name
            .as_deref()
            .filter(|user| !user.is_empty());
        let password = material
            .scm
            .resolved_password()
            .filter(|password| !password.is_empty());
        let full = with_credentials(&material.url.url, user, password.as_ref());
        // GoCD: what is shown is the URL of the configuration, not that with separate credentials.
        Self::new(full, material.url.for_display())
    }

    fn new(full: String, display: String) -> Self {
        let (bare, login) = without_secrets(&full);
        Self {
            full,
            bare,
            display,
            login,
        }
    }

    /// As it stands in `.git/config`: jobs that push rely on the credentials there.
    pub(super) fn for_config(&self) -> &str {
        &self.full
    }

    /// What may stand in arguments. Everybody on the machine can read those.
    pub(super) fn for_arguments(&self) -> &str {
        &self.bare
    }

    pub(super) fn for_display(&self) -> &str {
        &self.display
    }

    /// Who logs in, if [`Self::for_arguments`] no longer says so.
    pub(super) fn login(&self) -> Option<&Login> {
        self.login.as_ref()
    }

    /// The same login for another repository, the URL of which was worked out from this one's.
    /// None: nothing is missing in it, or it is on another server.
    pub(super) fn sibling(&self, url: &str) -> Option<Self> {
        self.login.as_ref()?;
        let info = user_info(&self.full)?;
        let origin = authority_end(&self.bare)?;
        let rest = url.strip_prefix(&self.bare[..origin])?;
        if !(rest.is_empty() || rest.starts_with('/')) {
            return None;
        }
        let (scheme, host) = self.bare[..origin].split_once("://")?;
        // The user of ssh is still in there.
        let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
        let full = format!("{scheme}://{info}@{host}{rest}");
        let display = UrlArgument::from(full.clone()).for_display();
        Some(Self::new(full, display))
    }

    /// How the URL and its user info are hidden in what git prints.
    pub(super) fn hidden(&self) -> Hidden {
        let mut replacements = vec![(self.full.clone(), self.display.clone())];
        if let Some(info) = user_info(&self.full)
            && self.login.is_some()
        {
            replacements.extend(hidden_info(info));
        }
        replacements.retain(|(secret, shown)| secret != shown);
        Hidden { replacements }
    }

    /// The same for the clone. GoCD hides the lone user of ssh there, and only there: in the
    /// console of `ssh://git@host/x.git` each `git` is masked.
    pub(super) fn hidden_in_clone(&self) -> Hidden {
        let mut hidden = self.hidden();
        if let Some(info) = user_info(&self.full)
            && self.login.is_none()
        {
            hidden.replacements.extend(hidden_info(info));
        }
        hidden
    }

    /// Whether this is the repository that a checkout came from.
    ///
    /// GoCD: other credentials in the URL are the same repository; other separate ones are not.
    pub(super) fn is_same(&self, stored: &str) -> bool {
        let stored = stored.trim().replace(&self.full, &self.display);
        comparable(&self.display) == comparable(&UrlArgument::from(stored).for_display())
    }

    /// Whether git reaches the repository without any transport: it then links the objects.
    pub(super) fn is_local_path(&self) -> bool {
        if self.full.contains("://") {
            return false;
        }
        // git: a colon before the first slash makes it `host:path`.
        match (self.full.find(':'), self.full.find('/')) {
            (Some(colon), Some(slash)) => slash < colon,
            (Some(_), None) => false,
            (None, _) => true,
        }
    }
}

fn hidden_info(info: &str) -> [(String, String); 2] {
    let shown = match info.split_once(':') {
        Some((user, _)) => format!("{user}:******"),
        None => "******".to_owned(),
    };
    let decoded = percent_decode_str(info).decode_utf8_lossy().into_owned();
    [(decoded, shown.clone()), (info.to_owned(), shown)]
}

fn comparable(display: &str) -> String {
    let url = display.trim();
    let url = url.strip_suffix('/').unwrap_or(url);
    let url = percent_decode_str(url).decode_utf8_lossy().into_owned();
    let url = url.strip_prefix("file://").unwrap_or(&url);
    url.to_lowercase()
}

/// Where the host and port of a URL end.
fn authority_end(url: &str) -> Option<usize> {
    let begin = url.find("://")? + 3;
    Some(
        url[begin..]
            .find(['/', '?', '#'])
            .map_or(url.len(), |end| begin + end),
    )
}

fn user_info(url: &str) -> Option<&str> {
    let begin = url.find("://")? + 3;
    url[begin..authority_end(url)?]
        .rsplit_once('@')
        .map(|(info, _)| info)
}

/// The URL without its secret, and what is missing in it then. The user of ssh is none: it has to
/// be there for ssh to get it.
fn without_secrets(url: &str) -> (String, Option<Login>) {
    let unchanged = || (url.to_owned(), None);
    let (Some(info), Some((scheme, rest))) = (user_info(url), url.split_once("://")) else {
        return unchanged();
    };
    let host = &rest[info.len() + 1..];
    let (user, password) = match info.split_once(':') {
        Some((user, password)) => (user, Some(password)),
        None => (info, None),
    };
    let is_ssh = scheme.contains("ssh");
    if is_ssh && password.is_none() {
        return unchanged();
    }
    let decoded = |text: &str| OsString::from_vec(percent_decode_str(text).collect());
    let login = Login {
        user: decoded(user),
        password: password.map(decoded),
    };
    let bare = if is_ssh {
        format!("{scheme}://{user}@{host}")
    } else {
        format!("{scheme}://{host}")
    };
    (bare, Some(login))
}

fn with_credentials(url: &str, user: Option<&str>, password: Option<&Secret>) -> String {
    if user.is_none() && password.is_none() {
        return url.to_owned();
    }
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let host = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    let encode = |text: &str| utf8_percent_encode(text, NOT_IN_USER_INFO).to_string();
    let user = user.map(encode).unwrap_or_default();
    let password = password
        .map(|password| format!(":{}", encode(password.expose())))
        .unwrap_or_default();
    format!("{scheme}://{user}{password}@{host}{path}")
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    #[test]
    fn credentials_are_put_in() {
        let table = [
            (
                "http://h",
                Some("bob@example.com"),
                Some("p@ssw:rd"),
                "http://bob%40example.com:p%40ssw%3Ard@h",
            ),
            ("http://h", None, Some("pass"), "http://:pass@h"),
            ("http://old:x@h/p", Some("u"), None, "http://u@h/p"),
            ("git@h:p", Some("u"), None, "git@h:p"),
            ("/srv/x", None, None, "/srv/x"),
        ];
        for (url, user, password, expected) in table {
            let password = password.map(Secret::from);
            assert_eq!(with_credentials(url, user, password.as_ref()), expected);
        }
    }

    fn url(text: &str) -> RepositoryUrl {
        let display = UrlArgument::from(text.to_owned()).for_display();
        RepositoryUrl::new(text.to_owned(), display)
    }

    #[test]
    fn no_secret_is_left_for_arguments() {
        let both = |user, password| Some((user, Some(password)));
        let table = [
            (
                "http://bot:pass%40word@h:80/x",
                "http://h:80/x",
                both("bot", "pass@word"),
            ),
            ("https://bot:a@b@h/x@y", "https://h/x@y", both("bot", "a@b")),
            ("https://token@h", "https://h", Some(("token", None))),
            ("http://:pw@h/x", "http://h/x", both("", "pw")),
            ("ssh://git@h/x", "ssh://git@h/x", None),
            ("ssh://u:pw@h/x", "ssh://u@h/x", both("u", "pw")),
            ("git@h:x", "git@h:x", None),
            ("https://h/a@b", "https://h/a@b", None),
            ("/srv/a@b", "/srv/a@b", None),
        ];
        for (text, bare, login) in table {
            let url = url(text);
            assert_eq!(url.for_arguments(), bare);
            assert_eq!(url.for_config(), text);
            let expected = login.map(|(user, password)| Login {
                user: user.into(),
                password: password.map(Into::into),
            });
            assert!(url.login() == expected.as_ref(), "{text}");
        }
    }

    #[test]
    fn a_submodule_beside_it_has_the_same_login() {
        let of = |own: &str, other: &str| {
            url(own)
                .sibling(other)
                .map(|sibling| sibling.for_config().to_owned())
        };
        let own = "http://bot:pw@h:80/g/app";
        let expected = Some("http://bot:pw@h:80/g/sub".to_owned());
        assert_eq!(of(own, "http://h:80/g/sub"), expected);
        assert_eq!(of(own, "http://h:8080/g/sub"), None);
        assert_eq!(of(own, "http://other/g/sub"), None);
        assert_eq!(of("http://h/g/app", "http://h/g/sub"), None);
        assert_eq!(
            of("ssh://u:pw@h/a", "ssh://u@h/b"),
            Some("ssh://u:pw@h/b".to_owned())
        );
    }

    #[test]
    fn user_info_is_hidden_in_output() {
        let hidden = url("http://bot:pass%40word@h/x").hidden();
        assert_eq!(
            hidden.apply("to http://bot:pass%40word@h/x as bot:pass@word"),
            "to http://bot:******@h/x as bot:******"
        );
        assert_eq!(url("https://token@h/x").hidden().apply("token"), "******");
        let ssh = url("ssh://git@h/x");
        assert_eq!(ssh.hidden().apply("a git commit"), "a git commit");
        assert_eq!(ssh.hidden_in_clone().apply("a git"), "a ******");
    }

    #[test]
    fn the_same_repository_in_other_words() {
        assert!(url("/r").is_same("file:///r\n"));
        assert!(url("http://u:new@h/R/").is_same("http://u:old@h/r"));
        assert!(!url("http://h/a").is_same("http://h/b"));
    }

    #[test]
    fn other_separate_credentials_are_another_repository() {
        let url = RepositoryUrl::new("http://u:pw@h/r".to_owned(), "http://h/r".to_owned());
        assert_eq!(url.for_display(), "http://h/r");
        assert!(url.is_same("http://u:pw@h/r"));
        assert!(!url.is_same("http://u:old@h/r"));
    }

    #[test]
    fn local_paths_are_told_from_hosts() {
        for local in ["/srv/x", "../x", "./a:b", "x"] {
            assert!(url(local).is_local_path(), "{local}");
        }
        for remote in ["git@h:x/y", "file:///srv/x", "ssh://h/x", "h:x"] {
            assert!(!url(remote).is_local_path(), "{remote}");
        }
    }
}
