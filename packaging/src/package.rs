//! The package of a component: a `tar.zst` with its manifest first.

use std::io::Write;

use journeyman_protocol::release::{
    Component, EntryPoint, EntryPoints, LAUNCHER_PROTOCOL, MANIFEST_FORMAT, Manifest, ReleaseFile,
    StateFormats,
};
use ring::digest::{SHA256, digest};

use crate::{Build, Packaged};

/// Permission bits of an executable.
const EXECUTABLE: u32 = 0o755;
/// Executables shrink to a third at this level; higher ones take seconds for a few percent.
const COMPRESSION: i32 = 3;

/// Packages a component that is one executable.
pub fn package(component: Component, executable: &[u8], build: &Build) -> Packaged {
    let entry_points = entry_points(component);
    let protocols: &[&str] = match component {
        Component::Agent => &[LAUNCHER_PROTOCOL],
        Component::Launcher | Component::Bootstrapper => &[],
    };
    let manifest = Manifest {
        format: MANIFEST_FORMAT,
        component,
        version: build.version.clone(),
        build: build.number,
        platform: build.platform.clone(),
        files: vec![ReleaseFile {
            path: entry_points.start.path.clone(),
            size: executable.len() as u64,
            mode: EXECUTABLE,
            sha256: hex(digest(&SHA256, executable).as_ref()),
        }],
        entry_points,
        protocols: protocols.iter().map(|&name| name.to_owned()).collect(),
        state: state_formats(component),
        retired_keys: Vec::new(),
    };
    let bytes = archive(&manifest, executable);
    (manifest, bytes)
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

#[expect(
    clippy::expect_used,
    reason = "writing to memory cannot fail, and a manifest is plain data"
)]
fn archive(manifest: &Manifest, executable: &[u8]) -> Vec<u8> {
    let document = serde_json::to_vec_pretty(manifest).expect("a manifest is plain data");
    let mut encoder = zstd::Encoder::new(Vec::new(), COMPRESSION).expect("a level zstd knows");
    let mut archive = tar::Builder::new(&mut encoder);
    for (path, mode, content) in [
        ("manifest.json", 0o644, document.as_slice()),
        (
            manifest.entry_points.start.path.as_str(),
            EXECUTABLE,
            executable,
        ),
    ] {
        // No times, no owners: they would differ from build to build.
        let mut header = tar::Header::new_gnu();
        header.set_mode(mode);
        header.set_size(content.len() as u64);
        archive
            .append_data(&mut header, path, content)
            .expect("short names into memory");
    }
    archive.into_inner().expect("writing to memory");
    encoder.flush().expect("writing to memory");
    encoder.finish().expect("writing to memory")
}

fn hex(bytes: &[u8]) -> String {
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
}
