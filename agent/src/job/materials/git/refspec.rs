//! A git material's branch may be a refspec `src:dst`; what follows from it.

/// What to check out of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BranchOrRefSpec {
    /// The branch as given, or the refspec with its destination written in full.
    pub(super) expanded: String,
    /// The local branch HEAD is on.
    pub(super) local: String,
    /// The branch it follows.
    pub(super) remote: String,
    pub(super) is_refspec: bool,
}

impl BranchOrRefSpec {
    /// GoCD: blank is `master`; a colon makes it a refspec.
    pub(super) fn parse(value: &str) -> Self {
        let value = if value.trim().is_empty() {
            "master"
        } else {
            value
        };
        let Some((source, destination)) = value.split_once(':') else {
            return Self {
                expanded: value.to_owned(),
                local: value.to_owned(),
                remote: format!("origin/{value}"),
                is_refspec: false,
            };
        };
        let (full, local, remote) = if let Some(branch) = destination.strip_prefix("refs/heads/") {
            (destination.to_owned(), branch, destination.to_owned())
        } else if let Some(tracked) = destination.strip_prefix("refs/remotes/") {
            match tracked.split_once('/') {
                Some((_, branch)) => (destination.to_owned(), branch, tracked.to_owned()),
                None => (destination.to_owned(), destination, destination.to_owned()),
            }
        } else if destination.starts_with("refs/") {
            (destination.to_owned(), destination, destination.to_owned())
        } else {
            (
                format!("refs/remotes/origin/{destination}"),
                destination,
                format!("origin/{destination}"),
            )
        };
        Self {
            expanded: format!("{source}:{full}"),
            local: local.to_owned(),
            remote,
            is_refspec: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_gocds_table() {
        let table = [
            ("b", "b", "b", "origin/b"),
            (" ", "master", "master", "origin/master"),
            (
                "refs/a/*:a/b/c-*",
                "refs/a/*:refs/remotes/origin/a/b/c-*",
                "a/b/c-*",
                "origin/a/b/c-*",
            ),
            (
                "refs/x:refs/heads/w",
                "refs/x:refs/heads/w",
                "w",
                "refs/heads/w",
            ),
            (
                "refs/x:refs/remotes/upstream/w",
                "refs/x:refs/remotes/upstream/w",
                "w",
                "upstream/w",
            ),
            (
                "refs/x:refs/full/loc",
                "refs/x:refs/full/loc",
                "refs/full/loc",
                "refs/full/loc",
            ),
            (
                "refs/x:refs/remotes/r",
                "refs/x:refs/remotes/r",
                "refs/remotes/r",
                "refs/remotes/r",
            ),
        ];
        for (value, expanded, local, remote) in table {
            let parsed = BranchOrRefSpec::parse(value);
            assert_eq!(
                (
                    parsed.expanded.as_str(),
                    parsed.local.as_str(),
                    parsed.remote.as_str()
                ),
                (expanded, local, remote),
                "{value}"
            );
            assert_eq!(parsed.is_refspec, value.contains(':'));
        }
    }
}
