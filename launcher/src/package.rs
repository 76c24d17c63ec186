//! Unpacking a package: nothing but the files its manifest names, each as the manifest says.

use std::{
    collections::HashSet,
    fs::{self, File, OpenOptions, Permissions},
    io::{self, BufReader, Read},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Component as Part, Path},
};

use journeyman_host::durable;
use journeyman_protocol::release::{
    Component, LAUNCHER_PROTOCOL, MANIFEST_FORMAT, Manifest, ReleaseFile,
};
use thiserror::Error;

use crate::{
    digest,
    offer::OWN_PLATFORM,
    space::{self, SpaceError},
};

/// First entry of every package, and beside the files once they are unpacked.
pub(crate) const MANIFEST: &str = "manifest.json";
/// A manifest has a few hundred bytes per file.
const LARGEST_MANIFEST: u64 = 1024 * 1024;
/// All files of a package together. Bytes.
const LARGEST_CONTENT: u64 = 4 * 1024 * 1024 * 1024;

/// A package was refused or could not be unpacked.
#[derive(Debug, Error)]
pub(crate) enum UnpackError {
    /// What is in it is not what it should be.
    #[error("the package is refused: {0}")]
    Refused(String),
    /// Another launcher could use it.
    #[error("the package needs another launcher than this one: {0}")]
    OtherLauncher(String),
    /// The disk has no room for it.
    #[error(transparent)]
    Space(#[from] SpaceError),
    /// It could not be read, or its files not be written.
    #[error("cannot unpack into {folder}: {source}", folder = folder)]
    Io {
        /// Where to.
        folder: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Unpacks a package into an empty folder, verifies everything against the manifest that was
/// offered, and flushes it. Nothing is written where there is too little room for all of it.
pub(crate) fn unpack(package: &Path, offered: &Manifest, into: &Path) -> Result<(), UnpackError> {
    let failed = |source| UnpackError::Io {
        folder: into.display().to_string(),
        source,
    };
    check(offered, offered.component)?;
    let content = content(offered);
    space::ensure("unpack the package", into, content)?;
    let file = File::open(package).map_err(failed)?;
    let decoder = zstd::Decoder::new(BufReader::new(file)).map_err(failed)?;
    // The announced sizes bound what a small package can grow to; a manifest and the padding of
    // the archive come on top.
    let mut archive = tar::Archive::new(decoder.take(content + 2 * LARGEST_MANIFEST));
    let mut missing: HashSet<&str> = offered
        .files
        .iter()
        .map(|file| file.path.as_str())
        .collect();
    let mut first = true;
    for entry in archive.entries().map_err(failed)? {
        let mut entry = entry.map_err(failed)?;
        let path = entry.path().map_err(failed)?.into_owned();
        let name = path.to_string_lossy().into_owned();
        if entry.header().entry_type() != tar::EntryType::Regular {
            return Err(refused(format!("{name:?} is not a plain file")));
        }
        if first {
            first = false;
            if name != MANIFEST {
                return Err(refused(format!(
                    "it begins with {name:?}, not with {MANIFEST}"
                )));
            }
            let manifest: Manifest = serde_json::from_reader(entry.take(LARGEST_MANIFEST))
                .map_err(|error| refused(format!("its manifest cannot be read: {error}")))?;
            if manifest != *offered {
                return Err(refused(
                    "its manifest is not the one that was offered".to_owned(),
                ));
            }
            continue;
        }
        let Some(announced) = offered.files.iter().find(|file| file.path == name) else {
            return Err(refused(format!("{name:?} is not in its manifest")));
        };
        if !missing.remove(name.as_str()) {
            return Err(refused(format!("{name:?} is in it twice")));
        }
        write(&mut entry, announced, into).map_err(failed)??;
    }
    if let Some(name) = missing.iter().next() {
        return Err(refused(format!("{name:?} is missing")));
    }
    let document = serde_json::to_vec_pretty(offered).map_err(|error| failed(error.into()))?;
    durable::write(&into.join(MANIFEST), &document)
        .map_err(|error| failed(io::Error::new(error.kind(), error)))?;
    for folder in folders(offered, into) {
        durable::sync_folder(&folder)
            .map_err(|error| failed(io::Error::new(error.kind(), error)))?;
    }
    Ok(())
}

/// The manifest at the beginning of a package, unverified.
pub(crate) fn peek(package: &Path) -> io::Result<Manifest> {
    let decoder = zstd::Decoder::new(BufReader::new(File::open(package)?))?;
    let mut archive = tar::Archive::new(decoder.take(2 * LARGEST_MANIFEST));
    let first = archive.entries()?.next().transpose()?;
    let first = first.ok_or_else(|| io::Error::other("the package is empty"))?;
    Ok(serde_json::from_reader(first.take(LARGEST_MANIFEST))?)
}

/// Whether this launcher can install the component by what its manifest says: asked before anything
/// is downloaded, and again of the package.
pub(crate) fn check(manifest: &Manifest, expected: Component) -> Result<(), UnpackError> {
    let refuse = |why: String| Err(refused(why));
    if manifest.format != MANIFEST_FORMAT {
        return Err(UnpackError::OtherLauncher(format!(
            "its manifest has format {}, and this launcher knows only {MANIFEST_FORMAT}",
            manifest.format
        )));
    }
    if manifest.component != expected {
        return refuse(format!(
            "it is the {}, not the {}",
            manifest.component.as_str(),
            expected.as_str()
        ));
    }
    if manifest.platform != OWN_PLATFORM {
        return refuse(format!(
            "it was built for {:?}, and this machine is {OWN_PLATFORM}",
            manifest.platform
        ));
    }
    check_files(manifest)?;
    check_entry_points(manifest)
}

fn check_files(manifest: &Manifest) -> Result<(), UnpackError> {
    let mut paths = HashSet::new();
    for file in &manifest.files {
        let path = Path::new(&file.path);
        // Written in the one way, so that no two names mean one file.
        let inside = path
            .components()
            .all(|part| matches!(part, Part::Normal(_)))
            && path.components().count() == file.path.split('/').count()
            && file.path != MANIFEST;
        if !inside {
            return Err(refused(format!(
                "{:?} is no path inside a package",
                file.path
            )));
        }
        if !paths.insert(&file.path) {
            return Err(refused(format!("{:?} is in its manifest twice", file.path)));
        }
    }
    let content = content(manifest);
    if content > LARGEST_CONTENT {
        return Err(refused(format!(
            "its files have {content} bytes, more than {LARGEST_CONTENT}"
        )));
    }
    Ok(())
}

fn check_entry_points(manifest: &Manifest) -> Result<(), UnpackError> {
    let take_over = manifest.entry_points.take_over.as_ref();
    if manifest.component == Component::Agent {
        if !manifest
            .protocols
            .iter()
            .any(|name| name == LAUNCHER_PROTOCOL)
        {
            return Err(UnpackError::OtherLauncher(format!(
                "it speaks {:?}, and this launcher knows only {LAUNCHER_PROTOCOL}",
                manifest.protocols
            )));
        }
        if take_over.is_none() {
            return Err(refused(
                "its manifest names no program to take over with".to_owned(),
            ));
        }
    }
    for entry_point in std::iter::once(&manifest.entry_points.start).chain(take_over) {
        let path = &entry_point.path;
        let file = manifest.files.iter().find(|file| file.path == *path);
        if file.is_none_or(|file| file.mode & 0o100 == 0) {
            return Err(refused(format!(
                "its entry point {path:?} is not an executable file of it"
            )));
        }
    }
    Ok(())
}

/// Bytes of all files; the largest number if there are more.
pub(crate) fn content(manifest: &Manifest) -> u64 {
    let sizes = manifest.files.iter().map(|file| file.size);
    sizes.fold(0, u64::saturating_add)
}

/// Whether a folder holds exactly what the manifest says: a release that was installed before, maybe
/// by another launcher that could do more with it.
pub(crate) fn is_intact(folder: &Path, manifest: &Manifest) -> bool {
    check_files(manifest).is_ok()
        && read_manifest(folder).is_ok_and(|installed| installed == *manifest)
        && manifest.files.iter().all(|file| {
            let path = folder.join(&file.path);
            fs::symlink_metadata(&path).is_ok_and(|found| {
                found.is_file()
                    && found.len() == file.size
                    && found.permissions().mode() & 0o777 == mode(file)
            }) && digest::of_file(&path).is_ok_and(|sha256| sha256 == file.sha256)
        })
}

/// The manifest of an installed release.
pub(crate) fn read_manifest(folder: &Path) -> io::Result<Manifest> {
    let file = File::open(folder.join(MANIFEST))?;
    Ok(serde_json::from_reader(file.take(LARGEST_MANIFEST))?)
}

fn write(
    entry: &mut impl Read,
    announced: &ReleaseFile,
    into: &Path,
) -> io::Result<Result<(), UnpackError>> {
    let path = into.join(&announced.path);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)?;
    let got = digest::copy(&mut entry.take(announced.size + 1), &file)?;
    if got.size != announced.size || got.sha256 != announced.sha256 {
        return Ok(Err(refused(format!(
            "{:?} is not what its manifest says ({} bytes, SHA-256 {})",
            announced.path, got.size, got.sha256
        ))));
    }
    file.set_permissions(Permissions::from_mode(mode(announced)))?;
    file.sync_all()?;
    Ok(Ok(()))
}

/// No set-user-id or other special bits, whatever a manifest says.
const fn mode(file: &ReleaseFile) -> u32 {
    file.mode & 0o777
}

fn folders(manifest: &Manifest, root: &Path) -> HashSet<std::path::PathBuf> {
    let mut folders: HashSet<_> = manifest
        .files
        .iter()
        .flat_map(|file| Path::new(&file.path).ancestors().skip(1))
        .map(|folder| root.join(folder))
        .collect();
    folders.insert(root.to_owned());
    folders
}

fn refused(why: String) -> UnpackError {
    UnpackError::Refused(why)
}

#[cfg(test)]
mod tests {
    use journeyman_packaging::{Build, Package, PackageFile, package};
    use tempfile::TempDir;

    use super::*;

    type Alter = fn(&mut Manifest);

    /// An archive of one's own making, for what packaging would never make.
    fn archive(entries: &[(&str, &[u8])]) -> Vec<u8> {
        let mut archive = tar::Builder::new(Vec::new());
        for (name, content) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o755);
            // `append_data` refuses the names an attacker would use.
            header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_cksum();
            archive.append(&header, *content).unwrap();
        }
        zstd::encode_all(archive.into_inner().unwrap().as_slice(), 1).unwrap()
    }

