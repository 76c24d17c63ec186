//! What differs from run to run, replaced as it was in what is recorded.

use std::sync::LazyLock;

use regex::{Captures, Regex};
use serde_json::Value;

use super::{
    agent::UUID,
    case::{Places, map_strings},
    recorder::COOKIE,
};

static ANY_UUID: LazyLock<Regex> =
    LazyLock::new(|| pattern("(?i)[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"));
static TIME: LazyLock<Regex> = LazyLock::new(|| pattern(r"^([^|]{2})\|\d\d:\d\d:\d\d\.\d{3} "));
/// GoCD: `yyyy-MM-dd HH:mm:ss z`.
static DATE: LazyLock<Regex> = LazyLock::new(|| {
    pattern(r"^(##\|<T> \[go\] Job Started: )\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [A-Z+0-9:-]+$")
});
static MILLIS: LazyLock<Regex> = LazyLock::new(|| pattern(r"(Task status: \w+) \(\d+ ms\)"));
static AFTER_MILLIS: LazyLock<Regex> = LazyLock::new(|| pattern(r"\bafter \d+ ms\b"));
static PAUSE: LazyLock<Regex> = LazyLock::new(|| pattern(r"\bPausing \d+ seconds\b"));
/// GoCD: the end of a Perforce client's name is a digest of its folder's path.
static P4_CLIENT: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"\bcruise-(\$\{HOST\}-[^\s/]+)-[0-9A-Za-z]{20,27}\b"));
static BOUNDARY: LazyLock<Regex> = LazyLock::new(|| pattern(r"boundary=.*$"));

/// Members of `agentRuntimeInfo` that belong to the machine, with what stands for them.
const OF_THE_MACHINE: &[(&str, &str)] = &[
    ("usableSpace", "<n>"),
    ("operatingSystemName", "<os>"),
    ("agentBootstrapperVersion", "<version>"),
    ("agentVersion", "<version>"),
];

/// The replacements of one run.
pub(super) struct Normaliser {
    places: Places,
    /// The agent's host name and the server's port, standing alone, with what stands for them.
    words: Vec<(Regex, &'static str)>,
}

impl Normaliser {
    /// `host` is the agent's host name, if it told one, and `recorded` the text of what was
    /// recorded. Where that has the same word, it is a word and not this machine's name: then the
    /// name is replaced only where it cannot be anything else.
    pub(super) fn new(places: &Places, host: Option<&str>, recorded: &str) -> Self {
        let (_, port) = places.hostport.rsplit_once(':').unwrap_or_default();
        let mut words = Vec::new();
        if let Some(host) = host {
            let name = regex::escape(host);
            let word = pattern(&format!(r"\b{name}\b"));
            words.push(match word.is_match(recorded) {
                false => (word, "$${HOST}"),
                true => (
                    pattern(&format!(r"^(){name}()$|( on ){name}( \[)")),
                    "$1$3$${HOST}$2$4",
                ),
            });
        }
        let word = pattern(&format!(r"\b{port}\b"));
        if !word.is_match(recorded) {
            words.push((word, "$${PORT}"));
        }
        Self {
            places: places.clone(),
            words,
        }
    }

    /// Any text: places and identities.
    pub(super) fn text(&self, text: &str) -> String {
        let mut text = text
            .replace(&self.places.sandbox, "${SANDBOX}")
            .replace(&self.places.server_url(), "${SERVER}")
            .replace(&self.places.hostport, "${HOSTPORT}");
        for (word, stands_for) in &self.words {
            text = word.replace_all(&text, *stands_for).into_owned();
        }
        let text = ANY_UUID.replace_all(&text, |found: &Captures<'_>| {
            match found[0].to_lowercase().as_str() {
                UUID => "${UUID}",
                COOKIE => "${COOKIE}",
                _ => "<uuid>",
            }
        });
        text.into_owned()
    }

    /// A line of the console.
    pub(super) fn line(&self, line: &str) -> String {
        let line = self.text(line);
        let line = TIME.replace(&line, "$1|<T> ");
        let line = DATE.replace(&line, "$1<date>");
        let line = MILLIS.replace_all(&line, "$1 (<ms> ms)");
        let line = AFTER_MILLIS.replace_all(&line, "after <ms> ms");
        let line = PAUSE.replace_all(&line, "Pausing <n> seconds");
        without_digests(&line)
    }

    /// The body of a remoting call.
    pub(super) fn body(&self, mut body: Value) -> Value {
        map_strings(&mut body, &|text| self.text(text));
        let Some(info) = body.get_mut("agentRuntimeInfo") else {
            return body;
        };
        for (name, stands_for) in OF_THE_MACHINE {
            if let Some(value) = info.get_mut(name) {
                *value = Value::from(*stands_for);
            }
        }
        if let Some(address) = info.pointer_mut("/identifier/ipAddress") {
            *address = Value::from("<ip>");
        }
        body
    }

