//! Which listeners are open. Owner of their sockets: opens them at the start, opens and closes them
//! when the configuration changes while the broker runs, and takes up changed certificate files.
//!
//! A change has two halves, so that the record of the change can become durable between them.
//! [`Listeners::prepare`] does all that can fail: it reads certificates and binds sockets.
//! [`Prepared::take_effect`] or [`Prepared::undo`] ends it. Connections stay as they were made;
//! those of a listener that is gone end when what they asked for is answered.

use std::sync::{Arc, Mutex};

use tokio::net::TcpListener;
use tokio::sync::{Mutex as AsyncMutex, MutexGuard as AsyncGuard, oneshot, watch};

use crate::broker::{BoundListener, Broker, StartError};
use crate::config::Config;
use crate::limits;
use crate::listener::{self, Bound, Served};
use crate::partition::lock;

#[derive(Default)]
pub(crate) struct Listeners {
    /// Held for the whole of a change: there is one at a time.
    open: AsyncMutex<Vec<Open>>,
    shown: Mutex<Vec<BoundListener>>,
}

/// A listener that accepts.
struct Open {
    bound: Arc<Bound>,
    /// Ends the accepting; `halted` follows once its socket is closed.
    halt: watch::Sender<bool>,
    halted: oneshot::Receiver<()>,
}

impl Open {
    fn begin(broker: &Broker, bound: Arc<Bound>, socket: TcpListener) -> Self {
        let (halt, asked) = watch::channel(false);
        let (closed, halted) = oneshot::channel();
        let (of_broker, of_bound) = (broker.clone(), bound.clone());
        broker.spawn(async move {
            listener::serve(of_broker, of_bound, socket, asked).await;
            let _ = closed.send(());
        });
        Self { bound, halt, halted }
    }

    /// Its port is free when this returns.
    async fn stop_accepting(self) -> Arc<Bound> {
        self.halt.send_replace(true);
        // An error is the end of the task: then the socket is closed, too.
        let _ = self.halted.await;
        self.bound
    }
}

/// A change that may still be undone.
pub(crate) struct Prepared<'a> {
    listeners: &'a Listeners,
    broker: &'a Broker,
    open: AsyncGuard<'a, Vec<Open>>,
    /// For each that stays, what it serves from now on.
    kept: Vec<(Arc<Bound>, Arc<Served>)>,
    fresh: Vec<(Arc<Bound>, TcpListener)>,
    /// They accept no more; their connections go on until the change takes effect.
    gone: Vec<Arc<Bound>>,
}

impl Listeners {
    /// Binds all of the configuration, or says which one could not be bound and why. One that was
    /// set while the broker ran may fail as long as another one is there to mend it through.
    pub(crate) async fn start(&self, broker: &Broker, config: &Config) -> Result<(), StartError> {
        let mut open = self.open.lock().await;
        let mut failed = None;
        for listener in &config.listeners {
            match listener::bind(listener).await {
                Ok((bound, socket)) => open.push(start_one(broker, bound, socket)),
                Err(why) if broker.inner.static_config.listeners.contains(listener) => {
                    return Err(why);
                }
                Err(why) => {
                    tracing::error!(listener = %listener.name, %why,
                        "a listener that was set while the broker ran cannot be opened; change it \
                         with kafka-configs through another one");
                    failed = Some(why);
                }
            }
        }
        self.show(&open);
        match failed {
            Some(why) if open.is_empty() => Err(why),
            _ => Ok(()),
        }
    }

    pub(crate) fn shown(&self) -> Vec<BoundListener> {
        lock(&self.shown).clone()
    }

    fn show(&self, open: &[Open]) {
        *lock(&self.shown) = open.iter().map(|open| open.bound.describe()).collect();
    }

    /// Whether what listeners would serve can be read; binds nothing.
    pub(crate) async fn check(&self, config: &Config) -> Result<(), String> {
        for listener in &config.listeners {
            Served::of(listener).await?;
        }
        Ok(())
    }

    /// The first half of a change. On an error, a sentence, everything is as it was.
    pub(crate) async fn prepare<'a>(
        &'a self,
        broker: &'a Broker,
        config: &Config,
    ) -> Result<Prepared<'a>, String> {
        let mut open = self.open.lock().await;
        let mut kept = Vec::new();
        let mut missing = Vec::new();
        for listener in &config.listeners {
            match open.iter().find(|open| open.bound.is_at(listener)) {
                Some(open) => {
                    let served = open.bound.served_as(listener).await?;
                    kept.push((open.bound.clone(), served));
                }
                None => {
                    // Read before anything is closed for it.
                    missing.push((listener, Served::of(listener).await?));
                }
            }
        }
        let stays = |open: &Open| kept.iter().any(|(bound, _)| Arc::ptr_eq(bound, &open.bound));
        let (staying, leaving): (Vec<Open>, Vec<Open>) = open.drain(..).partition(stays);
        *open = staying;
        let mut prepared =
            Prepared { listeners: self, broker, open, kept, fresh: Vec::new(), gone: Vec::new() };
        for leaving in leaving {
            prepared.gone.push(leaving.stop_accepting().await);
        }
        for (listener, served) in missing {
            match listener::bind_as(listener, served).await {
                Ok(fresh) => prepared.fresh.push(fresh),
                Err(why) => {
                    prepared.undo().await;
                    return Err(why.to_string());
                }
            }
        }
        Ok(prepared)
    }

    /// Looks, until the broker stops, whether certificate files have changed.
    pub(crate) async fn reload(broker: Broker) {
        let mut stopping = broker.stopping();
        loop {
            tokio::select! {
                _ = stopping.changed() => return,
                () = tokio::time::sleep(limits::CERTIFICATES_LOOK_EVERY) => {}
            }
            broker.inner.listeners.reload_changed().await;
        }
    }

    /// Takes up certificate files that have changed since they were read. A file that cannot be
    /// used leaves in force what was read before.
    pub(crate) async fn reload_changed(&self) {
        for open in &*self.open.lock().await {
            open.bound.reload_if_changed().await;
        }
    }
}

impl Prepared<'_> {
    /// The second half of a change.
    pub(crate) fn take_effect(mut self) {
        for (bound, served) in self.kept {
            bound.serve_as(served);
        }
        for (bound, socket) in self.fresh {
            let open = start_one(self.broker, bound, socket);
            self.open.push(open);
        }
        for bound in self.gone {
            let BoundListener { name, address, .. } = bound.describe();
            tracing::info!(listener = %name, %address, "closed");
            bound.close();
        }
        self.listeners.show(&self.open);
    }

    /// Everything is as it was before, but for an address that somebody else took in the meantime.
    pub(crate) async fn undo(mut self) {
        drop(self.fresh);
        for bound in self.gone {
            match bound.bind_again().await {
                Ok(socket) => self.open.push(Open::begin(self.broker, bound, socket)),
                Err(error) => {
                    let BoundListener { name, address, .. } = bound.describe();
                    tracing::error!(listener = %name, %address, %error, "cannot be opened again");
                    bound.close();
                }
            }
        }
        self.listeners.show(&self.open);
    }
}

fn start_one(broker: &Broker, bound: Arc<Bound>, socket: TcpListener) -> Open {
    let BoundListener { name, protocol, address } = bound.describe();
    tracing::info!(listener = %name, protocol = protocol.name(), %address, "listening");
    Open::begin(broker, bound, socket)
}
