//! Starting a process in a session of its own. The only place in this program with unsafe code.

use std::{
    fs, io,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::process::CommandExt,
    },
    process::{Child, Command},
};

use nix::{
    fcntl::{OFlag, open},
    sys::stat::Mode,
    unistd::write,
};

/// What the processes of a job have more of it than the agent: where memory runs out, the kernel
/// is to end them, and not the one who tells of it.
const MORE_EXPENDABLE: i32 = 500;
/// The kernel's limit.
const MOST_EXPENDABLE: i32 = 1000;

/// Starts the command in a new session, so that signals of a terminal or of the agent's process
/// group do not reach it, and makes it one of the first to be ended when memory runs out. `group`
/// is the control group it goes to; the kernel takes some 10 ms for that.
///
/// # Errors
/// When the process cannot be made or the program cannot be run.
#[expect(
    unsafe_code,
    reason = "setsid can only be called between fork and exec"
)]
pub(crate) fn in_own_session(
    command: &mut Command,
    group: Option<BorrowedFd<'static>>,
) -> io::Result<Child> {
    let expendable = expendable().to_string();
    // SAFETY: the closure runs in the forked child, where only async-signal-safe calls are
    // allowed: setsid, open, write and close are such, their arguments are made before, and
    // neither they nor the conversion of an error allocate or lock.
    unsafe {
        command.pre_exec(move || {
            if let Some(members) = group {
                let _ = write(members, b"0");
            }
            // Everybody may ask for more; where it cannot be done, the job runs all the same.
            if let Ok(file) = open(
                c"/proc/self/oom_score_adj",
                OFlag::O_WRONLY | OFlag::O_CLOEXEC,
                Mode::empty(),
            ) {
                let _ = write(file.as_fd(), expendable.as_bytes());
            }
            nix::unistd::setsid()
                .map(drop)
                .map_err(|errno| io::Error::from_raw_os_error(errno as i32))
        });
    }
    command.spawn()
}

fn expendable() -> i32 {
    let own = fs::read_to_string("/proc/self/oom_score_adj")
        .ok()
        .and_then(|text| text.trim().parse::<i32>().ok())
        .unwrap_or(0);
    own.saturating_add(MORE_EXPENDABLE).min(MOST_EXPENDABLE)
}
