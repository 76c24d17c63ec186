//! Hiding secrets in what goes to the console and to the log.

mod blocks;
mod forms;
mod places;

use std::{borrow::Cow, sync::Arc};

use journeyman_protocol::{material::Material, work::BuildAssignment};

use super::environment::Environment;
use places::Finder;

/// What stands in the place of a secret.
const MASK: &str = "******";
/// Fewer characters than this are masked in the output of tasks only. In the agent's own lines
/// they would hide nothing that anybody could keep secret, and spoil paths and commands.
const SHORTEST_IN_OWN_LINES: usize = 3;

/// Texts to hide, in order. Cheap to clone.
///
/// GoCD: every occurrence of each secret is replaced, one secret after the other on the text that
/// the one before has left; no minimum length, case-sensitive, line by line. Only an empty value
/// is no secret.
///
/// Ours besides: a secret that stands there encoded (see [`forms`]) is replaced as well, and first:
/// what is left of it after another secret was cut out of its middle could be decoded.
#[derive(Clone, Default)]
pub(crate) struct Mask {
    /// `None`: nothing to hide.
    texts: Option<Arc<Texts>>,
}

struct Texts {
    /// Each text with what stands in its place.
    replacements: Vec<(String, Cow<'static, str>)>,
    finder: Finder,
}

/// All that must not be shown of a job.
#[derive(Clone, Debug, Default)]
pub(crate) struct Masks {
    /// For what tasks print: the values of secure variables.
    pub(crate) output: Mask,
    /// For what the agent says itself and what programs of source control print: these, and the
    /// credentials of materials.
    pub(crate) own: Mask,
}

impl Masks {
    pub(crate) fn of(assignment: &BuildAssignment) -> Self {
        // Which server it is makes no difference to what is secret.
        let variables = Environment::new("", &assignment.initial_context).secrets();
        let materials = assignment
            .material_revisions
            .revisions
            .iter()
            .flat_map(|revision| credentials(&revision.material));
        let own = variables
            .iter()
            .cloned()
            .chain(materials)
            .filter(|secret| secret.chars().count() >= SHORTEST_IN_OWN_LINES)
            .collect::<Vec<_>>();
        Self {
            output: Mask::new(variables),
            own: Mask::new(own),
        }
    }
}

/// The password of a material, and what is secret of the user info in its URL.
fn credentials(material: &Material) -> Vec<String> {
    let url = match material {
        Material::GitMaterial(material) => Some(&material.url),
        Material::HgMaterial(material) => Some(&material.url),
        Material::SvnMaterial(material) => Some(&material.url),
        Material::TfsMaterial(material) => Some(&material.url),
        _ => None,
    };
    let in_url = url.and_then(|url| {
        let (scheme, rest) = url.url.split_once("://")?;
        let authority = rest.split(['/', '?', '#']).next()?;
        let (info, _) = authority.rsplit_once('@')?;
        let secret = match info.split_once(':') {
            Some((_, password)) => password,
            // A lone user is a token, but for ssh.
            None if scheme.contains("ssh") => return None,
            None => info,
        };
        let decoded = percent_encoding::percent_decode_str(secret).decode_utf8_lossy();
        Some(decoded.into_owned())
    });
    let password = material.scm().and_then(|scm| scm.resolved_password());
    password
        .map(|password| password.expose().to_owned())
        .into_iter()
        .chain(in_url)
        .collect()
}

impl std::fmt::Debug for Mask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let count = self.texts.as_ref().map_or(0, |t| t.replacements.len());
        write!(f, "Mask({count} secrets)")
    }
}

impl Mask {
    /// Hides secrets in every form.
    pub(crate) fn new(secrets: impl IntoIterator<Item = String>) -> Self {
        Self::of(
            secrets.into_iter().map(|secret| (secret, MASK.into())),
            true,
        )
    }

