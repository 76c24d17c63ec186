use std::{
    fs::{self, File},
    io::{BufWriter, Write},
    path::Path,
    process::Command,
    time::Instant,
};

use journeyman_tests::{
    chain::Chain,
    console::time_of,
    fake_server::{FakeServer, build_work},
    patience::wait_until,
    processes::{Role, memory},
    scene::Scene,
};
use serde_json::json;

use crate::{median, mib};

const RUNS: usize = 5;
const GIB: u64 = 1 << 30;
const SMALL: u64 = 10 * 1024;

/// An artifact of a job, beside `zip -1` and `curl -T` to the same server (GoCD's protocol), which
/// keeps nothing. Both have a turn in each round.
pub(crate) fn figure() -> String {
    let scene = Scene::new("upload");
    let server = FakeServer::start();
    server.told().work_at_once = true;
    let chain = Chain::install(&scene, "agent", &server.url)
        .with_package()
        .with_gocds_timings()
        .started();
    scene.folder("agent/pipelines/web");
    let bench = Bench {
        scene: &scene,
        server: &server,
    };
    let mut said = Vec::new();
    for (what, item, make) in [
        ("one file of 1 GiB", "large", large as fn(&Path)),
        ("10,000 files of 10 KiB", "small", small),
    ] {
        make(&bench.pipeline().join(item));
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..RUNS {
            ours.push(bench.upload(item, || {}));
            theirs.push(bench.by_hand(item));
        }
        let (ours, theirs) = (median(&mut ours), median(&mut theirs));
        said.push(format!(
            "upload of {what}: {:.2} s; zip -1 and curl -T: {:.2} s; {:.2} times (medians of {RUNS} \
             rounds)",
            ours as f64 / 1000.0,
            theirs as f64 / 1000.0,
            ours as f64 / theirs as f64,
        ));
        remove(&bench.pipeline().join(item));
    }
    for (what, item, make) in [
        ("one file of 4 GiB", "largest", largest as fn(&Path)),
        ("50,000 files of 100 bytes", "many", many),
    ] {
        make(&bench.pipeline().join(item));
        let mut peak = 0;
        bench.upload(item, || {
            let runner = chain.process(Role::Runner);
            if let Some(now) = runner.and_then(|process| memory(process.pid)) {
                peak = peak.max(now.peak);
            }
        });
        said.push(format!(
            "peak of the job runner's resident memory at an upload of {what}: {} MiB",
            mib(peak)
        ));
        remove(&bench.pipeline().join(item));
    }
    said.join("\n")
}

struct Bench<'a> {
    scene: &'a Scene,
    server: &'a FakeServer,
}

impl Bench<'_> {
    fn pipeline(&self) -> std::path::PathBuf {
        self.scene.path().join("agent/pipelines/web")
    }

    /// Runs a job with this artifact, and looks at it meanwhile. Milliseconds from the first line
    /// about its upload to the last line of the job.
    fn upload(&self, item: &str, mut look: impl FnMut()) -> i64 {
        let id = self.server.results().len() as u64 + 1;
        let name = format!("job-{id}");
        let mut work = build_work(&name, id, &json!([]));
        // Without a material nothing in the job's folder would be kept.
        work["assignment"]["fetchMaterials"] = json!(false);
        work["assignment"]["artifactPlans"] = json!([{
            "testArtifactPlansForMerging": [], "buildId": id, "artifactPlanType": "file",
            "src": item, "dest": "", "id": id
        }]);
        self.server.give_work(work);
        wait_until("the job is reported", || {
            look();
            self.server.results().len() as u64 == id
        });
        assert_eq!(self.server.results().last().expect("its result"), "Passed");
        let told = self.server.told();
        let (_, console) = told
            .consoles
            .iter()
            .find(|(path, _)| path.contains(&format!("/{name}/")))
            .expect("its console");
        let at = |line| time_of(console, line).expect("a line of it");
        at("[go] Job completed") - at("[go] Start to upload")
    }

    /// Milliseconds for the same by hand.
    fn by_hand(&self, item: &str) -> i64 {
        let zip = self.scene.path().join("by-hand.zip");
        let script = format!(
            "zip -1 -q -r {zip} {item} && curl -sSf -T {zip} {sink}",
            zip = zip.display(),
            sink = self.server.sink(),
        );
        let began = Instant::now();
        let status = Command::new("sh")
            .args(["-c", &script])
            .current_dir(self.pipeline())
            .status()
            .expect("sh");
        let took = began.elapsed().as_millis() as i64;
        assert!(status.success(), "zip and curl are needed");
        fs::remove_file(zip).expect("the zip");
        took
    }
}

/// Writes lines as builds print them: they pack well, but not to nothing.
fn text(to: &mut impl Write, bytes: u64, seed: u64) {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut written = 0;
    while written < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let line = format!(
            "[{:>6}] compiled module_{:03}/part_{:04}.o in {} ms, checksum {state:016x}\n",
            written / 80,
            state % 700,
            state >> 52,
            state % 977,
        );
        let length = (bytes - written).min(line.len() as u64) as usize;
        to.write_all(&line.as_bytes()[..length]).expect("a file");
        written += length as u64;
    }
}

fn large(path: &Path) {
    let mut file = BufWriter::new(File::create(path).expect("a file"));
    text(&mut file, GIB, 1);
    file.flush().expect("a file");
}

fn small(path: &Path) {
    files(path, 10_000, SMALL);
}

fn many(path: &Path) {
    files(path, 50_000, 100);
}

fn files(path: &Path, count: u64, bytes: u64) {
    for n in 0..count {
        let folder = path.join(format!("folder-{}", n / 100));
        if n % 100 == 0 {
            fs::create_dir_all(&folder).expect("a folder");
        }
        let file = File::create(folder.join(format!("file-{n}.txt"))).expect("a file");
        text(&mut BufWriter::new(file), bytes, n + 1);
    }
}

fn largest(path: &Path) {
    let file = File::create(path).expect("a file");
    // One byte more than a zip holds without its extension for large files.
    file.set_len(4 * GIB + 1).expect("a sparse file");
}

fn remove(path: &Path) {
    if path.is_dir() {
        fs::remove_dir_all(path).expect("the files");
    } else {
        fs::remove_file(path).expect("the file");
    }
}
