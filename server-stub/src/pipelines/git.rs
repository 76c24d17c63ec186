//! Git, as far as the server needs it: a bare mirror of one branch, its files and its history.
//!
//! Every call blocks and belongs on a thread of its own ([`in_background`]): libgit2 can hang on a
//! server that accepts a connection and then says nothing, and such a thread must hold up neither
//! the requests nor the end of the process.

use std::collections::HashSet;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::{Duration, Instant};

use git2::{
    AutotagOption, Cred, CredentialType, Delta, FetchOptions, ObjectType, Oid, RemoteCallbacks,
    Repository, Sort, TreeWalkMode, TreeWalkResult,
};
use journeyman_protocol::revision::ModifiedAction;
use ring::digest;

use super::location;
use super::reader::{self, Problem, Source};
use super::yaml::MAX_FILE_BYTES;
use crate::hex::hex;
use crate::materials::{File as ChangedFile, MODIFICATIONS_OF_A_RUN};

/// How long a fetch may take, waiting for another fetch of the same repository included.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Configuration files in one revision; more are taken for a mistake.
const MAX_FILES: usize = 1000;

/// Bytes of all configuration files of one revision.
const MAX_BYTES: usize = 32 * 1024 * 1024;

/// How long a server that does not answer is listened to, in milliseconds.
const SILENCE: i32 = 30_000;

/// Files of one commit that are told; of the others only how many there are.
const MAX_CHANGED_FILES: usize = 10_000;

/// Characters of a commit's message that are kept.
const MAX_MESSAGE: usize = 64 * 1024;

/// libgit2 asks again for as long as it is given something.
const MAX_CREDENTIAL_ATTEMPTS: usize = 4;

/// A git repository could not be read. Addresses are shown without their passwords.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    #[error("cannot fetch branch {branch} of {url}: {cause}")]
    Fetch {
        url: String,
        branch: String,
        cause: String,
    },
    #[error("there is no branch {branch} in {url}")]
    NoBranch { url: String, branch: String },
    #[error("{url} did not answer within {} s", .patience.as_secs())]
    Slow { url: String, patience: Duration },
    #[error("cannot read {what} in the copy of {url}: {cause}")]
    Read {
        what: String,
        url: String,
        cause: String,
    },
    #[error("cannot keep a copy of the repository at {}", path.display())]
    Copy {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{url} has more than {MAX_FILES} configuration files")]
    TooManyFiles { url: String },
    #[error("the configuration files of {url} have more than {MAX_BYTES} bytes together")]
    TooManyBytes { url: String },
}

/// Where a repository is and how to get in.
#[derive(Clone)]
pub struct Remote {
    pub url: String,
    /// A branch, or a refspec such as `refs/pull/7/head:pr7`.
    pub branch: String,
    pub username: Option<String>,
    pub password: Option<String>,
}

/// One commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    pub revision: String,
    pub author: String,
    pub email: String,
    pub message: String,
    /// Seconds since the Unix epoch, of the commit itself.
    pub seconds: i64,
    /// What it changes; of a merge only what differs from all its parents.
    pub files: Vec<ChangedFile>,
    /// So many more.
    pub more_files: i64,
}

/// Runs a blocking piece of work on a thread that nothing waits for longer than `patience`.
pub async fn in_background<T: Send + 'static>(
    url: &str,
    patience: Duration,
    work: impl FnOnce() -> Result<T, GitError> + Send + 'static,
) -> Result<T, GitError> {
    let (done, outcome) = tokio::sync::oneshot::channel();
    let started = std::thread::Builder::new()
        .name("git".to_owned())
        .spawn(move || drop(done.send(work())));
    let slow = || GitError::Slow {
        url: location::without_credentials(url),
        patience,
    };
    if let Err(source) = started {
        return Err(GitError::Copy {
            path: PathBuf::new(),
            source,
        });
    }
    match tokio::time::timeout(patience, outcome).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) | Err(_) => Err(slow()),
    }
}

/// A bare copy of a remote repository on this machine.
pub struct Mirror {
    repository: Repository,
    remote: Remote,
    shown_url: String,
    /// Held for as long as the copy is used: two threads must not fetch into one copy.
    _lock: File,
}

