//! What live push keeps between requests: who listens, and the Socket.IO servers of the routes.

use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use busway_types::Pattern;
use tokio::sync::OnceCell;

use super::config::SocketIoConfig;
use super::listen::{Listening, who};
use super::places::Places;
use super::socketio::{self, Server};
use crate::edge::problem::{Problem, Refusal};
use crate::edge::{Edge, EdgeConfig, RouteConfig, Target};

/// The path at which events are listened to.
pub(crate) const PATH: &str = "/events";

/// What is kept between requests.
#[derive(Default)]
pub(crate) struct LiveState {
    places: Arc<Places>,
    servers: Mutex<Vec<Running>>,
}

/// The server of a route, started by its first request.
#[derive(Clone)]
struct Running {
    route: RouteConfig,
    /// What the server takes of one message; all other bounds are those of the configuration in use.
    message_bytes: usize,
    server: Arc<OnceCell<Server>>,
}

impl Running {
    fn is_of(&self, config: &EdgeConfig) -> bool {
        self.message_bytes == config.live.message_bytes && config.routes.contains(&self.route)
    }
}

/// What the gateway serves by itself.
pub(crate) fn router(edge: &Arc<Edge>) -> Router {
    Router::new().route(PATH, get(listen)).with_state(Arc::clone(edge))
}

async fn listen(State(edge): State<Arc<Edge>>, request: Request) -> Response {
    listening(&edge).answer(request, None).await
}

/// Answers a request for the events of a route.
pub(crate) async fn events(edge: &Arc<Edge>, patterns: &[Pattern], request: Request) -> Response {
    listening(edge).answer(request, Some(patterns.into())).await
}

/// Answers a request of a Socket.IO transport.
pub(crate) async fn socketio(
    edge: &Arc<Edge>,
    route: &RouteConfig,
    config: &SocketIoConfig,
    request: Request,
) -> Response {
    let listening = listening(edge);
    if let Err(problem) = listening.check_origin(request.headers(), request.uri()) {
        return problem.into_response();
    }
    let who = match who(request.extensions()) {
        Ok(who) => who,
        Err(problem) => return problem.into_response(),
    };
    let live = Arc::clone(&listening.config);
    let Some(running) = edge.live.running(edge, route) else { return gone().into_response() };
    let start = || Server::start(config, listening, running.message_bytes);
    match running.server.get_or_try_init(start).await {
        // While it started the route may have gone, and nobody would end it.
        Ok(server) if !edge.live.keeps(&running) => {
            server.close().await;
            gone().into_response()
        }
        Ok(server) => server.call(request, who, &live).await,
        Err(error) => Problem::from(error).into_response(),
    }
}

fn gone() -> Problem {
    Problem::new(Refusal::Unavailable, "this route has changed; come back")
}

fn listening(edge: &Arc<Edge>) -> Listening {
    let config = edge.config();
    Listening {
        backend: Arc::clone(&edge.backend),
        config: Arc::new(config.live.clone()),
        places: Arc::clone(&edge.live.places),
        edge: Arc::downgrade(edge),
        stop: edge.stopping(),
        cors: config.cors.clone(),
    }
}

impl LiveState {
    /// The server of a route; none when the route is gone.
    fn running(&self, edge: &Edge, route: &RouteConfig) -> Option<Running> {
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        // With the lock: a configuration is in use before `keep` looks through the servers for it.
        let config = edge.config();
        if let Some(running) = servers.iter().find(|running| running.route == *route && running.is_of(&config)) {
            return Some(running.clone());
        }
        let running =
            Running { route: route.clone(), message_bytes: config.live.message_bytes, server: Arc::default() };
        running.is_of(&config).then(|| {
            servers.push(running.clone());
            running
        })
    }

    fn keeps(&self, running: &Running) -> bool {
        let servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        servers.iter().any(|kept| Arc::ptr_eq(&kept.server, &running.server))
    }

    /// Another configuration is in use: the servers of routes that are gone, or are others now, end, and so do those that
    /// take messages of another size. Their clients come back to what is there then.
    pub(crate) fn keep(&self, config: &EdgeConfig) {
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        servers.retain(|running| {
            let is_there = running.is_of(config);
            if !is_there && matches!(running.route.target, Target::SocketIo(_)) {
                let server = Arc::clone(&running.server);
                socketio::spawn(async move {
                    if let Some(server) = server.get() {
                        server.close().await;
                    }
                });
            }
            is_there
        });
    }
}
