//! Binary mode: the attributes are headers that begin with `ce-`, the body is the data.

use busway_types::Draft;
use bytes::Bytes;
use http::HeaderMap;
use percent_encoding::percent_decode;

use super::PREFIX;
use super::attributes::{Attributes, about};
use crate::edge::events::Cx;
use crate::edge::problem::Problem;

/// Whether the headers of a request make its body a `CloudEvent`.
pub(in crate::edge::events) fn is_binary(headers: &HeaderMap) -> bool {
    headers.contains_key("ce-specversion")
}

pub(in crate::edge::events) fn binary(
    cx: &Cx<'_>,
    content_type: Option<Box<str>>,
    body: &[u8],
) -> Result<Draft, Problem> {
    let mut attributes = Attributes::default();
    for (name, value) in cx.headers {
        let Some(name) = name.as_str().strip_prefix(PREFIX) else { continue };
        attributes.add(name, decoded(name, value.as_bytes())?)?;
    }
    attributes.draft(cx, content_type, Bytes::copy_from_slice(body))
}

/// The value of a header: out of its quotes if it has some, then percent-decoded once, then UTF-8.
fn decoded(name: &str, value: &[u8]) -> Result<String, Problem> {
    let unquoted = match value.trim_ascii() {
        [b'"', inner @ .., b'"'] => unescaped(inner),
        bare => bare.to_vec(),
    };
    let text = percent_decode(&unquoted).decode_utf8();
    text.map(std::borrow::Cow::into_owned).map_err(|_| about(name, "it is not UTF-8, percent-encoded"))
}

/// A quoted string of RFC 7230 without its quotes: a backslash stands before what is meant literally.
fn unescaped(inner: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(inner.len());
    let mut bytes = inner.iter();
    while let Some(byte) = bytes.next() {
        text.extend(if *byte == b'\\' { bytes.next() } else { Some(byte) });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_decoded_once_and_out_of_their_quotes() {
        for (value, text) in [
            ("plain", "plain"),
            (" spaced ", "spaced"),
            ("Euro%20%E2%82%AC%20%F0%9F%98%80", "Euro € 😀"),
            ("%2520", "%20"),
            (r#""quoted \"text\" %22""#, r#"quoted "text" ""#),
            ("100%", "100%"),
            ("\"", "\""),
        ] {
            assert_eq!(decoded("a", value.as_bytes()).expect(value), text);
        }
        assert!(decoded("a", b"%ff%fe").is_err(), "no UTF-8");
    }
}
