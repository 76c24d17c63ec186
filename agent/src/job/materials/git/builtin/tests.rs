//! What the recorded jobs do not reach: servers, logins, depth.

use std::fs;

use pretty_assertions::assert_eq;

use super::{
    super::{
        http_server::{HttpServer, PASSWORD, USER_INFO},
        tests::{Repo, git},
    },
    *,
};

/// Runs a command and gives its exit code and both outputs.
fn run(dir: &Path, settings: &Settings, words: &[&str]) -> (i32, String, String) {
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let code = run_in(dir.to_owned(), settings.clone(), &words, &mut out, &mut err);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (code, text(out), text(err))
}

/// The settings that a checkout makes for a URL.
fn logged_in(bare: &str, full: &str, password: &str) -> Settings {
    let mut settings = Settings::default();
    settings.add(&format!("url.{bare}.insteadOf={full}"));
    settings.add(&format!("url.{bare}.insteadOf={bare}"));
    settings.add(&format!("credential.{bare}.helper=x"));
    settings.with_login("bot", password)
}

#[test]
fn a_server_with_a_password_is_cloned_from_and_fetched_from() {
    let dir = tempfile::tempdir().unwrap();
    let repos = dir.path().join("repos");
    let app = Repo::new(repos.join("g/app"));
    for number in 1..=4 {
        app.commit("a", &number.to_string());
    }
    let server = HttpServer::start(&repos, || {});
    let bare = format!("http://{}/g/app", server.host);
    let full = format!("http://{USER_INFO}@{}/g/app", server.host);
    let settings = logged_in(&bare, &full, PASSWORD);
    let clone = dir.path().join("clone");
    let target = clone.display().to_string();
    let words = ["clone", "--branch", "main", "--depth=2", &bare, &target];
    let (code, _, err) = run(dir.path(), &settings, &words);
    assert_eq!((code, err), (0, format!("Cloning into '{target}'...\n")));
    let count = || git(&clone, &["rev-list", "--count", "HEAD"]);
    assert_eq!(count(), "2");
    // From now on the configuration has the credentials in it.
    git(&clone, &["config", "remote.origin.url", &full]);
    let tip = app.commit("a", "5");
    git(&app.path, &["branch", "other"]);
    let words = ["fetch", "origin", "--prune", "--recurse-submodules=no"];
    let (code, _, err) = run(&clone, &settings, &words);
    let (old, new) = (git(&clone, &["rev-parse", "--short", "HEAD"]), &tip[..7]);
    assert_eq!(code, 0, "{err}");
    let line = format!("   {old}..{new}  main       -> origin/main");
    assert_eq!(err, format!("From {bare}\n{line}\n"));
    let (code, out, _) = run(&clone, &settings, &["reset", "--hard", &tip]);
    assert_eq!((code, out), (0, format!("HEAD is now at {new} a: 5\n")));
    assert_eq!(count(), "3");
    let (code, _, err) = run(
        &clone,
        &settings,
        &["fetch", "origin", "--depth=2147483647"],
    );
    assert_eq!(code, 0, "{err}");
    assert_eq!(count(), "5");
    assert!(!clone.join(".git/shallow").exists());
    git(&clone, &["fsck"]);
}

#[test]
fn a_login_that_is_refused_is_told_as_git_tells_it() {
    let dir = tempfile::tempdir().unwrap();
    let repos = dir.path().join("repos");
    Repo::new(repos.join("app")).commit("a", "1");
    let server = HttpServer::start(&repos, || {});
    let bare = format!("http://{}/app", server.host);
    let clone = dir.path().join("clone").display().to_string();
    let words = ["clone", "--branch", "main", &bare, &clone];
    let told = |settings| run(dir.path(), &settings, &words);
    let wrong = told(logged_in(
        &bare,
        &format!("http://bot:no@{}/app", server.host),
        "no",
    ));
    let begin = format!("Cloning into '{clone}'...\nfatal: ");
    let refused = format!("{begin}Authentication failed for '{bare}/'\n");
    assert_eq!((wrong.0, wrong.2), (128, refused));
    let (code, _, err) = told(Settings::default());
    let unasked = format!(
        "{begin}could not read Username for 'http://{}': No such device or address\n",
        server.host
    );
    assert_eq!((code, err), (128, unasked));
    assert!(!Path::new(&clone).exists());
}

