//! Addresses of repositories, which may carry a password.

/// The address without user and password, as GoCD shows it and puts it into
/// `GO_MATERIAL_URL`: `ssh://git@host/x` loses its user as well, the short form `git@host:x`
/// is left as it is.
#[must_use]
pub fn without_credentials(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    match authority.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://{host}{path}"),
        None => url.to_owned(),
    }
}

/// Whether the address itself names a user or a password.
#[must_use]
pub fn has_credentials(url: &str) -> bool {
    without_credentials(url) != url
}

/// User and password out of the address, percent-decoded.
#[must_use]
pub fn credentials(url: &str) -> Option<(String, Option<String>)> {
    let parsed = url::Url::parse(url).ok()?;
    let decode = |text: &str| {
        percent_encoding::percent_decode_str(text)
            .decode_utf8_lossy()
            .into_owned()
    };
    if parsed.username().is_empty() && parsed.password().is_none() {
        return None;
    }
    Some((decode(parsed.username()), parsed.password().map(decode)))
}

/// The address with a user and a password put in, for a repository that is stored as one text.
#[must_use]
pub fn with_credentials(url: &str, user: &str, password: Option<&str>) -> Option<String> {
    let mut parsed = url::Url::parse(url).ok()?;
    parsed.set_username(user).ok()?;
    parsed.set_password(password).ok()?;
    Some(parsed.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_password_are_taken_off() {
        let table = [
            ("https://u:p@git.example/x.git", "https://git.example/x.git"),
            ("ssh://git@git.example/x", "ssh://git.example/x"),
            ("git@git.example:x", "git@git.example:x"),
            ("/srv/git/x", "/srv/git/x"),
            ("https://git.example/a@b", "https://git.example/a@b"),
            ("file:///srv/git/x", "file:///srv/git/x"),
        ];
        for (given, expected) in table {
            assert_eq!(without_credentials(given), expected);
        }
    }

    #[test]
    fn a_password_survives_the_way_in_and_out() {
        let url = with_credentials("https://git.example/x", "ci", Some("p@ss:w/rd")).unwrap();
        assert_eq!(
            credentials(&url),
            Some(("ci".into(), Some("p@ss:w/rd".into())))
        );
    }
}
