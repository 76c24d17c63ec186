use std::{fmt::Write as _, fs};

use journeyman_tests::{
    chain::Chain,
    console::time_of,
    fake_server::{FakeServer, build_work, shell},
    patience::wait_until,
    scene::Scene,
};
use serde_json::{Value, json};

use crate::median;

const SECRETS: usize = 100;
const RUNS: usize = 5;
const LINES: usize = 1_000_000;

/// The same output with no secret and with many, one run after the other.
pub(crate) fn figure() -> String {
    let scene = Scene::new("masking");
    let server = FakeServer::start();
    server.told().work_at_once = true;
    let file = scene.path().join("lines");
    let text = log();
    fs::write(&file, &text).expect("a file of lines");
    let _chain = Chain::install(&scene, "agent", &server.url)
        .with_package()
        .with_gocds_timings()
        .started();
    let mut times = [Vec::new(), Vec::new()];
    let mut ratios = Vec::new();
    for run in 0..=RUNS {
        let [plain, masked] = [0, SECRETS].map(|secrets| {
            let task = shell(&format!("cat {}", file.display()));
            let mut work = build_work("unit", run as u64 + 1, &json!([task]));
            work["assignment"]["initialContext"] = json!({ "properties": variables(secrets) });
            server.give_work(work);
            wait_until("the job is reported", || !server.results().is_empty());
            // Else the server's memory would be what is measured.
            let consoles = std::mem::take(&mut server.told().consoles);
            server.told().calls.clear();
            let console = consoles.values().next().expect("a console");
            assert!(console.len() > text.len(), "all of it is there");
            let begun = time_of(console, "[go] Task: ").expect("its task");
            // All lines are on the server before it is told that the task is done.
            let ended = time_of(console, "[go] Current job status: passed").expect("its end");
            ended - begun
        });
        // The first run finds files and memory cold.
        if run > 0 {
            times[0].push(plain);
            times[1].push(masked);
            ratios.push(masked * 1000 / plain);
        }
    }
    let rate = |times: &mut [i64]| text.len() as f64 / 1000.0 / median(times) as f64;
    let [plain, masked] = &mut times;
    format!(
        "masking: {:.0} MB/s of console with {SECRETS} secrets, {:.0} MB/s with none: {:.2} times \
         as long (medians of {RUNS} pairs)",
        rate(masked),
        rate(plain),
        median(&mut ratios) as f64 / 1000.0,
    )
}

/// Secrets as they are: tokens, UUIDs, passwords with signs, words.
fn variables(secrets: usize) -> Vec<Value> {
    let mut random = Random(7);
    (0..secrets)
        .map(|index| {
            let value = match index % 4 {
                0 => format!("ghp_{:016x}{:016x}", random.next(), random.next()),
                1 => format!(
                    "{:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}",
                    random.below(1 << 32),
                    random.below(1 << 16),
                    random.below(1 << 12),
                    random.below(1 << 12),
                    random.below(1 << 48)
                ),
                2 => format!("p@ss/{:x}&w=rd {:x}", random.below(1 << 20), random.below(1 << 20)),
                _ => format!("secret-{:04}", random.below(10_000)),
            };
            json!({ "name": format!("S{index}"), "value": value, "secure": true, "secretParams": [] })
        })
        .collect()
}

/// What a build prints: paths, words, numbers, addresses.
fn log() -> String {
    const WORDS: &[&str] = &[
        "Compiling",
        "warning:",
        "passed",
        "src/main/java/com/example/app",
        "Downloading",
        "https://repo.example.com/maven2/org/slf4j/slf4j-api/2.0.13?q=a%20b",
        "test",
        "in",
        "of",
        "INFO",
        "[main]",
        "100%",
        "c++",
        "secret",
        "target/classes",
        "BUILD",
        "done",
        "--",
        "ok",
    ];
    let mut random = Random(42);
    let mut text = String::with_capacity(LINES * 81);
    for _ in 0..LINES {
        let start = text.len();
        while text.len() - start < 64 {
            let word = random.below(WORDS.len() as u64 + 6) as usize;
            match WORDS.get(word) {
                // Addresses with escapes are not on every line.
                Some(word) if word.contains("%20") && random.below(8) > 0 => {}
                Some(word) => text.push_str(word),
                None => {
                    let _ = write!(text, "{:x}", random.next());
                }
            }
            text.push(' ');
        }
        text.truncate(start + 79);
        text.push('\n');
    }
    text
}

/// Numbers that are the same at each run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}
