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
use crate::edge::problem::Problem;
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
    server: Arc<OnceCell<Server>>,
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
    let running = edge.live.running(route);
    let started = running.server.get_or_try_init(|| Server::start(config, listening)).await;
    match started {
        Ok(server) => server.call(request, who).await,
        Err(error) => Problem::from(error).into_response(),
    }
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
    fn running(&self, route: &RouteConfig) -> Running {
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = servers.iter().find(|running| running.route == *route) {
            return running.clone();
        }
        let running = Running { route: route.clone(), server: Arc::default() };
        servers.push(running.clone());
        running
    }

    /// Another configuration is in use: the servers of routes that are gone, or are others now, end. Their clients come
    /// back to what is there then.
    pub(crate) fn keep(&self, config: &EdgeConfig) {
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        servers.retain(|running| {
            let is_there = config.routes.contains(&running.route);
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
