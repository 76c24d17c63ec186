//! Checkouts of real repositories.

use std::{
    collections::HashSet,
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use journeyman_host::{lock::Lock, properties::Properties};
use journeyman_protocol::{
    material::{GitMaterial, Material},
    revision::{MaterialRevision, Modification},
};
use pretty_assertions::assert_eq;

use super::{
    checkout::update_with,
    http_server::{HttpServer, PASSWORD, USER_INFO},
    mirror,
    options::Options,
};
use crate::job::materials::{MaterialError, testing::Bench};

/// Runs git for the test itself and returns what it printed.
pub(super) fn git(folder: &Path, words: &[&str]) -> String {
    let output = Command::new("git")
        .current_dir(folder)
        .args(["-c", "user.name=Ann", "-c", "user.email=ann@example.com"])
        .args(["-c", "protocol.file.allow=always"])
        .args(words)
        .env("GIT_AUTHOR_DATE", "2026-01-02T03:04:05Z")
        .env("GIT_COMMITTER_DATE", "2026-01-02T03:04:05Z")
        .output()
        .unwrap();
    assert!(output.status.success(), "git {words:?}: {output:?}");
    String::from_utf8(output.stdout)
        .unwrap()
        .trim_end()
        .to_owned()
}

/// A repository of the test, branch `main`.
pub(super) struct Repo {
    pub(super) path: PathBuf,
}

impl Repo {
    pub(super) fn new(path: PathBuf) -> Self {
        fs::create_dir_all(&path).unwrap();
        git(&path, &["init", "-q", "-b", "main"]);
        Self { path }
    }

    /// Commits a file and returns the commit.
    pub(super) fn commit(&self, file: &str, content: &str) -> String {
        let path = self.path.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        git(&self.path, &["add", "-A"]);
        git(
            &self.path,
            &["commit", "-q", "-m", &format!("{file}: {content}")],
        );
        self.head()
    }

    pub(super) fn head(&self) -> String {
        git(&self.path, &["rev-parse", "HEAD"])
    }
}

pub(super) fn material(url: &str, branch: &str) -> GitMaterial {
    GitMaterial::new(url, branch)
}

/// Brings the checkout of the bench's pipeline to a revision.
pub(super) fn check_out(
    bench: &Bench,
    material: &GitMaterial,
    revision: &str,
) -> Result<(), MaterialError> {
    let options = Options::from_properties(&Properties::default());
    check_out_with(options, bench, material, revision)
}

fn check_out_with(
    options: Options,
    bench: &Bench,
    material: &GitMaterial,
    revision: &str,
) -> Result<(), MaterialError> {
    let revisions = MaterialRevision {
        material: Material::GitMaterial(material.clone()),
        modifications: vec![Modification {
            revision: revision.to_owned(),
            ..Modification::default()
        }],
        changed: true,
    };
    update_with(options, material, &revisions, &bench.context)
}

fn patience() -> Duration {
    let seconds = std::env::var("JOURNEYMAN_TEST_PATIENCE")
        .ok()
        .and_then(|seconds| seconds.parse().ok())
        .unwrap_or(60);
    Duration::from_secs(seconds)
}

/// Looks at the arguments of all processes again and again.
struct Arguments {
    passes: AtomicU64,
    stop: AtomicBool,
}

impl Arguments {
    /// Waits until all processes that live now have been looked at, if anybody looks.
    fn wait_for_a_look(&self) {
        let seen = self.passes.load(Ordering::SeqCst);
        let deadline = Instant::now() + patience();
        // The pass under way may have begun before now.
        while self.passes.load(Ordering::SeqCst) < seen + 2 && !self.stop.load(Ordering::SeqCst) {
            assert!(Instant::now() < deadline, "nobody looks");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Every command line that was there at some time.
    fn watch(&self) -> HashSet<String> {
        let mut found = HashSet::new();
        while !self.stop.load(Ordering::SeqCst) {
            for process in fs::read_dir("/proc").unwrap().flatten() {
                let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
                found.insert(String::from_utf8_lossy(&line).replace('\0', " "));
            }
            self.passes.fetch_add(1, Ordering::SeqCst);
        }
        found
    }
}

#[test]
fn a_password_is_in_no_arguments_and_stays_in_the_configuration() {
    let bench = Bench::new();
    let repos = bench.path("repos");
    let sub = Repo::new(repos.join("g/sub"));
    sub.commit("s", "1");
    let app = Repo::new(repos.join("g/app"));
    let first = app.commit("a", "1");
    let arguments = Arc::new(Arguments {
        passes: AtomicU64::new(0),
        stop: AtomicBool::new(false),
    });
    let looking = Arc::clone(&arguments);
    let server = HttpServer::start(&repos, move || looking.wait_for_a_look());
    let bare = format!("http://{}/g/app", server.host);
    let url = format!("http://{USER_INFO}@{}/g/app", server.host);
    let watching = Arc::clone(&arguments);
    let watcher = std::thread::spawn(move || watching.watch());

    check_out(&bench, &material(&url, "main"), &first).unwrap();
    git(&app.path, &["submodule", "-q", "add", "../sub", "libs/sub"]);
    let second = app.commit("b", "2");
    check_out(&bench, &material(&url, "main"), &second).unwrap();
    // A new commit of the submodule as well: it is fetched, not cloned.
    git(&sub.path, &["tag", "before"]);
    sub.commit("s", "2");
    git(
        &app.path.join("libs/sub"),
        &["pull", "-q", "origin", "main"],
    );
    let third = app.commit("c", "3");
    check_out(&bench, &material(&url, "main"), &third).unwrap();

    arguments.stop.store(true, Ordering::SeqCst);
    let seen = watcher.join().unwrap();
    for part in ["clone", "fetch origin", "remote-http", "submodule"] {
        assert!(
            seen.iter().any(|line| line.contains(part)),
            "{part}: {seen:#?}"
        );
    }
    for line in &seen {
        for secret in [PASSWORD, USER_INFO, "p%40ss"] {
            assert!(!line.contains(secret), "{line}");
        }
    }
    assert!(seen.iter().any(|line| line.contains(&bare)), "{seen:#?}");
    let checkout = bench.context.root.join("pipelines/P");
    assert_eq!(
        fs::read_to_string(checkout.join("libs/sub/s")).unwrap(),
        "2"
    );
    assert_eq!(git(&checkout, &["config", "remote.origin.url"]), url);
    let beside = format!("http://{USER_INFO}@{}/g/sub", server.host);
    assert_eq!(
        git(&checkout, &["config", "submodule.libs/sub.url"]),
        beside
    );
    let in_submodule = checkout.join("libs/sub");
    assert_eq!(git(&in_submodule, &["config", "remote.origin.url"]), beside);
    for file in [".git/config", ".git/modules/libs/sub/config"] {
        let mode = fs::metadata(checkout.join(file))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    for line in bench.lines() {
        assert!(!line.contains(PASSWORD) && !line.contains("p%40"), "{line}");
    }
    // As a job would: it finds what it needs in the configuration.
    git(
        &checkout,
        &["push", "-q", "origin", "HEAD:refs/heads/pushed"],
    );
    assert!(
        server
            .calls()
            .iter()
            .any(|call| call.ends_with("git-receive-pack"))
    );
}

#[test]
fn new_credentials_take_the_place_of_old_ones() {
    let bench = Bench::new();
    let repos = bench.path("repos");
    let app = Repo::new(repos.join("app"));
    let revision = app.commit("a", "1");
    let server = HttpServer::start(&repos, || {});
    let url = |info: &str| format!("http://{info}@{}/app", server.host);
    check_out(&bench, &material(&url(USER_INFO), "main"), &revision).unwrap();
    let checkout = bench.context.root.join("pipelines/P");
    git(&checkout, &["config", "remote.origin.url", &url("bot:old")]);
    fs::write(checkout.join("kept"), "").unwrap();
    check_out(&bench, &material(&url(USER_INFO), "main"), &revision).unwrap();
    assert_eq!(
        git(&checkout, &["config", "remote.origin.url"]),
        url(USER_INFO)
    );
    let clones = bench
        .lines()
        .iter()
        .filter(|line| line.contains("Cloning into"))
        .count();
    assert_eq!(clones, 1);

    let refused = check_out(&bench, &material(&url("bot:wrong"), "main"), &revision);
    assert_eq!(
        refused.unwrap_err().to_string(),
        format!("git fetch failed for [{}]", url("bot:******"))
    );
    let lines = bench.lines();
    let bare = format!("http://{}/app", server.host);
    let expected = format!("pe|STDERR: fatal: Authentication failed for '{bare}/'");
    assert_eq!(lines.last(), Some(&expected));
}

fn clones(bench: &Bench) -> usize {
    let lines = bench.lines();
    lines
        .iter()
        .filter(|line| line.contains("Cloning into"))
        .count()
}

#[test]
fn a_clone_that_was_broken_off_is_made_again() {
    let bench = Bench::new();
    let app = Repo::new(bench.path("app"));
    let revision = app.commit("a", "1");
    let url = format!("file://{}", app.path.display());
    let checkout = bench.context.root.join("pipelines/P");
    // Killed after it had written its configuration; and before it had written anything.
    git(&checkout, &["init", "-q", "-b", "main"]);
    git(&checkout, &["remote", "add", "origin", &url]);
    check_out(&bench, &material(&url, "main"), &revision).unwrap();
    assert_eq!(clones(&bench), 1);
    fs::remove_dir_all(checkout.join(".git")).unwrap();
    fs::create_dir(checkout.join(".git")).unwrap();
    check_out(&bench, &material(&url, "main"), &revision).unwrap();
    assert_eq!(clones(&bench), 2);
    assert_eq!(
        git(&checkout, &["status", "--short", "-b"]),
        "## main...origin/main"
    );
}

#[test]
fn locks_of_a_killed_git_hinder_nobody() {
    let bench = Bench::new();
    let app = Repo::new(bench.path("app"));
    let first = app.commit("a", "1");
    let url = app.path.display().to_string();
    check_out(&bench, &material(&url, "main"), &first).unwrap();
    let checkout = bench.context.root.join("pipelines/P");
    let locks = [
        "index",
        "HEAD",
        "config",
        "packed-refs",
        "refs/remotes/origin/main",
    ];
    for name in locks {
        fs::write(checkout.join(format!(".git/{name}.lock")), "").unwrap();
    }
    fs::write(checkout.join("own.lock"), "").unwrap();
    let second = app.commit("a.lock", "2");
    check_out(&bench, &material(&url, "main"), &second).unwrap();
    assert_eq!(clones(&bench), 1);
    assert_eq!(git(&checkout, &["rev-parse", "HEAD"]), second);
    assert!(checkout.join("a.lock").exists() && !checkout.join("own.lock").exists());
}

#[test]
fn a_submodule_is_cleaned_and_goes_when_it_is_removed() {
    let bench = Bench::new();
    let repos = bench.path("repos");
    let sub = Repo::new(repos.join("sub"));
    sub.commit("s", "1");
    let app = Repo::new(repos.join("app"));
    let without = app.commit("a", "1");
    git(&app.path, &["submodule", "-q", "add", "../sub", "libs/sub"]);
    let with = app.commit("b", "2");
    let server = HttpServer::start(&repos, || {});
    let url = format!("http://{USER_INFO}@{}/app", server.host);
    let material = material(&url, "main");
    check_out(&bench, &material, &with).unwrap();
    let folder = bench.context.root.join("pipelines/P/libs/sub");
    fs::write(folder.join("untracked"), "").unwrap();
    fs::write(folder.join("s"), "changed").unwrap();
    check_out(&bench, &material, &with).unwrap();
    assert_eq!(fs::read_to_string(folder.join("s")).unwrap(), "1");
    assert!(!folder.join("untracked").exists());
    check_out(&bench, &material, &without).unwrap();
    assert!(!folder.exists());
    let checkout = bench.context.root.join("pipelines/P");
    let left = fs::read_to_string(checkout.join(".git/config")).unwrap();
    assert!(!left.contains("submodule"), "{left}");
    assert_eq!(git(&checkout, &["status", "--short"]), "");
    // And back.
    check_out(&bench, &material, &with).unwrap();
    assert_eq!(fs::read_to_string(folder.join("s")).unwrap(), "1");
}

#[test]
fn a_submodule_whose_source_is_gone_fails_the_job() {
    let bench = Bench::new();
    let repos = bench.path("repos");
    let sub = Repo::new(repos.join("sub"));
    sub.commit("s", "1");
    let app = Repo::new(repos.join("app"));
    git(&app.path, &["submodule", "-q", "add", "../sub", "libs/sub"]);
    let revision = app.commit("b", "2");
    fs::remove_dir_all(&sub.path).unwrap();
    let server = HttpServer::start(&repos, || {});
    let url = format!("http://{USER_INFO}@{}/app", server.host);
    let error = check_out(&bench, &material(&url, "main"), &revision).unwrap_err();
    let text = error.to_string();
    let clone = format!("clone of 'http://{}/sub' into submodule path", server.host);
    assert!(text.contains(&clone), "{text}");
    assert!(!text.contains("p%40") && !text.contains(PASSWORD), "{text}");
}

fn file_url(repo: &Repo) -> String {
    format!("file://{}", repo.path.display())
}

/// Everything about a checkout that a job could notice.
fn seen_of(checkout: &Path) -> String {
    let config = git(checkout, &["config", "-l", "--local"]);
    let refs = git(checkout, &["for-each-ref"]);
    let status = git(checkout, &["status", "--branch"]);
    let head = fs::read_to_string(checkout.join(".git/HEAD")).unwrap();
    git(checkout, &["fsck", "--strict"]);
    let alternates = checkout.join(".git/objects/info/alternates").exists();
    format!("{config}\n{refs}\n{status}\n{head}\n{alternates}")
}

/// The only file of this ending in the folder.
fn only(folder: &Path, ending: &str) -> PathBuf {
    let items = fs::read_dir(folder).unwrap();
    let found: Vec<_> = items
        .map(|item| item.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == ending))
        .collect();
    assert_eq!(found.len(), 1, "{found:?}");
    found[0].clone()
}

/// What does not depend on chance: two pipes mix as they like.
fn without_chance(lines: Vec<String>) -> Vec<String> {
    let timed = |line: &String| line.contains("Updating files");
    let mut lines: Vec<_> = lines.into_iter().filter(|line| !timed(line)).collect();
    lines.sort();
    lines
}

#[test]
fn a_clone_by_the_mirror_is_a_clone_like_any_other() {
    let repos = tempfile::tempdir().unwrap();
    let app = Repo::new(repos.path().join("app"));
    let old = app.commit("a", "1");
    git(&app.path, &["tag", "v1"]);
    git(&app.path, &["branch", "other"]);
    for (branch, expected) in [("main", 2), ("refs/heads/other:mine", 2)] {
        let by_mirror = Bench::new();
        let plain = Bench::new();
        let off = || {
            let words = "-Djourneyman.git.mirror=off";
            Options::from_properties(&Properties::from_startup_arguments(words))
        };
        let material = material(&file_url(&app), branch);
        let checkout = |bench: &Bench| bench.context.root.join("pipelines/P");
        // The first fills the mirror; then something is new; then a second pipeline comes.
        check_out(&by_mirror, &material, &old).unwrap();
        let fresh = fs::read_dir(by_mirror.context.root.join("mirrors")).unwrap();
        assert_eq!(fresh.count(), expected);
        let tip = app.commit("b", branch);
        git(&app.path, &["branch", "-f", "other"]);
        fs::remove_dir_all(checkout(&by_mirror)).unwrap();
        let before = by_mirror.lines().len();
        check_out(&by_mirror, &material, &tip).unwrap();
        check_out_with(off(), &plain, &material, &tip).unwrap();
        assert!(!plain.context.root.join("mirrors").exists());
        assert_eq!(seen_of(&checkout(&by_mirror)), seen_of(&checkout(&plain)));
        let shown = without_chance(by_mirror.lines().split_off(before));
        assert_eq!(shown, without_chance(plain.lines()));

        // It shares files with the mirror, and needs none of it.
        let mirrors = by_mirror.context.root.join("mirrors");
        let mirror = only(&mirrors, "git");
        let packs = fs::read_dir(mirror.join("objects/pack")).unwrap();
        for pack in packs.map(|pack| pack.unwrap().path()) {
            let linked = checkout(&by_mirror)
                .join(".git/objects/pack")
                .join(pack.file_name().unwrap());
            assert_eq!(
                fs::metadata(&linked).unwrap().ino(),
                fs::metadata(&pack).unwrap().ino()
            );
        }
        fs::remove_dir_all(&mirrors).unwrap();
        git(&checkout(&by_mirror), &["fsck", "--strict"]);
        let third = app.commit("c", branch);
        git(&app.path, &["branch", "-f", "other"]);
        check_out(&by_mirror, &material, &third).unwrap();
    }
}

#[test]
fn the_second_clone_transfers_nothing_it_has_and_shows_no_credentials() {
    let bench = Bench::new();
    let repos = bench.path("repos");
    let app = Repo::new(repos.join("app"));
    let revision = app.commit("a", "1");
    let server = HttpServer::start(&repos, || {});
    let url = format!("http://{USER_INFO}@{}/app", server.host);
    let material = material(&url, "main");
    check_out(&bench, &material, &revision).unwrap();
    let checkout = bench.context.root.join("pipelines/P");
    fs::remove_dir_all(&checkout).unwrap();
    let packed = |calls: &[String]| calls.iter().filter(|call| call.starts_with("POST")).count();
    let posts = packed(&server.calls());
    check_out(&bench, &material, &revision).unwrap();
    assert_eq!(clones(&bench), 2);
    // Two for the names of the clone and the fetch, none for a pack.
    assert_eq!(packed(&server.calls()) - posts, 2, "{:#?}", server.calls());
    let mirrors = bench.context.root.join("mirrors");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&mirrors), 0o700);
    let mirror = only(&mirrors, "git");
    assert_eq!(mode(&mirror), 0o700);
    let found = Command::new("grep")
        .args(["-rlE", "bot|p%40|p@ss"])
        .arg(&mirrors)
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&found.stdout), "");
    assert_eq!(git(&checkout, &["config", "remote.origin.url"]), url);

    // Others' objects do not open the door.
    let wrong = format!("http://bot:wrong@{}/app", server.host);
    fs::remove_dir_all(&checkout).unwrap();
    let wrong = GitMaterial::new(wrong, "main");
    assert!(check_out(&bench, &wrong, &revision).is_err());
    assert!(mirror.join("packed-refs").exists());
}

