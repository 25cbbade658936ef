//! Whether a page may open a connection that browsers do not guard themselves (WebSocket, Socket.IO).
//!
//! Browsers let every page open a WebSocket anywhere and send what they know of the user along; all that says who asks is
//! the `Origin` header. Programs that are no browsers send none.

use http::header::{HOST, ORIGIN};
use http::uri::{Authority, Uri};
use http::{HeaderMap, HeaderValue};

/// Whether the page that asks is of this very host or of an origin that `allows` knows.
pub(crate) fn is_allowed(headers: &HeaderMap, uri: &Uri, allows: impl Fn(&HeaderValue) -> bool) -> bool {
    let mut origins = headers.get_all(ORIGIN).iter();
    let (origin, more) = (origins.next(), origins.next());
    let Some(origin) = origin else { return true };
    if more.is_some() {
        return false;
    }
    let is_own = || own(headers, uri).is_some_and(|own| origin.to_str().is_ok_and(|origin| is_of(origin, &own)));
    allows(origin) || is_own()
}

/// The host that was asked.
fn own(headers: &HeaderMap, uri: &Uri) -> Option<Authority> {
    match uri.authority() {
        Some(authority) => Some(authority.clone()),
        None => headers.get(HOST)?.to_str().ok()?.parse().ok(),
    }
}

fn is_of(origin: &str, own: &Authority) -> bool {
    let Ok(origin) = origin.parse::<Uri>() else { return false };
    let usual = match origin.scheme_str() {
        Some("http") => 80,
        Some("https") => 443,
        _ => return false,
    };
    let Some(asking) = origin.authority() else { return false };
    asking.host().eq_ignore_ascii_case(own.host())
        && asking.port_u16().unwrap_or(usual) == own.port_u16().unwrap_or(usual)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(origin: &str, host: &str, list: &[&str]) -> bool {
        let headers = HeaderMap::from_iter([
            (ORIGIN, HeaderValue::from_str(origin).expect("a header")),
            (HOST, HeaderValue::from_str(host).expect("a header")),
        ]);
        is_allowed(&headers, &Uri::from_static("/events"), |origin| list.iter().any(|one| *one == origin))
    }

    #[test]
    fn pages_of_the_host_itself_and_of_the_list_may_and_others_may_not() {
        assert!(is_allowed(&HeaderMap::new(), &Uri::from_static("/"), |_| false), "no browser");
        assert!(allowed("http://app.test:8080", "app.test:8080", &[]));
        assert!(allowed("https://app.test", "app.test", &[]));
        assert!(allowed("https://other.test", "app.test", &["https://other.test"]));
        for foreign in ["https://evil.test", "http://app.test:81", "https://app.test.evil.test", "null", "file://"] {
            assert!(!allowed(foreign, "app.test", &["https://other.test"]), "{foreign}");
        }
    }

    #[test]
    fn two_origins_are_none() {
        let mut headers = HeaderMap::new();
        headers.append(ORIGIN, HeaderValue::from_static("https://a.test"));
        headers.append(ORIGIN, HeaderValue::from_static("https://b.test"));
        assert!(!is_allowed(&headers, &Uri::from_static("/"), |_| true));
    }
}
