//! Submodules.

use std::{path::Path, time::Instant};

use git2::{
    DescribeFormatOptions, DescribeOptions, Oid, Repository, Submodule, SubmoduleUpdateOptions,
};

use super::{
    Failure, Git, Outcome,
    remote::{failure, local_path},
    run_in,
};

impl Git<'_> {
    /// Runs one of our own commands in every submodule that is there, and in theirs.
    pub(super) fn foreach(&mut self, command: &str) -> Outcome {
        let words: Vec<String> = command
            .split(' ')
            .skip_while(|word| *word == "git")
            .map(ToOwned::to_owned)
            .collect();
        let repository = self.open()?;
        for submodule in known(&repository)? {
            let dir = self.dir.join(submodule.path());
            if submodule.open().is_err() {
                continue;
            }
            let path = submodule.path().display().to_string();
            self.print(&format!("Entering '{path}'"))?;
            let settings = self.settings.clone();
            let code = run_in(dir.clone(), settings, &words, self.out, self.err);
            if code != 0 {
                return Err(Failure::Fatal(format!(
                    "run_command returned non-zero status for {path}\n."
                )));
            }
            let above = std::mem::replace(&mut self.dir, dir);
            let inside = self.foreach(command);
            self.dir = above;
            inside?;
        }
        Ok(())
    }

    pub(super) fn submodule_init(&mut self) -> Outcome {
        let repository = self.open()?;
        for submodule in known(&repository)? {
            let key = format!("submodule.{}.url", submodule.name()?);
            let mut config = repository.config()?;
            if config.get_string(&key).is_err() {
                let url = self.resolved(&repository, &submodule)?;
                config.set_str(&key, &url)?;
                config.set_bool(&format!("submodule.{}.active", submodule.name()?), true)?;
            }
        }
        Ok(())
    }

    pub(super) fn submodule_sync(&mut self) -> Outcome {
        let repository = self.open()?;
        for submodule in known(&repository)? {
            let key = format!("submodule.{}.url", submodule.name()?);
            let mut config = repository.config()?;
            if config.get_string(&key).is_err() {
                continue;
            }
            let url = self.resolved(&repository, &submodule)?;
            config.set_str(&key, &url)?;
            if let Ok(inside) = submodule.open() {
                inside.remote_set_url("origin", &url)?;
            }
        }
        Ok(())
    }

    pub(super) fn submodule_update(&mut self, options: &[&str]) -> Outcome {
        let depth = options
            .iter()
            .find_map(|option| option.strip_prefix("--depth=")?.parse::<i32>().ok());
        let repository = self.open()?;
        for mut submodule in known(&repository)? {
            let (name, path) = (submodule.name()?.to_owned(), submodule.path().to_owned());
            let Ok(url) = repository
                .config()?
                .get_string(&format!("submodule.{name}.url"))
            else {
                continue;
            };
            let updated = self.update_one(&repository, &mut submodule, &url, depth);
            let Err(Failure::Fatal(why)) = updated else {
                continue;
            };
            if submodule
                .open()
                .is_ok_and(|inside| !inside.is_empty().unwrap_or(true))
            {
                return Err(Failure::Fatal(format!(
                    "{why}\nfatal: Unable to fetch in submodule path '{}'",
                    path.display()
                )));
            }
            // Git tries twice, and says so.
            let dir = self.dir.join(&path);
            let (dir, path) = (dir.display(), path.display());
            for end in ["'. Retry scheduled", "' a second time, aborting"] {
                self.complain(&format!(
                    "fatal: {why}\nfatal: clone of '{url}' into submodule path '{dir}' failed\n\
                     Failed to clone '{path}{end}"
                ))?;
            }
            return Err(Failure::Code(1));
        }
        Ok(())
    }

    fn update_one(
        &self,
        repository: &Repository,
        submodule: &mut Submodule<'_>,
        url: &str,
        depth: Option<i32>,
    ) -> Outcome {
        let begun = Instant::now();
        let local = local_path(url);
        // As git: what a repository names must not make us read another one of this machine.
        if local.is_some() && !self.allows_files(repository) {
            return Err(Failure::Fatal("transport 'file' not allowed".to_owned()));
        }
        if let Some(path) = local
            && !Path::new(path).exists()
        {
            return Err(Failure::Fatal(format!("repository '{url}' does not exist")));
        }
        let mut fetch = self.settings.options(url);
        if let Some(depth) = depth.filter(|depth| local.is_none() && *depth != i32::MAX) {
            fetch.depth(depth);
        }
        let mut checkout = git2::build::CheckoutBuilder::new();
        checkout.force();
        let mut options = SubmoduleUpdateOptions::new();
        options.fetch(fetch).checkout(checkout).allow_fetch(true);
        submodule
            .update(false, Some(&mut options))
            .map_err(|error| failure(&error, url, begun))
    }

    pub(super) fn submodule_status(&mut self) -> Outcome {
        let repository = self.open()?;
        for submodule in known(&repository)? {
            let Some(wanted) = submodule.index_id() else {
                continue;
            };
            let path = submodule.path().display().to_string();
            let inside = submodule.open().ok();
            let found = inside
                .as_ref()
                .and_then(|inside| inside.head().ok()?.target());
            let line = match (&inside, found) {
                (Some(inside), Some(found)) => {
                    let sign = if found == wanted { ' ' } else { '+' };
                    match description(inside, found) {
                        Some(text) => format!("{sign}{found} {path} ({text})"),
                        None => format!("{sign}{found} {path}"),
                    }
                }
                _ => format!("-{wanted} {path}"),
            };
            self.print(&line)?;
        }
        Ok(())
    }

    fn allows_files(&self, repository: &Repository) -> bool {
        let name = "protocol.file.allow";
        let configured = repository
            .config()
            .and_then(|config| config.get_string(name));
        let value = self.settings.get(name).map(ToOwned::to_owned);
        value.or(configured.ok()).as_deref() == Some("always")
    }

    /// The URL of a submodule; one that begins with dots is seen from the repository's own.
    fn resolved(
        &self,
        repository: &Repository,
        submodule: &Submodule<'_>,
    ) -> Result<String, Failure> {
        let name = submodule.name()?;
        let modules = super::ConfigFile::read(&self.dir.join(".gitmodules"))
            .map_err(|error| Failure::Fatal(error.to_string()))?;
        let url = modules
            .submodules()
            .iter()
            .find(|(other, _)| *other == name)
            .map(|(_, url)| (*url).to_owned())
            .ok_or_else(|| {
                Failure::Fatal(format!(
                    "No url found for submodule path '{}' in .gitmodules",
                    submodule.path().display()
                ))
            })?;
        if !url.starts_with("./") && !url.starts_with("../") {
            return Ok(url);
        }
        let key = "remote.origin.url";
        let origin = match self.settings.get(key) {
            Some(origin) => origin.to_owned(),
            None => match repository.config()?.get_string(key) {
                Ok(origin) => origin,
                Err(_) => self.dir.display().to_string(),
            },
        };
        Ok(relative(&origin, &url))
    }
}

