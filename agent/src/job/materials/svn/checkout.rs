//! The steps of a checkout: GoCD's commands in GoCD's order.

use journeyman_protocol::{
    console::Tag,
    material::{SvnMaterial, UrlArgument},
    revision::Modification,
    secret::Secret,
};

use super::info;
use crate::job::materials::{
    MaterialContext, MaterialError,
    place::Place,
    scm::{Hidden, ScmCommand},
    url,
};

/// From this version on `svn` reads a password from its standard input.
const PASSWORD_FROM_STDIN: (u32, u32) = (1, 10);

/// Brings the checkout to the revision.
///
/// # Errors
/// The message that the console shows.
pub(in crate::job::materials) fn update(
    material: &SvnMaterial,
    newest: &Modification,
    context: &MaterialContext,
) -> Result<(), MaterialError> {
    let place = Place::of(&material.scm, context)?;
    let display = material.url.for_display();
    place.say_start(&newest.revision, &display, context);
    let user = material
        .scm
        .user_name
        .clone()
        .filter(|user| !user.trim().is_empty());
    // GoCD: without a user there is no login at all.
    let password = user
        .as_ref()
        .and_then(|_| material.scm.resolved_password())
        .filter(|password| !password.expose().trim().is_empty());
    let svn = Svn {
        hidden: hidden(&material.url, password.as_ref()),
        hidden_in_checkout: hidden_in_checkout(&material.url, password.as_ref()),
        user,
        password,
        url: url::without_password(&material.url.url),
        display,
        place,
        context,
    };
    svn.update(&newest.revision)?;
    context.console.line(Tag::Prep, "[go] Done.\n");
    Ok(())
}

/// How the password is hidden in what `svn` prints, and the URL: Subversion takes no password from
/// one, so one that is there anyway is left out of it.
fn hidden(url: &UrlArgument, password: Option<&Secret>) -> Hidden {
    let mut hidden = Hidden::default();
    let for_svn = url::without_password(&url.url);
    hidden.replacements.push((for_svn, url.for_display()));
    if let Some(password) = password {
        hidden.add_password(password);
    }
    hidden
}

/// GoCD: where the URL is an argument, its user is hidden too.
fn hidden_in_checkout(url: &UrlArgument, password: Option<&Secret>) -> Hidden {
    let mut hidden = hidden(url, password);
    hidden.replacements.extend(url::hidden_user_info(&url.url));
    hidden
}

struct Svn<'a> {
    user: Option<String>,
    password: Option<Secret>,
    /// What `svn` is given.
    url: String,
    /// What the console shows.
    display: String,
    hidden: Hidden,
    hidden_in_checkout: Hidden,
    place: Place,
    context: &'a MaterialContext,
}

impl Svn<'_> {
    fn update(&self, revision: &str) -> Result<(), MaterialError> {
        let dir = self.place.dir.to_string_lossy();
        if self.is_usable()? {
            self.clean(&dir);
            let words = ["update", "--non-interactive", "-r", revision, &dir];
            return self.must(&self.logged_in(&words, &words));
        }
        if self.place.dir.is_dir() {
            self.place.delete()?;
        }
        self.place.make_parents()?;
        let words = |url| ["checkout", "--non-interactive", "-r", revision, url, &dir];
        self.must(&ScmCommand {
            hidden: &self.hidden_in_checkout,
            ..self.logged_in(&words(&self.url), &words(&self.display))
        })?;
        if self.place.dir.exists() {
            return Ok(());
        }
        Err(MaterialError::new(
            "Folder was not created or does not exist.. something broken",
        ))
    }

    /// Whether the folder is a checkout of this URL.
    fn is_usable(&self) -> Result<bool, MaterialError> {
        if !self.place.dir.join(".svn").is_dir() {
            return Ok(false);
        }
        let dir = self.place.dir.canonicalize().map_err(|error| {
            MaterialError::new(format!("Cannot read {}: {error}", self.place.dir.display()))
        })?;
        let xml = self
            .plain(&["info", "--xml", "--non-interactive", &dir.to_string_lossy()])
            .quiet()?;
        let stored = info::url(&xml).ok_or_else(|| {
            MaterialError::new(format!(
                "Unable to parse svn info output: {}",
                xml.trim_end()
            ))
        })?;
        Ok(url::is_same(&self.display, &stored))
    }

    /// Undoes what earlier jobs did to versioned files. GoCD: a failure is not the job's, since
    /// the update after it tells better what is wrong.
    fn clean(&self, dir: &str) {
        let cleaned = self
            .must(&self.plain(&["cleanup", dir]))
            .and_then(|()| self.must(&self.plain(&["revert", "--recursive", dir])));
        if let Err(error) = cleaned {
            tracing::warn!(%error, dir, "Failed to do cleanup and revert");
        }
    }

    fn must(&self, command: &ScmCommand<'_>) -> Result<(), MaterialError> {
        if command.shown()? {
            return Ok(());
        }
        let words = command.shown_as.as_ref().unwrap_or(&command.words);
        let mut message = format!("Failed to run {}", words.join(" "));
        if let Some(version) = self.is_too_old(command) {
            message += &format!(
                "\n[go] Subversion {version} cannot read a password from its standard input, which \
                 version {}.{} can, and this agent gives no program a password as an argument, \
                 where everybody on the machine can read it. Install a newer Subversion, or log \
                 the agent's user in once with `svn` and take user and password out of the \
                 material.",
                PASSWORD_FROM_STDIN.0, PASSWORD_FROM_STDIN.1
            );
        }
        Err(MaterialError::new(message))
    }

    /// The version of a `svn` that cannot have understood the command.
    fn is_too_old(&self, command: &ScmCommand<'_>) -> Option<String> {
        command.input.as_ref()?;
        let asked = self.plain(&["--version", "--quiet"]).quiet().ok()?;
        let version = asked.trim();
        let mut parts = version.split('.').map(str::parse);
        let parsed = (parts.next()?.ok()?, parts.next()?.ok()?);
        (parsed < PASSWORD_FROM_STDIN).then(|| version.to_owned())
    }

    /// A command that logs in, and how it is shown: GoCD gives the password as an argument.
    fn logged_in(&self, words: &[&str], shown: &[&str]) -> ScmCommand<'_> {
        let mut login = vec!["svn"];
        let mut shown_login = login.clone();
        if let Some(user) = &self.user {
            login.extend(["--username", user]);
            shown_login.extend(["--username", user]);
        }
        if self.password.is_some() {
            login.push("--password-from-stdin");
            shown_login.extend(["--password", "******"]);
        }
        let mut command = ScmCommand::new(
            login.iter().chain(words).copied(),
            &self.hidden,
            self.context,
        );
        let shown = shown_login.iter().chain(shown);
        command.shown_as = Some(shown.map(|word| (*word).to_owned()).collect());
        command.input = self
            .password
            .as_ref()
            .map(|password| password.expose().to_owned());
        command
    }

    fn plain(&self, words: &[&str]) -> ScmCommand<'_> {
        let words = std::iter::once(&"svn").chain(words).copied();
        ScmCommand::new(words, &self.hidden, self.context)
    }
}
