//! The report's HTML.

use std::fmt::Write as _;

use super::results::{Detail, Results, Test};

/// Names of the letters from U+00A0 to U+00FF.
const LATIN: [&str; 96] = [
    "nbsp", "iexcl", "cent", "pound", "curren", "yen", "brvbar", "sect", "uml", "copy", "ordf",
    "laquo", "not", "shy", "reg", "macr", "deg", "plusmn", "sup2", "sup3", "acute", "micro",
    "para", "middot", "cedil", "sup1", "ordm", "raquo", "frac14", "frac12", "frac34", "iquest",
    "Agrave", "Aacute", "Acirc", "Atilde", "Auml", "Aring", "AElig", "Ccedil", "Egrave", "Eacute",
    "Ecirc", "Euml", "Igrave", "Iacute", "Icirc", "Iuml", "ETH", "Ntilde", "Ograve", "Oacute",
    "Ocirc", "Otilde", "Ouml", "times", "Oslash", "Ugrave", "Uacute", "Ucirc", "Uuml", "Yacute",
    "THORN", "szlig", "agrave", "aacute", "acirc", "atilde", "auml", "aring", "aelig", "ccedil",
    "egrave", "eacute", "ecirc", "euml", "igrave", "iacute", "icirc", "iuml", "eth", "ntilde",
    "ograve", "oacute", "ocirc", "otilde", "ouml", "divide", "oslash", "ugrave", "uacute", "ucirc",
    "uuml", "yacute", "thorn", "yuml",
];

/// Names of others, by code.
const OTHERS: &[(u32, &str)] = &[
    (8194, "ensp"),
    (8195, "emsp"),
    (8201, "thinsp"),
    (8204, "zwnj"),
    (8205, "zwj"),
    (8206, "lrm"),
    (8207, "rlm"),
    (8211, "ndash"),
    (8212, "mdash"),
    (8216, "lsquo"),
    (8217, "rsquo"),
    (8218, "sbquo"),
    (8220, "ldquo"),
    (8221, "rdquo"),
    (8222, "bdquo"),
    (8224, "dagger"),
    (8225, "Dagger"),
    (8226, "bull"),
    (8230, "hellip"),
    (8240, "permil"),
    (8242, "prime"),
    (8243, "Prime"),
    (8249, "lsaquo"),
    (8250, "rsaquo"),
    (8254, "oline"),
    (8260, "frasl"),
    (8364, "euro"),
    (8465, "image"),
    (8472, "weierp"),
    (8476, "real"),
    (8482, "trade"),
    (8501, "alefsym"),
    (8592, "larr"),
    (8593, "uarr"),
    (8594, "rarr"),
    (8595, "darr"),
    (8596, "harr"),
    (8629, "crarr"),
    (8656, "lArr"),
    (8657, "uArr"),
    (8658, "rArr"),
    (8659, "dArr"),
    (8660, "hArr"),
    (8704, "forall"),
    (8706, "part"),
    (8707, "exist"),
    (8709, "empty"),
    (8711, "nabla"),
    (8712, "isin"),
    (8713, "notin"),
    (8715, "ni"),
    (8719, "prod"),
    (8721, "sum"),
    (8722, "minus"),
    (8727, "lowast"),
    (8730, "radic"),
    (8733, "prop"),
    (8734, "infin"),
    (8736, "ang"),
    (8743, "and"),
    (8744, "or"),
    (8745, "cap"),
    (8746, "cup"),
    (8747, "int"),
    (8756, "there4"),
    (8764, "sim"),
    (8773, "cong"),
    (8776, "asymp"),
    (8800, "ne"),
    (8801, "equiv"),
    (8804, "le"),
    (8805, "ge"),
    (8834, "sub"),
    (8835, "sup"),
    (8836, "nsub"),
    (8838, "sube"),
    (8839, "supe"),
    (8853, "oplus"),
    (8855, "otimes"),
    (8869, "perp"),
    (8901, "sdot"),
    (8968, "lceil"),
    (8969, "rceil"),
    (8970, "lfloor"),
    (8971, "rfloor"),
    (9001, "lang"),
    (9002, "rang"),
    (9674, "loz"),
    (9824, "spades"),
    (9827, "clubs"),
    (9829, "hearts"),
    (9830, "diams"),
];

