//! `journeyman-server backup` and `journeyman-server restore`. They work on the data folder itself,
//! so they need a shell on the server's machine and the right to read the folder.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use jiff::Timestamp;

use super::{ERROR, output};
use crate::answer::Chain;
use crate::backup::{self, BackupError};
use crate::configuration::Paths;

#[derive(Args, Debug)]
pub(super) struct Backup {
    /// An archive to write, if its name ends in .tar.zst, else a folder; in a folder that is there
    /// already a new one is made. It holds keys: keep it where only you may read it.
    #[arg(value_name = "FILE|FOLDER")]
    place: PathBuf,

    #[command(flatten)]
    data: Data,
}

#[derive(Args, Debug)]
pub(super) struct Restore {
    /// The archive or the folder.
    #[arg(value_name = "FILE|FOLDER")]
    place: PathBuf,

    /// Put the backup in the place of a data folder that is not empty; what is there is deleted.
    #[arg(long)]
    replace: bool,

    #[command(flatten)]
    data: Data,
}

#[derive(Args, Debug)]
struct Data {
    /// The data folder.
    #[arg(
        long,
        env = "JOURNEYMAN_DATA",
        default_value = "journeyman-server",
        value_name = "DIR"
    )]
    data: PathBuf,

    /// Answer with JSON, for programs.
    #[arg(long)]
    json: bool,
}

pub(super) async fn back_up(arguments: Backup) -> ExitCode {
    let Backup { place, data } = arguments;
    let paths = Paths::new(data.data, None);
    let made = match backup::create(&paths, &place, Timestamp::now()).await {
        Ok(made) => made,
        Err(error) => return failed(&error),
    };
    warn_of(&made.missing);
    if data.json {
        output::json(&made);
    } else {
        output::say(&format!(
            "{}: {} files, {}",
            made.place.display(),
            made.files,
            size(made.bytes)
        ));
    }
    ExitCode::SUCCESS
}

pub(super) async fn restore(arguments: Restore) -> ExitCode {
    let Restore {
        place,
        replace,
        data,
    } = arguments;
    let paths = Paths::new(data.data, None);
    let restored = match backup::restore(&place, &paths, replace).await {
        Ok(restored) => restored,
        Err(error) => return failed(&error),
    };
    warn_of(&restored.missing);
    if data.json {
        output::json(&restored);
    } else {
        let made = Timestamp::from_millisecond(restored.created_at).unwrap_or_default();
        output::say(&format!(
            "{}: {} files, {}, as of {made:.0} (version {})",
            restored.data.display(),
            restored.files,
            size(restored.bytes),
            output::clean(&restored.version)
        ));
    }
    ExitCode::SUCCESS
}

fn warn_of(missing: &[String]) {
    for name in missing {
        let name = output::clean(name);
        output::complain(&format!(
            "warning: {name} was not on the server's disk and is not in the backup"
        ));
    }
}

fn size(bytes: u64) -> String {
    output::size(i64::try_from(bytes).unwrap_or(i64::MAX))
}

fn failed(error: &BackupError) -> ExitCode {
    let text = Chain(error).to_string();
    output::complain(&format!("journeyman-server: {}", output::clean(&text)));
    ExitCode::from(ERROR)
}
