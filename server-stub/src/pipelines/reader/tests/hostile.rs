//! Files that mean harm, or nothing.

use proptest::prelude::*;

use super::*;

fn first(text: &str) -> String {
    let reading = read_one(text);
    assert!(reading.configuration.is_none(), "{:.200}", text);
    reading.problems[0].to_string()
}

#[test]
fn a_long_text_is_not_multiplied_by_aliases() {
    let long = "x".repeat(500_000);
    let aliases = vec!["*a"; 100].join(", ");
    let text = format!("common: {{ a: &a {long}, b: [{aliases}] }}\n");
    assert!(first(&text).contains("bytes when all aliases are written out"));
}

#[test]
fn a_long_text_is_not_multiplied_by_parameters() {
    let long = "x".repeat(500_000);
    let uses = vec!["'#{a}'"; 100].join(", ");
    let text =
        format!("pipelines: {{ app: {{ parameters: {{ a: {long} }}, stages: [{uses}] }} }}\n");
    let reading = read_one(&text);
    let all: Vec<_> = reading.problems.iter().map(ToString::to_string).collect();
    let told = all.iter().filter(|one| one.contains("when all parameters"));
    assert_eq!(told.count(), 1, "{}", all.len());
}

#[test]
fn merges_are_no_way_around_the_limits() {
    let mut text = String::from("common:\n  m0: &m0 { a: 1, b: 2, c: 3 }\n");
    for level in 1..40 {
        let last = level - 1;
        text.push_str(&format!(
            "  m{level}: &m{level} {{ <<: [*m{last}, *m{last}], k{level}: [*m{last}, *m{last}] }}\n"
        ));
    }
    assert!(first(&text).contains("aliases are written out"));
    assert!(first("a: &a { <<: *a }\n").contains("alias"));
    assert!(first("pipelines: { <<: text }\n").contains("`<<` merges a map"));
}

#[test]
fn large_files_are_read_in_good_time_or_refused() {
    let many = (0..20_000)
        .map(|n| format!("  k{n}: v\n"))
        .collect::<String>();
    let reading = read_one(&format!("common:\n{many}"));
    assert!(
        reading.problems.is_empty(),
        "{:?}",
        reading.problems.first()
    );
    let materials = (0..5_000)
        .map(|n| format!("m{n}: {{ git: x }}"))
        .collect::<Vec<_>>();
    let text = format!(
        "pipelines: {{ app: {{ group: a, materials: {{ {} }}, stages: [ {{ s: {{ tasks: [ {{ script: x }} ] }} }} ] }} }}\n",
        materials.join(", ")
    );
    let problems = read_one(&text).problems;
    assert_eq!(problems.len(), 201);
    assert!(
        problems
            .iter()
            .any(|one| one.message.contains("more than 200 problems"))
    );
    let huge = format!("common: {}\n", "x".repeat(yaml::MAX_FILE_BYTES));
    assert!(first(&huge).contains("at most"));
}

#[test]
fn deep_nesting_is_refused() {
    for (open, close) in [("[", "]"), ("{a: ", "}")] {
        for depth in [101, 10_000, 100_000] {
            let text = format!("common: {}{}\n", open.repeat(depth), close.repeat(depth));
            first(&text);
        }
    }
    let mut text = String::new();
    for depth in 0..500 {
        text.push_str(&format!("{:depth$}- \n", ""));
    }
    first(&text);
}

#[test]
fn odd_documents_are_told_apart() {
    let table = [
        ("", "the file is empty"),
        ("# nothing\n", "the file is empty"),
        ("---\n", "the file is empty"),
        ("text\n", "a map is needed here, not text"),
        ("- a\n", "a map is needed here, not a list"),
        ("a: 1\na: 2\n", "`a` is given twice; first in line 1"),
        ("? [a]\n: b\n", "a key must be text"),
        ("pipelines:\n\tapp: {}\n", "ci.gocd.yaml:2:"),
        ("pipelines: []\n", "a map is needed here"),
        (
            "include: other.yaml\n",
            "only `format_version`, `pipelines`",
        ),
        ("format_version: ten\n", "`ten` is no number"),
        ("format_version: 0\n", "version 0 is not known"),
        ("pipelines: { 'a/b': {} }\n", "`a/b` is no name"),
        ("pipelines: { '': {} }\n", "`` is no name"),
        ("pipelines: { 'é': {} }\n", "`é` is no name"),
        ("pipelines: { '..': {} }\n", "`..` is no name"),
        ("pipelines: { a: }\n", "a map is needed here, not nothing"),
        (
            "environments: { e: { pipelines: ['../x'] } }\n",
            "is no name",
        ),
        ("environments: { e: { agents: [''] } }\n", "no UUID"),
    ];
    for (text, expected) in table {
        let reading = read_one(text);
        let all: Vec<_> = reading.problems.iter().map(ToString::to_string).collect();
        assert!(
            all.iter().any(|one| one.contains(expected)),
            "{text}: {all:?}"
        );
    }
}

