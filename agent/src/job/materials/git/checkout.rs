//! The steps of a checkout: GoCD's commands in GoCD's order.

use std::{
    cell::Cell,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::SystemTime,
};

use journeyman_protocol::{console::Tag, material::GitMaterial, revision::MaterialRevision};

use super::{
    config::{self, ConfigError, ConfigFile},
    credentials::Settings,
    locks,
    mirror::{self, Mirror, MirrorError},
    options::Options,
    refspec::BranchOrRefSpec,
    shortcuts::{self, Shortcuts, State},
    submodules,
    url::RepositoryUrl,
};
use crate::job::{
    materials::{
        MaterialContext, MaterialError,
        cleanup::delete,
        normalise,
        scm::{Hidden, ScmCommand},
    },
    tasks::find_executable,
};

/// How deep a shallow clone is made when what is wanted is not in it, one after the other.
const DEPTHS: [u32; 2] = [100, i32::MAX as u32];
const FETCH: &str = "remote.origin.fetch";
const ORIGIN: &str = "remote.origin.url";
const CLEANING: &str = "Cleaning all unversioned files in working copy";
/// From this version on `submodule foreach` wants its command as one argument.
const FOREACH_TAKES_ONE_ARGUMENT: (u32, u32) = (2, 22);

/// Brings the checkout to the newest revision.
///
/// # Errors
/// The message that the console shows.
pub(in crate::job::materials) fn update(
    material: &GitMaterial,
    revision: &MaterialRevision,
    context: &MaterialContext,
) -> Result<(), MaterialError> {
    update_with(Options::of_process(), material, revision, context)
}

pub(super) fn update_with(
    options: Options,
    material: &GitMaterial,
    revision: &MaterialRevision,
    context: &MaterialContext,
) -> Result<(), MaterialError> {
    let (Some(newest), Some(oldest)) = (revision.newest(), revision.oldest()) else {
        return Err(MaterialError::new("the git material has no revision"));
    };
    let folder = material.scm.folder.as_deref().filter(|f| !f.is_empty());
    let base = context.root.join(&context.base);
    let shown = folder.map_or_else(
        || context.base.clone(),
        |folder| context.base.join(folder.trim_start_matches('/')),
    );
    let dir = normalise(&context.root.join(&shown))
        .filter(|dir| dir.starts_with(&base))
        .ok_or_else(|| {
            MaterialError::new(format!(
                "Folder {} is outside the base folder {}",
                shown.display(),
                base.display()
            ))
        })?;
    let url = RepositoryUrl::of(material);
    context.console.line(
        Tag::Prep,
        &format!(
            "[go] Start updating {} at revision {} from {}",
            folder.unwrap_or("files"),
            newest.revision,
            url.for_display()
        ),
    );
    let git = Git {
        hidden: url.hidden(),
        hidden_in_clone: url.hidden_in_clone(),
        options,
        known_version: Cell::new(None),
        branch: BranchOrRefSpec::parse(&material.ref_spec_or_branch),
        url,
        dir,
        shown: shown.display().to_string(),
        shallow: material.shallow_clone,
        modifications: revision.modifications.len(),
        context,
    };
    git.update(&newest.revision, &oldest.revision)?;
    context.console.line(Tag::Prep, "[go] Done.\n");
    Ok(())
}

struct Git<'a> {
    url: RepositoryUrl,
    hidden: Hidden,
    hidden_in_clone: Hidden,
    options: Options,
    known_version: Cell<Option<(u32, u32)>>,
    branch: BranchOrRefSpec,
    /// The checkout, absolute.
    dir: PathBuf,
    /// The same relative to the agent's working directory.
    shown: String,
    shallow: bool,
    modifications: usize,
    context: &'a MaterialContext,
}

