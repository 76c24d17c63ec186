use pretty_assertions::assert_eq;

use super::*;

/// The visible text of the page for files with these contents, with the names of those ignored.
fn visible(contents: &[&str]) -> (String, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let mut files = Vec::new();
    for (n, content) in contents.iter().enumerate() {
        let file = folder.path().join(format!("{n}.xml"));
        fs::write(&file, content).unwrap();
        files.push(file);
    }
    let mut ignored = Vec::new();
    let html = make(&files, |name| ignored.push(name.to_owned())).unwrap();
    let mut text = String::new();
    let mut is_tag = false;
    for c in html.chars() {
        match c {
            '<' => is_tag = true,
            '>' => {
                is_tag = false;
                text.push(' ');
            }
            c if !is_tag => text.push(c),
            _ => {}
        }
    }
    (
        text.split_whitespace().collect::<Vec<_>>().join(" "),
        ignored,
    )
}

/// What GoCD's own style sheet gave for these files on a JVM, tags and white space taken out.
#[test]
fn the_text_is_that_of_gocds_style_sheet() {
    for (xml, expected) in [
        (
            "<testsuite name=\"e\"/>",
            "Tests run: 0 , Failures: 0 , Not run: 0 , Time: .000 seconds. No Tests Run This \
             project doesn't have any tests",
        ),
        (
            "<?xml version=\"1.0\"?><testsuite><testcase name=\"1\" time=\" 1234.5675 \"/>\
             <testcase name=\"2\" time=\".0005\"/><testcase name=\"3\" time=\"-5000\"/></testsuite>",
            "Tests run: 3 , Failures: 0 , Not run: 0 , Time: -3765.432 seconds. All Tests Passed",
        ),
        (
            "<testsuite><testcase name=\"1\" time=\"1,234.5\"/></testsuite>",
            "Tests run: 1 , Failures: 0 , Not run: 0 , Time: NaN seconds. All Tests Passed",
        ),
        (
            // Results in a namespace make the file one of results, and count for nothing.
            "<testsuite xmlns=\"http://x\"><testcase name=\"x\" time=\"1\"><failure>q</failure>\
             </testcase></testsuite>",
            "Tests run: 0 , Failures: 0 , Not run: 0 , Time: .000 seconds. No Tests Run This \
             project doesn't have any tests",
        ),
        (
            "<testsuites><testsuite><testcase name=\"ok\" time=\"0.123\"/><testcase name=\"bad &amp; \
             &quot;worse&quot; 'é € 😀 nbsp:&#160;' &lt;x&gt;\" time=\"0.3\"><failure \
             message=\"expected &lt;1&gt; but&#10;was 2\" type=\"A\">trace &lt;here&gt;\n at a.b(c:1) \
             \"q\" — “x” α ∑ </failure></testcase><testcase name=\"skip\" time=\"0.033\"><skipped/>\
             </testcase><testcase name=\"both\" time=\"1\"><error message=\"boom\">E1<![CDATA[<cd>&]]>\
             </error><failure>F1</failure></testcase><testcase name=\"twoerr\" time=\"1\">\
             <error>first</error><error message=\"second\">2</error></testcase><testcase \
             name=\"deep\"><system-out><error>inner</error></system-out></testcase></testsuite>\
             </testsuites>",
            "Tests run: 6 , Failures: 5 , Not run: 0 , Time: 2.456 seconds. Error both Error twoerr \
             Error twoerr Failure bad &amp; \"worse\" '&eacute; &euro; &#128512; nbsp:&nbsp;' \
             &lt;x&gt; Failure both Unit Test Failure and Error Details (5) Test: both Type: Error \
             Message: boom E1&lt;cd&gt;&amp; Type: Failure Message: F1 Test: twoerr Type: Error \
             Message: second first Test: deep Test: bad &amp; \"worse\" '&eacute; &euro; &#128512; \
             nbsp:&nbsp;' &lt;x&gt; Type: Failure Message: expected &lt;1&gt; but was 2 trace \
             &lt;here&gt; at a.b(c:1) \"q\" &mdash; &ldquo;x&rdquo; α &sum; Test: both Type: Error \
             Message: boom E1&lt;cd&gt;&amp; Type: Failure Message: F1",
        ),
        (
            "<test-results name=\"n\"><test-suite time=\"2.5\"><results><test-suite time=\"1.5\">\
             <results><test-case name=\"N.ok\" time=\"0.1\"/><test-case name=\"N.bad\"><failure>\
             <message><![CDATA[msg <1>]]></message><stack-trace>st\n line2</stack-trace></failure>\
             </test-case><test-case name=\"N.skip\"><reason><message>because</message></reason>\
             </test-case><test-case name=\"N.both\"><failure><message>m</message></failure><reason>\
             <message>r</message></reason></test-case></results></test-suite></results></test-suite>\
             <test-suite name=\"second\" time=\"9\"/></test-results>",
            "Tests run: 2 , Failures: 2 , Not run: 2 , Time: 2.500 seconds. Failure N.bad Failure \
             N.both Warning N.skip Warning N.both Unit Test Failure and Error Details (2) Test: N.bad \
             Type: Failure Message: msg &lt;1&gt; st line2 Test: N.both Type: Failure Message: m \
             Test: N.both Type: Warning Message: r Warning Details (2) Test: N.skip Type: Warning \
             Message: because Test: N.both Type: Failure Message: m Test: N.both Type: Warning \
             Message: r",
        ),
    ] {
        let (text, ignored) = visible(&[xml]);
        assert_eq!(text, expected);
        assert_eq!(ignored, Vec::<String>::new());
    }
}

