//! Pages that jobs have published, with all that belongs to them.
//!
//! Such a page is a stranger's: it runs in a sandbox, as a site of its own, so a browser asks for its
//! styles, images and further pages without the cookie of our session. Whoever asks for one with a
//! session is therefore led to an address with a ticket in it, below which the files of this one job
//! can be read for some hours, and nothing else. A hostile page may give it away: it tells no more
//! than files of the job that has published the page.

use std::sync::Arc;

use axum::extract::{OriginalUri, State};
use axum::response::{IntoResponse as _, Redirect, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use journeyman_protocol::files::encode_path;
use ring::{hmac, rand::SystemRandom};

use super::download_routes::{file, missing, of_job};
use crate::App;
use crate::answer::Refusal;
use crate::hex::hex;
use crate::jobs::Locator;
use crate::users::secret::{self, NoRandomness};

/// How long a ticket is taken, in milliseconds.
const LIFE: i64 = 4 * 60 * 60 * 1000;

/// Makes tickets and knows them again, until the server ends.
pub struct Tickets(hmac::Key);

impl Tickets {
    /// With a key of their own.
    ///
    /// # Errors
    ///
    /// The system gave no random bytes.
    pub fn new() -> Result<Self, NoRandomness> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new());
        key.map(Self).map_err(|_| NoRandomness)
    }

    /// The ticket for a job's files.
    fn issue(&self, job: &Locator, now: i64) -> String {
        let end = now + LIFE;
        format!("{end:x}-{}", self.proof(job, end))
    }

    fn opens(&self, ticket: &str, job: &Locator, now: i64) -> bool {
        let Some((end, proof)) = ticket.split_once('-') else {
            return false;
        };
        let end = i64::from_str_radix(end, 16);
        end.is_ok_and(|end| now < end && secret::same(proof, &self.proof(job, end)))
    }

    fn proof(&self, job: &Locator, end: i64) -> String {
        hex(hmac::sign(&self.0, format!("{end} {job}").as_bytes()).as_ref())
    }
}

/// Whether a file is a page, which runs in the sandbox.
pub(super) fn is_page(segments: &[String]) -> bool {
    let name = segments.last().map(|name| name.to_ascii_lowercase());
    name.is_some_and(|name| name.ends_with(".html") || name.ends_with(".htm"))
}

/// To the address below which a page finds all that belongs to it.
pub(super) fn lead(app: &App, job: &Locator, segments: &[String]) -> Response {
    let ticket = app.report_tickets.issue(job, app.now_ms());
    let file = encode_path(&segments.join("/"));
    Redirect::to(&format!("/go/reports/{ticket}/{job}/{file}")).into_response()
}

/// A file, for whoever has a ticket.
pub(super) async fn show(
    State(app): State<Arc<App>>,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let path = uri
        .path()
        .split_once("/reports/")
        .map_or("", |(_, path)| path);
    let (ticket, path) = path.split_once('/').unwrap_or_default();
    let (locator, segments) = Locator::parse(path)?;
    if !app.report_tickets.opens(ticket, &locator, app.now_ms()) {
        let text =
            "this address of a report is too old: open the report from the page of its job again\n";
        return Err(Refusal::text(StatusCode::FORBIDDEN, text));
    }
    let job = of_job(&app, &locator, &segments).await?;
    let path = app.paths.artifacts(job.id).join(segments.join("/"));
    if segments.is_empty() || !path.is_file() {
        return Err(missing(&segments));
    }
    let mut response = file(&path, &uri, &headers).await?;
    let none = HeaderValue::from_static("no-referrer");
    response.headers_mut().insert(header::REFERRER_POLICY, none);
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_opens_one_job_for_some_time() {
        let tickets = Tickets::new().unwrap();
        let (job, _) = Locator::parse("web/1/build/1/unit/x").unwrap();
        let (other, _) = Locator::parse("web/1/build/1/other/x").unwrap();
        let ticket = tickets.issue(&job, 1000);
        assert!(tickets.opens(&ticket, &job, 1000 + LIFE - 1));
        assert!(!tickets.opens(&ticket, &job, 1000 + LIFE));
        assert!(!tickets.opens(&ticket, &other, 1000));
        assert!(!Tickets::new().unwrap().opens(&ticket, &job, 1000));
        let (_, proof) = ticket.split_once('-').unwrap();
        for forged in [&format!("7fffffffffffff-{proof}"), "", "-", "x-y", proof] {
            assert!(!tickets.opens(forged, &job, 1000), "{forged}");
        }
    }
}
