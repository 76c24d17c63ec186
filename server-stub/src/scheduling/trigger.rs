//! Starting a run of a pipeline.

use jiff::Timestamp;
use journeyman_protocol::{
    material::{
        DependencyMaterial, GitMaterial, IgnoredFiles, Material as WireMaterial, MaterialAttributes,
    },
    name::CaseInsensitiveString,
    revision::{MaterialRevision, MaterialRevisions, Modification},
    secret::Secret,
};
use ring::digest;

use super::progression;
use super::run::{self, Run, RunDefinition, RunEnvironment};
use super::state::{self, Pause};
use crate::App;
use crate::database::DatabaseError;
use crate::hex::hex;
use crate::pipelines::cipher::DecryptError;
use crate::pipelines::definition::{self, Filter, LockBehavior, Material, Pipeline, Variable};
use crate::pipelines::git::{self, GitError, Mirror, Remote};
use crate::pipelines::{label, store};

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
    #[error("the variable {variable} is not defined for {pipeline}, so it cannot be overridden")]
    UnknownVariable { pipeline: String, variable: String },
    #[error("cannot find out the newest revision of the material {material}")]
    Material {
        material: String,
        #[source]
        source: GitError,
    },
    #[error("cannot use the password of the material {material}")]
    Password {
        material: String,
        #[source]
        source: DecryptError,
    },
    #[error("{upstream} has not passed yet, which the material {material} waits for")]
    Upstream { material: String, upstream: String },
    #[error("the configuration of {0} changed again and again while it was triggered; try again")]
    Unsteady(String),
}

