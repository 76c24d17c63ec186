//! Free space, which uploads must not use up.

use std::{io, path::Path};

use http::{HeaderMap, StatusCode};
use journeyman_protocol::files::X_GO_ARTIFACT_SIZE;

use crate::{App, answer::Refusal};

/// Bytes that uploads may still use: what is free, less the reserve.
///
/// # Errors
///
/// The file system of the data folder cannot be asked.
pub fn available(app: &App) -> io::Result<u64> {
    Ok(free(&app.paths.data)?.saturating_sub(app.configuration.space_reserve))
}

/// Refuses a body of which its sender says that it will not fit: GoCD wants room for twice its size.
/// Answers how many bytes may be received at most.
///
/// # Errors
///
/// 413 when it will not fit, 500 when the file system cannot be asked.
pub fn admit(app: &App, headers: &HeaderMap) -> Result<u64, Refusal> {
    let available = available(app)
        .map_err(|error| Refusal::internal("find out how much space is free", &error))?;
    let announced = headers
        .get(X_GO_ARTIFACT_SIZE)
        .and_then(|size| size.to_str().ok()?.trim().parse::<u64>().ok())
        .unwrap_or(0);
    if announced.saturating_mul(2) > available || available == 0 {
        return Err(full(announced, available));
    }
    Ok(available)
}

/// The answer to a body that does not fit.
pub fn full(size: u64, available: u64) -> Refusal {
    Refusal::text(
        StatusCode::PAYLOAD_TOO_LARGE,
        format!(
            "no space for {size} bytes (twice that is needed while they are stored): the server has {available} \
             bytes to give. Free some space on the server's disk, or publish less\n"
        ),
    )
}

/// Bytes that are free where a path is.
///
/// # Errors
///
/// The file system cannot be asked.
pub fn free(path: &Path) -> io::Result<u64> {
    let file_system = nix::sys::statvfs::statvfs(path)?;
    Ok(file_system
        .blocks_available()
        .saturating_mul(file_system.fragment_size()))
}
