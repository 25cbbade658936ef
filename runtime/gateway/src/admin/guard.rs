//! What every request has to pass before a route sees it.
//!
//! Role: the `Host` header (a page whose name was rebound to this machine is turned away), the token, and the time a
//! request may take. Invariant: only `/v1/health` is answered without the token.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, HOST};
use axum::http::uri::Authority;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::server::Admin;
use crate::admin::api::ApiError;

pub(crate) const HEALTH: &str = "/v1/health";

pub(crate) async fn guard(State(admin): State<Arc<Admin>>, request: Request, next: Next) -> Response {
    if let Err(error) = check(&admin, &request) {
        return error.into_response();
    }
    let limit = admin.config.request_time;
    tokio::time::timeout(limit, next.run(request)).await.unwrap_or_else(|_| {
        let detail = format!("the request took longer than {limit:?}; it may have taken effect all the same");
        ApiError::TimedOut { detail }.into_response()
    })
}

fn check(admin: &Admin, request: &Request) -> Result<(), ApiError> {
    let header = request.headers().get(HOST).and_then(|h| h.to_str().ok());
    let host = request.uri().authority().map(Authority::as_str).or(header).unwrap_or_default();
    if !serves_host(host, admin.local, &admin.config.hosts) {
        let detail = format!(
            "this node does not serve the host `{}`; use its address, or allow the name when starting it",
            host.chars().take(80).collect::<String>()
        );
        return Err(ApiError::WrongHost { detail });
    }
    if request.uri().path() == HEALTH {
        return Ok(());
    }
    let given = request.headers().get(AUTHORIZATION).and_then(|h| h.to_str().ok());
    let Some(given) = given else {
        let detail = "send the node's token as `Authorization: Bearer TOKEN`".to_owned();
        return Err(ApiError::Unauthorized { detail });
    };
    let token = given.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    match token {
        Some((_, token)) if admin.config.token.matches(token.trim()) => Ok(()),
        _ => Err(ApiError::Unauthorized { detail: "this is not the token of this node".to_owned() }),
    }
}

fn serves_host(authority: &str, local: SocketAddr, names: &[String]) -> bool {
    let Ok(authority) = authority.parse::<Authority>() else { return false };
    let host = authority.host();
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    if let Ok(ip) = bare.parse::<IpAddr>() {
        return ip.is_loopback() || ip == local.ip() || local.ip().is_unspecified();
    }
    bare.eq_ignore_ascii_case("localhost") || names.iter().any(|name| name.eq_ignore_ascii_case(bare))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rebound_names_are_turned_away() {
        let local: SocketAddr = "127.0.0.1:7878".parse().expect("an address");
        let names = ["bus.internal".to_owned()];
        for good in ["127.0.0.1:7878", "localhost:1", "LOCALHOST", "[::1]:7878", "bus.internal:80"] {
            assert!(serves_host(good, local, &names), "{good}");
        }
        for bad in ["", "evil.example", "localhost.evil.example:7878", "10.0.0.1", "127.0.0.1.evil.example"] {
            assert!(!serves_host(bad, local, &names), "{bad}");
        }
        let everywhere: SocketAddr = "0.0.0.0:7878".parse().expect("an address");
        assert!(serves_host("10.0.0.1:7878", everywhere, &names), "a literal address cannot be rebound");
        assert!(!serves_host("evil.example", everywhere, &names));
    }
}