impl Mirror {
    /// Brings the copy of a branch up to date, cloning it first if need be. All materials and
    /// configuration repositories with one address share a copy under `folder`.
    pub fn fetch(folder: &Path, remote: &Remote) -> Result<Self, GitError> {
        limit_silence();
        let deadline = Instant::now() + PATIENCE;
        let shown_url = location::without_credentials(&remote.url);
        let path = folder.join(name_of(&remote.url));
        let lock = lock(&path, &shown_url, deadline)?;
        let repository = match open(&path) {
            Ok(repository) => repository,
            Err(_) => start_over(&path)?,
        };
        let failed = |error: &git2::Error| GitError::Fetch {
            url: shown_url.clone(),
            branch: remote.branch.clone(),
            // Some of libgit2's messages repeat the address, password included.
            cause: error.message().replace(&remote.url, &shown_url),
        };
        let repository = match fetch_branch(&repository, remote, deadline) {
            Ok(()) => repository,
            // A copy that a crash left half-written must not be in the way for ever.
            Err(error) if is_broken(&error) => {
                drop(repository);
                let repository = start_over(&path)?;
                fetch_branch(&repository, remote, deadline).map_err(|error| failed(&error))?;
                repository
            }
            Err(error) if error.code() == git2::ErrorCode::NotFound => {
                return Err(if error.class() == git2::ErrorClass::Reference {
                    GitError::NoBranch {
                        url: shown_url,
                        branch: remote.branch.clone(),
                    }
                } else {
                    failed(&error)
                });
            }
            Err(error) => return Err(failed(&error)),
        };
        Ok(Self {
            repository,
            remote: remote.clone(),
            shown_url,
            _lock: lock,
        })
    }

    /// The newest commit of the branch.
    pub fn head(&self) -> Result<Oid, GitError> {
        let (_, name) = references(&self.remote.branch);
        self.repository
            .refname_to_id(&name)
            .map_err(|_| GitError::NoBranch {
                url: self.shown_url.clone(),
                branch: self.remote.branch.clone(),
            })
    }

    /// The configuration files of a commit: `*.gocd.yaml` and `*.gocd.yml` in any folder.
    /// A file that is too long or no text is answered with what is wrong with it.
    pub fn configuration_files(
        &self,
        commit: Oid,
    ) -> Result<(Vec<Source>, Vec<Problem>), GitError> {
        let failed = |cause: git2::Error| self.read_error("the configuration files", &cause);
        let tree = self
            .repository
            .find_commit(commit)
            .and_then(|commit| commit.tree())
            .map_err(failed)?;
        let mut found = Vec::new();
        tree.walk(TreeWalkMode::PreOrder, |folder, entry| {
            let name = entry.name().unwrap_or_default();
            if reader::is_configuration_file(name) && entry.kind() == Some(ObjectType::Blob) {
                found.push((format!("{folder}{name}"), entry.id()));
            }
            if found.len() > MAX_FILES {
                TreeWalkResult::Abort
            } else {
                TreeWalkResult::Ok
            }
        })
        .or_else(|error| {
            if found.len() > MAX_FILES {
                Ok(())
            } else {
                Err(failed(error))
            }
        })?;
        if found.len() > MAX_FILES {
            return Err(GitError::TooManyFiles {
                url: self.shown_url.clone(),
            });
        }
        let (mut files, mut refused) = (Vec::new(), Vec::new());
        let objects = self.repository.odb().map_err(failed)?;
        let mut bytes = 0_usize;
        for (path, id) in found {
            let (size, _) = objects.read_header(id).map_err(failed)?;
            if size > MAX_FILE_BYTES {
                refused.push(Source::too_long(path));
                continue;
            }
            bytes = bytes.saturating_add(size);
            if bytes > MAX_BYTES {
                return Err(GitError::TooManyBytes {
                    url: self.shown_url.clone(),
                });
            }
            let blob = self.repository.find_blob(id).map_err(failed)?;
            match Source::new(path, blob.content().to_vec()) {
                Ok(file) => files.push(file),
                Err(problem) => refused.push(problem),
            }
        }
        Ok((files, refused))
    }

    /// What is new on the branch since `seen`, newest first: nothing if the branch is still there;
    /// the newest commit alone when nothing was seen yet, when what was seen is lost, or when the
    /// branch was set back to an older commit.
    pub fn history(&self, seen: Option<&str>) -> Result<Vec<Commit>, GitError> {
        let head = self.head()?;
        if seen == Some(head.to_string().as_str()) {
            return Ok(Vec::new());
        }
        let failed = |cause: git2::Error| self.read_error("the history", &cause);
        let mut walk = self.repository.revwalk().map_err(failed)?;
        walk.set_sorting(Sort::TOPOLOGICAL | Sort::TIME)
            .map_err(failed)?;
        walk.push(head).map_err(failed)?;
        let seen = seen
            .and_then(|seen| Oid::from_str(seen).ok())
            .filter(|seen| self.repository.find_commit(*seen).is_ok());
        let limit = match seen {
            Some(seen) => {
                walk.hide(seen).map_err(failed)?;
                usize::try_from(MODIFICATIONS_OF_A_RUN).unwrap_or(usize::MAX)
            }
            None => 1,
        };
        let mut commits = Vec::new();
        for id in walk.take(limit) {
            commits.push(self.commit(id.map_err(failed)?)?);
        }
        if commits.is_empty() {
            commits.push(self.commit(head)?);
        }
        Ok(commits)
    }

