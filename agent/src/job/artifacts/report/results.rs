//! What the style sheet of GoCD's report picks from test results of JUnit and NUnit.

use std::io::BufRead;

use quick_xml::{
    NsReader, XmlVersion,
    escape::resolve_predefined_entity,
    events::{BytesStart, Event},
    name::ResolveResult,
};

/// Bytes of names, messages and texts that a report holds at most. What is more is counted, but
/// not shown.
const LARGEST: usize = 8 * 1024 * 1024;
/// Deeper than this no test tool nests its results.
const DEEPEST: usize = 1000;

/// All results of a job.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Results {
    pub(super) run: u64,
    pub(super) failed: u64,
    pub(super) not_run: u64,
    /// Seconds.
    pub(super) junit_time: f64,
    pub(super) nunit_time: f64,
    /// Names of the tests of each kind, once per error, failure and reason.
    pub(super) errors: Vec<String>,
    pub(super) failures: Vec<String>,
    pub(super) reasons: Vec<String>,
    pub(super) junit: Vec<Test>,
    pub(super) nunit: Vec<Test>,
    /// Bytes that are held.
    size: usize,
    pub(super) is_cut: bool,
}

/// A test that did not simply pass.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Test {
    pub(super) name: String,
    /// Whether there is such an element anywhere inside.
    pub(super) has_error: bool,
    pub(super) has_failure: bool,
    pub(super) has_reason: bool,
    /// Where such an element is directly inside.
    pub(super) error: Option<Detail>,
    pub(super) failure: Option<Detail>,
    pub(super) reason: Option<Detail>,
}

/// What a test says about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Detail {
    pub(super) message: Option<String>,
    pub(super) text: Option<String>,
}

/// The elements that mean something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Element {
    JunitSuite,
    JunitCase,
    NunitResults,
    NunitSuite,
    /// Between suites and cases.
    Results,
    NunitCase,
    Error,
    Failure,
    Reason,
    Message,
    StackTrace,
    Other,
}

/// An element that is open.
struct Open {
    element: Element,
    /// Whether this is results whose first suite has been seen.
    has_suite: bool,
}

/// A test that is open.
struct OpenTest {
    test: Test,
    /// How many elements are open around what is directly inside it.
    depth: usize,
    is_junit: bool,
    /// NUnit: whether it belongs to a `test-results` and so counts.
    counts: bool,
}

/// A text that is being read.
struct Capture {
    /// It ends when so many elements are open again.
    depth: usize,
    test: usize,
    of: Element,
    is_message: bool,
    text: String,
}

/// One file as far as it has been read.
#[derive(Default)]
struct Reading {
    results: Results,
    /// Whether there was an element that makes the file one of test results.
    is_recognised: bool,
    open: Vec<Open>,
    tests: Vec<OpenTest>,
    captures: Vec<Capture>,
    roots: u32,
}

impl Results {
    /// Adds all results of a file, or none: the text says why.
    pub(super) fn read(&mut self, input: impl BufRead) -> Result<(), String> {
        let mut reading = Reading {
            results: Self {
                size: self.size,
                is_cut: self.is_cut,
                ..Self::default()
            },
            ..Reading::default()
        };
        reading.read(input)?;
        let new = reading.results;
        self.run += new.run;
        self.failed += new.failed;
        self.not_run += new.not_run;
        self.junit_time += new.junit_time;
        self.nunit_time += new.nunit_time;
        self.errors.extend(new.errors);
        self.failures.extend(new.failures);
        self.reasons.extend(new.reasons);
        self.junit.extend(new.junit);
        self.nunit.extend(new.nunit);
        self.size = new.size;
        self.is_cut = new.is_cut;
        Ok(())
    }

