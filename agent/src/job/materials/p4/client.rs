//! The client (Perforce's word for a workspace) of a checkout.

use std::{path::Path, sync::LazyLock};

use base64::{Engine, prelude::BASE64_STANDARD};
use regex::{Captures, Regex};
use sha1::{Digest, Sha1};

/// The name of the client that a folder belongs to: the same at each job, another one for each
/// folder and machine. `dir` is absolute.
pub(in crate::job::materials) fn name(host_name: &str, dir: &Path) -> String {
    let text = dir.to_string_lossy();
    let folder = text.rsplit('/').next().unwrap_or_default();
    let digest = Sha1::digest(dir.as_os_str().as_encoded_bytes());
    let digest: String = BASE64_STANDARD
        .encode(digest)
        .chars()
        .filter(|c| c.is_ascii_alphanumeric())
        .collect();
    format!("cruise-{host_name}-{folder}-{digest}")
}

/// What `p4 client -i` reads.
pub(super) fn spec(name: &str, dir: &Path, view: &str) -> String {
    format!(
        "Client: {name}\n\nRoot: {}\n\nOptions: clobber rmdir\n\nLineEnd: local\n\nView:\n{}",
        dir.display(),
        view_for(name, view)
    )
}

/// A depot path, white space, and the path of the client with the client's name in it.
#[expect(clippy::unwrap_used, reason = "the test below compiles it")]
static MAPPING: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r#"(?R)//(.+?)[ \t\n\x0B\f\r]+("?)//(.+?)/(.+)"#).unwrap());

/// The start of a mapping with the white space before it.
#[expect(clippy::unwrap_used, reason = "the test below compiles it")]
static START: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r#"(?R)[ \t\n\x0B\f\r]*("?[+\-]?//.+?//)"#).unwrap());

/// The view with the client's real name in each mapping, one to a line.
fn view_for(name: &str, view: &str) -> String {
    let renamed = MAPPING.replace_all(view, |found: &Captures<'_>| {
        format!("//{} {}//{name}/{}", &found[1], &found[2], &found[4])
    });
    START.replace_all(&renamed, "\n\t$1").into_owned()
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    #[test]
    fn names_are_gocds() {
        // The digest is `printf /srv/agent/pipelines/web/code | sha1sum | xxd -r -p | base64`.
        assert_eq!(
            name("build-07", Path::new("/srv/agent/pipelines/web/code")),
            "cruise-build-07-code-jzm19tagerGxjgeLUfzUAHaeEQ"
        );
    }

    #[test]
    fn mappings_go_to_this_client_one_to_a_line() {
        let table = [
            ("//depot/... //something/...", "\n\t//depot/... //C/..."),
            (
                "//SZOPT/... //MDYNYCMDCDEV03/SZOPT/...",
                "\n\t//SZOPT/... //C/SZOPT/...",
            ),
            (
                "\n    //depot/a/... //cws/...\n//foo/b/...   //cws/foo2/...\r\n\t\t//d/r/... //cws/x/...",
                "\n\t//depot/a/... //C/...\n\t//foo/b/... //C/foo2/...\n\t//d/r/... //C/x/...",
            ),
            (
                "//d/1/... //cws/...\n-//d/1/x/... //cws/x/...\n+//d/1/y/... //cws/y/...",
                "\n\t//d/1/... //C/...\n\t-//d/1/x/... //C/x/...\n\t+//d/1/y/... //C/y/...",
            ),
            (
                "//d/%1.%2 //cws/d/%2.%1\n\"-//d/with spaces/...\" \"//cws/with spaces/...\"\n\n",
                "\n\t//d/%1.%2 //C/d/%2.%1\n\t\"-//d/with spaces/...\" \"//C/with spaces/...\"\n\n",
            ),
        ];
        for (view, expected) in table {
            assert_eq!(view_for("C", view), expected, "{view}");
        }
    }

    #[test]
    fn the_spec_is_what_p4_reads() {
        assert_eq!(
            spec("C", Path::new("/w"), "//depot/... //x/..."),
            "Client: C\n\nRoot: /w\n\nOptions: clobber rmdir\n\nLineEnd: local\n\nView:\n\
             \n\t//depot/... //C/..."
        );
    }
}
