//! Reading for the machine.
//!
//! Role: answers what the dispatcher wants to read. An engine in this process answers at once, on the driver's thread; one
//! on a broker may take as long as the broker is away, so there a thread beside the driver waits in its place, and
//! everything that needs no reading goes on.
//!
//! Bound: a subscription has at most one read and one fetch unanswered; when more than [`WAITING`] wait in all, the driver
//! waits too. The thread ends with the driver, or when the engine is closed while it reads.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use busway_dispatch::Input;
use busway_engine::{Engine, EngineError, ReadRequest};
use busway_types::{Offset, SubId};

use super::{Event, PARTITION, Shared};

/// Questions that wait for the thread.
const WAITING: usize = 8_192;

/// What the machine wants to know.
pub(super) enum Ask {
    /// Events in order.
    Read { sub: SubId, request: ReadRequest },
    /// Events by offset.
    Fetch { sub: SubId, offsets: Vec<Offset> },
}

impl Ask {
    /// Reads it.
    pub(super) fn answer(self, engine: &dyn Engine) -> Result<Input, EngineError> {
        match self {
            Self::Read { sub, request } => {
                let read = engine.read(PARTITION, &request)?;
                Ok(Input::Read { sub, result: read.events, next: read.next })
            }
            Self::Fetch { sub, offsets } => {
                let events = engine.fetch(PARTITION, &offsets)?;
                Ok(Input::Fetched { sub, events, asked: offsets })
            }
        }
    }
}

/// The thread that reads.
pub(super) struct Reads {
    asks: SyncSender<Ask>,
    /// What the thread needs, until it is started.
    unstarted: Mutex<Option<Worker>>,
}

struct Worker {
    asked: Receiver<Ask>,
    shared: Arc<Shared>,
    engine: Arc<dyn Engine>,
}

impl Reads {
    pub(super) fn new(shared: &Arc<Shared>, engine: &Arc<dyn Engine>) -> Self {
        let (asks, asked) = sync_channel(WAITING);
        let worker = Worker { asked, shared: Arc::clone(shared), engine: Arc::clone(engine) };
        Self { asks, unstarted: Mutex::new(Some(worker)) }
    }

    /// Has something read; the answer reaches the driver through its inbox.
    pub(super) fn ask(&self, ask: Ask) {
        if let Some(worker) = self.unstarted.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let told = Arc::clone(&worker.shared);
            let thread = std::thread::Builder::new().name("busway-reads".to_owned());
            if let Err(error) = thread.spawn(move || worker.run()) {
                let why = format!("the system refused a thread for reading: {error}");
                told.inbox.push(Event::Failed(EngineError::Failed(why)));
            }
        }
        // Nobody takes it only when the engine failed, of which the driver hears by itself.
        let _ = self.asks.send(ask);
    }
}

impl Worker {
    fn run(self) {
        while let Ok(ask) = self.asked.recv() {
            match ask.answer(&*self.engine) {
                Ok(input) => self.shared.inbox.push(Event::Machine(input)),
                Err(error) => return self.shared.inbox.push(Event::Failed(error)),
            }
        }
    }
}
