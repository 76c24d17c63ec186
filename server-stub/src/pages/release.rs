//! The page of one release: its offers, the agents on their way to it, and the forms.

use std::collections::HashSet;
use std::sync::Arc;

use askama::Template;
use axum::Form;
use axum::extract::rejection::FormRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Redirect, Response};
use http::StatusCode;
use serde::Deserialize;

use super::machine::{Machine, machine};
use super::releases::{Count, Offer, Status, counts, offer as offer_row, status};
use super::{not_found, render, when};
use crate::App;
use crate::answer::{Chain, Refusal};
use crate::cli::size;
use crate::database::DatabaseError;
use crate::pipelines;
use crate::releases::offers::{self, Asked, OfferError, STOP_AT, Wanted};
use crate::releases::store::{self, Package, StoreError};
use crate::releases::{progress, rollout::Target};

#[derive(Template)]
#[template(path = "release.html")]
struct Page {
    id: String,
    version: String,
    build: i64,
    added: String,
    status: Status,
    running: usize,
    states: Vec<Count>,
    offers: Vec<Offer>,
    /// Who is left out of the offers under way.
    warnings: Vec<String>,
    agents: Vec<AgentRow>,
    packages: Vec<PackageRow>,
    environments: Vec<String>,
    form: OfferForm,
    refused: Option<Refused>,
}

impl Page {
    fn here(&self) -> &'static str {
        "releases"
    }

    /// Whether the form's message is about this field.
    fn is_wrong(&self, field: &str) -> bool {
        self.refused.as_ref().is_some_and(|one| one.field == field)
    }

    /// What is wrong with the form, as opposed to: with a button.
    fn form_error(&self) -> Option<&str> {
        let refused = self.refused.as_ref().filter(|one| !one.field.is_empty());
        refused.map(|one| one.text.as_str())
    }

    fn notice(&self) -> Option<&str> {
        let refused = self.refused.as_ref().filter(|one| one.field.is_empty());
        refused.map(|one| one.text.as_str())
    }
}

struct AgentRow {
    hostname: String,
    uuid: String,
    status: String,
    machine: Machine,
}

struct PackageRow {
    component: &'static str,
    platform: String,
    size: String,
    sha256: String,
    keys: Vec<String>,
    retired: Vec<String>,
    from_folder: bool,
}

/// The form as it was filled in.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub(super) struct OfferForm {
    /// A kind of [`Target`].
    to: String,
    /// What that kind needs to know.
    who: String,
    over: String,
    stop_at: String,
    /// Only there when it is ticked.
    downgrade: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct WithdrawForm {
    /// All offers of the release without it.
    offer: Option<i64>,
}

/// Why nothing was done.
struct Refused {
    status: StatusCode,
    /// The field of the offer's form that is wrong; empty if it was none of them.
    field: &'static str,
    text: String,
}

