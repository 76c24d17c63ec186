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

/// Where the repository is, the same for all ways to write it: with or without scheme, user, port
/// and `.git`, as an address or in ssh's short form.
#[must_use]
pub fn place(url: &str) -> String {
    let url = url.trim();
    let (host, path) = match url.split_once("://") {
        Some((_, rest)) => {
            let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
            let path = path.split(['?', '#']).next().unwrap_or_default();
            let host = authority
                .rsplit_once('@')
                .map_or(authority, |(_, host)| host);
            let port = host
                .rsplit_once(':')
                .filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
            (port.map_or(host, |(host, _)| host), path)
        }
        None => match url.split_once(':') {
            // ssh: a colon before any slash.
            Some((host, path)) if !host.contains('/') => {
                (host.rsplit_once('@').map_or(host, |(_, host)| host), path)
            }
            _ => ("", url),
        },
    };
    let path = path.trim_matches('/');
    let path = path.strip_suffix(".git").unwrap_or(path);
    format!("{host}/{}", path.trim_end_matches('/')).to_lowercase()
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
    fn a_repository_is_the_same_however_its_address_is_written() {
        let same = [
            "https://git.example/Team/app.git",
            "https://git.example/team/app",
            "https://git.example/team/app/",
            "http://user:p%40ss@git.example:8443/team/app.git",
            "ssh://git@git.example/team/app.git",
            "ssh://git@git.example:2222/team/app.git",
            "git@git.example:team/app.git",
            "git.example:/team/app",
            "git://git.example/team/app.git",
        ];
        for url in same {
            assert_eq!(place(url), "git.example/team/app", "{url}");
        }
        let others = [
            ("https://git.example/team/app2", "git.example/team/app2"),
            ("https://other.example/team/app", "other.example/team/app"),
            ("/srv/git/app.git", "/srv/git/app"),
            ("file:///srv/git/app.git", "/srv/git/app"),
            ("https://git.example", "git.example/"),
            ("", "/"),
        ];
        for (url, expected) in others {
            assert_eq!(place(url), expected, "{url}");
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
