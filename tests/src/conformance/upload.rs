//! What is in the body of an artifact upload.

use std::io::{Cursor, Read};

use axum::extract::Multipart;
use regex::Regex;
use std::sync::LazyLock;
use zip::ZipArchive;

use super::recording::{Part, Upload, ZipEntry, sha256};

static TAG: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"(?s)<[^>]*>").expect("a pattern"));

/// Reads the parts of an upload. What cannot be read is said in the place where it should be, so
/// that it shows up as a difference.
pub(super) async fn read(mut multipart: Multipart) -> Upload {
    let mut upload = Upload {
        parts: Vec::new(),
        zip: Vec::new(),
        checksum_comment_lines: 0,
        checksum_entries: Vec::new(),
    };
    loop {
        let field = match multipart.next_field().await {
            Ok(Some(field)) => field,
            Ok(None) => break,
            Err(error) => {
                upload.parts.push(unreadable(&error));
                break;
            }
        };
        let part = Part {
            name: field.name().map(str::to_owned),
            filename: field.file_name().map(str::to_owned),
            content_type: field.content_type().map(str::to_owned),
            transfer_encoding: field
                .headers()
                .get("content-transfer-encoding")
                .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()),
        };
        match (part.name.as_deref(), field.bytes().await) {
            (Some("zipfile"), Ok(bytes)) => upload.zip = zip_entries(&bytes),
            (Some("file_checksum"), Ok(bytes)) => {
                let text = String::from_utf8_lossy(&bytes);
                let (comments, mut entries): (Vec<&str>, Vec<&str>) =
                    text.lines().partition(|line| line.starts_with('#'));
                entries.sort_unstable();
                upload.checksum_comment_lines = comments.len();
                upload.checksum_entries = entries.into_iter().map(str::to_owned).collect();
            }
            (_, Ok(_)) => {}
            (_, Err(error)) => upload.parts.push(unreadable(&error)),
        }
        upload.parts.push(part);
    }
    upload
}

/// The text of a page: tags removed, white space collapsed.
pub(super) fn visible_text(page: &str) -> String {
    let text = TAG.replace_all(page, " ");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn zip_entries(bytes: &[u8]) -> Vec<ZipEntry> {
    match read_zip(bytes) {
        Ok(mut entries) => {
            entries.sort_by(|one, other| one.name.cmp(&other.name));
            entries
        }
        Err(error) => vec![ZipEntry {
            name: format!("not a zip file: {error}"),
            size: Some(bytes.len() as u64),
            sha256: None,
            visible_text: None,
        }],
    }
}

fn read_zip(bytes: &[u8]) -> Result<Vec<ZipEntry>, Box<dyn std::error::Error>> {
    let mut archive = ZipArchive::new(Cursor::new(bytes))?;
    let mut entries = Vec::new();
    for index in 0..archive.len() {
        let mut file = archive.by_index(index)?;
        let name = file.name()?.into_owned();
        if name.ends_with('/') {
            entries.push(ZipEntry {
                name,
                size: None,
                sha256: None,
                visible_text: None,
            });
            continue;
        }
        let mut content = Vec::new();
        file.read_to_end(&mut content)?;
        let is_page = name.rsplit('/').next() == Some("index.html");
        entries.push(ZipEntry {
            size: Some(content.len() as u64),
            sha256: Some(sha256(&content)),
            visible_text: is_page.then(|| visible_text(&String::from_utf8_lossy(&content))),
            name,
        });
    }
    Ok(entries)
}

fn unreadable(error: &dyn std::fmt::Display) -> Part {
    Part {
        name: Some(format!("cannot be read: {error}")),
        filename: None,
        content_type: None,
        transfer_encoding: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_a_page_has_no_tags_and_single_blanks() {
        let page = "<html>\n<p class=\"a\n b\">Tests <b>run</b>:\t3</p>\n\n</html>";
        assert_eq!(visible_text(page), "Tests run : 3");
    }
}
