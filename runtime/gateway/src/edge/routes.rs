//! Routes of the manifest: which path and method leads to what.
//!
//! Role: [`RouteConfig`] describes one, [`RouteTable`] finds the one for a request. Invariants: a path that the gateway
//! serves by itself (`/health/..`, `/events/..`) is never taken by a route, whatever catch-all there is; a static segment
//! goes before a parameter, a parameter before a catch-all; which rules hold for a request is decided by this one look.
//!
//! To add a kind of target: a variant of [`Target`], its reading in `runtime/node/src/manifest/gateway/routes.rs`, and its
//! arm in [`super::router`].

use std::sync::Arc;
use std::time::Duration;

use busway_types::{Pattern, ServiceName};
use http::Method;

use super::ask::RequestTarget;
use super::config::EdgeConfigError;
use super::file::ServedFile;
use super::live::SocketIoConfig;
use super::path;
use super::rate::Rate;

/// One route of the manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteConfig {
    /// How it is called in scopes (`route:NAME`), logs and documents.
    pub name: Box<str>,
    /// `/orders/{id}`: segments are text, `{name}` for one segment, or `{*name}` for the rest.
    pub path: Box<str>,
    /// The method; every method when none is given. `GET` serves `HEAD` too.
    pub method: Option<Method>,
    /// Whether it is open to everybody, also when authentication is configured.
    pub is_open: bool,
    /// How often one client may use it; as often as everything together when nothing is said.
    pub rate: Option<Rate>,
    /// How long a request may take until its answer begins; the gateway's `request-time` when nothing is said.
    pub timeout: Option<Duration>,
    /// Where it leads.
    pub target: Target,
}

/// Where a route leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// `request = "shop:orders/quotes.quote"`: a function of a contract, asked over the bus.
    Request(RequestTarget),
    /// `service = "hello"`: a service that exports `wasi:http/incoming-handler`.
    Service(ServiceName),
    /// `events = ["shop.>"]`: Server-Sent Events, or a WebSocket, of these topics.
    Events(Vec<Pattern>),
    /// `socketio = { .. }`: Socket.IO.
    SocketIo(SocketIoConfig),
    /// `file = "page.html"`: a file as it is.
    File(ServedFile),
}

/// A route that was found for a request. In the extensions of the request.
#[derive(Clone, Debug)]
pub(crate) struct Matched {
    /// The route.
    pub(crate) route: Arc<RouteConfig>,
    /// Parameters of the path, by name, percent-decoded.
    pub(crate) params: Vec<(Box<str>, Box<str>)>,
}

/// What is known of a path.
#[derive(Clone, Debug)]
enum Entry {
    /// The gateway serves it by itself.
    BuiltIn,
    /// Routes of the manifest, by method.
    Routes(Vec<Arc<RouteConfig>>),
}

/// What a look into the table found.
#[derive(Debug)]
pub(crate) enum Found {
    /// A route.
    Route(Matched),
    /// There are routes for the path, but none for the method.
    OtherMethods {
        /// What they are for.
        methods: Vec<Method>,
        /// Whether all of them are open to everybody.
        are_open: bool,
    },
    /// No route: the gateway's own, or nothing.
    Nothing,
}

/// The routes of one configuration.
#[derive(Debug, Default)]
pub(crate) struct RouteTable {
    paths: matchit::Router<Entry>,
}

