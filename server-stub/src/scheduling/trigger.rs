//! Starting a run of a pipeline.

use futures_util::future::try_join_all;
use journeyman_protocol::revision::Modification;
use openssl::error::ErrorStack;
use sqlx::SqliteConnection;

use super::production::BeingTriggered;
use super::revisions::{self, Resolved};
use super::run::{self, Run, RunDefinition, RunEnvironment};
use super::state::{self, Pause};
use super::{Refused, natural_order, progression, wire};
use crate::App;
use crate::database::DatabaseError;
use crate::materials::{self, PollError};
use crate::pipelines::cipher::{self, Cipher, DecryptError};
use crate::pipelines::definition::{GitMaterial, LockBehavior, Material, Pipeline, Variable};
use crate::pipelines::{label, store};
use crate::users::Actor;

pub use super::wire::{fingerprint, on_wire};

/// How often the configuration may change under a trigger before it gives up.
const ATTEMPTS: usize = 3;

/// Why a pipeline was not triggered.
#[derive(Debug, thiserror::Error)]
pub enum TriggerError {
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error("there is no pipeline {0}")]
    Unknown(String),
    #[error("{pipeline} cannot be triggered: its first stage is active in {active}")]
    Active { pipeline: String, active: String },
    #[error("{pipeline} cannot be triggered: it is paused by {}{}", .pause.by, .pause.because())]
    Paused { pipeline: String, pause: Pause },
    #[error("{pipeline} cannot be triggered: the run {pipeline}/{holder} has locked it")]
    Locked { pipeline: String, holder: i64 },
    #[error("{0} is being triggered already")]
    BeingTriggered(String),
    #[error("{pipeline} cannot be triggered: {refused}")]
    Refused { pipeline: String, refused: Refused },
    #[error("the variable {variable} is not defined for {pipeline}, so it cannot be overridden")]
    UnknownVariable { pipeline: String, variable: String },
    #[error("cannot use the value that was given for the variable {variable}")]
    Value {
        variable: String,
        #[source]
        source: DecryptError,
    },
    #[error("cannot encrypt the value that was given for a variable")]
    Encrypt(#[from] ErrorStack),
    #[error("cannot find out the newest revision of the material {material}")]
    Material {
        material: String,
        #[source]
        source: PollError,
    },
    #[error("no revision of the material {material} is known yet")]
    NotSeen { material: String },
    #[error("{pipeline} has no material with the fingerprint {fingerprint}")]
    UnknownMaterial {
        pipeline: String,
        fingerprint: String,
    },
    #[error("there is no revision {revision} of the material {material}, as far as is known")]
    UnknownRevision { material: String, revision: String },
    #[error("{upstream} has not passed yet, which the material {material} waits for")]
    Upstream { material: String, upstream: String },
    #[error(
        "the passed runs that {pipeline} depends on were built from different revisions of what \
         they share, whichever of them are taken together. It runs when they have passed with the \
         same ones"
    )]
    NoAgreement { pipeline: String },
    #[error("nothing has changed since the last run of {0}, and its timer is `only_on_changes`")]
    NothingNew(String),
    #[error("the configuration of {0} changed again and again while it was triggered; try again")]
    Unsteady(String),
}

/// Why a run starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A person says so.
    User(Actor),
    /// The pipeline's timer says so.
    Timer,
    /// Its materials have changed.
    Changes,
}

impl Cause {
    /// Who started the run, in GoCD's word: nobody when changes did.
    #[must_use]
    pub fn approver(&self) -> &str {
        match self {
            Self::User(person) => &person.name,
            Self::Timer => "timer",
            Self::Changes => "",
        }
    }

    /// Who approved the run's first stage, in GoCD's word.
    #[must_use]
    pub fn approved_by(&self) -> &str {
        match self {
            Self::Changes => progression::CHANGES,
            Self::User(_) | Self::Timer => self.approver(),
        }
    }
}

