//! The page of all releases, and how the pages show an offer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;

use super::machine::tone;
use super::{render, when};
use crate::App;
use crate::answer::Refusal;
use crate::database::DatabaseError;
use crate::releases::offers::EndKind;
use crate::releases::progress::{self, OfferView, ReleaseView};

#[derive(Template)]
#[template(path = "releases.html")]
struct Page {
    releases: Vec<Row>,
}

impl Page {
    fn here(&self) -> &'static str {
        "releases"
    }
}

struct Row {
    id: String,
    version: String,
    build: i64,
    added: String,
    status: Status,
    /// Those under way.
    offers: Vec<Offer>,
    /// Platforms with the components there are for each.
    packages: BTreeMap<String, Vec<&'static str>>,
    keys: BTreeSet<String>,
    /// Packages that nobody has signed.
    unsigned: usize,
    running: usize,
    states: Vec<Count>,
}

/// Whether a release is offered, in a word, and why or to whom.
pub(super) struct Status {
    pub(super) word: &'static str,
    pub(super) tone: &'static str,
    pub(super) line: String,
}

/// Agents whose upgrade has come so far.
pub(super) struct Count {
    pub(super) state: &'static str,
    pub(super) tone: &'static str,
    pub(super) count: usize,
}

pub(super) struct Offer {
    pub(super) id: i64,
    pub(super) to: String,
    pub(super) from_folder: bool,
    pub(super) downgrade: bool,
    pub(super) started: String,
    pub(super) over: String,
    pub(super) stop_at: u8,
    pub(super) asked: i64,
    pub(super) done: i64,
    pub(super) failed: i64,
    /// When and why it ended.
    pub(super) end: Option<String>,
}

pub(super) async fn page(State(app): State<Arc<App>>) -> Result<Response, Refusal> {
    let mut connection = app
        .database
        .readers()
        .acquire()
        .await
        .map_err(DatabaseError::from)?;
    let releases = progress::releases(&mut connection, app.now_ms()).await?;
    let page = Page {
        releases: releases.into_iter().map(row).collect(),
    };
    Ok(render(StatusCode::OK, &page))
}

fn row(view: ReleaseView) -> Row {
    let mut packages: BTreeMap<String, Vec<&'static str>> = BTreeMap::new();
    for package in &view.packages {
        let platform = package.manifest.platform.clone();
        let component = package.manifest.component.as_str();
        packages.entry(platform).or_default().push(component);
    }
    let signatures = view.packages.iter().flat_map(|one| &one.signatures);
    let unsigned = view.packages.iter().filter(|one| one.signatures.is_empty());
    let under_way = view.offers.iter().filter(|one| one.offer.end.is_none());
    Row {
        status: status(&view),
        offers: under_way.map(offer).collect(),
        packages,
        keys: signatures.map(|one| one.key.clone()).collect(),
        unsigned: unsigned.count(),
        running: view.running,
        states: counts(&view),
        added: when(view.release.added_at),
        id: view.release.id,
        version: view.release.version,
        build: view.release.build,
    }
}

pub(super) fn status(view: &ReleaseView) -> Status {
    let last = view.offers.first().and_then(|one| one.offer.end.as_ref());
    let (word, tone) = match last {
        _ if view.is_offered() => ("offered", "good"),
        Some(end) if end.kind == EndKind::Stopped => ("stopped", "bad"),
        _ => ("not offered", "quiet"),
    };
    let line = view.status();
    Status { word, tone, line }
}

pub(super) fn counts(view: &ReleaseView) -> Vec<Count> {
    let counts = view.states.iter().map(|(state, count)| Count {
        state,
        tone: tone(state),
        count: *count,
    });
    counts.collect()
}

pub(super) fn offer(view: &OfferView) -> Offer {
    let OfferView { offer, tally } = view;
    let end = offer.end.as_ref();
    Offer {
        id: offer.id,
        to: offer.target.to_string(),
        from_folder: offer.content.is_some(),
        downgrade: offer.downgrade,
        started: when(offer.started_at),
        over: span(offer.duration_ms / 1000),
        stop_at: offer.stop_at,
        asked: tally.asked,
        done: tally.done,
        failed: tally.failed,
        end: end.map(|end| format!("{}, {}", end.reason, when(end.at))),
    }
}

/// Seconds as they are written in the form.
fn span(seconds: i64) -> String {
    if seconds == 0 {
        return "at once".to_owned();
    }
    let units = [(86_400, "d"), (3600, "h"), (60, "m")];
    let whole = units.iter().find(|(length, _)| seconds % length == 0);
    let (length, unit) = whole.unwrap_or(&(1, "s"));
    format!("{}{unit}", seconds / length)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_span_is_shown_as_it_is_written() {
        for text in ["90s", "30m", "2h", "1d", "36h"] {
            let written = crate::releases::rollout::parse_duration(text).unwrap();
            assert_eq!(super::span(written.as_secs().cast_signed()), text);
        }
        assert_eq!(super::span(0), "at once");
    }
}
