//! `/api/admin/journeyman/releases`, which GoCD does not have.

use std::sync::Arc;

use axum::Router;
use axum::extract::Path;
use axum::response::Response;
use axum::routing::{get, post, put};
use http::StatusCode;
use journeyman_protocol::release::{Build, Signatures};
use serde_json::{Value, json};

use super::body::Body;
use super::call::{Call as Versioned, invalid, not_found};
use crate::App;
use crate::answer::Refusal;
use crate::releases::offers::{self, Asked, OfferError, Wanted};
use crate::releases::progress::{self, MachineView, OfferView, Progress, ReleaseView};
use crate::releases::store::{self, Added, Package, StoreError};
use crate::users::audit;

pub(super) type Call = Versioned<1>;

pub(super) const ROOT: &str = "/api/admin/journeyman/releases";

pub(super) fn router() -> Router<Arc<App>> {
    Router::new()
        .route(ROOT, get(list))
        .route(&format!("{ROOT}/{{id}}"), get(one).delete(delete))
        .route(&format!("{ROOT}/{{id}}/offers"), post(offer))
        .route(&format!("{ROOT}/{{id}}/withdraw"), post(withdraw))
        .route(&format!("{ROOT}/packages/{{sha256}}/signatures"), put(sign))
}

async fn list(call: Call) -> Result<Response, Refusal> {
    let mut connection = call.reader().await?;
    let releases = progress::releases(&mut connection, call.app.now_ms()).await?;
    let shown: Vec<Value> = releases.iter().map(|one| show(&call, one)).collect();
    Ok(call.answer(&json!({
        "_links": { "self": { "href": call.url(ROOT) } },
        "_embedded": { "releases": shown },
    })))
}

async fn one(call: Call, Path(id): Path<String>) -> Result<Response, Refusal> {
    let mut connection = call.reader().await?;
    let release = progress::release(&mut connection, &id, call.app.now_ms()).await?;
    let release = release.ok_or_else(|| not_found("Release", "id", &id))?;
    let mut shown = show(&call, &release);
    let machines = release.machines.iter().map(|(agent, machine)| {
        let mut shown = show_machine(machine);
        shown["uuid"] = json!(agent.uuid);
        shown["hostname"] = json!(agent.hostname);
        shown
    });
    shown["machines"] = machines.collect();
    Ok(call.answer(&shown))
}

async fn delete(call: Call, Path(id): Path<String>) -> Result<Response, Refusal> {
    store::delete(&call.app, &id).await.map_err(store_refusal)?;
    Ok(call.message(format!("Release {id} was deleted.")))
}

async fn sign(call: Call, Path(sha256): Path<String>, body: Body) -> Result<Response, Refusal> {
    let signatures: Signatures = serde_json::from_value(body.into_value())
        .map_err(|error| invalid(format!("The signatures cannot be read: {error}.")))?;
    let added = store::sign(&call.app, &sha256, signatures.signatures)
        .await
        .map_err(store_refusal)?;
    Ok(call.answer(&show_added(&added)))
}

async fn offer(call: Call, Path(id): Path<String>, body: Body) -> Result<Response, Refusal> {
    audit::detail(body.to_string());
    let asked = Asked {
        to: body.text("to")?,
        over: body.text("over")?,
        downgrade: body.flag("downgrade")?.unwrap_or(false),
        stop_at: body.text("stop_at")?,
    };
    let wanted = Wanted::parse(&id, asked).map_err(offer_refusal)?;
    let (offer, warnings) = offers::offer(&call.app, &wanted)
        .await
        .map_err(offer_refusal)?;
    let view = OfferView {
        offer,
        tally: offers::Tally::default(),
    };
    let body = json!({
        "message": format!("Release {id} is offered to {}.", wanted.target),
        "warnings": warnings,
        "offer": show_offer(&view),
    });
    Ok(call.answer_with(StatusCode::CREATED, &body))
}

async fn withdraw(call: Call, Path(id): Path<String>, body: Body) -> Result<Response, Refusal> {
    audit::detail(body.to_string());
    let one = body.number("offer")?;
    let ended = offers::withdraw(&call.app, &id, one)
        .await
        .map_err(offer_refusal)?;
    Ok(call.message(format!(
        "Ended {ended} offer(s) of release {id}; machines that run it go on with it."
    )))
}

