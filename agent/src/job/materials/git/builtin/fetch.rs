//! Cloning and fetching, and telling of it as git does.

use std::{fs, io, path::Path, time::Instant};

use git2::{AutotagOption, Direction, Oid, Remote, Repository};

use super::{
    Failure, Git, Outcome,
    refs::{is_ahead, references, short},
    remote::{failure, local_path, proxy},
    shallow,
};

/// Width of the column of names: at least this, and no more than fits a terminal's line.
const NAMES: usize = 10;
const TERMINAL: usize = 80;
/// A depth that is none.
const ENDLESS: i32 = i32::MAX;

/// What a repository has to offer.
struct Offer {
    /// The branch that its HEAD is at.
    default: Option<String>,
    names: Vec<(String, Oid)>,
}

/// A line about one reference.
struct Line {
    flag: char,
    summary: String,
    from: String,
    to: String,
    note: &'static str,
}

impl Git<'_> {
    pub(super) fn clone_to(&mut self, options: &[&str], url: &str, dir: &Path) -> Outcome {
        let option = |name| {
            let at = options.iter().position(|option| *option == name)?;
            options.get(at + 1).copied()
        };
        let depth = depth(options);
        let local = local_path(url).filter(|_| !url.starts_with("file://"));
        if let Some(path) = local
            && !Path::new(path).exists()
        {
            return Err(Failure::Fatal(format!("repository '{url}' does not exist")));
        }
        let is_occupied = fs::read_dir(dir).is_ok_and(|mut items| items.next().is_some());
        if is_occupied {
            return Err(Failure::Fatal(format!(
                "destination path '{}' already exists and is not an empty directory.",
                dir.display()
            )));
        }
        self.complain(&format!("Cloning into '{}'...", dir.display()))?;
        let depth = match (depth, local) {
            (Some(_), Some(_)) => {
                self.complain("warning: --depth is ignored in local clones; use file:// instead.")?;
                None
            }
            (depth, _) => depth,
        };
        let was_there = dir.exists();
        let made = self.fill(
            url,
            dir,
            option("--branch"),
            depth,
            options.contains(&"--no-checkout"),
        );
        if made.is_ok() && local.is_some() {
            self.complain("done.")?;
        }
        if made.is_err() {
            // As git does: what is left would be taken for a clone.
            let emptied = if was_there {
                crate::job::materials::delete_content(dir)
            } else {
                fs::remove_dir_all(dir)
            };
            if let Err(error) = emptied
                && error.kind() != io::ErrorKind::NotFound
            {
                self.complain(&format!(
                    "warning: cannot remove {}: {error}",
                    dir.display()
                ))?;
            }
        }
        made
    }

    fn fill(
        &mut self,
        url: &str,
        dir: &Path,
        branch: Option<&str>,
        depth: Option<i32>,
        no_checkout: bool,
    ) -> Outcome {
        let repository = Repository::init(dir)?;
        let mut remote = repository.remote("origin", url)?;
        let offer = self.offer(&mut remote)?;
        let find = |name: &str| {
            let mut named = offer.names.iter().filter(|(other, _)| other == name);
            named.next().map(|(_, id)| *id)
        };
        let (name, target) = match branch {
            Some(branch) => {
                let head = format!("refs/heads/{branch}");
                let tag = format!("refs/tags/{branch}");
                let found = find(&head).map(|id| (head, id));
                let Some(found) = found.or_else(|| find(&tag).map(|id| (tag, id))) else {
                    return Err(Failure::Fatal(format!(
                        "Remote branch {branch} not found in upstream origin"
                    )));
                };
                found
            }
            None => {
                let default = offer.default.clone();
                let found = default.and_then(|name| find(&name).map(|id| (name, id)));
                let Some(found) = found else {
                    return self
                        .complain("warning: You appear to have cloned an empty repository.");
                };
                found
            }
        };
        let short_name = name.strip_prefix("refs/heads/");
        // A shallow clone has one branch.
        if let (Some(_), Some(branch)) = (depth, short_name) {
            let spec = format!("+refs/heads/{branch}:refs/remotes/origin/{branch}");
            let mut config = repository.config()?;
            config.remove_multivar("remote.origin.fetch", ".*")?;
            config.set_str("remote.origin.fetch", &spec)?;
            remote = repository.find_remote("origin")?;
        }
        self.receive(dir, &mut remote, depth)?;
        let Some(branch) = short_name else {
            repository
                .set_head_detached(repository.find_object(target, None)?.peel_to_commit()?.id())?;
            return self.populate(&repository, no_checkout);
        };
        repository.reference(&name, target, true, "clone")?;
        repository.set_head(&name)?;
        let mut config = repository.config()?;
        config.set_str(&format!("branch.{branch}.remote"), "origin")?;
        config.set_str(&format!("branch.{branch}.merge"), &name)?;
        let default = offer
            .default
            .as_deref()
            .and_then(|name| name.strip_prefix("refs/heads/"));
        if let Some(default) = default {
            let target = format!("refs/remotes/origin/{default}");
            if repository.find_reference(&target).is_ok() {
                repository.reference_symbolic(
                    "refs/remotes/origin/HEAD",
                    &target,
                    true,
                    "clone",
                )?;
            }
        }
        self.populate(&repository, no_checkout)
    }

    fn populate(&self, repository: &Repository, no_checkout: bool) -> Outcome {
        if no_checkout {
            return Ok(());
        }
        let mut options = git2::build::CheckoutBuilder::new();
        options.force();
        Ok(repository.checkout_head(Some(&mut options))?)
    }

    /// Asks what there is.
    fn offer(&self, remote: &mut Remote<'_>) -> Result<Offer, Failure> {
        let url = self.settings.instead_of(remote.url()?);
        let begun = Instant::now();
        let failed = |error: &git2::Error| failure(error, &url, begun);
        let mut remote = if remote.url()? == url {
            remote.clone()
        } else {
            // libgit2 would log in with what is in the URL itself, which our rule takes out.
            Remote::create_detached(&*url)?
        };
        let callbacks = self.settings.callbacks(&url);
        let connection = remote
            .connect_auth(Direction::Fetch, Some(callbacks), Some(proxy()))
            .map_err(|error| failed(&error))?;
        let default = connection.default_branch().ok();
        let default = default.map(|name| String::from_utf8_lossy(&name).into_owned());
        let heads = connection.list().map_err(|error| failed(&error))?;
        let names = heads
            .iter()
            .filter(|head| !head.name().ends_with("^{}"))
            .map(|head| (head.name().to_owned(), head.oid()))
            .collect();
        Ok(Offer { default, names })
    }

    /// Fetches by the remote's own rules.
    fn receive(&self, dir: &Path, remote: &mut Remote<'_>, depth: Option<i32>) -> Outcome {
        let configured = remote.url()?.to_owned();
        let url = self.settings.instead_of(&configured);
        let begun = Instant::now();
        let specs: Vec<String> = remote
            .fetch_refspecs()?
            .iter()
            .flatten()
            .flatten()
            .map(ToOwned::to_owned)
            .collect();
        let mut options = self.settings.options(&url);
        options.download_tags(AutotagOption::Auto);
        let is_local = local_path(&url).is_some();
        if let Some(depth) = depth.filter(|_| !is_local) {
            options.depth(depth);
        }
        let repository = Repository::open(dir)?;
        let fetched = if configured == url {
            remote.fetch(&specs, Some(&mut options), None)
        } else {
            repository
                .remote_anonymous(&url)
                .and_then(|mut other| other.fetch(&specs, Some(&mut options), None))
        };
        fetched.map_err(|error| failure(&error, &url, begun))?;
        if let (Some(depth), true) = (depth, is_local) {
            let tips: Vec<Oid> = references(&repository)?
                .into_iter()
                .filter(|(name, _)| specs.iter().any(|spec| fetches_to(spec, name)))
                .map(|(_, tip)| tip)
                .collect();
            let depth = if depth == ENDLESS {
                usize::MAX
            } else {
                depth as usize
            };
            shallow::cut(dir, &tips, depth)?;
        }
        Ok(())
    }

    /// `git fetch [origin] [--prune] [--depth=N]`
    pub(super) fn fetch(&mut self, options: &[&str]) -> Outcome {
        let repository = self.open()?;
        let mut remote = repository.find_remote("origin")?;
        let url = self.settings.instead_of(remote.url()?);
        let before = references(&repository)?;
        let offer = self.offer(&mut remote)?;
        let mut lines = Vec::new();
        if options.contains(&"--prune") {
            lines.extend(prune(&repository, &remote, &offer)?);
        }
        if !options.contains(&"origin") {
            lines.extend(merged(&repository, &remote, &offer)?);
        }
        for spec in remote.refspecs() {
            let (source, destination) = (spec.src()?, spec.dst()?);
            let is_one = !source.contains('*') && !destination.is_empty();
            if is_one && !offer.names.iter().any(|(name, _)| spec.src_matches(name)) {
                return Err(Failure::Fatal(format!("couldn't find remote ref {source}")));
            }
        }
        self.spare_current_branch(&repository, &remote, &offer)?;
        let dir = self.dir.clone();
        self.receive(&dir, &mut remote, depth(options))?;
        lines.extend(news(&repository, &remote, &before)?);
        self.tell(&url, &lines)
    }

    /// The files of a branch would no longer be those of its commit.
    fn spare_current_branch(
        &self,
        repository: &Repository,
        remote: &Remote<'_>,
        offer: &Offer,
    ) -> Outcome {
        let Ok(head) = repository.head() else {
            return Ok(());
        };
        let current = head.name()?;
        let names = offer.names.iter().map(|(name, _)| name);
        for (name, spec) in names.flat_map(|name| remote.refspecs().map(move |spec| (name, spec))) {
            if spec.src_matches(name)
                && spec
                    .transform(name)
                    .is_ok_and(|to| *to == *current.as_bytes())
            {
                return Err(Failure::Fatal(format!(
                    "refusing to fetch into branch '{current}' checked out at '{}'",
                    self.dir.display()
                )));
            }
        }
        Ok(())
    }

    /// The lines that git has for what came and went.
    fn tell(&mut self, url: &str, lines: &[Line]) -> Outcome {
        if lines.is_empty() {
            return Ok(());
        }
        let url = url.trim_end_matches('/');
        self.complain(&format!("From {}", url.strip_suffix(".git").unwrap_or(url)))?;
        let fits = |line: &&Line| 21 + line.from.len() + 4 + line.to.len() < TERMINAL;
        let widths = lines.iter().filter(fits).map(|line| line.from.len());
        let width = widths.max().unwrap_or(0).max(NAMES);
        for line in lines {
            self.complain(&format!(
                " {} {:<17} {:<width$} -> {}{}",
                line.flag, line.summary, line.from, line.to, line.note
            ))?;
        }
        Ok(())
    }
}