    /// Keeps a test, without what it says if there is no room for that.
    fn keep_test(&mut self, list: fn(&mut Self) -> &mut Vec<Test>, mut test: Test) {
        let mut size = test.size();
        if self.size + size > LARGEST {
            self.is_cut = true;
            for detail in [&mut test.error, &mut test.failure, &mut test.reason] {
                *detail = detail.take().map(|_| Detail::default());
            }
            size = test.size();
        }
        if self.size + size <= LARGEST {
            self.size += size;
            list(self).push(test);
        }
    }

    fn keep_name(&mut self, list: fn(&mut Self) -> &mut Vec<String>, name: &str) {
        // An entry costs something even if the name is empty.
        let size = name.len() + size_of::<String>();
        if self.size + size > LARGEST {
            self.is_cut = true;
        } else {
            self.size += size;
            list(self).push(name.to_owned());
        }
    }
}

impl Reading {
    fn read(&mut self, input: impl BufRead) -> Result<(), String> {
        let mut reader = NsReader::from_reader(input);
        let mut buffer = Vec::new();
        loop {
            buffer.clear();
            let (namespace, event) = reader
                .read_resolved_event_into(&mut buffer)
                .map_err(|error| error.to_string())?;
            let is_plain = matches!(namespace, ResolveResult::Unbound);
            match event {
                Event::Start(tag) => self.start(&tag, is_plain, &reader)?,
                Event::Empty(tag) => {
                    self.start(&tag, is_plain, &reader)?;
                    self.end();
                }
                Event::End(_) => self.end(),
                Event::Text(text) => {
                    self.text(&text.decode().map_err(|error| error.to_string())?)?
                }
                Event::CData(text) => {
                    self.text(&text.decode().map_err(|error| error.to_string())?)?;
                }
                Event::GeneralRef(entity) => {
                    let letter = match entity
                        .resolve_char_ref()
                        .map_err(|error| error.to_string())?
                    {
                        Some(letter) => letter.to_string(),
                        None => {
                            let name = entity.decode().map_err(|error| error.to_string())?;
                            // No others: they could grow without limit.
                            resolve_predefined_entity(&name)
                                .ok_or_else(|| format!("the entity {name} is not known"))?
                                .to_owned()
                        }
                    };
                    self.text(&letter)?;
                }
                Event::Decl(_) | Event::PI(_) | Event::Comment(_) | Event::DocType(_) => {}
                Event::Eof => break,
            }
        }
        if !self.open.is_empty() || self.roots != 1 {
            return Err("the document is not whole".to_owned());
        }
        if !self.is_recognised {
            return Err("it has neither a testsuite nor test-results".to_owned());
        }
        Ok(())
    }

    fn start<R>(
        &mut self,
        tag: &BytesStart<'_>,
        is_plain: bool,
        reader: &NsReader<R>,
    ) -> Result<(), String> {
        let name = tag.name();
        // GoCD looks whether a file is one of test results without regard to namespaces, and for
        // results with.
        self.is_recognised |= matches!(name.as_ref(), b"testsuite" | b"test-results");
        let element = if is_plain {
            Element::of(name.as_ref())
        } else {
            Element::Other
        };
        let attributes = Attributes::read(tag, reader)?;
        if self.open.len() >= DEEPEST {
            return Err(format!("it is nested more than {DEEPEST} deep"));
        }
        if self.open.is_empty() {
            self.roots += 1;
        }
        self.count(element, &attributes);
        self.note(element, &attributes);
        self.open.push(Open {
            element,
            has_suite: false,
        });
        Ok(())
    }

    /// Counts tests and time.
    fn count(&mut self, element: Element, attributes: &Attributes) {
        let above = |steps: usize| {
            let at = self.open.len().checked_sub(steps)?;
            self.open.get(at).map(|open| open.element)
        };
        let depth = self.open.len() + 1;
        match element {
            Element::JunitCase if above(1) == Some(Element::JunitSuite) => {
                self.results.run += 1;
                self.results.junit_time += attributes.time();
                self.begin(attributes, depth, true, true);
            }
            Element::NunitCase
                if above(1) == Some(Element::Results) && above(2) == Some(Element::NunitSuite) =>
            {
                let suite = self.open.len() - 2;
                let counts = self.open[..suite]
                    .iter()
                    .any(|open| open.element == Element::NunitResults);
                self.results.run += u64::from(counts);
                self.begin(attributes, depth, false, counts);
            }
            Element::NunitSuite => {
                if let Some(parent) = self.open.last_mut()
                    && parent.element == Element::NunitResults
                    && !std::mem::replace(&mut parent.has_suite, true)
                {
                    self.results.nunit_time += attributes.time();
                }
            }
            _ => {}
        }
    }

