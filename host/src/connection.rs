//! The HTTP client that launcher and agent talk to the server with.

use std::{error::Error as _, fs, io, path::PathBuf, time::Duration};

use jiff::Timestamp;
use openssl::{error::ErrorStack, pkey::PKey, x509::X509};
use reqwest::{Certificate, Client, ClientBuilder, Identity, NoProxy, Proxy, redirect};
use thiserror::Error;
use tracing::warn;
use url::Url;

use crate::{
    arguments::{ConnectionSettings, IdentityFiles, VerificationMode, is_loopback},
    certificate::{self, CertificateError, SecureConnection},
    durable,
    properties::Properties,
    system_roots,
    trust::{self, Fingerprint, PinError, RootFileError},
    workdir::WorkDir,
};

/// Longest wait for a connection. GoCD's.
const CONNECT: Duration = Duration::from_secs(5);
/// Idle connections are closed before the server does it (GoCD: after 30 s).
const IDLE: Duration = Duration::from_secs(20);
/// Idle connections that are kept: enough for the loops of an agent.
const KEPT: usize = 3;
/// Dead peers are noticed by the kernel: there is no read timeout, as calls may be held long.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// A client for one base URL, with the trust that belongs to it. Cheap to clone.
///
/// Cookies are kept, gzip is understood, redirects are not followed (a redirected POST would become
/// a GET whose answer looks like success), and there is no read timeout unless a request sets one.
#[derive(Clone, Debug)]
pub struct Connection {
    client: Client,
    base: Url,
    configured: Url,
    renew_at: Option<Timestamp>,
}

/// No client could be made.
#[derive(Debug, Error)]
pub enum ConnectionError {
    /// The pinned certificate could not be got. Worth a retry when the server was out of reach.
    #[error(transparent)]
    Pin(#[from] PinError),
    /// The file of `--root-cert-file`.
    #[error("--root-cert-file: {0}")]
    Roots(#[from] RootFileError),
    /// A file of the client certificate cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    IdentityFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Certificate, key and pass phrase do not fit.
    #[error(
        "the client certificate {} with the key {} cannot be used: {reason}",
        files.certificate.display(),
        files.key.display()
    )]
    Identity {
        /// The files.
        files: Box<IdentityFiles>,
        /// What is wrong with them.
        reason: String,
    },
    /// Key or certificate of the secure connection.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// Anything else.
    #[error("cannot set up the HTTP client: {0}")]
    Client(#[from] reqwest::Error),
    /// OpenSSL refused a certificate.
    #[error("cannot use a certificate: {0}")]
    OpenSsl(#[from] ErrorStack),
}

impl ConnectionError {
    /// Whether the cause is that the server was out of reach, so that a retry may succeed.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Pin(PinError::Unreachable { .. }))
    }
}

impl Connection {
    /// The connection to use: mutual TLS if a certificate was got from the configured server,
    /// else that of [`Connection::configured`].
    ///
    /// # Errors
    /// See [`ConnectionError`].
    pub async fn open(
        workdir: &WorkDir,
        settings: &ConnectionSettings,
    ) -> Result<Self, ConnectionError> {
        if let Some(kept) = certificate::load(workdir, settings.base_url(), Timestamp::now())? {
            match Self::secure(&kept, settings) {
                Ok(connection) => return Ok(connection),
                Err(error) => {
                    warn!(%error, "the secure connection cannot be used; going on with the configured URL");
                }
            }
        }
        Self::configured(workdir, settings).await
    }

    /// A connection to the URL of the arguments, whatever certificate the agent has.
    ///
    /// # Errors
    /// See [`ConnectionError`].
    pub async fn configured(
        workdir: &WorkDir,
        settings: &ConnectionSettings,
    ) -> Result<Self, ConnectionError> {
        let mut builder = builder(&settings.server_url);
        if settings.server_url.scheme() == "https" {
            builder = verification(builder, settings.verification);
            if let Some(roots) = roots(workdir, settings).await? {
                builder = builder.tls_certs_only(roots);
            }
            if let Some(files) = &settings.identity {
                builder = builder.identity(identity(files)?);
            }
        }
        // They are read once per process, so also those that another connection needs count.
        let client = if needs_system_roots(settings) {
            builder.build()?
        } else {
            system_roots::build_without(builder)?
        };
        Ok(Self {
            client,
            base: settings.server_url.clone(),
            configured: settings.server_url.clone(),
            renew_at: None,
        })
    }

