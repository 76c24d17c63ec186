//! Running the programs of source control systems.

use std::{
    ffi::OsString,
    io::{self, Read, Write},
    os::unix::process::{CommandExt, ExitStatusExt},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::Once,
    thread,
    time::Duration,
};

use journeyman_protocol::{console::Tag, secret::Secret};

use super::{MaterialContext, MaterialError, git::builtin::SUBCOMMAND};
use crate::job::{
    console::Charset,
    masking::Mask,
    tasks::{Pipe, Pumps, arguments::quoted_line, find_executable, spawn::in_own_session},
};

/// How long output is waited for after the program's end, when something it started holds it.
const OUTPUT_LIMIT: Duration = Duration::from_secs(60);
/// Most of a quiet program's output that is kept.
const MAX_CAPTURE: u64 = 1024 * 1024;

/// How secrets of one material are hidden in what its programs print.
#[derive(Clone, Default)]
pub(super) struct Hidden {
    /// Text and what stands in its place, in order.
    pub(super) replacements: Vec<(String, String)>,
}

impl Hidden {
    /// Hides a password as GoCD does: with six asterisks wherever it occurs. Other forms of it
    /// are hidden by the console.
    pub(super) fn add_password(&mut self, password: &Secret) {
        let mask = "******".to_owned();
        self.replacements.push((password.expose().to_owned(), mask));
    }

    pub(super) fn apply(&self, text: &str) -> String {
        let mut shown = text.to_owned();
        for (secret, mask) in &self.replacements {
            shown = shown.replace(secret.as_str(), mask);
        }
        shown
    }
}

/// What a quiet program said.
pub(super) struct Captured {
    pub(super) status: ExitStatus,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

impl Captured {
    fn describe(&self) -> String {
        let stdout: Vec<&str> = lines(&self.stdout).collect();
        let stderr: Vec<String> = lines(&self.stderr)
            .map(|line| format!("STDERR: {line}"))
            .collect();
        format!(
            "--- EXIT CODE ({}) ---\n--- STANDARD OUT ---\n{}\n--- STANDARD ERR ---\n{}\n---\n",
            exit_code(self.status),
            stdout.join("\n"),
            stderr.join("\n"),
        )
    }
}

/// A program to run with its arguments. None of these may be a secret: every user of the machine
/// can read them.
pub(super) struct ScmCommand<'a> {
    pub(super) words: Vec<String>,
    /// The command in errors, where it is not `words`: GoCD gives programs passwords as arguments
    /// and shows asterisks in their place, and users know the command by that text.
    pub(super) shown_as: Option<Vec<String>>,
    /// Where it runs; the agent's working directory if not given.
    pub(super) folder: Option<&'a Path>,
    /// Put over the agent's own environment, and shown in reports, as in GoCD's.
    pub(super) environment: Vec<(String, String)>,
    /// The same, but of our own making: GoCD's reports know nothing of it.
    pub(super) own_environment: Vec<(String, OsString)>,
    /// Typed into the program, with a line end behind it; else its input ends at once.
    pub(super) input: Option<String>,
    pub(super) hidden: &'a Hidden,
    pub(super) context: &'a MaterialContext,
}

impl<'a> ScmCommand<'a> {
    pub(super) fn new<S: Into<String>>(
        words: impl IntoIterator<Item = S>,
        hidden: &'a Hidden,
        context: &'a MaterialContext,
    ) -> Self {
        Self {
            words: words.into_iter().map(Into::into).collect(),
            shown_as: None,
            folder: None,
            environment: Vec::new(),
            own_environment: Vec::new(),
            input: None,
            hidden,
            context,
        }
    }

    /// Runs the program with its lines on the console. True: it ended with 0.
    pub(super) fn shown(&self) -> Result<bool, MaterialError> {
        Ok(self.exit_code()? == 0)
    }

    /// Runs the program with its lines on the console to its exit code; that of a program ended by
    /// a signal is 128 and the signal's number.
    pub(super) fn exit_code(&self) -> Result<i32, MaterialError> {
        self.exit_code_hearing(|_| {})
    }

    /// The same; `on_error` is told each line of the program's error output.
    pub(super) fn exit_code_hearing(
        &self,
        on_error: impl FnMut(&str) + Send + 'static,
    ) -> Result<i32, MaterialError> {
        let console = &self.context.console;
        let mut child = self.start()?;
        // GoCD reads and shows what these programs print as UTF-8, whatever the console's charset.
        let charset = Charset::for_name("utf-8");
        let mut pipes = Vec::new();
        // Lines go through our own hands first: the replacements are not a job's mask.
        if let Some(stdout) = child.stdout.take() {
            pipes.push(Pipe {
                reader: Box::new(stdout),
                stream: console.stream(Tag::Prep, "", self.mask()),
                on_line: Box::new(|_| {}),
            });
        }
        if let Some(stderr) = child.stderr.take() {
            pipes.push(Pipe {
                reader: Box::new(stderr),
                stream: console.stream(Tag::PrepErr, "STDERR: ", self.mask()),
                on_line: Box::new(on_error),
            });
        }
        let pumps = Pumps::start(pipes, charset);
        let status = self.finish(&mut child)?;
        pumps
            .map_err(|error| self.cannot_run(&error))?
            .wait(OUTPUT_LIMIT);
        Ok(exit_code(status))
    }

