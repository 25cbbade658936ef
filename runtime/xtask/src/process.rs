//! Starting other programs, and the two ways to say something.
//!
//! Invariant: every program starts in the root of the repository. What a program may read goes to stdout, everything
//! else to stderr.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    let here = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let here = PathBuf::from(here);
    here.ancestors().nth(2).unwrap_or(&here).to_owned()
}

/// Where cargo puts what it builds for this machine.
pub(crate) fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => root().join(folder),
        None => root().join("target"),
    }
}

/// A binary in a cargo profile's folder.
pub(crate) fn program(name: &str, profile: &str) -> PathBuf {
    target().join(profile).join(format!("{name}{}", std::env::consts::EXE_SUFFIX))
}

/// A program that starts in the root of the repository.
pub(crate) fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root());
    command
}

/// The cargo that runs this.
pub(crate) fn cargo() -> Command {
    command(&PathBuf::from(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())))
}

/// What a cargo command of these is about, beside a binary or a test: always the whole workspace. Another choice of
/// packages is another choice of features of what they share, and wasmtime would be compiled once more.
pub(crate) const EVERYTHING: &str = "--workspace";

/// Builds a binary of the workspace for the profile `dev`, and says where it is.
pub(crate) fn build(binary: &str, options: &[&str]) -> Result<PathBuf> {
    run(cargo().args(["build", EVERYTHING, "--bin", binary]).args(options))?;
    Ok(program(binary, "debug"))
}

/// Runs a program to its end; an error unless it succeeds.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let shown = shown(command);
    let status = command.status().with_context(|| format!("cannot start `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` failed ({status}); its own messages are above");
    }
    Ok(())
}

/// A command as a person would type it.
pub(crate) fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let program = program.file_name().unwrap_or(program.as_os_str());
    let words = std::iter::once(program).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

/// Says something to the person, on stderr. Nobody listening is no error.
pub(crate) fn say(text: &str) {
    drop(writeln!(std::io::stderr(), "{}", text.trim_end()));
}

/// Prints a result on stdout. Nobody listening is no error.
pub(crate) fn print(text: &str) {
    drop(write!(std::io::stdout(), "{text}"));
}

/// One line on stderr that is drawn over again, on a terminal only.
#[derive(Debug)]
pub(crate) struct Progress {
    terminal: bool,
    drawn: bool,
}

impl Progress {
    /// Nothing drawn yet.
    pub(crate) fn new() -> Self {
        Self { terminal: std::io::stderr().is_terminal(), drawn: false }
    }

    /// Draws the line.
    pub(crate) fn draw(&mut self, line: &str) {
        if self.terminal {
            self.drawn = true;
            let mut stderr = std::io::stderr();
            drop(write!(stderr, "\r\x1b[2K{line}"));
            drop(stderr.flush());
        }
    }
}

impl Drop for Progress {
    /// Takes the line away, so that nothing is written behind it.
    fn drop(&mut self) {
        if self.drawn {
            drop(write!(std::io::stderr(), "\r\x1b[2K"));
        }
    }
}
