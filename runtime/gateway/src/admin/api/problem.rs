//! Why a request was refused: as an error in the process, and as a problem document (RFC 9457) on the wire.
//!
//! Invariant: each kind has one HTTP status and one stable `type`, and says whether the same request may succeed later.

use serde::{Deserialize, Serialize};

/// Why the admin API did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum ApiError {
    /// The request itself is wrong; change it.
    #[error("{detail}")]
    Invalid {
        /// What is wrong and what would be right.
        detail: String,
        /// Which element of a batch, from 0.
        index: Option<usize>,
    },
    /// The request or an event in it is larger than allowed.
    #[error("{detail}")]
    TooLarge {
        /// What is too large, and the limit.
        detail: String,
        /// Which element of a batch, from 0.
        index: Option<usize>,
    },
    /// The token is missing or wrong.
    #[error("{detail}")]
    Unauthorized {
        /// What to send.
        detail: String,
    },
    /// The `Host` header names a host that this node does not serve.
    #[error("{detail}")]
    WrongHost {
        /// Which host, and how to allow it.
        detail: String,
    },
    /// There is no such route, service, dead letter or event.
    #[error("{detail}")]
    NotFound {
        /// What is missing.
        detail: String,
    },
    /// The route exists, but not with this method.
    #[error("{detail}")]
    Method {
        /// Which method was used.
        detail: String,
    },
    /// What is asked does not fit the present state of the node.
    #[error("{detail}")]
    Conflict {
        /// Why, and what to do first.
        detail: String,
    },
    /// No room now; the same request may succeed later.
    #[error("{detail}")]
    Overloaded {
        /// What is full.
        detail: String,
    },
    /// The node is shutting down.
    #[error("{detail}")]
    Stopping {
        /// What that means for the request.
        detail: String,
    },
    /// The request took longer than a request may.
    #[error("{detail}")]
    TimedOut {
        /// How long it was given.
        detail: String,
    },
    /// Whoever should have answered a request failed.
    #[error("{detail}")]
    BadAnswer {
        /// What failed.
        detail: String,
    },
    /// The node failed; an operator has to look.
    #[error("{detail}")]
    Failed {
        /// What failed.
        detail: String,
    },
}

impl ApiError {
    /// A request that is wrong as a whole.
    pub fn invalid(detail: impl Into<String>) -> Self {
        Self::Invalid { detail: detail.into(), index: None }
    }

    /// Something that is not there.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::NotFound { detail: detail.into() }
    }

    /// The node is shutting down.
    pub fn stopping() -> Self {
        Self::Stopping { detail: "the node is shutting down and takes nothing new".to_owned() }
    }

    /// The same error, said of the `at`-th element of a batch.
    #[must_use]
    pub fn at(mut self, at: usize) -> Self {
        if let Self::Invalid { index, .. } | Self::TooLarge { index, .. } = &mut self {
            *index = Some(at);
        }
        self
    }

    /// Which element of a batch is meant, from 0.
    pub fn index(&self) -> Option<usize> {
        match self {
            Self::Invalid { index, .. } | Self::TooLarge { index, .. } => *index,
            _ => None,
        }
    }

    /// Whether the same request may succeed later.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Overloaded { .. } | Self::TimedOut { .. })
    }

    fn facts(&self) -> (u16, &'static str, &'static str) {
        match self {
            Self::Invalid { .. } => (400, "invalid", "The request is not valid"),
            Self::Unauthorized { .. } => (401, "unauthorized", "The token is missing or wrong"),
            Self::NotFound { .. } => (404, "not-found", "There is no such thing"),
            Self::Method { .. } => (405, "method", "The route has no such method"),
            Self::Conflict { .. } => (409, "conflict", "The node is not in a state for that"),
            Self::TooLarge { .. } => (413, "too-large", "Larger than allowed"),
            Self::WrongHost { .. } => (421, "wrong-host", "This node does not serve that host"),
            Self::Failed { .. } => (500, "failed", "The node failed"),
            Self::BadAnswer { .. } => (502, "bad-answer", "The service that answers failed"),
            Self::Overloaded { .. } => (503, "overloaded", "No room now"),
            Self::Stopping { .. } => (503, "stopping", "The node is shutting down"),
            Self::TimedOut { .. } => (504, "timed-out", "The request took too long"),
        }
    }

    /// The HTTP status.
    pub fn status(&self) -> u16 {
        self.facts().0
    }

    /// The problem document.
    pub fn problem(&self) -> Problem {
        let (status, word, title) = self.facts();
        Problem {
            kind: format!("{}{word}", Problem::PREFIX),
            title: title.to_owned(),
            status,
            detail: self.to_string(),
            index: self.index(),
            retryable: self.is_retryable(),
        }
    }
}

/// A problem document (RFC 9457), sent as `application/problem+json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// A stable name of the kind of problem: `urn:busway:problem:` and a word such as `overloaded`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind, for people.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened here, and what to do next.
    pub detail: String,
    /// Which element of a batch is meant, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<usize>,
    /// Whether the same request may succeed later.
    pub retryable: bool,
}

impl Problem {
    /// What every `type` begins with.
    pub const PREFIX: &'static str = "urn:busway:problem:";

    /// The word that ends the `type`, such as `overloaded`.
    pub fn word(&self) -> &str {
        self.kind.strip_prefix(Self::PREFIX).unwrap_or(&self.kind)
    }
}
