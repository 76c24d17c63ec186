//! One look at a git material.

use crate::answer::Chain;
use crate::database::DatabaseError;
use crate::health::{self, Level};
use crate::pipelines::cipher::DecryptError;
use crate::pipelines::definition::GitMaterial;
use crate::pipelines::git::{self, GitError, Mirror, Remote};
use crate::pipelines::location;
use crate::{App, scheduling};

use super::store;
use scheduling::wire;

/// Why a material could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum PollError {
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error(transparent)]
    Git(#[from] GitError),
    #[error("cannot use its password")]
    Password(#[from] DecryptError),
}

/// What the keys of health messages about materials begin with.
pub(super) const HEALTH: &str = "material:";

/// What a material's health message goes under.
fn health_key(fingerprint: &str) -> String {
    format!("{HEALTH}{fingerprint}")
}

/// Looks for new commits and stores them; answers whether there are any. One that fails says so in
/// the server's health, one that goes well takes that back.
///
/// # Errors
///
/// See [`PollError`]; what was known stays as it was.
pub async fn poll(app: &App, material: &GitMaterial) -> Result<bool, PollError> {
    let fingerprint = wire::fingerprint_of_git(material);
    // Whoever looked earlier must not store later, or the branch would go back.
    let turn = app.materials.turn(&fingerprint);
    let _turn = turn.lock().await;
    let outcome = look(app, material, &fingerprint).await;
    let key = health_key(&fingerprint);
    match &outcome {
        Ok(false) => health::clear(app, &key),
        Ok(true) => {
            health::clear(app, &key);
            app.state_changed.raise();
            scheduling::production::material_changed(app, &fingerprint);
        }
        Err(PollError::Database(_)) => {}
        Err(error) => {
            let url = location::without_credentials(&material.url);
            let branch = &material.branch;
            tracing::warn!(url, branch, error = %Chain(error), "cannot look at a material");
            let message =
                format!("Modification check failed for material: URL: {url}, Branch: {branch}");
            health::raise(app, &key, Level::Error, message, Chain(error).to_string());
        }
    }
    outcome
}

async fn look(app: &App, material: &GitMaterial, fingerprint: &str) -> Result<bool, PollError> {
    let password = material.password.as_deref();
    let password = password.map(|password| app.cipher.reveal(password));
    let remote = Remote {
        url: material.url.clone(),
        branch: material.branch.clone(),
        username: material.username.clone(),
        password: password.transpose()?,
    };
    let seen = {
        let connection = app.database.readers().acquire().await;
        let mut connection = connection.map_err(DatabaseError::from)?;
        store::head(&mut connection, fingerprint).await?
    };
    let seen = seen.map(|seen| seen.revision);
    let folder = app.paths.repositories();
    let commits = git::in_background(&material.url, app.configuration.fetch_limit, move || {
        Mirror::fetch(&folder, &remote)?.history(seen.as_deref())
    })
    .await?;
    if commits.is_empty() {
        return Ok(false);
    }
    let mut write = app.database.write().await?;
    store::append(&mut write, fingerprint, &commits).await?;
    write.commit().await.map_err(DatabaseError::from)?;
    Ok(true)
}
