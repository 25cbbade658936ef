//! The `[contracts."NAMESPACE:PACKAGE/INTERFACE"]` tables.

use std::collections::BTreeMap;

use busway_contract::{ContractId, ContractKeys, KeyName, Keys};

use super::reader::Table;

const KEYS: &[&str] = &["key"];
/// The most contracts that may be named.
const MOST: usize = 256;

/// What is said about contracts.
pub(super) fn read(root: &Table<'_>) -> Keys {
    let mut rules: Vec<(ContractId, ContractKeys)> = Vec::new();
    // The names are the operator's, so that no key of this table is unknown.
    let Some(contracts) = root.names("contracts") else { return Keys::default() };
    for (name, span, value) in contracts.entries() {
        if rules.len() == MOST {
            root.document.note(span, format!("more than {MOST} contracts in [contracts]"), None);
            break;
        }
        let Some(table) = value.get_ref().as_table() else {
            let help = format!("write [contracts.\"{name}\"] and its settings below");
            root.document.note(value.span(), format!("`{name}` in [contracts] is not a table"), Some(help));
            continue;
        };
        let table = Table::new(root.document, format!("[contracts.\"{name}\"]"), value.span(), table, KEYS);
        let id = match name.parse::<ContractId>() {
            Ok(id) => id,
            Err(error) => {
                root.document.note(span, error.to_string(), None);
                continue;
            }
        };
        if let Some((other, _)) = rules.iter().find(|(other, _)| other.meets(&id)) {
            root.document.note(span, format!("`{name}` and `{other}` share their topics; say it once"), None);
            continue;
        }
        if let Some(keys) = key(&table) {
            rules.push((id, keys));
        }
    }
    rules.into_iter().collect()
}

/// One path, or a table with one for each of some functions.
fn key(table: &Table<'_>) -> Option<ContractKeys> {
    if !table.is_table("key") {
        return table.parsed::<KeyName>("key").map(ContractKeys::Every);
    }
    let functions = table.names("key")?;
    let paths: BTreeMap<String, KeyName> = functions
        .entries()
        .filter_map(|(function, _, _)| Some((function.to_owned(), functions.parsed::<KeyName>(function)?)))
        .collect();
    Some(ContractKeys::Each(paths))
}
