//! Accepting and serving connections.

use std::{io, net::SocketAddr, pin::pin, time::Duration};

use axum::Router;
use http::Request;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use openssl::ssl::{Ssl, SslAcceptor};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_openssl::SslStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt as _;

use super::Peer;
use crate::trust;

/// How long a client may take for its TLS handshake, and for the headers of a request.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long requests under way may take to end when the server stops.
pub const STOP_GRACE: Duration = Duration::from_secs(10);
/// The pause after a failed accept: out of file descriptors is a state that passes.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A socket, and TLS if it is for HTTPS.
pub struct Listener {
    pub socket: TcpListener,
    pub tls: Option<SslAcceptor>,
}

/// Accepts connections until `stopping`, then lets those there are end their requests. Connections
/// are tasks of `connections`; whoever waits for that should stop waiting after [`STOP_GRACE`].
pub async fn serve(
    listener: Listener,
    router: Router,
    connections: TaskTracker,
    stopping: CancellationToken,
) {
    loop {
        let accepted = tokio::select! {
            () = stopping.cancelled() => return,
            accepted = listener.socket.accept() => accepted,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection; going on");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let router = router.clone();
        let tls = listener.tls.clone();
        let stopping = stopping.clone();
        connections.spawn(async move {
            let served = match tls {
                None => {
                    let _ = stream.set_nodelay(true);
                    let peer = Peer {
                        address,
                        secure: false,
                        certificate: None,
                    };
                    serve_connection(stream, peer, router, stopping).await
                }
                Some(tls) => serve_tls(stream, address, &tls, router, stopping).await,
            };
            if let Err(error) = served {
                tracing::debug!(peer = %address, %error, "a connection ended with an error");
            }
        });
    }
}

async fn serve_tls(
    stream: TcpStream,
    address: SocketAddr,
    tls: &SslAcceptor,
    router: Router,
    stopping: CancellationToken,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let _ = stream.set_nodelay(true);
    let mut stream = SslStream::new(Ssl::new(tls.context())?, stream)?;
    let handshake = async {
        timeout(HANDSHAKE_TIMEOUT, std::pin::Pin::new(&mut stream).accept())
            .await
            .map_err(|_| {
                io::Error::new(io::ErrorKind::TimedOut, "the TLS handshake took too long")
            })?
            .map_err(io::Error::other)
    };
    let handshake = tokio::select! {
        () = stopping.cancelled() => return Ok(()),
        handshake = handshake => handshake,
    };
    if let Err(error) = handshake {
        // Worth a line: a foreign or expired client certificate ends here.
        tracing::warn!(peer = %address, %error, "a TLS handshake failed");
        return Ok(());
    }
    let peer = Peer {
        address,
        secure: true,
        certificate: trust::common_name(stream.ssl()),
    };
    serve_connection(stream, peer, router, stopping).await
}

async fn serve_connection<S>(
    stream: S,
    peer: Peer,
    router: Router,
    stopping: CancellationToken,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HANDSHAKE_TIMEOUT);
    builder.http2().timer(TokioTimer::new());
    let service = TowerToHyperService::new(router.map_request(naming(peer)));
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        served = connection.as_mut() => return served,
        () = stopping.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    connection.await
}

/// Puts the peer into every request of a connection.
fn naming<B>(peer: Peer) -> impl Fn(Request<B>) -> Request<B> + Clone {
    move |mut request| {
        request.extensions_mut().insert(peer.clone());
        request
    }
}
