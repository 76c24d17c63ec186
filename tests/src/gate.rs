//! A proxy in front of a server that can hold a chosen request, so that a test can act while
//! something is exactly half done.
//!
//! An agent that registers through a gate gets no client certificate: its request for one is
//! struck out, because it would go past the gate with it, to the server's HTTPS port.

use std::{
    sync::{Arc, Mutex},
    time::Instant,
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{StatusCode, header},
    response::Response,
};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use reqwest::Client;
use tokio::{
    net::TcpListener,
    runtime::{self, Runtime},
    sync::watch,
};

use crate::patience::wait_until;

/// Bodies up to this many bytes are read whole, so that a hold can look at them.
const READ_WHOLE: u64 = 256 * 1024;

/// A proxy on a port of its own. Gone with its value.
pub struct Gate {
    /// Base URL to give to an agent.
    pub url: String,
    shared: Arc<Shared>,
    runtime: Option<Runtime>,
}

/// A request as the gate saw it come.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    /// With the query.
    pub path: String,
    /// Empty when the body was too large to read whole.
    pub body: String,
    pub at: Instant,
}

/// Where a matching request is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Where {
    /// Before the server has seen anything of it.
    Request,
    /// After about half of its body has been passed on.
    Body,
    /// After the server has done it, before the client is told.
    Answer,
}

/// One request to hold: the first that matches. Released when dropped.
pub struct Hold {
    reached: watch::Receiver<bool>,
    released: watch::Sender<bool>,
}

/// Something that goes wrong with every request that matches, until this is dropped.
pub struct Standing {
    id: Arc<()>,
    shared: Arc<Shared>,
}

#[derive(Clone, Copy)]
enum Wrong {
    Spoil,
    Refuse(StatusCode),
}

struct Shared {
    upstream: String,
    http: Client,
    rules: Mutex<Vec<Rule>>,
    spoils: Mutex<Vec<Matches>>,
    standing: Mutex<Vec<(Arc<()>, Wrong, Matches)>>,
    seen: Mutex<Vec<Seen>>,
}

type Matches = Box<dyn Fn(&Seen) -> bool + Send>;

struct Rule {
    matches: Matches,
    place: Where,
    reached: watch::Sender<bool>,
    released: watch::Receiver<bool>,
}

// === impl Gate ===

impl Gate {
    /// A gate in front of the server with this base URL.
    pub fn before(server_url: &str) -> Self {
        let (origin, _) = server_url
            .rsplit_once("/go")
            .expect("a URL that ends in /go");
        let shared = Arc::new(Shared {
            upstream: origin.to_owned(),
            http: Client::builder()
                .no_gzip()
                .pool_max_idle_per_host(0)
                .build()
                .expect("an HTTP client"),
            rules: Mutex::default(),
            spoils: Mutex::default(),
            standing: Mutex::default(),
            seen: Mutex::default(),
        });
        let runtime = runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let listener = runtime
            .block_on(TcpListener::bind("127.0.0.1:0"))
            .expect("a port");
        let address = listener.local_addr().expect("its address");
        let router = Router::new().fallback(pass).with_state(shared.clone());
        runtime.spawn(async move { axum::serve(listener, router).await });
        Self {
            url: format!("http://{address}/go"),
            shared,
            runtime: Some(runtime),
        }
    }

    /// Holds the first request from now on that matches.
    pub fn hold(&self, place: Where, matches: impl Fn(&Seen) -> bool + Send + 'static) -> Hold {
        let (reached, reached_by) = watch::channel(false);
        let (released, released_by) = watch::channel(false);
        self.shared.rules.lock().expect("rules").push(Rule {
            matches: Box::new(matches),
            place,
            reached,
            released: released_by,
        });
        Hold {
            reached: reached_by,
            released,
        }
    }

    /// Changes one byte in the middle of the answer to the first request from now on that matches.
    pub fn spoil(&self, matches: impl Fn(&Seen) -> bool + Send + 'static) {
        let mut spoils = self.shared.spoils.lock().expect("rules");
        spoils.push(Box::new(matches));
    }

    /// The same for every request that matches.
    pub fn spoil_all(&self, matches: impl Fn(&Seen) -> bool + Send + 'static) -> Standing {
        self.stand(Wrong::Spoil, matches)
    }

    /// Answers every request that matches with this status, as long as the value lives.
    pub fn refuse(
        &self,
        status: u16,
        matches: impl Fn(&Seen) -> bool + Send + 'static,
    ) -> Standing {
        let status = StatusCode::from_u16(status).expect("a status");
        self.stand(Wrong::Refuse(status), matches)
    }

    fn stand(&self, wrong: Wrong, matches: impl Fn(&Seen) -> bool + Send + 'static) -> Standing {
        let mut standing = self.shared.standing.lock().expect("rules");
        let id = Arc::new(());
        standing.push((id.clone(), wrong, Box::new(matches)));
        Standing {
            id,
            shared: self.shared.clone(),
        }
    }

    /// Every request that has come so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().expect("requests").clone()
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

// === impl Hold ===

impl Hold {
    /// Waits until a request is held.
    pub fn wait_until_reached(&self) {
        wait_until("the request to hold has come", || *self.reached.borrow());
    }

