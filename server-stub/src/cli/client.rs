//! The command line's side of the REST API.

use std::{path::Path, time::Duration};

use bytes::Bytes;
use http::{
    HeaderMap, Method, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_TYPE},
};
use journeyman_protocol::extension::JOURNEYMAN_CONSOLE_LENGTH;
use secrecy::{ExposeSecret as _, SecretString};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Server;
use crate::configuration::Paths;

/// Where a server is when nothing else is said.
const DEFAULT_URL: &str = "http://127.0.0.1:8153/go";

/// The longest that a call may take: a trigger asks git repositories.
const TIMEOUT: Duration = Duration::from_secs(90);
/// The same for a file.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(3600);

/// A call to the server did not do what it should.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    #[error(
        "cannot reach a server at {url} ({cause}). Is it running? `journeyman-server serve` starts one; \
         --server-url or JOURNEYMAN_SERVER_URL names another, --data the folder of one on this machine"
    )]
    Unreachable { url: String, cause: String },
    #[error("the server refused to {tried}: {message}")]
    Refused {
        tried: String,
        status: StatusCode,
        message: String,
    },
    #[error(
        "the server does not know who you are and refused to {tried}: give its folder with --data, if it is on this \
         machine and you may read it, or an access token in JOURNEYMAN_TOKEN or --token-file"
    )]
    NotLoggedIn { tried: String },
    #[error("the server's answer to {tried} cannot be read: {cause}")]
    Answer { tried: String, cause: String },
    #[error("{0}")]
    Usage(String),
    #[error("cannot set up a connection: {0}")]
    SetUp(#[source] reqwest::Error),
}

impl ClientError {
    /// Whether the same call may succeed a moment later.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused { status, .. } => status.is_server_error(),
            _ => false,
        }
    }
}

/// A connection to one server.
#[derive(Clone)]
pub(super) struct Client {
    http: reqwest::Client,
    token: Option<SecretString>,
    base: String,
    pub(super) json: bool,
}

impl Client {
    /// Finds out where the server is; nothing is sent yet.
    pub(super) fn new(server: &Server) -> Result<Self, ClientError> {
        let mut builder = reqwest::Client::builder()
            .timeout(TIMEOUT)
            .connect_timeout(Duration::from_secs(5))
            .redirect(reqwest::redirect::Policy::none());
        let mut base = server.server_url.clone();
        let mut token = token(server)?;
        if let (None, Some(data)) = (&base, &server.data) {
            let path = data.join("endpoints.json");
            base = std::fs::read(&path)
                .ok()
                .and_then(|text| serde_json::from_slice::<Value>(&text).ok())
                .and_then(|endpoints| Some(endpoints.get("http_url")?.as_str()?.to_owned()));
            if base.is_none() {
                return Err(ClientError::Usage(format!(
                    "there is no server running with the data folder {}: {} is missing. Start one with \
                     `journeyman-server serve --data {}`, or name another with --server-url",
                    data.display(),
                    path.display(),
                    data.display()
                )));
            }
            // Only for the server of that folder: another has no business to know it.
            if token.is_none() {
                let path = Paths::new(data.clone(), None).command_line_token();
                let text = std::fs::read_to_string(path).ok();
                token = text.map(|text| SecretString::from(text.trim()));
            }
        }
        if let Some(pem) = server
            .data
            .as_ref()
            .and_then(|data| std::fs::read(data.join("trust").join("ca.crt")).ok())
            && let Ok(certificate) = reqwest::Certificate::from_pem(&pem)
        {
            builder = builder.add_root_certificate(certificate);
        }
        let base = base.unwrap_or_else(|| DEFAULT_URL.to_owned());
        if !base.starts_with("http://") && !base.starts_with("https://") {
            let message =
                format!("`{base}` is no address of a server: it begins with http:// or https://");
            return Err(ClientError::Usage(message));
        }
        Ok(Self {
            http: builder.build().map_err(ClientError::SetUp)?,
            token,
            base: base.trim_end_matches('/').to_owned(),
            json: server.json,
        })
    }