    fn commit(&self, id: Oid) -> Result<Commit, GitError> {
        let commit = self
            .repository
            .find_commit(id)
            .map_err(|cause| self.read_error("the history", &cause))?;
        let files = self
            .changed_files(&commit)
            .map_err(|cause| self.read_error("a commit's files", &cause))?;
        let more_files = files.len().saturating_sub(MAX_CHANGED_FILES);
        let author = commit.author();
        let name = String::from_utf8_lossy(author.name_bytes()).into_owned();
        let email = String::from_utf8_lossy(author.email_bytes()).into_owned();
        Ok(Commit {
            revision: id.to_string(),
            author: format!("{name} <{email}>"),
            email,
            message: String::from_utf8_lossy(commit.message_bytes())
                .trim_end()
                .chars()
                .take(MAX_MESSAGE)
                .collect(),
            seconds: commit.time().seconds(),
            files: files.into_iter().take(MAX_CHANGED_FILES).collect(),
            more_files: i64::try_from(more_files).unwrap_or(i64::MAX),
        })
    }

    fn changed_files(&self, commit: &git2::Commit<'_>) -> Result<Vec<ChangedFile>, git2::Error> {
        let tree = commit.tree()?;
        let changed_from = |parent: Option<&git2::Tree<'_>>| {
            let diff = self
                .repository
                .diff_tree_to_tree(parent, Some(&tree), None)?;
            let file = |delta: git2::DiffDelta<'_>| {
                let path = delta
                    .new_file()
                    .path_bytes()
                    .or(delta.old_file().path_bytes());
                ChangedFile {
                    path: String::from_utf8_lossy(path.unwrap_or_default()).into_owned(),
                    action: match delta.status() {
                        Delta::Added => ModifiedAction::Added,
                        Delta::Deleted => ModifiedAction::Deleted,
                        _ => ModifiedAction::Modified,
                    },
                }
            };
            Ok::<_, git2::Error>(diff.deltas().map(file).collect::<Vec<_>>())
        };
        let mut parents = commit.parents();
        let Some(first) = parents.next() else {
            return changed_from(None);
        };
        let mut files = changed_from(Some(&first.tree()?))?;
        for parent in parents {
            let others = changed_from(Some(&parent.tree()?))?;
            let others: HashSet<&str> = others.iter().map(|file| file.path.as_str()).collect();
            files.retain(|file| others.contains(file.path.as_str()));
        }
        Ok(files)
    }

    fn read_error(&self, what: &str, cause: &git2::Error) -> GitError {
        GitError::Read {
            what: what.to_owned(),
            url: self.shown_url.clone(),
            cause: cause.message().to_owned(),
        }
    }
}

/// Has libgit2 give up on a server that accepts a connection and then says nothing.
#[expect(
    unsafe_code,
    reason = "the settings of a C library, which has no other way to them"
)]
fn limit_silence() {
    static DONE: Once = Once::new();
    DONE.call_once(|| {
        // SAFETY: they are read by connections only, and nothing connects but after this call,
        // which no two threads are in at once.
        let outcome = unsafe {
            git2::opts::set_server_connect_timeout_in_milliseconds(SILENCE)
                .and_then(|()| git2::opts::set_server_timeout_in_milliseconds(SILENCE))
        };
        if let Err(error) = outcome {
            tracing::warn!(
                error = error.message(),
                "cannot limit how long git servers are silent"
            );
        }
    });
}

/// Where a branch is at the remote, and where the copy keeps it. What is no branch there is kept
/// apart from those that are, whatever name a refspec gives it.
pub(crate) fn references(branch: &str) -> (String, String) {
    let source = branch.split_once(':').map_or(branch, |(source, _)| source);
    match source.strip_prefix("refs/") {
        None => {
            let name = format!("refs/heads/{source}");
            (name.clone(), name)
        }
        Some(rest) => (source.to_owned(), format!("refs/specs/{rest}")),
    }
}

/// A folder name for an address. A digest, because an address may hold a password.
fn name_of(url: &str) -> String {
    let digest = digest::digest(&digest::SHA256, url.as_bytes());
    format!("{}.git", hex(&digest.as_ref()[..12]))
}