#[test]
fn a_submodule_beside_the_repository_has_its_login() {
    let dir = tempfile::tempdir().unwrap();
    let repos = dir.path().join("repos");
    let sub = Repo::new(repos.join("g/sub"));
    sub.commit("s", "1");
    let app = Repo::new(repos.join("g/app"));
    git(&app.path, &["submodule", "-q", "add", "../sub", "libs/sub"]);
    app.commit("a", "1");
    let server = HttpServer::start(&repos, || {});
    let bare = format!("http://{}/g/app", server.host);
    let mut settings = logged_in(&bare, "", PASSWORD);
    settings.add(&format!("credential.http://{}/g/sub.helper=x", server.host));
    let clone = dir.path().join("clone");
    let target = clone.display().to_string();
    for words in [
        &["clone", "--branch", "main", &bare, &target][..],
        &["-C", &target, "submodule", "init"],
        &["-C", &target, "submodule", "sync"],
        &["-C", &target, "submodule", "update", "--depth=1"],
        &[
            "-C",
            &target,
            "submodule",
            "foreach",
            "--recursive",
            "git checkout .",
        ],
    ] {
        let (code, _, err) = run(dir.path(), &settings, words);
        assert_eq!(code, 0, "{words:?}: {err}");
    }
    assert_eq!(fs::read_to_string(clone.join("libs/sub/s")).unwrap(), "1");
    assert_eq!(git(&clone, &["status", "--short"]), "");
    let (_, out, _) = run(&clone, &settings, &["submodule", "status"]);
    assert_eq!(
        out.trim_end(),
        git(&clone, &["submodule", "status"]).trim_end()
    );
}

#[test]
fn a_repository_cannot_name_folders_of_this_machine() {
    let dir = tempfile::tempdir().unwrap();
    let sub = Repo::new(dir.path().join("sub"));
    sub.commit("s", "1");
    let app = Repo::new(dir.path().join("app"));
    git(
        &app.path,
        &[
            "submodule",
            "-q",
            "add",
            &sub.path.display().to_string(),
            "sub",
        ],
    );
    app.commit("a", "1");
    let clone = dir.path().join("clone");
    let (url, target) = (app.path.display().to_string(), clone.display().to_string());
    let settings = Settings::default();
    run(
        dir.path(),
        &settings,
        &["clone", "--branch", "main", &url, &target],
    );
    run(&clone, &settings, &["submodule", "init"]);
    let mut refusing = settings.clone();
    refusing.add("protocol.file.allow=user");
    let (code, _, err) = run(&clone, &refusing, &["submodule", "update"]);
    assert!(
        code == 1 && err.contains("transport 'file' not allowed"),
        "{err}"
    );
    let words = ["-c", "protocol.file.allow=always", "submodule", "update"];
    assert_eq!(run(&clone, &settings, &words).0, 0);
    assert!(clone.join("sub/s").exists());
}

#[test]
fn what_is_ignored_can_be_kept() {
    let dir = tempfile::tempdir().unwrap();
    let repo = Repo::new(dir.path().join("r"));
    repo.commit(".gitignore", "*.log\nbuild/\n");
    repo.commit("src/a", "1");
    let make = || {
        for file in [
            "src/x.log",
            "src/new",
            "build/o",
            "other/y.log",
            "other/z",
            "gone/z",
        ] {
            let path = repo.path.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        git(&repo.path, &["init", "-q", "nested"]);
    };
    let all_below = |folder: &Path| -> Vec<String> {
        let found = std::process::Command::new("find")
            .args([".", "-name", ".git", "-prune", "-o", "-print"])
            .current_dir(folder)
            .output()
            .unwrap();
        let mut lines: Vec<_> = String::from_utf8(found.stdout)
            .unwrap()
            .lines()
            .map(ToOwned::to_owned)
            .collect();
        lines.sort();
        lines
    };
    for what in ["-dff", "-dffx"] {
        make();
        git(&repo.path, &["clean", "-q", what]);
        let expected = all_below(&repo.path);
        git(&repo.path, &["clean", "-q", "-dffx"]);
        make();
        assert_eq!(run(&repo.path, &Settings::default(), &["clean", what]).0, 0);
        assert_eq!(all_below(&repo.path), expected, "{what}");
    }
}
