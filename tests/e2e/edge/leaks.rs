//! Secrets that nobody may be told: looked for in everything that a node said and answered.

use crate::gateway::Told;
use crate::process::ask;

use super::curl::{Reply, curl};

/// What is secret, and everything that was heard.
#[derive(Default)]
pub(super) struct Leaks {
    secrets: Vec<String>,
    heard: Vec<(String, String)>,
}

impl Leaks {
    /// Bytes of a secret that are enough to be one.
    const PIECE: usize = 16;

    /// Remembers a secret: neither its beginning nor its end may be told.
    pub(super) fn keep(&mut self, secret: &str) {
        assert!(secret.len() >= 2 * Self::PIECE && secret.is_ascii(), "a secret is long");
        // A prefix that all have, such as that of a key, is no secret.
        let begin = secret.len() - 2 * Self::PIECE;
        for start in [begin, begin + Self::PIECE] {
            self.secrets.push(secret[start..start + Self::PIECE].to_owned());
        }
    }

    /// Asks, and remembers what was answered.
    #[track_caller]
    pub(super) fn curl(&mut self, arguments: &[&str]) -> Reply {
        let reply = curl(arguments);
        self.heard.push((format!("the answer to {}", arguments.last().unwrap_or(&"")), reply.text()));
        reply
    }

    /// Nothing of what the node said, answered, logged or tells of itself has any of it.
    #[track_caller]
    pub(super) fn none(mut self, told: &Told) {
        assert!(!self.secrets.is_empty() && !self.heard.is_empty());
        for arguments in [&["status"][..], &["status", "--json"], &["dead", "list", "--json"]] {
            self.heard.push((arguments.join(" "), ask(told.runtime.path(), arguments, "")));
        }
        let tail = ["tail", ">", "--from", "start", "--json", "--no-follow"];
        self.heard.push(("the events".to_owned(), ask(told.runtime.path(), &tail, "")));
        let said = told.said();
        assert!(said.contains("answered"), "the log has the requests, or it could not have told");
        self.heard.push(("the log".to_owned(), said));
        for (what, text) in &self.heard {
            for secret in &self.secrets {
                assert!(!text.contains(secret.as_str()), "{what} tells a secret ({secret}): {text}");
            }
        }
    }
}
