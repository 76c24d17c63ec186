use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use axum::{Router, body::to_bytes, extract::State, http::Request, response::IntoResponse};
use journeyman_protocol::{
    agent::AgentRuntimeInfo,
    extension::{JOURNEYMAN_CONSOLE_LENGTH, JOURNEYMAN_CONSOLE_OFFSET},
    job::JobIdentifier,
};
use pretty_assertions::assert_eq;
use tokio::{net::TcpListener, task::AbortHandle};

use super::*;
use crate::{
    fake_server::registered_session,
    job::{
        channel::ServerConnection,
        server::CookieSource,
        spool::{Disk, SpoolWriter, Whose},
    },
};

/// A server that has nothing but a console.
#[derive(Clone, Default)]
struct ConsoleServer {
    told: Arc<Mutex<Told>>,
}

#[derive(Default)]
struct Told {
    console: Vec<u8>,
    uploads: usize,
    /// The answer to every upload, if it is refused.
    refuse: Option<u16>,
    /// Larger uploads are refused.
    largest: Option<usize>,
    /// As many uploads are stored, and their answers get lost.
    lose_answers: usize,
    sizes: VecDeque<usize>,
}

impl ConsoleServer {
    async fn start(&self) -> (String, AbortHandle) {
        self.start_on(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    fn start_on(&self, listener: TcpListener) -> (String, AbortHandle) {
        let address = listener.local_addr().unwrap().to_string();
        let router = Router::new().fallback(take).with_state(self.clone());
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        (address, task.abort_handle())
    }

    fn told(&self) -> std::sync::MutexGuard<'_, Told> {
        self.told.lock().unwrap()
    }

    fn console(&self) -> String {
        String::from_utf8(self.told().console.clone()).unwrap()
    }

    /// The console. A server that only ever appends may have twice what it did not confirm.
    fn lines(&self, is_journeyman: bool) -> String {
        let console = self.console();
        let mut lines: Vec<&str> = console.lines().collect();
        if !is_journeyman {
            lines.dedup();
        }
        lines.join("\n") + "\n"
    }
}

async fn take(
    State(server): State<ConsoleServer>,
    request: Request<axum::body::Body>,
) -> axum::response::Response {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    if !parts.uri.path().ends_with("/console.log") {
        // The agent is known.
        return StatusCode::OK.into_response();
    }
    let mut told = server.told();
    told.uploads += 1;
    let status = |status: u16| StatusCode::from_u16(status).unwrap().into_response();
    if let Some(refusal) = told.refuse {
        return status(refusal);
    }
    if told.largest.is_some_and(|largest| body.len() > largest) {
        return status(413);
    }
    told.sizes.push_back(body.len());
    let length = told.console.len();
    let new = match parts.headers.get(JOURNEYMAN_CONSOLE_OFFSET) {
        None => &body[..],
        Some(offset) => {
            let offset: usize = offset.to_str().unwrap().parse().unwrap();
            assert!(offset <= length, "there is a gap");
            &body[(length - offset).min(body.len())..]
        }
    };
    told.console.extend_from_slice(new);
    if told.lose_answers > 0 {
        told.lose_answers -= 1;
        return status(504);
    }
    let length = told.console.len();
    ([(JOURNEYMAN_CONSOLE_LENGTH, length)], "").into_response()
}

/// A job's console, on its way to a server.
struct Setup {
    folder: tempfile::TempDir,
    server: ConsoleServer,
    address: String,
    listening: AbortHandle,
    job: JobServer,
    spool: SpoolWriter,
    lengths: watch::Sender<u64>,
    written: String,
    lines: usize,
}

impl Setup {
    async fn new(is_journeyman: bool) -> Self {
        let server = ConsoleServer::default();
        let (address, listening) = server.start().await;
        let url = format!("http://{address}/go");
        let (folder, session) = registered_session(&url).await;
        let connection = ServerConnection {
            is_journeyman,
            ..session.server_connection()
        };
        let job = JobServer::new(
            session.connection().client().clone(),
            connection,
            AgentRuntimeInfo::default(),
            JobIdentifier::default(),
            folder.path(),
            CookieSource::Agent(session.cookies()),
        );
        let spool = SpoolWriter::open(&folder.path().join("console")).unwrap();
        Self {
            folder,
            server,
            address,
            listening,
            job,
            spool,
            lengths: watch::channel(0).0,
            written: String::new(),
            lines: 0,
        }
    }

    fn start(&self) -> Streaming {
        let path = self.folder.path().join("console");
        let sender = ConsoleSender::open(&path, 0, self.job.clone(), "UTF-8").unwrap();
        let interval = Duration::from_millis(250);
        Streaming::start(sender, self.lengths.subscribe(), interval, |_| {})
    }

    fn write(&mut self, text: &str) {
        let disk = self.spool.append(text.as_bytes(), Whose::Program);
        assert!(matches!(disk, Disk::Good));
        self.written.push_str(text);
        self.lengths.send_replace(self.spool.length());
    }

