//! Reading one file.

use std::io::BufRead;

use quick_xml::{
    Decoder, Reader, XmlVersion,
    escape::resolve_predefined_entity,
    events::{BytesStart, Event},
};

use super::{LONGEST_TEXT, Outcome, Test};

/// Deeper than this no tool nests its results.
const DEEPEST: usize = 200;
/// Tests in one file; by this a file of empty elements holds no more memory than one of results.
const MOST: usize = 200_000;

/// What a text inside a test belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Message,
    Text,
    Nowhere,
}

#[derive(Default)]
struct Reading {
    /// Names of the suites that are open, with their depths.
    suites: Vec<(usize, String)>,
    /// The test that is open, with its depth.
    test: Option<(usize, Test)>,
    /// Where text goes, for each element that is open inside the test.
    places: Vec<Place>,
    done: Vec<Test>,
}

/// The tests of a file; nothing for one that is not about tests.
pub(super) fn read(input: impl BufRead) -> Result<Option<Vec<Test>>, String> {
    let mut reader = Reader::from_reader(input);
    let decoder = reader.decoder();
    let mut reading = Reading::default();
    let mut buffer = Vec::new();
    let (mut depth, mut roots) = (0, 0);
    loop {
        buffer.clear();
        let event = reader
            .read_event_into(&mut buffer)
            .map_err(|error| format!("it is no XML: {error}"))?;
        match event {
            Event::Start(tag) => {
                if depth == 0 {
                    roots += 1;
                    if !is_about_tests(&tag) {
                        return Ok(None);
                    }
                }
                if depth >= DEEPEST {
                    return Err(format!("it is nested more than {DEEPEST} deep"));
                }
                reading.start(&tag, decoder, depth)?;
                depth += 1;
            }
            Event::Empty(tag) => {
                if depth == 0 {
                    roots += 1;
                    if !is_about_tests(&tag) {
                        return Ok(None);
                    }
                }
                reading.start(&tag, decoder, depth)?;
                reading.end(depth)?;
            }
            Event::End(_) => {
                depth -= 1;
                reading.end(depth)?;
            }
            Event::Text(text) => reading.text(&text.decode().map_err(|error| error.to_string())?),
            Event::CData(text) => reading.text(&text.decode().map_err(|error| error.to_string())?),
            Event::GeneralRef(entity) => {
                let letter = entity.resolve_char_ref();
                match letter.map_err(|error| error.to_string())? {
                    Some(letter) => reading.text(letter.encode_utf8(&mut [0; 4])),
                    None => {
                        let name = entity.decode().map_err(|error| error.to_string())?;
                        // No others: they could grow without limit, or be files of this machine.
                        let text = resolve_predefined_entity(&name)
                            .ok_or_else(|| format!("the entity `{name}` is not expanded"))?;
                        reading.text(text);
                    }
                }
            }
            Event::Decl(_) | Event::PI(_) | Event::Comment(_) | Event::DocType(_) => {}
            Event::Eof => break,
        }
    }
    if depth > 0 || roots == 0 {
        return Err("it is not whole".to_owned());
    }
    Ok(Some(reading.done))
}

fn is_about_tests(tag: &BytesStart<'_>) -> bool {
    matches!(
        tag.local_name().as_ref(),
        b"testsuites" | b"testsuite" | b"test-results" | b"test-run"
    )
}

