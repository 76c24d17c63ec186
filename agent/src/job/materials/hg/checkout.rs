//! The steps of a checkout: GoCD's commands in GoCD's order.

use std::path::Path;

use journeyman_protocol::{console::Tag, material::HgMaterial, revision::Modification};

use super::{login::Login, url::HgUrl};
use crate::job::materials::{
    MaterialContext, MaterialError,
    place::Place,
    scm::{Hidden, ScmCommand},
};

/// Brings the checkout to the revision.
///
/// # Errors
/// The message that the console shows.
pub(in crate::job::materials) fn update(
    material: &HgMaterial,
    newest: &Modification,
    context: &MaterialContext,
) -> Result<(), MaterialError> {
    let place = Place::of(&material.scm, context)?;
    let url = HgUrl::of(material);
    place.say_start(&newest.revision, &url.for_display(), context);
    let branch = material
        .branch
        .as_deref()
        .filter(|branch| !branch.trim().is_empty());
    let hg = Hg {
        branch: format!("--branch={}", branch.or(url.branch()).unwrap_or("default")),
        login: Login::to(&url)?,
        hidden_in_clone: url.hidden(true),
        hidden: url.hidden(false),
        url,
        place,
        context,
    };
    hg.update(&newest.revision)?;
    context.console.line(Tag::Prep, "[go] Done.\n");
    Ok(())
}

struct Hg<'a> {
    url: HgUrl,
    branch: String,
    login: Option<Login>,
    hidden_in_clone: Hidden,
    hidden: Hidden,
    place: Place,
    context: &'a MaterialContext,
}

impl Hg<'_> {
    fn update(&self, revision: &str) -> Result<(), MaterialError> {
        let dir = &self.place.dir;
        if !self.is_usable(dir)? {
            self.place.delete()?;
        }
        if !dir.exists() {
            self.place.make_parents()?;
            let dir = dir.to_string_lossy();
            let words = ["clone", &self.branch, "--", &self.url.for_hg, &dir];
            if !self.command(&words, None, &self.hidden_in_clone).shown()? {
                return Err(MaterialError::new("Failed to run hg clone command"));
            }
        }
        let from = format!("paths.default={}", self.url.for_hg);
        let pulled = self
            .inside(&["pull", &self.branch, "--config", &from])
            .shown()?;
        if !pulled
            || !self
                .inside(&["update", "--clean", "-r", revision])
                .shown()?
        {
            return Err(MaterialError::new(format!(
                "Unable to update to revision [StringRevision[{revision}]]"
            )));
        }
        Ok(())
    }

    /// Whether the folder is a clone of this repository.
    fn is_usable(&self, dir: &Path) -> Result<bool, MaterialError> {
        if !dir.join(".hg").is_dir() {
            return Ok(false);
        }
        let stored = self.inside(&["showconfig", "paths.default"]).quiet()?;
        Ok(self.url.is_same(&stored))
    }

    fn inside<'a>(&'a self, words: &[&str]) -> ScmCommand<'a> {
        self.command(words, Some(&self.place.dir), &self.hidden)
    }

    fn command<'a>(
        &'a self,
        words: &[&str],
        folder: Option<&'a Path>,
        hidden: &'a Hidden,
    ) -> ScmCommand<'a> {
        let words = std::iter::once(&"hg").chain(words).copied();
        let mut command = ScmCommand::new(words, hidden, self.context);
        command.folder = folder;
        if let Some(login) = &self.login {
            let path = login.config_path(&self.context.root);
            command.own_environment.push(("HGRCPATH".to_owned(), path));
        }
        command
    }
}
