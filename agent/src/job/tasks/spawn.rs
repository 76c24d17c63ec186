//! Starting a process in a session of its own. The only place in this program with unsafe code.

use std::{
    io,
    os::unix::process::CommandExt,
    process::{Child, Command},
};

/// Starts the command in a new session, so that signals of a terminal or of the agent's process
/// group do not reach it.
///
/// # Errors
/// When the process cannot be made or the program cannot be run.
#[expect(
    unsafe_code,
    reason = "setsid can only be called between fork and exec"
)]
pub(crate) fn in_own_session(command: &mut Command) -> io::Result<Child> {
    // SAFETY: the closure runs in the forked child, where only async-signal-safe calls are
    // allowed: setsid is one, and neither it nor the conversion of its error allocates or locks.
    unsafe {
        command.pre_exec(|| {
            nix::unistd::setsid()
                .map(drop)
                .map_err(|errno| io::Error::from_raw_os_error(errno as i32))
        });
    }
    command.spawn()
}