/// What comes with a trigger.
#[derive(Clone, Debug)]
pub struct Options {
    pub cause: Cause,
    /// In place of values of the configuration. The value of a secure one may be encrypted.
    pub overrides: Vec<Variable>,
    /// Fingerprints of materials with the revision to build of each; of the others it is the newest.
    pub materials: Vec<(String, String)>,
    /// Whether to look for new revisions; else the newest that is known is built.
    pub update_materials: bool,
}

impl Options {
    /// A trigger by a person, with nothing special.
    #[must_use]
    pub fn by(person: &Actor) -> Self {
        Self {
            cause: Cause::User(person.clone()),
            overrides: Vec::new(),
            materials: Vec::new(),
            update_materials: true,
        }
    }
}

/// Starts a run with the newest revisions of the pipeline's materials; answers its counter.
///
/// # Errors
///
/// See [`TriggerError`]; no run was started then.
pub async fn trigger(app: &App, name: &str, options: &Options) -> Result<i64, TriggerError> {
    let mut options = options.clone();
    let begun = BeingTriggered::begin(app, name);
    for _ in 0..ATTEMPTS {
        // Said first: it is more than that somebody else triggers it.
        let pipeline = prepare(app, name, &mut options).await?;
        if begun.is_none() {
            return Err(TriggerError::BeingTriggered(pipeline.name));
        }
        look(app, &pipeline, options.update_materials).await?;
        let (last, resolved) = {
            let connection = app.database.readers().acquire().await;
            let mut connection = connection.map_err(DatabaseError::from)?;
            let last = last_run(&mut connection, &pipeline).await?;
            let chosen = &options.materials;
            let resolved =
                revisions::resolve(&mut connection, &pipeline, last.as_ref(), chosen).await?;
            (last, resolved)
        };
        let timer = pipeline.timer.as_ref();
        let only_on_changes = timer.is_some_and(|timer| timer.only_on_changes);
        let mut all = resolved.revisions.revisions.iter();
        if options.cause == Cause::Timer && only_on_changes && !all.any(|one| one.changed) {
            return Err(TriggerError::NothingNew(pipeline.name));
        }
        let last = last.map(|run| run.id);
        if let Some(counter) = start(app, &pipeline, last, resolved, &options).await? {
            return Ok(counter);
        }
    }
    Err(TriggerError::Unsteady(name.to_owned()))
}

/// Refuses early what would be refused anyway, before any repository is asked.
async fn prepare(app: &App, name: &str, options: &mut Options) -> Result<Pipeline, TriggerError> {
    let connection = app.database.readers().acquire().await;
    let mut connection = connection.map_err(DatabaseError::from)?;
    let pipeline = store::pipeline(&mut connection, name).await?;
    let pipeline = pipeline.ok_or_else(|| TriggerError::Unknown(name.to_owned()))?;
    let environment = store::environment_of(&mut connection, &pipeline.name).await?;
    for given in &mut options.overrides {
        let known = |list: &[Variable]| list.iter().find(|one| one.name == given.name).cloned();
        let in_environment = || environment.as_ref().and_then(|(_, list)| known(list));
        let Some(known) = known(&pipeline.variables).or_else(in_environment) else {
            return Err(TriggerError::UnknownVariable {
                pipeline: pipeline.name.clone(),
                variable: given.name.clone(),
            });
        };
        given.secure |= known.secure;
        if given.secure {
            seal(&app.cipher, given)?;
        }
    }
    if let (Cause::User(person), Some(first)) = (&options.cause, pipeline.stages.first())
        && !progression::may_run(&first.operators, &pipeline.group, person)
    {
        let user = person.name.clone();
        return Err(TriggerError::Refused {
            pipeline: pipeline.name,
            refused: Refused::NotAllowed { user },
        });
    }
    check_free(&mut connection, &pipeline).await?;
    Ok(pipeline)
}