#[test]
fn no_text_is_told_by_its_line() {
    let file = |content: &[u8]| Source::new("a".to_owned(), content.to_vec());
    assert_eq!(file("a: é".as_bytes()).unwrap().text, "a: é");
    let problem = file(b"a: 1\nbc: \xff\xfe").unwrap_err();
    assert_eq!((problem.at.line, problem.at.column), (2, 5));
    assert_eq!(problem.message, "this is no UTF-8 text");
    assert!(file(b"\xff\xfea\0").is_err());
    assert!(file(&vec![b'a'; yaml::MAX_FILE_BYTES + 1]).is_err());
}

/// Pieces of the format, so that random files get past the first line.
fn piece() -> impl Strategy<Value = String> {
    let words = [
        "pipelines",
        "environments",
        "app",
        "group",
        "materials",
        "git",
        "pipeline",
        "stage",
        "stages",
        "jobs",
        "tasks",
        "exec",
        "command",
        "arguments",
        "fetch",
        "source",
        "on_cancel",
        "run_if",
        "any",
        "approval",
        "type",
        "manual",
        "timer",
        "spec",
        "0 0 1 * * ?",
        "ignore",
        "parameters",
        "#{a}",
        "##{a}",
        "#{",
        "label_template",
        "${COUNT}",
        "${a[:7]}",
        "${",
        "artifacts",
        "build",
        "test",
        "tabs",
        "secure_variables",
        "AES:",
        "run_instances",
        "all",
        "branch",
        "a:b",
        "destination",
        "../x",
        "script",
        "rake",
        "ant",
        "plugin",
        "<<",
        "~",
        "",
        "format_version",
        "10",
    ];
    prop_oneof![
        4 => proptest::sample::select(words.to_vec()).prop_map(ToOwned::to_owned),
        1 => "[ -~é\n\t]{0,8}",
    ]
}

/// A value of YAML in flow form, quoted so that it parses.
fn value() -> impl Strategy<Value = String> {
    let quote = |text: String| format!("'{}'", text.replace('\'', "''"));
    let leaf = piece().prop_map(quote);
    leaf.prop_recursive(8, 64, 5, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5)
                .prop_map(|items| format!("[{}]", items.join(", "))),
            proptest::collection::vec((piece().prop_map(quote), inner), 0..5).prop_map(|items| {
                let entries: Vec<_> = items
                    .iter()
                    .map(|(key, value)| format!("{key}: {value}"))
                    .collect();
                format!("{{{}}}", entries.join(", "))
            }),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_text_makes_it_panic(text in any::<String>()) {
        read_one(&text);
    }

    #[test]
    fn no_lines_of_the_format_make_it_panic(pieces in proptest::collection::vec((0..6_usize, piece(), any::<bool>()), 0..40)) {
        let lines = pieces.iter().map(|(indent, text, key)| {
            let end = if *key { ":" } else { "" };
            format!("{:width$}{text}{end}\n", "", width = indent * 2)
        });
        let reading = read_one(&lines.collect::<String>());
        prop_assert_eq!(reading.configuration.is_some(), reading.problems.is_empty());
    }

    #[test]
    fn no_document_makes_it_panic(pipeline in value(), environment in value()) {
        let text = format!("pipelines: {{ app: {pipeline} }}\nenvironments: {{ e: {environment} }}\n");
        let reading = read_one(&text);
        let _ = links::check(&reading.links, &reading.configuration.map(|one| one.pipelines).unwrap_or_default(), None);
    }

    /// Whatever stands in the place of a value of a good file.
    #[test]
    fn no_value_in_a_good_file_makes_it_panic(at in any::<proptest::sample::Index>(), other in value()) {
        let places: Vec<_> = FULL.match_indices(": ").map(|(place, _)| place + 2).collect();
        let from = places[at.index(places.len())];
        let length = FULL[from..].find(['\n', ',', '}']).unwrap_or(0);
        let text = format!("{}{other}{}", &FULL[..from], &FULL[from + length..]);
        let reading = read_one(&text);
        for problem in &reading.problems {
            prop_assert!(problem.at.line >= 1 && problem.at.line <= text.lines().count() + 1);
        }
    }

    #[test]
    fn no_timer_label_filter_or_secret_makes_it_panic(text in "\\PC{0,40}", path in "\\PC{0,40}") {
        let _ = crate::pipelines::cron::Schedule::parse(&text);
        let _ = crate::pipelines::label::check(&text, &[], &[]);
        let _ = crate::pipelines::filter::matches(&text, &path);
        let _ = crate::pipelines::cipher::check_form(&text);
    }
}
