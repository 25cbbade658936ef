//! A served gateway, with a fake node behind it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use busway_gateway::edge::{EdgeConfig, Gateway, RouteConfig, Setup, Target, bind};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::client::{Answer, Connection, Request};
use crate::fake::{Fake, lock};

/// A gateway that listens on a port of its own.
pub(crate) struct Served {
    pub(crate) addr: SocketAddr,
    pub(crate) fake: Arc<Fake>,
    pub(crate) gateway: Arc<Gateway>,
    stop: Mutex<Option<oneshot::Sender<()>>>,
    server: JoinHandle<()>,
}

impl Served {
    pub(crate) async fn start(config: EdgeConfig) -> Self {
        Self::start_with(Fake::default(), config).await
    }

    pub(crate) async fn start_with(fake: Fake, config: EdgeConfig) -> Self {
        Self::start_in(fake, config, None).await
    }

    pub(crate) async fn start_in(fake: Fake, config: EdgeConfig, folder: Option<PathBuf>) -> Self {
        Self::start_as(fake, config, Setup { seed: 7, folder, is_public: false }).await
    }

    #[expect(clippy::disallowed_methods, reason = "a test has no node to spawn for it")]
    #[expect(clippy::unused_async, reason = "there has to be a runtime to listen")]
    pub(crate) async fn start_as(fake: Fake, config: EdgeConfig, setup: Setup) -> Self {
        let fake = Arc::new(fake);
        let gateway = Gateway::new(Arc::clone(&fake) as _, config, setup).expect("a sound configuration");
        let listener = bind("127.0.0.1:0".parse().expect("an address")).expect("a port");
        let addr = listener.local_addr().expect("its address");
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async {
            // A dropped sender stops the server as well.
            let _ = stopped.await;
        };
        let server = tokio::spawn(Arc::clone(&gateway).serve(listener, shutdown));
        Self { addr, fake, gateway, stop: Mutex::new(Some(stop)), server }
    }

    pub(crate) fn stop(&self) {
        drop(lock(&self.stop).take());
    }

    /// Waits until nothing is served any more.
    pub(crate) async fn ended(self) {
        self.server.await.expect("the server's task");
    }

    pub(crate) async fn connect(&self) -> Connection {
        Connection::open(self.addr).await
    }

    /// Sends one request on a connection of its own.
    pub(crate) async fn send(&self, request: Request) -> Answer {
        self.connect().await.send(request).await
    }
}

/// A route to an HTTP service of the fake, which gives back what it gets; the service `nobody` does not run.
pub(crate) fn route(path: &str, service: &str) -> RouteConfig {
    RouteConfig {
        name: path.into(),
        path: path.into(),
        method: None,
        is_open: false,
        rate: None,
        timeout: None,
        target: Target::Service(service.parse().expect("a name")),
    }
}

/// A configuration with a route `/echo/{*rest}` to a service that gives back what it gets.
pub(crate) fn echoing() -> EdgeConfig {
    EdgeConfig { routes: vec![route("/echo/{*rest}", "echo")], ..EdgeConfig::default() }
}
