//! `config/autoregister.properties`: what an agent registers itself with, and what becomes of it
//! once it is registered.

use std::{collections::HashMap, ffi::OsString, fmt::Write as _, path::PathBuf};

use encoding_rs::UTF_8;
use java_properties::PropertiesIter;
use journeyman_protocol::{registration::autoregister as keys, secret::Secret};
use thiserror::Error;

use crate::{
    durable::{self, FileError},
    workdir::WorkDir,
};

/// Comment over the key that was removed.
const KEY_REMOVED: &str =
    "# The agent is registered: it needs the key no longer, and nobody else should find it.";
/// Comment over the other settings that have had their effect.
const SETTING_REMOVED: &str = "# The agent is registered: from now on this is set on the server.";

/// What the file says. Empty where it says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AutoRegister {
    /// Lets the agent in without an administrator.
    pub key: Secret,
    /// Comma-separated.
    pub resources: String,
    /// Comma-separated.
    pub environments: String,
    /// Shown instead of the host's name.
    pub hostname: String,
    /// Name of an elastic agent within its plugin.
    pub elastic_agent_id: String,
    /// Plugin of an elastic agent; if it is not blank, the agent is elastic.
    pub elastic_plugin_id: String,
}

/// The file cannot be used.
#[derive(Debug, Error)]
pub enum AutoRegisterError {
    /// Reading or writing failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// What is in it is no properties file.
    #[error(
        "{}{} is no Java properties file: {reason}; correct it, or remove it to let an \
         administrator enable the agent",
        path.display(),
        line.map(|line| format!(" line {line}")).unwrap_or_default()
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Number of the line, from 1.
        line: Option<usize>,
        /// What is wrong.
        reason: String,
    },
}

impl AutoRegister {
    /// Reads the file; one that is not there says nothing.
    ///
    /// # Errors
    /// The file cannot be read, or is not text in the form of Java properties in UTF-8.
    pub fn load(workdir: &WorkDir) -> Result<Self, AutoRegisterError> {
        let Some(text) = read(workdir)? else {
            return Ok(Self::default());
        };
        let mut values = HashMap::new();
        PropertiesIter::new_with_encoding(text.as_bytes(), UTF_8)
            .read_into(|name, value| {
                values.insert(name, value);
            })
            .map_err(|error| AutoRegisterError::Corrupt {
                path: workdir.autoregister(),
                line: error.line_number(),
                reason: "an escape that means nothing".to_owned(),
            })?;
        let mut take = |name: &str| values.remove(name).unwrap_or_default().trim().to_owned();
        Ok(Self {
            key: take(keys::KEY).into(),
            resources: take(keys::RESOURCES),
            environments: take(keys::ENVIRONMENTS),
            hostname: take(keys::HOSTNAME),
            elastic_agent_id: take(keys::ELASTIC_AGENT_ID),
            elastic_plugin_id: take(keys::ELASTIC_PLUGIN_ID),
        })
    }

    /// Whether the agent is elastic. GoCD: the plugin's id is not blank.
    pub fn is_elastic(&self) -> bool {
        !self.elastic_plugin_id.is_empty()
    }
}

/// Comments out what a registered agent needs no longer (GoCD: key, resources, environments and
/// host name; the key is still there, as a comment). Everything else stays; line ends become `\n`.
/// Doing it again changes nothing.
///
/// # Errors
/// The file cannot be read or written; it is then as it was.
pub fn scrub(workdir: &WorkDir) -> Result<(), AutoRegisterError> {
    let Some(text) = read(workdir)? else {
        return Ok(());
    };
    let scrubbed = scrubbed(&text);
    if scrubbed != text {
        durable::write_secret(&workdir.autoregister(), scrubbed.as_bytes())?;
    }
    Ok(())
}

/// What the container images of GoCD take from the environment, in the form of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageVariables {
    properties: Vec<(&'static str, Secret)>,
}

impl ImageVariables {
    /// Names that must not reach the agent and its jobs.
    pub const NAMES: [&str; 9] = [
        "AGENT_AUTO_REGISTER_KEY",
        "AGENT_AUTO_REGISTER_RESOURCES",
        "AGENT_AUTO_REGISTER_ENVIRONMENTS",
        "AGENT_AUTO_REGISTER_HOSTNAME",
        "GO_EA_AUTO_REGISTER_KEY",
        "GO_EA_AUTO_REGISTER_ENVIRONMENT",
        "GO_EA_AUTO_REGISTER_ELASTIC_AGENT_ID",
        "GO_EA_AUTO_REGISTER_ELASTIC_PLUGIN_ID",
        "GO_EA_SERVER_URL",
    ];

