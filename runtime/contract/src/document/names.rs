//! Names for types, unique within a document.

use std::collections::BTreeMap;

use crate::types::Type;

/// Which name stands for which type. Two types of one name that differ get different names.
#[derive(Debug, Default)]
pub(super) struct Names {
    known: BTreeMap<String, Type>,
}

impl Names {
    /// The name of a type, and whether it is new.
    pub(super) fn of(&mut self, wanted: &str, ty: &Type) -> (String, bool) {
        let mut name = wanted.to_owned();
        for number in 2.. {
            match self.known.get(&name) {
                Some(known) if known == ty => return (name, false),
                Some(_) => name = format!("{wanted}-v{number}"),
                None => break,
            }
        }
        self.known.insert(name.clone(), ty.clone());
        (name, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_name_is_one_type() {
        let mut names = Names::default();
        assert_eq!(names.of("a", &Type::Bool), ("a".into(), true));
        assert_eq!(names.of("a", &Type::Bool), ("a".into(), false));
        assert_eq!(names.of("a", &Type::U8), ("a-v2".into(), true));
        assert_eq!(names.of("a", &Type::Char), ("a-v3".into(), true));
        assert_eq!(names.of("a", &Type::U8), ("a-v2".into(), false));
    }
}
