//! Packages of a test's own making: what packaging makes, and what it never would.

use journeyman_packaging::{Build, PLATFORM, entry_points, launcher_file};
use journeyman_protocol::release::{
    Component, EntryPoint, LAUNCHER_PROTOCOL, MANIFEST_FORMAT, Manifest, ReleaseFile, StateFormats,
};
use ring::digest::{SHA256, digest};

use crate::binaries::binary;

/// What these agents put into the folder of their release, beside what was in the package.
pub(crate) const BESIDE: &str = ".of-the-test";

/// A package before it is one: every part may be altered.
#[derive(Clone, Debug)]
pub struct Package {
    /// Of the files it is written when the package is made: see [`Package::bytes`].
    pub manifest: Manifest,
    files: Vec<(String, u32, Vec<u8>)>,
    unannounced: Vec<(String, Vec<u8>)>,
}

// === impl Package ===

impl Package {
    /// This run's agent, as build `build`.
    ///
    /// The program itself is a few words of shell that become the real agent, so that a test can
    /// have many of them.
    pub fn agent(build: u64) -> Self {
        Self::starting(Component::Agent, build, &becomes_agent())
    }

    /// This run's launcher, as build `build`; otherwise as [`Package::agent`].
    pub fn launcher(build: u64) -> Self {
        Self::starting(Component::Launcher, build, &becomes_launcher())
    }

    /// A component whose only program is this script: its arguments are those of the entry points.
    pub fn starting(component: Component, build: u64, script: &str) -> Self {
        let build = Build::new(build);
        let entry_points = entry_points(component);
        let mut program = script_file(script);
        if component == Component::Launcher {
            program = launcher_file(&program, &build);
        }
        let is_agent = component == Component::Agent;
        let path = entry_points.start.path.clone();
        Self {
            manifest: Manifest {
                format: MANIFEST_FORMAT,
                component,
                version: build.version,
                build: build.number,
                platform: PLATFORM.to_owned(),
                protocols: is_agent
                    .then(|| LAUNCHER_PROTOCOL.to_owned())
                    .into_iter()
                    .collect(),
                state: if is_agent {
                    StateFormats {
                        written: 2,
                        oldest: 1,
                    }
                } else {
                    StateFormats::default()
                },
                entry_points,
                files: Vec::new(),
                retired_keys: Vec::new(),
            },
            files: vec![(path, 0o755, program)],
            unannounced: Vec::new(),
        }
    }

    /// Runs this script in the place of its program. `"$@"` are the arguments of the entry point,
    /// and `really` becomes the real agent with them.
    pub fn acting(mut self, script: &str) -> Self {
        let really = becomes_agent();
        self.files[0].2 = script_file(&format!("really() {{\n{really}\n}}\n{script}"));
        self
    }

    /// Does what the script says when it is started, and the real thing when it is to take over.
    pub fn acting_when_started(self, script: &str) -> Self {
        self.acting(&format!(
            "case $1 in run) {{ {script}\n}};; *) really \"$@\";; esac"
        ))
    }

    /// Does what the script says when it is to take over, and the real thing when it is started.
    pub fn acting_when_taking_over(self, script: &str) -> Self {
        self.acting(&format!(
            "case $1 in take-over) {{ {script}\n}};; *) really \"$@\";; esac"
        ))
    }

    /// One more file.
    pub fn with_file(mut self, path: &str, mode: u32, content: &[u8]) -> Self {
        self.files.push((path.to_owned(), mode, content.to_vec()));
        self
    }

    /// A file that the manifest says nothing of.
    pub fn with_unannounced(mut self, path: &str, content: &[u8]) -> Self {
        self.unannounced.push((path.to_owned(), content.to_vec()));
        self
    }

    pub fn with_version(mut self, version: &str) -> Self {
        version.clone_into(&mut self.manifest.version);
        self
    }