/// Why a run starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A person, by name, says so.
    User(String),
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
            Self::User(name) => name,
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
    pub fn by(user: &str) -> Self {
        Self {
            cause: Cause::User(user.to_owned()),
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
    for _ in 0..ATTEMPTS {
        let (pipeline, last) = prepare(app, name, options).await?;
        let revisions = resolve(app, &pipeline, last.as_ref(), options.update_materials).await?;
        if let Some(counter) = start(app, &pipeline, revisions, options).await? {
            return Ok(counter);
        }
    }
    Err(TriggerError::Unsteady(name.to_owned()))
}

/// Refuses early what would be refused anyway, before any repository is asked.
async fn prepare(
    app: &App,
    name: &str,
    options: &Options,
) -> Result<(Pipeline, Option<Run>), TriggerError> {
    let connection = app.database.readers().acquire().await;
    let mut connection = connection.map_err(DatabaseError::from)?;
    let pipeline = store::pipeline(&mut connection, name).await?;
    let pipeline = pipeline.ok_or_else(|| TriggerError::Unknown(name.to_owned()))?;
    let environment = store::environment_of(&mut connection, &pipeline.name).await?;
    for variable in &options.overrides {
        let known = |list: &[Variable]| list.iter().any(|one| one.name == variable.name);
        let in_environment = environment.as_ref().is_some_and(|(_, list)| known(list));
        if !known(&pipeline.variables) && !in_environment {
            return Err(TriggerError::UnknownVariable {
                pipeline: pipeline.name.clone(),
                variable: variable.name.clone(),
            });
        }
    }
    check_free(&mut connection, &pipeline).await?;
    let last = run::runs_of(&mut connection, &pipeline.name, None, 1).await?;
    Ok((pipeline, last.into_iter().next()))
}

async fn check_free(
    connection: &mut sqlx::SqliteConnection,
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

/// The newest revision of each material, with what is new since the last run.
async fn resolve(
    app: &App,
    pipeline: &Pipeline,
    last: Option<&Run>,
    update: bool,
) -> Result<MaterialRevisions, TriggerError> {
    let mut revisions = Vec::new();
    for material in &pipeline.materials {
        let wire = on_wire(material);
        let before = last.and_then(|run| {
            let mut known = run.revisions.revisions.iter();
            known.find(|one| one.material.fingerprint_text() == wire.fingerprint_text())
        });
        let seen = before.and_then(|one| one.newest());
        let modifications = match (seen, update) {
            (Some(seen), false) => vec![seen.clone()],
            _ => match material {
                Material::Git(git) => {
                    history(app, git, seen.map(|one| one.revision.clone())).await?
                }
                Material::Dependency(dependency) => vec![newest_passed(app, dependency).await?],
            },
        };
        let newest = modifications.first().map(|one| &one.revision);
        revisions.push(MaterialRevision {
            changed: newest != seen.map(|one| &one.revision),
            material: wire,
            modifications,
        });
    }
    Ok(MaterialRevisions { revisions })
}

async fn history(
    app: &App,
    material: &definition::GitMaterial,
    seen: Option<String>,
) -> Result<Vec<Modification>, TriggerError> {
    let password = material.password.as_deref();
    let password = password.map(|password| app.cipher.reveal(password));
    let password = password
        .transpose()
        .map_err(|source| TriggerError::Password {
            material: material.name.clone(),
            source,
        })?;
    let remote = Remote {
        url: material.url.clone(),
        branch: material.branch.clone(),
        username: material.username.clone(),
        password,
    };
    let folder = app.paths.repositories();
    let commits = git::in_background(&material.url, move || {
        Mirror::fetch(&folder, &remote)?.history(seen.as_deref())
    })
    .await
    .map_err(|source| TriggerError::Material {
        material: material.name.clone(),
        source,
    })?;
    let modification = |commit: git::Commit| Modification {
        user_name: Some(commit.author),
        comment: Some(commit.message),
        email_address: Some(commit.email),
        revision: commit.revision,
        modified_time: Timestamp::from_second(commit.seconds).ok(),
        id: -1,
        ..Modification::default()
    };
    Ok(commits.into_iter().map(modification).collect())
}

/// The newest run of an upstream stage that has passed.
async fn newest_passed(
    app: &App,
    material: &definition::DependencyMaterial,
) -> Result<Modification, TriggerError> {
    let connection = app.database.readers().acquire().await;
    let mut connection = connection.map_err(DatabaseError::from)?;
    let found: Option<(String, i64, String, String, i64, i64)> = sqlx::query_as(
        "SELECT pipeline_runs.pipeline, pipeline_runs.counter, pipeline_runs.label, stages.name, \
         stages.counter, stages.completed_at FROM stages \
         JOIN pipeline_runs ON pipeline_runs.id = stages.run_id \
         WHERE lower(pipeline_runs.pipeline) = lower($1) AND lower(stages.name) = lower($2) \
         AND stages.state = 'Passed' AND stages.completed_at IS NOT NULL \
         ORDER BY pipeline_runs.counter DESC, stages.counter DESC LIMIT 1",
    )
    .bind(&material.pipeline)
    .bind(&material.stage)
    .fetch_optional(&mut *connection)
    .await
    .map_err(DatabaseError::from)?;
    let Some((pipeline, counter, label, stage, stage_counter, completed_at)) = found else {
        return Err(TriggerError::Upstream {
            material: material.name.clone(),
            upstream: format!("{}/{}", material.pipeline, material.stage),
        });
    };
    Ok(Modification {
        revision: format!("{pipeline}/{counter}/{stage}/{stage_counter}"),
        pipeline_label: Some(label),
        modified_time: Timestamp::from_millisecond(completed_at).ok(),
        id: -1,
        ..Modification::default()
    })
}

/// Makes the run, if the pipeline is still what the revisions were looked up for.
async fn start(
    app: &App,
    pipeline: &Pipeline,
    revisions: MaterialRevisions,
    options: &Options,
) -> Result<Option<i64>, TriggerError> {
    let mut write = app.database.write().await?;
    let current = store::pipeline(&mut write, &pipeline.name).await?;
    if current.as_ref() != Some(pipeline) {
        return Ok(None);
    }
    check_free(&mut write, pipeline).await?;
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
    let now = app.now_ms();
    let id: i64 = sqlx::query_scalar(
        "INSERT INTO pipeline_runs (pipeline, counter, label, approver, trigger_message, \
         trigger_forced, definition, material_revisions, scheduled_at) \
         VALUES ($1, $2, $3, $4, $5, 1, $6, $7, $8) RETURNING id",
    )
    .bind(&pipeline.name)
    .bind(counter)
    .bind(&label)
    .bind(options.cause.approver())
    .bind(format!("Forced by {}", options.cause.approver()))
    .bind(store::encode(&definition)?)
    .bind(store::encode(&revisions)?)
    .bind(now)
    .fetch_one(&mut *write)
    .await
    .map_err(DatabaseError::from)?;
    let run = run::run_by_id(&mut write, id).await?;
    progression::start_stage(&mut write, &run, 0, options.cause.approved_by(), now).await?;
    write.commit().await.map_err(DatabaseError::from)?;
    app.work_changed.raise();
    app.state_changed.raise();
    Ok(Some(counter))
}

pub(crate) fn on_wire(material: &Material) -> WireMaterial {
    match material {
        Material::Git(git) => git_on_wire(git),
        Material::Dependency(dependency) => WireMaterial::DependencyMaterial(DependencyMaterial {
            pipeline_name: CaseInsensitiveString::new(&dependency.pipeline),
            stage_name: CaseInsensitiveString::new(&dependency.stage),
            ignore_for_scheduling: dependency.ignore_for_scheduling,
            attributes: MaterialAttributes {
                name: Some(CaseInsensitiveString::new(&dependency.name)),
                ..MaterialAttributes::of_type("DependencyMaterial")
            },
        }),
    }
}

fn git_on_wire(material: &definition::GitMaterial) -> WireMaterial {
    let mut git = GitMaterial::new(&material.url, &material.branch);
    git.shallow_clone = material.shallow_clone;
    git.scm.folder = material.destination.clone();
    git.scm.auto_update = material.auto_update;
    git.scm.user_name = material.username.clone();
    git.scm.password = material.password.as_deref().map(Secret::from);
    if material.username.is_some() || material.password.is_some() {
        git.scm.secret_params_for_password = Some(Vec::new());
    }
    let (patterns, inverted) = match &material.filter {
        Filter::None => (&[][..], false),
        Filter::Ignore(patterns) => (&patterns[..], false),
        Filter::Includes(patterns) => (&patterns[..], true),
    };
    if !patterns.is_empty() {
        let pattern = |pattern: &String| IgnoredFiles {
            pattern: pattern.clone(),
            ..IgnoredFiles::default()
        };
        git.scm.filter = Some(patterns.iter().map(pattern).collect());
        git.scm.invert_filter = inverted;
    }
    git.scm.attributes.name = Some(CaseInsensitiveString::new(&material.name));
    WireMaterial::GitMaterial(git)
}

/// The lower-case hex SHA-256 by which GoCD's API names a material.
#[must_use]
pub fn fingerprint(material: &WireMaterial) -> String {
    let text = material.fingerprint_text().unwrap_or_default();
    let digest = digest::digest(&digest::SHA256, text.as_bytes());
    hex(digest.as_ref())
}
