//! What people may do, and where.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The name that stands for all groups of pipelines, and for the server itself.
pub const EVERY_GROUP: &str = "*";

/// What somebody may do in a group of pipelines. Each has what the one before has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// See pipelines, consoles and artifacts.
    View,
    /// Trigger, cancel, and upload artifacts.
    Operate,
    /// For every group: agents, repositories, releases, users.
    Admin,
}

/// A role in one group, or in [all](EVERY_GROUP). Written `ROLE` or `ROLE:GROUP`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    pub role: Role,
    #[serde(default = "every_group")]
    pub group: String,
}

/// All that somebody may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rights(Vec<Grant>);

/// A text that is no role.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no role: write view, operate or admin, and :GROUP behind it for one group only")]
pub struct RoleError(String);

fn every_group() -> String {
    EVERY_GROUP.to_owned()
}

// === impl Role ===

impl Role {
    /// As the database, the API and the command line write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::View => "view",
            Self::Operate => "operate",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for Role {
    type Err = RoleError;

    fn from_str(text: &str) -> Result<Self, RoleError> {
        [Self::View, Self::Operate, Self::Admin]
            .into_iter()
            .find(|role| role.name() == text)
            .ok_or_else(|| RoleError(text.to_owned()))
    }
}

// === impl Grant ===

impl Grant {
    /// The role in every group.
    pub fn everywhere(role: Role) -> Self {
        let group = every_group();
        Self { role, group }
    }
}

impl FromStr for Grant {
    type Err = RoleError;

    fn from_str(text: &str) -> Result<Self, RoleError> {
        let (role, group) = text.split_once(':').unwrap_or((text, EVERY_GROUP));
        let error = || RoleError(text.to_owned());
        if group.trim().is_empty() {
            return Err(error());
        }
        Ok(Self {
            role: role.parse().map_err(|_| error())?,
            group: group.trim().to_owned(),
        })
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { role, group } = self;
        if group == EVERY_GROUP {
            write!(formatter, "{role}")
        } else {
            write!(formatter, "{role}:{group}")
        }
    }
}

// === impl Rights ===

impl Rights {
    pub fn new(grants: Vec<Grant>) -> Self {
        Self(grants)
    }

    pub fn grants(&self) -> &[Grant] {
        &self.0
    }

    /// The role in a group; letter case does not matter.
    pub fn in_group(&self, group: &str) -> Option<Role> {
        self.0
            .iter()
            .filter(|grant| grant.group == EVERY_GROUP || grant.group.eq_ignore_ascii_case(group))
            .map(|grant| grant.role)
            .max()
    }

    /// The role in all groups.
    pub fn everywhere(&self) -> Option<Role> {
        self.in_group(EVERY_GROUP)
    }

    /// The greatest role in any group.
    pub fn anywhere(&self) -> Option<Role> {
        self.0.iter().map(|grant| grant.role).max()
    }

    pub fn is_admin(&self) -> bool {
        self.everywhere() == Some(Role::Admin)
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    #[test]
    fn roles_are_read_and_written() {
        for text in ["view", "operate:apps", "admin"] {
            assert_eq!(text.parse::<Grant>().unwrap().to_string(), text);
        }
        assert_eq!("view:*".parse::<Grant>().unwrap().to_string(), "view");
        for text in ["", "root", "view:", "View", ":apps"] {
            assert!(text.parse::<Grant>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_role_in_every_group_is_one_in_each() {
        let rights = Rights::new(vec![
            "view".parse().unwrap(),
            "operate:Apps".parse().unwrap(),
        ]);
        assert_eq!(rights.in_group("apps"), Some(Role::Operate));
        assert_eq!(rights.in_group("other"), Some(Role::View));
        assert_eq!(rights.everywhere(), Some(Role::View));
        assert_eq!(rights.anywhere(), Some(Role::Operate));
        let rights = Rights::new(vec!["admin:apps".parse().unwrap()]);
        assert!(!rights.is_admin());
        assert_eq!(rights.everywhere(), None);
    }
}