impl Git<'_> {
    fn update(&self, newest: &str, oldest: &str) -> Result<(), MaterialError> {
        if !self.is_usable()? {
            delete(&self.dir).map_err(|error| {
                tracing::warn!(%error, dir = %self.dir.display(), "Checkout was not deleted");
                MaterialError::new(format!(
                    "Failed to delete directory: {}",
                    self.dir.display()
                ))
            })?;
        }
        if self.dir.exists() {
            self.keep_credentials()?;
        } else {
            self.clone()?;
        }
        self.say("Fetching changes");
        self.must_online(
            &["fetch", "origin", "--prune", "--recurse-submodules=no"],
            || format!("git fetch failed for [{}]", self.url.for_display()),
        )?;
        self.say("Performing git gc");
        if !self.shortcuts().is_some_and(|known| known.needs_no_gc()) {
            self.inside(&["gc", "--auto"]).shown()?;
        }
        self.deepen_to(oldest)?;
        self.say(&format!("Reset working directory {}", self.shown));
        let had_none = self.has_no_submodules();
        self.say(CLEANING);
        if !shortcuts::is_empty(&self.dir) {
            self.clean(had_none)?;
        }
        self.forget_submodules()?;
        self.say(&format!("Updating working copy to revision {newest}"));
        let was_quiet = self.reset(newest)?;
        let has_none = had_none && self.has_no_submodules();
        self.say("Removing modified files in submodules");
        if !has_none {
            self.foreach_submodule(&["git", "checkout", "."])?;
        }
        if self.dir.join(".gitmodules").exists() {
            self.update_submodules()?;
        }
        self.say(CLEANING);
        // What a reset leaves behind is submodules that are none any more, what it complains
        // about, and what no longer is ignored.
        if !(has_none && was_quiet && self.options.cleans_ignored()) {
            self.clean(has_none)?;
        }
        Ok(())
    }

    /// True: git found nothing to complain about.
    fn reset(&self, revision: &str) -> Result<bool, MaterialError> {
        let complained = Arc::new(AtomicBool::new(false));
        let heard = Arc::clone(&complained);
        let code = self
            .inside(&["reset", "--hard", revision])
            .exit_code_hearing(move |_| heard.store(true, Ordering::Relaxed))?;
        if code != 0 {
            let failure = format!("git reset failed for [{}]", self.shown);
            return Err(MaterialError::new(failure));
        }
        Ok(!complained.load(Ordering::Relaxed))
    }

    /// Whether the folder is a checkout of this repository on this branch.
    fn is_usable(&self) -> Result<bool, MaterialError> {
        let repository = self.dir.join(".git");
        if !repository.is_dir() {
            return Ok(false);
        }
        locks::remove_stale(&repository);
        // GoCD fails here again and again.
        if shortcuts::state(&self.dir) == State::Broken
            || mirror::is_unfinished(&self.context.root, &self.dir)
        {
            return Ok(false);
        }
        let known = self.shortcuts();
        let stored = match known.as_ref().and_then(|known| known.config(ORIGIN)) {
            Some(urls) => urls.last().map(ToString::to_string).unwrap_or_default(),
            None => self.inside(&["config", ORIGIN]).quiet()?,
        };
        if !self.url.is_same(&stored) {
            return Ok(false);
        }
        if self.branch.is_refspec && !self.fetches_refspec(known.as_ref())? {
            return Ok(false);
        }
        let head = match known.and_then(|known| known.branch()) {
            Some(branch) => branch,
            None => self
                .inside(&["rev-parse", "--abbrev-ref", "HEAD"])
                .quiet()?,
        };
        Ok(head.trim() == self.branch.local && (self.shallow || !self.is_shallow()))
    }

    fn fetches_refspec(&self, known: Option<&Shortcuts>) -> Result<bool, MaterialError> {
        let wanted = format!("+{}", self.branch.expanded);
        if let Some(specs) = known.and_then(|known| known.config(FETCH)) {
            return Ok(specs.join("\n").trim() == wanted);
        }
        let dir = self.dir.to_string_lossy();
        let stored = self
            .outside(&["-C", &dir, "config", "--get-all", FETCH])
            .captured()?;
        Ok(stored.status.success() && stored.stdout.trim() == wanted)
    }

    fn clone(&self) -> Result<(), MaterialError> {
        if let Some(parent) = self.dir.parent() {
            fs::create_dir_all(parent).map_err(|error| {
                MaterialError::new(format!(
                    "Cannot make the folder {}: {error}",
                    parent.display()
                ))
            })?;
        }
        let failed = || MaterialError::new("Failed to run git clone command");
        let mirror = self.mirror();
        let reference = mirror.as_ref().and_then(Mirror::reference);
        let cloned = match (&mirror, reference) {
            (Some(mirror), Some(reference)) => self.clone_from_mirror(mirror, reference)?,
            _ => false,
        };
        if !cloned {
            if !self.clone_words(None)?.shown()? {
                return Err(failed());
            }
            // The mirror is to blame, or is not there yet.
            if let (Some(mirror), Some(_)) = (&mirror, reference) {
                told(mirror.remove());
            }
            self.keep_credentials()?;
            let populate = self.populate();
            if let Some(populate) = populate
                && !populate.shown()?
            {
                return Err(failed());
            }
        }
        if let Some(mirror) = mirror {
            told(mirror.take_from(&self.dir));
            drop(mirror);
            mirror::remove_unused(&self.context.root, SystemTime::now());
        }
        if self.branch.is_refspec && !self.follow_refspec()? {
            return Err(failed());
        }
        Ok(())
    }

    /// The mirror of the repository, unless nothing would be won by it.
    fn mirror(&self) -> Option<Mirror> {
        let is_installed = find_executable("git", &self.context.root).is_some();
        let is_of_use = is_installed && !self.shallow && !self.url.is_local_path();
        if !self.options.mirror || !is_of_use {
            return None;
        }
        let mirror = Mirror::lock(&self.context.root, &self.url);
        mirror
            .map_err(|error| tracing::warn!(%error, "Cloning without a mirror"))
            .ok()
    }

    /// Clones with what the mirror has. Nothing is shown before all is well. False: nothing was
    /// done.
    fn clone_from_mirror(&self, mirror: &Mirror, reference: &Path) -> Result<bool, MaterialError> {
        let clone = self.clone_words(Some(reference))?;
        let captured = clone.captured()?;
        // Git speaks of the mirror only to complain about it.
        let is_sound = !captured.stderr.contains(&*reference.to_string_lossy());
        let mut is_whole = captured.status.success() && is_sound && told(mirror.give_to(&self.dir));
        if is_whole {
            self.keep_credentials()?;
            if let Some(populate) = self.populate() {
                is_whole = populate.captured()?.status.success();
            }
        }
        if is_whole {
            clone.show_errors(&captured);
            return Ok(true);
        }
        tracing::warn!(
            url = self.url.for_display(),
            "Cloning again, without the mirror"
        );
        delete(&self.dir).map_err(|error| {
            MaterialError::new(format!(
                "Failed to delete directory: {}: {error}",
                self.dir.display()
            ))
        })?;
        Ok(false)
    }

    fn clone_words(&self, reference: Option<&Path>) -> Result<ScmCommand<'_>, MaterialError> {
        let dir = self.dir.to_string_lossy();
        let depth = format!("--depth={}", self.modifications + 1);
        let mut options = Vec::new();
        if !self.branch.is_refspec {
            options.extend(["--branch", &self.branch.expanded]);
        }
        if self.shallow {
            options.push(&depth);
        }
        let mut words = [&["clone"], &options[..]].concat();
        let shown = [&["git", "clone"], &options[..]].concat();
        if self.url.login().is_some() {
            // The files come once the configuration has the credentials in it that filters such
            // as LFS look for there.
            words.push("--no-checkout");
        }
        let reference = reference.map(Path::to_string_lossy);
        if let Some(reference) = &reference {
            words.extend(["--reference", reference]);
        }
        Ok(ScmCommand {
            shown_as: Some(strings(
                &[&shown[..], &[self.url.for_config(), &dir]].concat(),
            )),
            hidden: &self.hidden_in_clone,
            folder: None,
            ..self.online(&[&words[..], &[self.url.for_arguments(), &dir]].concat())?
        })
    }

    /// Brings the files of a clone that had to be made without them, if it was.
    fn populate(&self) -> Option<ScmCommand<'_>> {
        let is_missing = self.url.login().is_some() && !self.branch.is_refspec;
        is_missing.then(|| self.inside(&["checkout", "--force", "--quiet"]))
    }

    /// What a clone does not do by itself. True: all went well.
    fn follow_refspec(&self) -> Result<bool, MaterialError> {
        let fetched = format!("+{}", self.branch.expanded);
        let configured = self.inside(&["config", "--replace-all", FETCH, &fetched]);
        let checkout = self.inside(&["checkout", "-B", &self.branch.local, &self.branch.remote]);
        Ok(configured.shown()?
            && self
                .online(&["fetch", "--prune", "--recurse-submodules=no"])?
                .shown()?
            && checkout.shown()?)
    }

    /// Makes the checkout's configuration say the URL with its credentials: jobs that push rely
    /// on them. GoCD keeps those of the first clone; here new ones take their place.
    fn keep_credentials(&self) -> Result<(), MaterialError> {
        let file = self.dir.join(".git/config");
        if self.url.login().is_none() {
            return Ok(());
        }
        let url = self.url.for_config();
        if ConfigFile::read(&file).map_err(not_configured)?.all(ORIGIN) != [url] {
            config::set(&file, &[(ORIGIN.to_owned(), url)]).map_err(not_configured)?;
        }
        Ok(())
    }

    /// Makes a shallow clone deep enough to hold the oldest revision of the build.
    fn deepen_to(&self, oldest: &str) -> Result<(), MaterialError> {
        for depth in DEPTHS {
            if !self.is_shallow() || self.has(oldest)? {
                return Ok(());
            }
            self.say(&format!("Unshallowing repository with depth {depth}"));
            let depth = format!("--depth={depth}");
            self.must_online(&["fetch", "origin", &depth], || {
                format!(
                    "Unshallow repository failed for [{}]",
                    self.url.for_display()
                )
            })?;
        }
        Ok(())
    }

    fn has(&self, revision: &str) -> Result<bool, MaterialError> {
        let branches = self
            .inside(&["branch", "-r", "--contains", revision])
            .captured()?;
        Ok(branches.status.success() && branches.stdout.contains(&self.branch.remote))
    }

    fn clean(&self, has_no_submodules: bool) -> Result<(), MaterialError> {
        let what = self.options.clean_words();
        if !has_no_submodules {
            self.foreach_submodule(&["git", "clean", what])?;
        }
        self.inside(&["clean", what]).quiet().map(drop)
    }

    fn forget_submodules(&self) -> Result<(), MaterialError> {
        self.say("Cleaning submodule configurations in .git/config");
        if self
            .shortcuts()
            .is_some_and(|known| known.configures_no_submodules())
        {
            return Ok(());
        }
        let listed = self
            .inside(&["config", "--get-regexp", r"^submodule\..+\.url"])
            .captured()?;
        for line in listed.stdout.lines() {
            let name = line
                .split_once(' ')
                .and_then(|(key, _)| key.strip_prefix("submodule.")?.strip_suffix(".url"))
                .ok_or_else(|| {
                    MaterialError::new(self.hidden.apply(&format!(
                        "Unable to parse git-config output line: {line}\nFrom output:\n{}",
                        listed.stdout.trim_end()
                    )))
                })?;
            self.inside(&["config", "--remove-section", &format!("submodule.{name}")])
                .captured()?;
        }
        Ok(())
    }

    fn update_submodules(&self) -> Result<(), MaterialError> {
        self.say("Updating git sub-modules");
        // An URL relative to ours must not bring our password to git's arguments.
        self.with(&["submodule", "init"], self.bare_origin())?
            .quiet()?;
        self.with(&["submodule", "sync"], self.bare_origin())?
            .quiet()?;
        self.foreach_submodule(&["git", "submodule", "sync"])?;
        let siblings = submodules::siblings(&self.dir, &self.url).map_err(not_configured)?;
        let update = |depth: Option<&str>| {
            let mut settings = Settings::default();
            for sibling in &siblings {
                settings.log_in(&sibling.url);
            }
            let mut words = vec![];
            if self.options.file_submodules {
                words.extend(["-c", "protocol.file.allow=always"]);
            }
            words.extend(["submodule", "update"]);
            words.extend(depth);
            self.with(&words, settings)
        };
        if self.shallow && self.version()? >= (2, 10) {
            let depths = ["--depth=1", "--depth=100", "--depth=2147483647"];
            let mut updated = false;
            for depth in depths {
                updated = update(Some(depth))?.captured()?.status.success();
                if updated {
                    break;
                }
            }
            if !updated {
                return Err(MaterialError::new("Failed to update submodule"));
            }
        } else {
            update(None)?.quiet()?;
        }
        submodules::keep_credentials(&self.dir, &siblings).map_err(not_configured)?;
        self.say("Cleaning unversioned files and sub-modules");
        self.say("Git sub-module status");
        self.inside(&["submodule", "status"]).shown().map(drop)
    }

    /// Settings that make git see the repository's URL without credentials.
    fn bare_origin(&self) -> Settings {
        let mut settings = Settings::default();
        if self.url.login().is_some() {
            settings.set(ORIGIN, self.url.for_arguments());
        }
        settings
    }

    fn foreach_submodule(&self, command: &[&str]) -> Result<(), MaterialError> {
        let mut words = vec!["submodule", "foreach", "--recursive"];
        let joined = command.join(" ");
        if self.version()? >= FOREACH_TAKES_ONE_ARGUMENT {
            words.push(&joined);
        } else {
            words.extend(command);
        }
        self.inside(&words).quiet().map(drop)
    }

    fn version(&self) -> Result<(u32, u32), MaterialError> {
        if let Some(version) = self.known_version.get() {
            return Ok(version);
        }
        let text = self.outside(&["version"]).quiet()?;
        let version = parse_version(&text).ok_or_else(|| {
            MaterialError::new(format!("cannot parse git version : {}", text.trim()))
        })?;
        self.known_version.set(Some(version));
        Ok(version)
    }

    fn shortcuts(&self) -> Option<Shortcuts> {
        Shortcuts::open(&self.dir)
    }

    fn has_no_submodules(&self) -> bool {
        self.shortcuts()
            .is_some_and(|known| known.has_no_submodules())
    }

    fn is_shallow(&self) -> bool {
        self.dir.join(".git/shallow").exists()
    }

    fn must_online(
        &self,
        words: &[&str],
        failure: impl Fn() -> String,
    ) -> Result<(), MaterialError> {
        if self.online(words)?.shown()? {
            Ok(())
        } else {
            Err(MaterialError::new(failure()))
        }
    }

    fn say(&self, text: &str) {
        self.context
            .console
            .line(Tag::Prep, &format!("[GIT] {text}"));
    }

    fn inside(&self, words: &[&str]) -> ScmCommand<'_> {
        ScmCommand {
            folder: Some(&self.dir),
            ..self.outside(words)
        }
    }

    /// Git that talks to the repository, with its credentials.
    fn online(&self, words: &[&str]) -> Result<ScmCommand<'_>, MaterialError> {
        let mut settings = Settings::default();
        settings.log_in(&self.url);
        self.with(words, settings)
    }

    fn with(&self, words: &[&str], settings: Settings) -> Result<ScmCommand<'_>, MaterialError> {
        let own_environment = if settings.is_empty() {
            Vec::new()
        } else {
            settings.variables(self.version()?)
        };
        Ok(ScmCommand {
            own_environment,
            ..self.inside(words)
        })
    }

    fn outside(&self, words: &[&str]) -> ScmCommand<'_> {
        let words = std::iter::once(&"git").chain(words).copied();
        ScmCommand::new(words, &self.hidden, self.context)
    }
}

/// Whether it went well. A mirror that cannot be used is no reason for a job to fail.
fn told(result: Result<(), MirrorError>) -> bool {
    if let Err(error) = &result {
        tracing::warn!(%error, "Going on without a mirror");
    }
    result.is_ok()
}

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn not_configured(error: ConfigError) -> MaterialError {
    MaterialError::new(error.to_string())
}

fn parse_version(text: &str) -> Option<(u32, u32)> {
    let version = text.trim().strip_prefix("git version ")?;
    let mut parts = version.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        assert_eq!(parse_version("git version 2.47.3\n"), Some((2, 47)));
        assert_eq!(
            parse_version("git version 2.39.5 (Apple Git-154)"),
            Some((2, 39))
        );
        assert_eq!(parse_version("hg 1"), None);
    }
}