impl Reading {
    fn start(
        &mut self,
        tag: &BytesStart<'_>,
        decoder: Decoder,
        depth: usize,
    ) -> Result<(), String> {
        let name = tag.local_name();
        let attribute = |wanted: &[&str]| attribute(tag, decoder, wanted);
        if let Some((_, test)) = &mut self.test {
            let above = self.places.last().copied();
            let place = match name.as_ref() {
                b"failure" | b"error" => {
                    test.outcome = Outcome::Failed;
                    if test.message.is_empty() {
                        test.message = attribute(&["message"])?.unwrap_or_default();
                    }
                    Place::Text
                }
                b"skipped" | b"ignored" | b"reason" => {
                    test.outcome = test.outcome.min(Outcome::Skipped);
                    if test.message.is_empty() {
                        test.message = attribute(&["message"])?.unwrap_or_default();
                    }
                    Place::Text
                }
                b"message" if above.is_some() => Place::Message,
                b"stack-trace" => Place::Text,
                _ => above.unwrap_or(Place::Nowhere),
            };
            self.places.push(place);
            return Ok(());
        }
        match name.as_ref() {
            b"testsuite" | b"test-suite" => {
                let name = attribute(&["fullname", "name"])?.unwrap_or_default();
                self.suites.push((depth, name));
            }
            b"testcase" | b"test-case" => {
                if self.done.len() >= MOST {
                    return Err(format!("it has more than {MOST} tests"));
                }
                let suite = match attribute(&["classname"])? {
                    Some(class) => class,
                    None => self
                        .suites
                        .last()
                        .map_or(String::new(), |(_, name)| name.clone()),
                };
                let seconds = attribute(&["time", "duration"])?;
                let seconds = seconds.and_then(|text| text.replace(',', "").parse::<f64>().ok());
                let skipped = attribute(&["executed"])?
                    .is_some_and(|value| value.eq_ignore_ascii_case("false"));
                let result = attribute(&["result"])?.unwrap_or_default();
                let outcome = match result.to_ascii_lowercase().as_str() {
                    "failed" | "failure" | "error" => Outcome::Failed,
                    "skipped" | "ignored" | "inconclusive" | "notrunnable" => Outcome::Skipped,
                    _ if skipped => Outcome::Skipped,
                    _ => Outcome::Passed,
                };
                let test = Test {
                    suite,
                    name: attribute(&["name"])?.unwrap_or_default(),
                    outcome,
                    seconds: seconds.filter(|seconds| seconds.is_finite() && *seconds >= 0.0),
                    ..Test::default()
                };
                self.test = Some((depth, test));
                self.places.clear();
            }
            _ => {}
        }
        Ok(())
    }

    fn end(&mut self, depth: usize) -> Result<(), String> {
        if let Some((_, test)) = self.test.take_if(|(begin, _)| *begin == depth) {
            self.done.push(Test {
                message: test.message.trim().to_owned(),
                text: test.text.trim().to_owned(),
                ..test
            });
        } else if self.test.is_some() {
            self.places.pop();
        } else if self.suites.last().is_some_and(|(begin, _)| *begin == depth) {
            self.suites.pop();
        }
        Ok(())
    }

    fn text(&mut self, text: &str) {
        let (Some((_, test)), Some(place)) = (&mut self.test, self.places.last()) else {
            return;
        };
        let to = match place {
            Place::Message => &mut test.message,
            Place::Text => &mut test.text,
            Place::Nowhere => return,
        };
        push_cut(to, text);
    }
}

fn push_cut(to: &mut String, text: &str) {
    let room = LONGEST_TEXT.saturating_sub(to.len());
    to.push_str(&text[..text.floor_char_boundary(room)]);
}

/// The first of these attributes that is there and not empty.
fn attribute(
    tag: &BytesStart<'_>,
    decoder: Decoder,
    wanted: &[&str],
) -> Result<Option<String>, String> {
    let mut best: Option<(usize, String)> = None;
    for attribute in tag.attributes() {
        let attribute = attribute.map_err(|error| format!("it is no XML: {error}"))?;
        let key = attribute.key.local_name();
        let Some(at) = wanted
            .iter()
            .position(|name| name.as_bytes() == key.as_ref())
        else {
            continue;
        };
        let value = attribute
            .decoded_and_normalized_value(XmlVersion::Implicit1_0, decoder)
            .map_err(|error| error.to_string())?;
        if !value.is_empty() && best.as_ref().is_none_or(|(before, _)| at < *before) {
            let mut text = String::new();
            push_cut(&mut text, &value);
            best = Some((at, text));
        }
    }
    Ok(best.map(|(_, value)| value))
}
