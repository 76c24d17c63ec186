//! What a job has published, as a tree.

use journeyman_protocol::files::encode_path;

use crate::cli::size;
use crate::console::CONSOLE;
use crate::scheduling::view::ArtifactView;

/// Files of one page; the rest is in the listing for programs.
const MOST: usize = 2000;
/// With more files than this, folders are shut.
const FEW: usize = 50;

pub(super) struct View {
    pub(super) rows: Vec<Row>,
    pub(super) files: usize,
    pub(super) size: String,
    /// Files that are not shown.
    pub(super) more: usize,
    pub(super) open: bool,
    pub(super) zip: String,
    pub(super) listing: String,
}

/// A piece of the tree, in the order in which it is written.
pub(super) enum Row {
    Open {
        name: String,
        size: String,
        zip: String,
    },
    Close,
    File {
        name: String,
        url: String,
        size: String,
        sha256: Option<String>,
    },
}

/// `stored` is in the order of its paths; `console` is the length of the console, if there is one;
/// `files` is where all of it is.
pub(super) fn view(stored: &[ArtifactView], console: Option<u64>, files: &str) -> View {
    let mut all: Vec<(Vec<&str>, i64, Option<&str>)> = stored
        .iter()
        .map(|one| {
            let names = one.path.split('/').collect();
            (names, one.size, Some(one.sha256.as_str()))
        })
        .collect();
    if let Some(length) = console {
        all.push((
            CONSOLE.to_vec(),
            i64::try_from(length).unwrap_or(i64::MAX),
            None,
        ));
    }
    let total = all.iter().map(|(_, size, _)| *size).sum();
    let count = all.len();
    // By their paths, but in each folder the folders before the files.
    all.sort_by(|(one, ..), (other, ..)| {
        let same = one.iter().zip(other).take_while(|(a, b)| a == b).count();
        let key = |names: &[&str]| {
            (
                names.len() == same + 1,
                names.get(same).map(|name| (*name).to_owned()),
            )
        };
        key(one).cmp(&key(other))
    });
    let more = count.saturating_sub(MOST);
    let mut rows = Vec::new();
    let mut inside: Vec<&str> = Vec::new();
    for (names, bytes, sha256) in all.iter().take(MOST) {
        let (name, folders) = match names.split_last() {
            Some(split) => split,
            None => continue,
        };
        let same = folders
            .iter()
            .zip(&inside)
            .take_while(|(a, b)| a == b)
            .count();
        while inside.len() > same {
            inside.pop();
            rows.push(Row::Close);
        }
        for folder in &folders[same..] {
            inside.push(folder);
            let below = all
                .iter()
                .filter(|(names, ..)| names.len() > inside.len() && names.starts_with(&inside));
            rows.push(Row::Open {
                name: (*folder).to_owned(),
                size: size(below.map(|(_, size, _)| *size).sum()),
                zip: format!("{files}/{}.zip", encode_path(&inside.join("/"))),
            });
        }
        rows.push(Row::File {
            name: (*name).to_owned(),
            url: format!("{files}/{}", encode_path(&names.join("/"))),
            size: size(*bytes),
            sha256: sha256.map(str::to_owned),
        });
    }
    rows.extend(inside.iter().map(|_| Row::Close));
    View {
        rows,
        files: count,
        size: size(total),
        more,
        open: count <= FEW,
        zip: format!("{files}.zip"),
        listing: format!("{files}.json"),
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    fn shape(view: &View) -> String {
        let rows = view.rows.iter().map(|row| match row {
            Row::Open { name, size, .. } => format!("{name} {size} ("),
            Row::Close => ")".to_owned(),
            Row::File { name, .. } => format!("{name};"),
        });
        rows.collect::<Vec<_>>().concat()
    }

    #[test]
    fn folders_come_first_and_have_the_size_of_what_is_in_them() {
        let stored = |path: &str, size| ArtifactView {
            path: path.to_owned(),
            size,
            sha256: "aa".to_owned(),
        };
        let all = [
            stored("a.txt", 1),
            stored("b/c/d e.txt", 2),
            stored("b/f", 3),
            stored("b.x/g", 4),
        ];
        let view = view(&all, Some(5), "/go/files/j");
        assert_eq!(
            shape(&view),
            "b 5 B (c 2 B (d e.txt;)f;)b.x 4 B (g;)cruise-output 5 B (console.log;)a.txt;"
        );
        assert_eq!(
            (view.files, view.size.as_str(), view.open, view.more),
            (5, "15 B", true, 0)
        );
        let urls: Vec<_> = view
            .rows
            .iter()
            .filter_map(|row| match row {
                Row::Open { zip, .. } => Some(zip.as_str()),
                Row::File { url, .. } => Some(url.as_str()),
                Row::Close => None,
            })
            .collect();
        assert_eq!(
            urls[1..3],
            ["/go/files/j/b/c.zip", "/go/files/j/b/c/d%20e.txt"]
        );
        let many: Vec<_> = (0..MOST + 7)
            .map(|n| stored(&format!("f{n:06}"), 1))
            .collect();
        let view = super::view(&many, None, "/go/files/j");
        assert_eq!((view.rows.len(), view.more, view.open), (MOST, 7, false));
        assert!(super::view(&[], None, "/f").rows.is_empty());
    }
}
