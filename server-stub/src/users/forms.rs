//! The hidden field by which a form shows that it is of a page of ours.
//!
//! The session is in a cookie, which a browser sends with whatever another site makes it send;
//! the field's text is on our pages only.

use std::future::Future;

use memchr::memmem;

use super::{Actor, Means};

/// Name of the hidden field.
pub(super) const FIELD: &str = "csrf";
/// The same for scripts.
pub(super) const HEADER: &str = "X-CSRF-Token";

tokio::task_local! {
    /// Who looks at the page that is being rendered.
    static VIEWER: Actor;
}

/// Runs a request for somebody.
pub(super) async fn viewed_by<T>(actor: Actor, request: impl Future<Output = T>) -> T {
    VIEWER.scope(actor, request).await
}

/// Asks something about who looks; nothing outside of a request.
pub(crate) fn viewing<T>(ask: impl FnOnce(&Actor) -> T) -> Option<T> {
    VIEWER.try_with(ask).ok()
}

/// Whether they have logged in by the form, and so can log out.
pub(crate) fn is_session(actor: &Actor) -> bool {
    matches!(actor.means, Means::Session { .. })
}

/// Puts the field into every form of a rendered page that changes something, so that none can be
/// forgotten. All text in a page is escaped: a `<` begins a tag.
pub(crate) fn with_token(page: String) -> String {
    let token = VIEWER.try_with(|actor| match &actor.means {
        Means::Session { form_token } => Some(form_token.clone()),
        _ => None,
    });
    let Ok(Some(token)) = token else {
        return page;
    };
    let mut done = String::with_capacity(page.len() + 1024);
    let mut rest = page.as_str();
    while let Some(at) = rest.find("<form ") {
        let end = rest[at..].find('>').map_or(rest.len(), |end| at + end + 1);
        let (form, behind) = rest.split_at(end);
        done.push_str(form);
        if form[at..].contains("method=\"post\"") {
            done.push_str(&format!(
                "<input type=\"hidden\" name=\"{FIELD}\" value=\"{token}\">"
            ));
        }
        rest = behind;
    }
    done.push_str(rest);
    done
}

/// The field's text in the body of a form.
pub(super) fn token_in(body: &[u8]) -> Option<String> {
    url::form_urlencoded::parse(body)
        .find_map(|(name, value)| (name == FIELD).then(|| value.into_owned()))
}

/// What the beginning of a multipart form says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FirstPart {
    /// More of it has to be read.
    Unfinished,
    /// The field's text, and where the part behind it begins.
    Token(String, usize),
    Other,
}

/// Looks for the field in the first part of a form that carries files. It has to be the first, so that
/// nothing of a file is read before it.
pub(super) fn first_part(begin: &[u8], boundary: &str) -> FirstPart {
    let line = format!("--{boundary}\r\n");
    let Some(part) = begin.strip_prefix(line.as_bytes()) else {
        let is_beginning = line.as_bytes().starts_with(begin);
        return if is_beginning {
            FirstPart::Unfinished
        } else {
            FirstPart::Other
        };
    };
    let Some(end_of_head) = memmem::find(part, b"\r\n\r\n") else {
        return FirstPart::Unfinished;
    };
    let (head, content) = part.split_at(end_of_head);
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    let is_field = head.split("\r\n").any(|line| {
        let value = line.strip_prefix("content-disposition:");
        let mut parts = value.unwrap_or_default().split(';').map(str::trim);
        parts.next() == Some("form-data")
            && parts
                .any(|part| part == format!("name=\"{FIELD}\"") || part == format!("name={FIELD}"))
    });
    if !is_field {
        return FirstPart::Other;
    }
    let content = &content[b"\r\n\r\n".len()..];
    let Some(end) = memmem::find(content, format!("\r\n--{boundary}").as_bytes()) else {
        return FirstPart::Unfinished;
    };
    let text = String::from_utf8_lossy(&content[..end]).into_owned();
    let next = begin.len() - content.len() + end + b"\r\n".len();
    FirstPart::Token(text, next)
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    #[tokio::test]
    async fn forms_that_change_something_get_the_field() {
        let page = "<p>&#60;form <form method=\"post\" action=\"/x\"><b></form><form role=\"search\"></form><form class=\"i\" method=\"post\">";
        assert_eq!(with_token(page.to_owned()), page);
        let means = Means::Session {
            form_token: "abc".to_owned(),
        };
        let actor = Actor {
            means,
            ..Actor::nobody()
        };
        let got = viewed_by(actor, async { with_token(page.to_owned()) }).await;
        let field = "<input type=\"hidden\" name=\"csrf\" value=\"abc\">";
        let expected = format!(
            "<p>&#60;form <form method=\"post\" action=\"/x\">{field}<b></form><form role=\"search\"></form><form class=\"i\" method=\"post\">{field}"
        );
        assert_eq!(got, expected);
        assert_eq!(token_in(b"a=b&csrf=x%20y").as_deref(), Some("x y"));
        assert_eq!(token_in(b"a=b"), None);
    }

    #[test]
    fn a_form_with_files_begins_with_the_field() {
        let form = |first: &str| {
            format!(
                "--b\r\n{first}\r\n--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"x\"\r\n\r\nabc\r\n--b--\r\n"
            )
        };
        let good = form("content-disposition: form-data; name=\"csrf\"\r\n\r\nsecret");
        let FirstPart::Token(text, next) = first_part(good.as_bytes(), "b") else {
            panic!("{good}");
        };
        assert_eq!(text, "secret");
        assert!(good[next..].starts_with("--b\r\nContent-Disposition: form-data; name=\"file\""));
        // However little has come.
        for length in 0..next + 1 {
            let found = first_part(&good.as_bytes()[..length], "b");
            assert_eq!(found, FirstPart::Unfinished, "{length}");
        }
        for other in [
            form("Content-Disposition: form-data; name=\"other\"\r\n\r\nsecret"),
            form("Content-Disposition: attachment; name=\"csrf\"\r\n\r\nsecret"),
            form("X: name=\"csrf\"\r\n\r\nsecret"),
            "nonsense".to_owned(),
        ] {
            assert_eq!(
                first_part(other.as_bytes(), "b"),
                FirstPart::Other,
                "{other}"
            );
        }
        assert_eq!(first_part(good.as_bytes(), "c"), FirstPart::Other);
    }
}
