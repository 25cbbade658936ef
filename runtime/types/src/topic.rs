//! Topics and the patterns that select them.
//!
//! Role: the addresses of events. A topic is 1 to [`Topic::MAX_BYTES`] bytes of dot-separated tokens of `a-z A-Z 0-9 - _`.
//! A pattern is a topic in which a token may be `*` (exactly one token) and the last may be `>` (one or more tokens).

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A valid topic such as `shop.orders.placed`. Case-sensitive, cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Topic(Arc<str>);

/// A valid subscription pattern such as `shop.*.placed` or `shop.>`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pattern(Arc<str>);

/// Why a text is no topic.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTopic {
    /// Nothing there.
    #[error("the topic is empty; give one such as `shop.orders.placed`")]
    Empty,
    /// More than [`Topic::MAX_BYTES`].
    #[error("the topic is {bytes} bytes long; at most {max} are allowed", max = Topic::MAX_BYTES)]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// Two dots in a row, or a dot at an end.
    #[error("the topic `{topic}` has an empty token at byte {at}; write one dot between tokens and none at the ends")]
    EmptyToken {
        /// The topic.
        topic: String,
        /// Where the missing token should start.
        at: usize,
    },
    /// A character that is not allowed.
    #[error(
        "the topic `{topic}` has {found:?} at byte {at}; allowed are letters, digits, `-`, `_` and dots between tokens"
    )]
    BadCharacter {
        /// The topic.
        topic: String,
        /// The character.
        found: char,
        /// Its position in bytes.
        at: usize,
    },
}

/// Why a text is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPattern {
    /// As a topic it would be wrong too.
    #[error(transparent)]
    Topic(#[from] InvalidTopic),
    /// `>` stands for the rest and so must be last.
    #[error("the pattern `{pattern}` has `>` before its end; `>` stands for all remaining tokens and must be last")]
    RestNotLast {
        /// The pattern.
        pattern: String,
    },
    /// A wildcard is a whole token.
    #[error("the pattern `{pattern}` mixes a wildcard with other characters in `{token}`; a wildcard is a whole token")]
    MixedToken {
        /// The pattern.
        pattern: String,
        /// The offending token.
        token: String,
    },
}

fn plain(token: &str) -> Option<(usize, char)> {
    token.char_indices().find(|(_, c)| !(c.is_ascii_alphanumeric() || *c == '-' || *c == '_'))
}

fn check(
    text: &str,
    mut token_ok: impl FnMut(&str, usize, bool) -> Result<(), InvalidPattern>,
) -> Result<(), InvalidPattern> {
    if text.is_empty() {
        return Err(InvalidTopic::Empty.into());
    }
    if text.len() > Topic::MAX_BYTES {
        return Err(InvalidTopic::TooLong { bytes: text.len() }.into());
    }
    let mut at = 0;
    let mut tokens = text.split('.').peekable();
    while let Some(token) = tokens.next() {
        if token.is_empty() {
            return Err(InvalidTopic::EmptyToken { topic: text.to_owned(), at }.into());
        }
        token_ok(token, at, tokens.peek().is_none())?;
        at += token.len() + 1;
    }
    Ok(())
}

impl Topic {
    /// The longest topic or pattern, in bytes.
    pub const MAX_BYTES: usize = 255;

    /// The topic as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Topic {
    type Err = InvalidTopic;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let checked = check(text, |token, at, _| match plain(token) {
            None => Ok(()),
            Some((i, found)) => Err(InvalidTopic::BadCharacter { topic: text.to_owned(), found, at: at + i }.into()),
        });
        match checked {
            Ok(()) => Ok(Self(text.into())),
            Err(InvalidPattern::Topic(error)) => Err(error),
            Err(_) => Err(InvalidTopic::Empty),
        }
    }
}

impl Pattern {
    /// The pattern as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the pattern contains no wildcard and so selects exactly one topic.
    pub fn is_literal(&self) -> bool {
        !self.0.contains(['*', '>'])
    }

    /// Whether this pattern selects `topic`.
    pub fn matches(&self, topic: &Topic) -> bool {
        self.matches_text(&topic.0)
    }

    /// Whether this pattern selects the topic of this text, which is one.
    pub fn matches_text(&self, topic: &str) -> bool {
        let mut tokens = topic.split('.');
        for wanted in self.0.split('.') {
            match (wanted, tokens.next()) {
                (">", Some(_)) => return true,
                (w, Some(t)) if w == "*" || w == t => {}
                _ => return false,
            }
        }
        tokens.next().is_none()
    }

    /// Whether every topic that `other` selects is selected by this pattern too.
    pub fn covers(&self, other: &Self) -> bool {
        let mut theirs = other.0.split('.');
        for mine in self.0.split('.') {
            match (mine, theirs.next()) {
                (">", Some(_)) => return true,
                (m, Some(t)) if t != ">" && (m == "*" || m == t) => {}
                _ => return false,
            }
        }
        theirs.next().is_none()
    }
}

