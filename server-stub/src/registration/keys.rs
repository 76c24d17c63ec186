//! The two secrets that let agents in.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::hmac;
use secrecy::{ExposeSecret as _, SecretString};
use sqlx::SqliteConnection;
use uuid::Uuid;

use crate::database::{DatabaseError, setting, store_setting};

const TOKEN_KEY: &str = "tokenGenerationKey";
const AUTO_REGISTER_KEY: &str = "autoRegisterKey";

/// What tokens are made with, and the key that enables an agent at once.
pub struct Keys {
    token: hmac::Key,
    auto_register: SecretString,
}

impl Keys {
    /// Reads the keys; makes those that are missing. A given auto-register key replaces the stored
    /// one.
    ///
    /// # Errors
    ///
    /// The database could not be read or written.
    pub async fn open(
        connection: &mut SqliteConnection,
        auto_register: Option<&SecretString>,
    ) -> Result<Self, DatabaseError> {
        let token = match setting(connection, TOKEN_KEY).await? {
            Some(key) => key,
            None => {
                let key = Uuid::new_v4().to_string();
                store_setting(connection, TOKEN_KEY, &key).await?;
                key
            }
        };
        let auto_register = match (auto_register, setting(connection, AUTO_REGISTER_KEY).await?) {
            (Some(key), _) => key.clone(),
            (None, Some(key)) => SecretString::from(key),
            (None, None) => SecretString::from(Uuid::new_v4().to_string()),
        };
        store_setting(connection, AUTO_REGISTER_KEY, auto_register.expose_secret()).await?;
        Ok(Self::new(&token, auto_register))
    }

    fn new(token: &str, auto_register: SecretString) -> Self {
        Self {
            token: hmac::Key::new(hmac::HMAC_SHA256, token.as_bytes()),
            auto_register,
        }
    }

    /// The token of an agent. It is not stored: it follows from the uuid.
    pub fn token(&self, uuid: &str) -> String {
        STANDARD.encode(hmac::sign(&self.token, uuid.as_bytes()))
    }

    /// Whether this is the token of that agent.
    pub fn is_token(&self, uuid: &str, token: &str) -> bool {
        self.same(&self.token(uuid), token)
    }

    /// Whether this is the auto-register key. An empty key never is.
    pub fn is_auto_register_key(&self, key: &str) -> bool {
        !key.is_empty() && self.same(self.auto_register.expose_secret(), key)
    }

    /// The auto-register key, for the file it is kept in.
    pub fn auto_register_key(&self) -> &SecretString {
        &self.auto_register
    }

    /// Compares digests, in constant time, so that time tells nothing about a secret.
    fn same(&self, secret: &str, given: &str) -> bool {
        let digest = hmac::sign(&self.token, secret.as_bytes());
        hmac::verify(&self.token, given.as_bytes(), digest.as_ref()).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_what_gocd_makes_of_the_uuid() {
        let keys = Keys::new(
            "11111111-2222-4333-8444-555555555555",
            SecretString::from("388b633a"),
        );
        let uuid = "6f1c6a52-7a3b-4f8e-9b6e-3d1a2c4b5e6f";
        let token = "aNb6lv+n20VbKs199TVLarvN/RoOMHFoB1E5KCoaWVw=";
        assert_eq!(keys.token(uuid), token);
        assert!(keys.is_token(uuid, token));
        assert!(!keys.is_token("another", token));
        assert!(keys.is_auto_register_key("388b633a"));
        assert!(!keys.is_auto_register_key("388b633"));
        assert!(!Keys::new("x", SecretString::from("")).is_auto_register_key(""));
    }
}
