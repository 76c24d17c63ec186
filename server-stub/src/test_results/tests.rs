use pretty_assertions::assert_eq;

use super::*;

fn read_texts(texts: &[&str]) -> Results {
    let folder = tempfile::tempdir().unwrap();
    let mut names = Vec::new();
    for (number, text) in texts.iter().enumerate() {
        let name = format!("{number}.xml");
        std::fs::write(folder.path().join(&name), text).unwrap();
        names.push(name);
    }
    read(folder.path(), names)
}

fn shown(results: &Results) -> Vec<(Outcome, &str, &str, &str, &str)> {
    let tests = results.tests.iter();
    tests
        .map(|one| {
            let Test {
                suite,
                name,
                message,
                text,
                outcome,
                ..
            } = one;
            (
                *outcome,
                suite.as_str(),
                name.as_str(),
                message.as_str(),
                text.as_str(),
            )
        })
        .collect()
}

#[test]
fn junit_with_failures_first() {
    let results = read_texts(&[
        "<?xml version='1.0'?><testsuites><testsuite name='all'><properties/>\
        <testcase name='good' time='1.5'><system-out>failure</system-out></testcase>\
        <testcase name='later'><skipped message='not today'/></testcase>\
        <testcase classname='a.B' name='bad' time='0.25'><failure message='one &lt; two' type='T'>\
          at &#x61;.B <![CDATA[<here>]]></failure></testcase>\
        <testcase name='worse'><error>broken</error></testcase>\
        </testsuite></testsuites>",
    ]);
    use Outcome::{Failed, Passed, Skipped};
    let expected = [
        (Failed, "a.B", "bad", "one < two", "at a.B <here>"),
        (Failed, "all", "worse", "", "broken"),
        (Skipped, "all", "later", "not today", ""),
        (Passed, "all", "good", "", ""),
    ];
    assert_eq!(shown(&results), expected);
    assert_eq!((results.passed, results.failed, results.skipped), (1, 2, 1));
    assert!((results.seconds - 1.75).abs() < 1e-9 && results.files == 1 && !results.cut);
}

#[test]
fn nunit_of_both_versions() {
    let results = read_texts(&[
        "<test-results name='r'><test-suite name='S'><results>\
         <test-case name='S.ok' executed='True' success='True' time='0.1'/>\
         <test-case name='S.bad' executed='True' success='False' result='Failure'>\
         <failure><message><![CDATA[expected 1]]></message><stack-trace>at S</stack-trace></failure></test-case>\
         <test-case name='S.off' executed='False'><reason><message>off</message></reason></test-case>\
         </results></test-suite></test-results>",
        "<test-run><test-suite fullname='N.T' name='T'><test-case name='ok' fullname='N.T.ok' result='Passed' duration='2'/>\
         <test-case name='bad' result='Failed'><failure><message>no</message><stack-trace>at T</stack-trace></failure></test-case>\
         <test-case name='off' result='Skipped'/></test-suite></test-run>",
    ]);
    use Outcome::{Failed, Passed, Skipped};
    let expected = [
        (Failed, "S", "S.bad", "expected 1", "at S"),
        (Failed, "N.T", "bad", "no", "at T"),
        (Skipped, "S", "S.off", "off", ""),
        (Skipped, "N.T", "off", "", ""),
        (Passed, "S", "S.ok", "", ""),
        (Passed, "N.T", "ok", "", ""),
    ];
    assert_eq!(shown(&results), expected);
}

#[test]
fn hostile_files_are_told_of_and_others_are_read() {
    let deep = format!("<testsuite>{}", "<a>".repeat(10_000));
    let bomb = "<!DOCTYPE t [<!ENTITY a 'aaaaaaaaaa'><!ENTITY b '&a;&a;&a;&a;'>]>\
                <testsuite><testcase name='x'><failure>&b;</failure></testcase></testsuite>";
    let file = "<!DOCTYPE t [<!ENTITY f SYSTEM 'file:///etc/passwd'>]>\
                <testsuite><testcase name='x'><failure>&f;</failure></testcase></testsuite>";
    let attribute = "<!DOCTYPE t [<!ENTITY b 'x'>]><testsuite><testcase name='&b;'/></testsuite>";
    let many = format!("<testsuite>{}</testsuite>", "<testcase/>".repeat(200_001));
    let hostile = [
        deep.as_str(),
        bomb,
        file,
        attribute,
        many.as_str(),
        "<testsuite>",
        "<testsuite></testcase>",
        "not XML at all",
        "",
        "<testsuite><testcase name='\u{0}'",
        "</testsuite>",
    ];
    let results = read_texts(&hostile);
    assert_eq!(
        results.problems.len(),
        hostile.len(),
        "{:?}",
        results.problems
    );
    assert_eq!(results.count(), 0);
    assert!(
        results.problems[1]
            .1
            .contains("the entity `b` is not expanded")
    );
    assert!(results.problems[2].1.contains("not expanded"));
    let others = ["<html/>", "<testsuite name='empty'/>", bomb];
    let results = read_texts(&others);
    assert_eq!((results.files, results.problems.len()), (1, 1));
}

#[test]
fn much_is_counted_and_cut() {
    let passed = "<testcase name='p'/>".repeat(3 * MOST_TESTS);
    let long = "x".repeat(LONGEST_TEXT + 100);
    let text = format!(
        "<testsuite>{passed}<testcase name='f'><failure>{long}</failure></testcase></testsuite>"
    );
    let results = read_texts(&[&text]);
    assert_eq!((results.passed, results.failed), (3 * MOST_TESTS as u64, 1));
    assert_eq!((results.tests.len(), results.cut), (MOST_TESTS, true));
    assert_eq!(
        (results.tests[0].name.as_str(), results.tests[0].text.len()),
        ("f", LONGEST_TEXT)
    );
    let missing = read(Path::new("/nonexistent"), ["a.xml".to_owned()]);
    assert!(missing.problems[0].1.contains("cannot open"));
}
