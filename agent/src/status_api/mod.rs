//! The status API: whether this agent is connected to its server, for monitoring on this machine.
//!
//! GoCD: `GET` or `HEAD` of `/health/v1/isConnectedToServer` (or `latest`) on `localhost:8152` is
//! 200 `OK!` while the last successful ping is younger than two intervals, else 503 `Bad!`; 404 for
//! any other path, 405 for any other method.

mod answer;

use std::{collections::VecDeque, net::Ipv4Addr, time::Duration};

use tokio::{
    io::{self, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use self::answer::answer;
use crate::{remoting::Session, settings::Settings};

/// Longest head of a request, in bytes.
const LONGEST_HEAD: usize = 8 * 1024;
/// Most of a body that is read, and thrown away, so that its sender reads the answer. Bytes.
const LONGEST_BODY: u64 = 64 * 1024;
/// From the first byte to the last of question and answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Connections at a time; one more ends the oldest.
const MOST: usize = 16;
/// After a connection could not be taken (too many open files, for example).
const PAUSE: Duration = Duration::from_millis(100);

/// Where the status API listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusApi {
    /// `go.agent.status.api.bind.host`
    pub host: String,
    /// `go.agent.status.api.bind.port`; 0 for any free one.
    pub port: u16,
}

/// Serves the status API for ever. Returns at once if that is switched off, or (GoCD: with a
/// warning) cannot be done.
pub async fn serve(session: &Session, settings: &Settings) {
    let Some(StatusApi { host, port }) = &settings.status_api else {
        tracing::info!("The status API is switched off");
        return;
    };
    let listener = match host.as_str() {
        // Needs no resolver, and no thread for one.
        "localhost" => TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).await,
        host => TcpListener::bind((host, *port)).await,
    };
    let bound = listener.and_then(|listener| Ok((listener.local_addr()?, listener)));
    let (address, listener) = match bound {
        Ok(bound) => bound,
        Err(error) => {
            tracing::warn!(
                %error,
                host,
                port,
                "No status API: cannot listen there. Another agent on this machine may; give each \
                 its own -Dgo.agent.status.api.bind.port in AGENT_STARTUP_ARGS"
            );
            return;
        }
    };
    tracing::info!(%address, "Status API");
    let health = session.health();
    let interval = settings.ping_interval;
    serve_on(listener, move || {
        health.is_connected(Instant::now(), interval)
    })
    .await;
}

async fn serve_on(listener: TcpListener, is_connected: impl Fn() -> bool + Clone + Send + 'static) {
    let mut open: VecDeque<JoinHandle<()>> = VecDeque::with_capacity(MOST);
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            sleep(PAUSE).await;
            continue;
        };
        open.retain(|connection| !connection.is_finished());
        if open.len() == MOST
            && let Some(oldest) = open.pop_front()
        {
            oldest.abort();
        }
        let is_connected = is_connected.clone();
        open.push_back(tokio::spawn(async move {
            // Whoever is too slow, or gone, is not waited for.
            let _ = timeout(PATIENCE, converse(stream, is_connected)).await;
        }));
    }
}

/// One question, one answer.
async fn converse(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    is_connected: impl Fn() -> bool,
) -> io::Result<()> {
    let mut head = Vec::new();
    let complete = loop {
        if head.windows(4).any(|four| four == b"\r\n\r\n") {
            break true;
        }
        if head.len() >= LONGEST_HEAD {
            break false;
        }
        let mut some = [0; 1024];
        match stream.read(&mut some).await? {
            0 => return Ok(()),
            read => head.extend_from_slice(&some[..read]),
        }
    };
    let reply = answer(
        complete.then_some(&head),
        is_connected(),
        jiff::Timestamp::now(),
    );
    stream.write_all(&reply).await?;
    stream.shutdown().await?;
    // Closing with something unread would take the answer back.
    io::copy(&mut stream.take(LONGEST_BODY), &mut io::sink()).await?;
    Ok(())
}

#[cfg(test)]
mod tests;
