//! The release keys that this machine trusts, and what a package's signatures are worth to it.
//!
//! Trusted are the keys in the manifest of the launcher that runs and those that an operator has put
//! into `config/journeyman/release-keys/`, but for those that a release has retired.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use journeyman_host::{durable, workdir::WorkDir};
use journeyman_protocol::{
    release::{Manifest, PackageRef},
    release_key::{ReleaseKey, is_key_id, judge},
};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tracing::{info, warn};

use crate::launcher_file;

/// The launcher that runs, also when its file has been replaced.
const OWN_FILE: &str = "/proc/self/exe";
/// A line; anything longer is no key. Bytes.
const LARGEST_KEY: u64 = 4096;
/// Signatures of a package that are looked at.
const SIGNATURES: usize = 64;

/// What this machine trusts.
#[derive(Debug)]
pub(crate) struct Keys {
    /// Those that came with the launcher or from the operator, retired ones too.
    known: Vec<ReleaseKey>,
    retired: BTreeSet<String>,
    retired_file: PathBuf,
    extra_keys: PathBuf,
    /// Why nobody can tell what this machine trusts.
    unreadable: Option<String>,
}

/// A package that may be installed here.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Verified {
    /// Ids of the trusted keys that have signed it; none where the machine trusts none.
    keys: Vec<String>,
}

/// A package that must not be installed here.
#[derive(Debug, PartialEq, Eq, Error)]
pub(crate) enum KeyError {
    /// Nobody has signed it.
    #[error(
        "the package {package} is not signed, and this machine takes only what is signed by \
         {}; sign it (journeyman-package sign) and offer it again",
        list(trusted)
    )]
    Unsigned {
        package: String,
        trusted: Vec<String>,
    },
    /// Somebody else has signed it.
    #[error(
        "the package {package} is signed by {}, and this machine takes only what is signed by {}; \
         sign it with such a key, or put the .pub file of the other into {}",
        list(by), list(trusted), folder.display()
    )]
    Stranger {
        package: String,
        by: Vec<String>,
        trusted: Vec<String>,
        folder: PathBuf,
    },
    /// Nobody else than the owner of a key that was taken back.
    #[error(
        "the package {package} is signed by the key {key}, which an earlier release has retired; \
         sign it with another one ({})",
        list(trusted)
    )]
    Retired {
        package: String,
        key: String,
        trusted: Vec<String>,
    },
    /// A trusted key has not made the signature that bears its id.
    #[error(
        "the signature of the package {package} by the trusted key {key} is wrong: the package or \
         the signature was altered; sign the package that is offered"
    )]
    Bad { package: String, key: String },
    /// Nothing is left to verify with.
    #[error(
        "the package {package} cannot be verified: all keys of this machine ({}) are retired; put \
         the .pub file of a good one into {}", list(retired), folder.display()
    )]
    AllRetired {
        package: String,
        retired: Vec<String>,
        folder: PathBuf,
    },
    /// It is not known what is trusted here.
    #[error("the package {package} cannot be verified: {reason}")]
    Unreadable { package: String, reason: String },
}

/// Content of `config/journeyman/release-keys.json`.
#[derive(Debug, Default, Serialize, Deserialize)]
struct RetiredKeys {
    retired: BTreeSet<String>,
}

// === impl Keys ===

impl Keys {
    /// Reads what this machine trusts.
    pub(crate) fn of(workdir: &WorkDir) -> Self {
        let own = File::open(OWN_FILE)
            .map_err(|error| error.to_string())
            .and_then(|mut file| own_keys(&mut file));
        Self::with_own(workdir, own)
    }

