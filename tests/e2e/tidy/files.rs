//! Finding the project's files, and rules for all of them.

use std::path::{Path, PathBuf};

/// Folders that hold what was built or belongs to tools.
const NOT_OURS: [&str; 3] = ["target", ".git", "node_modules"];

/// A text file of the project.
#[derive(Debug)]
pub(super) struct Source {
    /// Its path from the root, with `/`.
    pub(super) path: String,
    /// What is in it.
    pub(super) text: String,
}

/// The project's files with one of these extensions.
pub(super) fn with_extension(extensions: &[&str]) -> Vec<Source> {
    let root = busway_tests::root();
    let mut paths = Vec::new();
    collect(&root, extensions, &mut paths);
    assert!(!paths.is_empty(), "no files of the project found in {}", root.display());
    paths.sort();
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let path = path.strip_prefix(&root).unwrap_or(&path).to_string_lossy().replace('\\', "/");
        Source { path, text }
    };
    paths.into_iter().map(read).collect()
}

fn collect(folder: &Path, extensions: &[&str], found: &mut Vec<PathBuf>) {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for entry in entries {
        let entry = entry.expect("an entry of the folder");
        let (path, kind) = (entry.path(), entry.file_type().expect("the kind of a file"));
        if kind.is_dir() && !NOT_OURS.iter().any(|name| entry.file_name() == *name) {
            collect(&path, extensions, found);
        } else if kind.is_file() && path.extension().is_some_and(|found| extensions.iter().any(|e| found == *e)) {
            found.push(path);
        }
    }
}

/// Fails with the list, unless it is empty.
#[track_caller]
pub(super) fn none(rule: &str, broken: &[String]) {
    assert!(broken.is_empty(), "{rule}:\n  {}\n", broken.join("\n  "));
}

#[test]
fn wit_lives_in_one_place() {
    let copies: Vec<_> =
        with_extension(&["wit"]).into_iter().map(|file| file.path).filter(|path| !path.starts_with("wit/")).collect();
    // A contract of an example is its own package, no copy; nor are the few functions that a test's own package nests.
    let copies: Vec<_> = copies
        .into_iter()
        .filter(|path| {
            let text = std::fs::read_to_string(busway_tests::root().join(path)).unwrap_or_default();
            let is_ours = |line: &str| line.starts_with("package busway:") || line.starts_with("package wasi:");
            text.lines().any(|line| is_ours(line) && line.trim_end().ends_with(';'))
        })
        .collect();
    none("WIT of busway and WASI is referred to in wit/, never copied", &copies);
}

#[test]
fn nothing_names_a_folder_of_one_machine() {
    let places = ["home", "Users", "root", "work"].map(|folder| format!("/{folder}/"));
    let mut broken = Vec::new();
    for file in with_extension(&["rs", "md", "toml", "wit", "wat", "yml", "json", "sh"]) {
        for (at, line) in file.text.lines().enumerate() {
            let named = places.iter().any(|place| {
                line.match_indices(place.as_str()).any(|(i, _)| {
                    // Part of a longer relative path or of an address is fine.
                    !line[..i].ends_with(|before: char| before.is_alphanumeric() || "._-/:}".contains(before))
                })
            });
            if named {
                broken.push(format!("{}:{}: {}", file.path, at + 1, line.trim()));
            }
        }
    }
    none("no absolute path of a machine may be in the repository", &broken);
}