    /// Runs the program without a word on the console.
    pub(super) fn captured(&self) -> Result<Captured, MaterialError> {
        let mut child = self.start()?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        thread::scope(|scope| {
            let stdout = scope.spawn(|| stdout.map(capture).unwrap_or_default());
            let stderr = scope.spawn(|| stderr.map(capture).unwrap_or_default());
            let status = self.finish(&mut child)?;
            Ok(Captured {
                status,
                stdout: stdout.join().unwrap_or_default(),
                stderr: stderr.join().unwrap_or_default(),
            })
        })
    }

    /// Shows what a quiet program has said to its error output, as if it had just run.
    pub(super) fn show_errors(&self, captured: &Captured) {
        let mut stream = self
            .context
            .console
            .stream(Tag::PrepErr, "STDERR: ", self.mask());
        let charset = Charset::for_name("utf-8");
        stream.push(captured.stderr.as_bytes(), charset, &mut |_: &str| {});
        stream.finish(charset, &mut |_: &str| {});
    }

    /// Runs the program without a word; its failure is the job's, with a full report.
    pub(super) fn quiet(&self) -> Result<String, MaterialError> {
        let captured = self.captured()?;
        if captured.status.success() {
            return Ok(captured.stdout);
        }
        Err(self.report(&captured))
    }

    /// The report of a quiet program that failed.
    pub(super) fn report(&self, captured: &Captured) -> MaterialError {
        let text = format!(
            "Error performing command: {}\n{}",
            self.describe(),
            captured.describe()
        );
        MaterialError::new(self.hidden.apply(&text))
    }

    /// The report of a quiet program that ended well but wrote to its standard error.
    pub(super) fn complaint(&self, captured: &Captured) -> Option<MaterialError> {
        let has_complained = !captured.stderr.is_empty();
        has_complained.then(|| MaterialError::new(self.hidden.apply(&captured.describe())))
    }

    /// The command with its environment and input, nothing hidden yet beyond what
    /// [`Self::shown_as`] leaves out.
    pub(super) fn describe(&self) -> String {
        let environment: Vec<String> = self
            .environment
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        format!(
            "--- Command ---\n{}\n--- Environment ---\n{{{}}}\n--- INPUT ----\n{}\n",
            quoted_line(self.shown_words()),
            environment.join(", "),
            self.input.as_deref().unwrap_or_default(),
        )
    }

    fn shown_words(&self) -> &[String] {
        self.shown_as.as_ref().unwrap_or(&self.words)
    }

    fn start(&self) -> Result<Child, MaterialError> {
        if (self.context.is_cancelled)() {
            return Err(MaterialError::new("The job is cancelled."));
        }
        let mut command = self.command()?;
        self.context
            .children
            // A checkout starts many short programs, and none that runs away.
            .spawn(|| in_own_session(&mut command, None))
            .map_err(|error| self.cannot_run(&error))
    }

    /// Types the input and waits for the end.
    fn finish(&self, child: &mut Child) -> Result<ExitStatus, MaterialError> {
        let status = thread::scope(|scope| {
            // On a thread: a program that ends without reading must not be waited for.
            if let (Some(mut stdin), Some(input)) = (child.stdin.take(), self.input.as_deref()) {
                scope.spawn(move || {
                    // A program that does not want it has closed the pipe, which is its right.
                    let _ = writeln!(stdin, "{input}");
                });
            }
            self.context.children.wait(child)
        });
        status.map_err(|error| self.cannot_run(&error))
    }

    fn command(&self) -> Result<Command, MaterialError> {
        let root = &self.context.root;
        let folder = self.folder.unwrap_or(root);
        let name = self.words.first().map_or("", String::as_str);
        let mut command = match find_executable(name, folder) {
            Some(program) => {
                let mut command = Command::new(program);
                command.arg0(name);
                command
            }
            None if name == "git" => built_in_git(),
            None => return Err(self.missing()),
        };
        let stdin = match self.input {
            Some(_) => Stdio::piped(),
            None => closed_pipe().map_err(|error| self.cannot_run(&error))?,
        };
        command
            .args(&self.words[1..])
            .current_dir(folder)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .envs(
                self.own_environment
                    .iter()
                    .map(|(name, value)| (name, value)),
            )
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Ok(command)
    }

    fn missing(&self) -> MaterialError {
        MaterialError::new(self.hidden.apply(&format!(
            "Error while executing [{}] \n Make sure this command can execute manually.",
            quoted_line(self.shown_words())
        )))
    }

