//! Cells, and what they should be.

use std::io::Write as _;
use std::path::PathBuf;

use busway_engine::{EngineKind, guarantees};
use serde::Serialize;

use crate::engines::Place;

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// It holds.
    Holds,
    /// It does not, and whoever asks for it learns so.
    Absent,
}

/// What the table of guarantees lets one expect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    Found(Found),
    /// There is nothing that could happen: no broker, nobody else.
    Nothing,
}

/// Finds something out; an error is neither of both.
pub(crate) type Check = fn(&mut Place) -> Result<Found, String>;

/// A behaviour.
#[derive(Clone, Copy)]
pub(crate) struct Row {
    pub(crate) what: &'static str,
    /// The row of the table of guarantees that promises it.
    pub(crate) guarantee: &'static str,
    pub(crate) check: Check,
}

/// A cell as it is shown: what the table of guarantees says if that was found, else what was found.
#[derive(Debug, Serialize)]
struct Cell {
    what: &'static str,
    said: String,
    wrong: Option<String>,
}

/// All that was found of an engine.
#[derive(Debug, Serialize)]
pub(crate) struct Column {
    engine: &'static str,
    cells: Vec<Cell>,
}

/// What is said of an engine.
fn said(kind: EngineKind, guarantee: &str) -> &'static str {
    let row = guarantees(kind).find(|row| row.what == guarantee);
    row.unwrap_or_else(|| panic!("the table of guarantees has no row {guarantee:?}")).how
}

fn expected(how: &str) -> Expected {
    match how {
        "no" | "not yet" => Expected::Found(Found::Absent),
        "no broker" | "one process" => Expected::Nothing,
        _ => Expected::Found(Found::Holds),
    }
}

impl Column {
    /// Asks for every row, one after the other.
    pub(crate) fn of(place: &mut Place, rows: &[Row]) -> Self {
        let engine = match place.kind {
            EngineKind::Memory => "memory",
            EngineKind::File => "file",
            EngineKind::Nats => "nats",
            EngineKind::Amqp => "amqp",
        };
        let cells = rows.iter().map(|row| Cell::of(place, row, engine)).collect();
        Self { engine, cells }
    }

    /// What is not as promised.
    pub(crate) fn wrong(&self) -> Vec<String> {
        let wrong = |cell: &Cell| cell.wrong.as_ref().map(|wrong| format!("- {}: {wrong}", cell.what));
        self.cells.iter().filter_map(wrong).collect()
    }

    /// Leaves the column for the table.
    pub(crate) fn write(&self) {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("conformance");
        std::fs::create_dir_all(&folder).expect("a folder");
        let text = serde_json::to_vec_pretty(self).expect("JSON");
        std::fs::write(folder.join(format!("{}.json", self.engine)), text).expect("written");
    }
}

impl Cell {
    fn of(place: &mut Place, row: &Row, engine: &str) -> Self {
        let how = said(place.kind, row.guarantee);
        let wrong = match expected(how) {
            Expected::Nothing => None,
            Expected::Found(expected) => match (row.check)(place) {
                Ok(found) if found == expected => None,
                Ok(found) => {
                    Some(format!("{found:?}, but the table of guarantees says {how:?} of {:?}", row.guarantee))
                }
                Err(error) => Some(error),
            },
        };
        drop(writeln!(std::io::stdout(), "{engine}: {}: {}", row.what, wrong.as_deref().unwrap_or(how)));
        Self { what: row.what, said: how.to_owned(), wrong }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_wrong_unless_it_is_what_is_said() {
        let row = |check: Check| Row { what: "it", guarantee: "acknowledged survives the process", check };
        let (holds, absent): (Check, Check) = (|_| Ok(Found::Holds), |_| Ok(Found::Absent));
        let mut memory = Place::memory();
        let wrong = Column::of(&mut memory, &[row(holds), row(absent), row(|_| Err("?".to_owned()))]).wrong();
        assert_eq!(wrong.len(), 2, "memory says no: {wrong:?}");
        let mut file = Place::file();
        let wrong = Column::of(&mut file, &[row(holds), row(absent)]).wrong();
        assert_eq!(wrong.len(), 1, "file says native: {wrong:?}");
    }
}
