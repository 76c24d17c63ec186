//! What `svn info --xml` says.

use quick_xml::{Reader, events::Event};

/// The URL of the first entry, as GoCD reads it: from `info/entry/url`, if `repository/root` is
/// there too. `None` when this is not what `svn info` prints.
pub(super) fn url(xml: &str) -> Option<String> {
    let (mut url, mut root) = (None, None);
    let mut reader = Reader::from_str(xml);
    let mut path: Vec<Vec<u8>> = Vec::new();
    let mut text = String::new();
    loop {
        match reader.read_event().ok()? {
            Event::Start(tag) => {
                path.push(tag.local_name().as_ref().to_vec());
                text.clear();
            }
            Event::Text(part) => text.push_str(&part.decode().ok()?),
            Event::GeneralRef(reference) => match reference.resolve_char_ref().ok()? {
                Some(character) => text.push(character),
                None => text.push_str(quick_xml::escape::resolve_predefined_entity(
                    &reference.decode().ok()?,
                )?),
            },
            Event::End(_) => {
                let names: Vec<&[u8]> = path.iter().skip(1).map(Vec::as_slice).collect();
                match names[..] {
                    [b"entry", b"url"] => url = Some(text.trim().to_owned()),
                    [b"entry", b"repository", b"root"] => root = Some(()),
                    [b"entry"] => return root.and(url),
                    _ => {}
                }
                path.pop()?;
                text.clear();
            }
            Event::Eof => return None,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    #[test]
    fn finds_the_url() {
        let xml = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<info>\n<entry\n   path=\".\">\n\
                   <url>http://h/a?b&amp;c&#x41;</url>\n<relative-url>^/</relative-url>\n\
                   <repository>\n<root>http://h</root>\n</repository>\n</entry>\n</info>\n";
        assert_eq!(url(xml).as_deref(), Some("http://h/a?b&cA"));
    }

    #[test]
    fn anything_else_is_no_answer() {
        for xml in [
            "",
            "svn: E155007",
            "<info></info>",
            "<info><entry><url>x</url></entry></info>",
            "<info><entry><url>x</url><repository><root>y</root>",
            "<info><url>x</url></info>",
            "<!DOCTYPE x [<!ENTITY a \"b\">]><info><entry><url>&a;</url></entry></info>",
        ] {
            assert_eq!(url(xml), None, "{xml}");
        }
    }
}
