//! The Atom feed of a pipeline's stages that have ended.

use axum::extract::{Path, RawQuery};
use axum::response::Response;
use http::StatusCode;
use journeyman_protocol::material::Material;
use sqlx::SqliteConnection;

use super::super::cctray::moment;
use super::super::instances::must_exist;
use super::super::xml::{Element, element};
use super::{AnyCall, FEED, link_to_self};
use crate::answer::Refusal;
use crate::database::DatabaseError;
use crate::scheduling::run::{self, Run, StageRow};

/// Runs on a page, whole ones: the next page begins with the run before them.
const RUNS: i64 = 25;

const RELATION: &str = "http://www.thoughtworks-studios.com/ns/relations/go/pipeline";
const CATEGORIES: &str = "http://www.thoughtworks-studios.com/ns/categories/go";
const GO_XML: &str = "application/vnd.go+xml";
const HTML: &str = "text/html";

pub(super) async fn feed(
    call: AnyCall,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    let before = before(query.as_deref().unwrap_or_default())?;
    let mut connection = call.reader().await?;
    must_exist(&mut connection, &name).await?;
    let mut runs = run::runs_of(&mut connection, &name, before, RUNS + 1).await?;
    let more = i64::try_from(runs.len()).is_ok_and(|count| count > RUNS);
    runs.truncate(usize::try_from(RUNS).unwrap_or(usize::MAX));
    let ended = ended(&mut connection, &runs).await?;
    let own = call.url(&format!("{FEED}/{name}/stages.xml"));
    let updated = ended.first().and_then(|(_, row)| row.completed_at);
    let mut document = element("feed")
        .with("xmlns", "http://www.w3.org/2005/Atom")
        .child(element("title").text(&name))
        .child(element("id").text(&own))
        .child(element("author").child(element("name").text("Go")))
        .child(element("updated").text(moment(updated.unwrap_or_default())))
        .child(link_to_self(own.clone()));
    if let (true, Some(last)) = (more, runs.last()) {
        let next = format!("{own}?before={}", last.counter);
        document = document.child(element("link").with("rel", "next").with("href", next));
    }
    let entries = ended.iter().map(|(run, row)| entry(&call, run, row));
    document.children(entries).answer()
}

fn before(query: &str) -> Result<Option<i64>, Refusal> {
    let mut fields = url::form_urlencoded::parse(query.as_bytes());
    let Some((_, value)) = fields.find(|(name, _)| name == "before") else {
        return Ok(None);
    };
    let counter = value.parse().ok().filter(|counter| *counter > 0);
    let text = "The query parameter 'before', if specified, must be a positive integer.";
    let counter = counter.ok_or_else(|| Refusal::message(StatusCode::BAD_REQUEST, text))?;
    Ok(Some(counter))
}

/// The stages of some runs that have ended, newest first.
async fn ended<'r>(
    connection: &mut SqliteConnection,
    runs: &'r [Run],
) -> Result<Vec<(&'r Run, StageRow)>, DatabaseError> {
    let ids: Vec<i64> = runs.iter().map(|run| run.id).collect();
    let rows: Vec<StageRow> = sqlx::query_as(
        "SELECT * FROM stages WHERE run_id IN (SELECT value FROM json_each($1)) \
         AND completed_at IS NOT NULL ORDER BY completed_at DESC, id DESC",
    )
    .bind(crate::scheduling::view::id_list(&ids))
    .fetch_all(connection)
    .await?;
    let with_run = rows.into_iter().filter_map(|row| {
        let run = runs.iter().find(|run| run.id == row.run_id)?;
        Some((run, row))
    });
    Ok(with_run.collect())
}

fn entry(call: &AnyCall, run: &Run, row: &StageRow) -> Element {
    let locator = format!("{}/{}", run.pipeline, run.counter);
    let stage = format!("{locator}/{}/{}", row.name, row.counter);
    let page = call.url(&format!("/pipelines/{stage}"));
    let title = format!(
        "{}({}) stage {}({}) {}",
        run.pipeline, run.counter, row.name, row.counter, row.state
    );
    let link = |relation: &str, url: String, title: String, media_type: &str| {
        element("link")
            .with("title", title)
            .with("href", url)
            .with("rel", relation)
            .with("type", media_type)
    };
    let run_name = format!("{} Pipeline Detail", run.pipeline);
    let stage_name = format!("{} Stage Detail", row.name);
    let run_page = call.url(&format!("/pipelines/value_stream_map/{locator}"));
    let links = [
        link(
            "alternate",
            call.url(&format!("{FEED}/{stage}.xml")),
            stage_name.clone(),
            GO_XML,
        ),
        link("alternate", page.clone(), stage_name, HTML),
        link(
            RELATION,
            call.url(&format!("{FEED}/{locator}.xml")),
            run_name.clone(),
            GO_XML,
        ),
        link(RELATION, run_page, run_name, HTML),
    ];
    let result = row.state.to_lowercase();
    let categories = [
        ("stage", "Stage"),
        ("completed", "Completed"),
        (result.as_str(), row.state.as_str()),
    ];
    let categories = categories.map(|(term, label)| {
        element("category")
            .with("scheme", CATEGORIES)
            .with("term", term)
            .with("label", label)
    });
    element("entry")
        .child(element("title").text(title))
        .child(element("updated").text(moment(row.completed_at.unwrap_or_default())))
        .child(element("id").text(page))
        .children(authors(run))
        .children(links)
        .children(categories)
}

/// Whose changes are in a run.
fn authors(run: &Run) -> Vec<Element> {
    let mut known: Vec<(String, String)> = Vec::new();
    let revisions = run.revisions.revisions.iter();
    let commits = revisions.filter(|one| !matches!(one.material, Material::DependencyMaterial(_)));
    for commit in commits.flat_map(|one| &one.modifications) {
        let user = commit.user_name.as_deref().unwrap_or_default();
        let (name, address) = match user.split_once('<') {
            Some((name, address)) => (name.trim(), address.trim_end_matches('>')),
            None => (user, commit.email_address.as_deref().unwrap_or_default()),
        };
        let author = (name.to_owned(), address.to_owned());
        if !known.contains(&author) {
            known.push(author);
        }
    }
    let authors = known.into_iter().map(|(name, address)| {
        let author = element("author").child(element("name").text(name));
        match address.as_str() {
            "" => author,
            address => author.child(element("email").text(address)),
        }
    });
    authors.collect()
}
