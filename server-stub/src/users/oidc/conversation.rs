//! What is said to a provider, and what it answers.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use reqwest::{Client, RequestBuilder, StatusCode, redirect::Policy};
use secrecy::ExposeSecret as _;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use super::{
    failure::Failure,
    token::{self, Claims, Expected},
};
use crate::configuration::Provider;

/// The longest a provider may take for one answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of the longest answer.
const LONGEST: usize = 1024 * 1024;
/// Milliseconds for which the provider's description of itself is not asked for again: who comes to
/// the login page cannot make this server send more.
const FRESH: i64 = 60_000;

/// How this server speaks with its provider.
pub struct Conversation {
    pub(super) provider: Provider,
    client: Client,
    described: Mutex<Option<(i64, Arc<Description>)>>,
}

/// What a provider publishes about itself.
#[derive(Debug, Deserialize)]
pub(super) struct Description {
    issuer: String,
    pub(super) authorization_endpoint: url::Url,
    token_endpoint: url::Url,
    jwks_uri: url::Url,
    userinfo_endpoint: Option<url::Url>,
    /// Default: `client_secret_basic`.
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
}

/// Secrets, which nothing shows.
#[derive(Deserialize)]
struct Tokens {
    id_token: String,
    access_token: Option<String>,
}

#[derive(Deserialize)]
struct Keys {
    keys: Vec<Value>,
}

/// What an answer was to be, for messages.
type What = &'static str;

impl Conversation {
    /// # Errors
    ///
    /// The HTTP client cannot be made.
    pub(crate) fn new(provider: Provider) -> Result<Self, reqwest::Error> {
        Ok(Self {
            provider,
            client: Client::builder()
                .timeout(PATIENCE)
                // A provider that moves has to be set anew.
                .redirect(Policy::none())
                .build()?,
            described: Mutex::default(),
        })
    }

    /// What people call the provider.
    pub(crate) fn name(&self) -> &str {
        &self.provider.name
    }

    /// What the provider says about itself.
    pub(super) async fn description(&self, now: i64) -> Result<Arc<Description>, Failure> {
        let known = self
            .described
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let Some((at, description)) = known
            && (at..at + FRESH).contains(&now)
        {
            return Ok(description);
        }
        let issuer = &self.provider.issuer;
        let url = format!(
            "{}/.well-known/openid-configuration",
            issuer.trim_end_matches('/')
        );
        let what = "its description of itself";
        let found: Description = self.answer(what, self.client.get(&url)).await?;
        if found.issuer.trim_end_matches('/') != issuer.trim_end_matches('/') {
            let cause = format!(
                "{url} describes the issuer {:?}, and {issuer:?} is set",
                found.issuer
            );
            return Err(Failure::Answer { what, cause });
        }
        let found = Arc::new(found);
        let mut described = self
            .described
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *described = Some((now, Arc::clone(&found)));
        Ok(found)
    }

    /// What the provider says of the person whom it has given a code.
    pub(super) async fn claims(
        &self,
        code: &str,
        verifier: &str,
        redirect: &str,
        nonce: &str,
        now: i64,
    ) -> Result<Claims, Failure> {
        let description = self.description(now).await?;
        let tokens = self.tokens(&description, code, verifier, redirect).await?;
        let what = "its keys";
        let keys = self.client.get(description.jwks_uri.clone());
        let keys: Keys = self.answer(what, keys).await?;
        let expected = Expected {
            issuer: &description.issuer,
            client_id: &self.provider.client_id,
            nonce,
            now,
        };
        let mut claims = token::verified(&tokens.id_token, &keys.keys, &expected)?;
        let wanted = [&self.provider.user_claim, &self.provider.groups_claim];
        let is_missing = |name: &&String| !claims.contains_key(*name);
        let missing = if self.provider.roles.is_empty() {
            is_missing(&wanted[0])
        } else {
            wanted.iter().any(is_missing)
        };
        // Many providers tell there what their tokens are too small for.
        if let (true, Some(endpoint), Some(access)) = (
            missing,
            description.userinfo_endpoint.clone(),
            tokens.access_token,
        ) {
            let request = self.client.get(endpoint).bearer_auth(access);
            let more: Claims = self.answer("what it knows of a person", request).await?;
            if more.get("sub") != claims.get("sub") {
                let cause = "it is about another person than the token".to_owned();
                return Err(Failure::Answer {
                    what: "what it knows of a person",
                    cause,
                });
            }
            for (name, value) in more {
                claims.entry(name).or_insert(value);
            }
        }
        Ok(claims)
    }

    async fn tokens(
        &self,
        description: &Description,
        code: &str,
        verifier: &str,
        redirect: &str,
    ) -> Result<Tokens, Failure> {
        let id = self.provider.client_id.as_str();
        let mut form = vec![
            ("grant_type", "authorization_code"),
            ("code", code),
            ("code_verifier", verifier),
            ("redirect_uri", redirect),
        ];
        let methods = description.token_endpoint_auth_methods_supported.as_ref();
        let by_header =
            methods.is_none_or(|all| all.iter().any(|one| one == "client_secret_basic"));
        let request = self.client.post(description.token_endpoint.clone());
        let request = match &self.provider.client_secret {
            Some(secret) if by_header => {
                // RFC 6749, 2.3.1: both are encoded as in a form first.
                let encoded =
                    |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect();
                let (id, secret): (String, String) = (encoded(id), encoded(secret.expose_secret()));
                request.basic_auth(id, Some(secret))
            }
            Some(secret) => {
                form.extend([("client_id", id), ("client_secret", secret.expose_secret())]);
                request
            }
            None => {
                form.push(("client_id", id));
                request
            }
        };
        self.answer("its token", request.form(&form)).await
    }

    async fn answer<T: DeserializeOwned>(
        &self,
        what: What,
        request: RequestBuilder,
    ) -> Result<T, Failure> {
        let unreachable = |source: reqwest::Error| Failure::Unreachable { what, source };
        let request = request.header("Accept", "application/json");
        let mut response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > LONGEST {
                let cause = format!("it is longer than {LONGEST} bytes");
                return Err(Failure::Answer { what, cause });
            }
        }
        if status != StatusCode::OK {
            return Err(refusal(what, status, &bytes));
        }
        // The cause of a wrong form tells places, and no values but short ones of ours.
        serde_json::from_slice(&bytes).map_err(|error| Failure::Answer {
            what,
            cause: format!("it has another form than is expected: {error}"),
        })
    }
}

/// What a status that is no success means. Of the body only the error's name is read (RFC 6749,
/// 5.2).
fn refusal(what: What, status: StatusCode, body: &[u8]) -> Failure {
    #[derive(Deserialize)]
    struct Refused {
        error: String,
    }
    let refused: Option<Refused> = serde_json::from_slice(body).ok();
    match refused.as_ref().map(|refused| refused.error.as_str()) {
        Some("invalid_grant") => Failure::Used,
        Some("invalid_client" | "unauthorized_client") => Failure::Client,
        _ if status.is_server_error() => Failure::Down { what, status },
        error => Failure::Answer {
            what,
            cause: format!(
                "it answers with {status} {:?}",
                error
                    .unwrap_or_default()
                    .chars()
                    .take(100)
                    .collect::<String>()
            ),
        },
    }
}
