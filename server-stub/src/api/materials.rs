//! What pipelines are built from: `/api/config/materials`, version 2, and what was seen of it.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, RawQuery};
use axum::response::Response;
use axum::routing::get;
use serde_json::{Value, json};

use super::call::{Call as Versioned, not_found};
use super::{definitions, paging};
use crate::App;
use crate::answer::Refusal;
use crate::history::{From, Page};
use crate::materials::{self, Cursor, InUse, Kind};
use crate::pipelines::definition::Material;
use crate::users::Actor;

type Call = Versioned<2>;

const ROOT: &str = "/api/config/materials";

pub(super) fn router() -> Router<Arc<App>> {
    Router::new()
        .route(ROOT, get(list))
        // Of old releases.
        .route("/api/materials", get(list))
        .route(
            "/api/materials/{fingerprint}/modifications",
            get(modifications),
        )
}

fn sees(actor: &Actor, material: &InUse) -> bool {
    let mut pipelines = material.pipelines.iter();
    pipelines.any(|(_, group)| actor.sees(group))
}

async fn list(call: Call, actor: Actor) -> Result<Response, Refusal> {
    let mut connection = call.reader().await?;
    let all = materials::list(&mut connection).await?;
    let mut shown = Vec::new();
    for one in all.iter().filter(|one| sees(&actor, one)) {
        let material = match &one.kind {
            Kind::Git(git) => Material::Git(git.clone()),
            Kind::Dependency(upstream) => Material::Dependency(upstream.clone()),
        };
        let mut material = definitions::material(&call.app.cipher, &material)?;
        // Whoever sees the pipeline sees this, and no secret, encrypted or not.
        if let Some(attributes) = material["attributes"].as_object_mut() {
            attributes.remove("encrypted_password");
        }
        material["fingerprint"] = json!(one.fingerprint);
        shown.push(material);
    }
    Ok(call.answer_tagged(&json!({
        "_links": call.links(ROOT, "materials", None),
        "_embedded": { "materials": shown },
    })))
}

async fn modifications(
    call: Call,
    actor: Actor,
    Path(fingerprint): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    let window = paging::window(query.as_deref())?;
    let mut connection = call.reader().await?;
    let all = materials::list(&mut connection).await?;
    let mut all = all.iter().filter(|one| sees(&actor, one));
    if !all.any(|one| one.fingerprint == fingerprint) {
        return Err(not_found("Material", "fingerprint", &fingerprint));
    }
    let cursor = match window.from {
        From::Newest | From::Offset(_) => Cursor::Start,
        From::After(position) => Cursor::After(position),
        From::Before(position) => Cursor::Before(position),
    };
    let seen = materials::modifications(&mut connection, &fingerprint, cursor, window.size).await?;
    let (items, newer, older) = match seen {
        Some(page) => (page.items, page.newer, page.older),
        None => (Vec::new(), false, false),
    };
    let page = Page {
        older: items.last().filter(|_| older).map(|one| one.position),
        newer: items.first().filter(|_| newer).map(|one| one.position),
        items,
        total: None,
    };
    let path = format!("/api/materials/{fingerprint}/modifications");
    let body = paging::document(&call, &path, window, "modifications", &page, show);
    Ok(call.answer(&body))
}

fn show(one: &materials::Modification) -> Value {
    json!({
        "revision": one.revision,
        "user_name": one.user_name,
        "email_address": one.email,
        "modified_time": one.modified_at,
        "comment": one.comment,
    })
}