fn depth(options: &[&str]) -> Option<i32> {
    let mut depths = options
        .iter()
        .filter_map(|option| option.strip_prefix("--depth="));
    depths.next().and_then(|depth| depth.parse().ok())
}

/// Whether a rule brings something to this name here.
fn fetches_to(spec: &str, name: &str) -> bool {
    let Some((_, destination)) = spec.split_once(':') else {
        return false;
    };
    match destination.split_once('*') {
        Some((before, after)) => name.starts_with(before) && name.ends_with(after),
        None => name == destination,
    }
}

/// Removes what the remote no longer has.
fn prune(
    repository: &Repository,
    remote: &Remote<'_>,
    offer: &Offer,
) -> Result<Vec<Line>, Failure> {
    let mut lines = Vec::new();
    for (name, _) in references(repository)? {
        let mut sources = remote
            .refspecs()
            .filter(|spec| spec.dst_matches(&name))
            .filter_map(|spec| spec.rtransform(&name).ok())
            .map(|source| String::from_utf8_lossy(&source).into_owned())
            .peekable();
        if sources.peek().is_none() {
            continue;
        }
        if sources.any(|source| offer.names.iter().any(|(offered, _)| *offered == source)) {
            continue;
        }
        repository.find_reference(&name)?.delete()?;
        lines.push(Line {
            flag: '-',
            summary: "[deleted]".to_owned(),
            from: "(none)".to_owned(),
            to: shown(&name),
            note: "",
        });
    }
    Ok(lines)
}

