//! Which pages of browsers may have something done.
//!
//! A browser sends what a page asks for with the user's network and certificates, and only hides the answer from pages of
//! other origins. So whoever is let in by being where they are, or by a certificate that the browser shows by itself, has
//! to be asked from which page they come. A key or a token is sent by nobody but who knows it.

use http::header::{HOST, ORIGIN};
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, Method, Uri};

use super::auth::{Caller, CallerKind};
use super::cors::{CorsConfig, Origins};
use super::live::origin;
use super::problem::{Problem, Refusal};

/// Refuses what a page of another origin wants done, unless the manifest lists that origin.
pub(super) fn check_origin(parts: &Parts, caller: &Caller, cors: Option<&CorsConfig>) -> Result<(), Problem> {
    let is_safe = matches!(parts.method, Method::GET | Method::HEAD | Method::OPTIONS);
    let is_sent_along = matches!(caller.kind, CallerKind::Anonymous | CallerKind::Certificate);
    if is_safe || !is_sent_along {
        return Ok(());
    }
    // Any page may act for nobody; none but those that are named may act for the holder of a certificate.
    let cors = cors.filter(|cors| caller.kind == CallerKind::Anonymous || cors.origins != Origins::Any);
    if origin::is_allowed(&parts.headers, &parts.uri, |origin| cors.is_some_and(|cors| cors.allows(origin))) {
        return Ok(());
    }
    let detail = "a page of another origin asks for this; list its origin in `[gateway.cors] origins` if it may";
    Err(Problem::new(Refusal::Forbidden, detail))
}

/// Refuses a browser that was led to this machine by a name that is not this machine's (DNS rebinding): to it the page that
/// asks and the gateway are of one origin. For a gateway that is open because only this machine reaches it.
pub(super) fn check_host(headers: &HeaderMap, uri: &Uri) -> Result<(), Problem> {
    let is_browser = headers.contains_key(ORIGIN) || headers.contains_key("sec-fetch-site");
    let named = || headers.get(HOST).and_then(|host| host.to_str().ok()?.parse::<Authority>().ok());
    let Some(host) = uri.authority().cloned().or_else(named).filter(|_| is_browser) else { return Ok(()) };
    let host = host.host().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
    // An address was not looked up, so nobody can have changed what a name stands for.
    let is_ours = host == "localhost" || host.ends_with(".localhost") || host.parse::<std::net::IpAddr>().is_ok();
    if is_ours {
        return Ok(());
    }
    let detail = format!(
        "the gateway is open to this machine alone, and a browser asks for `{host}`; use `localhost`, name the proxy in \
         `[gateway.rate] trusted-proxies`, or add [gateway.auth]"
    );
    Err(Problem::new(Refusal::Forbidden, detail))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderValue, Request};

    fn asked(method: &Method, origin: Option<&str>, host: &str) -> Parts {
        let mut request = Request::builder().method(method).uri("/events/a").header(HOST, host);
        if let Some(origin) = origin {
            request = request.header(ORIGIN, origin);
        }
        request.body(()).expect("a request").into_parts().0
    }

    fn caller(kind: CallerKind) -> Caller {
        Caller { kind, ..Caller::anonymous() }
    }

    #[test]
    fn a_foreign_page_gets_nothing_done_by_who_is_only_let_in_for_being_there() {
        let (anonymous, certificate, key) =
            (caller(CallerKind::Anonymous), caller(CallerKind::Certificate), caller(CallerKind::Key));
        let foreign = asked(&Method::POST, Some("https://evil.test"), "localhost:8080");
        for who in [&anonymous, &certificate] {
            assert!(check_origin(&foreign, who, None).is_err());
            assert!(check_origin(&asked(&Method::POST, None, "localhost:8080"), who, None).is_ok(), "no browser");
            let own = asked(&Method::POST, Some("http://localhost:8080"), "localhost:8080");
            assert!(check_origin(&own, who, None).is_ok(), "its own page");
            let reading = asked(&Method::GET, Some("https://evil.test"), "localhost:8080");
            assert!(check_origin(&reading, who, None).is_ok(), "it cannot see the answer");
        }
        assert!(check_origin(&foreign, &key, None).is_ok(), "the page knows the key");
        let listed = CorsConfig::new(Origins::Listed(vec![HeaderValue::from_static("https://evil.test")]));
        let any = CorsConfig::new(Origins::Any);
        assert!(check_origin(&foreign, &anonymous, Some(&any)).is_ok());
        assert!(check_origin(&foreign, &certificate, Some(&any)).is_err());
        assert!(check_origin(&foreign, &certificate, Some(&listed)).is_ok());
    }

    #[test]
    fn a_browser_reaches_this_machine_by_its_own_names_alone() {
        let check = |origin, host| {
            let parts = asked(&Method::GET, origin, host);
            check_host(&parts.headers, &parts.uri).is_ok()
        };
        let page = Some("http://evil.test:8080");
        for ours in ["localhost:8080", "app.localhost", "127.0.0.1:8080", "[::1]:8080", "LOCALHOST"] {
            assert!(check(page, ours), "{ours}");
        }
        assert!(!check(page, "evil.test:8080"));
        assert!(check(None, "evil.test:8080"), "no browser");
    }
}