impl Pattern {
    /// Whether some topic is selected by both.
    pub fn overlaps(&self, other: &Self) -> bool {
        let (mut mine, mut theirs) = (self.0.split('.'), other.0.split('.'));
        loop {
            match (mine.next(), theirs.next()) {
                (None, None) | (Some(">"), Some(_)) | (Some(_), Some(">")) => return true,
                (Some(a), Some(b)) if a == "*" || b == "*" || a == b => {}
                _ => return false,
            }
        }
    }
}

impl FromStr for Pattern {
    type Err = InvalidPattern;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        check(text, |token, at, last| match token {
            "*" => Ok(()),
            ">" if last => Ok(()),
            ">" => Err(InvalidPattern::RestNotLast { pattern: text.to_owned() }),
            _ if token.contains(['*', '>']) => {
                Err(InvalidPattern::MixedToken { pattern: text.to_owned(), token: token.to_owned() })
            }
            _ => match plain(token) {
                None => Ok(()),
                Some((i, found)) => {
                    Err(InvalidTopic::BadCharacter { topic: text.to_owned(), found, at: at + i }.into())
                }
            },
        })?;
        Ok(Self(text.into()))
    }
}

impl From<&Topic> for Pattern {
    fn from(topic: &Topic) -> Self {
        Self(topic.0.clone())
    }
}

macro_rules! text_newtype {
    ($type:ident) => {
        impl Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
text_newtype!(Topic);
text_newtype!(Pattern);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn topic(text: &str) -> Topic {
        text.parse().expect("a valid topic")
    }

    fn pattern(text: &str) -> Pattern {
        text.parse().expect("a valid pattern")
    }

    #[test]
    fn refuses_bad_topics_with_their_place() {
        assert_eq!("".parse::<Topic>(), Err(InvalidTopic::Empty));
        assert_eq!("a..b".parse::<Topic>(), Err(InvalidTopic::EmptyToken { topic: "a..b".into(), at: 2 }));
        assert_eq!("a.".parse::<Topic>(), Err(InvalidTopic::EmptyToken { topic: "a.".into(), at: 2 }));
        assert_eq!(
            "a.b c".parse::<Topic>(),
            Err(InvalidTopic::BadCharacter { topic: "a.b c".into(), found: ' ', at: 3 })
        );
        assert_eq!("x".repeat(10_000).parse::<Topic>(), Err(InvalidTopic::TooLong { bytes: 10_000 }));
        assert!("a.*".parse::<Topic>().is_err());
    }

    #[test]
    fn refuses_bad_patterns() {
        assert!(matches!("a.>.b".parse::<Pattern>(), Err(InvalidPattern::RestNotLast { .. })));
        assert!(matches!("a.b*".parse::<Pattern>(), Err(InvalidPattern::MixedToken { .. })));
        assert!("a.*.>".parse::<Pattern>().is_ok());
    }

    #[test]
    fn wildcards_select_as_documented() {
        assert!(pattern("a.*.c").matches(&topic("a.b.c")));
        assert!(!pattern("a.*").matches(&topic("a.b.c")));
        assert!(!pattern("a.*").matches(&topic("a")));
        assert!(pattern("a.>").matches(&topic("a.b.c")));
        assert!(!pattern("a.>").matches(&topic("a")));
        assert!(pattern(">").matches(&topic("a")));
        assert!(!pattern("a.b").matches(&topic("a.B")));
    }

    proptest! {
        #[test]
        fn covering_means_matching_all_that_the_other_matches(
            a in "([ab*]\\.){0,2}[ab*>]", b in "([ab*]\\.){0,2}[ab*>]", t in "([ab]\\.){0,3}[ab]",
        ) {
            let (a, b, t) = (pattern(&a), pattern(&b), topic(&t));
            if a.covers(&b) && b.matches(&t) {
                prop_assert!(a.matches(&t));
            }
        }

        #[test]
        fn two_patterns_that_select_one_topic_overlap(
            a in "([ab*]\\.){0,2}[ab*>]", b in "([ab*]\\.){0,2}[ab*>]", t in "([ab]\\.){0,3}[ab]",
        ) {
            let (a, b, t) = (pattern(&a), pattern(&b), topic(&t));
            prop_assert_eq!(a.overlaps(&b), b.overlaps(&a));
            if a.matches(&t) && b.matches(&t) {
                prop_assert!(a.overlaps(&b));
            }
        }

        #[test]
        fn parsing_never_panics(text in "\\PC{0,40}") {
            let _ = text.parse::<Topic>();
            let _ = text.parse::<Pattern>();
        }
    }
}
