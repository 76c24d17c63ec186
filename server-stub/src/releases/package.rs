//! Packages in the releases folder, read again when they change.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use journeyman_protocol::release::{
    Component, ComponentRelease, MANIFEST_FORMAT, Manifest, PackageRef,
};
use ring::digest;

/// The largest manifest that is read.
const LARGEST_MANIFEST: u64 = 1024 * 1024;
const MANIFEST_NAME: &str = "manifest.json";

/// A package that cannot be offered.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    #[error("cannot read the package {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the package {} does not begin with a manifest that this server can read: {why}; build it anew", path.display())]
    Manifest { path: PathBuf, why: String },
}

/// The folder with packages `<component>-<platform>.tar.zst`, and what is known about them.
#[derive(Debug)]
pub struct Releases {
    folder: PathBuf,
    known: Mutex<HashMap<PathBuf, (Stamp, ComponentRelease)>>,
}

/// Changes whenever a file is written or replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Releases {
    /// Packages in this folder, which need not exist.
    pub fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            known: Mutex::default(),
        }
    }

    /// What there is of a component for a platform. Blocks: a package that is new is read whole.
    ///
    /// # Errors
    ///
    /// There is a package, and it cannot be read.
    pub fn find(
        &self,
        component: Component,
        platform: &str,
    ) -> Result<Option<ComponentRelease>, PackageError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if platform.is_empty() || !platform.chars().all(plain) {
            return Ok(None);
        }
        let path = self
            .folder
            .join(format!("{}-{platform}.tar.zst", component.as_str()));
        let read = |source| PackageError::Read {
            path: path.clone(),
            source,
        };
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(read(error)),
        };
        let stamp = Stamp::of(&file).map_err(read)?;
        if let Some((known, release)) = self.known().get(&path)
            && *known == stamp
        {
            return Ok(Some(release.clone()));
        }
        let manifest = read_manifest(&path, &file)?;
        if manifest.component != component || manifest.platform != platform {
            let why = format!(
                "it is for the {} on {}",
                manifest.component.as_str(),
                manifest.platform
            );
            return Err(PackageError::Manifest { path, why });
        }
        let sha256 = sha256(&path).map_err(read)?;
        let package = PackageRef {
            url: format!("/admin/journeyman/packages/{sha256}"),
            size: stamp.size,
            sha256,
            signatures: Vec::new(),
        };
        let release = ComponentRelease { manifest, package };
        self.known().insert(path, (stamp, release.clone()));
        Ok(Some(release))
    }

    /// The file of a package that was offered, if it is still that package.
    pub fn path_of(&self, sha256: &str) -> Option<PathBuf> {
        let known = self.known();
        let (path, (stamp, _)) = known
            .iter()
            .find(|(_, (_, release))| release.package.sha256 == sha256)?;
        let now = Stamp::of(&File::open(path).ok()?).ok()?;
        (now == *stamp).then(|| path.clone())
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<PathBuf, (Stamp, ComponentRelease)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stamp {
    fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self {
            inode: metadata.ino(),
            size: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        })
    }
}

fn read_manifest(path: &Path, file: &File) -> Result<Manifest, PackageError> {
    let wrong = |why: String| PackageError::Manifest {
        path: path.to_path_buf(),
        why,
    };
    let unpacked =
        zstd::stream::read::Decoder::new(file).map_err(|error| wrong(error.to_string()))?;
    let mut archive = tar::Archive::new(unpacked);
    let mut entries = archive
        .entries()
        .map_err(|error| wrong(error.to_string()))?;
    let entry = entries
        .next()
        .ok_or_else(|| wrong("it is empty".to_owned()))?
        .map_err(|error| wrong(error.to_string()))?;
    if entry.path_bytes().as_ref() != MANIFEST_NAME.as_bytes() {
        return Err(wrong(format!("its first file is not {MANIFEST_NAME}")));
    }
    let mut text = Vec::new();
    entry
        .take(LARGEST_MANIFEST)
        .read_to_end(&mut text)
        .map_err(|error| wrong(error.to_string()))?;
    let manifest: Manifest =
        serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
    if manifest.format != MANIFEST_FORMAT {
        return Err(wrong(format!(
            "its format is {}, not {MANIFEST_FORMAT}",
            manifest.format
        )));
    }
    Ok(manifest)
}

fn sha256(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut context = digest::Context::new(&digest::SHA256);
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        context.update(&buffer[..read]);
    }
    Ok(context
        .finish()
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    const PLATFORM: &str = "linux-x86_64";

    fn build(folder: &Path, first: &str, version: &str) {
        let manifest = serde_json::json!({
            "format": 1, "component": "agent", "version": version, "build": 17, "platform": PLATFORM,
            "entryPoints": { "start": { "path": "journeyman-agent", "args": ["run"] } }, "files": [],
        })
        .to_string();
        let path = folder.join(format!("agent-{PLATFORM}.tar.zst"));
        let _ = std::fs::remove_file(&path);
        let to = zstd::stream::write::Encoder::new(File::create(path).unwrap(), 1).unwrap();
        let mut archive = tar::Builder::new(to);
        let mut header = tar::Header::new_gnu();
        header.set_size(manifest.len() as u64);
        header.set_mode(0o644);
        archive
            .append_data(&mut header, first, manifest.as_bytes())
            .unwrap();
        archive.into_inner().unwrap().finish().unwrap();
    }

    #[test]
    fn a_package_is_offered_until_another_takes_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let releases = Releases::new(folder.path().to_path_buf());
        let find = || releases.find(Component::Agent, PLATFORM);
        assert_eq!(find().unwrap(), None);

        build(folder.path(), MANIFEST_NAME, "0.1.0");
        let first = find().unwrap().unwrap();
        assert_eq!(first.manifest.version, "0.1.0");
        assert_eq!(find().unwrap().as_ref(), Some(&first));
        let path = releases.path_of(&first.package.sha256).unwrap();
        assert_eq!(sha256(&path).unwrap(), first.package.sha256);
        assert_eq!(std::fs::metadata(&path).unwrap().len(), first.package.size);

        build(folder.path(), MANIFEST_NAME, "0.2.0");
        assert_eq!(releases.path_of(&first.package.sha256), None);
        assert_eq!(find().unwrap().unwrap().manifest.version, "0.2.0");
        assert_eq!(releases.find(Component::Agent, "../x").unwrap(), None);
        assert_eq!(releases.find(Component::Launcher, PLATFORM).unwrap(), None);
    }

    #[test]
    fn a_package_without_its_manifest_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let releases = Releases::new(folder.path().to_path_buf());
        build(folder.path(), "journeyman-agent", "0.1.0");
        let error = releases.find(Component::Agent, PLATFORM).unwrap_err();
        assert!(error.to_string().contains("its first file"), "{error}");
        std::fs::write(
            folder.path().join(format!("agent-{PLATFORM}.tar.zst")),
            "cut",
        )
        .unwrap();
        assert!(releases.find(Component::Agent, PLATFORM).is_err());
    }
}
