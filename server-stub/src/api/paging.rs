//! Pages of long lists, as GoCD cuts them: by a cursor, or in old releases by an offset.

use http::StatusCode;
use serde_json::{Value, json};

use super::call::Call;
use crate::answer::Refusal;
use crate::history::{From, Page, Window};

/// Entries of a page when nothing else is asked for.
const SIZE: i64 = 10;

/// The page that a query asks for: `page_size` and one of `after` and `before`.
///
/// # Errors
///
/// 400, as GoCD.
pub(super) fn window(query: Option<&str>) -> Result<Window, Refusal> {
    let mut window = Window {
        size: SIZE,
        from: From::Newest,
    };
    for (name, value) in url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        let number: Option<i64> = value.parse().ok().filter(|number| *number > 0);
        match name.as_ref() {
            "page_size" => {
                let allowed = number.filter(|number| (10..=100).contains(number));
                let text = "The query parameter 'page_size', if specified, must be a number between 10 and 100.";
                window.size = allowed.ok_or_else(|| wrong(text))?;
            }
            "after" | "before" => {
                let text = format!(
                    "The query parameter '{name}', if specified, must be a positive integer."
                );
                let cursor = number.ok_or_else(|| wrong(text))?;
                if window.from != From::Newest {
                    let text =
                        "Only one of the query parameters 'after' and 'before' may be specified.";
                    return Err(wrong(text));
                }
                window.from = match name.as_ref() {
                    "after" => From::After(cursor),
                    _ => From::Before(cursor),
                };
            }
            _ => {}
        }
    }
    Ok(window)
}

/// The same for lists that go in one direction only: the size of the page, and what it follows.
///
/// # Errors
///
/// 400, as GoCD.
pub(super) fn after(query: Option<&str>) -> Result<(i64, Option<i64>), Refusal> {
    let Window { size, from } = window(query)?;
    match from {
        From::After(cursor) => Ok((size, Some(cursor))),
        From::Before(_) => Err(wrong(
            "The query parameter 'before' is not understood here.",
        )),
        From::Newest | From::Offset(_) => Ok((size, None)),
    }
}

/// The page that the last part of an old path asks for.
///
/// # Errors
///
/// 400 for what is no number.
pub(super) fn offset(text: &str) -> Result<Window, Refusal> {
    let offset = text.parse().ok().filter(|offset| *offset >= 0);
    let offset = offset.ok_or_else(|| {
        wrong(format!(
            "The offset '{text}' must be a number of at least 0."
        ))
    })?;
    Ok(Window {
        size: SIZE,
        from: From::Offset(offset),
    })
}

fn wrong(text: impl Into<String>) -> Refusal {
    Refusal::message(StatusCode::BAD_REQUEST, text)
}

/// A page as a document: its entries under `name`, and how to get at the others. `path` is the
/// list's own.
pub(super) fn document<const NEWEST: u32, T>(
    call: &Call<NEWEST>,
    path: &str,
    window: Window,
    name: &str,
    page: &Page<T>,
    show: impl Fn(&T) -> Value,
) -> Value {
    let mut body = serde_json::Map::new();
    // The cursor comes last: a client takes what follows `after=`.
    let size = match window.size {
        SIZE => String::new(),
        size => format!("page_size={size}&"),
    };
    let mut links = serde_json::Map::new();
    if !matches!(window.from, From::Offset(_)) {
        for (link, parameter, cursor) in [
            ("next", "after", page.older),
            ("previous", "before", page.newer),
        ] {
            if let Some(cursor) = cursor {
                let url = call.url(&format!("{path}?{size}{parameter}={cursor}"));
                links.insert(link.to_owned(), json!({ "href": url }));
            }
        }
    }
    if !links.is_empty() {
        body.insert("_links".to_owned(), Value::Object(links));
    }
    body.insert(name.to_owned(), page.items.iter().map(show).collect());
    // Clients of old releases look for it on the first page as well.
    let offset = match window.from {
        From::Newest => Some(0),
        From::Offset(offset) => Some(offset),
        From::After(_) | From::Before(_) => None,
    };
    if let (Some(offset), Some(total)) = (offset, page.total) {
        let pagination = json!({ "offset": offset, "total": total, "page_size": window.size });
        body.insert("pagination".to_owned(), pagination);
    }
    Value::Object(body)
}
