//! What an ID token must be before anything in it is believed.

use jsonwebtoken::{
    DecodingKey, Validation, decode, decode_header,
    errors::{Error, ErrorKind},
    jwk::Jwk,
};
use serde_json::{Map, Value};

use super::signature;
use crate::users::secret;

/// Seconds by which the clocks of two machines may differ.
const SKEW: i64 = 60;

/// What a provider says of a person.
pub(super) type Claims = Map<String, Value>;

/// What a token is held against.
pub(super) struct Expected<'a> {
    pub(super) issuer: &'a str,
    pub(super) client_id: &'a str,
    pub(super) nonce: &'a str,
    /// Milliseconds since the Unix epoch.
    pub(super) now: i64,
}

/// Why a token is not believed.
#[derive(Debug, thiserror::Error)]
pub(super) enum TokenError {
    #[error("the ID token cannot be read")]
    Unreadable(#[source] Error),
    #[error("the ID token is signed with a key ({0}) that the provider does not publish")]
    NoKey(String),
    #[error("the ID token's signature is wrong")]
    Signature(#[source] Error),
    #[error("the ID token is for another client than {0}")]
    Audience(String),
    #[error("the ID token is of another issuer than {0}")]
    Issuer(String),
    #[error("the ID token belongs to another login: its nonce is another")]
    Nonce,
    #[error(
        "the ID token is valid from {from} until {until}, and this server's clock says {now} (seconds since 1970)"
    )]
    Time { from: i64, until: i64, now: i64 },
    #[error("the ID token has no `{0}`")]
    Missing(&'static str),
}

/// Verifies signature and claims. `keys` are those that the provider publishes.
pub(super) fn verified(
    token: &str,
    keys: &[Value],
    expected: &Expected<'_>,
) -> Result<Claims, TokenError> {
    signature::install();
    let header = decode_header(token).map_err(TokenError::Unreadable)?;
    let mut rules = Validation::new(header.alg);
    // Time is asked of our own clock, below.
    rules.validate_exp = false;
    rules.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
    rules.set_issuer(&[expected.issuer]);
    rules.set_audience(&[expected.client_id]);
    let usable = keys.iter().filter_map(|key| {
        let key: Jwk = serde_json::from_value(key.clone()).ok()?;
        if header.kid.is_some() && key.common.key_id != header.kid {
            return None;
        }
        let key = DecodingKey::from_jwk(&key).ok()?;
        (key.family() == header.alg.family()).then_some(key)
    });
    let mut claims = None;
    for key in usable {
        let decoded = decode::<Claims>(token, &key, &rules);
        let is_wrong_key =
            matches!(&decoded, Err(error) if *error.kind() == ErrorKind::InvalidSignature);
        claims = Some(decoded);
        if !is_wrong_key {
            break;
        }
    }
    let Some(claims) = claims else {
        let name = header.kid.unwrap_or_else(|| "without a name".to_owned());
        return Err(TokenError::NoKey(name.chars().take(100).collect()));
    };
    let claims = claims.map_err(|error| refused(error, expected))?.claims;
    check(&claims, expected)?;
    Ok(claims)
}

fn refused(error: Error, expected: &Expected<'_>) -> TokenError {
    match error.kind() {
        ErrorKind::InvalidAudience => TokenError::Audience(expected.client_id.to_owned()),
        ErrorKind::InvalidIssuer => TokenError::Issuer(expected.issuer.to_owned()),
        ErrorKind::InvalidSignature => TokenError::Signature(error),
        _ => TokenError::Unreadable(error),
    }
}

fn check(claims: &Claims, expected: &Expected<'_>) -> Result<(), TokenError> {
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    // Whoever the token was made for, of several it is for.
    let several = claims["aud"].as_array().is_some_and(|all| all.len() > 1);
    match text("azp") {
        Some(party) if party != expected.client_id => {
            return Err(TokenError::Audience(expected.client_id.to_owned()));
        }
        None if several => return Err(TokenError::Missing("azp")),
        _ => {}
    }
    if text("sub").is_none_or(str::is_empty) {
        return Err(TokenError::Missing("sub"));
    }
    let nonce = text("nonce").ok_or(TokenError::Missing("nonce"))?;
    if !secret::same(nonce, expected.nonce) {
        return Err(TokenError::Nonce);
    }
    // Some providers write seconds with a fraction.
    let seconds = |name: &'static str| {
        let given = claims.get(name).and_then(Value::as_f64);
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a cast of f64 to i64 saturates"
        )]
        given.map(|seconds| seconds as i64)
    };
    let until = seconds("exp").ok_or(TokenError::Missing("exp"))?;
    let made = seconds("iat").ok_or(TokenError::Missing("iat"))?;
    let from = seconds("nbf").map_or(made, |not_before| not_before.max(made));
    let now = expected.now.div_euclid(1000);
    if now >= until.saturating_add(SKEW) || now < from.saturating_sub(SKEW) {
        return Err(TokenError::Time { from, until, now });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    use openssl::{ec, hash::MessageDigest, nid::Nid, pkey, rsa, sign::Signer};
    use pretty_assertions::assert_eq;
    use serde_json::json;

    use super::*;

    const NOW: i64 = 2_000_000_000;

    struct Keys {
        private: pkey::PKey<pkey::Private>,
        published: Vec<Value>,
    }

    fn encode(bytes: &[u8]) -> String {
        URL_SAFE_NO_PAD.encode(bytes)
    }

    fn keys() -> Keys {
        let key = rsa::Rsa::generate(2048).unwrap();
        let published = json!({
            "kty": "RSA", "kid": "one", "use": "sig", "alg": "RS256",
            "n": encode(&key.n().to_vec()), "e": encode(&key.e().to_vec()),
        });
        Keys {
            private: pkey::PKey::from_rsa(key).unwrap(),
            // A provider may have keys of kinds that nobody here knows.
            published: vec![json!({ "kty": "new" }), published],
        }
    }

    fn claims() -> Value {
        json!({
            "iss": "https://idp.example", "aud": "journeyman", "sub": "7", "nonce": "n",
            "iat": NOW, "exp": NOW + 300, "preferred_username": "ann",
        })
    }

    fn signed(keys: &Keys, header: &Value, claims: &Value) -> String {
        let text = format!(
            "{}.{}",
            encode(header.to_string().as_bytes()),
            encode(claims.to_string().as_bytes())
        );
        let mut signer = Signer::new(MessageDigest::sha256(), &keys.private).unwrap();
        let signature = signer.sign_oneshot_to_vec(text.as_bytes()).unwrap();
        format!("{text}.{}", encode(&signature))
    }

    fn verify(token: &str, keys: &[Value], now: i64) -> Result<Claims, TokenError> {
        let expected = Expected {
            issuer: "https://idp.example",
            client_id: "journeyman",
            nonce: "n",
            now: now * 1000,
        };
        verified(token, keys, &expected)
    }

    #[test]
    fn only_a_token_of_this_provider_for_this_client_and_login_is_believed() {
        let keys = keys();
        let header = json!({ "alg": "RS256", "kid": "one" });
        let good = signed(&keys, &header, &claims());
        let found = verify(&good, &keys.published, NOW).unwrap();
        assert_eq!(found["preferred_username"], "ann");
        let unnamed = signed(&keys, &json!({ "alg": "RS256" }), &claims());
        assert!(verify(&unnamed, &keys.published, NOW).is_ok());

        type Judge = fn(&TokenError) -> bool;
        let table: [(&str, Value, Judge); 11] = [
            ("aud", json!("another"), |e| {
                matches!(e, TokenError::Audience(_))
            }),
            ("aud", json!(["a", "journeyman"]), |e| {
                matches!(e, TokenError::Missing("azp"))
            }),
            ("azp", json!("another"), |e| {
                matches!(e, TokenError::Audience(_))
            }),
            ("iss", json!("https://evil.example"), |e| {
                matches!(e, TokenError::Issuer(_))
            }),
            ("nonce", json!("m"), |e| matches!(e, TokenError::Nonce)),
            ("nonce", Value::Null, |e| {
                matches!(e, TokenError::Missing("nonce"))
            }),
            ("exp", json!(NOW - 61), |e| {
                matches!(e, TokenError::Time { .. })
            }),
            ("iat", json!(NOW + 61), |e| {
                matches!(e, TokenError::Time { .. })
            }),
            ("nbf", json!(NOW + 61), |e| {
                matches!(e, TokenError::Time { .. })
            }),
            ("exp", json!("soon"), |_| true),
            ("sub", json!(""), |e| {
                matches!(e, TokenError::Missing("sub"))
            }),
        ];
        for (name, value, is_expected) in table {
            let mut claims = claims();
            claims[name] = value.clone();
            let error = verify(&signed(&keys, &header, &claims), &keys.published, NOW).unwrap_err();
            assert!(is_expected(&error), "{name} {value}: {error:?}");
        }
        // Clocks differ by a little.
        for now in [NOW - 60, NOW + 359] {
            assert!(verify(&good, &keys.published, now).is_ok(), "{now}");
        }
    }

    #[test]
    fn a_signature_of_anybody_else_is_none() {
        let (ours, others) = (keys(), keys());
        let header = json!({ "alg": "RS256", "kid": "one" });
        let error = verify(&signed(&others, &header, &claims()), &ours.published, NOW);
        assert!(matches!(error, Err(TokenError::Signature(_))), "{error:?}");
        let error = verify(
            &signed(&ours, &json!({ "alg": "RS256", "kid": "two" }), &claims()),
            &ours.published,
            NOW,
        );
        assert!(matches!(error, Err(TokenError::NoKey(_))), "{error:?}");
        // Without a signature, with one by a shared secret, and changed afterwards.
        let good = signed(&ours, &header, &claims());
        let mut parts: Vec<&str> = good.split('.').collect();
        let none = encode(json!({ "alg": "none" }).to_string().as_bytes());
        let shared = signed(&ours, &json!({ "alg": "HS256", "kid": "one" }), &claims());
        assert!(verify(&format!("{none}.{}.", parts[1]), &ours.published, NOW).is_err());
        assert!(verify(&shared, &ours.published, NOW).is_err());
        let symmetric = [json!({ "kty": "oct", "kid": "one", "k": encode(b"a secret") })];
        assert!(verify(&shared, &symmetric, NOW).is_err());
        let mut changed = claims();
        changed["preferred_username"] = json!("admin");
        let changed = encode(changed.to_string().as_bytes());
        parts[1] = &changed;
        assert!(verify(&parts.join("."), &ours.published, NOW).is_err());
        for text in ["", "a.b", "a.b.c", "...."] {
            assert!(verify(text, &ours.published, NOW).is_err(), "{text}");
        }
    }

    #[test]
    fn keys_on_curves_count_as_well() {
        let group = ec::EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
        let key = ec::EcKey::generate(&group).unwrap();
        let mut context = openssl::bn::BigNumContext::new().unwrap();
        let form = ec::PointConversionForm::UNCOMPRESSED;
        let point = key
            .public_key()
            .to_bytes(&group, form, &mut context)
            .unwrap();
        let published = [json!({
            "kty": "EC", "crv": "P-256", "kid": "one", "x": encode(&point[1..33]), "y": encode(&point[33..]),
        })];
        let text = format!(
            "{}.{}",
            encode(br#"{"alg":"ES256","kid":"one"}"#),
            encode(claims().to_string().as_bytes())
        );
        let private = pkey::PKey::from_ec_key(key).unwrap();
        let mut signer = Signer::new(MessageDigest::sha256(), &private).unwrap();
        let der = signer.sign_oneshot_to_vec(text.as_bytes()).unwrap();
        let both = openssl::ecdsa::EcdsaSig::from_der(&der).unwrap();
        let mut signature = both.r().to_vec_padded(32).unwrap();
        signature.extend(both.s().to_vec_padded(32).unwrap());
        let token = format!("{text}.{}", encode(&signature));
        assert!(verify(&token, &published, NOW).is_ok());
    }
}
