//! Signatures of packages, in a file beside each: `<package>.sig`.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use journeyman_protocol::{
    release::{Manifest, Signatures},
    release_key::{Judgement, ReleaseKey, judge},
};
use ring::digest::{SHA256, digest};

use crate::{
    PackagingError, SigningKey,
    package::{MANIFEST, hex},
    write,
};

/// A manifest has a few hundred bytes per file.
const LARGEST_MANIFEST: u64 = 1024 * 1024;

/// A package could not be signed, or its signatures not be verified.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The package or its signatures.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Not a package.
    #[error("{} is not a package of journeyman-package: {why}", path.display())]
    NoPackage {
        /// The file.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// The signatures are not what they should be.
    #[error("the signatures in {} cannot be read: {why}; remove the file and sign again", path.display())]
    Signatures {
        /// The file.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// The signatures cannot be written.
    #[error(transparent)]
    Write(#[from] PackagingError),
    /// There is no file of signatures.
    #[error("{} is not signed: there is no {}", path.display(), signatures.display())]
    Unsigned {
        /// The package.
        path: PathBuf,
        /// What is missing.
        signatures: PathBuf,
    },
    /// A key that was given has not made the signature that bears its id.
    #[error(
        "the signature of {} by the key {key} is wrong: the package was altered or built anew after \
         it was signed; if you built it, sign it again",
        path.display()
    )]
    Bad {
        /// The package.
        path: PathBuf,
        /// The id.
        key: String,
    },
    /// Only others have signed it.
    #[error(
        "none of the given keys has signed {}; signed by: {}",
        path.display(), if others.is_empty() { "nobody".to_owned() } else { others.join(", ") }
    )]
    Stranger {
        /// The package.
        path: PathBuf,
        /// Ids of those who have.
        others: Vec<String>,
    },
}

/// Signs a package. A signature by the same key is replaced, others stay.
///
/// # Errors
/// It is no package, or the signatures beside it cannot be read or written.
pub fn sign(key: &SigningKey, package: &Path) -> Result<PathBuf, SignError> {
    let (_, sha256) = read(package)?;
    let path = signatures_path(package);
    let mut all = signatures(&path)?.unwrap_or_default().signatures;
    all.retain(|signature| signature.key != key.public().id());
    all.push(key.sign(&sha256));
    // In whatever order they sign, the file is the same.
    all.sort_by(|a, b| a.key.cmp(&b.key));
    let document = serde_json::to_vec_pretty(&Signatures { signatures: all });
    let mut document = document.map_err(|error| SignError::Signatures {
        path: path.clone(),
        why: error.to_string(),
    })?;
    document.push(b'\n');
    write(&path, &document, 0o644)?;
    Ok(path)
}

/// Verifies a package as a machine that trusts these keys would, and says who has signed it.
///
/// # Errors
/// No given key has.
pub fn verify(keys: &[ReleaseKey], package: &Path) -> Result<(Manifest, Judgement), SignError> {
    let (manifest, sha256) = read(package)?;
    let path = signatures_path(package);
    let found = signatures(&path)?.ok_or_else(|| SignError::Unsigned {
        path: package.to_owned(),
        signatures: path,
    })?;
    let judgement = judge(keys, &sha256, &found.signatures);
    if !judgement.good.is_empty() {
        return Ok((manifest, judgement));
    }
    let path = package.to_owned();
    Err(match judgement.bad.into_iter().next() {
        Some(key) => SignError::Bad { path, key },
        None => SignError::Stranger {
            path,
            others: judgement.unknown,
        },
    })
}

/// Where the signatures of a package are.
pub fn signatures_path(package: &Path) -> PathBuf {
    let mut name = package.as_os_str().to_owned();
    name.push(".sig");
    PathBuf::from(name)
}

fn signatures(path: &Path) -> Result<Option<Signatures>, SignError> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            return Err(SignError::Read {
                path: path.to_owned(),
                source,
            });
        }
    };
    let read = serde_json::from_slice(&text);
    read.map(Some).map_err(|error| SignError::Signatures {
        path: path.to_owned(),
        why: error.to_string(),
    })
}