    fn manifest() -> (Manifest, Vec<u8>) {
        let (manifest, _) = package(Component::Agent, b"an agent", &Build::new(1));
        let document = serde_json::to_vec(&manifest).unwrap();
        (manifest, document)
    }

    fn unpacked(bytes: &[u8], manifest: &Manifest) -> (TempDir, Result<(), UnpackError>) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("package");
        fs::write(&file, bytes).unwrap();
        let into = folder.path().join("into");
        fs::create_dir(&into).unwrap();
        let result = unpack(&file, manifest, &into);
        (folder, result)
    }

    #[test]
    fn what_packaging_makes_is_unpacked_and_found_intact_until_it_is_altered() {
        let (manifest, bytes) = package(Component::Agent, b"an agent", &Build::new(1));
        let (folder, result) = unpacked(&bytes, &manifest);
        result.unwrap();
        let into = folder.path().join("into");
        assert_eq!(
            fs::read(into.join("journeyman-agent")).unwrap(),
            b"an agent"
        );
        assert!(is_intact(&into, &manifest));
        // An older launcher installed it; this one could not, but may go back to it.
        let mut older = manifest.clone();
        older.protocols.clear();
        fs::write(into.join(MANIFEST), serde_json::to_vec(&older).unwrap()).unwrap();
        assert!(is_intact(&into, &older));
        assert!(!is_intact(&into, &manifest));
        fs::write(into.join(MANIFEST), serde_json::to_vec(&manifest).unwrap()).unwrap();
        fs::write(into.join("journeyman-agent"), "an agenT").unwrap();
        assert!(!is_intact(&into, &manifest));
    }

    #[test]
    fn nothing_leaves_the_folder_and_nothing_unannounced_enters_it() {
        let (manifest, document) = manifest();
        let good: (&str, &[u8]) = ("journeyman-agent", b"an agent");
        let first: (&str, &[u8]) = (MANIFEST, &document);
        for (entries, word) in [
            (vec![first, ("../escaped", b"x".as_slice())], "escaped"),
            (vec![first, ("/tmp/escaped", b"x".as_slice())], "escaped"),
            (vec![first, good, ("more", b"x".as_slice())], "more"),
            (vec![first, good, good], "twice"),
            (vec![first], "missing"),
            (vec![good], "begins with"),
            (
                vec![first, ("journeyman-agent", b"an agenT".as_slice())],
                "SHA-256",
            ),
            (
                vec![first, ("journeyman-agent", b"an agent and more".as_slice())],
                "bytes",
            ),
        ] {
            let (folder, result) = unpacked(&archive(&entries), &manifest);
            let error = result.unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
            assert!(!folder.path().join("escaped").exists());
        }
    }

    #[test]
    fn an_offered_manifest_cannot_name_a_path_outside() {
        let (manifest, _) = manifest();
        for path in [
            "../x",
            "/x",
            "a/../../x",
            "",
            MANIFEST,
            ".",
            "a//b",
            "a/./b",
            "a/",
        ] {
            let mut altered = manifest.clone();
            altered.files[0].path = path.to_owned();
            altered.entry_points.start.path = path.to_owned();
            let (_folder, result) = unpacked(b"", &altered);
            assert!(matches!(result, Err(UnpackError::Refused(_))), "{path}");
        }
    }
    #[test]
    fn what_this_launcher_cannot_start_is_refused_before_anything_is_written() {
        let (manifest, _) = manifest();
        check(&manifest, Component::Agent).unwrap();
        let cases: [(Alter, &str); 10] = [
            (|m| m.format = 2, "another launcher"),
            (|m| m.component = Component::Launcher, "not the agent"),
            (|m| m.platform = "plan9-mips".to_owned(), "plan9-mips"),
            (
                |m| m.protocols = vec!["launcher-2".to_owned()],
                "another launcher",
            ),
            (|m| m.entry_points.take_over = None, "take over"),
            (|m| m.entry_points.start.path = "no".to_owned(), "\"no\""),
            (|m| m.files[0].mode = 0o644, "executable"),
            (|m| m.files.push(m.files[0].clone()), "twice"),
            (|m| m.files[0].size = u64::MAX, "bytes"),
            (
                |m| {
                    let take_over = m.entry_points.take_over.as_mut().unwrap();
                    take_over.path = "../sh".to_owned();
                },
                "../sh",
            ),
        ];
        for (alter, word) in cases {
            let mut altered = manifest.clone();
            alter(&mut altered);
            let error = check(&altered, Component::Agent).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn a_package_of_another_layout_is_unpacked_as_it_is() {
        let build = Build::new(1);
        let mut layout = Package::of_executable(Component::Agent, b"an agent", &build);
        layout.files[0].path = "bin/agent".to_owned();
        layout.files.push(PackageFile {
            path: "share/notes".to_owned(),
            mode: 0o4640,
            content: b"notes",
        });
        let points = &mut layout.entry_points;
        points.start.path = "bin/agent".to_owned();
        points.take_over.as_mut().unwrap().path = "bin/agent".to_owned();
        let (manifest, bytes) = layout.pack().unwrap();
        let (folder, result) = unpacked(&bytes, &manifest);
        result.unwrap();
        let into = folder.path().join("into");
        assert_eq!(fs::read(into.join("bin/agent")).unwrap(), b"an agent");
        let mode = fs::metadata(into.join("share/notes"))
            .unwrap()
            .permissions();
        assert_eq!(mode.mode() & 0o7777, 0o640);
        assert!(is_intact(&into, &manifest));
    }
}
