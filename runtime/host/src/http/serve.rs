//! One request in one instance.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};

use http::{Method, Request, Response, StatusCode, Uri, header};
use http_body_util::BodyExt as _;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tracing::Level;
use wasmtime::Store;
use wasmtime_wasi_http::WasiHttpView as _;
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;
use wasmtime_wasi_http::p2::body::{HostOutgoingBody, HyperOutgoingBody};

use super::body::{Answered, Asked};
use super::control::Control;
use super::pool::Shared;
use super::{HttpBody, HttpError};
use crate::epoch::Ticker;
use crate::invoke::{Fault, fault};
use crate::slots::Slots;
use crate::state::{GuestState, Meter, Mode, Trace};

/// Where the answer goes; taken by whoever answers first.
type Tell = oneshot::Sender<Result<Response<HttpBody>, HttpError>>;

/// How a request ended.
enum End {
    /// The guest returned or trapped.
    Called(wasmtime::Result<()>),
    /// It has to be ended, because of this.
    Overdue(HttpError),
    /// Nobody waits any more.
    Cancelled,
    /// The service stops.
    Stopped,
}

/// What an instance of the pool's engine has to give back.
struct Permits(Option<[Arc<Slots>; 2]>);

impl Drop for Permits {
    fn drop(&mut self) {
        for slots in self.0.iter().flatten() {
            slots.release();
        }
    }
}

/// What answers HTTP, on both engines.
pub(crate) struct HttpPre {
    /// Memory on demand.
    pub(crate) demand: ProxyPre<GuestState>,
    /// Memory of the pool, with the permits of HTTP's share of it and of the whole.
    pub(crate) pooled: Option<(ProxyPre<GuestState>, [Arc<Slots>; 2])>,
}

impl HttpPre {
    /// An instance's place: in the pool if there is one. Never waits: what waits for a slow client must not keep those
    /// waiting who handle events in the pool.
    fn place(&self) -> (&ProxyPre<GuestState>, Permits) {
        if let Some((pre, [share, whole])) = &self.pooled
            && share.try_acquire()
        {
            if whole.try_acquire() {
                return (pre, Permits(Some([whole.clone(), share.clone()])));
            }
            share.release();
        }
        (&self.demand, Permits(None))
    }
}

/// Answers a request in a new instance. Runs on the host's HTTP runtime.
pub(super) async fn serve(
    shared: Arc<Shared>,
    control: Arc<Control>,
    request: Request<HttpBody>,
    tell: Tell,
    _permit: OwnedSemaphorePermit,
) {
    let linked = &shared.linked;
    let Some(http) = &linked.http else { return };
    let (pre, _permits) = http.place();
    let what = (request.method().clone(), request.uri().clone());
    let mut state = GuestState::new(linked.service.clone(), control.stop.clone(), Some(Vec::new()));
    state.set_trace(trace(&request));
    let meter = state.meter.clone();
    let mut store = linked.store(pre.engine(), state);
    meter.begin(meter.now(), Some(shared.settings.computing));
    let tell = Arc::new(Mutex::new(Some(tell)));
    let end = {
        let call = pin!(answer(pre, &mut store, request, &control, &shared, &tell));
        tokio::select! {
            biased;
            called = in_parts(&linked.host.0.ticker, &meter, call) => End::Called(called),
            () = control.cancelled() => End::Cancelled,
            () = shared.stopped() => End::Stopped,
            why = control.overdue(&shared.settings) => End::Overdue(why),
        }
    };
    let figures = &shared.figures;
    figures.busy_ns.fetch_add(meter.computed(), Relaxed);
    figures.memory_bytes.fetch_max(store.data().limiter.peak, Relaxed);
    // Before the store goes, and an unfinished body with it, which would look like its end.
    if store.data_mut().table.iter_mut().any(|entry| entry.is::<HostOutgoingBody>()) {
        control.break_off();
    }
    let error = match end {
        End::Called(Ok(())) => {
            store.data().output.end();
            (!control.is_answered()).then(|| HttpError::Failed("it returned without an answer".into()))
        }
        End::Called(Err(error)) => match fault(&error, store.data_mut()) {
            Fault::Exited(0, _) if control.is_answered() => None,
            Fault::Stopped => {
                figures.cancelled.fetch_add(1, Relaxed);
                None
            }
            Fault::TimedOut(reason) => Some(HttpError::TimedOut(reason)),
            fault => Some(HttpError::Failed(fault.reason())),
        },
        End::Overdue(why) => Some(why),
        End::Cancelled | End::Stopped => {
            figures.cancelled.fetch_add(1, Relaxed);
            None
        }
    };
    store.data().output.end();
    if let Some(error) = error {
        give_up(&shared, &what, error, &tell);
    }
}

