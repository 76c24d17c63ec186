use std::{
    fs::{self, File},
    io::{Cursor, Write as _},
    path::Path,
    time::Instant,
};

use bytes::Bytes;
use futures_util::stream;
use http::Request;
use journeyman_protocol::job::JobIdentifier;
use journeyman_tests::load::{Agent, Body, Connection, Nginx, Target, bytes, streamed};
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use ring::rand::{SecureRandom as _, SystemRandom};
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

use super::Bench;

/// Bytes of the artifact, which cannot be compressed, as most large ones.
const SIZE: usize = 256 << 20;
const ROUNDS: usize = 5;
/// Of what nginx does.
const GOAL: f64 = 80.0;
const PIECE: usize = 256 << 10;
const BOUNDARY: &str = "a-boundary-that-is-nowhere-else";

/// MB a second.
#[derive(Default)]
struct Rates {
    up: Vec<f64>,
    /// From the disk, and from memory.
    cold: Vec<f64>,
    warm: Vec<f64>,
}

/// An artifact as agents publish it (zipped, in a form) and fetch it, beside the same bytes by PUT to
/// nginx and GET from it. What was sent counts as stored when it is on the disk; both have a turn in
/// each round.
pub(super) fn measure(bench: &mut Bench<'_>, seconds: Option<u64>) -> String {
    let rounds = seconds.map_or(ROUNDS, |seconds| seconds.max(1) as usize);
    let (plain, zip) = artifact();
    let nginx = Nginx::start(bench.scene);
    let (mut ours, mut its) = (Rates::default(), Rates::default());
    bench.runtime.block_on(async {
        let mut jobs = bench.take_jobs(1).await;
        for round in 0..rounds {
            let (agent, connection, work) = &mut jobs[0];
            let agent = &bench.fleet.agents()[*agent];
            let job = &work.assignment.job_identifier;
            of_server(bench, agent, connection, job, round, &zip, &mut ours).await;
            if let Some(nginx) = &nginx {
                of_nginx(nginx, round, &zip, &plain, &mut its).await;
            }
        }
        for (agent, connection, work) in &mut jobs {
            let job = &work.assignment.job_identifier;
            bench.fleet.agents()[*agent].end(connection, job).await;
        }
    });
    let with = |what: &str, ours: &mut Vec<f64>, its: &mut Vec<f64>| {
        let ours = middle(ours);
        match &nginx {
            Some(_) => {
                let its = middle(its);
                format!(
                    "{what} {ours:.0} MB a second, {:.0} % of nginx ({its:.0})",
                    ours / its * 100.0
                )
            }
            None => format!("{what} {ours:.0} MB a second"),
        }
    };
    let compared = match &nginx {
        Some(_) => format!("nginx {}", Nginx::version()),
        None => "NOT COMPARED: nginx is not installed; `.ci/prepare bench` does that".to_owned(),
    };
    format!(
        "server, artifacts of {} MiB: {}; {}; {} (medians of {rounds}; {compared}; goal: {GOAL:.0} %)",
        SIZE >> 20,
        with("upload to the disk", &mut ours.up, &mut its.up),
        with("download from the disk", &mut ours.cold, &mut its.cold),
        with("from memory", &mut ours.warm, &mut its.warm),
    )
}

