//! Who a request is from.

use super::{Grant, LOCAL, NOBODY, Rights, Role};

/// The one who acts; an extension of every request that needs a login.
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