/// The branch that the one here is to be merged with, if no rule fetches it.
fn merged(
    repository: &Repository,
    remote: &Remote<'_>,
    offer: &Offer,
) -> Result<Option<Line>, Failure> {
    let Ok(head) = repository.head() else {
        return Ok(None);
    };
    let branch = head.shorthand()?;
    let config = repository.config()?;
    let Ok(merge) = config.get_string(&format!("branch.{branch}.merge")) else {
        return Ok(None);
    };
    let is_fetched = remote.refspecs().any(|spec| spec.src_matches(&merge));
    let is_there = offer.names.iter().any(|(name, _)| *name == merge);
    if is_fetched || !is_there {
        return Ok(None);
    }
    let kind = if merge.starts_with("refs/tags/") {
        "tag"
    } else {
        "branch"
    };
    Ok(Some(Line {
        flag: '*',
        summary: kind.to_owned(),
        from: shown(&merge),
        to: "FETCH_HEAD".to_owned(),
        note: "",
    }))
}

/// What is other than before.
fn news(
    repository: &Repository,
    remote: &Remote<'_>,
    before: &[(String, Oid)],
) -> Result<Vec<Line>, Failure> {
    let mut lines = Vec::new();
    for (name, new) in references(repository)? {
        let old = before
            .iter()
            .find(|(other, _)| *other == name)
            .map(|(_, id)| *id);
        if old == Some(new) {
            continue;
        }
        let mut specs = remote.refspecs();
        let source = specs
            .find(|spec| spec.dst_matches(&name))
            .and_then(|spec| spec.rtransform(&name).ok())
            .map(|source| String::from_utf8_lossy(&source).into_owned());
        let source = match source {
            Some(source) => source,
            None if name.starts_with("refs/tags/") => name.clone(),
            None => continue,
        };
        let (flag, summary, note) = match old {
            None => {
                let kind = if source.starts_with("refs/tags/") {
                    "[new tag]"
                } else if source.starts_with("refs/heads/") {
                    "[new branch]"
                } else {
                    "[new ref]"
                };
                ('*', kind.to_owned(), "")
            }
            Some(old) => {
                let (from, to) = (short(repository, old), short(repository, new));
                if is_ahead(repository, new, old) {
                    (' ', format!("{from}..{to}"), "")
                } else {
                    ('+', format!("{from}...{to}"), "  (forced update)")
                }
            }
        };
        lines.push(Line {
            flag,
            summary,
            from: shown(&source),
            to: shown(&name),
            note,
        });
    }
    Ok(lines)
}

/// A name without what goes without saying.
fn shown(name: &str) -> String {
    ["refs/heads/", "refs/tags/", "refs/remotes/"]
        .iter()
        .find_map(|prefix| name.strip_prefix(prefix))
        .unwrap_or(name)
        .to_owned()
}
