//! The package of a component: a `tar.zst` with its manifest first.

use std::io::Write;

use journeyman_protocol::release::{
    Component, EntryPoint, EntryPoints, LAUNCHER_PROTOCOL, MANIFEST_FORMAT, Manifest, ReleaseFile,
    StateFormats,
};
use ring::digest::{SHA256, digest};

use crate::{Build, Packaged};

/// First in every package.
pub(crate) const MANIFEST: &str = "manifest.json";
/// Permission bits of an executable.
const EXECUTABLE: u32 = 0o755;
/// Executables shrink to a third at this level; higher ones take seconds for a few percent.
const COMPRESSION: i32 = 3;

/// What a package is made of.
#[derive(Clone, Debug)]
pub struct Package<'a> {
    /// What it is.
    pub component: Component,
    /// Which build of it; its retired keys are in the manifest.
    pub build: Build,
    /// How to start it.
    pub entry_points: EntryPoints,
    /// What it speaks.
    pub protocols: Vec<String>,
    /// The formats of its state.
    pub state: StateFormats,
    /// Everything in it, in whatever layout.
    pub files: Vec<PackageFile<'a>>,
}

/// A file to package.
#[derive(Clone, Debug)]
pub struct PackageFile<'a> {
    /// Relative to the root of the package, with forward slashes.
    pub path: String,
    /// Unix permission bits.
    pub mode: u32,
    /// What is in it.
    pub content: &'a [u8],
}

/// Something that no launcher would install.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot package the {}: {why}", component.as_str())]
pub struct PackageError {
    component: Component,
    why: String,
}

/// Packages a component that is one executable.
pub fn package(component: Component, executable: &[u8], build: &Build) -> Packaged {
    Package::of_executable(component, executable, build).packed()
}

/// How a component is started. `{...}` stands for what only the one who starts it knows; the
/// connection's arguments follow.
pub fn entry_points(component: Component) -> EntryPoints {
    let (path, start, take_over) = match component {
        Component::Launcher => (
            "journeyman-launcher",
            "run --lifeline --bootstrapper-version {bootstrapper_version}",
            None,
        ),
        Component::Agent => (
            "journeyman-agent",
            "run --lifeline --bootstrapper-version {bootstrapper_version} \
             --launcher-version {launcher_version} --release {release}",
            Some("take-over"),
        ),
        Component::Bootstrapper => ("journeyman-bootstrapper", "", None),
    };
    let entry_point = |args: &str| EntryPoint {
        path: path.to_owned(),
        args: args.split_whitespace().map(str::to_owned).collect(),
    };
    EntryPoints {
        start: entry_point(start),
        take_over: take_over.map(entry_point),
    }
}

/// The formats of an agent's state; the other components keep none.
const fn state_formats(component: Component) -> StateFormats {
    match component {
        Component::Agent => StateFormats {
            written: 2,
            oldest: 1,
        },
        Component::Launcher | Component::Bootstrapper => StateFormats {
            written: 0,
            oldest: 0,
        },
    }
}

// === impl Package ===

impl<'a> Package<'a> {
    /// A component that is one executable, in our layout and with our entry points.
    pub fn of_executable(component: Component, executable: &'a [u8], build: &Build) -> Self {
        let entry_points = entry_points(component);
        let protocols: &[&str] = match component {
            Component::Agent => &[LAUNCHER_PROTOCOL],
            Component::Launcher | Component::Bootstrapper => &[],
        };
        Self {
            component,
            build: build.clone(),
            files: vec![PackageFile {
                path: entry_points.start.path.clone(),
                mode: EXECUTABLE,
                content: executable,
            }],
            entry_points,
            protocols: protocols.iter().map(|&name| name.to_owned()).collect(),
            state: state_formats(component),
        }
    }

    /// The package: manifest and bytes. The same content gives the same bytes, in whatever order the
    /// files are given.
    ///
    /// # Errors
    /// A launcher would refuse the result.
    pub fn pack(mut self) -> Result<Packaged, PackageError> {
        self.files.sort_by(|a, b| a.path.cmp(&b.path));
        self.check().map_err(|why| PackageError {
            component: self.component,
            why,
        })?;
        Ok(self.packed())
    }

    fn check(&self) -> Result<(), String> {
        for file in &self.files {
            let plain = |part: &str| !matches!(part, "" | "." | "..");
            if !file.path.split('/').all(plain) || file.path == MANIFEST {
                return Err(format!("{:?} is no path for a file of it", file.path));
            }
        }
        for (one, next) in self.files.iter().zip(self.files.iter().skip(1)) {
            if one.path == next.path {
                return Err(format!("{:?} is in it twice", one.path));
            }
        }
        let EntryPoints { start, take_over } = &self.entry_points;
        for entry_point in std::iter::once(start).chain(take_over) {
            let file = self.files.iter().find(|file| file.path == entry_point.path);
            if file.is_none_or(|file| file.mode & 0o100 == 0) {
                return Err(format!(
                    "its entry point {:?} is not an executable file of it",
                    entry_point.path
                ));
            }
        }
        Ok(())
    }

