//! The keys of the manifest's `[gateway]` and `[bridges]`, and the tables of the documents that list them.
//!
//! A list of keys in `runtime/node/src/manifest/gateway` or `bridges.rs` says above it `Keys of `TABLE`.`; a document has one table whose head
//! is `| key of `TABLE` |`, with each key in the first column. Both have the same keys.

use std::collections::{BTreeMap, BTreeSet};

use super::files::{none, with_extension};

const SOURCES: [&str; 2] = ["runtime/node/src/manifest/gateway/", "runtime/node/src/manifest/bridges.rs"];
const TABLES: [&str; 2] = ["README.md", "runtime/gateway/LIVE.md"];

type Keys<'t> = BTreeMap<&'t str, BTreeSet<&'t str>>;

#[test]
fn every_key_of_gateway_and_bridges_is_documented_and_every_documented_one_is_read() {
    let (sources, documents) = (with_extension(&["rs"]), with_extension(&["md"]));
    let (mut read, mut told) = (Keys::new(), Keys::new());
    for source in sources.iter().filter(|source| SOURCES.iter().any(|start| source.path.starts_with(start))) {
        read.extend(lists(&source.text).unwrap_or_else(|problem| panic!("{}: {problem}", source.path)));
    }
    for document in documents.iter().filter(|document| TABLES.contains(&document.path.as_str())) {
        told.extend(tables(&document.text));
    }
    assert!(read.len() >= 13, "the lists are not found: {read:?}");
    let mut wrong: Vec<String> = Vec::new();
    for table in read.keys().chain(told.keys()).collect::<BTreeSet<_>>() {
        match (read.get(table), told.get(table)) {
            (Some(read), Some(told)) => {
                wrong.extend(read.difference(told).map(|key| format!("`{key}` of `{table}` is not documented")));
                wrong.extend(
                    told.difference(read).map(|key| format!("`{key}` of `{table}` is documented and not read")),
                );
            }
            (Some(_), None) => wrong.push(format!("no document has a table of the keys of `{table}`")),
            (None, _) => wrong.push(format!("there is a table of the keys of `{table}`, which is not read")),
        }
    }
    none("keys of the gateway and of bridges", &wrong);
}

/// The lists of keys in a source.
fn lists(text: &str) -> Result<Keys<'_>, String> {
    let mut found = Keys::new();
    for (at, _) in text.match_indices("KEYS: &[&str] =") {
        let start = text[..at].rfind('\n').unwrap_or_default();
        let above = text[..start].lines().next_back().unwrap_or_default();
        let Some(table) = above.strip_prefix("/// Keys of `").and_then(|rest| rest.strip_suffix("`.")) else {
            return Err(format!("say above `{}` which table it is for: {above}", text[start..at].trim()));
        };
        // Behind the type, whose brackets come first.
        let list = text[at..].split_once('=').and_then(|(_, rest)| rest.split_once(']'));
        let keys = list.map(|(list, _)| list.split('"').skip(1).step_by(2).collect());
        found.insert(table, keys.ok_or("a list is not closed")?);
    }
    Ok(found)
}

/// The tables of keys in a document.
fn tables(text: &str) -> Keys<'_> {
    let mut found = Keys::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let head = line.strip_prefix("| key of `").and_then(|rest| rest.split_once('`'));
        let Some((table, _)) = head else { continue };
        let rows = lines.by_ref().take_while(|line| line.starts_with('|'));
        let first = rows.filter_map(|row| row.split('|').nth(1));
        found.entry(table).or_default().extend(first.flat_map(|cell| cell.split('`').skip(1).step_by(2)));
    }
    found
}

#[test]
fn lists_and_tables_are_found() {
    let source = "/// Keys of `[a]`.\nconst KEYS: &[&str] = &[\n    \"b\",\n    \"c-d\",\n];\n";
    assert_eq!(lists(source), Ok(Keys::from([("[a]", BTreeSet::from(["b", "c-d"]))])));
    let below = "/// Keys of `e`.\nconst E_KEYS: &[&str] =\n    &[\"f\"];\n";
    assert_eq!(lists(below), Ok(Keys::from([("e", BTreeSet::from(["f"]))])));
    assert!(lists("const KEYS: &[&str] = &[\"b\"];").is_err());
    let document = "x\n| key of `[a]` | default |\n|---|---|\n| `b`, `c-d` | `e` |\n\n| `f` | |\n";
    assert_eq!(tables(document), Keys::from([("[a]", BTreeSet::from(["b", "c-d"]))]));
}
