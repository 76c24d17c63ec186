//! `journeyman-package`: builds a release out of compiled programs, and signs it.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use journeyman_packaging::{
    Build, KeyError, SigningKey, keygen, public_path, read_public, release, sign, verify,
};
use journeyman_protocol::release_key::{ReleaseKey, is_key_id};

/// Builds what a server offers its agents and what an operator copies to a build machine.
#[derive(Parser)]
#[command(name = "journeyman-package", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write the packages of launcher, agent and bootstrapper, and the bootstrapper with its
    /// launcher inside.
    Build {
        /// Folder with the compiled programs, for example target/dist.
        #[arg(long, value_name = "DIR")]
        bin_dir: PathBuf,
        /// Folder to write to. Give the packages to a server; copy journeyman-bootstrapper to a
        /// build machine.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// Number of the build: of two builds the greater is the newer.
        #[arg(long, env = "JOURNEYMAN_BUILD", default_value_t = 0)]
        build: u64,
        /// Version for people; that of this program if none is given.
        #[arg(long, value_parser = version)]
        version: Option<String>,
        /// Public half of a key whose signature a machine trusts once it runs this launcher. May be
        /// given several times.
        #[arg(long, value_name = "FILE.pub")]
        release_key: Vec<PathBuf>,
        /// Id of a key that a machine trusts no more once it has verified a package of this build
        /// with another key. May be given several times.
        #[arg(long, value_name = "ID", value_parser = key_id)]
        retire_key: Vec<String>,
    },
    /// Make a key to sign packages with: FILE, to be kept secret, and FILE.pub.
    Keygen {
        /// File for the private key; it must not exist.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Sign packages: writes PACKAGE.sig, beside signatures by other keys.
    Sign {
        /// The private key.
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// What to sign.
        #[arg(required = true, value_name = "PACKAGE")]
        packages: Vec<PathBuf>,
    },
    /// Verify packages as a machine that trusts the given keys would.
    Verify {
        /// Public half of a trusted key. May be given several times.
        #[arg(long, required = true, value_name = "FILE.pub")]
        key: Vec<PathBuf>,
        /// What to verify.
        #[arg(required = true, value_name = "PACKAGE")]
        packages: Vec<PathBuf>,
    },
}

#[expect(clippy::print_stdout, reason = "the answer of a command-line program")]
fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Build {
            bin_dir,
            out,
            build,
            version,
            release_key,
            retire_key,
        } => {
            let own = Build::new(build);
            let build = Build {
                version: version.unwrap_or(own.version),
                release_keys: public_keys(&release_key)?,
                retired_keys: retire_key,
                ..own
            };
            let written = release(&bin_dir, &out, &build)?;
            println!("{}", written.launcher_package.display());
            println!("{}", written.agent_package.display());
            println!("{}", written.bootstrapper_package.display());
            println!("{}", written.bootstrapper.display());
        }
        Command::Keygen { out } => {
            let key = keygen(&out)?;
            println!(
                "{} (key {})",
                public_path(&out).display(),
                key.public().id()
            );
        }
        Command::Sign { key, packages } => {
            let key = SigningKey::read(&key)?;
            for package in packages {
                println!("{}", sign(&key, &package)?.display());
            }
        }
        Command::Verify { key, packages } => {
            let keys = public_keys(&key)?;
            for package in packages {
                let (manifest, judgement) = verify(&keys, &package)?;
                println!(
                    "{}: the {} {} (build {}), signed by {}",
                    package.display(),
                    manifest.component.as_str(),
                    manifest.version,
                    manifest.build,
                    judgement.good.join(", ")
                );
            }
        }
    }
    Ok(())
}

fn public_keys(paths: &[PathBuf]) -> Result<Vec<ReleaseKey>, KeyError> {
    paths.iter().map(|path| read_public(path)).collect()
}

/// It becomes a line of a manifest and the name of a folder.
fn version(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+' | '_');
    if text.is_empty() || text.len() > 64 || !text.chars().all(plain) {
        return Err(
            "up to 64 letters, digits, dots, hyphens, plus signs and underscores".to_owned(),
        );
    }
    Ok(text.to_owned())
}

fn key_id(text: &str) -> Result<String, String> {
    if !is_key_id(text) {
        return Err(
            "an id is 16 digits of lower-case hex: the first word in the key's .pub file"
                .to_owned(),
        );
    }
    Ok(text.to_owned())
}
