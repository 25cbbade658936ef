//! What is wrong with a manifest or a folder.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// One mistake in a manifest, with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The manifest.
    pub path: PathBuf,
    /// The line, from 1.
    pub line: usize,
    /// The column, in characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub problem: String,
    /// What would be right.
    pub help: Option<String>,
    source: String,
    width: usize,
}

impl Finding {
    /// The same, without the line it is in: that holds a secret.
    pub(super) fn hide(&mut self) {
        "(a line that is not shown, since it may hold a secret)".clone_into(&mut self.source);
        self.width = 0;
    }

    /// A mistake at `span` of `text`.
    pub(super) fn new(path: &Path, text: &str, span: Range<usize>, problem: String, help: Option<String>) -> Self {
        let start = text.floor_char_boundary(span.start);
        let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
        let line_end = text[start..].find(['\n', '\r']).map_or(text.len(), |at| start + at);
        let end = text.floor_char_boundary(span.end.clamp(start, line_end));
        Self {
            path: path.to_owned(),
            line: text[..start].matches('\n').count() + 1,
            column: text[line_start..start].chars().count() + 1,
            problem,
            help,
            source: text[line_start..line_end].replace('\t', " "),
            width: text[start..end].chars().count().max(1),
        }
    }
}

/// The text with the logins of addresses struck out, whatever they are doing there; as wide as before.
fn without_logins(text: &str) -> String {
    let mut parts = text.split("://");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(['"', '\'', ' ']).unwrap_or(part.len());
        let login = part[..end].rfind('@').unwrap_or_default();
        out += "://";
        out += &"*".repeat(part[..login].chars().count());
        out += &part[login..];
    }
    out
}

/// The text with the digits of API keys struck out, whatever they are doing there.
fn without_keys(text: &str) -> String {
    let mut parts = text.split("bw_");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let digits = part.bytes().take_while(u8::is_ascii_hexdigit).count();
        out += "bw_";
        // As wide as before, so that the marker below stays in its place.
        out += &if digits >= 16 { "*".repeat(digits) } else { part[..digits].to_owned() };
        out += &part[digits..];
    }
    out
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, line, column, problem, help, source, width } = self;
        let number = line.to_string();
        let gap = " ".repeat(number.len());
        let mut shown: String = without_logins(&without_keys(source)).chars().take(120).collect();
        if shown.len() < source.len() {
            shown.push('…');
        }
        let marker = "^".repeat((*width).min(120));
        let indent = if *width == 0 { String::new() } else { " ".repeat((column - 1).min(120)) };
        writeln!(f, "{}:{line}:{column}: {problem}", path.display())?;
        writeln!(f, "  {number} | {shown}")?;
        write!(f, "  {gap} | {indent}{marker}")?;
        if let Some(help) = help {
            write!(f, "\n  {gap} = {help}")?;
        }
        Ok(())
    }
}

fn listed(findings: &[Finding]) -> String {
    findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// Why there is nothing to run. Someone has to change a file first; trying again does not help before.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Neither a folder nor a manifest.
    #[error("there is no {path}; give a folder of .wasm files or a busway.toml", path = path.display())]
    NotFound {
        /// What was asked for.
        path: PathBuf,
    },
    /// A file that is no manifest.
    #[error(
        "{path} is not something to run; give a folder of .wasm files or a busway.toml{hint}",
        path = path.display(),
        hint = if path.extension().is_some_and(|e| e == "wasm") { " (for one component: the folder it is in)" } else { "" }
    )]
    NotAnApp {
        /// What was asked for.
        path: PathBuf,
    },
    /// It cannot be read.
    #[error("{path} cannot be read", path = path.display())]
    Read {
        /// What.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The manifest is not text, or far too large for one.
    #[error("{path} is not a manifest: {problem}", path = path.display())]
    NotText {
        /// The manifest.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The manifest has mistakes.
    #[error("{}", listed(findings))]
    Manifest {
        /// All of them, in the order of the text.
        findings: Vec<Finding>,
    },
    /// A folder without components.
    #[error("{}", no_components(folder, found))]
    NoComponents {
        /// The folder.
        folder: PathBuf,
        /// Components found where cargo puts them.
        found: Vec<PathBuf>,
    },
}

fn no_components(folder: &Path, found: &[PathBuf]) -> String {
    let mut text = format!("there are no .wasm files and no busway.toml in {}", folder.display());
    match found.first().and_then(|first| first.parent()) {
        None => text.push_str(
            "; build a component with `cargo build --release --target wasm32-wasip2`, which puts it into \
             target/wasm32-wasip2/release/, and copy it here",
        ),
        Some(parent) => {
            let files: String = found.iter().take(8).map(|file| file.display().to_string() + "\n  ").collect();
            text += "; cargo has built these components, copy them here or run their folder:\n  ";
            text += &files;
            text += "busway run ";
            text += &parent.display().to_string();
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_shows_its_line_and_points_at_the_place() {
        let text = "a = 1\nbö = 'x'\n";
        let at = text.find("'x'").expect("the value");
        let finding = Finding::new(Path::new("m.toml"), text, at..at + 3, "wrong".into(), Some("do this".into()));
        assert_eq!(finding.to_string(), "m.toml:2:6: wrong\n  2 | bö = 'x'\n    |      ^^^\n    = do this");
    }

    #[test]
    fn keys_and_hidden_lines_are_not_shown() {
        let text = format!("sha256 = 'bw_{}'", "0123456789abcdef".repeat(4));
        let mut finding = Finding::new(Path::new("m.toml"), &text, 9..20, "wrong".into(), None);
        let shown = finding.to_string();
        assert!(shown.contains("'bw_****") && !shown.contains("0123456789abcdef"), "{shown}");
        finding.hide();
        let hidden = finding.to_string();
        assert!(!hidden.contains("sha256") && !hidden.contains("bw_"), "{hidden}");
        let address = "from = \"amqp://me:h/u@sh@h/queue/a\" # amqp://u:p@h://";
        let shown = Finding::new(Path::new("m.toml"), address, 0..4, "wrong".into(), None).to_string();
        assert!(shown.contains("amqp://*********@h/queue") && !shown.contains("u:p"), "{shown}");
        assert!(Finding::new(Path::new("m.toml"), "bw_x bw_", 0..1, "p".into(), None).to_string().contains("bw_x bw_"));
    }

    #[test]
    fn a_place_at_the_end_of_the_text_is_no_panic() {
        for text in ["", "a", "a\n"] {
            let finding = Finding::new(Path::new("m.toml"), text, text.len()..text.len() + 5, "wrong".into(), None);
            assert!(finding.to_string().contains("wrong"));
        }
    }
}
