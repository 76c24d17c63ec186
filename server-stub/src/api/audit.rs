//! `/api/journeyman/audit`: who changed what.

use std::sync::Arc;

use axum::Router;
use axum::extract::RawQuery;
use axum::response::Response;
use axum::routing::get;
use serde_json::json;

use super::call::Call;
use super::paging;
use crate::App;
use crate::answer::Refusal;
use crate::users::audit;

const PATH: &str = "/api/journeyman/audit";

pub(super) fn router() -> Router<Arc<App>> {
    Router::new().route(PATH, get(list))
}

async fn list(call: Call<1>, RawQuery(query): RawQuery) -> Result<Response, Refusal> {
    let (size, after) = paging::after(query.as_deref())?;
    let mut connection = call.reader().await?;
    let mut entries = audit::list(&mut connection, after, size + 1).await?;
    let more = i64::try_from(entries.len()).is_ok_and(|count| count > size);
    entries.truncate(usize::try_from(size).unwrap_or(10));
    let mut body = json!({ "entries": entries });
    if let (true, Some(last)) = (more, entries.last()) {
        let next = call.url(&format!("{PATH}?page_size={size}&after={}", last.id));
        body["_links"] = json!({ "next": { "href": next } });
    }
    Ok(call.answer(&body))
}