    /// Picks out the image's variables. GoCD: the elastic set counts when `GO_EA_SERVER_URL` is
    /// set, else the ordinary one.
    pub fn from_environment(get: impl Fn(&str) -> Option<OsString>) -> Self {
        let elastic: &[(&str, &str)] = &[
            ("GO_EA_AUTO_REGISTER_KEY", keys::KEY),
            ("GO_EA_AUTO_REGISTER_ENVIRONMENT", keys::ENVIRONMENTS),
            (
                "GO_EA_AUTO_REGISTER_ELASTIC_AGENT_ID",
                keys::ELASTIC_AGENT_ID,
            ),
            (
                "GO_EA_AUTO_REGISTER_ELASTIC_PLUGIN_ID",
                keys::ELASTIC_PLUGIN_ID,
            ),
            ("AGENT_AUTO_REGISTER_HOSTNAME", keys::HOSTNAME),
        ];
        let ordinary: &[(&str, &str)] = &[
            ("AGENT_AUTO_REGISTER_KEY", keys::KEY),
            ("AGENT_AUTO_REGISTER_RESOURCES", keys::RESOURCES),
            ("AGENT_AUTO_REGISTER_ENVIRONMENTS", keys::ENVIRONMENTS),
            ("AGENT_AUTO_REGISTER_HOSTNAME", keys::HOSTNAME),
        ];
        let value = |name: &str| {
            get(name)
                .map(|value| value.to_string_lossy().into_owned())
                .filter(|value| !value.is_empty())
        };
        let set = match value("GO_EA_SERVER_URL") {
            Some(_) => elastic,
            None => ordinary,
        };
        let properties = set
            .iter()
            .filter_map(|(variable, property)| Some((*property, value(variable)?.into())))
            .collect();
        Self { properties }
    }

    /// Appends the settings to the file, unless it already ends with them: a launcher that is
    /// started again by its bootstrapper finds the same environment. Once the agent is registered
    /// (the same settings stand there as comments) nothing is added either.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn append_to_file(&self, workdir: &WorkDir) -> Result<(), AutoRegisterError> {
        if self.properties.is_empty() {
            return Ok(());
        }
        let mut text = read(workdir)?.unwrap_or_default().replace("\r\n", "\n");
        let mut block = String::new();
        for (property, value) in &self.properties {
            let _ = writeln!(block, "{property}={}", escaped(value.expose()));
        }
        if text.ends_with(&block) || text.ends_with(&scrubbed(&block)) {
            return Ok(());
        }
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        text.push_str(&block);
        durable::write_secret(&workdir.autoregister(), text.as_bytes())?;
        Ok(())
    }
}

fn read(workdir: &WorkDir) -> Result<Option<String>, AutoRegisterError> {
    let path = workdir.autoregister();
    let Some(content) = durable::read_tolerant(&path)? else {
        return Ok(None);
    };
    let corrupt = |line, reason: &str| AutoRegisterError::Corrupt {
        path: path.clone(),
        line,
        reason: reason.to_owned(),
    };
    if let Some(nul) = content.iter().position(|byte| *byte == 0) {
        let line = content[..nul].iter().filter(|byte| **byte == b'\n').count() + 1;
        return Err(corrupt(Some(line), "it holds a zero byte"));
    }
    match String::from_utf8(content) {
        Ok(text) => Ok(Some(text)),
        Err(error) => {
            let good = error.utf8_error().valid_up_to();
            let before = &error.as_bytes()[..good];
            let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
            Err(corrupt(Some(line), "it is not UTF-8"))
        }
    }
}

fn scrubbed(text: &str) -> String {
    let mut result = String::with_capacity(text.len() + 256);
    for lines in logical_lines(text) {
        let comment = match name_of(&lines.join("\n")).as_deref() {
            Some(keys::KEY) => Some(KEY_REMOVED),
            Some(name) if keys::SCRUBBED.contains(&name) => Some(SETTING_REMOVED),
            _ => None,
        };
        if let Some(comment) = comment {
            result.push_str(comment);
            result.push('\n');
        }
        for line in lines {
            if comment.is_some() {
                result.push_str("# ");
            }
            result.push_str(line);
            result.push('\n');
        }
    }
    result
}

/// Lines of the file, those that a backslash continues together.
fn logical_lines(text: &str) -> Vec<Vec<&str>> {
    let mut logical: Vec<Vec<&str>> = Vec::new();
    let mut continued = false;
    for line in natural_lines(text) {
        let comment = !continued && line.trim_start().starts_with(['#', '!']);
        match logical.last_mut() {
            Some(last) if continued => last.push(line),
            _ => logical.push(vec![line]),
        }
        let backslashes = line.bytes().rev().take_while(|byte| *byte == b'\\').count();
        continued = !comment && backslashes % 2 == 1;
    }
    logical
}

