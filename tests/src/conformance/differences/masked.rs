//! Secrets that GoCD's agent shows and ours does not.

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde_json::Value;

use super::{Pattern, kind::variables};

const MASK: &str = "******";
/// Characters beside a secret in base64 that have some of its bits.
const BESIDE: usize = 4;

/// Lines in which ours hides secrets that are in the recorded ones.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Masked {
    /// Recorded lines like this.
    lines: Pattern,
    forms: Vec<Form>,
    /// Secrets with fewer characters stay.
    #[serde(default)]
    shortest: usize,
}

/// How a secret stands in a line.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Form {
    /// As it is.
    Plain,
    /// In base64 or encoded for a URL.
    Encoded,
}

/// What must not be shown of a job.
#[derive(Default)]
pub(super) struct Secrets(Vec<String>);

impl Secrets {
    /// Values of secure variables, resolved secret parameters and passwords of materials, also of
    /// those in URLs.
    pub(super) fn of(work: &Value) -> Self {
        let mut secrets = Vec::new();
        let mut add = |value: &Value| secrets.extend(value.as_str().map(str::to_owned));
        for variable in variables(work) {
            if variable["secure"] == true {
                add(&variable["value"]);
            }
            for parameter in variable["secretParams"].as_array().into_iter().flatten() {
                add(&parameter["value"]);
            }
        }
        let revisions = work.pointer("/assignment/materialRevisions/revisions");
        for revision in revisions.and_then(Value::as_array).into_iter().flatten() {
            let material = &revision["material"];
            add(&material["password"]);
            let url = material["url"].as_str().or(material["url"]["url"].as_str());
            let info =
                url.and_then(|url| url.split_once("://")?.1.split('/').next()?.rsplit_once('@'));
            if let Some((_, password)) = info.and_then(|(info, _)| info.split_once(':')) {
                add(&password.into());
                add(&percent_decode_str(password).decode_utf8_lossy().into());
            }
        }
        secrets.retain(|secret| !secret.is_empty());
        Self(secrets)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Masked {
    /// Whether ours is the recorded line with nothing but secrets hidden.
    pub(super) fn fits(&self, secrets: &Secrets, recorded: &str, ours: &str) -> bool {
        let secrets = Secrets(
            secrets
                .0
                .iter()
                .filter(|secret| secret.chars().count() >= self.shortest)
                .cloned()
                .collect(),
        );
        recorded != ours && self.lines.is_match(recorded) && self.hides(&secrets, recorded, ours)
    }

    /// Walks through both texts: what is not the same must be a mask over a secret.
    fn hides(&self, secrets: &Secrets, recorded: &str, ours: &str) -> bool {
        let same = recorded
            .bytes()
            .zip(ours.bytes())
            .take_while(|(one, other)| one == other)
            .count();
        if same == recorded.len() && same == ours.len() {
            return true;
        }
        // A mask in ours begins where they part, or before: a secret may begin with asterisks.
        (0..=same).rev().any(|at| {
            let Some(behind) = ours.get(at..).and_then(|rest| rest.strip_prefix(MASK)) else {
                return false;
            };
            let Some(rest) = recorded.get(at..) else {
                return false;
            };
            let ends = rest.char_indices().map(|(at, c)| at + c.len_utf8());
            ends.into_iter().any(|end| {
                self.is_secret(secrets, &rest[..end]) && self.hides(secrets, &rest[end..], behind)
            })
        })
    }

    fn is_secret(&self, secrets: &Secrets, text: &str) -> bool {
        secrets.0.iter().any(|secret| {
            self.forms.iter().any(|form| match form {
                Form::Plain => secret == text,
                Form::Encoded => is_for_url(secret, text) || is_base64(secret, text),
            })
        })
    }
}

fn is_for_url(secret: &str, text: &str) -> bool {
    let same = |text: &str| percent_decode_str(text).decode_utf8_lossy() == secret;
    text != secret && (same(text) || same(&text.replace('+', " ")))
}

/// Whether the text is what this secret makes of base64, wherever it stood in what was encoded.
fn is_base64(secret: &str, text: &str) -> bool {
    let text = text.replace('-', "+").replace('_', "/");
    (0..3).any(|shift| {
        let before = [0; 3];
        let encoded = STANDARD_NO_PAD.encode([&before[..shift], secret.as_bytes()].concat());
        let from = (8 * shift).div_ceil(6);
        let to = 8 * (shift + secret.len()) / 6;
        let core = encoded.get(from..to).filter(|core| !core.is_empty());
        core.is_some_and(|core| text.contains(core) && text.len() <= core.len() + BESIDE)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fits(form: &str, shortest: usize, recorded: &str, ours: &str) -> bool {
        let masked = json!({ "lines": "!!.*", "forms": [form], "shortest": shortest });
        let masked: Masked = serde_json::from_value(masked).unwrap();
        let secrets = Secrets(vec![
            "topsecret".to_owned(),
            "p w".to_owned(),
            "s".to_owned(),
        ]);
        masked.fits(&secrets, recorded, ours)
    }

    #[test]
    fn only_secrets_may_be_hidden() {
        assert!(fits(
            "plain",
            3,
            "!! a topsecret, topsecret",
            "!! a ******, ******"
        ));
        assert!(fits("plain", 3, "!! topsecretp w", "!! ************"));
        assert!(!fits("plain", 3, "!! a topsecret!", "!! a ******"));
        assert!(!fits("plain", 3, "!! a word", "!! a ******"));
        assert!(!fits("plain", 3, "!! topsecret x", "!! ****** y"));
        // Too short, and in lines of another kind.
        assert!(!fits("plain", 3, "!! s", "!! ******"));
        assert!(fits("plain", 1, "!! s", "!! ******"));
        assert!(!fits("plain", 3, "&1 topsecret", "&1 ******"));
    }

    #[test]
    fn encoded_secrets_may_be_hidden() {
        for encoded in [
            "dG9wc2VjcmV0",
            "dG9wc2VjcmV0Cg==",
            "p%20w",
            "p+w",
            "top%73ecret",
        ] {
            assert!(
                fits("encoded", 3, &format!("!! {encoded}"), "!! ******"),
                "{encoded}"
            );
        }
        assert!(!fits("encoded", 3, "!! topsecret", "!! ******"));
        assert!(!fits(
            "encoded",
            3,
            "!! dG9wc2VjcmV0IGFuZCBtb3Jl",
            "!! ******"
        ));
    }
}
