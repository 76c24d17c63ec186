//! The URL of a repository: with its credentials for git, without them for the console.

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

/// The URL that git is given.
#[derive(Debug, Clone)]
pub(super) struct RepositoryUrl {
    argument: UrlArgument,
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
        let url = with_credentials(&material.url.url, user, password.as_ref());
        Self {
            argument: UrlArgument::from(url),
        }
    }

    pub(super) fn for_git(&self) -> &str {
        &self.argument.url
    }

    pub(super) fn for_display(&self) -> String {
        self.argument.for_display()
    }

    /// How the URL and its user info are hidden in what git prints.
    pub(super) fn hidden(&self) -> Hidden {
        let mut replacements = vec![(self.for_git().to_owned(), self.for_display())];
        if let Some(info) = user_info(self.for_git()) {
            let shown = match info.split_once(':') {
                Some((user, _)) => format!("{user}:******"),
                None => "******".to_owned(),
            };
            let decoded = percent_decode_str(info).decode_utf8_lossy().into_owned();
            replacements.push((decoded, shown.clone()));
            replacements.push((info.to_owned(), shown));
        }
        replacements.retain(|(secret, shown)| secret != shown);
        Hidden { replacements }
    }

    /// Whether this is the repository that a checkout came from.
    pub(super) fn is_same(&self, stored: &str) -> bool {
        comparable(&self.for_display())
            == comparable(&UrlArgument::from(stored.trim().to_owned()).for_display())
    }
}

fn comparable(display: &str) -> String {
    let url = display.trim();
    let url = url.strip_suffix('/').unwrap_or(url);
    let url = percent_decode_str(url).decode_utf8_lossy().into_owned();
    let url = url.strip_prefix("file://").unwrap_or(&url);
    url.to_lowercase()
}

fn user_info(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    rest[..end].rsplit_once('@').map(|(info, _)| info)
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
        RepositoryUrl {
            argument: UrlArgument::from(text.to_owned()),
        }
    }

    #[test]
    fn user_info_is_hidden_in_output() {
        let hidden = url("http://bot:pass%40word@h/x").hidden();
        assert_eq!(
            hidden.apply("to http://bot:pass%40word@h/x as bot:pass@word"),
            "to http://bot:******@h/x as bot:******"
        );
        assert_eq!(url("https://token@h/x").hidden().apply("token"), "******");
    }

    #[test]
    fn the_same_repository_in_other_words() {
        assert!(url("/r").is_same("file:///r\n"));
        assert!(url("http://u:new@h/R/").is_same("http://u:old@h/r"));
        assert!(!url("http://h/a").is_same("http://h/b"));
    }
}