async fn of_server(
    bench: &Bench<'_>,
    agent: &Agent,
    connection: &mut Connection,
    job: &JobIdentifier,
    round: usize,
    zip: &Bytes,
    rates: &mut Rates,
) {
    let folder = format!("round-{round}");
    let request = agent
        .file_request(connection, "POST", job, &folder)
        .header("X-Go-Artifact-Size", SIZE)
        .header(
            "Content-Type",
            format!("multipart/form-data; boundary={BOUNDARY}"),
        )
        .body(form(zip))
        .expect("a request");
    let began = Instant::now();
    let answer = connection.send(request).await.expect("an answer");
    rates.up.push(rate(zip.len(), began));
    assert_eq!(answer.status, 201, "{answer:?}");
    let stored = bench
        .server
        .data()
        .join("blobs/artifacts")
        .join(job.build_id.to_string())
        .join(&folder)
        .join("artifact.bin");
    let path = format!("{folder}/artifact.bin");
    let request = |connection: &Connection| {
        let request = agent.file_request(connection, "GET", job, &path);
        request.body(bytes("")).expect("a request")
    };
    forget(&stored);
    let cold = request(connection);
    rates.cold.push(download(connection, cold).await);
    let warm = request(connection);
    rates.warm.push(download(connection, warm).await);
    fs::remove_file(stored).expect("an artifact");
}

async fn of_nginx(nginx: &Nginx, round: usize, zip: &Bytes, plain: &[u8], rates: &mut Rates) {
    let target = Target::new(&nginx.url);
    let mut connection = Connection::new(&target);
    let name = format!("round-{round}.zip");
    let request = connection.request("PUT", &format!("/{name}"));
    let request = request.body(bytes(zip.clone())).expect("a request");
    let began = Instant::now();
    let answer = connection.send(request).await.expect("an answer");
    let stored = nginx.files.join(&name);
    File::open(&stored)
        .and_then(|file| file.sync_all())
        .expect("a disk");
    rates.up.push(rate(zip.len(), began));
    assert_eq!(answer.status, 201, "{answer:?}");
    fs::remove_file(&stored).expect("a file");
    // The same file as from the server.
    fs::write(&stored, plain).expect("a file");
    forget(&stored);
    for rates in [&mut rates.cold, &mut rates.warm] {
        let request = connection.request("GET", &format!("/{name}"));
        let request = request.body(bytes("")).expect("a request");
        rates.push(download(&mut connection, request).await);
    }
    fs::remove_file(stored).expect("a file");
}

async fn download(connection: &mut Connection, request: Request<Body>) -> f64 {
    let began = Instant::now();
    let (status, length) = connection.count(request).await.expect("an answer");
    assert_eq!((status.as_u16(), length), (200, SIZE as u64));
    rate(SIZE, began)
}

/// Has the next reader of a file read it from the disk.
fn forget(path: &Path) {
    let file = File::open(path).expect("a file");
    file.sync_all().expect("a disk");
    posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED).expect("a file");
}

/// The artifact, and the zip it comes in.
fn artifact() -> (Vec<u8>, Bytes) {
    let mut plain = vec![0; SIZE];
    SystemRandom::new().fill(&mut plain).expect("random bytes");
    let mut zip = ZipWriter::new(Cursor::new(Vec::with_capacity(SIZE + SIZE / 100)));
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Deflated)
        .compression_level(Some(1));
    zip.start_file("artifact.bin", options).expect("a zip");
    zip.write_all(&plain).expect("a zip");
    let zip = zip.finish().expect("a zip").into_inner();
    (plain, Bytes::from(zip))
}

/// The form an agent sends, in pieces.
fn form(zip: &Bytes) -> Body {
    let head = format!(
        "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"zipfile\"; filename=\"artifact.zip\"\r\n\
         Content-Type: application/octet-stream\r\n\r\n"
    );
    let end = format!("\r\n--{BOUNDARY}--\r\n");
    let pieces = (0..zip.len())
        .step_by(PIECE)
        .map(|at| zip.slice(at..zip.len().min(at + PIECE)));
    let all: Vec<Bytes> = std::iter::once(Bytes::from(head))
        .chain(pieces)
        .chain([Bytes::from(end)])
        .collect();
    streamed(stream::iter(all.into_iter().map(Ok)))
}

fn rate(bytes: usize, began: Instant) -> f64 {
    bytes as f64 / 1_000_000.0 / began.elapsed().as_secs_f64()
}

fn middle(rates: &mut [f64]) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}