    /// Replaces each text by its own other one, in order, and nothing else.
    pub(crate) fn replacing(
        texts: impl IntoIterator<Item = (String, impl Into<Cow<'static, str>>)>,
    ) -> Self {
        let texts = texts.into_iter().map(|(text, mask)| (text, mask.into()));
        Self::of(texts, false)
    }

    fn of(texts: impl Iterator<Item = (String, Cow<'static, str>)>, in_every_form: bool) -> Self {
        let mut replacements: Vec<(String, Cow<'static, str>)> = Vec::new();
        for pair in texts {
            // The second run of the same replacement finds nothing, unless the asterisks of
            // another one's mask can be part of it: then it must run again to give GoCD's text.
            let repeats = pair.1 == MASK && !pair.0.contains('*') && replacements.contains(&pair);
            if !pair.0.is_empty() && !repeats {
                replacements.push(pair);
            }
        }
        if replacements.is_empty() {
            return Self::default();
        }
        let finder = Finder::new(replacements.iter().map(|(text, _)| &**text), in_every_form);
        Self {
            texts: Some(Arc::new(Texts {
                replacements,
                finder,
            })),
        }
    }

    /// Length in bytes of the longest text that is hidden, in its longest form; 0 without any.
    pub(crate) fn longest(&self) -> usize {
        self.texts
            .as_ref()
            .map_or(0, |texts| texts.finder.longest())
    }

    /// A quick look at many lines at once. False: none holds a secret as it is or in base64.
    pub(crate) fn may_hold(&self, text: &[u8]) -> bool {
        let texts = self.texts.as_ref();
        texts.is_some_and(|texts| texts.finder.may_hold(text))
    }

    /// A quick look at a text or many lines. False: nothing in them is encoded for a URL.
    pub(crate) fn is_coded(&self, text: &[u8]) -> bool {
        let texts = self.texts.as_ref();
        texts.is_some_and(|texts| texts.finder.is_coded(text))
    }

    /// The text with each secret replaced.
    pub(crate) fn apply<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let Some(texts) = &self.texts else {
            return Cow::Borrowed(text);
        };
        let found = texts.finder.find(text);
        // A text without any secret is left alone by every replacement: the first one changes
        // nothing, so the second one sees the original text, and so on.
        if !found.as_they_are && found.encoded.is_empty() {
            return Cow::Borrowed(text);
        }
        let mut masked = Cow::Borrowed(text);
        if !found.encoded.is_empty() {
            let mut shown = String::with_capacity(text.len());
            let mut at = 0;
            for place in found.encoded {
                shown.push_str(&text[at..place.start]);
                shown.push_str(MASK);
                at = place.end;
            }
            shown.push_str(&text[at..]);
            masked = Cow::Owned(shown);
        }
        for (secret, mask) in &texts.replacements {
            if masked.contains(secret.as_str()) {
                masked = Cow::Owned(masked.replace(secret.as_str(), mask));
            }
        }
        masked
    }
}

#[cfg(test)]
mod tests {
    use base64::{
        Engine as _,
        engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
    };
    use journeyman_protocol::{
        environment::EnvironmentVariable,
        material::GitMaterial,
        revision::{MaterialRevision, MaterialRevisions},
        secret::Secret,
    };
    use pretty_assertions::assert_eq;
    use proptest::prelude::*;

    use super::*;

    fn mask(secrets: &[&str]) -> Mask {
        Mask::new(secrets.iter().map(|s| (*s).to_owned()))
    }

    #[test]
    fn masks_as_gocd_does() {
        let table: &[(&[&str], &str, &str)] = &[
            (&["s"], "secrets", "******ecret******"),
            (&["i am a secret"], "foo(i am a secret)", "foo(******)"),
            (&[""], "text", "text"),
            (&["abc", "abcdef"], "abcdef", "******def"),
            (&["abcdef", "abc"], "abcdef abc", "****** ******"),
            (&["x", "*"], "x", "************************************"),
            (&["Secret"], "secret", "secret"),
            (&["a\nb"], "a", "a"),
            (
                &["a secret of many more than 32 bytes"],
                "a secret of many more than 32 bytes!",
                "******!",
            ),
            (
                &["a secret of many more than 32 bytes"],
                "a secret of many more than 32 byte",
                "a secret of many more than 32 byte",
            ),
        ];
        for (secrets, input, expected) in table {
            assert_eq!(mask(secrets).apply(input), *expected, "{secrets:?}");
        }
    }

    #[test]
    fn encoded_secrets_are_masked() {
        let table: &[(&[&str], &str, &str)] = &[
            // `printf %s "$S" | base64`, and with a line feed behind it.
            (&["topsecret99"], "<dG9wc2VjcmV0OTk=>", "<******>"),
            (&["topsecret99"], "dG9wc2VjcmV0OTkK", "******K"),
            (&["pass"], "cGFzcw==", "******"),
            (&["passw"], "cGFzc3cK", "******"),
            // As a part of something longer.
            (
                &["topsecret99"],
                "Basic Ym9iOnRvcHNlY3JldDk5 x",
                "Basic Ym9iO****** x",
            ),
            // Characters 62 and 63 in both alphabets.
            (&["a?>~~~?>"], "YT8+fn5+Pz4= YT8-fn5-Pz4", "****** ******"),
            // Encoded for URLs, by whatever rule.
            (&["p@ss:w/rd"], "u:p%40ss%3Aw%2Frd@h", "u:******@h"),
            (
                &["p@ss:w/rd"],
                "p%40ss%3aw/rd p%40ss:w%2frd",
                "****** ******",
            ),
            (&["two words"], "two+words two%20words", "****** ******"),
            (&["grüße"], "gr%C3%BC%c3%9fe", "******"),
            (&["100% sure"], "100%25+sure 100%25%20sure", "****** ******"),
            // Base64, encoded for URLs.
            (&["a?>~~~?>"], "?x=YT8%2Bfn5%2BPz4%3D&y=1", "?x=******&y=1"),
            // The encoded form first, and whole.
            (&["Y", "topsecret99"], "dG9wc2VjcmV0OTk=Y", "************"),
            // One secret is the other's encoded form: GoCD's text.
            (
                &["topsecret99", "dG9wc2VjcmV0OTk="],
                "dG9wc2VjcmV0OTk=dG9wc2VjcmV0OTk=",
                "************",
            ),
            // Too short to be told from chance.
            (&["abc"], "YWJj", "YWJj"),
            (&["a b"], "a+b", "******"),
            (&["@ "], "%40+", "%40+"),
            // No escapes.
            (&["two words"], "100% two %zz words", "100% two %zz words"),
        ];
        for (secrets, input, expected) in table {
            let mask = mask(secrets);
            assert_eq!(mask.apply(input), *expected, "{secrets:?} in {input}");
            let bytes = input.as_bytes();
            assert!(input == expected || mask.may_hold(bytes) || mask.is_coded(bytes));
        }
    }

    #[test]
    fn long_secrets_are_found_in_lines_as_base64_breaks_them() {
        let secret: String = ('!'..='~').cycle().take(300).collect();
        let mask = mask(&[&secret]);
        let encoded = STANDARD.encode(format!("{secret}\n"));
        for width in [76, 64] {
            for line in encoded.as_bytes().chunks(width) {
                let line = std::str::from_utf8(line).unwrap();
                assert_eq!(mask.apply(line), MASK, "{line}");
            }
        }
    }

    #[test]
    fn own_lines_hide_what_materials_log_in_with_but_not_very_short_secrets() {
        let git = |url: &str, password: Option<&str>| {
            let mut git = GitMaterial::new(url, "main");
            git.scm.password = password.map(Secret::from);
            MaterialRevision {
                material: Material::GitMaterial(git),
                modifications: Vec::new(),
                changed: false,
            }
        };
        let mut assignment = BuildAssignment::default();
        for (name, value) in [("A", "s"), ("B", "hunter2")] {
            let variable = EnvironmentVariable::secure(name, value);
            assignment.initial_context.push(variable);
        }
        assignment.material_revisions = MaterialRevisions {
            revisions: vec![
                git("http://bot:pass%40word@h/x", None),
                git("https://ghp_token@h/x", None),
                git("ssh://git@h/x", None),
                git("http://h/x", Some("other")),
            ],
        };
        let masks = Masks::of(&assignment);
        assert_eq!(
            masks
                .own
                .apply("s hunter2 pass@word pass%40word ghp_token git other"),
            "s ****** ****** ****** ****** git ******"
        );
        assert_eq!(
            masks.output.apply("yes hunter2 other"),
            "ye****** ****** other"
        );
    }

    #[test]
    fn debug_shows_no_secret() {
        assert_eq!(format!("{:?}", mask(&["hunter2"])), "Mask(1 secrets)");
    }

    proptest! {
        #[test]
        fn same_as_one_replacement_after_the_other(
            secrets in prop::collection::vec("[ab*]{0,3}", 0..5),
            text in "[abc*]{0,12}",
        ) {
            let mut expected = text.clone();
            for secret in &secrets {
                if !secret.is_empty() {
                    expected = expected.replace(secret.as_str(), MASK);
                }
            }
            prop_assert_eq!(Mask::new(secrets).apply(&text).into_owned(), expected);
        }

        #[test]
        fn no_text_brings_it_down_and_no_whole_form_stays(
            secret in "\\PC{4,40}",
            before in "\\PC{0,20}",
            after in "\\PC{0,20}",
            other in "\\PC{0,4}",
        ) {
            let mask = mask(&[&other, &secret]);
            let joined = format!("{before}{secret}{after}");
            for form in [
                STANDARD.encode(&secret),
                URL_SAFE_NO_PAD.encode(&joined),
                percent_encoding::utf8_percent_encode(&joined, percent_encoding::NON_ALPHANUMERIC).to_string(),
            ] {
                let shown = mask.apply(&form).into_owned();
                // Another secret may have been cut out of the mask itself.
                prop_assert!(shown.contains('*') || form.len() < 8 || secret.len() < 7, "{} {}", form, shown);
            }
            let _ = mask.apply(&format!("%{secret}%%4{joined}+%f"));
        }
    }
}
