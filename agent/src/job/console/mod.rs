//! The job's console: the charset it is written in, the lines of a task's output, and where both
//! the job's own lines and the tasks' go.

mod charset;
mod lines;
mod writer;

pub(crate) use charset::Charset;
pub(crate) use lines::LineSplitter;
pub(crate) use writer::{Console, Stream};

/// GoCD's limit for one line of a task, in characters.
pub(crate) const MAX_LINE_CHARACTERS: usize = 1_000_000;
/// How a longer line ends.
pub(crate) const CROPPED: &str = "...[ cropped by GoCD ]";
