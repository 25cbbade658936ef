//! What a request shows of who sent it.
//!
//! Invariant: one request shows one credential. Two of them, or one twice, are refused: somebody in between might look
//! at the other one. A key or a token is never read from the address.

use http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::key::{ApiKey, PREFIX};
use super::tickets::is_ticket;

/// The header for a key beside `Authorization`.
pub(crate) const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
/// What a WebSocket's subprotocol begins with when a credential follows.
const SUBPROTOCOL: &str = "busway.bearer.";

/// A credential, as it was presented. It has no `Debug`, so that it cannot be written into a log.
pub(crate) enum Presented {
    Nothing,
    Key(ApiKey),
    Token(String),
    Ticket(String),
    /// Something that is none of them, or is malformed.
    Unusable,
}

/// More than one credential.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ambiguous;

impl Presented {
    /// What a text is.
    pub(crate) fn read(text: &str) -> Self {
        if text.starts_with(PREFIX) {
            return ApiKey::parse(text).map_or(Self::Unusable, Self::Key);
        }
        if text.bytes().filter(|byte| *byte == b'.').count() == 2 {
            Self::Token(text.to_owned())
        } else {
            Self::Unusable
        }
    }

    /// What the request shows, taken out of it.
    pub(crate) fn take(parts: &mut Parts) -> Result<Self, Ambiguous> {
        let mut shown = Vec::new();
        for value in parts.headers.get_all(AUTHORIZATION) {
            shown.push(bearer(value).map_or(Self::Unusable, Self::read));
        }
        for value in parts.headers.get_all(API_KEY) {
            let key = value.to_str().ok().and_then(|text| ApiKey::parse(text.trim()));
            shown.push(key.map_or(Self::Unusable, Self::Key));
        }
        let is_socket = wants_socket(&parts.headers);
        if is_socket {
            shown.extend(subprotocols(&parts.headers).filter_map(|p| p.strip_prefix(SUBPROTOCOL)).map(Self::read));
        }
        if parts.method == Method::GET && (is_socket || wants_stream(&parts.headers)) {
            shown.extend(tickets(parts.uri.query()).map(|ticket| Self::Ticket(ticket.to_owned())));
        }
        if shown.len() > 1 {
            return Err(Ambiguous);
        }
        parts.headers.remove(AUTHORIZATION);
        parts.headers.remove(API_KEY);
        hide_subprotocol(&mut parts.headers);
        Ok(shown.pop().unwrap_or(Self::Nothing))
    }
}

fn bearer(value: &HeaderValue) -> Option<&str> {
    let (scheme, credential) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(credential.trim_matches(' '))
}

