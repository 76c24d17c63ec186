//! Paths and headers of a job's files at the server: console log, artifacts, checksums.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::job::JobIdentifier;

/// What all paths of job files start with, relative to the server's base URL.
pub const FILES_PATH: &str = "/remoting/files";
/// The console log among a job's files; agents append to it with PUT.
pub const CONSOLE_LOG: &str = "cruise-output/console.log";
/// MD5 sums of a job's artifacts among its files, as Java properties.
pub const CHECKSUM_FILE: &str = "cruise-output/md5.checksum";

/// Header of uploads and console PUTs: bytes of the source before zipping, in decimal.
pub const X_GO_ARTIFACT_SIZE: &str = "X-Go-Artifact-Size";
/// Header of uploads with the value `true`; without it the server answers 400.
pub const X_GOCD_CONFIRM: &str = "X-GoCD-Confirm";
/// Old name of [`X_GOCD_CONFIRM`]; servers still take it.
pub const CONFIRM: &str = "Confirm";

/// Query parameter of uploads and console PUTs: number of the try, from 1.
pub const ATTEMPT: &str = "attempt";
/// Query parameter of uploads and console PUTs: [`JobIdentifier::build_id`].
pub const BUILD_ID: &str = "buildId";
/// Query parameter of downloads: base64 of the SHA-1 of the local file; 304 if it is the same.
pub const SHA1: &str = "sha1";

/// Part of an upload: a zip that the server unpacks under the path.
pub const ZIP_PART: &str = "zipfile";
/// Part of an upload: a file that the server stores at the path as it is.
pub const FILE_PART: &str = "file";
/// Part of an upload: Java properties of artifact path to MD5 hex.
pub const CHECKSUM_PART: &str = "file_checksum";
/// File name of [`CHECKSUM_PART`].
pub const CHECKSUM_PART_FILE_NAME: &str = "checksum_file";

/// Content type of console PUTs, if the job's charset is UTF-8.
pub const CONSOLE_CONTENT_TYPE: &str = "text/plain; charset=UTF-8";

/// Path of a file or folder of a job, relative to the server's base URL and encoded. Leading
/// slashes of `path` are dropped and doubled ones become one; an empty `path` is the root of the
/// job's files and gives a path that ends in a slash, as an upload to the root needs it.
pub fn file_path(job: &JobIdentifier, path: &str) -> String {
    let mut encoded = format!("{FILES_PATH}/{}/", job.locator());
    for part in encode_path(path).split_inclusive('/') {
        if part != "/" {
            encoded.push_str(part);
        }
    }
    encoded
}

/// Path of a job's console log, relative to the server's base URL.
pub fn console_path(job: &JobIdentifier) -> String {
    file_path(job, CONSOLE_LOG)
}

/// Encodes text as the path of a URI the way GoCD's agent does: slashes stay, and so does what
/// RFC 3986 allows in a segment; of the rest every UTF-8 byte becomes `%XX`.
pub fn encode_path(path: &str) -> String {
    utf8_percent_encode(path, NOT_IN_PATH).to_string()
}

const NOT_IN_PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'!')
    .remove(b'$')
    .remove(b'&')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'*')
    .remove(b'+')
    .remove(b',')
    .remove(b';')
    .remove(b'=')
    .remove(b':')
    .remove(b'@');