    fn write_line(&mut self) {
        self.lines += 1;
        self.write(&format!("line {}\n", self.lines));
    }
}

/// Lets the injected time pass, in steps and with time for sockets in between, until something is
/// true.
async fn pass_until(mut done: impl FnMut() -> bool) {
    while !done() {
        tokio::time::advance(Duration::from_secs(1)).await;
        let moment = || std::thread::sleep(Duration::from_millis(2));
        tokio::task::spawn_blocking(moment).await.unwrap();
    }
}

/// Lets the injected time pass until something has come to its end.
async fn pass_during<T>(something: impl Future<Output = T>) -> T {
    tokio::select! {
        end = something => end,
        () = pass_until(|| false) => unreachable!("it never becomes true"),
    }
}

/// Keeps the paused clock from running ahead while sockets are waited for.
struct HeldClock {
    _release: std::sync::mpsc::Sender<()>,
}

impl Drop for HeldClock {
    fn drop(&mut self) {
        tokio::time::resume();
    }
}

fn hold_clock() -> HeldClock {
    tokio::time::pause();
    let (release, held) = std::sync::mpsc::channel::<()>();
    tokio::task::spawn_blocking(move || {
        let _ = held.recv();
    });
    HeldClock { _release: release }
}

const TEN_MINUTES: Duration = Duration::from_secs(600);

#[tokio::test]
async fn ten_minutes_of_refusals_lose_nothing() {
    for (is_journeyman, refusal) in [(true, 500), (false, 500), (false, 401), (true, 413)] {
        let mut setup = Setup::new(is_journeyman).await;
        let _clock = hold_clock();
        setup.write_line();
        let streaming = setup.start();
        let server = setup.server.clone();
        pass_until(|| server.console() == "line 1\n").await;
        server.told().refuse = Some(refusal);
        let begun = Instant::now();
        while begun.elapsed() < TEN_MINUTES {
            setup.write_line();
            let next = Instant::now() + Duration::from_secs(10);
            pass_until(|| Instant::now() >= next).await;
        }
        assert!(server.told().uploads > 50, "it was tried all the time");
        server.told().refuse = None;
        setup.write_line();
        let flushed = streaming.flush_patiently(LAST_PATIENCE);
        pass_during(flushed).await.unwrap();
        assert_eq!(server.lines(is_journeyman), setup.written, "{refusal}");
    }
}

#[tokio::test]
async fn ten_minutes_without_a_server_lose_nothing() {
    for is_journeyman in [true, false] {
        let mut setup = Setup::new(is_journeyman).await;
        let _clock = hold_clock();
        setup.write_line();
        let streaming = setup.start();
        let server = setup.server.clone();
        pass_until(|| server.console() == "line 1\n").await;
        // The answer to the last upload before gets lost as well.
        server.told().lose_answers = 1;
        setup.write_line();
        pass_until(|| server.told().lose_answers == 0).await;
        setup.listening.abort();
        pass_until(|| setup.listening.is_finished()).await;
        let begun = Instant::now();
        while begun.elapsed() < TEN_MINUTES {
            setup.write_line();
            let next = Instant::now() + Duration::from_secs(10);
            pass_until(|| Instant::now() >= next).await;
        }
        let listener = TcpListener::bind(&setup.address).await.unwrap();
        server.start_on(listener);
        setup.write_line();
        pass_during(streaming.flush(Duration::ZERO)).await.unwrap();
        assert_eq!(server.lines(is_journeyman), setup.written);
    }
}

#[tokio::test]
async fn what_is_too_large_for_a_server_is_sent_in_smaller_parts() {
    for is_journeyman in [true, false] {
        let mut setup = Setup::new(is_journeyman).await;
        setup.server.told().largest = Some(10_000);
        for _ in 0..5000 {
            setup.write_line();
        }
        // One line that is too large by itself.
        setup.write(&format!("{}\n", "é".repeat(20_000)));
        setup.write_line();
        let streaming = setup.start();
        streaming.flush(Duration::ZERO).await.unwrap();
        assert!(setup.server.console() == setup.written);
        let told = setup.server.told();
        assert!(told.sizes.iter().all(|size| *size <= 10_000));
        assert!(told.uploads < 60, "{} uploads", told.uploads);
    }
}

#[tokio::test]
async fn a_server_that_never_takes_the_console_is_given_up_at_last() {
    let mut setup = Setup::new(false).await;
    let _clock = hold_clock();
    setup.server.told().refuse = Some(500);
    setup.write_line();
    let streaming = setup.start();
    let server = setup.server.clone();
    pass_until(|| server.told().uploads > 8).await;
    // A report in the middle of a job waits only so long, from the first refusal on.
    assert_eq!(
        streaming.flush(Duration::from_secs(10)).await,
        Err(StillRefused)
    );
    // The last one waits longer, from now on.
    let begun = Instant::now();
    let flushed = pass_during(streaming.flush_patiently(LAST_PATIENCE)).await;
    assert_eq!(flushed, Err(StillRefused));
    assert!(begun.elapsed() >= LAST_PATIENCE);
}