fn lock(path: &Path, shown_url: &str, deadline: Instant) -> Result<File, GitError> {
    let lock_path = path.with_extension("lock");
    let copy_error = |source| GitError::Copy {
        path: lock_path.clone(),
        source,
    };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(copy_error)?;
    }
    let file = File::create(&lock_path).map_err(copy_error)?;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(TryLockError::WouldBlock) => {
                return Err(GitError::Slow {
                    url: shown_url.to_owned(),
                    patience: PATIENCE,
                });
            }
            Err(TryLockError::Error(source)) => return Err(copy_error(source)),
        }
    }
}

fn open(path: &Path) -> Result<Repository, git2::Error> {
    Repository::open_bare(path)
}

fn start_over(path: &Path) -> Result<Repository, GitError> {
    let copy_error = |source| GitError::Copy {
        path: path.to_path_buf(),
        source,
    };
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(copy_error(error)),
        _ => {}
    }
    Repository::init_bare(path).map_err(|error| copy_error(io::Error::other(error)))
}

fn is_broken(error: &git2::Error) -> bool {
    use git2::ErrorClass::{Indexer, Object, Odb, Zlib};
    matches!(error.class(), Odb | Object | Zlib | Indexer)
}

fn fetch_branch(
    repository: &Repository,
    remote: &Remote,
    deadline: Instant,
) -> Result<(), git2::Error> {
    let mut connection = repository.remote_anonymous(&remote.url)?;
    let mut callbacks = RemoteCallbacks::new();
    let mut attempts = 0;
    callbacks.credentials(move |_, user, allowed| {
        attempts += 1;
        if attempts > MAX_CREDENTIAL_ATTEMPTS {
            return Err(git2::Error::from_str("the credentials were refused"));
        }
        credentials(remote, user, allowed, attempts)
    });
    callbacks.transfer_progress(move |_| Instant::now() < deadline);
    let mut options = FetchOptions::new();
    options.remote_callbacks(callbacks);
    options.download_tags(AutotagOption::None);
    let (source, name) = references(&remote.branch);
    // A branch that is gone at the remote must not live on in the copy.
    if let Ok(mut stale) = repository.find_reference(&name) {
        let kept = stale.target();
        let outcome =
            connection.fetch(&[format!("+{source}:{name}.new")], Some(&mut options), None);
        let fresh = repository.refname_to_id(&format!("{name}.new"));
        if let (Ok(()), Err(_)) = (&outcome, &fresh) {
            stale.delete()?;
            return Err(git2::Error::new(
                git2::ErrorCode::NotFound,
                git2::ErrorClass::Reference,
                "the branch is gone",
            ));
        }
        outcome?;
        let fresh = fresh?;
        if kept != Some(fresh) {
            repository.reference(&name, fresh, true, "fetch")?;
        }
        repository
            .find_reference(&format!("{name}.new"))?
            .delete()?;
        return Ok(());
    }
    connection.fetch(&[format!("+{source}:{name}")], Some(&mut options), None)?;
    repository.refname_to_id(&name).map(drop)
}

/// What to log in with: what was configured, else an ssh agent, else the usual key files.
fn credentials(
    remote: &Remote,
    user: Option<&str>,
    allowed: CredentialType,
    attempt: usize,
) -> Result<Cred, git2::Error> {
    let from_url = location::credentials(&remote.url);
    let username = remote
        .username
        .clone()
        .or_else(|| from_url.as_ref().map(|(user, _)| user.clone()))
        .or_else(|| user.map(ToOwned::to_owned))
        .unwrap_or_else(|| "git".to_owned());
    let password = remote
        .password
        .clone()
        .or_else(|| from_url.and_then(|(_, password)| password));
    if allowed.contains(CredentialType::USERNAME) {
        return Cred::username(&username);
    }
    if allowed.contains(CredentialType::USER_PASS_PLAINTEXT)
        && let Some(password) = password
    {
        return Cred::userpass_plaintext(&username, &password);
    }
    if allowed.contains(CredentialType::SSH_KEY) {
        if attempt == 1 {
            return Cred::ssh_key_from_agent(&username);
        }
        let home = std::env::var_os("HOME")
            .map(PathBuf::from)
            .unwrap_or_default();
        let keys = ["id_ed25519", "id_ecdsa", "id_rsa"];
        if let Some(key) = keys
            .iter()
            .map(|name| home.join(".ssh").join(name))
            .filter(|path| path.exists())
            .nth(attempt - 2)
        {
            return Cred::ssh_key(&username, None, &key, None);
        }
    }
    Err(git2::Error::from_str(
        "it wants credentials, and none that fit are configured",
    ))
}
