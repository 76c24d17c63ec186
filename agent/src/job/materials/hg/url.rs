//! The URL of a Mercurial repository: for `hg`, for the console, and for comparing.

use journeyman_protocol::{
    material::{HgMaterial, UrlArgument},
    secret::Secret,
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::job::materials::{scm::Hidden, url};

/// What Apache's `URIBuilder`, which GoCD puts credentials in with, leaves as it is. It leaves
/// colons too, which only makes the end of the user's name uncertain.
const NOT_IN_USER_INFO: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'_')
    .remove(b'-')
    .remove(b'.')
    .remove(b'*')
    .remove(b'!')
    .remove(b'~')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b',')
    .remove(b';')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b'=');

/// The repository of one material.
pub(super) struct HgUrl {
    /// As configured.
    original: String,
    /// What GoCD gives to `hg`: user and password in it.
    full: String,
    /// What we give to `hg`: without the password.
    pub(super) for_hg: String,
    /// User and password, if there are both.
    pub(super) login: Option<(String, Secret)>,
}

impl HgUrl {
    pub(super) fn of(material: &HgMaterial) -> Self {
        let original = material.url.url.clone();
        let user = material.scm.user_name.clone().unwrap_or_default();
        let password = material
            .scm
            .resolved_password()
            .map(|password| password.expose().to_owned())
            .unwrap_or_default();
        let encode = |text: &str| utf8_percent_encode(text, NOT_IN_USER_INFO).to_string();
        let full = match (user.trim().is_empty(), password.trim().is_empty()) {
            (true, true) => original.clone(),
            (false, true) => url::with_user_info(&original, Some(&encode(&user))),
            (_, false) => {
                let info = format!("{}:{}", encode(&user), encode(&password));
                url::with_user_info(&original, Some(&info))
            }
        };
        let (user, password) = url::login(&full);
        Self {
            for_hg: url::without_password(&full),
            login: password
                .filter(|password| !user.is_empty() && !password.is_empty())
                .map(|password| (user, password.into())),
            full,
            original,
        }
    }

    /// GoCD: `#`, which names a branch, is shown as `##`, and either may be configured.
    pub(super) fn for_display(&self) -> String {
        let sanitized = self.original.replace("##", "#");
        UrlArgument::from(sanitized)
            .for_display()
            .replace('#', "##")
    }

    /// The branch that the URL names behind `#` or `##`.
    pub(super) fn branch(&self) -> Option<&str> {
        self.original
            .split('#')
            .filter(|part| !part.is_empty())
            .nth(1)
    }

    /// Whether this is the repository that a checkout came from. GoCD: passwords do not count,
    /// users do, and those given apart from the URL are not looked at.
    pub(super) fn is_same(&self, stored: &str) -> bool {
        url::is_same(
            &default_remote(&self.original),
            &default_remote(stored.trim()),
        )
    }

    /// How the URL is hidden in what `hg` prints. GoCD hides its user info where the URL is an
    /// argument of its own.
    pub(super) fn hidden(&self, is_argument: bool) -> Hidden {
        let mut gocd = Hidden::default();
        if is_argument {
            gocd.replacements.extend(url::hidden_user_info(&self.full));
        }
        gocd.replacements
            .push((self.full.clone(), self.for_display()));
        let mut hidden = Hidden::default();
        if self.for_hg != self.full {
            // GoCD's `hg` knows the password and hides it in its own way in this one line.
            if let Some(user) = url::user_info(&self.for_hg) {
                let shown = url::with_user_info(&self.for_hg, Some(&format!("{user}:***")));
                hidden.replacements.push((
                    format!("pulling from {}", self.for_hg),
                    format!("pulling from {shown}"),
                ));
            }
            // Whatever else has our URL would have the full one there.
            hidden
                .replacements
                .push((self.for_hg.clone(), gocd.apply(&self.full)));
        }
        hidden.replacements.extend(gocd.replacements);
        hidden
    }
}

fn default_remote(url: &str) -> String {
    url::without_password(&url.replace("##", "#"))
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    fn material(url: &str, user: Option<&str>, password: Option<&str>) -> HgUrl {
        let mut material = HgMaterial::default();
        material.url.url = url.to_owned();
        material.scm.user_name = user.map(str::to_owned);
        material.scm.password = password.map(Secret::from);
        HgUrl::of(&material)
    }

    #[test]
    fn credentials_are_put_in_as_gocd_does_and_the_password_is_kept_back() {
        let url = material("https://h/r", Some("bob@example.com"), Some("p@ss w:rd"));
        assert_eq!(url.full, "https://bob%40example.com:p%40ss%20w%3Ard@h/r");
        assert_eq!(url.for_hg, "https://bob%40example.com@h/r");
        let (user, password) = url.login.unwrap();
        assert_eq!(
            (user.as_str(), password.expose()),
            ("bob@example.com", "p@ss w:rd")
        );

        let url = material("https://u:p%40x@h/r", None, None);
        assert_eq!(url.for_hg, "https://u@h/r");
        assert_eq!(url.login.unwrap().1.expose(), "p@x");

        assert!(material("https://u@h/r", None, None).login.is_none());
        assert_eq!(material("/srv/r", Some("u"), Some("p")).full, "/srv/r");
    }

    #[test]
    fn shown_as_gocd_shows_it() {
        let table = [
            (
                "http://user:pwd@url##branch",
                "http://user:******@url##branch",
            ),
            ("http://url#branch", "http://url##branch"),
            ("/tmp/x", "/tmp/x"),
        ];
        for (url, expected) in table {
            assert_eq!(material(url, None, None).for_display(), expected);
        }
        assert_eq!(material("http://url##b", None, None).branch(), Some("b"));
        assert_eq!(material("http://url#b", None, None).branch(), Some("b"));
        assert_eq!(material("http://url", None, None).branch(), None);
    }

    #[test]
    fn what_hg_prints_looks_as_if_it_had_the_full_url() {
        let url = material("https://hguser:hgpass1@h/repo", None, None);
        assert_eq!(
            url.hidden(true).apply("<https://hguser@h/repo>"),
            "<https://hguser:******@h/repo>"
        );
        assert_eq!(
            url.hidden(false)
                .apply("pulling from https://hguser@h/repo"),
            "pulling from https://hguser:***@h/repo"
        );
        let apart = material("https://h/repo", Some("u"), Some("pass1"));
        assert_eq!(
            apart.hidden(true).apply("<https://u@h/repo>"),
            "<https://u:******@h/repo>"
        );
        assert_eq!(
            apart
                .hidden(false)
                .apply("<paths.default=https://u@h/repo>"),
            "<paths.default=https://h/repo>"
        );
        let lone = material("https://token@h/repo", None, None);
        assert_eq!(
            lone.hidden(false)
                .apply("pulling from https://token@h/repo"),
            "pulling from https://******@h/repo"
        );
    }

    #[test]
    fn passwords_do_not_make_another_repository() {
        let url = material("http://user:pwd@domain:9999/path", None, None);
        assert!(url.is_same("http://user@domain:9999/path\n"));
        assert!(!url.is_same("http://other:pwd@domain:9999/path"));
        assert!(material("file:///r", None, None).is_same("/r"));
    }
}
