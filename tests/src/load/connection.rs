//! One connection to a server, as cheap as it can be.

use std::net::SocketAddr;

use bytes::Bytes;
use futures_util::{Stream, TryStreamExt as _};
use http::{HeaderMap, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::BoxBody};
use hyper::{
    body::{Frame, Incoming},
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use url::Url;

/// The body of a request.
pub type Body = BoxBody<Bytes, std::io::Error>;

/// A body that is there.
pub fn bytes(content: impl Into<Bytes>) -> Body {
    Full::new(content.into())
        .map_err(|never| match never {})
        .boxed()
}

/// A body that comes piece by piece.
pub fn streamed(
    pieces: impl Stream<Item = std::io::Result<Bytes>> + Send + Sync + 'static,
) -> Body {
    StreamBody::new(pieces.map_ok(Frame::data)).boxed()
}

/// A server, by its base URL.
#[derive(Clone, Debug)]
pub struct Target {
    address: SocketAddr,
    host: String,
    /// The path of the base URL, without a slash at its end.
    base: String,
}

impl Target {
    /// Of an `http` URL whose host is an address.
    pub fn new(url: &str) -> Self {
        let url: Url = url.parse().expect("a URL");
        let addresses = url.socket_addrs(|| None).expect("an address");
        Self {
            address: addresses[0],
            host: addresses[0].to_string(),
            base: url.path().trim_end_matches('/').to_owned(),
        }
    }
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// A connection that is opened when it is needed, and again when the other side has closed it.
pub struct Connection {
    target: Target,
    sender: Option<SendRequest<Body>>,
}

impl Connection {
    pub fn new(target: &Target) -> Self {
        Self {
            target: target.clone(),
            sender: None,
        }
    }

    /// A request to a path below the base URL.
    pub fn request(&self, method: &str, path: &str) -> http::request::Builder {
        Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.target.base))
            .header(header::HOST, &self.target.host)
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    ///
    /// There was none.
    pub async fn send(&mut self, request: Request<Body>) -> hyper::Result<Answer> {
        let (head, body) = self.begin(request).await?.into_parts();
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            body: body.collect().await?.to_bytes(),
        })
    }

    /// Sends a request and throws the answer's body away; says how long it was.
    ///
    /// # Errors
    ///
    /// The answer did not come, or not to its end.
    pub async fn count(&mut self, request: Request<Body>) -> hyper::Result<(StatusCode, u64)> {
        let (head, mut body) = self.begin(request).await?.into_parts();
        let mut length = 0;
        while let Some(frame) = body.frame().await {
            length += frame?.data_ref().map_or(0, |data| data.len() as u64);
        }
        Ok((head.status, length))
    }

    async fn begin(&mut self, request: Request<Body>) -> hyper::Result<http::Response<Incoming>> {
        let usable = match &mut self.sender {
            Some(sender) => sender.ready().await.is_ok(),
            None => false,
        };
        if !usable {
            self.sender = Some(self.open().await?);
        }
        let sender = self.sender.as_mut().expect("it was just opened");
        sender.send_request(request).await
    }

    async fn open(&self) -> hyper::Result<SendRequest<Body>> {
        let stream = TcpStream::connect(self.target.address)
            .await
            .unwrap_or_else(|error| panic!("cannot connect to {}: {error}", self.target.address));
        stream.set_nodelay(true).expect("a socket");
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // It ends with its sender.
        tokio::spawn(connection);
        Ok(sender)
    }
}
