//! The connection loop: accept, bound, drain.
//!
//! Every connection has a time in which its request head must arrive, their number is bounded, and
//! when the server stops, requests that are being answered have a time to end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tower_http::add_extension::AddExtension;

/// Open connections; a page holds a handful, each stream one.
const CONNECTIONS_MAX: usize = 512;
/// A client that does not send its request's head in this time is cut (also on a kept connection
/// that is idle).
const HEAD_TIME_MAX: Duration = Duration::from_secs(60);
/// Answers being written when the server stops have this long to end.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(5);
/// After a failure to accept (no file descriptor is left, say) the loop rests.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// Serves until `stopping` turns true, then drains.
pub async fn serve(listener: TcpListener, router: Router, mut stopping: watch::Receiver<bool>) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let graceful = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            _ = stopping.wait_for(|stopping| *stopping) => break,
            accepted = accept(&listener, &permits) => accepted,
        };
        let Some((socket, peer, permit)) = accepted else { continue };
        let service = AddExtension::new(router.clone(), ConnectInfo(peer));
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIME_MAX)
            .serve_connection(TokioIo::new(socket), TowerToHyperService::new(service));
        let watched = graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = watched.await {
                tracing::debug!(%peer, %error, "an HTTP connection ended early");
            }
            drop(permit);
        });
    }
    drop(listener);
    if tokio::time::timeout(DRAIN_TIME_MAX, graceful.shutdown()).await.is_err() {
        tracing::info!("some HTTP answers were cut off, they did not end in time");
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