    /// As [`Package::agent`], with other places and words than today's: the first release of all.
    /// It keeps its state in format 1, which is the file `config/cookie`, and takes over by
    /// switching the link.
    pub fn oldest_agent(build: u64) -> Self {
        let mut oldest = Self::agent(build).with_version("0.0.9");
        let manifest = &mut oldest.manifest;
        manifest.entry_points.start = EntryPoint {
            path: "bin/agent".to_owned(),
            args: ["run", "--lifeline"].map(str::to_owned).to_vec(),
        };
        manifest.entry_points.take_over = Some(EntryPoint {
            path: "libexec/switch".to_owned(),
            args: vec!["--to".to_owned()],
        });
        manifest.state = StateFormats {
            written: 1,
            oldest: 1,
        };
        oldest.files = vec![
            ("bin/agent".to_owned(), 0o755, script_file(&becomes_agent())),
            (
                "libexec/switch".to_owned(),
                0o755,
                script_file(
                    "set -e\nrm -f current.new\nln -s \"releases/$2\" current.new\n\
                     mv -T current.new current",
                ),
            ),
        ];
        oldest
    }

    /// Has this as its program.
    pub fn with_program(mut self, program: Vec<u8>) -> Self {
        self.files[0].2 = program;
        self
    }

    /// Its first file, which is its program.
    pub fn program(&self) -> &[u8] {
        &self.files[0].2
    }

    /// The name a server knows it by.
    pub fn name(&self) -> String {
        format!(
            "{}-{}.tar.zst",
            self.manifest.component.as_str(),
            self.manifest.platform
        )
    }

    /// The package. The manifest lists the files as they are, unless it lists some already.
    pub fn bytes(&self) -> Vec<u8> {
        let mut manifest = self.manifest.clone();
        if manifest.files.is_empty() {
            manifest.files = self
                .files
                .iter()
                .map(|(path, mode, content)| ReleaseFile {
                    path: path.clone(),
                    size: content.len() as u64,
                    mode: *mode,
                    sha256: sha256(content),
                })
                .collect();
        }
        let document = serde_json::to_vec(&manifest).expect("a manifest is plain data");
        let mut archive = tar::Builder::new(Vec::new());
        append(&mut archive, "manifest.json", 0o644, &document);
        for (path, mode, content) in &self.files {
            append(&mut archive, path, *mode, content);
        }
        for (path, content) in &self.unannounced {
            append(&mut archive, path, 0o644, content);
        }
        let archive = archive.into_inner().expect("writing to memory");
        zstd::encode_all(archive.as_slice(), 1).expect("writing to memory")
    }

    /// The name of its folder in `releases/`, once it is unpacked.
    pub fn folder_name(&self) -> String {
        let checksum = sha256(&self.bytes());
        format!("{}-{}", self.manifest.version, &checksum[..12])
    }
}

/// By hand: the library refuses the names that an attacker would use.
fn append(archive: &mut tar::Builder<Vec<u8>>, path: &str, mode: u32, content: &[u8]) {
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(mode);
    let name = &mut header.as_gnu_mut().expect("a GNU header").name;
    name[..path.len()].copy_from_slice(path.as_bytes());
    header.set_cksum();
    archive.append(&header, content).expect("writing to memory");
}

/// Becomes the launcher, wherever that is.
fn becomes_launcher() -> String {
    format!("exec '{}' \"$@\"", binary("journeyman-launcher").display())
}

/// Becomes the agent. That one must be in the folder of its release: a hard link costs nothing.
fn becomes_agent() -> String {
    format!(
        "place=$(dirname \"$0\")/{BESIDE}\n\
         if [ ! -e \"$place/journeyman-agent\" ]; then\n\
         mkdir -p \"$place\"\n\
         ln '{program}' \"$place/$$\" 2> /dev/null || cp '{program}' \"$place/$$\"\n\
         mv \"$place/$$\" \"$place/journeyman-agent\"\n\
         fi\n\
         exec \"$place/journeyman-agent\" \"$@\"",
        program = binary("journeyman-agent").display()
    )
}

/// What follows the script, as in a launcher's file, is not read.
fn script_file(script: &str) -> Vec<u8> {
    format!("#!/bin/sh\n{script}\nexit\n").into_bytes()
}

/// SHA-256 in lower-case hex.
pub fn sha256(bytes: &[u8]) -> String {
    digest(&SHA256, bytes)
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Fills a file so that it does not compress, the same at each call.
pub fn noise(bytes: usize) -> Vec<u8> {
    let blocks =
        (0_u64..).flat_map(|block| digest(&SHA256, &block.to_le_bytes()).as_ref().to_vec());
    blocks.take(bytes).collect()
}