    fn begin(&mut self, attributes: &Attributes, depth: usize, is_junit: bool, counts: bool) {
        self.tests.push(OpenTest {
            test: Test {
                name: attributes.name.clone().unwrap_or_default(),
                ..Test::default()
            },
            depth,
            is_junit,
            counts,
        });
    }

    /// Notes what an element says about the tests it is in.
    fn note(&mut self, element: Element, attributes: &Attributes) {
        let depth = self.open.len();
        for open in &mut self.tests {
            if open.depth > depth {
                continue;
            }
            match element {
                Element::Error => open.test.has_error = true,
                Element::Failure => open.test.has_failure = true,
                Element::Reason => open.test.has_reason = true,
                _ => {}
            }
        }
        let Some(test) = self.tests.len().checked_sub(1) else {
            return;
        };
        let open = &mut self.tests[test];
        if open.depth == depth {
            self.note_direct(test, element, attributes);
            return;
        }
        // NUnit has message and stack trace as elements, at any depth below.
        let Some(of) = self.open.get(open.depth).map(|child| child.element) else {
            return;
        };
        if open.is_junit || open.depth > depth {
            return;
        }
        let Some(detail) = open.test.detail(of) else {
            return;
        };
        let is_first = match element {
            Element::Message => detail.message.is_none(),
            Element::StackTrace => detail.text.is_none(),
            _ => false,
        };
        if is_first {
            self.capture(test, of, element == Element::Message);
        }
    }

    /// Notes an element directly inside a test.
    fn note_direct(&mut self, test: usize, element: Element, attributes: &Attributes) {
        let open = &mut self.tests[test];
        let (is_junit, counts) = (open.is_junit, open.counts);
        let is_one = match element {
            Element::Error => is_junit,
            Element::Failure => true,
            Element::Reason => !is_junit,
            _ => false,
        };
        if !is_one {
            return;
        }
        let name = open.test.name.clone();
        let Some(detail) = open.test.make_detail(element) else {
            return;
        };
        let mut is_first = false;
        if is_junit {
            is_first = detail.text.is_none();
            if detail.message.is_none() {
                detail.message.clone_from(&attributes.message);
            }
        }
        if is_first {
            self.capture(test, element, false);
        }
        if !counts {
            return;
        }
        match element {
            Element::Error => {
                self.results.failed += 1;
                self.results.keep_name(|results| &mut results.errors, &name);
            }
            Element::Failure => {
                self.results.failed += 1;
                self.results
                    .keep_name(|results| &mut results.failures, &name);
            }
            _ => {
                self.results.not_run += 1;
                self.results
                    .keep_name(|results| &mut results.reasons, &name);
            }
        }
    }

    fn capture(&mut self, test: usize, of: Element, is_message: bool) {
        if let Some(detail) = self.tests[test].test.detail(of) {
            // Only the first of its kind is shown.
            let place = if is_message {
                &mut detail.message
            } else {
                &mut detail.text
            };
            *place = Some(String::new());
        }
        self.captures.push(Capture {
            depth: self.open.len(),
            test,
            of,
            is_message,
            text: String::new(),
        });
    }

    fn text(&mut self, text: &str) -> Result<(), String> {
        if self.open.is_empty() && !text.trim().is_empty() && text != "\u{feff}" {
            return Err("there is text outside its element".to_owned());
        }
        for capture in &mut self.captures {
            // All of one element's pieces together are no more than a report holds.
            if capture.text.len() + text.len() <= LARGEST {
                capture.text.push_str(text);
            }
        }
        Ok(())
    }

