//! Asking a request of a contract from outside.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The body of `POST /v1/requests`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AskRequest {
    /// Which request: its topic, or its function as `shop:orders/quotes.quote`, with a version or without.
    #[serde(default)]
    pub request: String,
    /// The parameters, a JSON object; none stands for `{}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Box<RawValue>>,
    /// How long to wait for the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

impl AskRequest {
    /// How long an answer is waited for when nothing is said.
    pub const TIMEOUT_MS: u64 = 5_000;
    /// The longest that may be said: less than a call of this API may take.
    pub const LONGEST_MS: u64 = 25_000;
}

/// The answer to `POST /v1/requests`: one of both.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AskReply {
    /// What the function returns; of a `result` what is in its `ok`.
    Ok(Box<RawValue>),
    /// What is in the `err` of a `result`.
    Err(Box<RawValue>),
}

impl AskReply {
    /// What a function answered as JSON; of a `result` the two sides are told apart.
    ///
    /// # Errors
    /// It is no JSON, or not of that shape.
    pub fn of(answer: &[u8], is_result: bool) -> Result<Self, serde_json::Error> {
        if is_result { serde_json::from_slice(answer) } else { serde_json::from_slice(answer).map(Self::Ok) }
    }
}
