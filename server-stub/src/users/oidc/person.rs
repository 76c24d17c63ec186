//! From what a provider says of a person to a user of this server.

use serde_json::Value;

use super::{failure::Failure, token::Claims};
use crate::{
    App,
    answer::Refusal,
    configuration::{NewUsers, Provider},
    database::Write,
    users::{
        Grant, authentication,
        identities::{self, CreateError, Identity, Subject},
        store,
    },
};

/// The user of this server who has signed in. What is changed by that is in `write`, which is not
/// committed. Returns the stored hash of their password as well, which sessions hang on, and what
/// was changed, in words.
pub(super) async fn user(
    app: &App,
    write: &mut Write,
    provider: &Provider,
    claims: &Claims,
) -> Result<(String, String, String), Failure> {
    let text = |name: &str| claims.get(name).and_then(Value::as_str).unwrap_or_default();
    let who = Subject {
        issuer: text("iss").to_owned(),
        subject: text("sub").to_owned(),
    };
    let mut changed = vec![format!("signed in with {}", provider.name)];
    let name = match identities::user_of(write, &who).await? {
        // Whatever the provider calls them by now.
        Some(name) => name,
        None => {
            let name = name(provider, claims)?;
            match identities::of(write, &name).await? {
                Identity::Open => {}
                Identity::Bound => return Err(Failure::Another(name)),
                Identity::None
                    if authentication::password_hash_in(app, write, &name)
                        .await?
                        .is_some() =>
                {
                    return Err(Failure::NotVouched(name));
                }
                Identity::None if provider.new_users == NewUsers::Refuse => {
                    return Err(Failure::NoUser(name));
                }
                Identity::None => {
                    // Roles and tokens of somebody who was called so, and is gone, are not theirs.
                    store::remove(write, &name, &name, app.now_ms()).await?;
                    create(app, write, &name).await?;
                    changed.push("a new user".to_owned());
                }
            }
            identities::bind(write, &name, &who).await?;
            changed.push(format!("bound to the subject {}", who.subject));
            name
        }
    };
    if !provider.roles.is_empty() {
        let grants = roles(provider, claims);
        let before = store::rights(write, &name).await?;
        store::set_rights(write, &name, &grants).await?;
        if store::rights(write, &name).await? != before {
            let grants: Vec<String> = grants.iter().map(ToString::to_string).collect();
            changed.push(format!("roles: {}", grants.join(", ")));
        }
    }
    let hash = authentication::password_hash_in(app, write, &name).await?;
    // A user of the password file can be gone without a word.
    let hash = hash.ok_or_else(|| Failure::NoUser(name.clone()))?;
    Ok((name, hash, changed.join("; ")))
}

async fn create(app: &App, write: &mut Write, name: &str) -> Result<(), Failure> {
    let created = identities::create(write, name, app.now_ms()).await;
    created.map_err(|error| match error {
        CreateError::Database(error) => Failure::Ours(error.into()),
        error => Failure::Ours(Refusal::internal("make a user", &error)),
    })
}

/// What the user is called here.
fn name(provider: &Provider, claims: &Claims) -> Result<String, Failure> {
    let claim = provider.user_claim.as_str();
    let given = claims.get(claim).and_then(Value::as_str).map(str::trim);
    let given = given
        .filter(|given| !given.is_empty())
        .ok_or_else(|| Failure::NoName(claim.to_owned()))?;
    let shown = || given.chars().take(64).collect();
    // An address that anybody can claim to have is nobody's name.
    if claim == "email" && claims.get("email_verified") != Some(&Value::Bool(true)) {
        return Err(Failure::Unverified(shown()));
    }
    store::valid_name(given).map_err(|_| Failure::BadName(shown()))
}

/// The roles that the groups of somebody have.
fn roles(provider: &Provider, claims: &Claims) -> Vec<Grant> {
    let groups: Vec<&str> = match claims.get(&provider.groups_claim) {
        Some(Value::Array(groups)) => groups.iter().filter_map(Value::as_str).collect(),
        Some(Value::String(group)) => vec![group],
        _ => Vec::new(),
    };
    let given = provider.roles.iter();
    given
        .filter(|role| groups.contains(&role.group.as_str()))
        .map(|role| role.grant.clone())
        .collect()
}