/// The page: a table, as GoCD's pages embed it.
pub(super) fn page(results: &Results) -> String {
    let mut page = Page::default();
    page.raw("<table class=\"section-table\" cellpadding=\"2\" cellspacing=\"0\" border=\"0\" width=\"98%\">\n");
    page.raw("<div class=\"tests\">\n<p>Tests run:\n");
    // What did not run was counted with the rest.
    let run = results.run.saturating_sub(results.not_run);
    for (class, number, after) in [
        ("tests_total_count", run.to_string(), ", Failures:"),
        (
            "tests_failed_count",
            results.failed.to_string(),
            ", Not run:",
        ),
        (
            "tests_ignored_count",
            results.not_run.to_string(),
            ", Time:",
        ),
        (
            "tests_total_duration",
            seconds(results.nunit_time + results.junit_time),
            "seconds.",
        ),
    ] {
        page.raw(&format!(
            "<span class=\"{class}\">{number}</span>\n{after}\n"
        ));
    }
    page.raw("</p>\n</div>\n");
    if run == 0 {
        page.wide("section-data", "No Tests Run");
        page.wide("section-error", "This project doesn't have any tests");
    } else if results.failed == 0 {
        page.wide("section-data", "All Tests Passed");
    }
    for (kind, names) in [
        ("Error", &results.errors),
        ("Failure", &results.failures),
        ("Warning", &results.reasons),
    ] {
        for name in names {
            page.counted(kind, name);
        }
    }
    page.empty_row();
    if results.failed > 0 {
        page.header(&format!(
            "Unit Test Failure and Error Details ({})",
            results.failed
        ));
        let junit = &results.junit;
        for test in junit.iter().filter(|test| test.has_error) {
            page.junit(test);
        }
        for test in junit.iter().filter(|test| test.has_failure) {
            page.junit(test);
        }
        for test in results.nunit.iter().filter(|test| test.has_failure) {
            page.nunit(test);
        }
        page.empty_row();
    }
    if results.not_run > 0 {
        page.header(&format!("Warning Details ({})", results.not_run));
        for test in results.nunit.iter().filter(|test| test.has_reason) {
            page.nunit(test);
        }
        page.empty_row();
    }
    if results.is_cut {
        page.wide(
            "section-error",
            "There is more: this report was cut. The files with the test results have all of it.",
        );
    }
    page.raw("</table>\n");
    page.html
}

#[derive(Default)]
struct Page {
    html: String,
    /// Rows that are counted for their colours.
    rows: u64,
}

impl Page {
    fn raw(&mut self, html: &str) {
        self.html.push_str(html);
    }

    /// A row of one cell over both columns.
    fn wide(&mut self, class: &str, text: &str) {
        self.raw(&format!(
            "<tr>\n<td colspan=\"2\" class=\"{class}\">{text}</td>\n</tr>\n"
        ));
    }

    fn header(&mut self, text: &str) {
        self.raw(&format!(
            "<tr>\n<td class=\"sectionheader\" colspan=\"2\">\n{text}\n</td>\n</tr>\n"
        ));
    }

    fn empty_row(&mut self) {
        self.raw("<tr>\n<td colspan=\"2\"></td>\n</tr>\n");
    }

    /// A row of the list in front of the details; every second one has another colour.
    fn counted(&mut self, kind: &str, name: &str) {
        self.rows += 1;
        let class = if self.rows.is_multiple_of(2) {
            " class=\"section-oddrow\""
        } else {
            ""
        };
        self.raw(&format!("<tr{class}>\n"));
        self.cells(kind, name);
    }

    fn row(&mut self, label: &str, text: &str) {
        self.raw("<tr>\n");
        self.cells(label, text);
    }

    fn cells(&mut self, label: &str, text: &str) {
        self.raw(&format!(
            "<td class=\"section-data\">{label}</td><td class=\"section-data\">"
        ));
        self.text(text);
        self.raw("</td>\n</tr>\n");
    }

    fn pre(&mut self, text: &str) {
        self.raw("<tr>\n<td></td><td class=\"section-error\">\n<pre>");
        self.text(text);
        self.raw("</pre>\n</td>\n</tr>\n");
    }

    fn junit(&mut self, test: &Test) {
        self.row("Test:", &test.name);
        for (kind, detail) in [("Error", &test.error), ("Failure", &test.failure)] {
            if let Some(detail) = detail {
                self.row("Type:", kind);
                self.details(detail, true);
            }
        }
        self.empty_row();
    }

    fn nunit(&mut self, test: &Test) {
        for (kind, detail) in [("Failure", &test.failure), ("Warning", &test.reason)] {
            if let Some(detail) = detail {
                self.row("Test:", &test.name);
                self.row("Type:", kind);
                self.details(detail, kind == "Failure");
            }
        }
        self.empty_row();
    }

    fn details(&mut self, detail: &Detail, has_text: bool) {
        self.row("Message:", detail.message.as_deref().unwrap_or_default());
        if has_text {
            self.pre(detail.text.as_deref().unwrap_or_default());
        }
    }

    /// Text from outside. GoCD: letters that HTML 4 has names for get them, for the most part.
    fn text(&mut self, text: &str) {
        for c in text.chars() {
            let code = u32::from(c);
            match c {
                '&' => self.raw("&amp;"),
                '<' => self.raw("&lt;"),
                '>' => self.raw("&gt;"),
                ' '..='~' | '\n' | '\t' => self.html.push(c),
                '\u{7f}'..='\u{9f}' | '\u{10000}'.. => self.number(code),
                '\u{a0}'..='\u{ff}' => self.named(LATIN[code as usize - 0xa0]),
                _ if code < 0x20 => self.number(code),
                _ => match OTHERS.binary_search_by_key(&code, |(code, _)| *code) {
                    Ok(at) => self.named(OTHERS[at].1),
                    Err(_) => self.html.push(c),
                },
            }
        }
    }

    fn named(&mut self, name: &str) {
        // Writing to a String cannot fail.
        let _ = write!(self.html, "&{name};");
    }

    fn number(&mut self, code: u32) {
        let _ = write!(self.html, "&#{code};");
    }
}

/// Seconds with three digits behind the point, and none in front of it if they are less than one.
fn seconds(time: f64) -> String {
    if time.is_nan() {
        return "NaN".to_owned();
    }
    let text = format!("{time:.3}");
    match text.strip_prefix("0.") {
        Some(rest) => format!(".{rest}"),
        None => text.replacen("-0.", "-.", 1),
    }
}
