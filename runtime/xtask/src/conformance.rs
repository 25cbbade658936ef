//! `cargo xtask conformance`: the same behaviours asked of every engine, as a table.
//!
//! Role: runs the tests of `tests/conformance`, each of which leaves a column, and puts the columns together. `cargo xtask
//! test` runs the same tests among all others.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::process;

/// The engines, in the order of their columns.
const ENGINES: [&str; 4] = ["memory", "file", "nats", "amqp"];

/// What a test found of an engine.
#[derive(Debug, Deserialize)]
struct Column {
    engine: String,
    cells: Vec<Cell>,
}

/// A behaviour of an engine: what the table of guarantees says of it, and what is wrong with that.
#[derive(Debug, Deserialize)]
struct Cell {
    what: String,
    said: String,
    wrong: Option<String>,
}

/// Where the tests leave their columns.
fn folder() -> PathBuf {
    process::target().join("tmp/conformance")
}

/// Asks every engine for everything and prints the table; an error unless every cell is what is guaranteed.
pub(crate) fn run() -> Result<()> {
    forget()?;
    process::build("busway", &[])?;
    let ran = process::run(process::cargo().args(["test", process::EVERYTHING, "--test", "conformance"]));
    print()?;
    ran
}

/// Removes the columns of an earlier run.
pub(crate) fn forget() -> Result<()> {
    let folder = folder();
    if folder.exists() {
        std::fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    Ok(())
}

/// Prints what the tests have left: nothing when none of them ran.
pub(crate) fn print() -> Result<()> {
    let mut columns = Vec::new();
    for engine in ENGINES {
        let file = folder().join(format!("{engine}.json"));
        if let Ok(text) = std::fs::read(&file) {
            let column = serde_json::from_slice(&text).with_context(|| file.display().to_string())?;
            columns.push(column);
        }
    }
    process::print(&table(&columns));
    Ok(())
}

fn table(columns: &[Column]) -> String {
    let Some(first) = columns.first() else { return String::new() };
    let head = std::iter::once("").chain(columns.iter().map(|column| column.engine.as_str()));
    let mut lines: Vec<Vec<String>> = vec![head.map(str::to_owned).collect()];
    let mut wrong = Vec::new();
    for row in &first.cells {
        let mut line = vec![row.what.clone()];
        for column in columns {
            let cell = column.cells.iter().find(|cell| cell.what == row.what);
            line.push(cell.map_or_else(|| "NOT ASKED".to_owned(), Cell::shown));
            if let Some(told) = cell.and_then(|cell| cell.wrong.as_ref()) {
                wrong.push(format!("{}: {}: {told}", column.engine, row.what));
            }
        }
        lines.push(line);
    }
    let width = |at: usize| lines.iter().map(|line| line[at].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..=columns.len()).map(width).collect();
    let shown = lines.iter().map(|line| {
        let cells: Vec<String> = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        cells.join("  ").trim_end().to_owned()
    });
    let all: Vec<String> = std::iter::once(String::new()).chain(shown).chain(wrong).collect();
    all.join("\n") + "\n"
}

impl Cell {
    fn shown(&self) -> String {
        if self.wrong.is_some() { "WRONG".to_owned() } else { self.said.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_a_column_per_engine_and_names_what_is_wrong() {
        let column = |text: &str| serde_json::from_str::<Column>(text).expect("a column");
        let columns = [
            column(
                r#"{"engine":"memory","cells":[{"what":"it lasts","said":"no","wrong":null},{"what":"it is","said":"host","wrong":null}]}"#,
            ),
            column(r#"{"engine":"file","cells":[{"what":"it lasts","said":"native","wrong":"it is gone"}]}"#),
        ];
        assert_eq!(
            table(&columns),
            "\n          memory  file\nit lasts  no      WRONG\nit is     host    NOT ASKED\nfile: it lasts: it is gone\n"
        );
        assert_eq!(table(&[]), "");
    }
}
