//! Files that carry something behind an executable. The loader of the operating system ignores
//! what follows an executable's own sections.

use ring::digest::{SHA256, digest};

use crate::Build;

/// The launcher's executable with the manifest a bootstrapper reads: what to start it with, and
/// what its exit codes mean. The layout never changes, because bootstrappers never do:
/// `executable | manifest | u64 LE length of the manifest | "JMLNCHR1"`.
pub fn launcher_file(executable: &[u8], build: &Build) -> Vec<u8> {
    let mut manifest = format!(
        "format: 1\n\
         version: {}\n\
         build: {}\n\
         args: run --lifeline --bootstrapper-version {{bootstrapper_version}}\n\
         relaunch-at-once: 60\n\
         worked: 61\n\
         give-up: 64 73\n\
         done: 80\n",
        build.version, build.number
    );
    for key in &build.release_keys {
        manifest.push_str(&format!("release-key: {key}\n"));
    }
    [
        executable,
        manifest.as_bytes(),
        &(manifest.len() as u64).to_le_bytes(),
        b"JMLNCHR1",
    ]
    .concat()
}

/// The bootstrapper's executable with a launcher file inside:
/// `executable | launcher file | SHA-256 of it | u64 LE length of it | "JMBTSTR1"`.
pub fn bootstrapper_file(executable: &[u8], launcher_file: &[u8]) -> Vec<u8> {
    [
        executable,
        launcher_file,
        digest(&SHA256, launcher_file).as_ref(),
        &(launcher_file.len() as u64).to_le_bytes(),
        b"JMBTSTR1",
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use journeyman_protocol::release_key::ReleaseKey;

    use super::*;

    #[test]
    fn the_manifest_is_found_from_the_end() {
        let file = launcher_file(b"ELF", &Build::new(17));
        let (rest, magic) = file.split_last_chunk::<8>().unwrap();
        assert_eq!(magic, b"JMLNCHR1");
        let (rest, length) = rest.split_last_chunk::<8>().unwrap();
        let length = u64::from_le_bytes(*length) as usize;
        let manifest = std::str::from_utf8(&rest[rest.len() - length..]).unwrap();
        assert!(manifest.starts_with("format: 1\n"), "{manifest}");
        assert!(manifest.contains("\nbuild: 17\n"), "{manifest}");
        assert!(manifest.contains("\nworked: 61\n"), "{manifest}");
        assert_eq!(&rest[..rest.len() - length], b"ELF");
    }

    #[test]
    fn the_keys_it_trusts_are_in_its_manifest() {
        let keys = [[1; 32], [2; 32]].map(ReleaseKey::new);
        let build = Build {
            release_keys: keys.to_vec(),
            ..Build::new(1)
        };
        let file = String::from_utf8_lossy(&launcher_file(b"ELF", &build)).into_owned();
        for key in keys {
            assert!(file.contains(&format!("\nrelease-key: {key}\n")), "{file}");
        }
    }

    #[test]
    fn the_launcher_is_found_from_the_end() {
        let file = bootstrapper_file(b"ELF", b"launcher");
        let (rest, magic) = file.split_last_chunk::<8>().unwrap();
        assert_eq!(magic, b"JMBTSTR1");
        let (rest, length) = rest.split_last_chunk::<8>().unwrap();
        assert_eq!(u64::from_le_bytes(*length), 8);
        let (rest, checksum) = rest.split_last_chunk::<32>().unwrap();
        assert_eq!(checksum, digest(&SHA256, b"launcher").as_ref());
        assert_eq!(rest, b"ELFlauncher");
    }
}
