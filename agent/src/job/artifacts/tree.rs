//! Walking over what is published.

use std::{
    fs::{self, Metadata},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// A file or folder on the way.
pub(super) struct Node<'a> {
    pub(super) path: &'a Path,
    /// The path in the zip: the item's own name and what is below; a folder's ends with a slash.
    pub(super) name: &'a str,
    pub(super) metadata: &'a Metadata,
    /// Bytes of the link's text, when it is a link.
    pub(super) link: Option<u64>,
}

/// Shows `visit` the item and all that is in it, each folder before its content, in the file
/// system's order. Links are followed.
///
/// # Errors
/// Something cannot be read, is a link to nothing or to a folder it is in itself, or has a name
/// that is not Unicode; and those of `visit`. GoCD: publishes nothing then. What is neither file
/// nor folder is left out: reading a pipe would take for ever.
pub(super) fn walk(
    item: &Path,
    visit: &mut dyn FnMut(Node<'_>) -> io::Result<()>,
) -> io::Result<()> {
    let name = own_name(item);
    let mut walk = Walk {
        visit,
        above: Vec::new(),
    };
    let is_link = fs::symlink_metadata(item)?.is_symlink();
    walk.node(item, &name, is_link)
}

/// The item's own name; of the working directory itself that of its folder.
pub(super) fn own_name(item: &Path) -> String {
    let item: PathBuf = item.components().collect();
    item.file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// Bytes of the item before packing.
///
/// GoCD: of links in a folder those of their text count, not those of what they lead to.
///
/// # Errors
/// As [`walk`].
pub(super) fn size(item: &Path) -> io::Result<u64> {
    let mut size = 0;
    // Below a link to a folder nothing counts any more.
    let mut linked: Option<String> = None;
    walk(item, &mut |node| {
        if linked
            .as_ref()
            .is_some_and(|linked| node.name.starts_with(linked))
        {
            return Ok(());
        }
        match node.link {
            Some(length) if node.metadata.is_dir() => {
                linked = Some(node.name.to_owned());
                size += length;
            }
            Some(length) if node.path != item => size += length,
            _ if node.metadata.is_file() => size += node.metadata.len(),
            _ => {}
        }
        Ok(())
    })?;
    Ok(size)
}

struct Walk<'a> {
    visit: &'a mut dyn FnMut(Node<'_>) -> io::Result<()>,
    /// Device and number of each folder that this one is in.
    above: Vec<(u64, u64)>,
}

impl Walk<'_> {
    fn node(&mut self, path: &Path, name: &str, is_link: bool) -> io::Result<()> {
        let about = |error| with_path(path, error);
        let metadata = fs::metadata(path).map_err(about)?;
        let link = if is_link {
            Some(fs::symlink_metadata(path).map_err(about)?.len())
        } else {
            None
        };
        let mut show = |name: &str| {
            (self.visit)(Node {
                path,
                name,
                metadata: &metadata,
                link,
            })
        };
        if metadata.is_file() {
            return show(name);
        }
        if !metadata.is_dir() {
            tracing::warn!(path = %path.display(), "Not published: neither file nor folder");
            return Ok(());
        }
        let identity = (metadata.dev(), metadata.ino());
        if self.above.contains(&identity) {
            return Err(with_path(path, io::Error::other("it is in itself")));
        }
        let name = format!("{name}/");
        show(&name)?;
        self.above.push(identity);
        for entry in fs::read_dir(path).map_err(about)? {
            let entry = entry.map_err(about)?;
            let path = entry.path();
            let own = entry.file_name();
            let Some(own) = own.to_str() else {
                return Err(not_unicode(&path));
            };
            let is_link = entry.file_type().map_err(about)?.is_symlink();
            self.node(&path, &format!("{name}{own}"), is_link)?;
        }
        self.above.pop();
        Ok(())
    }
}

/// What an item with such a name comes to: GoCD cannot open it either, and says nothing.
pub(super) fn not_unicode(path: &Path) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidFilename,
        format!(
            "the name of {} is not UTF-8, so that no URL and no zip can have it; rename it",
            path.display()
        ),
    )
}

fn with_path(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