/// A secret is stored encrypted, whether or not it came so.
fn seal(cipher: &Cipher, variable: &mut Variable) -> Result<(), TriggerError> {
    if cipher::check_form(&variable.value).is_ok() {
        cipher
            .decrypt(&variable.value)
            .map_err(|source| TriggerError::Value {
                variable: variable.name.clone(),
                source,
            })?;
    } else {
        variable.value = cipher.encrypt(&variable.value)?;
    }
    Ok(())
}

/// Whether a run can start now.
pub(super) async fn check_free(
    connection: &mut SqliteConnection,
    pipeline: &Pipeline,
) -> Result<(), TriggerError> {
    let name = || pipeline.name.clone();
    let state = state::state_of(connection, &pipeline.name).await?;
    if let Some(pause) = state.pause {
        let pipeline = name();
        return Err(TriggerError::Paused { pipeline, pause });
    }
    // A lock from before the definition changed keeps nobody out.
    if pipeline.lock_behavior != LockBehavior::None
        && let Some(holder) = state.locked_by
    {
        let pipeline = name();
        return Err(TriggerError::Locked { pipeline, holder });
    }
    let first = pipeline.stages.first().map_or("", |stage| &stage.name);
    match progression::active_stage(connection, &pipeline.name, first).await? {
        Some(active) => Err(TriggerError::Active {
            pipeline: pipeline.name.clone(),
            active,
        }),
        None => Ok(()),
    }
}

/// Looks at the repositories of a pipeline: at all, or only at those that nobody has looked at yet.
async fn look(app: &App, pipeline: &Pipeline, all: bool) -> Result<(), TriggerError> {
    let mut due: Vec<&GitMaterial> = Vec::new();
    {
        let connection = app.database.readers().acquire().await;
        let mut connection = connection.map_err(DatabaseError::from)?;
        for git in pipeline.git_materials() {
            let fingerprint = wire::fingerprint_of_git(git);
            if all
                || materials::head(&mut connection, &fingerprint)
                    .await?
                    .is_none()
            {
                due.push(git);
            }
        }
    }
    let looks = due.into_iter().map(async |git| {
        let outcome = materials::poll(app, git).await;
        outcome.map_err(|source| match source {
            PollError::Database(error) => TriggerError::Database(error),
            source => TriggerError::Material {
                material: git.name.clone(),
                source,
            },
        })
    });
    try_join_all(looks).await.map(drop)
}

async fn last_run(
    connection: &mut SqliteConnection,
    pipeline: &Pipeline,
) -> Result<Option<Run>, DatabaseError> {
    let last = run::runs_of(connection, &pipeline.name, None, 1).await?;
    Ok(last.into_iter().next())
}

