//! A folder of artifacts as a list.

use std::{fs, io, path::Path};

use journeyman_protocol::files::encode_path;
use serde::Serialize;

use crate::console::CONSOLE;

/// A file or folder, in GoCD's form.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Entry {
    name: String,
    url: String,
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    files: Option<Vec<Entry>>,
}

/// Folders first, then files, each by name. `url` is that of the job's root. Nothing when there is
/// no such folder; the root always is.
pub(super) fn list(
    root: &Path,
    folder: &[String],
    url: &str,
    has_console: bool,
) -> io::Result<Option<Vec<Entry>>> {
    let holds_console = has_console && folder == [CONSOLE[0]];
    let path = root.join(folder.join("/"));
    if !folder.is_empty() && !path.is_dir() && !holds_console {
        return Ok(None);
    }
    let mut entries = read(&path, folder, url)?;
    if holds_console {
        entries.push(console(url));
    }
    if has_console && folder.is_empty() {
        let output = entries
            .iter_mut()
            .find(|entry| entry.name == CONSOLE[0] && entry.files.is_some());
        match output {
            Some(Entry {
                files: Some(files), ..
            }) => {
                files.push(console(url));
                sort(files);
            }
            _ => entries.push(Entry {
                name: CONSOLE[0].to_owned(),
                url: format!("{url}/{}", CONSOLE[0]),
                r#type: "folder",
                files: Some(vec![console(url)]),
            }),
        }
    }
    sort(&mut entries);
    Ok(Some(entries))
}

fn console(url: &str) -> Entry {
    Entry {
        name: CONSOLE[1].to_owned(),
        url: format!("{url}/{}", CONSOLE.join("/")),
        r#type: "file",
        files: None,
    }
}

fn read(path: &Path, above: &[String], url: &str) -> io::Result<Vec<Entry>> {
    let folder = match fs::read_dir(path) {
        Ok(folder) => folder,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut entries = Vec::new();
    for item in folder {
        let item = item?;
        let name = item.file_name().to_string_lossy().into_owned();
        let mut here = above.to_vec();
        here.push(name.clone());
        let is_folder = item.file_type()?.is_dir();
        let files = if is_folder {
            Some(read(&item.path(), &here, url)?)
        } else {
            None
        };
        let url = format!("{url}/{}", encode_path(&here.join("/")));
        entries.push(Entry {
            name,
            url,
            r#type: if is_folder { "folder" } else { "file" },
            files,
        });
    }
    sort(&mut entries);
    Ok(entries)
}

fn sort(entries: &mut [Entry]) {
    entries.sort_by(|a, b| (a.files.is_none(), &a.name).cmp(&(b.files.is_none(), &b.name)));
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    #[test]
    fn folders_come_first_and_the_console_is_among_them() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("pkg")).unwrap();
        fs::write(root.path().join("pkg/a b.txt"), "x").unwrap();
        fs::write(root.path().join("a.txt"), "x").unwrap();
        let entries = list(root.path(), &[], "http://h/go/files/p/1/s/1/j", true).unwrap();
        let listed = serde_json::to_string(&entries).unwrap();
        assert_eq!(
            listed,
            concat!(
                r#"[{"name":"cruise-output","url":"http://h/go/files/p/1/s/1/j/cruise-output","type":"folder","#,
                r#""files":[{"name":"console.log","url":"http://h/go/files/p/1/s/1/j/cruise-output/console.log","type":"file"}]},"#,
                r#"{"name":"pkg","url":"http://h/go/files/p/1/s/1/j/pkg","type":"folder","#,
                r#""files":[{"name":"a b.txt","url":"http://h/go/files/p/1/s/1/j/pkg/a%20b.txt","type":"file"}]},"#,
                r#"{"name":"a.txt","url":"http://h/go/files/p/1/s/1/j/a.txt","type":"file"}]"#
            )
        );
        assert!(
            list(root.path(), &["none".to_owned()], "u", true)
                .unwrap()
                .is_none()
        );
        assert_eq!(
            list(root.path(), &["cruise-output".to_owned()], "u", true)
                .unwrap()
                .unwrap()
                .len(),
            1
        );
    }
}
