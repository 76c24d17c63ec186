//! Results of tests, from the XML files that jobs publish.
//!
//! JUnit's form (which most tools write) and NUnit's, of versions 2 and 3. A file is read as a
//! stream and nothing in it is expanded: it comes from a build, and a build may be anybody's.

mod read;
#[cfg(test)]
mod tests;

use std::{fs::File, io::Read as _, path::Path};

/// Bytes of one file, and of all files of a job, that are read.
const LARGEST_FILE: u64 = 32 * 1024 * 1024;
const MOST_BYTES: u64 = 128 * 1024 * 1024;
/// Bytes of names, messages and texts that are kept.
const MOST_KEPT: usize = 4 * 1024 * 1024;
/// Bytes of one message or text that are kept.
const LONGEST_TEXT: usize = 32 * 1024;
/// Tests that are kept; what is more is counted.
const MOST_TESTS: usize = 5000;

/// Results of all files.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Results {
    pub passed: u64,
    pub failed: u64,
    pub skipped: u64,
    /// Of all tests together.
    pub seconds: f64,
    /// Tests that failed, then those that were skipped, then those that passed; each in the order
    /// of the files.
    pub tests: Vec<Test>,
    /// Whether tests, or parts of what they say, are left out.
    pub cut: bool,
    /// Files that were read and are results.
    pub files: u64,
    /// Files that could not be read, and why.
    pub problems: Vec<(String, String)>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Test {
    /// The suite or class it is in.
    pub suite: String,
    pub name: String,
    pub outcome: Outcome,
    pub seconds: Option<f64>,
    pub message: String,
    /// The trace.
    pub text: String,
}

/// In the order in which people want to see them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    Failed,
    Skipped,
    #[default]
    Passed,
}

impl Results {
    pub fn count(&self) -> u64 {
        self.passed + self.failed + self.skipped
    }
}

/// Reads files below a folder. One that is not about tests is passed over, one that cannot be read
/// is told of. Blocks.
pub fn read(root: &Path, paths: impl IntoIterator<Item = String>) -> Results {
    let mut results = Results::default();
    let mut bytes = 0;
    for path in paths {
        let file = File::open(root.join(&path)).and_then(|file| Ok((file.metadata()?.len(), file)));
        let (size, file) = match file {
            Ok(opened) => opened,
            Err(error) => {
                results
                    .problems
                    .push((path, format!("cannot open it: {error}")));
                continue;
            }
        };
        bytes += size;
        if size > LARGEST_FILE || bytes > MOST_BYTES {
            let why = format!(
                "it is too large: {} MiB of a file and {} MiB of all files are read",
                LARGEST_FILE >> 20,
                MOST_BYTES >> 20
            );
            results.problems.push((path, why));
            bytes -= size;
            continue;
        }
        // It may have grown since.
        let input = std::io::BufReader::new(file.take(LARGEST_FILE));
        match read::read(input) {
            Ok(Some(tests)) => {
                results.files += 1;
                tests.into_iter().for_each(|test| results.count_in(test));
            }
            Ok(None) => {}
            Err(why) => results.problems.push((path, why)),
        }
    }
    results.arrange();
    results
}

impl Results {
    fn count_in(&mut self, test: Test) {
        let count = match test.outcome {
            Outcome::Passed => &mut self.passed,
            Outcome::Failed => &mut self.failed,
            Outcome::Skipped => &mut self.skipped,
        };
        *count += 1;
        self.seconds += test.seconds.unwrap_or(0.0);
        self.tests.push(test);
        // Failures are kept before others, wherever they come.
        if self.tests.len() >= 2 * MOST_TESTS {
            self.arrange();
        }
    }

    /// Puts failures first and drops what is too much.
    fn arrange(&mut self) {
        self.tests.sort_by_key(|test| test.outcome);
        let mut kept = 0;
        let fits = self.tests.iter().take(MOST_TESTS).take_while(|test| {
            kept += size_of::<Test>()
                + [&test.suite, &test.name, &test.message, &test.text]
                    .map(String::len)
                    .iter()
                    .sum::<usize>();
            kept <= MOST_KEPT
        });
        let count = fits.count();
        if count < self.tests.len() {
            self.cut = true;
            self.tests.truncate(count);
        }
    }
}
