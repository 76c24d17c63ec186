//! Where a matched file or folder goes among the job's artifacts.

use std::path::Path;

use super::pattern::normal;

/// The folder that an item matched by `source` goes to. GoCD: without wildcards it is the rule's
/// own; else what lies between the source's part without wildcards and the item comes on top.
/// `item` is relative to the job's working directory, `base`; that itself is taken to lie beside
/// what is in it, so that its place is below the name of the folder around it.
pub(super) fn of(source: &str, dest: &str, base: &Path, item: &Path) -> String {
    let (source, dest) = (normal(source), dest.replace('\\', "/"));
    let is_plain = !source.contains(['*', '?']) && !source.ends_with('/') && !source.contains("//");
    if is_plain {
        return dest;
    }
    let fixed: Vec<&str> = source
        .split('/')
        .filter(|part| !part.is_empty())
        .take_while(|part| !part.contains(['*', '?']))
        .collect();
    let fixed = fixed.join("/");
    let parent = item.parent().or_else(|| base.parent());
    let parent = parent.map(Path::to_string_lossy).unwrap_or_default();
    let rest = parent.strip_prefix(&*fixed).unwrap_or(&parent);
    if rest.is_empty() || rest.starts_with('/') {
        format!("{dest}{rest}")
    } else {
        format!("{dest}/{rest}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_are_gocds() {
        for (source, dest, item, expected) in [
            ("**/*.png", "mypic", "logs/pic/pass.png", "mypic/logs/pic"),
            ("**/*", "mypic", "logs", "mypic"),
            ("**/*", "mypic", "logs/pic", "mypic/logs"),
            ("**/*", "mypic", "README", "mypic"),
            ("logs/pic/*.png", "mypic", "logs/pic/a.png", "mypic"),
            ("logs/pic-*", "mypic", "logs/pic-1", "mypic"),
            ("test/**/*/a.log", "logs", "test/a/b/a.log", "logs/a/b"),
            ("**/*/a.log", "logs", "test/a/b/a.log", "logs/test/a/b"),
            ("*.jar", "logs", "a.jar", "logs"),
            ("target/a.jar", "pkg", "target/a.jar", "pkg"),
            ("folder\\src", "pkg", "folder/src", "pkg"),
            ("a.jar", "win\\dir", "a.jar", "win/dir"),
            ("**/*", "", "sub/a", "/sub"),
            ("target/", "pkg", "target", "pkg"),
            ("target//*.jar", "pkg", "target/a.jar", "pkg"),
            ("**", "pkg", "", "pkg/pipelines"),
            ("target/", "pkg", "target/sub/x", "pkg/sub"),
        ] {
            assert_eq!(
                of(source, dest, Path::new("pipelines/web"), Path::new(item)),
                expected,
                "{source} {item}"
            );
        }
    }
}
