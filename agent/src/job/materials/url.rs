//! URLs of repositories, as Mercurial and Subversion have them.

use percent_encoding::percent_decode_str;

/// Where user and password stand in a URL: before `@` in the part between `//` and the path.
pub(super) fn user_info(url: &str) -> Option<&str> {
    let (_, info, _) = split_at_user_info(url)?;
    Some(info)
}

/// The URL with other user info; `None` takes it away. A URL without a host stays as it is.
pub(super) fn with_user_info(url: &str, info: Option<&str>) -> String {
    let info = info.map(|info| format!("{info}@")).unwrap_or_default();
    if let Some((before, _, after)) = split_at_user_info(url) {
        return format!("{before}{info}{after}");
    }
    match url.split_once("://") {
        Some((scheme, rest)) if !rest.is_empty() && !rest.starts_with('/') => {
            format!("{scheme}://{info}{rest}")
        }
        _ => url.to_owned(),
    }
}

/// The URL without its password.
pub(super) fn without_password(url: &str) -> String {
    match user_info(url).and_then(|info| info.split_once(':')) {
        Some(("", _)) => with_user_info(url, None),
        Some((user, _)) => with_user_info(url, Some(user)),
        None => url.to_owned(),
    }
}

/// User and password of a URL, decoded.
pub(super) fn login(url: &str) -> (String, Option<String>) {
    let info = user_info(url).unwrap_or_default();
    let (user, password) = match info.split_once(':') {
        Some((user, password)) => (user, Some(password)),
        None => (info, None),
    };
    (decoded(user), password.map(decoded))
}

/// How GoCD shows user info in what a program prints: decoded text and what stands for it.
pub(super) fn hidden_user_info(url: &str) -> Option<(String, String)> {
    let info = decoded(user_info(url)?);
    let shown = match info.split_once(':') {
        Some((user, _)) => format!("{user}:******"),
        None => "******".to_owned(),
    };
    Some((info, shown))
}

/// Whether two URLs name the same repository. GoCD: ignoring case, one `/` at the end, `file://`
/// and how characters are encoded.
pub(super) fn is_same(one: &str, other: &str) -> bool {
    comparable(one) == comparable(other)
}

fn comparable(url: &str) -> String {
    let url = url.trim();
    let url = decoded(url.strip_suffix('/').unwrap_or(url)).to_lowercase();
    match url.strip_prefix("file://") {
        Some(path) => path.to_owned(),
        None => url,
    }
}

fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

fn split_at_user_info(url: &str) -> Option<(&str, &str, &str)> {
    let start = url.find("://")? + 3;
    let end = url[start..]
        .find(['/', '?', '#'])
        .map_or(url.len(), |end| start + end);
    let at = start + url[start..end].rfind('@')?;
    Some((&url[..start], &url[start..at], &url[at + 1..]))
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    #[test]
    fn passwords_are_taken_out() {
        for (url, expected) in [
            ("https://u:p@h/x", "https://u@h/x"),
            ("https://u:p@h", "https://u@h"),
            ("https://:p@h/x", "https://h/x"),
            ("https://u@h/x", "https://u@h/x"),
            ("https://u:p@x@h/a@b", "https://u@h/a@b"),
            ("https://h/a:b@c", "https://h/a:b@c"),
            ("/srv/x", "/srv/x"),
            ("host:path", "host:path"),
        ] {
            assert_eq!(without_password(url), expected);
        }
    }

    #[test]
    fn user_info_is_put_in() {
        for (url, expected) in [
            ("https://h:1/x", "https://u:p@h:1/x"),
            ("https://old@h/x", "https://u:p@h/x"),
            ("file:///srv/x", "file:///srv/x"),
            ("/srv/x", "/srv/x"),
        ] {
            assert_eq!(with_user_info(url, Some("u:p")), expected);
        }
        assert_eq!(
            login("http://a%40b:p%3Ax@h"),
            ("a@b".into(), Some("p:x".into()))
        );
        assert_eq!(login("http://h"), (String::new(), None));
    }

    #[test]
    fn the_same_repository_in_other_words() {
        assert!(is_same("/r", "file:///r\n"));
        assert!(is_same("http://h/R%20x/", "http://h/r x"));
        assert!(!is_same("http://h/a", "http://h/b"));
    }
}
