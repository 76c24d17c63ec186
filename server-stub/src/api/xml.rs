//! XML answers: a tree of elements, written by quick-xml, which escapes.

use std::borrow::Cow;
use std::io;

use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesText, Event};

use crate::answer::Refusal;

/// An element under construction.
#[derive(Debug, Clone)]
pub(super) struct Element {
    name: &'static str,
    attributes: Vec<(&'static str, String)>,
    content: Content,
}

#[derive(Debug, Clone)]
enum Content {
    Elements(Vec<Element>),
    Text(String),
}

/// An element with nothing in it.
pub(super) fn element(name: &'static str) -> Element {
    Element {
        name,
        attributes: Vec::new(),
        content: Content::Elements(Vec::new()),
    }
}

impl Element {
    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.attributes.push((name, value.into()));
        self
    }

    /// Text in place of whatever was inside.
    pub(super) fn text(mut self, text: impl Into<String>) -> Self {
        self.content = Content::Text(text.into());
        self
    }

    pub(super) fn child(self, child: Element) -> Self {
        self.children([child])
    }

    pub(super) fn children(mut self, children: impl IntoIterator<Item = Element>) -> Self {
        match &mut self.content {
            Content::Elements(elements) => elements.extend(children),
            Content::Text(_) => self.content = Content::Elements(children.into_iter().collect()),
        }
        self
    }

    /// The whole document.
    pub(super) fn write(&self) -> Result<String, Refusal> {
        let failed = |error: &(dyn std::error::Error + 'static)| {
            Refusal::internal("write an XML document", error)
        };
        let mut writer = Writer::new_with_indent(Vec::new(), b' ', 2);
        let declaration = Event::Decl(BytesDecl::new("1.0", Some("utf-8"), None));
        writer
            .write_event(declaration)
            .and_then(|()| self.write_to(&mut writer))
            .map_err(|error| failed(&error))?;
        String::from_utf8(writer.into_inner()).map_err(|error| failed(&error))
    }

    /// The whole document, as GoCD sends it.
    pub(super) fn answer(&self) -> Result<Response, Refusal> {
        let media_type = [(header::CONTENT_TYPE, "application/xml;charset=utf-8")];
        Ok((StatusCode::OK, media_type, self.write()?).into_response())
    }

    fn write_to(&self, writer: &mut Writer<Vec<u8>>) -> io::Result<()> {
        let mut begun = writer.create_element(self.name);
        for (name, value) in &self.attributes {
            begun = begun.with_attribute((*name, allowed(value).as_ref()));
        }
        match &self.content {
            Content::Text(text) => begun.write_text_content(BytesText::new(&allowed(text)))?,
            Content::Elements(elements) if elements.is_empty() => begun.write_empty()?,
            Content::Elements(elements) => begun.write_inner_content(|writer| {
                elements.iter().try_for_each(|one| one.write_to(writer))
            })?,
        };
        Ok(())
    }
}

/// Text without the characters that no XML document may hold, in whatever form.
fn allowed(text: &str) -> Cow<'_, str> {
    let is_forbidden = |character: char| matches!(character, '\0'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}');
    if text.contains(is_forbidden) {
        Cow::Owned(text.replace(is_forbidden, "\u{fffd}"))
    } else {
        Cow::Borrowed(text)
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    #[test]
    fn what_means_something_in_xml_is_escaped_and_what_it_cannot_hold_is_marked() {
        let document = element("a")
            .with("b", "<\"&'>")
            .child(element("c").text("x < y & \u{1b}[31m\u{0}"))
            .child(element("d"));
        let text = document.write().unwrap();
        let expected = "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n\
            <a b=\"&lt;&quot;&amp;&apos;&gt;\">\n  <c>x &lt; y &amp; \u{fffd}[31m\u{fffd}</c>\n  <d/>\n</a>";
        assert_eq!(text, expected);
    }
}
