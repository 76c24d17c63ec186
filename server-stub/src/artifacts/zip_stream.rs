//! A folder as a zip, made while it is sent.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::header;
use tokio_util::io::{ReaderStream, SyncIoBridge};
use zip::{ZipWriter, write::SimpleFileOptions, write::StreamWriter};

use crate::{App, answer::Chain};

/// The folder below its own name. If a file cannot be read the answer breaks off, so that nobody
/// takes half of it for the whole.
pub(super) fn folder(app: &Arc<App>, path: PathBuf, name: String) -> Response {
    let (reader, writer) = tokio::io::duplex(256 * 1024);
    let bridge = SyncIoBridge::new(writer);
    app.tasks.spawn_blocking(move || {
        if let Err(error) = write(&path, &name, bridge) {
            tracing::warn!(folder = %path.display(), error = %Chain(&error), "a zip of artifacts broke off");
        }
    });
    let body = Body::from_stream(ReaderStream::with_capacity(reader, 64 * 1024));
    ([(header::CONTENT_TYPE, "application/zip")], body).into_response()
}

fn write(path: &Path, name: &str, to: impl io::Write) -> io::Result<()> {
    let mut zip = ZipWriter::new_stream(to);
    add(&mut zip, path, name)?;
    io::Write::flush(&mut zip.finish()?)
}

fn add<W: io::Write>(
    zip: &mut ZipWriter<StreamWriter<W>>,
    folder: &Path,
    name: &str,
) -> io::Result<()> {
    let options = SimpleFileOptions::default();
    zip.add_directory(name, options)?;
    let mut items = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
    items.sort_by_key(fs::DirEntry::file_name);
    for item in items {
        let inner = format!("{name}/{}", item.file_name().to_string_lossy());
        if item.file_type()?.is_dir() {
            add(zip, &item.path(), &inner)?;
        } else {
            let mut file = fs::File::open(item.path())?;
            let large = file.metadata()?.len() >= u64::from(u32::MAX);
            zip.start_file(inner, options.large_file(large))?;
            io::copy(&mut file, zip)?;
        }
    }
    Ok(())
}
