//! The job's console: the charset it is written in, the lines of a task's output, and where both
//! the job's own lines and the tasks' go.

mod charset;
mod lines;
mod writer;

pub(crate) use charset::{Charset, text_of};
pub(crate) use lines::LineSplitter;
pub(crate) use writer::{Console, Stream};

/// GoCD's limit for one line of a task, in characters (UTF-16 units).
pub(crate) const LONGEST_LINE: usize = 1_000_000;
/// The limit where GoCD is told to have none: a line must fit into memory some times.
pub(crate) const LONGEST_LINE_EVER: usize = 8_000_000;
/// How a longer line ends.
pub(crate) const CROPPED: &str = "...[ cropped by GoCD ]";
