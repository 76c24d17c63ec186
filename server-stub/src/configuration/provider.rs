//! The OpenID provider that vouches for people.

use std::{fmt, str::FromStr};

use clap::ValueEnum;
use secrecy::SecretString;
use url::{Host, Url};

use super::{Settings, layers::Problem, layers::secret};
use crate::users::{Grant, RoleError};

/// Where people can sign in besides here, and what is believed of them.
#[derive(Debug, Clone)]
pub struct Provider {
    /// As the provider writes itself.
    pub issuer: String,
    pub client_id: String,
    /// None: a public client.
    pub client_secret: Option<SecretString>,
    /// What the button calls it.
    pub name: String,
    pub scopes: Vec<String>,
    /// The claim that is the name of the user.
    pub user_claim: String,
    pub groups_claim: String,
    /// Empty: roles are given here. Else each sign-in sets them.
    pub roles: Vec<GroupRole>,
    pub new_users: NewUsers,
}

/// What becomes of somebody whom the provider knows and this server does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum NewUsers {
    /// They are told to ask an admin, and what the admin has to run.
    Refuse,
    /// They become users; what they may do is told by --oidc-role, or else they may do nothing yet.
    Create,
}

/// What somebody may do who is in a group at the provider. Written `GROUP=ROLE` or
/// `GROUP=ROLE:PIPELINES`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupRole {
    pub group: String,
    pub grant: Grant,
}

/// A text that gives a group no role.
#[derive(Debug, Clone, thiserror::Error)]
pub enum GroupRoleError {
    #[error("write GROUP=ROLE, or GROUP=ROLE:PIPELINES for one group of pipelines")]
    Form,
    #[error(transparent)]
    Role(#[from] RoleError),
}

impl FromStr for GroupRole {
    type Err = GroupRoleError;

    fn from_str(text: &str) -> Result<Self, GroupRoleError> {
        // Names of groups may be paths and distinguished names.
        let (group, grant) = text.rsplit_once('=').ok_or(GroupRoleError::Form)?;
        if group.trim().is_empty() {
            return Err(GroupRoleError::Form);
        }
        Ok(Self {
            group: group.trim().to_owned(),
            grant: grant.trim().parse()?,
        })
    }
}

impl fmt::Display for GroupRole {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}={}", self.group, self.grant)
    }
}

/// An issuer: HTTPS, because who can change the answers on their way can be anybody here.
pub(super) fn issuer(text: &str) -> Result<String, String> {
    let url = Url::parse(text).map_err(|error| error.to_string())?;
    let is_here = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => return Err("it names no host".to_owned()),
    };
    if url.scheme() != "https" && !(is_here && url.scheme() == "http") {
        return Err("it begins with https:// (http:// is for this machine only)".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() || !url.username().is_empty() {
        return Err("it has neither a user nor anything behind its path".to_owned());
    }
    Ok(text.to_owned())
}

/// The provider that the settings ask for.
pub(super) fn of(settings: &Settings) -> Result<Option<Provider>, Problem> {
    let client_secret = secret(
        "oidc-client-secret",
        settings.oidc_client_secret.as_ref(),
        settings.oidc_client_secret_file.as_deref(),
    )?;
    let (issuer, client_id) = match (&settings.oidc_issuer, &settings.oidc_client_id) {
        (Some(issuer), Some(client_id)) => (issuer, client_id),
        (None, None) if client_secret.is_none() && settings.oidc_role.is_empty() => {
            return Ok(None);
        }
        (None, _) => {
            let text = "oidc-issuer is missing: without it nothing else that begins with oidc- has an effect";
            return Err(Problem::new(text));
        }
        (Some(_), None) => {
            let text =
                "oidc-client-id is missing: register this server at the provider, which gives one";
            return Err(Problem::new(text));
        }
    };
    if settings.no_login {
        let text = "no-login and oidc-issuer are both set: leave one out";
        return Err(Problem::new(text));
    }
    let host = Url::parse(issuer).ok();
    let host = host.and_then(|url| url.host_str().map(str::to_owned));
    Ok(Some(Provider {
        issuer: issuer.clone(),
        client_id: client_id.clone(),
        client_secret,
        name: settings
            .oidc_name
            .clone()
            .or(host)
            .unwrap_or_else(|| issuer.clone()),
        scopes: settings.oidc_scope.clone(),
        user_claim: settings.oidc_user_claim.clone(),
        groups_claim: settings.oidc_groups_claim.clone(),
        roles: settings.oidc_role.clone(),
        new_users: settings.oidc_new_users,
    }))
}
