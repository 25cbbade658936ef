//! `wasi:http` for one instance: what a guest may ask of other hosts, and where the request in hand comes from.
//!
//! Role: the hooks through which every outgoing request goes. Nothing leaves that the service's network grants do not
//! name: a host is compared as the grant writes it, an address with what the grants resolve to, like a socket's.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use busway_types::{Origin, ServiceName};
use http::uri::Scheme;
use http_body_util::BodyExt;
use tracing::Level;
use wasmtime_wasi_http::{
    Error, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView, default_send_request,
};

use super::wasi::is_allowed;
use super::{GuestState, Service};
use crate::capability::Bus;

/// How long an outgoing request waits for its connection, the head of its answer, or the next part of its body, whatever
/// the guest asks for.
const PATIENCE: Duration = Duration::from_mins(1);

/// What crossed the wire with the request in hand, for what is published because of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trace {
    /// W3C trace context.
    pub(crate) traceparent: Option<Box<str>>,
    /// The id of the request.
    pub(crate) request: Option<Box<str>>,
}

impl Trace {
    /// An origin with what is known of the request, as far as it says nothing itself.
    pub(super) fn origin(&self, mut origin: Origin) -> Origin {
        if origin.traceparent.is_none() {
            origin.traceparent.clone_from(&self.traceparent);
        }
        if origin.correlation.is_none() {
            origin.correlation.clone_from(&self.request);
        }
        origin
    }
}

/// What an instance keeps for `wasi:http`.
pub(super) struct Http {
    ctx: WasiHttpCtx,
    outgoing: Outgoing,
    pub(super) trace: Trace,
}

impl Http {
    pub(super) fn new(service: &Arc<Service>) -> Self {
        let outgoing = Outgoing { service: service.clone() };
        Self { ctx: WasiHttpCtx::new(), outgoing, trace: Trace::default() }
    }
}

impl GuestState {
    /// The request in hand came with this.
    pub(crate) fn set_trace(&mut self, trace: Trace) {
        self.http.trace = trace;
    }
}

impl WasiHttpView for GuestState {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        let Http { ctx, outgoing, .. } = &mut self.http;
        WasiHttpCtxView { hooks: outgoing, table: &mut self.table, ctx }
    }
}

/// Sends what is granted.
struct Outgoing {
    service: Arc<Service>,
}

type Sent = Result<(http::Response<WasiBody>, Box<dyn Future<Output = Result<(), Error>> + Send>), Error>;

impl WasiHttpHooks for Outgoing {
    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _sent: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        let service = self.service.clone();
        Box::new(async move {
            let grants = &service.settings.grants.network;
            let (host, port) = destination(request.uri()).ok_or(Error::HttpRequestUriInvalid)?;
            if !is_granted(grants, &host, port).await {
                refuse(service.bus.as_ref(), &service.settings.name, &host, port);
                return Err(Error::HttpRequestDenied);
            }
            let (answer, rest) = default_send_request(request, Some(bounded(options))).await?;
            Ok((answer.map(BodyExt::boxed_unsync), Box::new(rest) as Box<dyn Future<Output = _> + Send>))
        })
    }
}

/// Tells an operator which line would allow it; the guest hears `HTTP-request-denied`.
fn refuse(bus: &dyn Bus, service: &ServiceName, host: &str, port: u16) {
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let message = format!(
        "an HTTP request to {host}:{port} was denied; to allow it, write `network = [\"{host}:{port}\"]` in the \
         service's table of the manifest"
    );
    bus.log(service, Level::WARN, &message, &[]);
}

fn bounded(options: Option<RequestOptions>) -> RequestOptions {
    let options = options.unwrap_or_default();
    let most = |wanted: Option<Duration>| Some(wanted.map_or(PATIENCE, |wanted| wanted.min(PATIENCE)));
    RequestOptions {
        connect_timeout: most(options.connect_timeout),
        first_byte_timeout: most(options.first_byte_timeout),
        between_bytes_timeout: most(options.between_bytes_timeout),
    }
}

/// The host, without brackets, and the port of a request.
fn destination(uri: &http::Uri) -> Option<(String, u16)> {
    let authority = uri.authority()?;
    let port = authority.port_u16().unwrap_or(if uri.scheme() == Some(&Scheme::HTTPS) { 443 } else { 80 });
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').trim_end_matches('.');
    Some((host.to_ascii_lowercase(), port))
}

/// Whether the grants name this host. A name is compared as it is written, not by where it leads: otherwise whoever owns
/// any name could let it lead to a granted address, or to one of this machine.
async fn is_granted(grants: &[String], host: &str, port: u16) -> bool {
    if let Ok(ip) = host.parse() {
        return is_allowed(grants, SocketAddr::new(ip, port)).await;
    }
    grants.iter().any(|grant| match grant.rsplit_once(':') {
        Some((name, only)) if only.parse() == Ok(port) => name.eq_ignore_ascii_case(host),
        Some((_, only)) if only.parse::<u16>().is_ok() => false,
        _ => grant.eq_ignore_ascii_case(host),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn hosts_are_granted_by_name_and_port_and_addresses_by_what_is_granted() {
        let grants: Vec<String> =
            ["api.example.org", "pay.example.org:8443", "10.0.0.1:80", "::1"].map(str::to_owned).into();
        for (host, port, granted) in [
            ("api.example.org", 443, true),
            ("api.example.org", 8080, true),
            ("pay.example.org", 8443, true),
            ("pay.example.org", 443, false),
            ("evil.example.org", 443, false),
            ("localhost", 80, false),
            ("10.0.0.1", 80, true),
            ("10.0.0.1", 443, false),
            ("127.0.0.1", 80, false),
            ("169.254.169.254", 80, false),
            ("::1", 80, true),
        ] {
            assert_eq!(is_granted(&grants, host, port).await, granted, "{host}:{port}");
        }
        assert!(!is_granted(&[], "api.example.org", 443).await);
    }

    #[test]
    fn the_destination_is_where_the_request_would_go() {
        let of = |uri: &str| destination(&uri.parse().unwrap());
        assert_eq!(of("https://API.example.org./x"), Some(("api.example.org".into(), 443)));
        assert_eq!(of("http://[::1]:8080/"), Some(("::1".into(), 8080)));
        assert_eq!(of("http://u@10.0.0.1/"), Some(("10.0.0.1".into(), 80)));
        assert_eq!(of("/only/a/path"), None);
    }
}