fn wants_socket(headers: &HeaderMap) -> bool {
    headers.get(UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

fn wants_stream(headers: &HeaderMap) -> bool {
    let accepted = headers.get(http::header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    accepted
        .split(',')
        .any(|kind| kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("text/event-stream")))
}

fn subprotocols(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter();
    values.filter_map(|value| value.to_str().ok()).flat_map(|text| text.split(',')).map(str::trim)
}

/// What follows sees the subprotocols without the credential.
fn hide_subprotocol(headers: &mut HeaderMap) {
    if subprotocols(headers).any(|protocol| protocol.starts_with(SUBPROTOCOL)) {
        let others: Vec<&str> = subprotocols(headers).filter(|protocol| !protocol.starts_with(SUBPROTOCOL)).collect();
        let others = HeaderValue::from_str(&others.join(", ")).ok().filter(|value| !value.is_empty());
        headers.remove(SEC_WEBSOCKET_PROTOCOL);
        if let Some(others) = others {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, others);
        }
    }
}

/// Tickets in an address. Another parameter of that name is somebody else's.
fn tickets(query: Option<&str>) -> impl Iterator<Item = &str> {
    let pairs = query.unwrap_or_default().split('&');
    pairs.filter_map(|pair| pair.strip_prefix("ticket=")).filter(|ticket| is_ticket(ticket))
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;
    use crate::edge::auth::key;

    fn request(uri: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).expect("a request").into_parts().0
    }

    fn kind(uri: &str, headers: &[(&str, &str)]) -> &'static str {
        match Presented::take(&mut request(uri, headers)) {
            Ok(Presented::Nothing) => "nothing",
            Ok(Presented::Key(_)) => "key",
            Ok(Presented::Token(_)) => "token",
            Ok(Presented::Ticket(_)) => "ticket",
            Ok(Presented::Unusable) => "unusable",
            Err(Ambiguous) => "ambiguous",
        }
    }

    #[test]
    fn a_credential_is_read_from_its_header() {
        let secret = key::text("bw_", &[7; 32]);
        let bearer = format!("Bearer {secret}");
        assert_eq!(kind("/", &[]), "nothing");
        assert_eq!(kind("/", &[("authorization", &bearer)]), "key");
        assert_eq!(kind("/", &[("authorization", &format!("bEaReR   {secret} "))]), "key");
        assert_eq!(kind("/", &[("x-api-key", &secret)]), "key");
        assert_eq!(kind("/", &[("authorization", "Bearer a.b.c")]), "token");
        for bad in
            ["", "Bearer", "Bearer ", "Basic YTpi", "Bearer a", "Bearer a.b.c.d", "Bearer bw_1", "a.b.c", &secret]
        {
            assert_eq!(kind("/", &[("authorization", bad)]), "unusable", "{bad}");
        }
        assert_eq!(kind("/", &[("x-api-key", "a.b.c")]), "unusable", "a token is no key");
    }

    #[test]
    fn two_credentials_are_refused_even_if_they_are_the_same() {
        let secret = key::text("bw_", &[7; 32]);
        let bearer = format!("Bearer {secret}");
        for two in [
            [("authorization", bearer.as_str()), ("authorization", bearer.as_str())],
            [("authorization", "Bearer x"), ("authorization", bearer.as_str())],
            [("authorization", bearer.as_str()), ("x-api-key", secret.as_str())],
            [("x-api-key", secret.as_str()), ("x-api-key", secret.as_str())],
        ] {
            assert_eq!(kind("/", &two), "ambiguous", "{two:?}");
        }
    }

    #[test]
    fn an_address_carries_tickets_alone_and_only_for_streams_and_sockets() {
        let (ticket, secret) = (key::text("bwt_", &[1; 32]), key::text("bw_", &[1; 32]));
        let with_ticket = format!("/live?a=b&ticket={ticket}");
        assert_eq!(kind(&with_ticket, &[("accept", "text/event-stream")]), "ticket");
        assert_eq!(kind(&with_ticket, &[("upgrade", "WebSocket")]), "ticket");
        assert_eq!(kind(&with_ticket, &[]), "nothing");
        let with_key = format!("/live?ticket={secret}&api_key={secret}&access_token=a.b.c");
        assert_eq!(kind(&with_key, &[("accept", "text/event-stream")]), "nothing");
        let twice = format!("/live?ticket={ticket}&ticket={ticket}");
        assert_eq!(kind(&twice, &[("accept", "text/event-stream")]), "ambiguous");
        assert_eq!(
            kind(&with_ticket, &[("accept", "text/event-stream"), ("authorization", "Bearer a.b.c")]),
            "ambiguous"
        );
    }

    #[test]
    fn a_socket_may_carry_it_as_a_subprotocol_which_nobody_sees_afterwards() {
        let offered = format!("busway, busway.bearer.{}", key::text("bw_", &[7; 32]));
        let mut parts = request("/ws", &[("upgrade", "websocket"), ("sec-websocket-protocol", &offered)]);
        assert!(matches!(Presented::take(&mut parts), Ok(Presented::Key(_))));
        assert_eq!(parts.headers["sec-websocket-protocol"], "busway");
        assert_eq!(kind("/ws", &[("sec-websocket-protocol", &offered)]), "nothing", "without an upgrade");
    }

    #[test]
    fn what_follows_does_not_see_the_credential() {
        let secret = key::text("bw_", &[7; 32]);
        let mut parts = request("/", &[("authorization", &format!("Bearer {secret}")), ("x-other", "stays")]);
        assert!(Presented::take(&mut parts).is_ok());
        assert!(!format!("{parts:?}").contains(&secret[3..]) && parts.headers.contains_key("x-other"));
    }
}
