use std::{
    collections::{HashMap, VecDeque},
    fs,
    io::{Cursor, Write as _},
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    extract::{Request, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use journeyman_protocol::{
    builder::BuilderAttributes,
    environment::EnvironmentVariableContext,
    fetch::{ChecksumFileHandler, DirHandler, FetchArtifactBuilder, FetchHandler, FileHandler},
    job::JobIdentifier,
};
use pretty_assertions::assert_eq;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use zip::{ZipWriter, write::SimpleFileOptions};

use super::{download::Pauses, run_with};
use crate::{
    fake_server::eventually,
    job::{
        bench,
        cancelled::{CancelProgress, Cancelled},
        containment::Children,
        environment::Environment,
        masking::Mask,
        tasks::{KillAll, Outcome, TaskContext},
    },
};

const CHECKSUMS: &str = "cruise-output/md5.checksum";
/// Of `jar content` and a line feed.
const MD5: &str = "2269fbd8b45a45e10171e28f605cf543";

type Answer = (u16, Vec<u8>);

#[derive(Default)]
struct Script {
    /// By path below the job; the last one repeats.
    answers: HashMap<String, VecDeque<Answer>>,
    requests: Vec<String>,
}

/// A server with the files of a job, and an agent's working directory with a task's context.
struct Bench {
    dir: TempDir,
    script: Arc<Mutex<Script>>,
    pauses: TestPauses,
    context: TaskContext,
}

#[derive(Clone, Default)]
struct TestPauses {
    seen: Arc<Mutex<Vec<u64>>>,
    /// Pauses end when the job is stopped only.
    wait: bool,
}

impl Pauses for TestPauses {
    fn chance(&self) -> f64 {
        0.5
    }

    fn pause(&self, length: Duration, stop: &CancellationToken) {
        self.seen.lock().unwrap().push(length.as_secs());
        if self.wait {
            tokio::runtime::Handle::current().block_on(stop.cancelled());
        }
    }
}

struct NothingToKill;

impl KillAll for NothingToKill {
    fn kill_all(&self) {}
}

async fn answer(State(script): State<Arc<Mutex<Script>>>, request: Request) -> Response {
    let mut script = script.lock().unwrap();
    let uri = request.uri().to_string();
    let below = uri.split_once("/dist/").map_or("", |(_, below)| below);
    script.requests.push(below.to_owned());
    let path = below.split('?').next().unwrap_or_default();
    let queue = script.answers.get_mut(path);
    let (status, body) = match queue {
        Some(queue) if queue.len() > 1 => queue.pop_front().unwrap(),
        Some(queue) => queue[0].clone(),
        None => (404, Vec::new()),
    };
    (StatusCode::from_u16(status).unwrap(), body).into_response()
}

impl Bench {
    async fn new() -> Self {
        let script = Arc::new(Mutex::new(Script::default()));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(answer).with_state(script.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let scratch = root.join("jobs/1");
        fs::create_dir_all(&scratch).unwrap();
        let environment = Environment::new("", &EnvironmentVariableContext::default());
        let context = TaskContext {
            console: bench::console(&root),
            mask: Mask::new(environment.secrets()),
            environment: Arc::new(environment),
            children: Children::default(),
            scratch,
            server: bench::server(address, &root),
            root,
            stop: CancellationToken::new(),
            kill: Arc::new(NothingToKill),
            cancelled: Cancelled::new(tokio::sync::watch::channel(CancelProgress::default()).1),
            output_limit: Duration::ZERO,
        };
        Self {
            dir,
            script,
            pauses: TestPauses::default(),
            context,
        }
    }

    fn answers(&self, path: &str, answers: &[(u16, &[u8])]) {
        let answers = answers
            .iter()
            .map(|(status, body)| (*status, body.to_vec()))
            .collect();
        let mut script = self.script.lock().unwrap();
        script.answers.insert(path.to_owned(), answers);
    }

    async fn fetch(&self, task: FetchArtifactBuilder) -> Outcome {
        let (context, pauses) = (self.context.clone(), self.pauses.clone());
        tokio::task::spawn_blocking(move || run_with(&task, &context, &pauses))
            .await
            .unwrap()
    }

    fn requests(&self) -> Vec<String> {
        self.script.lock().unwrap().requests.clone()
    }

    fn pauses(&self) -> Vec<u64> {
        self.pauses.seen.lock().unwrap().clone()
    }

    /// `tag|text` of each line, with the server's address as `~`.
    fn lines(&self) -> Vec<String> {
        bench::lines(self.dir.path(), &self.context.server.url(""))
    }

    fn deps(&self) -> PathBuf {
        self.context.root.join("pipelines/web/deps")
    }

    /// Names of all files and folders that were fetched.
    fn fetched(&self) -> Vec<String> {
        fn walk(folder: &std::path::Path, above: &str, found: &mut Vec<String>) {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                let name = format!("{above}{}", entry.file_name().to_str().unwrap());
                if entry.file_type().unwrap().is_dir() {
                    walk(&entry.path(), &format!("{name}/"), found);
                }
                found.push(name);
            }
        }
        let mut found = Vec::new();
        walk(&self.deps(), "", &mut found);
        found.sort();
        found
    }

    fn assert_nothing_temporary(&self) {
        assert_eq!(fs::read_dir(&self.context.scratch).unwrap().count(), 0);
    }
}

fn task(source: &str, handler: FetchHandler) -> FetchArtifactBuilder {
    FetchArtifactBuilder {
        job_identifier: JobIdentifier {
            pipeline_name: "libs".into(),
            pipeline_counter: 7,
            pipeline_label: "7".into(),
            stage_name: "package".into(),
            stage_counter: "1".into(),
            build_name: "dist".into(),
            ..JobIdentifier::default()
        },
        srcdir: source.to_owned(),
        dest: "deps".into(),
        handler,
        checksum_file_handler: ChecksumFileHandler {
            checksum_file: "pipelines/web/deps/libs_package_dist_md5.checksum".into(),
        },
        attributes: BuilderAttributes::described("fetch"),
    }
}

fn file(source: &str) -> FetchArtifactBuilder {
    let name = source.rsplit('/').next().unwrap();
    let handler = FetchHandler::FileHandler(FileHandler {
        artifact: format!("pipelines/web/deps/{name}").into(),
        src_file: source.to_owned(),
        ..FileHandler::default()
    });
    task(source, handler)
}

fn folder(source: &str) -> FetchArtifactBuilder {
    let handler = FetchHandler::DirHandler(DirHandler {
        src_file: source.to_owned(),
        dest_on_agent: "pipelines/web/deps".into(),
        ..DirHandler::default()
    });
    task(source, handler)
}

/// As a server streams it: the sizes behind the data.
fn zip(entries: &[(&str, &str)]) -> Vec<u8> {
    let mut zip = ZipWriter::new_stream(Cursor::new(Vec::new()));
    for (name, content) in entries {
        if name.ends_with('/') {
            zip.add_directory(*name, SimpleFileOptions::default())
                .unwrap();
        } else {
            zip.start_file(*name, SimpleFileOptions::default()).unwrap();
            zip.write_all(content.as_bytes()).unwrap();
        }
    }
    zip.finish().unwrap().into_inner().into_inner()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_fetched_once_and_asked_for_by_its_checksum_then() {
    let bench = Bench::new().await;
    bench.answers(
        CHECKSUMS,
        &[(200, format!("#\n#date\npkg/a.jar={MD5}\n").as_bytes())],
    );
    bench.answers(
        "pkg/a.jar",
        &[(200, b"jar content\n"), (304, b""), (200, b"jar content\n")],
    );
    assert_eq!(bench.fetch(file("pkg/a.jar")).await, Outcome::PASSED);
    assert_eq!(bench.fetch(file("pkg/a.jar")).await, Outcome::PASSED);
    assert_eq!(
        bench.requests(),
        [
            CHECKSUMS,
            "pkg/a.jar",
            CHECKSUMS,
            "pkg/a.jar?sha1=Vnj55ioMc4sk1bkdnFFz4tHHxbQ%3D"
        ]
    );
    assert_eq!(
        bench.lines(),
        [
            "&1|[go] Fetching artifact [pkg/a.jar] from [libs/7/package/1/dist]",
            "&1|[go] Saved artifact to [pipelines/web/deps/a.jar] after verifying the integrity of \
             its contents.",
            "&1|[go] Fetching artifact [pkg/a.jar] from [libs/7/package/1/dist]",
            "&1|[go] Artifact is not modified, skipped fetching it",
        ]
    );
    assert_eq!(bench.fetched(), ["a.jar", "libs_package_dist_md5.checksum"]);
    bench.assert_nothing_temporary();
}

#[tokio::test(flavor = "multi_thread")]
async fn three_failures_are_waited_for() {
    let bench = Bench::new().await;
    bench.answers(CHECKSUMS, &[(403, b""), (404, b"")]);
    bench.answers(
        "a.jar",
        &[
            (202, b""),
            (202, b""),
            (500, b""),
            (500, b""),
            (500, b""),
            (200, b"x"),
        ],
    );
    assert_eq!(bench.fetch(file("a.jar")).await, Outcome::PASSED);
    // 403 of the checksums is a failure as well, and 202 is none.
    assert_eq!(bench.pauses(), [15, 5, 5, 15, 25, 35]);
    assert_eq!(
        bench.lines()[3],
        "&2|[go] Could not fetch artifact ~/remoting/files/libs/7/package/1/dist/a.jar. Pausing 15 \
         seconds to retry. Error was : Unsuccessful response '500' from the server"
    );
    assert_eq!(
        bench.lines().last().unwrap(),
        "&2|[go] Saved artifact to [pipelines/web/deps/a.jar] without verifying the integrity of its \
         contents."
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_does_not_come_fails_after_four_tries_and_the_old_one_stays() {
    let bench = Bench::new().await;
    fs::create_dir_all(bench.deps()).unwrap();
    fs::write(bench.deps().join("a.jar"), "old").unwrap();
    fs::write(
        bench.deps().join("libs_package_dist_md5.checksum"),
        "a.jar=0\n",
    )
    .unwrap();
    assert_eq!(bench.fetch(file("a.jar")).await, Outcome::FAILED);
    assert_eq!(bench.requests().len(), 5);
    assert_eq!(
        bench.lines().last().unwrap(),
        "&2|[go] Failed to save artifact [a.jar] to [deps]"
    );
    // The checksums of an earlier fetch say nothing about this one.
    assert_eq!(bench.fetched(), ["a.jar"]);
    assert_eq!(
        fs::read_to_string(bench.deps().join("a.jar")).unwrap(),
        "old"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_with_another_checksum_fails_unless_it_was_damaged_on_its_way_only() {
    let bench = Bench::new().await;
    bench.answers(CHECKSUMS, &[(200, format!("a.jar={MD5}\n").as_bytes())]);
    bench.answers("a.jar", &[(200, b"damaged")]);
    assert_eq!(bench.fetch(file("a.jar")).await, Outcome::FAILED);
    assert_eq!(bench.requests().len(), 5);
    let lines = bench.lines();
    assert_eq!(
        lines[1],
        "&2|[go] [ERROR] Verification of the integrity of the artifact [a.jar] failed. The artifact \
         file on the server may have changed since its original upload."
    );
    assert!(
        lines[2]
            .ends_with("Error was : Caught an exception 'Artifact download failed for [a.jar]'"),
        "{lines:?}"
    );
    bench.answers("a.jar", &[(200, b"damaged"), (200, b"jar content\n")]);
    assert_eq!(bench.fetch(file("a.jar")).await, Outcome::PASSED);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_is_unpacked_over_what_is_there() {
    use std::os::unix::fs::PermissionsExt as _;
    let bench = Bench::new().await;
    let own = bench.deps().join("pkg");
    fs::create_dir_all(&own).unwrap();
    fs::write(own.join("kept"), "kept").unwrap();
    fs::write(own.join("tool"), "old and longer").unwrap();
    fs::set_permissions(own.join("tool"), fs::Permissions::from_mode(0o755)).unwrap();
    bench.answers(
        CHECKSUMS,
        &[(200, format!("out/pkg/tool={MD5}\n").as_bytes())],
    );
    let packed = zip(&[
        ("pkg/", ""),
        ("pkg/tool", "jar content\n"),
        ("/pkg/rooted", "r"),
        ("pkg/empty/", ""),
        ("pkg/sub/b", "b"),
    ]);
    bench.answers("out/pkg.zip", &[(202, b""), (200, &packed)]);
    assert_eq!(bench.fetch(folder("out/pkg")).await, Outcome::PASSED);
    assert_eq!(
        bench.fetched(),
        [
            "libs_package_dist_md5.checksum",
            "pkg",
            "pkg/empty",
            "pkg/kept",
            "pkg/rooted",
            "pkg/sub",
            "pkg/sub/b",
            "pkg/tool",
        ]
    );
    assert_eq!(
        fs::read_to_string(own.join("tool")).unwrap(),
        "jar content\n"
    );
    let mode = fs::metadata(own.join("tool")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o755);
    let lines = bench.lines();
    assert_eq!(lines.len(), 4, "{lines:#?}");
    for (line, unknown) in lines[1..].iter().zip(["out/pkg/rooted", "out/pkg/sub/b"]) {
        let told = format!("&2|[go] [WARN] The md5checksum value of the artifact [{unknown}]");
        assert!(line.starts_with(&told), "{lines:#?}");
    }
    assert_eq!(
        lines[3],
        "&2|[go] Saved artifact to [pipelines/web/deps] without verifying the integrity of its \
         contents."
    );
    bench.assert_nothing_temporary();
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_in_a_zip_leads_out_of_the_destination() {
    let bench = Bench::new().await;
    fs::create_dir_all(bench.deps()).unwrap();
    let outside = bench.context.root.join("outside");
    fs::create_dir_all(&outside).unwrap();
    fs::write(outside.join("file"), "untouched").unwrap();
    std::os::unix::fs::symlink(&outside, bench.deps().join("way-out")).unwrap();
    std::os::unix::fs::symlink(outside.join("file"), bench.deps().join("link")).unwrap();
    for (name, why) in [
        (
            "../outside/file",
            "File ../outside/file is outside extraction target directory",
        ),
        ("a..b", "File a..b is outside extraction target directory"),
        ("way-out/file", "is a link that leads out of the folder"),
        ("way-out/new/file", "is a link that leads out of the folder"),
    ] {
        bench.answers("pkg.zip", &[(200, &zip(&[(name, "evil")]))]);
        assert_eq!(bench.fetch(folder("pkg")).await, Outcome::FAILED, "{name}");
        let lines = bench.lines();
        assert!(lines.iter().any(|line| line.contains(why)), "{lines:#?}");
    }
    // A file takes the place of a link and leaves what it points to alone.
    bench.answers("pkg.zip", &[(200, &zip(&[("link", "new")]))]);
    assert_eq!(bench.fetch(folder("pkg")).await, Outcome::PASSED);
    assert_eq!(
        fs::read_to_string(bench.deps().join("link")).unwrap(),
        "new"
    );
    assert_eq!(
        fs::read_to_string(outside.join("file")).unwrap(),
        "untouched"
    );
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    bench.assert_nothing_temporary();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zip_that_was_cut_off_or_damaged_is_a_failure() {
    let whole = zip(&[
        ("pkg/", ""),
        ("pkg/a", "some content of a file"),
        ("pkg/b", "b"),
    ]);
    let bench = Bench::new().await;
    let mut damaged = whole.clone();
    let at = whole
        .windows(5)
        .position(|bytes| bytes == b"pkg/a")
        .unwrap()
        + 8;
    damaged[at] ^= 0x55;
    // Where the header of the last file begins: a zip that just ends there looks fine so far.
    let b = whole
        .windows(5)
        .position(|bytes| bytes == b"pkg/b")
        .unwrap()
        - 30;
    for wrong in [
        &whole[..0],
        &whole[..60],
        &whole[..b],
        &damaged,
        b"no zip at all",
    ] {
        bench.answers("pkg.zip", &[(200, wrong)]);
        assert_eq!(bench.fetch(folder("pkg")).await, Outcome::FAILED);
    }
    bench.answers("pkg.zip", &[(200, &whole)]);
    assert_eq!(bench.fetch(folder("pkg")).await, Outcome::PASSED);
    bench.assert_nothing_temporary();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_ends_a_fetch_that_waits() {
    let mut bench = Bench::new().await;
    bench.pauses.wait = true;
    bench.answers(CHECKSUMS, &[(404, b"")]);
    bench.answers("pkg.zip", &[(202, b"")]);
    let stop = bench.context.stop.clone();
    let (outcome, ()) = tokio::join!(bench.fetch(folder("pkg")), async {
        eventually(|| (!bench.pauses().is_empty()).then_some(())).await;
        stop.cancel();
    });
    assert_eq!(outcome, Outcome::FAILED);
    assert_eq!(bench.requests(), [CHECKSUMS, "pkg.zip"]);
}
