//! Who a request is from.

use axum::extract::FromRequestParts;
use http::{StatusCode, request::Parts};

use super::{Grant, LOCAL, NOBODY, Rights, Role};

use crate::answer::Refusal;

/// The one who acts; an extension of every request that needs a login, and an argument of its
/// handler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    pub name: String,
    pub rights: Rights,
    pub means: Means,
}

/// How somebody has said who they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Means {
    /// Not at all: there is no login.
    None,
    Password,
    /// A cookie. Forms of the session must hold this text.
    Session {
        form_token: String,
    },
    AccessToken,
    /// The token in the data folder.
    Local,
}

impl Actor {
    /// Everybody, when there is no login.
    pub(super) fn nobody() -> Self {
        Self {
            name: NOBODY.to_owned(),
            rights: Rights::new(vec![Grant::everywhere(Role::Admin)]),
            means: Means::None,
        }
    }

    /// Whoever may read the data folder.
    pub(super) fn local() -> Self {
        Self {
            name: LOCAL.to_owned(),
            means: Means::Local,
            ..Self::nobody()
        }
    }

    /// Whether this is somebody with an account, so that there is a "current user".
    pub fn is_user(&self) -> bool {
        !matches!(self.means, Means::None | Means::Local)
    }

    /// Whether the pipelines of this group are shown.
    pub fn sees(&self, group: &str) -> bool {
        self.rights.in_group(group).is_some()
    }
}

impl<S: Sync> FromRequestParts<S> for Actor {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let actor = parts.extensions.get().cloned();
        actor.ok_or_else(|| {
            // A mistake of ours, which must not make anybody an admin.
            let text = "This request was let through without asking who sends it.";
            Refusal::error(StatusCode::INTERNAL_SERVER_ERROR, text)
        })
    }
}