    fn end(&mut self) {
        self.open.pop();
        let depth = self.open.len();
        while let Some(capture) = self.captures.pop_if(|capture| capture.depth == depth) {
            let text = capture.text;
            if let Some(detail) = self.tests[capture.test].test.detail(capture.of) {
                if capture.is_message {
                    detail.message = Some(text);
                } else {
                    detail.text = Some(text);
                }
            }
        }
        while let Some(open) = self.tests.pop_if(|open| open.depth > depth) {
            let test = open.test;
            if !(test.has_error || test.has_failure || test.has_reason) {
                continue;
            }
            if open.is_junit {
                self.results.keep_test(|results| &mut results.junit, test);
            } else {
                self.results.keep_test(|results| &mut results.nunit, test);
            }
        }
    }
}

impl Test {
    /// Bytes that it takes.
    fn size(&self) -> usize {
        let details = [&self.error, &self.failure, &self.reason];
        let texts = details
            .into_iter()
            .flatten()
            .flat_map(|detail| [&detail.message, &detail.text])
            .flatten();
        size_of::<Self>() + self.name.len() + texts.map(String::len).sum::<usize>()
    }

    fn detail(&mut self, of: Element) -> Option<&mut Detail> {
        match of {
            Element::Error => self.error.as_mut(),
            Element::Failure => self.failure.as_mut(),
            Element::Reason => self.reason.as_mut(),
            _ => None,
        }
    }

    fn make_detail(&mut self, of: Element) -> Option<&mut Detail> {
        match of {
            Element::Error => Some(self.error.get_or_insert_default()),
            Element::Failure => Some(self.failure.get_or_insert_default()),
            Element::Reason => Some(self.reason.get_or_insert_default()),
            _ => None,
        }
    }
}

impl Element {
    fn of(name: &[u8]) -> Self {
        match name {
            b"testsuite" => Self::JunitSuite,
            b"testcase" => Self::JunitCase,
            b"test-results" => Self::NunitResults,
            b"test-suite" => Self::NunitSuite,
            b"results" => Self::Results,
            b"test-case" => Self::NunitCase,
            b"error" => Self::Error,
            b"failure" => Self::Failure,
            b"reason" => Self::Reason,
            b"message" => Self::Message,
            b"stack-trace" => Self::StackTrace,
            _ => Self::Other,
        }
    }
}

/// The attributes that mean something.
#[derive(Default)]
struct Attributes {
    name: Option<String>,
    time: Option<String>,
    message: Option<String>,
}

impl Attributes {
    fn read<R>(tag: &BytesStart<'_>, reader: &NsReader<R>) -> Result<Self, String> {
        let mut found = Self::default();
        for attribute in tag.attributes() {
            let attribute = attribute.map_err(|error| error.to_string())?;
            let value = attribute
                .decoded_and_normalized_value(XmlVersion::Implicit1_0, reader.decoder())
                .map_err(|error| error.to_string())?;
            let place = match attribute.key.as_ref() {
                b"name" => &mut found.name,
                b"time" => &mut found.time,
                b"message" => &mut found.message,
                _ => continue,
            };
            *place = Some(value.into_owned());
        }
        Ok(found)
    }

    /// Seconds; nothing counts as none, and what is no number makes the sum none.
    fn time(&self) -> f64 {
        self.time.as_deref().map_or(0.0, number)
    }
}

/// A number as Java reads it, which is how GoCD's style sheet gets at it.
fn number(text: &str) -> f64 {
    let text = text.trim_matches(|c| c <= ' ');
    let digits = text.strip_suffix(['d', 'D', 'f', 'F']).unwrap_or(text);
    let is_number = digits
        .bytes()
        .all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'+' | b'-'));
    if is_number {
        digits.parse().unwrap_or(f64::NAN)
    } else {
        f64::NAN
    }
}
