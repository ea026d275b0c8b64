//! `tally serve`: every role in one process, and the HTTP surface. Loopback only until access control exists.

use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use super::Refused;
use crate::home::Home;
use crate::roles::{OnFailure, Running};
use crate::routes::{self, App};
use crate::{Common, Format, Outcome};

/// Arguments of `tally serve`.
#[derive(Args)]
pub struct ServeArguments {
    /// Address and port to listen on, loopback only; port 0 takes a free one. Default: `serve.listen` of the settings.
    #[arg(long)]
    listen: Option<String>,
}

/// How long a failing role waits before it tries again.
const PATIENCE: Duration = Duration::from_secs(1);

/// Runs until SIGTERM or SIGINT; then everything accepted is committed and folded before it ends.
pub async fn run(arguments: ServeArguments, common: &Common) -> anyhow::Result<Outcome> {
    let home = Home::open(&common.home)?;
    let address = loopback(arguments.listen.as_deref().unwrap_or(&home.settings.serve.listen))?;
    let listener = TcpListener::bind(address).await.with_context(|| format!("could not listen on {address}"))?;
    let address = listener.local_addr()?;
    let mut running = Running::start(&home, Some(&address.to_string()), OnFailure::Retry(PATIENCE)).await?;
    let app = App::new(running.intake.clone(), running.publisher(), running.progress(), &home.settings.serve);
    match common.format {
        Format::Json => println!("{}", json!({"listen": address.to_string(), "pid": std::process::id()})),
        _ => println!("listening on http://{address}"),
    }
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (end, mut ended) = tokio::sync::watch::channel(false);
    let shutdown = async move {
        // An error means that the sender is gone, which ends the server just as well.
        let _ = ended.wait_for(|ended| *ended).await;
    };
    let server = tokio::spawn(axum::serve(listener, routes::router(app)).with_graceful_shutdown(shutdown).into_future());
    let failed = tokio::select! {
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
        error = running.failure() => Some(error),
    };
    end.send_replace(true);
    // Connections that stay open must not hold up the end: what they sent is durable once it was answered.
    if tokio::time::timeout(Duration::from_secs(5), server).await.is_err() {
        tracing::warn!("connections were still open after five seconds");
    }
    match failed {
        Some(error) => Err(error),
        None => {
            running.drain().await?;
            Ok(Outcome::Done)
        }
    }
}

/// The address, if it is on the loopback interface.
fn loopback(text: &str) -> anyhow::Result<SocketAddr> {
    let refused = |why: &str| Refused(format!("--listen {text}: {why}; use 127.0.0.1:PORT or [::1]:PORT"));
    let mut addresses = text.to_socket_addrs().map_err(|error| refused(&error.to_string()))?;
    match addresses.next() {
        Some(address) if address.ip().is_loopback() => Ok(address),
        Some(_) => Err(refused("until access control exists, tally listens on loopback addresses only").into()),
        None => Err(refused("names no address").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_addresses_are_taken() {
        assert!(loopback("127.0.0.1:0").is_ok() && loopback("[::1]:7420").is_ok());
        for text in ["0.0.0.0:7420", "[::]:7420", "192.168.0.1:1", "nonsense"] {
            let error = loopback(text).unwrap_err().to_string();
            assert!(error.contains(text) && error.contains("127.0.0.1"), "{error}");
        }
    }
}