    /// The value of the header of this name (in lower case).
    pub(super) fn header(&self, name: &str, value: &str) -> String {
        match name {
            "authorization" => "<present>".to_owned(),
            _ => {
                let value = self.text(value);
                BOUNDARY.replace(&value, "boundary=<boundary>").into_owned()
            }
        }
    }
}

/// A line whose names do not depend on the path of the sandbox: what was recorded has them as they
/// were there.
pub(super) fn without_digests(line: &str) -> String {
    P4_CLIENT
        .replace_all(line, "cruise-$1-<digest>")
        .into_owned()
}

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("a pattern of this file, with escaped names in it")
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;
    use serde_json::json;

    use super::*;

    fn normaliser() -> Normaliser {
        normaliser_of("nothing")
    }

    fn normaliser_of(recorded: &str) -> Normaliser {
        let places = Places {
            sandbox: "/tmp/jm-1".to_owned(),
            hostport: "127.0.0.1:4711".to_owned(),
        };
        Normaliser::new(&places, Some("build-7"), recorded)
    }

    #[test]
    fn places_and_identities_are_replaced() {
        for (text, expected) in [
            ("in /tmp/jm-1/agent", "in ${SANDBOX}/agent"),
            ("http://127.0.0.1:4711/go/x", "${SERVER}/x"),
            ("http://127.0.0.1:4711/git", "http://${HOSTPORT}/git"),
            (
                "port 4711 or 47110 or build-70",
                "port ${PORT} or 47110 or build-70",
            ),
            ("on build-7 [x]", "on ${HOST} [x]"),
            (UUID, "${UUID}"),
            (COOKIE, "${COOKIE}"),
            (
                "cruise-01234567-89AB-cdef-0123-456789abcdef",
                "cruise-<uuid>",
            ),
        ] {
            assert_eq!(normaliser().text(text), expected);
        }
    }

    #[test]
    fn words_of_the_job_stay() {
        let normaliser = normaliser_of("runs build-7 at 4711");
        for (text, expected) in [
            ("runs build-7 at 4711", "runs build-7 at 4711"),
            ("x on build-7 [${SANDBOX}]", "x on ${HOST} [${SANDBOX}]"),
            ("build-7", "${HOST}"),
        ] {
            assert_eq!(normaliser.text(text), expected);
        }
    }

    #[test]
    fn lines_lose_their_times_but_only_in_gocds_form() {
        for (line, expected) in [
            ("&1|10:11:12.345 x", "&1|<T> x"),
            ("&1|10:11:12 x", "&1|10:11:12 x"),
            (
                "##|10:11:12.345 [go] Job Started: 2026-08-01 10:11:12 UTC",
                "##|<T> [go] Job Started: <date>",
            ),
            (
                "##|10:11:12.345 [go] Job Started: 1 August",
                "##|<T> [go] Job Started: 1 August",
            ),
            (
                "?1|10:11:12.345 [go] Task status: failed (17 ms) (exit code: 7)",
                "?1|<T> [go] Task status: failed (<ms> ms) (exit code: 7)",
            ),
            (
                "Failed to connect after 3 ms: x",
                "Failed to connect after <ms> ms: x",
            ),
            (
                "Pausing 17 seconds to retry",
                "Pausing <n> seconds to retry",
            ),
        ] {
            assert_eq!(normaliser().line(line), expected);
        }
    }

    #[test]
    fn a_digest_of_a_path_is_not_compared() {
        for recorded in [
            "cruise-${HOST}-web-0aZ3456789012345678901234-",
            "cruise-${HOST}-web-<digest>",
        ] {
            let expected = recorded.replace("0aZ3456789012345678901234", "<digest>");
            assert_eq!(without_digests(recorded), expected);
        }
        assert_eq!(
            without_digests("cruise-output/console.log"),
            "cruise-output/console.log"
        );
    }

    #[test]
    fn what_belongs_to_the_machine_is_replaced_in_bodies() {
        let body = json!({ "agentRuntimeInfo": {
            "usableSpace": 1, "agentVersion": "2", "location": "/tmp/jm-1/agent",
            "identifier": { "ipAddress": "10.0.0.1", "hostName": "build-7" }
        }});
        let expected = json!({ "agentRuntimeInfo": {
            "usableSpace": "<n>", "agentVersion": "<version>", "location": "${SANDBOX}/agent",
            "identifier": { "ipAddress": "<ip>", "hostName": "${HOST}" }
        }});
        assert_eq!(normaliser().body(body), expected);
    }
}
