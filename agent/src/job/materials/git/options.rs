//! What can be set, by properties: `-Dname=value` words of `AGENT_STARTUP_ARGS`.

use journeyman_host::properties::Properties;

/// What turns a setting of ours off, in either case.
const OFF: [&str; 5] = ["n", "no", "off", "false", "0"];

/// How checkouts are made. The defaults are GoCD's.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Options {
    /// `toggle.agent.git.clean.keep.ignored.files`: leave what `.gitignore` names.
    keep_ignored: bool,
    /// `toggle.agent.git.submodule.allow.file.protocol`: submodules may be local repositories.
    pub(super) file_submodules: bool,
    /// `journeyman.git.mirror`: share objects between the clones of a repository. Default on.
    pub(super) mirror: bool,
}

impl Options {
    pub(super) fn of_process() -> Self {
        Self::from_properties(&Properties::of_process())
    }

    /// GoCD: only `Y`, in either case, turns a toggle on.
    pub(super) fn from_properties(properties: &Properties) -> Self {
        let on = |name| {
            properties
                .get(name)
                .is_some_and(|value| value.eq_ignore_ascii_case("Y"))
        };
        Self {
            keep_ignored: on("toggle.agent.git.clean.keep.ignored.files"),
            file_submodules: on("toggle.agent.git.submodule.allow.file.protocol"),
            mirror: !properties
                .get("journeyman.git.mirror")
                .is_some_and(|value| OFF.contains(&value.to_ascii_lowercase().as_str())),
        }
    }

    /// What `git clean` is told to remove.
    pub(super) fn clean_words(&self) -> &'static str {
        if self.cleans_ignored() {
            "-dffx"
        } else {
            "-dff"
        }
    }

    pub(super) fn cleans_ignored(&self) -> bool {
        !self.keep_ignored
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn toggles_are_gocds() {
        let options =
            |words: &str| Options::from_properties(&Properties::from_startup_arguments(words));
        assert_eq!(options("").clean_words(), "-dffx");
        assert!(!options("").file_submodules);
        let keep = "-Dtoggle.agent.git.clean.keep.ignored.files=";
        assert_eq!(options(&format!("{keep}y")).clean_words(), "-dff");
        assert_eq!(options(&format!("{keep}true")).clean_words(), "-dffx");
        let allow = "-Dtoggle.agent.git.submodule.allow.file.protocol=Y";
        assert!(options(allow).file_submodules);
    }

    #[test]
    fn mirrors_can_be_switched_off() {
        let mirror = |words: &str| {
            Options::from_properties(&Properties::from_startup_arguments(words)).mirror
        };
        assert!(mirror("") && mirror("-Djourneyman.git.mirror=Y"));
        assert!(!mirror("-Djourneyman.git.mirror=No") && !mirror("-Djourneyman.git.mirror=false"));
    }
}