    fn packed(self) -> Packaged {
        let manifest = Manifest {
            format: MANIFEST_FORMAT,
            component: self.component,
            version: self.build.version,
            build: self.build.number,
            platform: self.build.platform,
            protocols: self.protocols,
            state: self.state,
            entry_points: self.entry_points,
            files: self.files.iter().map(announced).collect(),
            retired_keys: self.build.retired_keys,
        };
        let bytes = archive(&manifest, &self.files);
        (manifest, bytes)
    }
}

fn announced(file: &PackageFile<'_>) -> ReleaseFile {
    ReleaseFile {
        path: file.path.clone(),
        size: file.content.len() as u64,
        mode: file.mode,
        sha256: hex(digest(&SHA256, file.content).as_ref()),
    }
}

#[expect(
    clippy::expect_used,
    reason = "writing to memory cannot fail, and a manifest is plain data"
)]
fn archive(manifest: &Manifest, files: &[PackageFile<'_>]) -> Vec<u8> {
    let document = serde_json::to_vec_pretty(manifest).expect("a manifest is plain data");
    let mut encoder = zstd::Encoder::new(Vec::new(), COMPRESSION).expect("a level zstd knows");
    let mut archive = tar::Builder::new(&mut encoder);
    let manifest = PackageFile {
        path: MANIFEST.to_owned(),
        mode: 0o644,
        content: &document,
    };
    for file in std::iter::once(&manifest).chain(files) {
        // No times, no owners: they would differ from build to build.
        let mut header = tar::Header::new_gnu();
        header.set_mode(file.mode);
        header.set_size(file.content.len() as u64);
        archive
            .append_data(&mut header, &file.path, file.content)
            .expect("checked names into memory");
    }
    archive.into_inner().expect("writing to memory");
    encoder.flush().expect("writing to memory");
    encoder.finish().expect("writing to memory")
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn a_package_says_first_what_is_in_it() {
        let (manifest, bytes) = package(Component::Agent, b"an agent", &Build::new(3));
        let mut archive = tar::Archive::new(zstd::Decoder::new(bytes.as_slice()).unwrap());
        let mut entries = archive.entries().unwrap().map(Result::unwrap);
        let first = entries.next().unwrap();
        assert_eq!(first.path().unwrap().to_str(), Some("manifest.json"));
        let read: Manifest = serde_json::from_reader(first).unwrap();
        assert_eq!(read, manifest);
        let mut second = entries.next().unwrap();
        assert_eq!(second.path().unwrap().to_str(), Some("journeyman-agent"));
        assert_eq!(second.header().mode().unwrap(), 0o755);
        let mut content = String::new();
        second.read_to_string(&mut content).unwrap();
        assert_eq!(content, "an agent");
        assert!(entries.next().is_none());
    }
    fn of_files<'a>(start: &str, files: &[(&str, u32, &'a str)]) -> Package<'a> {
        let mut package = Package::of_executable(Component::Agent, b"", &Build::new(3));
        start.clone_into(&mut package.entry_points.start.path);
        package.entry_points.take_over = None;
        package.files = files
            .iter()
            .map(|&(path, mode, content)| PackageFile {
                path: path.to_owned(),
                mode,
                content: content.as_bytes(),
            })
            .collect();
        package
    }

    #[test]
    fn a_package_may_have_any_layout_and_its_order_does_not_matter() {
        let files = [
            ("bin/agent", 0o755, "run"),
            ("share/doc/README", 0o644, "read"),
        ];
        let (manifest, bytes) = of_files("bin/agent", &files).pack().unwrap();
        let turned = [files[1], files[0]];
        assert_eq!(of_files("bin/agent", &turned).pack().unwrap().1, bytes);
        let mut archive = tar::Archive::new(zstd::Decoder::new(bytes.as_slice()).unwrap());
        let entries = archive.entries().unwrap().map(Result::unwrap);
        let paths: Vec<_> = entries
            .map(|entry| entry.path().unwrap().into_owned())
            .collect();
        let paths: Vec<_> = paths.iter().map(|path| path.to_str().unwrap()).collect();
        assert_eq!(paths, ["manifest.json", "bin/agent", "share/doc/README"]);
        assert_eq!(manifest.files[1].mode, 0o644);
    }

    #[test]
    fn what_no_launcher_would_install_is_not_packaged() {
        let good = ("agent", 0o755, "run");
        for (files, word) in [
            (vec![good, ("../x", 0o644, "")], "../x"),
            (vec![good, ("/x", 0o644, "")], "/x"),
            (vec![good, ("a//x", 0o644, "")], "a//x"),
            (vec![good, ("", 0o644, "")], "no path"),
            (vec![good, ("manifest.json", 0o644, "")], "manifest.json"),
            (vec![good, good], "twice"),
            (vec![("agent", 0o644, "run")], "executable"),
            (vec![("x", 0o755, "run")], "entry point"),
        ] {
            let error = of_files("agent", &files).pack().unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