    fn cannot_run(&self, error: &io::Error) -> MaterialError {
        tracing::warn!(%error, program = self.words.first(), "Program was not run");
        self.missing()
    }

    fn mask(&self) -> Mask {
        Mask::replacing(self.hidden.replacements.clone())
    }
}

/// This very program in the place of git, also after an upgrade has replaced its file.
fn built_in_git() -> Command {
    static SAID: Once = Once::new();
    SAID.call_once(|| {
        tracing::info!("There is no git in PATH; using the one that is built into this agent");
    });
    let mut command = Command::new("/proc/self/exe");
    command.arg0("journeyman-agent").arg(SUBCOMMAND);
    command
}

/// A pipe whose other end is closed, and not `/dev/null`: programs can tell.
fn closed_pipe() -> io::Result<Stdio> {
    let (closed, _) = io::pipe()?;
    Ok(closed.into())
}

fn exit_code(status: ExitStatus) -> i32 {
    status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal))
        .unwrap_or(-1)
}

/// The lines of a text, split where GoCD splits them.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().flat_map(|line| line.split('\r'))
}

fn capture(mut pipe: impl Read) -> String {
    let mut kept = Vec::new();
    let _ = Read::by_ref(&mut pipe)
        .take(MAX_CAPTURE)
        .read_to_end(&mut kept);
    // The rest is read too, or the program would wait for ever for somebody to do it.
    let _ = io::copy(&mut pipe, &mut io::sink());
    String::from_utf8_lossy(&kept).into_owned()
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;
    use crate::job::materials::testing::Bench;

    #[test]
    fn a_program_gets_environment_and_input_and_its_lines_are_masked() {
        let bench = Bench::new();
        let hidden = Hidden {
            replacements: vec![("s3cret".to_owned(), "******".to_owned())],
        };
        let mut command = ScmCommand::new(
            ["sh", "-c", "read x; echo $x $A $B; echo $x >&2; kill -9 $$"],
            &hidden,
            &bench.context,
        );
        command.environment = vec![("A".to_owned(), "1".to_owned())];
        command.own_environment = vec![("B".to_owned(), "2".into())];
        command.input = Some("s3cret".to_owned());
        assert_eq!(command.exit_code().unwrap(), 137);
        let mut lines = bench.lines();
        lines.sort();
        assert_eq!(lines, ["pe|STDERR: ******", "pr|****** 1 2"]);
    }

    #[test]
    fn a_quiet_program_that_fails_is_reported_as_gocd_does() {
        let bench = Bench::new();
        let hidden = Hidden {
            replacements: vec![("s3cret".to_owned(), "******".to_owned())],
        };
        let mut command = ScmCommand::new(
            ["sh", "-c", "echo one; echo two; echo s3cret >&2; exit 3"],
            &hidden,
            &bench.context,
        );
        command.shown_as = Some(vec!["svn".to_owned(), "a b".to_owned()]);
        command.environment = vec![("P4USER".to_owned(), "s3cret".to_owned())];
        command.own_environment = vec![("B".to_owned(), "2".into())];
        assert_eq!(
            command.quiet().unwrap_err().to_string(),
            "Error performing command: --- Command ---\nsvn \"a b\"\n--- Environment ---\n\
             {P4USER=******}\n--- INPUT ----\n\n\n--- EXIT CODE (3) ---\n--- STANDARD OUT ---\n\
             one\ntwo\n--- STANDARD ERR ---\nSTDERR: ******\n---\n"
        );
        assert_eq!(bench.lines(), [""; 0]);
    }

    #[test]
    fn a_program_that_is_not_there_is_named_as_gocd_names_it() {
        let bench = Bench::new();
        let hidden = Hidden::default();
        let command = ScmCommand::new(["no-such-tool", "a b"], &hidden, &bench.context);
        assert_eq!(
            command.shown().unwrap_err().to_string(),
            "Error while executing [no-such-tool \"a b\"] \n \
             Make sure this command can execute manually."
        );
    }

    #[test]
    fn input_that_nobody_reads_holds_nothing_up() {
        let bench = Bench::new();
        let hidden = Hidden::default();
        let mut command = ScmCommand::new(["true"], &hidden, &bench.context);
        command.input = Some("x".repeat(1024 * 1024));
        assert!(command.shown().unwrap());
    }

    #[test]
    fn a_cancelled_job_starts_no_program() {
        let bench = Bench::new();
        let hidden = Hidden::default();
        let context = MaterialContext {
            is_cancelled: std::sync::Arc::new(|| true),
            ..bench.context.clone()
        };
        let mark = bench.path("mark");
        let words = ["touch".to_owned(), mark.display().to_string()];
        assert!(ScmCommand::new(words, &hidden, &context).shown().is_err());
        assert!(!mark.exists());
    }
}
