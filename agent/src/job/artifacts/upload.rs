//! Uploading one file or folder.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, Write},
    path::{Component, Path, PathBuf},
    time::Duration,
};

use jiff::Zoned;
use journeyman_protocol::{console::Tag, files};
use md5::{Digest, Md5};
use reqwest::{
    Body, Method, StatusCode,
    header::{HeaderMap, HeaderName, HeaderValue},
    multipart::{Form, Part},
};
use tokio::time::sleep;
use tokio_util::io::ReaderStream;
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

use super::checksums::Checksums;
use crate::{
    job::{
        console::Console,
        server::{CallError, JobServer},
    },
    remoting::refusal::is_unregistered,
};

/// GoCD: attempts for one item, without a pause.
const ATTEMPTS: u32 = 3;
/// Pauses while nobody answers, or only a proxy does; that does not count as an attempt.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// How much is read and sent at once, in bytes.
const CHUNK: usize = 64 * 1024;
/// GoCD's: the fastest. Level 1 of deflate.
const LEVEL: i64 = 1;
/// Deeper than this only links that lead back lead.
const DEEPEST: usize = 200;
/// Where temporary files are, relative to the agent's working directory.
const DATA: &str = "data";

/// Uploads for one job.
pub(super) struct Uploader<'a> {
    pub(super) server: &'a JobServer,
    pub(super) console: &'a Console,
    /// The agent's working directory.
    pub(super) root: &'a Path,
}

/// An item ready to be sent.
struct Packed {
    zip: File,
    length: u64,
    /// Bytes before packing.
    size: u64,
    checksums: String,
}