fn show(call: &Call, view: &ReleaseView) -> Value {
    let release = &view.release;
    json!({
        "_links": { "self": { "href": call.url(&format!("{ROOT}/{}", release.id)) } },
        "id": release.id,
        "version": release.version,
        "build": release.build,
        "added_at": release.added_at,
        "offered": view.is_offered(),
        "status": view.status(),
        "running": view.running,
        "states": view.states,
        "packages": view.packages.iter().map(show_package).collect::<Vec<_>>(),
        "offers": view.offers.iter().map(show_offer).collect::<Vec<_>>(),
    })
}

fn show_package(package: &Package) -> Value {
    let keys = package.signatures.iter().map(|signature| &signature.key);
    json!({
        "component": package.manifest.component,
        "platform": package.manifest.platform,
        "size": package.size,
        "sha256": package.sha256,
        "signed_by": keys.collect::<Vec<_>>(),
        "from_folder": package.from_folder,
    })
}

fn show_offer(view: &OfferView) -> Value {
    let offer = &view.offer;
    json!({
        "id": offer.id,
        "to": offer.target.to_string(),
        "from_folder": offer.content.is_some(),
        "over_seconds": offer.duration_ms / 1000,
        "downgrade": offer.downgrade,
        "stop_at_percent": offer.stop_at,
        "started_at": offer.started_at,
        "ended_at": offer.end.as_ref().map(|end| end.at),
        "end": offer.end.as_ref().map(|end| end.kind.as_str()),
        "end_reason": offer.end.as_ref().map(|end| end.reason.as_str()),
        "asked": view.tally.asked,
        "done": view.tally.done,
        "failed": view.tally.failed,
    })
}

/// What a machine says of releases, and what the server has for it.
pub(super) fn show_machine(machine: &MachineView) -> Value {
    let bad = machine.bad.iter().map(|bad| {
        json!({
            "component": bad.component,
            "build": show_build(&bad.build),
            "reason": bad.reason,
        })
    });
    json!({
        "platform": machine.platform,
        "launcher": machine.launcher.as_ref().map(show_build),
        "agent": machine.agent.as_ref().map(show_build),
        "previous": machine.previous.as_ref().map(show_build),
        "bootstrapper": machine.bootstrapper,
        "newer_bootstrapper": machine.newer_bootstrapper,
        "upgrade": machine.progress.as_ref().map(show_progress),
        "bad": bad.collect::<Vec<_>>(),
        "set_aside": machine.set_aside,
        "reported_at": machine.reported_at,
    })
}

fn show_progress(progress: &Progress) -> Value {
    json!({
        "state": progress.state.as_str(),
        "release": progress.release,
        "component": progress.component,
        "to": show_build(&progress.to),
        "reason": progress.reason,
        "at": progress.at,
    })
}

fn show_build(build: &Build) -> Value {
    json!({
        "release": progress::release_of(build),
        "version": build.version,
        "build": build.build,
        "sha256": build.sha256,
    })
}

pub(super) fn show_added(added: &Added) -> Value {
    let mut shown = show_package(&added.package);
    shown["release"] = json!(added.package.release);
    shown["changed"] = json!(added.changed);
    shown
}

pub(super) fn store_refusal(error: StoreError) -> Refusal {
    let status = match &error {
        StoreError::Database(_) | StoreError::File { .. } => {
            return Refusal::internal("change the stored releases", &error);
        }
        StoreError::UnknownRelease(_) | StoreError::UnknownPackage(_) => StatusCode::NOT_FOUND,
        StoreError::Conflict { .. } | StoreError::Offered(_) | StoreError::InFolder { .. } => {
            StatusCode::CONFLICT
        }
        StoreError::Manifest(_) | StoreError::Signature(_) => StatusCode::UNPROCESSABLE_ENTITY,
    };
    Refusal::message(status, error.to_string())
}

fn offer_refusal(error: OfferError) -> Refusal {
    let status = match &error {
        OfferError::Database(_) => return Refusal::internal("change an offer", &error),
        OfferError::UnknownRelease(_) => StatusCode::NOT_FOUND,
        OfferError::NotOffered(_) | OfferError::UnknownOffer { .. } => StatusCode::CONFLICT,
        OfferError::Incomplete { .. }
        | OfferError::Target(_)
        | OfferError::Over(_)
        | OfferError::StopAt(_)
        | OfferError::TooLong => StatusCode::UNPROCESSABLE_ENTITY,
    };
    Refusal::message(status, error.to_string())
}