pub(super) async fn page(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<Response, Refusal> {
    show(&app, &id, OfferForm::default(), None).await
}

async fn show(
    app: &App,
    id: &str,
    form: OfferForm,
    refused: Option<Refused>,
) -> Result<Response, Refusal> {
    let mut connection = app
        .database
        .readers()
        .acquire()
        .await
        .map_err(DatabaseError::from)?;
    let view = progress::release(&mut connection, id, app.now_ms()).await?;
    let view = view.ok_or_else(|| not_found("such release"))?;
    let known = store::list(&mut connection).await?;
    let known: HashSet<String> = known.into_iter().map(|one| one.id).collect();
    let mut warnings = Vec::new();
    for one in view.offers.iter().filter(|one| one.offer.end.is_none()) {
        for warning in progress::left_out(&mut connection, &one.offer).await? {
            if !warnings.contains(&warning) {
                warnings.push(warning);
            }
        }
    }
    let environments = pipelines::store::environments(&mut connection).await?;
    let status_code = refused.as_ref().map_or(StatusCode::OK, |one| one.status);
    let page = Page {
        status: status(&view),
        states: counts(&view),
        offers: view.offers.iter().map(offer_row).collect(),
        warnings,
        agents: view
            .machines
            .into_iter()
            .map(|(agent, view)| AgentRow {
                status: agent.shown_status().to_string(),
                hostname: agent.hostname,
                uuid: agent.uuid,
                machine: machine(view, &known),
            })
            .collect(),
        packages: view.packages.into_iter().map(package_row).collect(),
        environments: environments.into_iter().map(|one| one.name).collect(),
        running: view.running,
        added: when(view.release.added_at),
        id: view.release.id,
        version: view.release.version,
        build: view.release.build,
        form,
        refused,
    };
    Ok(render(status_code, &page))
}

fn package_row(package: Package) -> PackageRow {
    PackageRow {
        component: package.manifest.component.as_str(),
        platform: package.manifest.platform,
        size: size(i64::try_from(package.size).unwrap_or(i64::MAX)),
        sha256: package.sha256,
        keys: package.signatures.into_iter().map(|one| one.key).collect(),
        retired: package.manifest.retired_keys,
        from_folder: package.from_folder,
    }
}

/// Who is left out is on the page afterwards, for as long as it is so.
pub(super) async fn offer(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    form: Result<Form<OfferForm>, FormRejection>,
) -> Result<Response, Refusal> {
    let form = match form {
        Ok(Form(form)) => form,
        Err(rejection) => return unreadable(&app, &id, rejection).await,
    };
    let wanted = match form.wanted(&id) {
        Ok(wanted) => wanted,
        Err(refused) => return show(&app, &id, form, Some(refused)).await,
    };
    match offers::offer(&app, &wanted).await {
        Ok(_) => Ok(to_release(&id)),
        Err(OfferError::Database(error)) => Err(error.into()),
        Err(error) => show(&app, &id, form, Some(error.into())).await,
    }
}

pub(super) async fn withdraw(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    form: Result<Form<WithdrawForm>, FormRejection>,
) -> Result<Response, Refusal> {
    let form = match form {
        Ok(Form(form)) => form,
        Err(rejection) => return unreadable(&app, &id, rejection).await,
    };
    match offers::withdraw(&app, &id, form.offer).await {
        Ok(_) => Ok(to_release(&id)),
        Err(OfferError::Database(error)) => Err(error.into()),
        Err(error) => show(&app, &id, OfferForm::default(), Some(error.into())).await,
    }
}

pub(super) async fn delete(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<Response, Refusal> {
    match store::delete(&app, &id).await {
        Ok(()) => Ok(Redirect::to("/go/releases").into_response()),
        Err(StoreError::Database(error)) => Err(error.into()),
        Err(error) => {
            let refused = Refused {
                status: StatusCode::CONFLICT,
                field: "",
                text: Chain(&error).to_string(),
            };
            show(&app, &id, OfferForm::default(), Some(refused)).await
        }
    }
}

/// Only for a release that is there: its id is made of letters that a path may have.
fn to_release(id: &str) -> Response {
    Redirect::to(&format!("/go/releases/{id}")).into_response()
}

async fn unreadable(app: &App, id: &str, rejection: FormRejection) -> Result<Response, Refusal> {
    let refused = Refused {
        status: rejection.status(),
        field: "",
        text: format!(
            "The form cannot be read, and nothing has changed: {}.",
            rejection.body_text()
        ),
    };
    show(app, id, OfferForm::default(), Some(refused)).await
}

// === impl OfferForm ===

impl OfferForm {
    fn wanted(&self, release: &str) -> Result<Wanted, Refused> {
        let filled = |text: &&str| !text.trim().is_empty();
        let target = self.target()?;
        let asked = Asked {
            to: None,
            over: Some(self.over.as_str()).filter(filled),
            downgrade: self.downgrade.is_some(),
            stop_at: Some(self.stop_at.as_str()).filter(filled),
        };
        let wanted = Wanted::parse(release, asked)?;
        Ok(Wanted { target, ..wanted })
    }

    /// A release goes to everybody only if nobody was named besides.
    fn target(&self) -> Result<Target, Refused> {
        let who = self.who.trim();
        let asked = match self.to.as_str() {
            "all" if who.is_empty() => return Ok(Target::All),
            "all" => {
                let text = format!(
                    "You chose all agents, and wrote “{who}” besides: choose what that is, or empty the field."
                );
                return Err(wrong("who", text));
            }
            "environment" => "Write the name of the environment.",
            "agents" => "Write the agents' uuids or host names, with commas between them.",
            "percent" => "Write the share of all agents, from 1% to 100%.",
            _ => return Err(wrong("to", "Choose whom the release is offered to.")),
        };
        let target = format!("{}={who}", self.to);
        target.parse().map_err(|_| wrong("who", asked))
    }
}

impl Default for OfferForm {
    fn default() -> Self {
        Self {
            to: String::new(),
            who: String::new(),
            over: "0".to_owned(),
            stop_at: format!("{STOP_AT}%"),
            downgrade: None,
        }
    }
}

// === impl Refused ===

fn wrong(field: &'static str, text: impl Into<String>) -> Refused {
    Refused {
        status: StatusCode::UNPROCESSABLE_ENTITY,
        field,
        text: text.into(),
    }
}

impl From<OfferError> for Refused {
    fn from(error: OfferError) -> Self {
        let (status, field) = match &error {
            OfferError::Database(_) => (StatusCode::INTERNAL_SERVER_ERROR, ""),
            OfferError::UnknownRelease(_) => (StatusCode::NOT_FOUND, ""),
            OfferError::NotOffered(_)
            | OfferError::UnknownOffer { .. }
            | OfferError::Incomplete { .. } => (StatusCode::CONFLICT, ""),
            OfferError::Target(_) => (StatusCode::UNPROCESSABLE_ENTITY, "who"),
            OfferError::Over(_) | OfferError::TooLong => (StatusCode::UNPROCESSABLE_ENTITY, "over"),
            OfferError::StopAt(_) => (StatusCode::UNPROCESSABLE_ENTITY, "stop_at"),
        };
        Self {
            status,
            field,
            text: error.to_string(),
        }
    }
}