    /// The base URL without a slash at its end.
    pub fn base_url(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// The base URL that the operator gave.
    pub fn configured_url(&self) -> &str {
        self.configured.as_str().trim_end_matches('/')
    }

    /// The URL of a path such as `/remoting/api/agent/ping`.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base_url())
    }

    /// The client itself.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Whether this is mutual TLS with a certificate of the server's own CA.
    pub fn is_secure(&self) -> bool {
        self.renew_at.is_some()
    }

    /// When the agent's certificate should be renewed; none without one.
    pub fn renew_at(&self) -> Option<Timestamp> {
        self.renew_at
    }

    /// Says in one line why a request failed. For a certificate that is not trusted it looks at
    /// the server's, and names its fingerprint and what to do.
    pub async fn explain(&self, error: &reqwest::Error) -> String {
        let mut text = format!("cannot reach {}: {}", self.base_url(), innermost(error));
        if is_distrust(error) && !self.is_secure() {
            let server = self.base.clone();
            let chain = tokio::task::spawn_blocking(move || trust::presented_chain(&server)).await;
            if let Ok(Ok(chain)) = chain {
                text = distrust(self.base_url(), &innermost(error), &chain);
            }
        }
        text
    }

    fn secure(
        kept: &SecureConnection,
        settings: &ConnectionSettings,
    ) -> Result<Self, ConnectionError> {
        let mut builder = builder(&kept.secure_url)
            .tls_certs_only(Certificate::from_pem_bundle(kept.trust_store.as_bytes())?)
            .identity(Identity::from_pkcs8_pem(
                kept.certificate.as_bytes(),
                kept.key.expose().as_bytes(),
            )?);
        // The chain is always checked: the trust store came with the certificate.
        if settings.verification != VerificationMode::Full {
            builder = builder.tls_danger_accept_invalid_hostnames(true);
        }
        let client = if needs_system_roots(settings) {
            builder.build()?
        } else {
            system_roots::build_without(builder)?
        };
        Ok(Self {
            client,
            base: kept.secure_url.clone(),
            configured: settings.server_url.clone(),
            renew_at: Some(kept.renew_at()),
        })
    }
}

/// The proxy that a JVM's properties name for URLs of this scheme, if they do; otherwise those of
/// the environment count. GoCD: the properties are those of the agent's JVM.
fn proxy_of(scheme: &str, properties: &Properties) -> Option<Proxy> {
    let host = properties.get(&format!("{scheme}.proxyHost"))?;
    let port = properties
        .parse(&format!("{scheme}.proxyPort"))
        .unwrap_or(if scheme == "https" { 443 } else { 80 });
    let proxy = match Proxy::all(format!("http://{host}:{port}")) {
        Ok(proxy) => proxy,
        Err(error) => {
            warn!(host, port, %error, "the proxy of the properties cannot be used");
            return None;
        }
    };
    // Java: one property for both schemes, `*` at either end of a pattern.
    let hosts = properties.get("http.nonProxyHosts").unwrap_or_default();
    let hosts: Vec<String> = hosts.split('|').map(|host| host.replace('*', "")).collect();
    Some(proxy.no_proxy(NoProxy::from_string(&hosts.join(","))))
}

fn builder(server: &Url) -> ClientBuilder {
    let mut builder = Client::builder()
        .user_agent(concat!("journeyman/", env!("CARGO_PKG_VERSION")))
        .cookie_store(true)
        .gzip(true)
        .http1_only()
        .redirect(redirect::Policy::none())
        .connect_timeout(CONNECT)
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(KEPT)
        .tcp_keepalive(KEEP_ALIVE)
        .tcp_nodelay(true);
    // A proxy cannot know what this machine's loopback is.
    if server.host().is_some_and(|host| is_loopback(&host)) {
        builder = builder.no_proxy();
    } else if let Some(proxy) = proxy_of(server.scheme(), &Properties::of_launcher()) {
        builder = builder.proxy(proxy);
    }
    if server.scheme() == "http" {
        // The system's roots are of no use here and cost memory and time to read.
        builder = builder.tls_certs_only([]);
    }
    builder
}

/// Whether the configured URL is trusted by the system's root certificates.
fn needs_system_roots(settings: &ConnectionSettings) -> bool {
    settings.server_url.scheme() == "https"
        && settings.verification != VerificationMode::None
        && settings.root_cert_file.is_none()
        && settings.fingerprint.is_none()
}

fn verification(builder: ClientBuilder, mode: VerificationMode) -> ClientBuilder {
    match mode {
        VerificationMode::Full => builder,
        VerificationMode::NoVerifyHost => builder.tls_danger_accept_invalid_hostnames(true),
        VerificationMode::None => builder
            .tls_danger_accept_invalid_hostnames(true)
            .tls_danger_accept_invalid_certs(true),
    }
}

/// The only roots to trust; none means the system's.
async fn roots(
    workdir: &WorkDir,
    settings: &ConnectionSettings,
) -> Result<Option<Vec<Certificate>>, ConnectionError> {
    let certificates = if let Some(path) = &settings.root_cert_file {
        trust::certificates_in(path)?
    } else if let Some(fingerprint) = settings.fingerprint {
        vec![pinned(workdir, &settings.server_url, fingerprint).await?]
    } else {
        return Ok(None);
    };
    let mut roots = Vec::with_capacity(certificates.len());
    for certificate in certificates {
        roots.push(Certificate::from_der(&certificate.to_der()?)?);
    }
    Ok(Some(roots))
}

/// The pinned certificate: the one that was seen the last time, if it still has the fingerprint,
/// else from the server.
async fn pinned(
    workdir: &WorkDir,
    server: &Url,
    fingerprint: Fingerprint,
) -> Result<X509, ConnectionError> {
    let path = workdir.pinned_certificate();
    let kept = fs::read(&path)
        .ok()
        .and_then(|pem| X509::from_pem(&pem).ok())
        .filter(|kept| Fingerprint::of(kept).is_ok_and(|own| own == fingerprint));
    if let Some(kept) = kept {
        return Ok(kept);
    }
    let server = server.clone();
    let fetched = tokio::task::spawn_blocking(move || trust::fetch_pinned(&server, fingerprint))
        .await
        .map_err(|error| PinError::Unreachable {
            server: "the server".to_owned(),
            reason: error.to_string(),
        })??;
    // Not being able to keep it costs one more look at the next start.
    if let Err(error) = durable::write_secret(&path, &fetched.to_pem()?) {
        warn!(%error, "cannot keep the pinned certificate");
    }
    Ok(fetched)
}

/// PEM in all forms that GoCD takes (PKCS#1, SEC1, PKCS#8, encrypted ones) turned into what the
/// client takes. GoCD: the pass phrase is the file's whole content, trimmed.
fn identity(files: &IdentityFiles) -> Result<Identity, ConnectionError> {
    let read = |path: &PathBuf| {
        fs::read(path).map_err(|source| ConnectionError::IdentityFile {
            path: path.clone(),
            source,
        })
    };
    let unusable = |reason: String| ConnectionError::Identity {
        files: Box::new(files.clone()),
        reason,
    };
    let certificate = read(&files.certificate)?;
    let key = read(&files.key)?;
    let passphrase = files.passphrase.as_ref().map(read).transpose()?;
    // Without a pass phrase OpenSSL would ask for one on the terminal; an empty one fails instead.
    let passphrase = passphrase.unwrap_or_default();
    let key = PKey::private_key_from_pem_passphrase(&key, passphrase.trim_ascii())
        .map_err(|_| unusable("the key is no PEM, or its pass phrase is wrong".to_owned()))?;
    let key = key.private_key_to_pem_pkcs8()?;
    Identity::from_pkcs8_pem(&certificate, &key).map_err(|error| unusable(innermost(&error)))
}

/// The last cause: the others only say that something failed.
fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

fn is_distrust(error: &reqwest::Error) -> bool {
    let mut cause = error.source();
    while let Some(deeper) = cause {
        if deeper.to_string().contains("certificate verify failed") {
            return true;
        }
        cause = deeper.source();
    }
    false
}

fn distrust(base: &str, reason: &str, chain: &[X509]) -> String {
    let seen: Vec<String> = chain
        .iter()
        .filter_map(|certificate| {
            let fingerprint = Fingerprint::of(certificate).ok()?;
            Some(format!("{fingerprint} ({})", subject(certificate)))
        })
        .collect();
    format!(
        "the certificate of {base} is not trusted ({reason}). SHA-256 fingerprints it shows, its own \
         first: {}. Compare the last with the one the server prints when it starts; if they are \
         equal, give --server-fingerprint with it, or the CA's certificate with --root-cert-file",
        seen.join(", ")
    )
}

fn subject(certificate: &X509) -> String {
    let parts: Vec<String> = certificate
        .subject_name()
        .entries()
        .filter_map(|entry| Some(entry.data().to_string().ok()?.to_string()))
        .collect();
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::TcpListener,
        thread,
    };

