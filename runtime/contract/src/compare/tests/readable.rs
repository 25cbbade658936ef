//! Random types, changed at random: whatever is called compatible must be readable, value by value, by a reader of JSON that
//! knows nothing of the comparison; whatever is the same type must be called the same.

use super::super::{Verdict, compare_functions};
use crate::testing::{Random, change, generate, reads, sample};
use crate::{Function, Param, Type};

#[test]
fn whatever_is_called_compatible_can_be_read() {
    let f = |ty: &Type| Function {
        name: "f".into(),
        docs: None,
        params: vec![Param { name: "x".into(), ty: ty.clone() }],
        result: None,
    };
    let mut seen = [0_usize; 3];
    let mut unreadable = 0;
    for seed in 0..6_000 {
        let mut random = Random(seed);
        let sent = generate(&mut random, 4);
        let taken = change(&sent, &mut random);
        let compared = compare_functions(&f(&sent), &f(&taken));
        assert_eq!(compare_functions(&f(&sent), &f(&sent)).verdict, Verdict::Same, "seed {seed}: {sent}");
        assert_eq!(compared.verdict == Verdict::Same, sent == taken, "seed {seed}: {sent} to {taken}");
        seen[compared.verdict as usize] += 1;
        let values: Vec<_> = (0..20).map(|_| sample(&sent, &mut random)).collect();
        assert!(values.iter().all(|value| reads(&sent, value)), "seed {seed}: {sent}");
        let readable = |value: &&serde_json::Value| reads(&taken, value);
        if compared.verdict == Verdict::Incompatible {
            unreadable += usize::from(!values.iter().all(|value| readable(&value)));
        } else if let Some(value) = values.iter().find(|value| !readable(value)) {
            panic!("seed {seed}: {sent} to {taken} is {} but cannot read {value}", compared.verdict);
        }
    }
    // What is refused is refused for a reason, but for the few values and the few types that happen to look alike.
    assert!(seen.iter().all(|count| *count > 500), "{seen:?}");
    assert!(unreadable * 10 > seen[2] * 7, "{unreadable} of {} incompatible", seen[2]);
}