/// Java's lines end with `\n`, `\r\n` or `\r`.
fn natural_lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().flat_map(|line| line.split('\r'))
}

/// The name that a logical line gives a value to, escapes and all.
fn name_of(line: &str) -> Option<String> {
    let mut name = None;
    let _ = PropertiesIter::new_with_encoding(line.as_bytes(), UTF_8).read_into(|found, _| {
        name = Some(found);
    });
    name
}

/// A value as it must stand in the file to be read as this text.
fn escaped(value: &str) -> String {
    let mut result = String::new();
    for (index, character) in value.chars().enumerate() {
        match character {
            '\\' => result.push_str("\\\\"),
            '\n' => result.push_str("\\n"),
            '\r' => result.push_str("\\r"),
            ' ' if index == 0 => result.push_str("\\ "),
            '\t' => result.push_str("\\t"),
            other => result.push(other),
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use pretty_assertions::assert_eq;

    use super::*;

    fn workdir(content: Option<&[u8]>) -> (tempfile::TempDir, WorkDir) {
        let folder = tempfile::tempdir().unwrap();
        let workdir = WorkDir::new(folder.path());
        workdir.prepare().unwrap();
        if let Some(content) = content {
            fs::write(workdir.autoregister(), content).unwrap();
        }
        (folder, workdir)
    }

    fn text(workdir: &WorkDir) -> String {
        fs::read_to_string(workdir.autoregister()).unwrap()
    }

    #[test]
    fn an_absent_file_says_nothing() {
        let (_folder, workdir) = workdir(None);
        assert_eq!(
            AutoRegister::load(&workdir).unwrap(),
            AutoRegister::default()
        );
        scrub(&workdir).unwrap();
        assert!(!workdir.autoregister().exists());
    }

    #[test]
    fn properties_are_read_as_java_does() {
        let (_folder, workdir) = workdir(Some(
            "agent.auto.register.key = 388b633a \n\
             agent.auto.register.resources:ant,\\\n   java\n\
             agent.auto.register.hostname=b\\u00fcro\n\
             agent.auto.register.environments=caf\u{e9}\n\
             agent.auto.register.elasticAgent.pluginId=\n"
                .as_bytes(),
        ));
        let found = AutoRegister::load(&workdir).unwrap();
        assert_eq!(found.key.expose(), "388b633a");
        assert_eq!(found.resources, "ant,java");
        assert_eq!(found.hostname, "büro");
        assert_eq!(found.environments, "café");
        assert!(!found.is_elastic());
        assert!(!format!("{found:?}").contains("388b633a"));
    }

    #[test]
    fn corrupt_files_are_reported_with_the_line() {
        for (content, line) in [
            (&b"a=1\nb=\\uzzzz\n"[..], "line 2"),
            (b"a=1\n\n\xff\xfe\n", "line 3"),
            (b"a\x00", "line 1"),
        ] {
            let (_folder, workdir) = workdir(Some(content));
            let error = AutoRegister::load(&workdir).unwrap_err().to_string();
            assert!(error.contains(line), "{error}");
            assert!(error.contains("autoregister.properties"), "{error}");
        }
    }

    #[test]
    fn scrubbing_comments_out_and_can_be_repeated() {
        let (_folder, workdir) = workdir(Some(
            b"# my own comment\r\n\
              agent.auto.register.key=388b633a\r\n\
              agent.auto.register.resources=ant,\\\r\n  java\r\n\
              agent.auto.register.elasticAgent.agentId=\r\n\
              other=1",
        ));
        scrub(&workdir).unwrap();
        let expected = format!(
            "# my own comment\n\
             {KEY_REMOVED}\n\
             # agent.auto.register.key=388b633a\n\
             {SETTING_REMOVED}\n\
             # agent.auto.register.resources=ant,\\\n\
             #   java\n\
             agent.auto.register.elasticAgent.agentId=\n\
             other=1\n"
        );
        assert_eq!(text(&workdir), expected);
        scrub(&workdir).unwrap();
        assert_eq!(text(&workdir), expected);
        assert!(AutoRegister::load(&workdir).unwrap().key.is_empty());
        let mode = fs::metadata(workdir.autoregister()).unwrap().permissions();
        assert_eq!(mode.mode() & 0o777, 0o600);
    }

    #[test]
    fn a_key_written_with_escapes_is_scrubbed_too() {
        let scrubbed = scrubbed("  agent.auto.register.\\u006bey 388b633a\n");
        assert!(
            scrubbed.lines().all(|line| line.starts_with('#')),
            "{scrubbed}"
        );
    }

    /// As a registered Java agent leaves it: its library puts values of several lines into one and
    /// escapes what is not ASCII.
    const LEFT_BY_JAVA: &str = "\
# Auto-registration properties in key=value format, encoded in UTF-8
# A sentence about the key.
# # A sentence about the key.
# agent.auto.register.key=388b633a-key=with:odd\\\\chars
# A sentence about the key.
# agent.auto.register.key=second
# A sentence about the others.
# agent.auto.register.resources=ant, java,caf\\u00E9
# A sentence about the others.
# agent.auto.register.hostname:   b\\u00FCro-07

! other comment
my.own=a,b
agent.auto.register.elasticAgent.agentId=p\\u00F6d-1
agent.auto.register.elasticAgent.pluginId=cd.go.contrib.elasticagent.kubernetes
";

    #[test]
    fn the_file_of_a_registered_java_agent_stays_as_it_is() {
        let (_folder, workdir) = workdir(Some(LEFT_BY_JAVA.as_bytes()));
        let found = AutoRegister::load(&workdir).unwrap();
        assert_eq!(
            found,
            AutoRegister {
                elastic_agent_id: "pöd-1".to_owned(),
                elastic_plugin_id: "cd.go.contrib.elasticagent.kubernetes".to_owned(),
                ..AutoRegister::default()
            }
        );
        scrub(&workdir).unwrap();
        assert_eq!(text(&workdir), LEFT_BY_JAVA);
    }

    /// What is found in the file afterwards was given to java.util.Properties, which reads these
    /// values, and to the library that GoCD's agent scrubs it with, which changes nothing that
    /// counts.
    #[test]
    fn java_reads_what_is_left_as_it_was_meant() {
        let (_folder, workdir) = workdir(Some(
            "my.own = a,\\\n   b\r\nagent.auto.register.key=x\r\n\
             agent.auto.register.elasticAgent.pluginId=p\u{f6}d"
                .as_bytes(),
        ));
        let variables = ImageVariables::from_environment(|name| match name {
            "GO_EA_SERVER_URL" => Some("https://ci.example.com/go".into()),
            "GO_EA_AUTO_REGISTER_KEY" => Some(" \t k\\e=y:#!\n".into()),
            "GO_EA_AUTO_REGISTER_ELASTIC_AGENT_ID" => Some("\tb\u{fc}ro".into()),
            _ => None,
        });
        variables.append_to_file(&workdir).unwrap();
        let appended = "my.own = a,\\\n   b\nagent.auto.register.key=x\n\
             agent.auto.register.elasticAgent.pluginId=p\u{f6}d\n\
             agent.auto.register.key=\\ \\t k\\\\e=y:#!\\n\n\
             agent.auto.register.elasticAgent.agentId=\\tb\u{fc}ro\n";
        assert_eq!(text(&workdir), appended);
        scrub(&workdir).unwrap();
        let expected = format!(
            "my.own = a,\\\n   b\n\
             {KEY_REMOVED}\n# agent.auto.register.key=x\n\
             agent.auto.register.elasticAgent.pluginId=p\u{f6}d\n\
             {KEY_REMOVED}\n# agent.auto.register.key=\\ \\t k\\\\e=y:#!\\n\n\
             agent.auto.register.elasticAgent.agentId=\\tb\u{fc}ro\n"
        );
        assert_eq!(text(&workdir), expected);
    }

    #[test]
    fn image_variables_are_appended_once() {
        let (_folder, workdir) = workdir(Some(b"other=1"));
        let variables = ImageVariables::from_environment(|name| match name {
            "AGENT_AUTO_REGISTER_KEY" => Some("k\\ey".into()),
            "AGENT_AUTO_REGISTER_RESOURCES" => Some("a,b".into()),
            "GO_EA_AUTO_REGISTER_KEY" => Some("not this".into()),
            _ => None,
        });
        variables.append_to_file(&workdir).unwrap();
        variables.append_to_file(&workdir).unwrap();
        assert_eq!(
            text(&workdir),
            "other=1\nagent.auto.register.key=k\\\\ey\nagent.auto.register.resources=a,b\n"
        );
        assert_eq!(AutoRegister::load(&workdir).unwrap().key.expose(), "k\\ey");
        scrub(&workdir).unwrap();
        let scrubbed = text(&workdir);
        variables.append_to_file(&workdir).unwrap();
        assert_eq!(text(&workdir), scrubbed);
    }

    #[test]
    fn elastic_variables_count_with_their_server() {
        let variables = ImageVariables::from_environment(|name| match name {
            "GO_EA_SERVER_URL" => Some("https://ci.example.com/go".into()),
            "GO_EA_AUTO_REGISTER_ELASTIC_PLUGIN_ID" => Some("docker".into()),
            "AGENT_AUTO_REGISTER_KEY" => Some("not this".into()),
            _ => None,
        });
        assert_eq!(
            variables.properties,
            [(keys::ELASTIC_PLUGIN_ID, "docker".into())]
        );
    }
}