/// Counts, logs and tells that a request was not answered, or not to its end.
fn give_up(shared: &Shared, (method, uri): &(Method, Uri), error: HttpError, tell: &Mutex<Option<Tell>>) {
    let count = match error {
        HttpError::TimedOut(_) | HttpError::BodyStalled(_) => &shared.figures.timed_out,
        _ => &shared.figures.failed,
    };
    count.fetch_add(1, Relaxed);
    let tell = tell.lock().unwrap_or_else(PoisonError::into_inner).take();
    let how = if tell.is_some() { "was not answered" } else { "was not answered to its end" };
    let service = &shared.linked.service;
    let message = format!("{method} {} {how}: {error}", uri.path());
    service.bus.log(&service.settings.name, Level::WARN, &message, &[]);
    if let Some(tell) = tell {
        let _ = tell.send(Err(error));
    }
}

/// Makes the instance and calls it.
async fn answer(
    pre: &ProxyPre<GuestState>,
    store: &mut Store<GuestState>,
    request: Request<HttpBody>,
    control: &Arc<Control>,
    shared: &Arc<Shared>,
    tell: &Arc<Mutex<Option<Tell>>>,
) -> wasmtime::Result<()> {
    let proxy = pre.instantiate_async(&mut *store).await?;
    let what = (request.method().clone(), request.uri().clone());
    let is_tls = request.uri().scheme() == Some(&http::uri::Scheme::HTTPS);
    let request = request.map(|body| Asked::new(body, control.clone()));
    let (control, shared, tell) = (control.clone(), shared.clone(), tell.clone());
    let state = store.data_mut();
    state.mode = Mode::Http;
    let mut http = state.http();
    let incoming = http.new_incoming_request(if is_tls { Scheme::Https } else { Scheme::Http }, request)?;
    let out = http.new_response_outparam_from_callback(move |given| {
        control.begin_answer();
        match given {
            Ok(response) => {
                shared.figures.answered.fetch_add(1, Relaxed);
                let response = watched(response, control, &what.0);
                if let Some(tell) = tell.lock().unwrap_or_else(PoisonError::into_inner).take() {
                    let _ = tell.send(Ok(response));
                }
            }
            Err(code) => {
                let error = HttpError::Failed(format!("it answered with the error {code:?}"));
                give_up(&shared, &what, error, &tell);
            }
        }
    })?;
    proxy.wasi_http_incoming_handler().call_handle(store, incoming, out).await
}

/// The answer with a body that tells when it moves, ends or is given up.
fn watched(response: Response<HyperOutgoingBody>, control: Arc<Control>, method: &Method) -> Response<HttpBody> {
    let status = response.status();
    let unread = method == Method::HEAD
        || status.is_informational()
        || status == StatusCode::NO_CONTENT
        || status == StatusCode::NOT_MODIFIED;
    let length = response.headers().get(header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
    response.map(|body| Answered::new(body, control, length, unread).boxed_unsync())
}

/// Runs a call whenever it can go on, and meters that.
async fn in_parts<F: Future>(ticker: &Ticker, meter: &Arc<Meter>, mut call: Pin<&mut F>) -> F::Output {
    poll_fn(|context| {
        let _running = ticker.run();
        meter.resume();
        let polled = call.as_mut().poll(context);
        meter.pause();
        polled
    })
    .await
}

fn trace(request: &Request<HttpBody>) -> Trace {
    let text = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok()).map(Into::into);
    Trace { traceparent: text("traceparent"), request: text("x-request-id") }
}
