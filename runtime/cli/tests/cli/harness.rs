//! The binary, in a folder of its own.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// A folder with a runtime folder in it, so that no real node is found or disturbed.
pub(crate) struct Sandbox {
    folder: tempfile::TempDir,
    runtime: tempfile::TempDir,
}

/// How a command ended. Paths of the sandbox read `SANDBOX` and `RUNTIME`.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

pub(crate) fn text(path: &Path) -> String {
    path.display().to_string()
}

impl Sandbox {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder"), runtime: tempfile::tempdir().expect("a folder") }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_busway"));
        command.args(arguments).current_dir(self.path());
        command.env("BUSWAY_RUNTIME_DIR", self.runtime.path()).env("NO_COLOR", "1").env_remove("BUSWAY_TOKEN");
        command
    }

    pub(crate) fn busway(&self, arguments: &[&str]) -> Run {
        self.busway_with(arguments, b"")
    }

    /// The command, with something on its stdin.
    pub(crate) fn busway_with(&self, arguments: &[&str], input: &[u8]) -> Run {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary");
        // A command that does not read its input closes it.
        drop(child.stdin.take().expect("its stdin").write_all(input));
        self.run(child.wait_with_output().expect("its end"))
    }

    fn run(&self, output: Output) -> Run {
        let shown = |bytes: Vec<u8>| {
            let text = String::from_utf8(bytes).expect("UTF-8");
            text.replace(&text_of(self.path()), "SANDBOX").replace(&text_of(self.runtime.path()), "RUNTIME")
        };
        Run {
            code: output.status.code().expect("an exit code"),
            stdout: shown(output.stdout),
            stderr: shown(output.stderr),
        }
    }
}

fn text_of(path: &Path) -> String {
    text(path)
}
