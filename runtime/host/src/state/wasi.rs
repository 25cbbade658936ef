//! WASI 0.2, with everything denied that was not granted.
//!
//! Role: the two linkers (for services whose host calls never wait for something outside, and for those that were granted
//! files or network), the WASI context of one instance, and busway's own `wasi:io/poll`, whose waits end with the
//! deadline of the call.

use std::net::SocketAddr;
use std::sync::Arc;

use wasmtime::Engine;
use wasmtime::component::{HasData, HasSelf, Linker, Resource, ResourceTable};
use wasmtime_wasi::p2::bindings::io::poll as async_poll;
use wasmtime_wasi::p2::bindings::sync::io::poll as sync_poll;
use wasmtime_wasi::p2::{self, DynPollable};
use wasmtime_wasi::sockets::SocketAddrUse;
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxBuilder};

use super::deadline::Meter;
use super::delivery::ChunkContext;
use super::output::{Output, Stream};
use super::{GuestState, Service};
use crate::bindings::{context as context_interface, key_value, log, producer, types};
use crate::wait::block_on;

/// Random bytes that a guest may ask for at once.
const RANDOM_BYTES: u64 = 1024 * 1024;

/// Pollables that a guest may wait for at once.
const POLLABLES: usize = 10_000;

/// Everything that components can import, for one engine.
pub(crate) struct Linkers {
    /// For `call`: nothing here waits beyond the deadline of the call.
    pub(crate) sync: Linker<GuestState>,
    /// For `call_async`: waits are futures, which are dropped at the deadline. With `wasi:http`.
    pub(crate) waiting: Linker<GuestState>,
}

impl Linkers {
    pub(crate) fn new(engine: &Engine) -> wasmtime::Result<Self> {
        let mut sync = Linker::new(engine);
        p2::add_to_linker_sync(&mut sync)?;
        sync.allow_shadowing(true);
        sync_poll::add_to_linker::<GuestState, BoundedIo>(&mut sync, bounded_io)?;
        sync.allow_shadowing(false);
        add_bus(&mut sync)?;
        let mut waiting = Linker::new(engine);
        p2::add_to_linker_async(&mut waiting)?;
        // Only here: whoever reads or writes a body waits.
        wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut waiting)?;
        add_bus(&mut waiting)?;
        Ok(Self { sync, waiting })
    }
}

fn add_bus(linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
    types::add_to_linker::<GuestState, HasSelf<GuestState>>(linker, |state| state)?;
    producer::add_to_linker::<GuestState, HasSelf<GuestState>>(linker, |state| state)?;
    key_value::add_to_linker::<GuestState, HasSelf<GuestState>>(linker, |state| state)?;
    context_interface::add_to_linker::<GuestState, HasSelf<GuestState>>(linker, |state| state)?;
    log::add_to_linker::<GuestState, HasSelf<GuestState>>(linker, |state| state)
}

/// The WASI context of a new instance.
pub(super) fn context(service: &Service, output: &Arc<Output>, args: &[String]) -> WasiCtx {
    let grants = &service.settings.grants;
    let mut wasi = WasiCtxBuilder::new();
    wasi.stdout(Stream { output: output.clone(), stderr: false })
        .stderr(Stream { output: output.clone(), stderr: true })
        .envs(&grants.env)
        .args(args)
        .max_random_size(RANDOM_BYTES)
        .allow_tcp(false)
        .allow_udp(false)
        .allow_ip_name_lookup(false);
    for grant in &grants.files {
        let permissions = if grant.write { FsPerms::ReadWrite } else { FsPerms::ReadOnly };
        if let Err(error) = wasi.preopened_dir(&grant.host, &grant.guest, permissions) {
            let (service, folder) = (service.settings.name.as_str(), grant.host.display());
            tracing::warn!(service, %folder, %error, "a granted folder cannot be opened; the service does not see it");
        }
    }
    if !grants.network.is_empty() {
        let allowed: Arc<[String]> = grants.network.clone().into();
        wasi.allow_tcp(true).allow_udp(true).allow_ip_name_lookup(true).socket_addr_check(move |address, what| {
            let allowed = allowed.clone();
            Box::pin(async move { is_granted(&allowed, address, what).await })
        });
    }
    wasi.build()
}

/// A network grant is for going out: to a granted host, from any port that the system chooses. Nobody may listen.
async fn is_granted(allowed: &[String], address: SocketAddr, what: SocketAddrUse) -> bool {
    match what {
        // What the system binds by itself before it connects or sends.
        SocketAddrUse::TcpBind | SocketAddrUse::UdpBind => address.ip().is_unspecified() && address.port() == 0,
        SocketAddrUse::TcpConnect | SocketAddrUse::UdpSend | SocketAddrUse::UdpReceive => {
            is_allowed(allowed, address).await
        }
        SocketAddrUse::TcpListen | SocketAddrUse::TcpAccept => false,
    }
}

/// Whether an address belongs to one of the granted hosts, as they resolve now.
pub(super) async fn is_allowed(allowed: &[String], address: SocketAddr) -> bool {
    for grant in allowed {
        let (host, port) = match grant.rsplit_once(':') {
            Some((host, port)) if port.parse::<u16>().is_ok() && !host.ends_with(':') => (host, port.parse().ok()),
            _ => (grant.as_str(), None),
        };
        if port.is_some_and(|port: u16| port != address.port()) {
            continue;
        }
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if let Ok(found) = tokio::net::lookup_host((host, address.port())).await
            && found.into_iter().any(|found| found.ip() == address.ip())
        {
            return true;
        }
    }
    false
}

struct BoundedIo;

impl HasData for BoundedIo {
    type Data<'a> = Io<'a>;
}

/// What `wasi:io/poll` needs of a state.
struct Io<'a> {
    table: &'a mut ResourceTable,
    meter: &'a Meter,
    chunk: Option<&'a mut ChunkContext>,
}

fn bounded_io(state: &mut GuestState) -> Io<'_> {
    Io { table: &mut state.table, meter: &state.meter, chunk: state.chunk.as_mut() }
}

impl Io<'_> {
    /// Waits until `future` is ready or the call has to end. Whoever waits needs no core and holds back no results.
    fn wait<T>(
        meter: &Meter,
        mut chunk: Option<&mut ChunkContext>,
        future: impl Future<Output = wasmtime::Result<T>>,
    ) -> wasmtime::Result<T> {
        let ended = block_on(future, || {
            meter.give_slot_back();
            if let Some(chunk) = &mut chunk {
                chunk.report_if_long(meter.now());
            }
            meter.patience()
        });
        ended.unwrap_or_else(|| Err(Meter::interrupted()))
    }
}

impl sync_poll::Host for Io<'_> {
    fn poll(&mut self, pollables: Vec<Resource<DynPollable>>) -> wasmtime::Result<Vec<u32>> {
        if pollables.len() > POLLABLES {
            return Err(wasmtime::Error::msg(format!("waiting for more than {POLLABLES} things at once")));
        }
        Self::wait(self.meter, self.chunk.as_deref_mut(), async_poll::Host::poll(self.table, pollables))
    }
}

impl sync_poll::HostPollable for Io<'_> {
    fn ready(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<bool> {
        Self::wait(self.meter, None, async_poll::HostPollable::ready(self.table, pollable))
    }

    fn block(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        Self::wait(self.meter, self.chunk.as_deref_mut(), async_poll::HostPollable::block(self.table, pollable))
    }

    fn drop(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        async_poll::HostPollable::drop(self.table, pollable)
    }
}
