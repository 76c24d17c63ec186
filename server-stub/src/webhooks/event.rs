//! What hosts of git repositories say of a push, each in its own form.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::HeaderMap;
use serde_json::Value;

use super::secret::WebhookSecret;

/// A host whose webhooks are understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Host {
    GitHub,
    GitLab,
    /// Forgejo speaks as Gitea does.
    Gitea,
    /// The cloud and the server that people run themselves.
    Bitbucket,
}

/// What a host says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// It only tries whether somebody listens.
    Ping,
    /// References of a repository have moved.
    Push {
        /// All addresses that the repository is said to have.
        addresses: Vec<String>,
        /// Such as `refs/heads/main`.
        references: Vec<String>,
    },
    /// Something that is of no interest here.
    Other(String),
}

/// A part of the body that is missing or of another shape; its place.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Missing(pub(super) &'static str);

impl Host {
    pub(super) fn named(name: &str) -> Option<Self> {
        match name {
            "github" => Some(Self::GitHub),
            "gitlab" => Some(Self::GitLab),
            "gitea" | "forgejo" => Some(Self::Gitea),
            "bitbucket" => Some(Self::Bitbucket),
            _ => None,
        }
    }

    /// What proves who sends a request, for a message.
    pub(super) fn proof(self) -> &'static str {
        match self {
            Self::GitHub => "the header 'X-Hub-Signature-256'",
            Self::GitLab => "the header 'X-Gitlab-Token'",
            Self::Gitea => "the header 'X-Gitea-Signature'",
            Self::Bitbucket => "the header 'X-Hub-Signature', or user or password of the address,",
        }
    }

    /// Whether the request comes from somebody who knows the secret.
    pub(super) fn is_proven(
        self,
        secret: &WebhookSecret,
        headers: &HeaderMap,
        body: &[u8],
    ) -> bool {
        let signed = |header: &str| {
            let signature = text(headers, header);
            let hex = signature.strip_prefix("sha256=").unwrap_or(signature);
            secret.has_signed(body, hex)
        };
        match self {
            Self::GitHub => signed("x-hub-signature-256"),
            Self::GitLab => secret.is(text(headers, "x-gitlab-token")),
            Self::Gitea => signed("x-gitea-signature") || signed("x-hub-signature-256"),
            Self::Bitbucket => signed("x-hub-signature") || is_in_basic(secret, headers),
        }
    }

    /// What the request says.
    pub(super) fn event(self, headers: &HeaderMap, body: &Value) -> Result<Event, Missing> {
        let header = match self {
            Self::GitHub => "x-github-event",
            Self::GitLab => "x-gitlab-event",
            Self::Gitea => "x-gitea-event",
            Self::Bitbucket => "x-event-key",
        };
        let name = text(headers, header);
        match (self, name) {
            (Self::GitHub | Self::Gitea, "ping") | (Self::Bitbucket, "diagnostics:ping") => {
                Ok(Event::Ping)
            }
            (Self::GitHub | Self::Gitea, "push") => push(&body["repository"], body),
            (Self::GitLab, _) => match body["object_kind"].as_str().or(body["event_name"].as_str())
            {
                Some("push" | "tag_push") => {
                    let project = &body["project"];
                    let known = if project.is_object() {
                        project
                    } else {
                        &body["repository"]
                    };
                    push(known, body)
                }
                _ => Ok(Event::Other(name.to_owned())),
            },
            (Self::Bitbucket, "repo:push" | "repo:refs_changed") => bitbucket(body),
            _ => Ok(Event::Other(name.to_owned())),
        }
    }
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> &'h str {
    let value = headers.get(name).and_then(|value| value.to_str().ok());
    value.unwrap_or_default()
}

/// Bitbucket's cloud long knew no signatures: the secret is in the address of the webhook, as user
/// or as password.
fn is_in_basic(secret: &WebhookSecret, headers: &HeaderMap) -> bool {
    let given = || {
        let encoded = text(headers, "authorization").strip_prefix("Basic ")?;
        String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()
    };
    given().is_some_and(|given| {
        let (user, password) = given.split_once(':').unwrap_or((&given, ""));
        secret.is(user) || secret.is(password)
    })
}

/// The form of GitHub, which Gitea and GitLab have taken over but for the names of the addresses.
fn push(repository: &Value, body: &Value) -> Result<Event, Missing> {
    const ADDRESSES: [&str; 10] = [
        "clone_url",
        "git_http_url",
        "git_ssh_url",
        "git_url",
        "homepage",
        "html_url",
        "http_url",
        "ssh_url",
        "url",
        "web_url",
    ];
    let reference = body["ref"].as_str().ok_or(Missing("ref"))?;
    let addresses: Vec<String> = ADDRESSES
        .iter()
        .filter_map(|name| repository[*name].as_str())
        .map(ToOwned::to_owned)
        .collect();
    if addresses.is_empty() {
        return Err(Missing("repository"));
    }
    Ok(Event::Push {
        addresses,
        references: vec![reference.to_owned()],
    })
}

fn bitbucket(body: &Value) -> Result<Event, Missing> {
    let repository = &body["repository"];
    let links = &repository["links"];
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut addresses: Vec<String> = list(&links["clone"])
        .iter()
        .chain(&list(&links["self"]))
        .chain([&links["html"]])
        .filter_map(|link| Some(link["href"].as_str()?.to_owned()))
        .collect();
    // A server that people run themselves may tell the address of its page only.
    let (key, slug) = (&repository["project"]["key"], &repository["slug"]);
    if let (Some(key), Some(slug)) = (key.as_str(), slug.as_str()) {
        let page = format!("/projects/{key}/repos/{slug}");
        let roots: Vec<String> = addresses
            .iter()
            .filter_map(|address| Some(address.split_once(&page)?.0.to_owned()))
            .collect();
        for root in roots {
            addresses.push(format!("{root}/scm/{key}/{slug}"));
            addresses.push(format!("{root}/{key}/{slug}"));
        }
    }
    if addresses.is_empty() {
        return Err(Missing("repository.links"));
    }
    let reference = |change: &Value| {
        let full = change["ref"]["id"].as_str().map(ToOwned::to_owned);
        full.or_else(|| {
            let new = [&change["new"], &change["old"]]
                .into_iter()
                .find(|one| one.is_object())?;
            let name = new["name"].as_str()?;
            Some(match new["type"].as_str() {
                Some("tag") => format!("refs/tags/{name}"),
                _ => format!("refs/heads/{name}"),
            })
        })
    };
    let mut changes = list(&body["push"]["changes"]);
    changes.extend(list(&body["changes"]));
    Ok(Event::Push {
        addresses,
        references: changes.iter().filter_map(reference).collect(),
    })
}
