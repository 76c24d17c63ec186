//! The packages of this build, made once and shared by all tests.

use std::{
    fs::{self, File},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use journeyman_packaging::{Build, PLATFORM, package_name, release};
use journeyman_protocol::release::Component;

use crate::binaries::{self, binary};

const PROGRAMS: [&str; 3] = [
    "journeyman-agent",
    "journeyman-bootstrapper",
    "journeyman-launcher",
];

/// What `journeyman-package build` makes of the programs beside this test.
pub struct Releases {
    /// The releases folder to give to a server.
    pub folder: PathBuf,
    /// The one file an operator copies.
    pub bootstrapper: PathBuf,
}

impl Releases {
    /// The releases of this build; packaged at the first call, by whichever process comes first.
    pub fn of_this_run() -> &'static Self {
        static RELEASES: OnceLock<Releases> = OnceLock::new();
        RELEASES.get_or_init(|| {
            let all = binaries::folder().join("journeyman-tests");
            fs::create_dir_all(&all).expect("a folder for packages");
            // Several test programs may run at a time.
            let lock = File::create(all.join("lock")).expect("a lock file");
            lock.lock().expect("the lock");
            let folder = all.join(fingerprint());
            if !folder.join("done").exists() {
                remove_others(&all);
                package_into(&folder, 1);
                File::create(folder.join("done")).expect("a mark that this is done");
            }
            Self {
                bootstrapper: folder.join("journeyman-bootstrapper"),
                folder,
            }
        })
    }

    /// A newer build of the same programs in a folder of its own: what an upgrade looks like.
    pub fn newer(folder: &Path) -> Self {
        package_into(folder, 2);
        Self {
            folder: folder.to_owned(),
            bootstrapper: folder.join("journeyman-bootstrapper"),
        }
    }

    /// The path of a component's package.
    pub fn package(&self, component: Component) -> PathBuf {
        self.folder.join(package_name(component, &Build::new(0)))
    }
}

/// The platform of this build, as the server's release endpoint wants it.
pub const fn platform() -> &'static str {
    PLATFORM
}

fn package_into(folder: &Path, build: u64) {
    let programs = folder.join("programs");
    fs::create_dir_all(&programs).expect("a folder for the programs");
    for name in PROGRAMS {
        // Without what only a debugger reads they are a tenth of the size, and every test
        // installs them.
        let stripped = Command::new("strip")
            .arg("--strip-debug")
            .arg("-o")
            .arg(programs.join(name))
            .arg(binary(name))
            .status()
            .expect("strip, which comes with the linker");
        assert!(stripped.success(), "strip {name}: {stripped}");
    }
    release(&programs, folder, &Build::new(build)).expect("packages");
    fs::remove_dir_all(&programs).expect("the programs removed");
}

/// Tells one build of the programs from another.
fn fingerprint() -> String {
    let parts = PROGRAMS.map(|name| {
        let metadata = fs::metadata(binary(name)).expect("a program");
        format!(
            "{:x}{:x}",
            metadata.mtime() * 1_000_000_000 + metadata.mtime_nsec(),
            metadata.len()
        )
    });
    parts.join("-")
}

fn remove_others(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