impl RouteTable {
    /// The table; `built_in` are the paths that the gateway serves by itself.
    pub(crate) fn new<'a>(
        built_in: impl IntoIterator<Item = &'a str>,
        routes: &[RouteConfig],
    ) -> Result<Self, EdgeConfigError> {
        let mut paths = matchit::Router::new();
        for own in built_in {
            if let Err(error) = paths.insert(own, Entry::BuiltIn) {
                let (name, path) = ("(of the gateway)".to_owned(), own.to_owned());
                return Err(EdgeConfigError::Path { name, path, problem: error.to_string() });
            }
        }
        let mut table = Self { paths };
        let mut grouped: Vec<(&str, Vec<Arc<RouteConfig>>)> = Vec::new();
        for route in routes {
            let refused = |problem: String| EdgeConfigError::Path {
                name: route.name.to_string(),
                path: route.path.to_string(),
                problem,
            };
            path::check_pattern(&route.path).map_err(refused)?;
            let Some((_, same)) = grouped.iter_mut().find(|(path, _)| **path == *route.path) else {
                grouped.push((&route.path, vec![Arc::new(route.clone())]));
                continue;
            };
            if let Some(first) = same.iter().find(|known| known.method == route.method) {
                return Err(EdgeConfigError::Twice { first: first.name.to_string(), second: route.name.to_string() });
            }
            same.push(Arc::new(route.clone()));
        }
        // What is below a path takes the path itself too: a service at `/{*rest}` also gets `/`.
        let below = |path: &str| {
            let (base, last) = path.rsplit_once('/')?;
            let base = format!("{base}/");
            (last.starts_with("{*") && !grouped.iter().any(|(known, _)| **known == *base)).then_some(base)
        };
        for (path, same) in &grouped {
            // Not when the gateway serves that by itself.
            if let Some(base) = below(path) {
                let _ = table.paths.insert(base, Entry::Routes(same.clone()));
            }
        }
        for (path, same) in grouped {
            let name = same.first().map(|route| route.name.to_string()).unwrap_or_default();
            if let Some(twin) = socketio_twin(path, &same) {
                // A path that is taken stays what it is; clients use the other one unless they are told otherwise.
                let _ = table.paths.insert(twin, Entry::Routes(same.clone()));
            }
            table.paths.insert(path, Entry::Routes(same)).map_err(|error| EdgeConfigError::Path {
                name,
                path: path.to_owned(),
                problem: match error {
                    matchit::InsertError::Conflict { with } => {
                        format!("it is the same as `{with}`, which is served already")
                    }
                    other => other.to_string(),
                },
            })?;
        }
        Ok(table)
    }

    /// What a request leads to; `path` is normalised.
    pub(crate) fn find(&self, method: &Method, path: &str) -> Found {
        let Ok(found) = self.paths.at(path) else { return Found::Nothing };
        let Entry::Routes(routes) = found.value else { return Found::Nothing };
        let exact = routes.iter().find(|route| route.method.as_ref() == Some(method));
        let head = || routes.iter().find(|route| *method == Method::HEAD && route.method == Some(Method::GET));
        let any = || routes.iter().find(|route| route.method.is_none());
        let Some(route) = exact.or_else(head).or_else(any) else {
            let methods = routes.iter().filter_map(|route| route.method.clone()).collect();
            return Found::OtherMethods { methods, are_open: routes.iter().all(|route| route.is_open) };
        };
        let params = found.params.iter().map(|(name, value)| (name.into(), path::decode(value).into())).collect();
        Found::Route(Matched { route: Arc::clone(route), params })
    }
}

/// The path of a Socket.IO route with a slash at its end, or without: clients are told `/socket.io` and ask `/socket.io/`.
fn socketio_twin(path: &str, routes: &[Arc<RouteConfig>]) -> Option<String> {
    let is_socketio = routes.iter().any(|route| matches!(route.target, Target::SocketIo(_)));
    let twin = path.strip_suffix('/').map_or_else(|| format!("{path}/"), str::to_owned);
    (is_socketio && twin.len() > 1).then_some(twin)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(name: &str, path: &str, method: Option<Method>) -> RouteConfig {
        let target = Target::Service("s".parse().expect("a name"));
        RouteConfig { name: name.into(), path: path.into(), method, is_open: false, rate: None, timeout: None, target }
    }

    fn found(table: &RouteTable, method: &Method, path: &str) -> String {
        match table.find(method, path) {
            Found::Route(matched) => {
                let params = matched.params.iter().map(|(name, value)| format!(" {name}={value}"));
                format!("{}{}", matched.route.name, params.collect::<String>())
            }
            Found::OtherMethods { methods, .. } => format!("other {methods:?}"),
            Found::Nothing => "nothing".to_owned(),
        }
    }

    #[test]
    fn the_most_particular_route_is_found_with_its_parameters() {
        let routes = [
            route("all", "/{*rest}", None),
            route("order", "/orders/{id}", Some(Method::GET)),
            route("new", "/orders/{id}", Some(Method::POST)),
            route("mine", "/orders/mine", None),
        ];
        let table = RouteTable::new(["/events/{topic}"], &routes).expect("a table");
        for (method, path, wanted) in [
            (Method::GET, "/orders/a%20b", "order id=a b"),
            (Method::HEAD, "/orders/1", "order id=1"),
            (Method::POST, "/orders/1", "new id=1"),
            (Method::PUT, "/orders/1", "other [GET, POST]"),
            (Method::PUT, "/orders/mine", "mine"),
            (Method::GET, "/x/y", "all rest=x/y"),
            (Method::GET, "/", "all"),
            (Method::POST, "/events/a.b", "nothing"),
        ] {
            assert_eq!(found(&table, &method, path), wanted, "{method} {path}");
        }
    }

    #[test]
    fn routes_that_collide_are_refused_with_both_names() {
        let twice = [route("a", "/x", None), route("b", "/x", None)];
        let error = RouteTable::new([], &twice).expect_err("twice");
        assert_eq!(error, EdgeConfigError::Twice { first: "a".into(), second: "b".into() });
        let taken = RouteTable::new(["/events/{topic}"], &[route("mine", "/events/{any}", None)]).expect_err("taken");
        assert!(taken.to_string().contains("`mine`"), "{taken}");
        assert!(RouteTable::new([], &[route("bad", "no-slash", None)]).is_err());
    }
}