    /// Asks for a document. `tried` completes "the server refused to ...".
    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        tried: &str,
        path: &str,
    ) -> Result<T, ClientError> {
        self.call(Method::GET, tried, path, None).await
    }

    /// A write; without a body it is confirmed by a header.
    pub(super) async fn write<T: DeserializeOwned>(
        &self,
        method: Method,
        tried: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<T, ClientError> {
        self.call(method, tried, path, body).await
    }

    /// A write without a body that is answered with nothing.
    pub(super) async fn tell(
        &self,
        method: Method,
        tried: &str,
        path: &str,
    ) -> Result<(), ClientError> {
        let url = format!("{}{path}", self.base);
        self.ask(method, tried, &url, None).await?;
        Ok(())
    }

    /// Asks for a text or a file.
    pub(super) async fn bytes(&self, tried: &str, path: &str) -> Result<Bytes, ClientError> {
        let url = format!("{}{path}", self.base);
        let (_, bytes) = self.ask(Method::GET, tried, &url, None).await?;
        Ok(bytes)
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        tried: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<T, ClientError> {
        let url = format!("{}{path}", self.base);
        let (_, bytes) = self.ask(method, tried, &url, body).await?;
        read(tried, &bytes)
    }

    /// The console of a job from a byte on, and where to go on.
    pub(super) async fn console(&self, id: i64, offset: u64) -> Result<(Bytes, u64), ClientError> {
        let url = format!("{}/api/journeyman/consoles/{id}?offset={offset}", self.base);
        let (headers, bytes) = self.ask(Method::GET, "show a console", &url, None).await?;
        let next = headers
            .get(JOURNEYMAN_CONSOLE_LENGTH)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.parse().ok())
            .unwrap_or(offset);
        Ok((bytes, next))
    }

    async fn ask(
        &self,
        method: Method,
        tried: &str,
        url: &str,
        body: Option<&Value>,
    ) -> Result<(HeaderMap, Bytes), ClientError> {
        let request = self
            .http
            .request(method, url)
            .header("X-GoCD-Confirm", "true");
        let request = match body {
            Some(body) => request.json(body),
            None => request,
        };
        self.send(tried, request).await
    }

    /// Sends a file as it is.
    pub(super) async fn upload(
        &self,
        tried: &str,
        path: &str,
        file: &Path,
    ) -> Result<Value, ClientError> {
        let unreadable = |error: std::io::Error| {
            ClientError::Usage(format!("cannot read {}: {error}", file.display()))
        };
        let opened = tokio::fs::File::open(file).await.map_err(unreadable)?;
        let metadata = opened.metadata().await.map_err(unreadable)?;
        if !metadata.is_file() {
            return Err(ClientError::Usage(format!(
                "{} is not a file; name the files of packages, *.tar.zst",
                file.display()
            )));
        }
        let request = self
            .http
            .put(format!("{}{path}", self.base))
            .timeout(UPLOAD_TIMEOUT)
            .header("X-GoCD-Confirm", "true")
            .header(CONTENT_TYPE, "application/zstd")
            .header(CONTENT_LENGTH, metadata.len())
            .body(opened);
        let (_, bytes) = self.send(tried, request).await?;
        read(tried, &bytes)
    }

    async fn send(
        &self,
        tried: &str,
        request: reqwest::RequestBuilder,
    ) -> Result<(HeaderMap, Bytes), ClientError> {
        let unreachable = |error: reqwest::Error| ClientError::Unreachable {
            url: self.base.clone(),
            cause: root_cause(&error),
        };
        let request = match &self.token {
            Some(token) => request.bearer_auth(token.expose_secret()),
            None => request,
        };
        let response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        let headers = response.headers().clone();
        let bytes = response.bytes().await.map_err(unreachable)?;
        if status.is_success() {
            return Ok((headers, bytes));
        }
        if status == StatusCode::UNAUTHORIZED {
            return Err(ClientError::NotLoggedIn {
                tried: tried.to_owned(),
            });
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let document: Value = serde_json::from_str(&text).unwrap_or_default();
        let told = ["message", "error"]
            .iter()
            .find_map(|name| document.get(name)?.as_str())
            .unwrap_or(text.trim());
        Err(ClientError::Refused {
            tried: tried.to_owned(),
            status,
            message: match told {
                "" => status.to_string(),
                told => super::output::clean(told),
            },
        })
    }
}

/// A path of the API with the names of a locator in it, of which there must be so many.
pub(super) fn path_of(
    begin: &str,
    locator: &str,
    names: usize,
    end: &str,
) -> Result<String, ClientError> {
    let parts: Vec<&str> = locator.split('/').collect();
    if parts.len() != names || parts.iter().any(|part| part.is_empty()) {
        const FORM: [&str; 5] = ["PIPELINE", "COUNTER", "STAGE", "COUNTER", "JOB"];
        let form = match names {
            2 if begin == "/api/stages" => "PIPELINE/STAGE".to_owned(),
            _ => FORM.get(..names).unwrap_or_default().join("/"),
        };
        let message = format!("`{locator}` is not of the form {form}");
        return Err(ClientError::Usage(message));
    }
    let parts = parts.into_iter().map(|part| {
        percent_encoding::utf8_percent_encode(part, percent_encoding::NON_ALPHANUMERIC).to_string()
    });
    Ok(format!(
        "{begin}/{}{end}",
        parts.collect::<Vec<_>>().join("/")
    ))
}

/// The access token that was given.
fn token(server: &Server) -> Result<Option<SecretString>, ClientError> {
    let text = match &server.token_file {
        Some(path) => Some(std::fs::read_to_string(path).map_err(|error| {
            ClientError::Usage(format!(
                "cannot read the access token {}: {error}",
                path.display()
            ))
        })?),
        None => std::env::var("JOURNEYMAN_TOKEN").ok(),
    };
    let text = text
        .as_deref()
        .map(str::trim)
        .filter(|text| !text.is_empty());
    Ok(text.map(SecretString::from))
}

fn read<T: DeserializeOwned>(tried: &str, bytes: &[u8]) -> Result<T, ClientError> {
    serde_json::from_slice(bytes).map_err(|error| ClientError::Answer {
        tried: tried.to_owned(),
        cause: error.to_string(),
    })
}

fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}
