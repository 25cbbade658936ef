//! Who listens: at most so many at a time, and at most so many of one caller.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Counts listeners.
#[derive(Debug, Default)]
pub(crate) struct Places {
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    of: HashMap<Arc<str>, usize>,
}

/// A listener's place; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    places: Arc<Places>,
    who: Arc<str>,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoPlace {
    /// Everybody together has too many.
    All,
    /// This caller has too many.
    Caller,
}

impl Places {
    /// Takes a place for `who`.
    pub(crate) fn take(self: &Arc<Self>, who: &Arc<str>, all: usize, each: usize) -> Result<Place, NoPlace> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.all >= all {
            return Err(NoPlace::All);
        }
        let of = taken.of.entry(who.clone()).or_default();
        if *of >= each {
            return Err(NoPlace::Caller);
        }
        *of += 1;
        taken.all += 1;
        Ok(Place { places: self.clone(), who: who.clone() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.all -= 1;
        if let Some(of) = taken.of.get_mut(&self.who) {
            *of -= 1;
            if *of == 0 {
                taken.of.remove(&self.who);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_for_all_and_for_each_and_come_back() {
        let places = Arc::new(Places::default());
        let (ada, bob): (Arc<str>, Arc<str>) = ("ada".into(), "bob".into());
        let first = places.take(&ada, 3, 2).expect("a place");
        let second = places.take(&ada, 3, 2).expect("a place");
        assert_eq!(places.take(&ada, 3, 2).expect_err("one too many"), NoPlace::Caller);
        let third = places.take(&bob, 3, 2).expect("a place");
        assert_eq!(places.take(&bob, 3, 2).expect_err("one too many"), NoPlace::All);
        drop(first);
        assert!(places.take(&ada, 3, 2).is_ok());
        drop((second, third));
        assert!(places.taken.lock().expect("the count").of.is_empty(), "nobody is remembered for ever");
    }
}