    fn with_own(workdir: &WorkDir, own: Result<Vec<ReleaseKey>, String>) -> Self {
        let folder = workdir.config_journeyman();
        let mut keys = Self {
            known: Vec::new(),
            retired: BTreeSet::new(),
            retired_file: folder.join("release-keys.json"),
            extra_keys: folder.join("release-keys"),
            unreadable: None,
        };
        match own {
            Ok(own) => keys.known = own,
            Err(reason) => {
                let reason = format!("cannot read the keys in the launcher's own file: {reason}");
                keys.unreadable = Some(reason);
            }
        }
        keys.known.extend(extra_keys(&keys.extra_keys));
        match retired_keys(&keys.retired_file) {
            Ok(retired) => keys.retired = retired,
            Err(reason) => keys.unreadable = Some(reason),
        }
        keys
    }

    /// Verifies what a package's signatures say of its checksum. That the package has this checksum
    /// is for the caller to make sure.
    ///
    /// # Errors
    /// The package must not be installed here.
    pub(crate) fn verify(&self, offered: &PackageRef) -> Result<Verified, KeyError> {
        let package = brief(&offered.sha256);
        if let Some(reason) = &self.unreadable {
            let reason = reason.clone();
            return Err(KeyError::Unreadable { package, reason });
        }
        if self.known.is_empty() {
            warn!(
                package,
                "this machine trusts no release key, so it takes what its server offers without a \
                 signature; keys come with the launcher (journeyman-package build --release-key) \
                 or from .pub files in {}",
                self.extra_keys.display()
            );
            return Ok(Verified { keys: Vec::new() });
        }
        let (retired, trusted): (Vec<_>, Vec<_>) = self
            .known
            .iter()
            .cloned()
            .partition(|key| self.retired.contains(key.id()));
        let folder = self.extra_keys.clone();
        if trusted.is_empty() {
            return Err(KeyError::AllRetired {
                package,
                retired: ids(&retired),
                folder,
            });
        }
        let signatures = &offered.signatures;
        let signatures = signatures.get(..SIGNATURES).unwrap_or(signatures);
        let judgement = judge(&trusted, &offered.sha256, signatures);
        let (retired, unknown): (Vec<_>, Vec<_>) = judgement
            .unknown
            .into_iter()
            .partition(|id| self.retired.contains(id));
        if !judgement.good.is_empty() {
            for key in judgement.bad {
                warn!(
                    package,
                    key, "the signature by this key is wrong; another one is good"
                );
            }
            for key in retired {
                warn!(
                    package,
                    key, "signed by a key that is retired; another one is good"
                );
            }
            for key in unknown {
                let key = brief(&key);
                warn!(
                    package,
                    key, "signed by a key that is not known; another one is good"
                );
            }
            return Ok(Verified {
                keys: judgement.good,
            });
        }
        let trusted = ids(&trusted);
        Err(if let Some(key) = judgement.bad.into_iter().next() {
            KeyError::Bad { package, key }
        } else if let Some(key) = retired.into_iter().next() {
            KeyError::Retired {
                package,
                key,
                trusted,
            }
        } else if unknown.is_empty() {
            KeyError::Unsigned { package, trusted }
        } else {
            KeyError::Stranger {
                package,
                by: unknown.iter().map(|id| brief(id)).collect(),
                trusted,
                folder,
            }
        })
    }

    /// Stores which keys a verified package retires. Only for the manifest that is in the package:
    /// what a server says of it is not signed.
    pub(crate) fn retire(&self, manifest: &Manifest, verified: &Verified) {
        let named = &manifest.retired_keys;
        let mut retired = self.retired.clone();
        retired.extend(named.iter().filter(|id| is_key_id(id)).cloned());
        if retired == self.retired {
            return;
        }
        // The key that has verified the package and goes on keeps the machine from being left with
        // none.
        if verified.keys.iter().all(|key| retired.contains(key)) {
            warn!(
                keys = list(named),
                "not retiring these keys: the release was verified with none but them"
            );
            return;
        }
        let document = RetiredKeys { retired };
        let written = serde_json::to_vec_pretty(&document)
            .map_err(|error| error.to_string())
            .and_then(|text| {
                durable::write(&self.retired_file, &text).map_err(|error| error.to_string())
            });
        match written {
            Ok(()) => info!(keys = list(named), "retired release keys"),
            Err(error) => warn!(
                keys = list(named),
                error, "cannot retire these keys; the next release that names them will"
            ),
        }
    }
}