#[test]
fn a_damaged_mirror_is_made_again() {
    let repos = tempfile::tempdir().unwrap();
    let app = Repo::new(repos.path().join("app"));
    let revision = app.commit("a", "1");
    let material = material(&file_url(&app), "main");
    let packs =
        |bench: &Bench| only(&bench.context.root.join("mirrors"), "git").join("objects/pack");
    let damages: [fn(&Path); 4] = [
        |packs| fs::remove_file(only(packs, "pack")).unwrap(),
        |packs| {
            let pack = only(packs, "pack");
            let content = fs::read(&pack).unwrap();
            fs::remove_file(&pack).unwrap();
            fs::write(&pack, &content[..content.len() / 2]).unwrap();
        },
        |packs| {
            let pack = only(packs, "pack");
            let mut content = fs::read(&pack).unwrap();
            let end = content.len() - 20;
            content[12..end].fill(b'x');
            fs::remove_file(&pack).unwrap();
            fs::write(&pack, content).unwrap();
        },
        |packs| fs::remove_dir_all(packs.parent().unwrap()).unwrap(),
    ];
    for (number, damage) in damages.into_iter().enumerate() {
        let bench = Bench::new();
        let checkout = bench.context.root.join("pipelines/P");
        check_out(&bench, &material, &revision).unwrap();
        let first = seen_of(&checkout);
        fs::remove_dir_all(&checkout).unwrap();
        damage(&packs(&bench));
        let before = bench.lines().len();
        check_out(&bench, &material, &revision).unwrap();
        let errors = bench.lines().split_off(before);
        let errors: Vec<_> = errors
            .iter()
            .filter(|line| line.starts_with("pe|"))
            .collect();
        assert_eq!(
            errors,
            ["pe|STDERR: Cloning into '~/agent/pipelines/P'..."],
            "{number}"
        );
        assert_eq!(seen_of(&checkout), first, "{number}");
        fs::remove_dir_all(&checkout).unwrap();
        git(
            &packs(&bench),
            &[
                "verify-pack",
                &only(&packs(&bench), "idx").display().to_string(),
            ],
        );
        check_out(&bench, &material, &revision).unwrap();
    }
}

