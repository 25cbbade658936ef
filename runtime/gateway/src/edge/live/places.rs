//! Who listens: at most so many at a time, and at most so many of one caller.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::edge::auth::Client;

/// Counts listeners.
#[derive(Debug, Default)]
pub(crate) struct Places {
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    of: HashMap<Client, usize>,
}

/// A listener's place; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    places: Arc<Places>,
    who: Client,
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
    pub(crate) fn take(self: &Arc<Self>, who: &Client, all: usize, each: usize) -> Result<Place, NoPlace> {
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
        taken.give_back(&self.who);
    }
}

impl Taken {
    fn give_back(&mut self, who: &Client) {
        if let Some(of) = self.of.get_mut(who) {
            *of -= 1;
            if *of == 0 {
                self.of.remove(who);
            }
        }
    }
}

impl Place {
    /// The place counts for another one from now on, who was not known when it was taken.
    pub(crate) fn pass_to(&mut self, who: &Client, each: usize) -> Result<(), NoPlace> {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if self.who == *who {
            return Ok(());
        }
        if taken.of.get(who).is_some_and(|of| *of >= each) {
            return Err(NoPlace::Caller);
        }
        *taken.of.entry(who.clone()).or_default() += 1;
        taken.give_back(&self.who);
        self.who = who.clone();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::auth::CallerKind;

    #[test]
    fn places_are_bounded_for_all_and_for_each_and_come_back() {
        let places = Arc::new(Places::default());
        let ada = Client::Caller(CallerKind::Key, "ada".into());
        // Whoever shows the same name in another way is somebody else.
        let bob = Client::Caller(CallerKind::Token, "ada".into());
        let first = places.take(&ada, 3, 2).expect("a place");
        let second = places.take(&ada, 3, 2).expect("a place");
        assert_eq!(places.take(&ada, 3, 2).expect_err("one too many"), NoPlace::Caller);
        let third = places.take(&bob, 3, 2).expect("a place");
        assert_eq!(places.take(&bob, 3, 2).expect_err("one too many"), NoPlace::All);
        drop(first);
        let mut stranger = places.take(&Client::Address([127, 0, 0, 1].into()), 3, 2).expect("a place");
        stranger.pass_to(&ada, 2).expect("room for a second one");
        assert_eq!(stranger.pass_to(&bob, 1), Err(NoPlace::Caller), "bob has his one");
        assert_eq!(places.take(&bob, 3, 2).expect_err("a place that was passed on is one"), NoPlace::All);
        drop((second, third, stranger));
        assert!(places.taken.lock().expect("the count").of.is_empty(), "nobody is remembered for ever");
    }
}