/// The keys in the manifest at the end of a launcher's file (see packaging): `executable | manifest |
/// u64 LE length of the manifest | MAGIC`. None in an executable that was not packaged.
fn own_keys(file: &mut File) -> Result<Vec<ReleaseKey>, String> {
    let manifest = launcher_file::manifest(file).map_err(|error| error.to_string())?;
    let Some(text) = manifest else {
        return Ok(Vec::new());
    };
    let mut keys = Vec::new();
    let mut bad = None;
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    for (_, value) in lines.filter(|(key, _)| key.trim() == "release-key") {
        match ReleaseKey::parse(value) {
            Ok(key) => keys.push(key),
            Err(error) => {
                warn!(%error, "a release key in the launcher's own manifest cannot be read");
                bad = Some(error);
            }
        }
    }
    // A launcher that was given keys must not trust everybody because none can be read.
    match bad {
        Some(error) if keys.is_empty() => Err(error.to_string()),
        _ => Ok(keys),
    }
}

/// The keys that an operator has added. One that cannot be read is told and does no harm.
fn extra_keys(folder: &Path) -> Vec<ReleaseKey> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => {
            if error.kind() != io::ErrorKind::NotFound {
                warn!(folder = %folder.display(), %error, "cannot read the folder of extra release keys");
            }
            return Vec::new();
        }
    };
    let mut paths: Vec<_> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|end| end == "pub"))
        .collect();
    paths.sort();
    let mut keys = Vec::new();
    for path in paths {
        let read = read_limited(&path, LARGEST_KEY).map_err(|error| error.to_string());
        let key = read.and_then(|text| {
            ReleaseKey::parse(&String::from_utf8_lossy(&text)).map_err(|error| error.to_string())
        });
        match key {
            Ok(key) => keys.push(key),
            Err(reason) => warn!(
                path = %path.display(),
                reason,
                "an extra release key cannot be used; the others count"
            ),
        }
    }
    keys
}

/// The keys that are retired here.
fn retired_keys(path: &Path) -> Result<BTreeSet<String>, String> {
    let text = durable::read_tolerant(path).map_err(|error| error.to_string())?;
    let Some(text) = text else {
        return Ok(BTreeSet::new());
    };
    match serde_json::from_slice::<RetiredKeys>(&text) {
        Ok(read) => Ok(read.retired),
        Err(error) => {
            let aside = durable::set_aside(path).map_err(|error| error.to_string())?;
            warn!(
                path = %path.display(),
                aside = %aside.display(),
                %error,
                "the list of retired release keys cannot be read and was set aside: until a release \
                 retires them again, they are trusted"
            );
            Ok(BTreeSet::new())
        }
    }
}

/// At most so many bytes: more is cut off, and then is not what it should be.
fn read_limited(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    File::open(path)?.take(limit).read_to_end(&mut text)?;
    Ok(text)
}

fn ids(keys: &[ReleaseKey]) -> Vec<String> {
    keys.iter().map(|key| key.id().to_owned()).collect()
}

fn list(ids: &[String]) -> String {
    ids.join(", ")
}