impl Uploader<'_> {
    /// Uploads a file or folder to a folder of the job's artifacts. Says on the console how that
    /// goes; true when the server has it.
    pub(super) async fn upload(&self, item: &Path, dest: &str) -> bool {
        let name = item.display();
        if Path::new(dest)
            .components()
            .any(|part| part == Component::ParentDir)
        {
            self.error(&format!(
                "[go] Failed to upload {name}: its destination {dest} leaves the job's artifacts"
            ));
            return false;
        }
        let Some(packed) = self.pack(item, dest).await else {
            return false;
        };
        for attempt in 1..=ATTEMPTS {
            let shown = if dest.is_empty() {
                "[defaultRoot]"
            } else {
                dest
            };
            self.console.line(
                Tag::Publish,
                &format!("[go] Uploading artifacts from {name} to {shown}"),
            );
            let status = self.send(item, dest, &packed, attempt).await;
            if status.is_some_and(|status| status.is_success()) {
                return true;
            }
            if status == Some(StatusCode::PAYLOAD_TOO_LARGE) {
                self.error(&format!(
                    "[go] Artifact upload for file {name} (Size: {}) was denied by the server. This \
                     usually happens when server runs out of disk space.",
                    packed.size
                ));
            }
            self.error(&format!("[go] Failed to upload {name}"));
            if status == Some(StatusCode::PAYLOAD_TOO_LARGE) {
                break;
            }
        }
        false
    }

    async fn pack(&self, item: &Path, dest: &str) -> Option<Packed> {
        let (path, data, dest) = (item.to_owned(), self.root.join(DATA), dest.to_owned());
        let now = self.console.now();
        let packed = tokio::task::spawn_blocking(move || pack(&path, &data, &dest, &now))
            .await
            .unwrap_or_else(|error| Err(io::Error::other(error)));
        match packed {
            Ok(packed) => Some(packed),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.error(&format!("[go] Failed to find {}", item.display()));
                None
            }
            Err(error) => {
                self.error(&format!(
                    "[go] Failed to upload {}: {error}",
                    item.display()
                ));
                None
            }
        }
    }

    /// Sends the item once, through any time that nobody answers. None: it could not be sent.
    async fn send(
        &self,
        item: &Path,
        dest: &str,
        packed: &Packed,
        attempt: u32,
    ) -> Option<StatusCode> {
        let path = format!(
            "{}?{}={attempt}&{}={}",
            files::file_path(self.server.job(), dest),
            files::ATTEMPT,
            files::BUILD_ID,
            self.server.job().build_id
        );
        let mut pause = FIRST_PAUSE;
        loop {
            let form = match form(item, packed) {
                Ok(form) => form,
                Err(error) => {
                    tracing::error!(%error, item = %item.display(), "Cannot send an artifact");
                    return None;
                }
            };
            let used = self.server.credentials();
            let request = self
                .server
                .file_request(Method::POST, &path)
                .header(files::X_GO_ARTIFACT_SIZE, packed.size)
                .header(files::X_GOCD_CONFIRM, "true")
                .multipart(form);
            let outage = match request.send().await {
                Ok(answer) => {
                    let status = answer.status();
                    let refusal = CallError::Refused { status };
                    if !refusal.is_outage() {
                        // GoCD: 403 also says that a file of that name is there already.
                        if is_unregistered(status) && self.server.renewed(&used, status).await {
                            continue;
                        }
                        if !status.is_success() {
                            tracing::warn!(%status, attempt, item = %item.display(), "An upload was refused");
                        }
                        return Some(status);
                    }
                    status.to_string()
                }
                Err(error) => error.without_url().to_string(),
            };
            tracing::warn!(error = outage, again_in = ?pause, item = %item.display(), "An upload broke");
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn error(&self, text: &str) {
        self.console.line(Tag::PublishErr, text);
    }
}

fn form(item: &Path, packed: &Packed) -> io::Result<Form> {
    // A handle of its own position would be nicer; this one is read by one request at a time.
    let mut zip = packed.zip.try_clone()?;
    zip.rewind()?;
    let stream = ReaderStream::with_capacity(tokio::fs::File::from_std(zip), CHUNK);
    let name: String = file_name(item)
        .chars()
        .map(|c| {
            if c.is_ascii() && !c.is_ascii_control() {
                c
            } else {
                '?'
            }
        })
        .collect();
    let zip = Part::stream_with_length(Body::wrap_stream(stream), packed.length)
        .file_name(format!("{name}.zip"))
        .mime_str("application/octet-stream")
        .map_err(io::Error::other)?
        .headers(binary());
    let checksums = Part::text(packed.checksums.clone())
        .file_name(files::CHECKSUM_PART_FILE_NAME)
        .mime_str("application/octet-stream")
        .map_err(io::Error::other)?
        .headers(binary());
    Ok(Form::new()
        .part(files::ZIP_PART, zip)
        .part(files::CHECKSUM_PART, checksums))
}

/// GoCD: each part says that it is not encoded.
fn binary() -> HeaderMap {
    let name = HeaderName::from_static("content-transfer-encoding");
    HeaderMap::from_iter([(name, HeaderValue::from_static("binary"))])
}

/// Packs into a file that has no name, so that nothing is left of it whatever happens.
fn pack(item: &Path, data: &Path, dest: &str, now: &Zoned) -> io::Result<Packed> {
    let zip = tempfile::tempfile_in(data)?;
    let mut packing = Packing {
        zip: ZipWriter::new(io::BufWriter::with_capacity(CHUNK, zip)),
        checksums: Checksums::new(dest, now),
        size: 0,
        buffer: vec![0; CHUNK],
    };
    packing.add(item, &file_name(item), 0)?;
    let Packing {
        zip,
        checksums,
        size,
        ..
    } = packing;
    let zip = zip.finish().map_err(io::Error::other)?;
    let zip = zip.into_inner().map_err(io::IntoInnerError::into_error)?;
    Ok(Packed {
        length: zip.metadata()?.len(),
        zip,
        size,
        checksums: checksums.into_text(),
    })
}

struct Packing<W: Write + Seek> {
    zip: ZipWriter<W>,
    checksums: Checksums,
    size: u64,
    buffer: Vec<u8>,
}

impl<W: Write + Seek> Packing<W> {
    /// Adds a file, or a folder with all that is in it. What is neither is left out: a pipe would
    /// be waited for for ever.
    fn add(&mut self, path: &Path, name: &str, depth: usize) -> io::Result<()> {
        let metadata = fs::metadata(path)?;
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Deflated)
            .compression_level(Some(LEVEL))
            .large_file(metadata.len() >= u64::from(u32::MAX));
        if metadata.is_file() {
            self.zip
                .start_file(name, options)
                .map_err(io::Error::other)?;
            return self.copy(path, name);
        }
        if !metadata.is_dir() || depth > DEEPEST {
            tracing::warn!(path = %path.display(), "Not published: neither file nor folder");
            return Ok(());
        }
        self.zip
            .add_directory(format!("{name}/"), options)
            .map_err(io::Error::other)?;
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            let Ok(child) = entry.file_name().into_string() else {
                tracing::warn!(path = %entry.path().display(), "Not published: its name is not Unicode");
                continue;
            };
            match self.add(&entry.path(), &format!("{name}/{child}"), depth + 1) {
                // A link to nothing, or a file that went just now.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                added => added?,
            }
        }
        Ok(())
    }

    fn copy(&mut self, path: &Path, name: &str) -> io::Result<()> {
        let mut file = File::open(path)?;
        let mut digest = Md5::new();
        loop {
            let length = file.read(&mut self.buffer)?;
            let Some(part) = self.buffer.get(..length).filter(|part| !part.is_empty()) else {
                break;
            };
            digest.update(part);
            self.zip.write_all(part)?;
            self.size += length as u64;
        }
        self.checksums.add(name, &digest.finalize());
        Ok(())
    }
}

/// The item's own name; of the working directory itself that of its folder.
fn file_name(item: &Path) -> String {
    let item: PathBuf = item.components().collect();
    item.file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}