/// Makes the run, if the pipeline and its last run are still those that the revisions were looked up
/// for. What changes start must not have been built before.
pub(super) async fn start(
    app: &App,
    pipeline: &Pipeline,
    last: Option<i64>,
    resolved: Resolved,
    options: &Options,
) -> Result<Option<i64>, TriggerError> {
    let Resolved { revisions, built } = resolved;
    let mut write = app.database.write().await?;
    let current = store::pipeline(&mut write, &pipeline.name).await?;
    let newest = last_run(&mut write, pipeline).await?;
    if current.as_ref() != Some(pipeline) || newest.map(|run| run.id) != last {
        return Ok(None);
    }
    check_free(&mut write, pipeline).await?;
    if options.cause == Cause::Changes && was_built(&mut write, pipeline, &built).await? {
        return Ok(None);
    }
    let environment = store::environment_of(&mut write, &pipeline.name).await?;
    let definition = RunDefinition {
        pipeline: pipeline.clone(),
        environment: environment.map(|(name, variables)| RunEnvironment { name, variables }),
        overrides: options.overrides.clone(),
    };
    let counter: i64 = sqlx::query_scalar(
        "INSERT INTO pipeline_counters (pipeline, last) VALUES (lower($1), 1) \
         ON CONFLICT (pipeline) DO UPDATE SET last = pipeline_counters.last + 1 RETURNING last",
    )
    .bind(&pipeline.name)
    .fetch_one(&mut *write)
    .await
    .map_err(DatabaseError::from)?;
    let newest = |name: &str| {
        let mut all = pipeline.materials.iter().zip(&revisions.revisions);
        let (_, found) = all.find(|(one, _)| one.name().eq_ignore_ascii_case(name))?;
        let newest = found.newest()?;
        Some(newest.pipeline_label.as_deref().unwrap_or(&newest.revision))
    };
    let label = label::render(
        &pipeline.label_template,
        counter,
        &pipeline.variables,
        newest,
    );
    let message = match options.cause {
        Cause::Changes => revisions::message(pipeline, &revisions),
        Cause::User(_) | Cause::Timer => format!("Forced by {}", options.cause.approver()),
    };
    let natural_order = natural_order::of_new(&mut write, &pipeline.name, &revisions).await?;
    let now = app.now_ms();
    let id: i64 = sqlx::query_scalar(
        "INSERT INTO pipeline_runs (pipeline, counter, label, approver, trigger_message, \
         trigger_forced, definition, material_revisions, built, scheduled_at, \
         natural_order) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) RETURNING id",
    )
    .bind(&pipeline.name)
    .bind(counter)
    .bind(&label)
    .bind(options.cause.approver())
    .bind(message)
    .bind(options.cause != Cause::Changes)
    .bind(store::encode(&definition)?)
    .bind(store::encode(&revisions)?)
    .bind(built)
    .bind(now)
    .bind(natural_order)
    .fetch_one(&mut *write)
    .await
    .map_err(DatabaseError::from)?;
    let run = run::run_by_id(&mut write, id).await?;
    let started = progression::start_stage(&mut write, &run, 0, options.cause.approved_by(), now);
    started.await?.map_err(|refused| TriggerError::Refused {
        pipeline: pipeline.name.clone(),
        refused,
    })?;
    write.commit().await.map_err(DatabaseError::from)?;
    app.work_changed.raise();
    app.state_changed.raise();
    Ok(Some(counter))
}

async fn was_built(
    connection: &mut SqliteConnection,
    pipeline: &Pipeline,
    built: &str,
) -> Result<bool, DatabaseError> {
    let found: Option<i64> = sqlx::query_scalar(
        "SELECT id FROM pipeline_runs WHERE pipeline = $1 AND built = $2 LIMIT 1",
    )
    .bind(&pipeline.name)
    .bind(built)
    .fetch_optional(connection)
    .await?;
    Ok(found.is_some())
}

/// What can be chosen when a pipeline is triggered.
#[derive(Clone, Debug)]
pub struct Choices {
    /// Those that can be overridden. The values of secure ones are encrypted, and not to be shown.
    pub variables: Vec<Variable>,
    pub materials: Vec<MaterialChoice>,
}

/// A material of a pipeline that is to be triggered.
#[derive(Clone, Debug)]
pub struct MaterialChoice {
    pub material: Material,
    pub fingerprint: String,
    /// The newest revision that is known.
    pub newest: Option<Modification>,
    /// The revision of the last run.
    pub last_run: Option<Modification>,
}

/// What can be chosen when a pipeline is triggered.
///
/// # Errors
///
/// There is no such pipeline, or the database cannot be used.
pub async fn options_of(app: &App, name: &str) -> Result<Choices, TriggerError> {
    let connection = app.database.readers().acquire().await;
    let mut connection = connection.map_err(DatabaseError::from)?;
    let pipeline = store::pipeline(&mut connection, name).await?;
    let pipeline = pipeline.ok_or_else(|| TriggerError::Unknown(name.to_owned()))?;
    let last = last_run(&mut connection, &pipeline).await?;
    let mut materials = Vec::new();
    for material in pipeline.materials {
        let fingerprint = wire::fingerprint_of(&material);
        let last = revisions::of_last_run(last.as_ref(), &fingerprint);
        materials.push(MaterialChoice {
            newest: revisions::newest(&mut connection, &material).await?,
            last_run: last.cloned(),
            fingerprint,
            material,
        });
    }
    Ok(Choices {
        variables: pipeline.variables,
        materials,
    })
}