#[test]
fn files_that_are_no_results_are_ignored_as_a_whole() {
    let result = "<testsuite><testcase name=\"x\" time=\"1\"/></testsuite>";
    let deep = format!("<testsuite>{}", "<a>".repeat(5000));
    let bomb = "<!DOCTYPE a [<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;&a;\">]><testsuite><testcase \
                name=\"&b;\"><failure>&b;</failure></testcase></testsuite>";
    let (text, ignored) = visible(&[
        "",
        "<other/>",
        "<testsuite><testcase name=\"x\"><failure/></testcase>",
        "<testsuite></testsuit>",
        &format!("{result}{result}"),
        "text <testsuite/>",
        &deep,
        bomb,
        result,
    ]);
    assert_eq!(
        text,
        "Tests run: 1 , Failures: 0 , Not run: 0 , Time: 1.000 seconds. All Tests Passed"
    );
    let names: Vec<String> = (0..8).map(|n| format!("{n}.xml")).collect();
    assert_eq!(ignored, names);
}

#[test]
fn other_encodings_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("latin.xml");
    let mut xml =
        b"<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?><testsuite><testcase name=\"caf".to_vec();
    xml.extend(b"\xe9\"><failure/></testcase></testsuite>");
    fs::write(&file, xml).unwrap();
    let html = make(&[file], |name| panic!("{name}")).unwrap();
    assert!(html.contains("caf&eacute;"), "{html}");
}

#[test]
fn a_report_has_a_limit_and_says_so() {
    let text = "x".repeat(100_000);
    let case =
        format!("<testcase name=\"n\"><failure message=\"{text}\">{text}</failure></testcase>");
    let xml = format!("<testsuite>{}</testsuite>", case.repeat(100));
    let (text, _) = visible(&[&xml]);
    assert!(text.len() < 9 * 1024 * 1024, "{}", text.len());
    assert!(text.contains("Failures: 100 ,"));
    assert!(text.contains("this report was cut"));
}

#[test]
fn folders_are_searched_for_xml_files_only() {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in [
        ("a.xml", "<testsuite><testcase/></testsuite>"),
        ("sub/b.xml", "<testsuite><testcase/></testsuite>"),
        ("sub/c.txt", "<testsuite><testcase/></testsuite>"),
        ("sub/D.XML", "<testsuite><testcase/></testsuite>"),
        ("sub/no.xml", "no"),
    ] {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    std::os::unix::fs::symlink("..", folder.path().join("sub/loop")).unwrap();
    let mut ignored = Vec::new();
    let html = make(&[folder.path().to_owned()], |name| {
        ignored.push(name.to_owned())
    })
    .unwrap();
    assert!(html.contains("tests_total_count\">2<"), "{html}");
    assert_eq!(ignored, ["no.xml"]);
}