/// For a message: what comes from the network has no bounds.
fn brief(text: &str) -> String {
    let plain = text.chars().filter(char::is_ascii_graphic);
    plain.take(16).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use journeyman_packaging::{Build, SigningKey, keygen, launcher_file, package, public_path};
    use journeyman_protocol::release::Component;
    use tempfile::TempDir;

    use super::*;

    const SHA256: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    struct Machine {
        folder: TempDir,
        workdir: WorkDir,
        /// Two that the launcher trusts, and a stranger.
        keys: [SigningKey; 3],
    }

    impl Machine {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let workdir = WorkDir::new(folder.path());
            workdir.prepare().unwrap();
            let keys = ["a", "b", "c"].map(|name| keygen(&folder.path().join(name)).unwrap());
            Self {
                folder,
                workdir,
                keys,
            }
        }

        fn trusted(&self) -> Keys {
            let own = self.keys[..2].iter().map(|key| key.public().clone());
            Keys::with_own(&self.workdir, Ok(own.collect()))
        }

        fn id(&self, key: usize) -> String {
            self.keys[key].public().id().to_owned()
        }

        fn signed(&self, by: &[usize]) -> PackageRef {
            PackageRef {
                url: String::new(),
                size: 0,
                sha256: SHA256.to_owned(),
                signatures: by.iter().map(|&key| self.keys[key].sign(SHA256)).collect(),
            }
        }

        fn add(&self, name: &str, content: &[u8]) {
            let extra = self.workdir.config_journeyman().join("release-keys");
            fs::create_dir_all(&extra).unwrap();
            fs::write(extra.join(name), content).unwrap();
        }
    }

    fn retiring(ids: &[String]) -> Manifest {
        let build = Build {
            retired_keys: ids.to_vec(),
            ..Build::new(1)
        };
        package(Component::Agent, b"", &build).0
    }

    #[test]
    fn one_good_signature_by_a_trusted_key_is_enough() {
        let machine = Machine::new();
        let keys = machine.trusted();
        let verified = keys.verify(&machine.signed(&[2, 1])).unwrap();
        assert_eq!(verified.keys, [machine.id(1)]);
        let mut package = machine.signed(&[0, 1]);
        package.signatures[0].signature = "AAAA".to_owned();
        assert_eq!(keys.verify(&package).unwrap().keys, [machine.id(1)]);
    }

    #[test]
    fn everything_else_is_refused_and_says_what_to_do() {
        let machine = Machine::new();
        let keys = machine.trusted();
        let refused = |package: &PackageRef| keys.verify(package).unwrap_err().to_string();
        let error = refused(&machine.signed(&[]));
        assert!(
            error.contains("is not signed") && error.contains(&machine.id(1)),
            "{error}"
        );
        let error = refused(&machine.signed(&[2]));
        assert!(
            error.contains(&machine.id(2)) && error.contains("release-keys"),
            "{error}"
        );
        let mut package = machine.signed(&[0, 2]);
        package.sha256.replace_range(..1, "c");
        let error = refused(&package);
        assert!(
            error.contains(&machine.id(0)) && error.contains("is wrong"),
            "{error}"
        );
        assert!(error.contains(&package.sha256[..16]), "{error}");
        // A stranger's signature under a trusted id.
        let mut package = machine.signed(&[2]);
        package.signatures[0].key = machine.id(0);
        assert!(refused(&package).contains("is wrong"));
        package.signatures[0].key = "\u{1b}[2J ".repeat(100);
        assert!(refused(&package).contains("signed by [2J[2J"));
    }

    #[test]
    fn a_machine_without_keys_takes_what_is_offered() {
        let machine = Machine::new();
        let keys = Keys::of(&machine.workdir);
        assert_eq!(keys.verify(&machine.signed(&[])).unwrap().keys.len(), 0);
        // And lets nobody retire anything.
        let verified = keys.verify(&machine.signed(&[0])).unwrap();
        keys.retire(&retiring(&[machine.id(1)]), &verified);
        assert!(!keys.retired_file.exists());
    }

    #[test]
    fn an_operator_adds_keys_and_unreadable_ones_do_no_harm() {
        let machine = Machine::new();
        let public = fs::read(public_path(&machine.folder.path().join("c"))).unwrap();
        machine.add("c.pub", &public);
        machine.add("broken.pub", b"\xff");
        machine.add("endless.pub", &[b'a'; 9000]);
        machine.add("notes.txt", b"not a key");
        let extra = machine.workdir.config_journeyman().join("release-keys");
        fs::create_dir(extra.join("folder.pub")).unwrap();
        let keys = machine.trusted();
        assert_eq!(keys.known.len(), 3);
        keys.verify(&machine.signed(&[2])).unwrap();
    }

    #[test]
    fn a_retired_key_is_refused_from_then_on() {
        let machine = Machine::new();
        let keys = machine.trusted();
        let verified = keys.verify(&machine.signed(&[0, 1])).unwrap();
        keys.retire(&retiring(&[machine.id(0)]), &verified);
        let keys = machine.trusted();
        let error = keys.verify(&machine.signed(&[0])).unwrap_err().to_string();
        assert!(
            error.contains("retired") && error.contains(&machine.id(1)),
            "{error}"
        );
        let verified = keys.verify(&machine.signed(&[0, 1])).unwrap();
        // The last one stays, whatever a release says.
        keys.retire(&retiring(&[machine.id(1)]), &verified);
        machine.trusted().verify(&machine.signed(&[1])).unwrap();
        // A later launcher that knows only what was retired here trusts nobody, not everybody.
        let own = vec![machine.keys[0].public().clone()];
        let keys = Keys::with_own(&machine.workdir, Ok(own));
        let error = keys.verify(&machine.signed(&[0])).unwrap_err();
        assert!(matches!(error, KeyError::AllRetired { .. }), "{error}");
    }

    #[test]
    fn a_key_cannot_retire_itself_and_all_others() {
        let machine = Machine::new();
        let keys = machine.trusted();
        let all = [machine.id(0), machine.id(1)];
        let verified = keys.verify(&machine.signed(&[0, 1])).unwrap();
        keys.retire(&retiring(&all), &verified);
        let verified = keys.verify(&machine.signed(&[0])).unwrap();
        keys.retire(&retiring(&all[..1]), &verified);
        keys.retire(&retiring(&["no id".to_owned()]), &verified);
        assert!(!keys.retired_file.exists());
    }

    #[test]
    fn a_corrupt_list_is_set_aside() {
        let machine = Machine::new();
        let path = machine.trusted().retired_file;
        fs::write(&path, "{\"retired\": [").unwrap();
        machine.trusted().verify(&machine.signed(&[0])).unwrap();
        assert!(path.with_file_name("release-keys.json.corrupt").exists());
        assert!(!path.exists());
        // One that cannot be read must not bring retired keys back.
        fs::create_dir(&path).unwrap();
        let error = machine.trusted().verify(&machine.signed(&[0])).unwrap_err();
        assert!(error.to_string().contains("release-keys.json"), "{error}");
    }

    fn own(bytes: &[u8]) -> Result<Vec<ReleaseKey>, String> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        own_keys(&mut file)
    }

    #[test]
    fn keys_come_with_the_launcher() {
        let machine = Machine::new();
        let build = Build {
            release_keys: machine
                .keys
                .iter()
                .map(|key| key.public().clone())
                .collect(),
            ..Build::new(1)
        };
        assert_eq!(
            own(&launcher_file(b"ELF", &build)).unwrap(),
            build.release_keys
        );
        assert_eq!(own(&launcher_file(b"ELF", &Build::new(1))).unwrap(), []);
        for unpackaged in [b"".as_slice(), b"ELF", &[0; 100]] {
            assert_eq!(own(unpackaged).unwrap(), []);
        }
    }

    #[test]
    fn a_launcher_with_unreadable_keys_does_not_trust_everybody() {
        let file = |manifest: &str, length: u64| {
            [manifest.as_bytes(), &length.to_le_bytes(), b"JMLNCHR1"].concat()
        };
        let altered = "format: 1\nrelease-key: 0123456789abcdef AAAA\n";
        for (bytes, word) in [
            (file(altered, altered.len() as u64), "base64"),
            (file(altered, u64::MAX), "length"),
            (file("", 1), "length"),
            ([b"\xff".as_slice(), &file("", 1)].concat(), "UTF-8"),
        ] {
            let error = own(&bytes).unwrap_err();
            assert!(error.contains(word), "{error}");
            let machine = Machine::new();
            let keys = Keys::with_own(&machine.workdir, Err(error));
            let error = keys.verify(&machine.signed(&[0])).unwrap_err().to_string();
            assert!(error.contains("launcher's own file"), "{error}");
        }
    }
}