#[test]
fn a_clone_that_still_needs_the_mirror_was_broken_off() {
    let bench = Bench::new();
    let app = Repo::new(bench.path("app"));
    let revision = app.commit("a", "1");
    let material = material(&file_url(&app), "main");
    check_out(&bench, &material, &revision).unwrap();
    let checkout = bench.context.root.join("pipelines/P");
    let mirror = only(&bench.context.root.join("mirrors"), "git");
    let alternates = checkout.join(".git/objects/info/alternates");
    fs::write(&alternates, format!("{}/objects\n", mirror.display())).unwrap();
    check_out(&bench, &material, &revision).unwrap();
    assert_eq!(clones(&bench), 2);
    assert!(!alternates.exists());
}

#[test]
fn mirrors_go_when_nobody_has_used_them_for_long() {
    let bench = Bench::new();
    let app = Repo::new(bench.path("app"));
    let revision = app.commit("a", "1");
    check_out(&bench, &material(&file_url(&app), "main"), &revision).unwrap();
    let root = &bench.context.root;
    let mirror = only(&root.join("mirrors"), "git");
    let in_days = |days: u64| SystemTime::now() + Duration::from_secs(days * 24 * 3600);
    mirror::remove_unused(root, in_days(29));
    assert!(mirror.exists());
    let held = Lock::acquire(&mirror.with_extension("lock"), Duration::ZERO).unwrap();
    mirror::remove_unused(root, in_days(31));
    assert!(mirror.exists());
    drop(held);
    // A test beside this one may just be between fork and exec, with a copy of the lock.
    let deadline = Instant::now() + patience();
    while mirror.exists() {
        assert!(Instant::now() < deadline, "the mirror stays");
        mirror::remove_unused(root, in_days(31));
        std::thread::sleep(Duration::from_millis(5));
    }
}
