//! Texts with a fixed form: names, paths, console lines, headers, releases.

use std::collections::HashSet;

use jiff::civil::Time;
use journeyman_protocol::{
    console::{Line, Tag, format_line, parse_line},
    extension::{parse_prefer_wait, prefer_wait},
    files::{console_path, encode_path, file_path},
    gson,
    job::JobIdentifier,
    material::{DependencyMaterial, GitMaterial, Material, UrlArgument},
    name::CaseInsensitiveString,
    release::{Component, Manifest},
    remoting::Action,
};
use pretty_assertions::assert_eq;
use proptest::prelude::*;
use serde_json::json;

#[test]
fn hash_codes_are_those_of_java() {
    for (name, hash_code) in [
        ("Libs", 3_321_486),
        ("web-src", 1_222_259_691),
        ("package", -807_062_458),
        ("Unknown", -284_840_886),
        ("", 0),
    ] {
        assert_eq!(
            CaseInsensitiveString::new(name).hash_code(),
            hash_code,
            "{name}"
        );
    }
    let names = HashSet::from(["Libs", "LIBS", "libs"].map(CaseInsensitiveString::new));
    assert_eq!(names.len(), 1);
}

#[test]
fn a_wrong_hash_code_is_corrected() {
    let name: CaseInsensitiveString = gson::from_str(r#"{"hashCode":1,"name":"Libs"}"#).unwrap();
    let document = gson::to_string(&name).unwrap();
    assert_eq!(document, r#"{"name":"Libs","hashCode":3321486}"#);
}

#[test]
fn paths_are_encoded_as_gocd_does() {
    assert_eq!(
        encode_path(r"a b+c%d?e#f[g]h&i=j:k@lé\m/n;o,p!q'r(s)*~"),
        "a%20b+c%25d%3Fe%23f%5Bg%5Dh&i=j:k@l%C3%A9%5Cm/n;o,p!q'r(s)*~"
    );
}

#[test]
fn a_job_is_located_by_counter_or_else_by_label() {
    let mut job = JobIdentifier {
        pipeline_name: "web app".to_owned(),
        pipeline_counter: 42,
        pipeline_label: "1.0#42".to_owned(),
        stage_name: "build".to_owned(),
        stage_counter: "1".to_owned(),
        build_name: "unit".to_owned(),
        ..JobIdentifier::default()
    };
    assert_eq!(job.display_locator(), "web app/1.0#42/build/1/unit");
    assert_eq!(job.locator(), "web%20app/42/build/1/unit");
    job.pipeline_counter = 0;
    assert_eq!(job.locator(), "web%20app/1.0%2342/build/1/unit");

    let root = "/remoting/files/web%20app/1.0%2342/build/1/unit/";
    assert_eq!(
        console_path(&job),
        format!("{root}cruise-output/console.log")
    );
    assert_eq!(file_path(&job, ""), root);
    assert_eq!(file_path(&job, "/a b"), format!("{root}a%20b"));
    assert_eq!(file_path(&job, "//a//b/"), format!("{root}a/b/"));
}

#[test]
fn a_line_feed_begins_a_tagged_line() {
    let ten = Time::constant(10, 0, 0, 0);
    assert_eq!(
        format_line(Tag::Prep, ten, "a\n"),
        "pr|10:00:00.000 a\npr|10:00:00.000 \n"
    );
    let time = Time::constant(22, 3, 51, 808_999_999);
    assert_eq!(
        format_line(Tag::Notice, time, "[go]"),
        "##|22:03:51.808 [go]\n"
    );
}

#[test]
fn lines_are_taken_apart_by_the_rule_of_the_servers_page() {
    let line = Line {
        tag: "&1",
        time: Time::constant(22, 3, 51, 888_000_000),
        text: " failing|x",
    };
    assert_eq!(parse_line("&1|22:03:51.888  failing|x\n"), Some(line));
    assert_eq!(
        parse_line("zz|00:00:00.000 ").map(|line| line.tag),
        Some("zz")
    );
    for untagged in [
        "",
        "plain",
        "&|22:03:51.888 x",
        "&12|22:03:51.888 x",
        "&1|22:03:51.888",
        "&1|22:03:51,888 x",
        "&1|2:03:51.888  x",
        "&1|25:03:51.888 x",
        "&1|22:03:51.88é x",
    ] {
        assert_eq!(parse_line(untagged), None, "{untagged}");
    }
}

#[test]
fn every_tag_has_its_own_two_characters() {
    let texts: HashSet<&str> = Tag::ALL.iter().map(|tag| tag.as_str()).collect();
    assert_eq!(texts.len(), Tag::ALL.len());
    for tag in Tag::ALL {
        assert_eq!(Tag::parse(tag.as_str()), Some(tag));
        assert_eq!(tag.as_str().len(), 2);
    }
    assert_eq!(Tag::parse("zz"), None);
}

#[test]
fn fingerprints_are_made_of_these_texts() {
    let git = Material::GitMaterial(GitMaterial::new("https://git.example.com/web.git", "main"));
    assert_eq!(
        git.fingerprint_text().as_deref(),
        Some("type=GitMaterial<|>url=https://git.example.com/web.git<|>branch=main")
    );
    let libs = Material::DependencyMaterial(DependencyMaterial::new("libs", "package"));
    assert_eq!(
        libs.fingerprint_text().as_deref(),
        Some("type=DependencyMaterial<|>pipelineName=libs<|>stageName=package")
    );
}

#[test]
fn urls_are_shown_without_password() {
    for (url, shown) in [
        ("http://username:password@h", "http://username:******@h"),
        ("http://username@h", "http://******@h"),
        ("http://:@h", "http://:******@h"),
        ("http://:pw@h", "http://:******@h"),
        ("http://u:p@w@h/a@b", "http://u:******@h/a@b"),
        ("ssh://user@h:8153", "ssh://user@h:8153"),
        ("ssh://user:pw@h", "ssh://user:******@h"),
        ("git@h:path", "git@h:path"),
        ("http://h/a:b@c", "http://h/a:b@c"),
    ] {
        let url = UrlArgument::from(url.to_owned());
        assert_eq!(url.for_display(), shown);
        assert_eq!(format!("{url:?}"), shown);
    }
}

#[test]
fn a_wait_is_found_among_preferences() {
    assert_eq!(parse_prefer_wait(&prefer_wait(30)), Some(30));
    assert_eq!(
        parse_prefer_wait("respond-async, Wait = \"10\"; x=y"),
        Some(10)
    );
    assert_eq!(parse_prefer_wait("waiting=1, wait=-1, wait"), None);
}

#[test]
fn actions_have_their_paths() {
    let paths: HashSet<&str> = Action::ALL.iter().map(|action| action.path()).collect();
    assert_eq!(paths.len(), 7);
    assert_eq!(Action::GetWork.path(), "/remoting/api/agent/get_work");
}

#[test]
fn a_manifest_may_say_more_than_we_know() {
    let document = json!({
        "format": 1, "component": "launcher", "version": "0.1.0", "build": 7,
        "platform": "linux-x86_64", "entryPoints": { "start": { "path": "bin/launcher" } },
        "files": [{ "path": "bin/launcher", "size": 3, "mode": 493, "sha256": "00" }],
        "later": true
    });
    let manifest: Manifest = serde_json::from_value(document).unwrap();
    assert_eq!(manifest.component, Component::Launcher);
    assert_eq!(manifest.entry_points.start.args, Vec::<String>::new());
}

#[test]
fn strings_are_escaped_for_html() {
    let text = "<a href='x'>&=\u{2028}\u{2029}\"\\\n\u{1}é";
    let document = gson::to_string(&text).unwrap();
    assert_eq!(
        document,
        r#""\u003ca href\u003d\u0027x\u0027\u003e\u0026\u003d\u2028\u2029\"\\\n\u0001é""#
    );
    assert_eq!(gson::from_str::<String>(&document).unwrap(), text);
}

proptest! {
    #[test]
    fn any_text_comes_back_from_the_console(text in "[^\n]*", millis in 0..86_400_000_i64) {
        let time = Time::midnight() + jiff::SignedDuration::from_millis(millis);
        let line = format_line(Tag::Out, time, &text);
        prop_assert_eq!(parse_line(&line), Some(Line { tag: "&1", time, text: &text }));
    }

    #[test]
    fn no_line_url_or_preference_makes_us_panic(text in any::<String>()) {
        let _ = parse_line(&text);
        let _ = parse_prefer_wait(&text);
        let _ = UrlArgument::from(text.clone()).for_display();
        let escaped = gson::to_string(&text).unwrap();
        prop_assert_eq!(gson::from_str::<String>(&escaped).unwrap(), text);
    }
}