/// A URL that begins with dots, seen from another one.
fn relative(origin: &str, url: &str) -> String {
    let (mut base, mut rest) = (origin.trim_end_matches('/'), url);
    loop {
        if let Some(after) = rest.strip_prefix("../") {
            let end = base.rfind(['/', ':']).unwrap_or(0);
            // The colon of `host:path` stays.
            let keep = if base[end..].starts_with(':') {
                end + 1
            } else {
                end
            };
            if base.len() == keep {
                break;
            }
            base = &base[..keep];
            rest = after;
        } else if let Some(after) = rest.strip_prefix("./") {
            rest = after;
        } else {
            break;
        }
    }
    let rest = rest.trim_end_matches('/');
    if base.ends_with(':') {
        format!("{base}{rest}")
    } else {
        format!("{base}/{rest}")
    }
}

/// The submodules of the index that are in `.gitmodules`, none of which leads out of the checkout.
fn known(repository: &Repository) -> Result<Vec<Submodule<'_>>, Failure> {
    let mut found = Vec::new();
    for submodule in repository.submodules()? {
        let is_inside = |path: &Path| {
            use std::path::Component;
            let mut parts = path.components();
            parts.all(|part| matches!(part, Component::Normal(_)))
        };
        let name = submodule.name().map(Path::new).is_ok_and(is_inside);
        if submodule.index_id().is_some() && name && is_inside(submodule.path()) {
            found.push(submodule);
        }
    }
    found.sort_by(|one, other| one.path().cmp(other.path()));
    Ok(found)
}

/// What git says of a submodule's commit, by tags, else by branches.
fn description(repository: &Repository, id: Oid) -> Option<String> {
    let object = repository.find_object(id, None).ok()?;
    let mut ways = [
        DescribeOptions::new(),
        DescribeOptions::new(),
        DescribeOptions::new(),
    ];
    ways[1].describe_tags();
    ways[2].describe_all();
    ways[2].show_commit_oid_as_fallback(true);
    let format = DescribeFormatOptions::new();
    ways.iter()
        .find_map(|way| object.describe(way).ok()?.format(Some(&format)).ok())
}

#[cfg(test)]
mod tests {
    use super::relative;

    #[test]
    fn urls_are_seen_from_the_repositorys_own() {
        let table = [
            ("http://h/g/app", "../sub", "http://h/g/sub"),
            ("http://h/g/app/", "../../x/sub/", "http://h/x/sub"),
            ("git@h:g/app.git", "../sub.git", "git@h:g/sub.git"),
            ("git@h:app", "../sub", "git@h:sub"),
            ("/srv/app", "./sub", "/srv/app/sub"),
        ];
        for (origin, url, expected) in table {
            assert_eq!(relative(origin, url), expected);
        }
    }
}
