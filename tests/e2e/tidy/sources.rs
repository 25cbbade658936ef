//! Rules for Rust sources.
//!
//! Sources are formatted by rustfmt, which makes counting lines by indentation exact enough.

use super::files::{none, with_extension};

/// Lines that a file should have at most; more is listed, not refused.
const FILE_WANTED: usize = 400;
/// Lines that a file may have at most.
const FILE_MOST: usize = 800;
/// Lines that a function may have at most, from `fn` to its closing brace.
const FUNCTION_MOST: usize = 70;

#[test]
fn files_are_short() {
    let lengths: Vec<_> =
        with_extension(&["rs"]).into_iter().map(|file| (file.text.lines().count(), file.path)).collect();
    let longer_than = |most: usize| -> Vec<String> {
        let long = lengths.iter().filter(|(lines, _)| *lines > most);
        long.map(|(lines, path)| format!("{path}: {lines} lines")).collect()
    };
    let wanted = longer_than(FILE_WANTED);
    none(
        &format!("at most {FILE_MOST} lines a file ({FILE_WANTED} are wanted; {} have more: {wanted:?})", wanted.len()),
        &longer_than(FILE_MOST),
    );
}

#[test]
fn functions_are_short() {
    let mut broken = Vec::new();
    for file in with_extension(&["rs"]) {
        for (line, name, lines) in functions(&file.text) {
            if lines > FUNCTION_MOST {
                broken.push(format!("{}:{line}: {name} has {lines} lines", file.path));
            }
        }
    }
    none(&format!("at most {FUNCTION_MOST} lines a function"), &broken);
}

#[test]
fn every_source_says_what_it_is_for() {
    let sources = with_extension(&["rs"]);
    let silent = sources.iter().filter(|file| !file.text.starts_with("//! "));
    none("every source begins with a `//!` header: role, invariants, what it never does", &paths(silent));
}

#[test]
fn lints_are_expected_with_a_reason_not_allowed() {
    // In two halves, or this file would break the rules itself.
    let allow = ["#[al", "low("].concat();
    let inner = ["#![al", "low("].concat();
    let ignored = ["#[ig", "nore"].concat();
    let mut broken = Vec::new();
    for file in with_extension(&["rs"]) {
        for (at, line) in file.text.lines().enumerate() {
            let code = line.trim_start();
            if [&allow, &inner, &ignored].iter().any(|start| code.starts_with(start.as_str())) {
                broken.push(format!("{}:{}: {code}", file.path, at + 1));
            }
        }
    }
    none("`#[expect(lint, reason = \"...\")]` instead of allowing, and no test that does not run", &broken);
}

fn paths<'a>(files: impl Iterator<Item = &'a super::files::Source>) -> Vec<String> {
    files.map(|file| file.path.clone()).collect()
}

/// Line, name and number of lines of every function with a body.
fn functions(text: &str) -> Vec<(usize, String, usize)> {
    let lines: Vec<_> = text.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let Some(name) = function_name(code) else { continue };
        let indent = line.len() - code.len();
        let end = format!("{}}}", " ".repeat(indent));
        let body_is_here =
            lines[at..].iter().take_while(|line| !line.trim_end().ends_with(';')).any(|l| l.contains('{'));
        let length = lines[at..].iter().position(|line| *line == end);
        if let (true, Some(length), false) = (body_is_here, length, code.ends_with('}')) {
            found.push((at + 1, name.to_owned(), length + 1));
        }
    }
    found
}

/// The name, if a line begins a function.
fn function_name(code: &str) -> Option<&str> {
    const QUALIFIERS: [&str; 7] = ["pub", "pub(crate)", "pub(super)", "async", "const", "unsafe", "extern"];
    let (before, after) = code.split_once("fn ")?;
    let qualified = before.split_whitespace().all(|word| QUALIFIERS.contains(&word) || word.starts_with('"'));
    let end = after.find(|c: char| !c.is_alphanumeric() && c != '_')?;
    (qualified && end > 0).then(|| &after[..end])
}

#[test]
fn functions_are_found_with_their_lengths() {
    let text = "impl A {\n    pub(crate) async fn first(\n        a: u8,\n    ) -> u8 {\n        if a > 0 {\n        }\n    }\n\n    \
                fn one_line() {}\n}\n\ntrait B {\n    fn none(&self);\n}\n\n// fn comment\nfn last() {\n}\n";
    let found = functions(text);
    assert_eq!(found, [(2, "first".to_owned(), 6), (17, "last".to_owned(), 2)]);
}