    /// Lets it go on.
    pub fn release(self) {
        drop(self);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.released.send_replace(true);
    }
}

// === impl Standing ===

impl Drop for Standing {
    fn drop(&mut self) {
        if let Ok(mut standing) = self.shared.standing.lock() {
            standing.retain(|(id, ..)| !Arc::ptr_eq(id, &self.id));
        }
    }
}

// === impl Rule ===

impl Rule {
    async fn wait(&mut self) {
        self.reached.send_replace(true);
        // An error says that the hold is gone, which releases as well.
        let _ = self.released.wait_for(|released| *released).await;
    }
}

async fn pass(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let path = parts
        .uri
        .path_and_query()
        .map_or_else(String::new, ToString::to_string);
    let length = parts
        .headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let has_no_body = parts.headers.get(header::TRANSFER_ENCODING).is_none() && length.is_none();
    let (whole, body) = if has_no_body || length.is_some_and(|length| length <= READ_WHOLE) {
        let Ok(bytes) = to_bytes(body, usize::MAX).await else {
            return refuse();
        };
        (Some(bytes), None)
    } else {
        (None, Some(body))
    };
    let seen = Seen {
        method: parts.method.to_string(),
        body: whole
            .as_ref()
            .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
            .unwrap_or_default(),
        at: Instant::now(),
        path,
    };
    shared.seen.lock().expect("requests").push(seen.clone());

    let wrong = shared.wrong(&seen);
    if let Some(Wrong::Refuse(status)) = wrong {
        return answer(status);
    }
    let mut rule = shared.take_rule(&seen);
    if let Some(rule) = rule.as_mut().filter(|rule| rule.place == Where::Request) {
        rule.wait().await;
    }

    let mut onward = shared.http.request(
        parts.method.clone(),
        format!("{}{}", shared.upstream, seen.path),
    );
    for (name, value) in &parts.headers {
        if *name != header::HOST && *name != header::TRANSFER_ENCODING {
            onward = onward.header(name, value);
        }
    }
    let in_body = match rule.take() {
        Some(rule) if rule.place == Where::Body => Some(rule),
        other => {
            rule = other;
            None
        }
    };
    let onward = match (whole, body) {
        (Some(bytes), _) if in_body.is_none() && seen.path.ends_with("/admin/agent") => {
            onward.body(without_certificate_request(&bytes))
        }
        (Some(bytes), _) if in_body.is_none() => onward.body(bytes),
        (Some(bytes), _) => onward.body(stream_with_hold(Body::from(bytes), in_body)),
        (None, Some(body)) => onward.body(stream_with_hold(body, in_body)),
        (None, None) => onward,
    };
    let Ok(answer) = onward.send().await else {
        return refuse();
    };
    if let Some(rule) = rule.as_mut().filter(|rule| rule.place == Where::Answer) {
        rule.wait().await;
    }
    let mut back = Response::builder().status(answer.status().as_u16());
    for (name, value) in answer.headers() {
        if *name != header::TRANSFER_ENCODING && *name != header::CONNECTION {
            back = back.header(name, value);
        }
    }
    let body = if shared.take_spoil(&seen) || wrong.is_some() {
        let Ok(bytes) = answer.bytes().await else {
            return refuse();
        };
        let mut bytes = bytes.to_vec();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x55;
        Body::from(bytes)
    } else {
        Body::from_stream(answer.bytes_stream())
    };
    back.body(body).unwrap_or_else(|_| refuse())
}

impl Shared {
    fn take_rule(&self, seen: &Seen) -> Option<Rule> {
        let mut rules = self.rules.lock().expect("rules");
        let index = rules.iter().position(|rule| (rule.matches)(seen))?;
        Some(rules.remove(index))
    }

    fn wrong(&self, seen: &Seen) -> Option<Wrong> {
        let standing = self.standing.lock().expect("rules");
        let found = standing.iter().find(|(.., matches)| matches(seen));
        found.map(|(_, wrong, _)| *wrong)
    }

    fn take_spoil(&self, seen: &Seen) -> bool {
        let mut spoils = self.spoils.lock().expect("rules");
        let index = spoils.iter().position(|matches| matches(seen));
        index.map(|index| spoils.remove(index)).is_some()
    }
}

/// The server cannot be reached: what a proxy answers then.
fn refuse() -> Response {
    answer(StatusCode::BAD_GATEWAY)
}

fn answer(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// Renames the form's field to one of equal length that no server knows.
fn without_certificate_request(form: &Bytes) -> Bytes {
    let text = String::from_utf8_lossy(form);
    Bytes::from(
        text.replace("certificateRequest=", "certificateUnknown=")
            .into_bytes(),
    )
}

/// Passes a body on, with a pause after its first half or 64 KiB.
fn stream_with_hold(body: Body, rule: Option<Rule>) -> reqwest::Body {
    let chunks = body.into_data_stream();
    let Some(rule) = rule else {
        return reqwest::Body::wrap_stream(chunks);
    };
    let held = stream::unfold(
        (chunks, Some(rule), None::<Bytes>),
        |(mut chunks, mut rule, rest)| async move {
            if let Some(rest) = rest {
                if let Some(mut rule) = rule.take() {
                    rule.wait().await;
                }
                return Some((Ok::<_, axum::Error>(rest), (chunks, None, None)));
            }
            match chunks.next().await? {
                Ok(mut chunk) if rule.is_some() => {
                    let first = chunk.split_to((chunk.len() / 2).min(64 * 1024));
                    Some((Ok(first), (chunks, rule, Some(chunk))))
                }
                other => Some((other, (chunks, rule, None))),
            }
        },
    );
    reqwest::Body::wrap_stream(held)
}
