//! The gateway of a node: where it listens, when it stops, how it takes another manifest.

use std::net::SocketAddr;
use std::sync::Arc;

use busway_gateway::edge::{self, EdgeConfig, EdgeConfigError, Gateway, Setup};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::EdgeNode;
use crate::error::NodeError;
use crate::inner::{Inner, Stop};
use crate::manifest::GatewayConfig;
use crate::task_set::TaskSet;

/// A gateway that serves.
pub(crate) struct Listening {
    gateway: Arc<Gateway>,
    addr: SocketAddr,
    stop: watch::Sender<bool>,
    ended: watch::Receiver<bool>,
}

/// The address at which a gateway is to listen, taken.
pub(crate) struct Bound {
    listener: TcpListener,
    addr: SocketAddr,
}

impl Bound {
    /// Takes the address of the gateway, if there is to be one.
    pub(crate) fn take(listen: Option<SocketAddr>) -> Result<Option<Self>, NodeError> {
        let Some(addr) = listen else { return Ok(None) };
        let listener = edge::bind(addr)?;
        let addr = listener.local_addr().map_err(|source| NodeError::System { what: "a socket", source })?;
        Ok(Some(Self { listener, addr }))
    }

    /// Serves there.
    pub(crate) fn serve(
        self,
        inner: &Arc<Inner>,
        config: &GatewayConfig,
        setup: Setup,
        tasks: &TaskSet,
    ) -> Result<Listening, NodeError> {
        let backend = Arc::new(EdgeNode { inner: Arc::clone(inner) });
        let setup = Setup { is_public: !self.addr.ip().is_loopback(), ..setup };
        let gateway = Gateway::new(backend, within_files(&config.edge), setup)?;
        let (stop, mut asked) = watch::channel(false);
        let (end, ended) = watch::channel(false);
        let mut node = inner.stop.subscribe();
        let serving = Arc::clone(&gateway);
        tasks.spawn(async move {
            let stopped = async move {
                tokio::select! {
                    _ = asked.wait_for(|asked| *asked) => {}
                    _ = node.wait_for(|stop| *stop != Stop::No) => {}
                }
            };
            serving.serve(self.listener, stopped).await;
            end.send_replace(true);
        });
        Ok(Listening { gateway, addr: self.addr, stop, ended })
    }
}

impl Listening {
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub(crate) fn gateway(&self) -> &Arc<Gateway> {
        &self.gateway
    }

    /// Serves other settings from now on; those that cannot be served change nothing.
    pub(crate) fn reload(&self, config: &EdgeConfig) -> Result<(), EdgeConfigError> {
        self.gateway.reload(within_files(config))
    }

    /// Ends: readiness first, then requests in flight, then streams. It bounds its time by itself.
    pub(crate) async fn drain(&self) {
        self.stop.send_replace(true);
        let mut ended = self.ended.clone();
        // A closed channel means that it has ended too.
        let _ = ended.wait_for(|ended| *ended).await;
    }
}

/// Files and sockets that the rest of the node needs.
const OTHER_FILES: u64 = 512;

/// The settings with no more connections than the process may have sockets, after asking the system for as many as are
/// wanted: a gateway that takes the last one would keep the log from opening its next file.
fn within_files(config: &EdgeConfig) -> EdgeConfig {
    let mut config = config.clone();
    let wanted = config.limits.connections as u64 + OTHER_FILES;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_some_and(|current| current < wanted) {
        let raised = maximum.map_or(wanted, |maximum| maximum.min(wanted));
        if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: Some(raised), maximum }) {
            tracing::debug!(%error, "the system does not allow more open files");
        }
    }
    if let Some(files) = getrlimit(Resource::Nofile).current.filter(|files| *files < wanted) {
        let most = usize::try_from(files.saturating_sub(OTHER_FILES)).unwrap_or(usize::MAX).max(16);
        tracing::warn!(
            "the gateway takes {most} connections instead of {}: the system allows this process {files} open files \
             (ulimit -n)",
            config.limits.connections
        );
        config.limits.connections = most;
    }
    config
}
