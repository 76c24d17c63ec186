//! What a form is answered with.

use askama::Template;
use axum::response::{IntoResponse, Redirect, Response};
use http::{HeaderMap, StatusCode, header};

use super::render;

/// A page that says why something was not done.
#[derive(Template)]
#[template(path = "problem.html")]
struct Problem {
    title: String,
    message: String,
    back: String,
}

impl Problem {
    fn here(&self) -> &'static str {
        "pipelines"
    }
}

/// Done: back to the page the form was on.
pub(super) fn done(headers: &HeaderMap, otherwise: &str) -> Response {
    Redirect::to(&origin(headers, otherwise)).into_response()
}

/// Not done, and why.
pub(super) fn refused(
    status: StatusCode,
    title: impl Into<String>,
    message: impl Into<String>,
    back: String,
) -> Response {
    let problem = Problem {
        title: title.into(),
        message: message.into(),
        back,
    };
    render(status, &problem)
}

/// The page of ours that a form was on, with its filter or page number; `otherwise` if the browser
/// does not tell.
pub(super) fn origin(headers: &HeaderMap, otherwise: &str) -> String {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let own = || {
        let (_, rest) = text(header::REFERER)?.split_once("://")?;
        let (host, path) = rest.split_once('/')?;
        let known = ["go/pipeline", "go/agents", "go/compare/", "go/tab/"];
        let is_page = known.iter().any(|begin| path.starts_with(begin));
        (Some(host) == text(header::HOST) && is_page && path.bytes().all(|b| b.is_ascii_graphic()))
            .then(|| format!("/{path}"))
    };
    own().unwrap_or_else(|| otherwise.to_owned())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn only_pages_of_this_server_are_gone_back_to() {
        for (referer, expected) in [
            ("http://h:1/go/pipelines?q=a%20b", "/go/pipelines?q=a%20b"),
            (
                "http://h:1/go/pipeline/activity/web",
                "/go/pipeline/activity/web",
            ),
            ("http://evil/go/pipelines", "/else"),
            ("http://h:1/go/files/web/1/x.html", "/else"),
            ("http://h:1//evil", "/else"),
            ("nonsense", "/else"),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, HeaderValue::from_static("h:1"));
            headers.insert(header::REFERER, HeaderValue::from_static(referer));
            assert_eq!(origin(&headers, "/else"), expected, "{referer}");
        }
        assert_eq!(origin(&HeaderMap::new(), "/else"), "/else");
    }
}
