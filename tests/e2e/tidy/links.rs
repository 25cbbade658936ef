//! Links between documents.

use std::path::Path;

use super::files::{none, with_extension};

#[test]
fn no_relative_link_is_dead() {
    let root = busway_tests::root();
    let mut broken = Vec::new();
    for file in with_extension(&["md"]) {
        let folder = root.join(&file.path).parent().map_or_else(|| root.clone(), Path::to_owned);
        for (line, target) in targets(&file.text) {
            let path = target.split('#').next().unwrap_or_default();
            if !path.is_empty() && !folder.join(path).exists() {
                broken.push(format!("{}:{line}: {target}", file.path));
            }
        }
    }
    none("links to files that are not there", &broken);
}

/// Relative targets of inline links outside of code blocks, with their lines.
fn targets(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut code = false;
    for (at, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            code = !code;
        }
        if code {
            continue;
        }
        for (i, _) in line.match_indices("](") {
            let rest = &line[i + 2..];
            let target = rest.split([')', ' ']).next().unwrap_or_default();
            if !target.contains("://") && !target.starts_with("mailto:") {
                found.push((at + 1, target));
            }
        }
    }
    found
}

#[test]
fn only_relative_links_outside_of_code_are_looked_at() {
    let text = "[a](b.md#c) and [d](https://e.f)\n```\n[g](h)\n```\n[i](#j)";
    assert_eq!(targets(text), [(1, "b.md#c"), (5, "#j")]);
}
