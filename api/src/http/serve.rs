//! The connection loop: accept, bound, drain.
//!
//! Every connection has a time in which its request head must arrive and one in which its client
//! takes some of an answer; their number is bounded, in all and from one address; and when the
//! server stops, requests that are being answered have a time to end.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use odradek_broker::budget::neighbourhood;
use odradek_broker::spare_cores;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_io_timeout::TimeoutStream;
use tower_http::add_extension::AddExtension;

/// Open connections; a page holds a handful, each stream one.
const CONNECTIONS_MAX: usize = 512;
/// Open connections of one address: half of them, so that one machine does not lock out the others.
const CONNECTIONS_PER_ADDRESS_MAX: usize = CONNECTIONS_MAX / 2;
/// A client that takes no byte of an answer for so long is cut: it holds memory and a place.
const WRITE_STALL_MAX: Duration = Duration::from_secs(30);
/// A client that does not send its request's head in this time is cut (also on a kept connection
/// that is idle).
const HEAD_TIME_MAX: Duration = Duration::from_secs(60);
/// A request's head, and what is kept of an answer that is not taken: 32 MiB for all connections.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Answers being written when the server stops have this long to end.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(5);
/// After a failure to accept (no file descriptor is left, say) the loop rests.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// Threads of its own, of which there are fewer than cores: what they make of records for readers
/// takes long, and Kafka's clients should not have to wait for it.
pub fn runtime() -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(spare_cores())
        .thread_name("odradek-http")
        .enable_all()
        .build()
}

/// Serves until `stopping` turns true, then drains.
pub async fn serve(listener: TcpListener, router: Router, mut stopping: watch::Receiver<bool>) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let graceful = GracefulShutdown::new();
    let crowd = Crowd::default();
    loop {
        let accepted = tokio::select! {
            _ = stopping.wait_for(|stopping| *stopping) => break,
            accepted = accept(&listener, &permits) => accepted,
        };
        let Some((socket, peer, permit)) = accepted else { continue };
        let Some(place) = crowd.place(neighbourhood(peer.ip())) else {
            tracing::debug!(%peer, "an HTTP connection was turned away: its address has too many");
            continue;
        };
        let mut socket = Box::pin(TimeoutStream::new(socket));
        socket.as_mut().set_write_timeout_pinned(Some(WRITE_STALL_MAX));
        let service = AddExtension::new(router.clone(), ConnectInfo(peer));
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIME_MAX)
            .max_buf_size(HEAD_BYTES_MAX)
            .serve_connection(TokioIo::new(socket), TowerToHyperService::new(service));
        let watched = graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = watched.await {
                tracing::debug!(%peer, %error, "an HTTP connection ended early");
            }
            drop((permit, place));
        });
    }
    drop(listener);
    if tokio::time::timeout(DRAIN_TIME_MAX, graceful.shutdown()).await.is_err() {
        tracing::info!("some HTTP answers were cut off, they did not end in time");
    }
}

/// How many connections each address has.
#[derive(Clone, Default)]
struct Crowd(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// Counts for its address until dropped.
struct Place {
    crowd: Crowd,
    address: IpAddr,
}

impl Crowd {
    fn place(&self, address: IpAddr) -> Option<Place> {
        let mut crowd = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let here = crowd.entry(address).or_insert(0);
        if *here >= CONNECTIONS_PER_ADDRESS_MAX {
            return None;
        }
        *here += 1;
        Some(Place { crowd: self.clone(), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut crowd = self.crowd.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(here) = crowd.get_mut(&self.address) {
            *here -= 1;
            if *here == 0 {
                crowd.remove(&self.address);
            }
        }
    }
}

async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let permit = permits.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((socket, peer)) => {
            // An event must leave when it is written.
            if let Err(error) = socket.set_nodelay(true) {
                tracing::debug!(%peer, %error, "TCP_NODELAY could not be set");
            }
            Some((socket, peer, permit))
        }
        Err(error) => {
            tracing::warn!(%error, "an HTTP connection could not be accepted");
            tokio::time::sleep(ACCEPT_REST).await;
            None
        }
    }
}