/// The manifest of a package and its SHA-256.
fn read(package: &Path) -> Result<(Manifest, String), SignError> {
    let mut bytes = Vec::new();
    File::open(package)
        .and_then(|mut file| file.read_to_end(&mut bytes))
        .map_err(|source| SignError::Read {
            path: package.to_owned(),
            source,
        })?;
    let manifest = manifest(&bytes).map_err(|why| SignError::NoPackage {
        path: package.to_owned(),
        why,
    })?;
    Ok((manifest, hex(digest(&SHA256, &bytes).as_ref())))
}

fn manifest(package: &[u8]) -> Result<Manifest, String> {
    let read = || {
        let decoder = zstd::Decoder::new(package)?;
        let mut archive = tar::Archive::new(decoder);
        let first = archive.entries()?.next().transpose()?;
        let first = first.ok_or_else(|| io::Error::other("it is empty"))?;
        if first.path_bytes().as_ref() != MANIFEST.as_bytes() {
            return Err(io::Error::other(format!(
                "it does not begin with {MANIFEST}"
            )));
        }
        Ok(serde_json::from_reader(first.take(LARGEST_MANIFEST))?)
    };
    read().map_err(|error: io::Error| error.to_string())
}

#[cfg(test)]
mod tests {
    use journeyman_protocol::release::Component;
    use tempfile::TempDir;

    use super::*;
    use crate::{Build, keygen, package};

    fn keys(folder: &TempDir) -> [SigningKey; 2] {
        ["one", "two"].map(|name| keygen(&folder.path().join(name)).unwrap())
    }

    fn packaged(folder: &TempDir, content: &str) -> PathBuf {
        let path = folder.path().join("agent-linux-x86_64.tar.zst");
        let (_, bytes) = package(Component::Agent, content.as_bytes(), &Build::new(1));
        fs::write(&path, bytes).unwrap();
        path
    }

    #[test]
    fn keys_sign_beside_each_other_and_reproducibly() {
        let folder = tempfile::tempdir().unwrap();
        let [one, two] = keys(&folder);
        let path = packaged(&folder, "an agent");
        let beside = sign(&one, &path).unwrap();
        assert!(beside.to_str().unwrap().ends_with(".tar.zst.sig"));
        sign(&two, &path).unwrap();
        let both = fs::read(&beside).unwrap();
        fs::remove_file(&beside).unwrap();
        sign(&two, &path).unwrap();
        sign(&one, &path).unwrap();
        sign(&one, &path).unwrap();
        assert_eq!(fs::read(&beside).unwrap(), both);
        let (manifest, judged) = verify(&[one.public().clone()], &path).unwrap();
        assert_eq!(manifest.build, 1);
        assert_eq!(judged.good, [one.public().id()]);
        assert_eq!(judged.unknown, [two.public().id()]);
    }

    #[test]
    fn what_is_wrong_with_a_package_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let [one, two] = keys(&folder);
        let path = packaged(&folder, "an agent");
        let verified = |key: &SigningKey| verify(&[key.public().clone()], &path);
        let unsigned = verified(&one).unwrap_err().to_string();
        assert!(unsigned.contains("is not signed"), "{unsigned}");
        let beside = sign(&one, &path).unwrap();
        let stranger = verified(&two).unwrap_err().to_string();
        assert!(stranger.contains(one.public().id()), "{stranger}");
        packaged(&folder, "an agenT");
        let bad = verified(&one).unwrap_err().to_string();
        assert!(bad.contains(one.public().id()), "{bad}");
        assert!(bad.contains("sign it again"), "{bad}");
        fs::write(&beside, "{").unwrap();
        for error in [verified(&one).unwrap_err(), sign(&one, &path).unwrap_err()] {
            assert!(error.to_string().contains("remove the file"), "{error}");
        }
        fs::write(&path, "something else").unwrap();
        let error = sign(&one, &path).unwrap_err();
        assert!(matches!(error, SignError::NoPackage { .. }), "{error}");
        fs::remove_file(&path).unwrap();
        let error = sign(&one, &path).unwrap_err();
        assert!(matches!(error, SignError::Read { .. }), "{error}");
    }
}
