//! The steps of a checkout: GoCD's commands in GoCD's order.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    path::Path,
};

use journeyman_protocol::{
    console::Tag, material::P4Material, revision::Modification, secret::Secret,
};

use super::client;
use crate::job::materials::{
    MaterialContext, MaterialError, cleanup,
    place::{Place, make_folder},
    scm::{Hidden, ScmCommand},
};

/// The file that tells which server a folder came from.
const REPOSITORY: &str = ".cruise_p4repo";
/// The exit code of a shell that does not find a program, as wrappers around `p4` give it.
const NOT_FOUND: i32 = 127;

/// Brings the checkout to the revision.
///
/// # Errors
/// The message that the console shows.
pub(in crate::job::materials) fn update(
    material: &P4Material,
    newest: &Modification,
    context: &MaterialContext,
) -> Result<(), MaterialError> {
    let place = Place::of(&material.scm, context)?;
    let user = material
        .scm
        .user_name
        .clone()
        .filter(|user| !user.trim().is_empty());
    let server = &material.server_and_port;
    let repository = match &user {
        Some(user) => format!("{user}@{server}"),
        None => server.clone(),
    };
    let force = is_other_repository(&place, &repository, context)?;
    place.say_start(&newest.revision, server, context);
    let password = material
        .scm
        .resolved_password()
        .filter(|password| !password.expose().trim().is_empty());
    let mut hidden = Hidden::default();
    if let Some(password) = &password {
        hidden.add_password(password);
    }
    let name = client::name(&context.host_name, &place.dir);
    let spec = client::spec(&name, &place.dir, &material.view.value);
    let p4 = P4 {
        server,
        user,
        password,
        use_tickets: material.use_tickets,
        client: name,
        hidden,
        context,
    };
    p4.log_in()?;
    p4.must(&["client", "-i"], &spec)?;
    p4.sync(&newest.revision, force)?;
    context.console.line(Tag::Prep, "[go] Done.\n");
    Ok(())
}

/// Whether what is in the folder did not come from this server, for this user: then it has been
/// emptied, and everything must be synchronised anew.
fn is_other_repository(
    place: &Place,
    repository: &str,
    context: &MaterialContext,
) -> Result<bool, MaterialError> {
    let file = place.dir.join(REPOSITORY);
    let failed =
        |error: io::Error| MaterialError::new(format!("Cannot keep {}: {error}", file.display()));
    if !file.exists() {
        make_folder(&place.dir)?;
        write(&file, repository).map_err(failed)?;
        return Ok(true);
    }
    if holds(&file, repository).map_err(failed)? {
        return Ok(false);
    }
    context.console.line(
        Tag::Prep,
        "[go] Working directory has changed. Deleting and re-creating it.",
    );
    place.delete()?;
    make_folder(&place.dir)?;
    write(&file, repository).map_err(failed)?;
    Ok(true)
}

/// A job may have left anything at this path: never more than needed is read of it.
fn holds(file: &Path, text: &str) -> io::Result<bool> {
    if !file.symlink_metadata()?.is_file() {
        return Ok(false);
    }
    let mut found = Vec::new();
    let limit = u64::try_from(text.len())
        .unwrap_or(u64::MAX)
        .saturating_add(1);
    File::open(file)?.take(limit).read_to_end(&mut found)?;
    Ok(found == text.as_bytes())
}

/// Never writes through a link.
fn write(file: &Path, text: &str) -> io::Result<()> {
    cleanup::delete(file)?;
    let mut file = OpenOptions::new().write(true).create_new(true).open(file)?;
    file.write_all(text.as_bytes())
}

struct P4<'a> {
    server: &'a str,
    user: Option<String>,
    password: Option<Secret>,
    use_tickets: bool,
    client: String,
    hidden: Hidden,
    context: &'a MaterialContext,
}

impl P4<'_> {
    /// Gets a ticket, where the material wants one.
    fn log_in(&self) -> Result<(), MaterialError> {
        if !self.use_tickets {
            return Ok(());
        }
        let password = self.password.as_ref().map_or("", Secret::expose);
        let login = self.command(&["login"], &format!("{password}\n"));
        let said = login.captured()?;
        if !said.status.success() {
            return Err(login.report(&said));
        }
        // GoCD: whatever comes as an error is one.
        match login.complaint(&said) {
            Some(complaint) => Err(complaint),
            None => Ok(()),
        }
    }

    fn sync(&self, revision: &str, force: bool) -> Result<(), MaterialError> {
        let number: i64 = revision
            .parse()
            .map_err(|_| MaterialError::new(format!("For input string: \"{revision}\"")))?;
        let what = format!("//{}/...@{number}", self.client);
        if force {
            self.must(&["sync", "-f", &what], "")
        } else {
            self.must(&["sync", &what], "")
        }
    }

    fn must(&self, words: &[&str], input: &str) -> Result<(), MaterialError> {
        let command = self.command(words, input);
        match command.exit_code()? {
            0 => Ok(()),
            NOT_FOUND => Err(MaterialError::new(
                "Failed to find 'p4' on your PATH. Please ensure 'p4' is executable by the Go \
                 Server and on the Go Agents where this material will be used.",
            )),
            _ => Err(MaterialError::new(
                self.hidden
                    .apply(&format!("Failed to run : {}", command.describe())),
            )),
        }
    }

    fn command(&self, words: &[&str], input: &str) -> ScmCommand<'_> {
        let words = std::iter::once(&"p4").chain(words).copied();
        let mut command = ScmCommand::new(words, &self.hidden, self.context);
        // In the order of GoCD's reports.
        let mut set = |name: &str, value: &str| {
            command
                .environment
                .push((name.to_owned(), value.to_owned()));
        };
        set("P4CLIENT", &self.client);
        if let Some(password) = self.password.as_ref().filter(|_| !self.use_tickets) {
            set("P4PASSWD", password.expose());
        }
        set("P4PORT", self.server);
        if let Some(user) = &self.user {
            set("P4USER", user);
        }
        command.input = Some(input.to_owned());
        command
    }
}
