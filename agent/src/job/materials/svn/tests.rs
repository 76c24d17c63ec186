//! Against the real programs: repositories in the file system and behind `svnserve`.

use std::{
    fs,
    io::{self, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use journeyman_protocol::material::{Material, SvnMaterial, UrlArgument};
use pretty_assertions::assert_eq;

use crate::job::materials::testing::{Bench, run, seen_in_arguments, seen_in_files};

/// A repository with `trunk/a` as `one` in revision 1 and as `two` in revision 2, which also has
/// `trunk/b`.
fn repository(bench: &Bench, name: &str) -> String {
    let folder = bench.path(name);
    run(
        &bench.path(""),
        &["svnadmin", "create", &folder.to_string_lossy()],
    );
    let url = format!("file://{}", folder.display());
    let work = bench.path(&format!("{name}-work"));
    run(
        &bench.path(""),
        &["svn", "checkout", "-q", &url, &work.to_string_lossy()],
    );
    fs::create_dir(work.join("trunk")).unwrap();
    fs::write(work.join("trunk/a"), "one\n").unwrap();
    run(&work, &["svn", "add", "-q", "trunk"]);
    run(&work, &["svn", "commit", "-q", "-m", "1"]);
    fs::write(work.join("trunk/a"), "two\n").unwrap();
    fs::write(work.join("trunk/b"), "b\n").unwrap();
    run(&work, &["svn", "add", "-q", "trunk/b"]);
    run(&work, &["svn", "commit", "-q", "-m", "2"]);
    format!("{url}/trunk")
}

fn material(url: &str, folder: &str) -> SvnMaterial {
    let mut material = SvnMaterial {
        url: UrlArgument::from(url.to_owned()),
        ..SvnMaterial::default()
    };
    material.scm.folder = Some(folder.to_owned());
    material
}

fn at(material: &SvnMaterial, revision: &str) -> [(Material, String); 1] {
    [(Material::SvnMaterial(material.clone()), revision.to_owned())]
}

fn read(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_else(|error| format!("{error}"))
}

#[test]
fn checkout_then_update_with_changes_undone() {
    let bench = Bench::new();
    let url = repository(&bench, "repo");
    let svn = material(&url, "code");
    let code = bench.base().join("code");

    bench.update(at(&svn, "1")).unwrap();
    assert_eq!(
        bench.new_lines(),
        [
            "pr|[go] Start to update materials.",
            "pr|",
            "pr|[go] Start updating code at revision 1 from file://~/repo/trunk",
            "pr|A    pipelines/P/code/a",
            "pr|Checked out revision 1.",
            "pr|[go] Done.",
            "pr|",
        ]
    );

    fs::write(code.join("a"), "mine\n").unwrap();
    fs::write(code.join("unversioned"), "").unwrap();
    bench.update(at(&svn, "2")).unwrap();
    assert_eq!(
        bench.new_lines()[3..],
        [
            "pr|[go] Start updating code at revision 2 from file://~/repo/trunk",
            "pr|Reverted 'pipelines/P/code/a'",
            "pr|Updating 'pipelines/P/code':",
            "pr|U    pipelines/P/code/a",
            "pr|A    pipelines/P/code/b",
            "pr|Updated to revision 2.",
            "pr|[go] Done.",
            "pr|",
        ]
    );
    assert_eq!(read(&code.join("a")), "two\n");
    assert!(code.join("unversioned").exists());
}

#[test]
fn another_url_is_checked_out_anew_and_the_same_in_other_words_is_not() {
    let bench = Bench::new();
    let (one, two) = (repository(&bench, "one"), repository(&bench, "two"));
    let code = bench.base().join("code");
    bench.update(at(&material(&one, "code"), "2")).unwrap();
    fs::write(code.join("unversioned"), "").unwrap();
    let words = one
        .trim_start_matches("file://")
        .replace("trunk", "tr%75nk/");
    bench
        .update(at(&material(&format!("file://{words}"), "code"), "2"))
        .unwrap();
    assert!(code.join("unversioned").exists());
    bench.new_lines();

    bench.update(at(&material(&two, "code"), "2")).unwrap();
    assert!(!code.join("unversioned").exists());
    assert!(
        bench
            .lines()
            .contains(&"pr|Checked out revision 2.".to_owned())
    );
}

#[test]
fn a_revision_or_repository_that_is_not_there_is_told_as_gocd_tells_it() {
    let bench = Bench::new();
    let svn = material(&repository(&bench, "repo"), "code");
    let dir = bench.base().join("code").display().to_string();
    let url = &svn.url.url;
    assert_eq!(
        bench.update(at(&svn, "9")).unwrap_err().to_string(),
        format!("Failed to run svn checkout --non-interactive -r 9 {url} {dir}")
    );
    assert!(
        bench
            .lines()
            .contains(&"pe|STDERR: svn: E160006: No such revision 9".to_owned())
    );
    bench.update(at(&svn, "2")).unwrap();
    assert_eq!(
        bench.update(at(&svn, "9")).unwrap_err().to_string(),
        format!("Failed to run svn update --non-interactive -r 9 {dir}")
    );
    let broken = bench.base().join("broken/.svn");
    fs::create_dir_all(&broken).unwrap();
    let error = bench
        .update(at(&material(url, "broken"), "2"))
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with(&format!(
            "Error performing command: --- Command ---\nsvn info --xml --non-interactive {}\n\
             --- Environment ---\n{{}}\n--- INPUT ----\n\n\n--- EXIT CODE (1) ---\n\
             --- STANDARD OUT ---\n<?xml",
            broken.parent().unwrap().display()
        )),
        "{error}"
    );
}

#[test]
fn externals_come_along() {
    let bench = Bench::new();
    let library = repository(&bench, "library");
    let url = repository(&bench, "repo");
    let work = bench.path("repo-work");
    let externals = format!("{library} lib");
    run(&work, &["svn", "update", "-q"]);
    run(
        &work,
        &["svn", "propset", "-q", "svn:externals", &externals, "trunk"],
    );
    run(&work, &["svn", "commit", "-q", "-m", "3"]);
    bench.update(at(&material(&url, "code"), "3")).unwrap();
    bench.update(at(&material(&url, "code"), "3")).unwrap();
    assert_eq!(read(&bench.base().join("code/lib/a")), "two\n");
    let lines = bench.new_lines();
    let fetched = "pr|Fetching external item into 'pipelines/P/code/lib':";
    assert_eq!(
        lines.iter().filter(|line| *line == fetched).count(),
        2,
        "{lines:?}"
    );
}

/// `svnserve` that wants user `builder`, and a relay before it that looks for a text in the
/// arguments of every process whenever somebody connects.
struct Server {
    process: Child,
    port: u16,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start(bench: &Bench, name: &str, password: &'static str) -> Self {
        let config = bench.path(name).join("conf");
        fs::write(
            config.join("svnserve.conf"),
            "[general]\nanon-access = none\nauth-access = write\npassword-db = passwd\n",
        )
        .unwrap();
        fs::write(
            config.join("passwd"),
            format!("[users]\nbuilder = {password}\n"),
        )
        .unwrap();
        // A port that was free a moment ago; another one when somebody was quicker.
        let (process, upstream) = loop {
            let upstream = free_port();
            let mut process = Command::new("svnserve")
                .args(["--daemon", "--foreground", "--listen-host", "127.0.0.1"])
                .args(["--listen-port", &upstream.to_string(), "--root"])
                .arg(bench.path(""))
                .stderr(Stdio::null())
                .spawn()
                .expect("svnserve is needed for this test");
            while TcpStream::connect(("127.0.0.1", upstream)).is_err()
                && process.try_wait().unwrap().is_none()
            {
                thread::yield_now();
            }
            if process.try_wait().unwrap().is_none() {
                break (process, upstream);
            }
        };
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let found = Arc::clone(&seen);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                found.lock().unwrap().push("connected".to_owned());
                found.lock().unwrap().extend(seen_in_arguments(password));
                relay(client, upstream);
            }
        });
        Self {
            process,
            port,
            seen,
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn relay(client: TcpStream, upstream: u16) {
    let server = TcpStream::connect(("127.0.0.1", upstream)).unwrap();
    let both = [
        (client.try_clone().unwrap(), server.try_clone().unwrap()),
        (server, client),
    ];
    for (mut from, mut to) in both {
        thread::spawn(move || {
            let _ = io::copy(&mut from as &mut dyn Read, &mut to as &mut dyn Write);
            let _ = to.shutdown(Shutdown::Write);
        });
    }
}

#[test]
fn a_password_logs_in_and_is_seen_nowhere() {
    let bench = Bench::new();
    repository(&bench, "repo");
    let password = "pa ss-Svn%41$x";
    let server = Server::start(&bench, "repo", password);
    let mut svn = material(
        &format!("svn://127.0.0.1:{}/repo/trunk", server.port),
        "code",
    );
    svn.scm.user_name = Some("builder".to_owned());
    svn.scm.password = Some(password.into());

    bench.update(at(&svn, "1")).unwrap();
    bench.update(at(&svn, "2")).unwrap();
    assert_eq!(read(&bench.base().join("code/a")), "two\n");
    let seen = server.seen.lock().unwrap().clone();
    assert!(
        seen.len() >= 2 && seen.iter().all(|line| line == "connected"),
        "{seen:?}"
    );
    assert_eq!(
        seen_in_files(&bench.path("agent"), password),
        Vec::<PathBuf>::new()
    );
    bench.new_lines();

    svn.scm.password = Some("wrong-Svn".into());
    svn.scm.folder = Some("other".to_owned());
    let other = bench.base().join("other");
    assert_eq!(
        bench.update(at(&svn, "1")).unwrap_err().to_string(),
        format!(
            "Failed to run svn --username builder --password ****** checkout --non-interactive \
             -r 1 {} {}",
            svn.url.url,
            other.display()
        )
    );
    let lines = bench.new_lines();
    assert!(
        lines
            .iter()
            .any(|line| line.contains("Authentication error")),
        "{lines:?}"
    );
}

#[test]
fn without_a_user_there_is_no_login() {
    let bench = Bench::new();
    let mut svn = material(&repository(&bench, "repo"), "code");
    svn.scm.password = Some("unused".into());
    let error = bench.update(at(&svn, "9")).unwrap_err().to_string();
    assert!(error.starts_with("Failed to run svn checkout "), "{error}");
}
