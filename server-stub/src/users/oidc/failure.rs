//! Why somebody could not sign in: a line for the log, and words for the person.

use http::StatusCode;

use super::token::TokenError;
use crate::{answer::Refusal, configuration::Provider, users::authentication::Unknown};

/// A sign-in that has failed. What is shown here is for the log, and holds no secret.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("the provider cannot be reached for {what}; check --oidc-issuer and the network")]
    Unreachable {
        what: &'static str,
        #[source]
        source: reqwest::Error,
    },
    #[error("the provider fails with {status} for {what}")]
    Down {
        what: &'static str,
        status: StatusCode,
    },
    #[error("the provider cannot be used, because of {what}: {cause}")]
    Answer { what: &'static str, cause: String },
    #[error(
        "the provider does not take this server's client id and secret; check --oidc-client-id and --oidc-client-secret-file"
    )]
    Client,
    #[error("the provider does not take the code: it was used before, has expired or is another's")]
    Used,
    #[error("the provider has refused: {0:?}")]
    Refused(String),
    #[error("the answer belongs to no login that this browser has begun")]
    Foreign,
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error("the provider does not say the user's name: there is no text in the claim `{0}`")]
    NoName(String),
    #[error("the provider has not verified the address {0:?}")]
    Unverified(String),
    #[error("{0:?} cannot be the name of a user here")]
    BadName(String),
    #[error("there is no user {0:?}, and --oidc-new-users is refuse")]
    NoUser(String),
    #[error("an admin has not said that the provider vouches for the user {0:?}")]
    NotVouched(String),
    #[error("the user {0:?} is another person at the provider")]
    Another(String),
    #[error("too many sign-ins have failed; heard again in {0} s")]
    TooMany(i64),
    #[error("this server has failed: {0}")]
    Ours(Refusal),
}

impl<E: Into<crate::database::DatabaseError>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Ours(error.into().into())
    }
}

impl From<Unknown> for Failure {
    fn from(unknown: Unknown) -> Self {
        match unknown {
            Unknown::Failed(refusal) => Self::Ours(refusal),
            Unknown::TooMany(seconds) => Self::TooMany(seconds),
            Unknown::Password | Unknown::Token => Self::Foreign,
        }
    }
}

impl Failure {
    /// Whether it counts against the address it came from: something made up was tried.
    pub(super) fn counts(&self) -> bool {
        matches!(self, Self::Used | Self::Foreign | Self::Token(_))
    }

    /// What the person is told.
    pub(super) fn told(&self, provider: &Provider) -> (StatusCode, String) {
        let name = &provider.name;
        let ask = "Log in with a password, or have an admin look into the server's log.";
        match self {
            Self::Unreachable { .. } | Self::Down { .. } => (
                StatusCode::SERVICE_UNAVAILABLE,
                format!("{name} does not answer. Try again later, or log in with a password."),
            ),
            Self::Answer { .. } => (
                StatusCode::BAD_GATEWAY,
                format!("{name} gives an answer that this server cannot use. {ask}"),
            ),
            Self::Client => (
                StatusCode::BAD_GATEWAY,
                format!("{name} does not take what this server proves itself with. {ask}"),
            ),
            Self::Token(TokenError::Time { .. }) => (
                StatusCode::BAD_GATEWAY,
                format!("The clocks of {name} and of this server differ too much. {ask}"),
            ),
            Self::Token(_) => (
                StatusCode::BAD_GATEWAY,
                format!("What {name} says about you is not meant for this server or is not its own. {ask}"),
            ),
            Self::Refused(_) => (
                StatusCode::UNAUTHORIZED,
                format!("{name} has not let you in. Try again, or log in with a password."),
            ),
            Self::Foreign | Self::Used => (
                StatusCode::BAD_REQUEST,
                "This sign-in was begun in another browser, is over already, or took too long. Begin again."
                    .to_owned(),
            ),
            Self::NoName(claim) => (
                StatusCode::FORBIDDEN,
                format!("{name} does not say your user name: there is no `{claim}`. {ask}"),
            ),
            Self::Unverified(email) => (
                StatusCode::FORBIDDEN,
                format!("{name} has not verified that {email} is your address. Have it verified there first."),
            ),
            Self::BadName(user) => (
                StatusCode::FORBIDDEN,
                format!("{name} calls you {user}, which cannot be the name of a user here. Ask an admin of this server."),
            ),
            Self::NoUser(user) => (
                StatusCode::FORBIDDEN,
                format!(
                    "There is no user {user} here. An admin lets you in with: journeyman-server users sign-in {user} --role view"
                ),
            ),
            Self::NotVouched(user) => (
                StatusCode::FORBIDDEN,
                format!(
                    "The user {user} logs in with a password here. If that is you, an admin lets you in this way as well: \
                     journeyman-server users sign-in {user}"
                ),
            ),
            Self::Another(user) => (
                StatusCode::FORBIDDEN,
                format!(
                    "The user {user} is somebody else at {name}, or your account there is a new one. If you are {user}, \
                     an admin lets you in with: journeyman-server users sign-in {user}"
                ),
            ),
            Self::TooMany(seconds) => (
                StatusCode::TOO_MANY_REQUESTS,
                format!("Too many logins have failed. Try again in {seconds} s."),
            ),
            Self::Ours(_) => (
                StatusCode::INTERNAL_SERVER_ERROR,
                format!("This server could not let you in. {ask}"),
            ),
        }
    }
}
