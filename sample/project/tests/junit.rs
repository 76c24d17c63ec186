//! The tests, with a harness of their own that writes `target/reports/TEST-tally.xml` in JUnit's
//! format. It does what Rust's harness does otherwise: each test is a function that panics.

use std::fmt::Write;
use std::panic::{self, UnwindSafe};
use std::process::ExitCode;
use std::time::Instant;
use std::{fs, io};

use tally::{tally, words};

const TESTS: &[(&str, fn())] = &[
    ("empty_text_has_no_words", empty_text_has_no_words),
    ("case_does_not_matter", case_does_not_matter),
    ("punctuation_separates", punctuation_separates),
    (
        "apostrophes_stay_inside_words",
        apostrophes_stay_inside_words,
    ),
    ("letters_of_any_script_count", letters_of_any_script_count),
    ("most_frequent_comes_first", most_frequent_comes_first),
    (
        "equal_counts_are_alphabetical",
        equal_counts_are_alphabetical,
    ),
];

fn empty_text_has_no_words() {
    assert_eq!(tally(" ,;. \n"), []);
}

fn case_does_not_matter() {
    assert_eq!(tally("The the THE"), [("the".into(), 3)]);
}

fn punctuation_separates() {
    let found: Vec<_> = words("stop,go;stop--go").collect();
    assert_eq!(found, ["stop", "go", "stop", "go"]);
}

fn apostrophes_stay_inside_words() {
    let found: Vec<_> = words("'don't' 'quote'").collect();
    assert_eq!(found, ["don't", "quote"]);
}

fn letters_of_any_script_count() {
    assert_eq!(tally("Été, été"), [("été".into(), 2)]);
}

fn most_frequent_comes_first() {
    assert_eq!(tally("b a b c b a")[0], ("b".into(), 3));
}

fn equal_counts_are_alphabetical() {
    let found: Vec<_> = tally("c b a").into_iter().map(|(word, _)| word).collect();
    assert_eq!(found, ["a", "b", "c"]);
}

fn main() -> ExitCode {
    let mut cases = String::new();
    let mut failures = 0;
    let suite = Instant::now();
    for (name, test) in TESTS {
        let start = Instant::now();
        let problem = run(test);
        let seconds = start.elapsed().as_secs_f64();
        println!(
            "test {name} ... {}",
            if problem.is_none() { "ok" } else { "FAILED" }
        );
        let _ = write!(
            cases,
            "  <testcase classname=\"tally\" name=\"{name}\" time=\"{seconds:.6}\""
        );
        match problem {
            None => cases.push_str("/>\n"),
            Some(text) => {
                failures += 1;
                let _ = writeln!(
                    cases,
                    "><failure message=\"{}\"/></testcase>",
                    escape(&text)
                );
            }
        }
    }
    let report = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuite name=\"tally\" tests=\"{}\" failures=\"{failures}\" errors=\"0\" skipped=\"0\" time=\"{:.6}\">\n{cases}</testsuite>\n",
        TESTS.len(),
        suite.elapsed().as_secs_f64(),
    );
    if let Err(error) = write_report(&report) {
        eprintln!("cannot write target/reports/TEST-tally.xml: {error}");
        return ExitCode::FAILURE;
    }
    println!("{} tests, {failures} failed", TESTS.len());
    if failures == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// What the test panicked with, if it did.
fn run(test: impl FnOnce() + UnwindSafe) -> Option<String> {
    let payload = panic::catch_unwind(test).err()?;
    let text = payload.downcast_ref::<String>().cloned();
    Some(
        text.or_else(|| payload.downcast_ref::<&str>().map(|s| s.to_string()))
            .unwrap_or_default(),
    )
}

fn write_report(report: &str) -> io::Result<()> {
    fs::create_dir_all("target/reports")?;
    fs::write("target/reports/TEST-tally.xml", report)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('"', "&quot;")
        .replace('\n', "&#10;")
}