    use super::*;

    /// What is asked of the proxy that these properties name, `PORT` being its own.
    fn asked_of_proxy(url: &str, properties: &str) -> Option<String> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port().to_string();
        let properties = Properties::from_startup_arguments(&properties.replace("PORT", &port));
        let url = Url::parse(url).unwrap();
        let client = Client::builder()
            .no_proxy()
            .proxy(proxy_of(url.scheme(), &properties)?)
            .timeout(Duration::from_secs(60))
            .build()
            .unwrap();
        let proxy = thread::spawn(move || {
            let mut stream = listener.accept().unwrap().0;
            let mut request = [0; 1024];
            let read = stream.read(&mut request).unwrap();
            stream
                .write_all(b"HTTP/1.1 418 I'm a teapot\r\nContent-Length: 0\r\n\r\n")
                .unwrap();
            let request = String::from_utf8_lossy(&request[..read]).into_owned();
            request.lines().next().unwrap_or_default().to_owned()
        });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let _ = runtime.block_on(async { client.get(url).send().await });
        Some(proxy.join().unwrap())
    }

    #[test]
    fn the_proxy_of_a_jvm_is_used_for_its_scheme() {
        let properties = "-Dhttp.proxyHost=127.0.0.1 -Dhttp.proxyPort=PORT";
        assert_eq!(
            asked_of_proxy("http://ci.example.com:8153/go", properties).as_deref(),
            Some("GET http://ci.example.com:8153/go HTTP/1.1")
        );
        let secure = "-Dhttps.proxyHost=127.0.0.1 -Dhttps.proxyPort=PORT \
             -Dhttp.nonProxyHosts=localhost|*.example.org";
        assert_eq!(
            asked_of_proxy("https://ci.example.com:8154/go", secure).as_deref(),
            Some("CONNECT ci.example.com:8154 HTTP/1.1")
        );
        assert_eq!(
            asked_of_proxy("https://ci.example.com:8154/go", properties),
            None
        );
    }

    #[test]
    fn hosts_that_want_no_proxy_are_asked_themselves() {
        // Nobody listens at the proxy's port: only a direct connection can succeed.
        let listener = TcpListener::bind("127.0.0.2:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            let mut stream = listener.accept().unwrap().0;
            let _ = stream.read(&mut [0; 1024]).unwrap();
            stream
                .write_all(b"HTTP/1.1 204 No Content\r\n\r\n")
                .unwrap();
        });
        let properties = Properties::from_startup_arguments(
            "-Dhttp.proxyHost=127.0.0.1 -Dhttp.proxyPort=1 \
             -Dhttp.nonProxyHosts=*.example.org|127.0.0.2",
        );
        let client = Client::builder()
            .proxy(proxy_of("http", &properties).unwrap())
            .build()
            .unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let answer =
            runtime.block_on(async { client.get(format!("http://{address}/go")).send().await });
        assert_eq!(answer.unwrap().status(), 204);
        server.join().unwrap();
    }
}
