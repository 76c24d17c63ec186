//! What keeps other sites out of the forms, and scripts out of the pages.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

/// Only what the server itself serves is loaded, and no other site may frame a page.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; \
                      img-src 'self' data:; frame-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// Refuses writes that another site's page has sent, and sends the pages' safety headers.
///
/// What is kept out is a foreign page that makes its reader's browser write here: with the password
/// that the browser remembers, or where there is no login. (A session's forms hold a text of their
/// own besides.) A browser says where a request comes from; a tool that
/// says nothing is no browser.
pub(crate) async fn guard(request: Request, next: Next) -> Response {
    if request.method() != Method::GET && !is_own(request.headers()) {
        let text = "This form was sent by another site and has had no effect.\n";
        return (StatusCode::FORBIDDEN, text).into_response();
    }
    let known = request.headers().get(header::IF_NONE_MATCH).cloned();
    let mut response = next.run(request).await;
    let tag = response.headers().get(header::ETAG).cloned();
    if let Some(tag) = tag
        && response.status() == StatusCode::OK
        && known.as_ref() == Some(&tag)
    {
        response = (StatusCode::NOT_MODIFIED, [(header::ETAG, tag)]).into_response();
    }
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    response
}

fn is_own(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if headers.contains_key("sec-fetch-site") {
        return text("sec-fetch-site") == Some("same-origin") && !is_from_artifact(headers);
    }
    match (text("origin"), text("host")) {
        (Some(origin), Some(host)) => {
            origin.split_once("://").is_some_and(|(_, own)| own == host)
                && !is_from_artifact(headers)
        }
        (Some(_), None) => false,
        (None, _) => !is_from_artifact(headers),
    }
}

/// A page that a job published has this server's origin, but is not ours.
pub(crate) fn is_from_artifact(headers: &HeaderMap) -> bool {
    let referer = headers
        .get(header::REFERER)
        .and_then(|value| value.to_str().ok());
    let path = referer.and_then(|url| url.split_once("://")?.1.split_once('/'));
    path.is_some_and(|(_, path)| path.starts_with("go/files/") || path.starts_with("go/reports/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_own_forms_count() {
        let table: [(&[(&str, &str)], bool); 8] = [
            (&[("host", "h:1")], true),
            (&[("host", "h:1"), ("origin", "http://h:1")], true),
            (&[("host", "h:1"), ("origin", "http://evil")], false),
            (&[("host", "h:1"), ("origin", "null")], false),
            (&[("host", "h:1"), ("sec-fetch-site", "same-origin")], true),
            (&[("host", "h:1"), ("sec-fetch-site", "cross-site")], false),
            (&[("host", "h:1"), ("sec-fetch-site", "same-site")], false),
            (
                &[
                    ("host", "h:1"),
                    ("origin", "http://h:1"),
                    ("referer", "http://h:1/go/files/p/1/x"),
                ],
                false,
            ),
        ];
        for (given, expected) in table {
            let mut headers = HeaderMap::new();
            for (name, value) in given {
                headers.insert(
                    http::HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                );
            }
            assert_eq!(is_own(&headers), expected, "{given:?}");
        }
    }
}
