//! `tally serve`: every role in one process, and the HTTP surface. Beyond loopback only behind TLS.

use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use platform_iam::{Action, KeyText};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use super::Refused;
use crate::answers::Answers;
use crate::home::Home;
use crate::roles::iam::random_key;
use crate::roles::{OnFailure, Running};
use crate::routes::{self, App};
use crate::{Common, Format, Outcome, access, connections};

/// Arguments of `tally serve`.
#[derive(Args)]
pub struct ServeArguments {
    /// Address and port to listen on; port 0 takes a free one. Default: `serve.listen` of the settings.
    #[arg(long)]
    listen: Option<String>,
    /// TLS ends in front of this server, so it may listen beyond loopback: its keys would travel in clear otherwise. Default:
    /// `serve.behind_tls` of the settings.
    #[arg(long)]
    behind_tls: bool,
}

/// How long a failing role waits before it tries again.
const PATIENCE: Duration = Duration::from_secs(1);

/// Runs until SIGTERM or SIGINT; then everything accepted is committed and folded before it ends.
pub async fn run(arguments: ServeArguments, common: &Common) -> anyhow::Result<Outcome> {
    let home = Home::open(&common.home)?;
    let behind_tls = arguments.behind_tls || home.settings.serve.behind_tls;
    let address = address(arguments.listen.as_deref().unwrap_or(&home.settings.serve.listen), behind_tls)?;
    // The lock before the port: who owns the home is said even where the owner listens on the same port.
    let lock = home.lock(None)?;
    let listener = TcpListener::bind(address).await.with_context(|| format!("could not listen on {address}"))?;
    let address = listener.local_addr()?;
    let mut running = Running::start_owned(&home, lock, OnFailure::Retry(PATIENCE)).await?;
    let first = running.iam.bootstrap(&access::local(Action::KeyCreate)?).await?;
    let local = random_key();
    let _offered = home.offer_local_key(running.lock(), local.reveal())?;
    running.lock().describe(Some(&address.to_string())).context("could not say in the lock where the server listens")?;
    let app = App::new(
        running.intake.clone(),
        running.publisher(),
        running.closer(),
        running.progress(),
        running.access.clone().with_local(&local),
        running.iam.clone(),
        Answers::open(&home).await?,
        &home,
    );
    // Before the greeting: whoever reads it may ask the server to end, and is to find everything folded then.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    greet(&address, first.as_ref(), common.format);
    let (end, ended) = tokio::sync::watch::channel(false);
    let (router, settings) = (routes::router(app), home.settings.serve.clone());
    let server = tokio::spawn(async move { connections::serve(listener, router, &settings, ended).await });
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

/// Says where the server listens, and this once the first operator key.
fn greet(address: &SocketAddr, first: Option<&KeyText>, format: Format) {
    match (format, first) {
        (Format::Json, Some(key)) => {
            println!("{}", json!({"listen": address.to_string(), "operator_key": key.reveal(), "pid": std::process::id()}));
        }
        (Format::Json, None) => println!("{}", json!({"listen": address.to_string(), "pid": std::process::id()})),
        (_, Some(key)) => {
            println!("operator key {}", key.reveal());
            println!("it is shown this once and kept nowhere; `tally key create` makes others");
            println!("listening on http://{address}");
        }
        (_, None) => println!("listening on http://{address}"),
    }
}

/// The address, if it is on the loopback interface or TLS ends in front of it.
fn address(text: &str, behind_tls: bool) -> anyhow::Result<SocketAddr> {
    let refused = |why: &str| Refused(format!("--listen {text}: {why}; use 127.0.0.1:PORT or [::1]:PORT"));
    let mut addresses = text.to_socket_addrs().map_err(|error| refused(&error.to_string()))?;
    match addresses.next() {
        Some(address) if address.ip().is_loopback() || behind_tls => Ok(address),
        Some(_) => {
            let why = "keys would travel in clear beyond loopback: end TLS in front of the server and say so with --behind-tls, or stay on loopback";
            Err(refused(why).into())
        }
        None => Err(refused("names no address").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_addresses_are_taken_unless_tls_is_in_front() {
        assert!(address("127.0.0.1:0", false).is_ok() && address("[::1]:7420", false).is_ok());
        assert!(address("0.0.0.0:7420", true).is_ok() && address("nonsense", true).is_err());
        for text in ["0.0.0.0:7420", "[::]:7420", "192.168.0.1:1", "nonsense"] {
            let error = address(text, false).unwrap_err().to_string();
            assert!(error.contains(text) && error.contains("127.0.0.1"), "{error}");
        }
    }
}
