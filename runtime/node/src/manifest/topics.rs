//! The `[topics.PATTERN]` tables.

use std::time::Duration;

use busway_types::{Limits, Pattern, TopicExpiry};

use super::reader::Table;

const KEYS: &[&str] = &["expires"];
/// The longest that an event may be given.
const LONGEST: Duration = Duration::from_hours(24 * 365);

/// What is said about topics.
pub(super) fn read(root: &Table<'_>) -> Vec<TopicExpiry> {
    let mut rules = Vec::new();
    // The patterns are the operator's, so that no key of this table is unknown.
    let Some(patterns) = root.names("topics") else { return rules };
    for (name, span, value) in patterns.entries() {
        if rules.len() == Limits::TOPIC_RULES {
            let problem = format!("more than {} patterns in [topics]", Limits::TOPIC_RULES);
            root.document.note(span, problem, Some("use patterns that select more topics".to_owned()));
            break;
        }
        let Some(table) = value.get_ref().as_table() else {
            let help = format!("write [topics.\"{name}\"] and its settings below");
            root.document.note(value.span(), format!("`{name}` in [topics] is not a table"), Some(help));
            continue;
        };
        let table = Table::new(root.document, format!("[topics.\"{name}\"]"), value.span(), table, KEYS);
        match name.parse::<Pattern>() {
            Ok(topics) => {
                if let Some(after) = table.duration("expires", Duration::from_millis(1)..=LONGEST) {
                    rules.push(TopicExpiry { topics, after });
                }
            }
            Err(error) => root.document.note(span, error.to_string(), None),
        }
    }
    rules
}
