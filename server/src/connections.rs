//! The server's connections: so many at once, each with a time for the head of its next request. It knows no routes.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::home::ServeSettings;

/// How long to wait after a connection could not be taken: most often no file descriptor is left.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves until `end` rises; then what was begun is answered.
pub async fn serve(listener: TcpListener, router: Router, settings: &ServeSettings, mut end: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(settings.connections_max));
    let head = Duration::from_millis(settings.head_ms_max);
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let next = async {
            // The place first: connections beyond the limit wait in the backlog of the operating system.
            let place = Arc::clone(&places).acquire_owned().await.ok()?;
            Some((place, accept(&listener).await.0))
        };
        tokio::select! {
            Some((place, stream)) = next => {
                let (router, end) = (router.clone(), end.clone());
                connections.spawn(async move {
                    converse(stream, router, head, end).await;
                    drop(place);
                });
            }
            () = risen(&mut end) => break,
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) => {
                tracing::warn!(%error, "could not take a connection");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Waits until the end rises; that its sender is gone ends the server just as well.
async fn risen(end: &mut watch::Receiver<bool>) {
    let _ = end.wait_for(|end| *end).await;
}

async fn converse(stream: TcpStream, router: Router, head: Duration, mut end: watch::Receiver<bool>) {
    // Answers are small: none waits for a second one to fill a packet.
    let _ = stream.set_nodelay(true);
    let service = TowerToHyperService::new(router);
    let connection =
        http1::Builder::new().timer(TokioTimer::new()).header_read_timeout(head).serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = risen(&mut end) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        // The other side went away, was too slow, or spoke no HTTP.
        tracing::debug!(%error, "a connection ended early");
    }
}
