use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Instant,
};

use journeyman_tests::{
    binaries::binary,
    fake_server::{FakeServer, build_work},
    patience::wait_until,
    processes::terminate,
    scene::Scene,
};
use serde_json::json;

use crate::median;

const ROUNDS: usize = 5;
const FILES: usize = 10_000;
const COMMITS: usize = 1_000;

/// A checkout as a job has it, from its first line to its last, beside git by hand; one after the
/// other, in one run. Warm: ten files changed since the last one, as many left behind by a job.
/// Fresh: with the mirror, or what `--reference` names, in place.
pub(crate) fn figure() -> String {
    let scene = Scene::new("checkout");
    let source = scene.path().join("source");
    fill(&source);
    let url = format!("file://{}", source.display());
    // Hands out work at once: the agent alone is measured.
    let server = FakeServer::start();
    let agent = Agent::start(&scene, &server);

    let by_hand = scene.path().join("by-hand");
    git(
        scene.path(),
        &["clone", "-q", "-b", "main", &url, "by-hand"],
    );
    let mut builds = 0;
    let mut job = |clean: bool| {
        builds += 1;
        let head = git(&source, &["rev-parse", "main"]);
        let milliseconds = checked_out(&server, builds, &url, &head, clean);
        let checkout = agent.folder.join("pipelines/web");
        assert_eq!(git(&checkout, &["rev-parse", "HEAD"]), head);
        assert_eq!(git(&checkout, &["status", "--short"]), "");
        milliseconds
    };
    job(false);
    let mut warm = [Vec::new(), Vec::new()];
    for round in 0..ROUNDS {
        commit(&source, round);
        for checkout in [&by_hand, &agent.folder.join("pipelines/web")] {
            for number in 0..10 {
                fs::write(checkout.join(format!("left{number}")), "x").expect("a file");
            }
        }
        let head = git(&source, &["rev-parse", "main"]);
        let began = Instant::now();
        git(&by_hand, &["fetch"]);
        git(&by_hand, &["reset", "--hard", &head]);
        git(&by_hand, &["clean", "-dffx"]);
        warm[0].push(began.elapsed().as_millis() as i64);
        warm[1].push(job(false));
    }

    git(
        scene.path(),
        &["clone", "-q", "--mirror", &url, "reference.git"],
    );
    let reference = scene.path().join("reference.git").display().to_string();
    let mut fresh = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        fs::remove_dir_all(&by_hand).expect("the last clone is removed");
        let began = Instant::now();
        git(
            scene.path(),
            &["clone", "-q", "--reference", &reference, &url, "by-hand"],
        );
        fresh[0].push(began.elapsed().as_millis() as i64);
        fresh[1].push(job(true));
    }
    let line = |what: &str, [by_hand, job]: &mut [Vec<i64>; 2]| {
        let (by_hand, job) = (median(by_hand), median(job));
        format!(
            "{what}: {job} ms, by hand {by_hand} ms: {:.2} times",
            job as f64 / by_hand as f64,
        )
    };
    format!(
        "checkout of {FILES} files and {COMMITS} commits, medians of {ROUNDS}\n{}\n{}",
        line("warm, beside git fetch, reset --hard, clean", &mut warm),
        line("fresh, beside git clone --reference", &mut fresh),
    )
}

/// Milliseconds that a job spends on its material, by the times of its lines.
fn checked_out(server: &FakeServer, build: u64, url: &str, revision: &str, clean: bool) -> i64 {
    let mut work = build_work(&format!("job{build}"), build, &json!([]));
    work["assignment"]["cleanWorkingDirectory"] = clean.into();
    work["assignment"]["materialRevisions"]["revisions"] = json!([{
        "material": { "type": "GitMaterial", "url": { "url": url }, "refSpecOrBranch": "main" },
        "modifications": [{ "revision": revision, "modifiedTime": "2026-01-02T03:04:05Z" }],
        "changed": true,
    }]);
    server.give_work(work);
    wait_until("the job is reported", || {
        server.results().len() as u64 == build
    });
    let consoles = server.told().consoles.clone();
    let console = consoles
        .iter()
        .find(|(path, _)| path.contains(&format!("/job{build}/")))
        .map(|(_, text)| text)
        .expect("its console");
    assert_eq!(
        server.results().last().map(String::as_str),
        Some("Passed"),
        "{console}"
    );
    let at = |text: &str| {
        let line = console.lines().find(|line| line.contains(text));
        milliseconds(line.unwrap_or_else(|| panic!("no {text:?} in {console}")))
    };
    // A day has 86,400,000 of them.
    (at("[go] Done.") - at("[go] Start updating")).rem_euclid(86_400_000)
}

/// The agent by itself, without launcher and bootstrapper.
struct Agent {
    folder: PathBuf,
    process: Child,
}

impl Agent {
    fn start(scene: &Scene, server: &FakeServer) -> Self {
        let folder = scene.folder("agent");
        let process = scene
            .command(&binary("journeyman-agent"))
            .args(["run", "-serverUrl", &server.url])
            .current_dir(&folder)
            .spawn()
            .expect("the agent");
        Self { folder, process }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        terminate(self.process.id() as i32);
        let _ = self.process.wait();
    }
}

/// Of the time in `TT|hh:mm:ss.mmm text`.
fn milliseconds(line: &str) -> i64 {
    let digits = |range: std::ops::Range<usize>| line[range].parse::<i64>().expect("a time");
    ((digits(3..5) * 60 + digits(6..8)) * 60 + digits(9..11)) * 1000 + digits(12..15)
}

/// A repository of many files, ten of which change with each commit.
fn fill(path: &PathBuf) {
    git(
        Path::new("/"),
        &["init", "-q", "-b", "main", &path.display().to_string()],
    );
    let mut import = Command::new("git")
        .current_dir(path)
        .args(["fast-import", "--quiet"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("git fast-import");
    let mut out = std::io::BufWriter::new(import.stdin.take().expect("its input"));
    let mut write = |commit: usize, files: &mut dyn Iterator<Item = usize>| {
        let when = 1_700_000_000 + commit;
        writeln!(
            out,
            "commit refs/heads/main\ncommitter Ann <ann@example.com> {when} +0000\ndata 1\nc"
        )
        .expect("a commit");
        for file in files {
            // About as large as a source file, and not all alike.
            let content = format!("{file} {commit} some line of text\n").repeat(40 + file % 100);
            let (folder, length) = (file / 100, content.len());
            writeln!(
                out,
                "M 644 inline src/{folder}/file{file}\ndata {length}\n{content}"
            )
            .expect("a file");
        }
    };
    write(0, &mut (0..FILES));
    for commit in 1..COMMITS {
        write(
            commit,
            &mut (0..10).map(|n| (commit * 37 + n * 997) % FILES),
        );
    }
    drop(out);
    assert!(import.wait().expect("its end").success());
    git(path, &["reset", "-q", "--hard"]);
}

fn commit(source: &Path, round: usize) {
    for number in 0..10 {
        let file = (round * 10 + number) * 13;
        let path = source.join(format!("src/{}/file{file}", file / 100));
        fs::write(path, format!("changed in round {round}\n")).expect("a file");
    }
    git(source, &["commit", "-q", "-a", "-m", "change"]);
}

fn git(folder: &Path, words: &[&str]) -> String {
    let output = Command::new("git")
        .current_dir(folder)
        .args(["-c", "user.name=Ann", "-c", "user.email=ann@example.com"])
        .args(words)
        .output()
        .expect("git");
    assert!(output.status.success(), "git {words:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout)
        .trim_end()
        .to_owned()
}
