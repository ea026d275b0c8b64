//! `GET /v1/evidence/checkpoint` and `/v1/evidence/tile/…`: the tiled log as its files are (c2sp.org/tlog-tiles).
//! `GET /v1/evidence/bundles/{invoice}`: an invoice with what proves it. Owned by platform-evidence. The log is public to every key: it commits to all organizations and shows none. Its entries count them, and are
//! therefore for the operator.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use platform_billing::Issue;
use platform_catalog::Scope;
use platform_evidence::bundle::{Bundle, Sealed};
use platform_iam::Action;
use platform_registry::NamesOthers;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use super::platform_billing::missing as no_invoice;
use super::{Tiles, scope_of};
use crate::access::Caller;
use crate::answers::Answers;
use crate::bundles::{NotProvable, NotSealed, seal};
use crate::contract::Operation;
use crate::home::Home;
use crate::problem::{Problem, internal};
use crate::story;

/// What this domain answers.
pub fn operations() -> Vec<Operation> {
    vec![
        Operation::get("/v1/evidence/checkpoint", "get_checkpoint", "The latest signed checkpoint (c2sp.org/tlog-checkpoint).")
            .sends(200, "The signed note.", "text/plain")
            .problem(404, "Nothing is signed yet."),
        Operation::get("/v1/evidence/tile/{path}", "get_tile", "Hashes of the log (c2sp.org/tlog-tiles).")
            .about("Entries of the log count organizations and batches: they are for the operator.")
            .in_path("path", "Path of the tile below tile/, slashes included: <level>/<n>[.p/<w>] or entries/<n>[.p/<w>].")
            .sends(200, "The tile.", "application/octet-stream")
            .problem(404, "There is no such tile."),
        Operation::get(
            "/v1/evidence/bundles/{invoice}",
            "get_bundle",
            "An issued invoice with everything that proves it, as a tar archive.",
        )
        .about("VERIFY.md in it says how DuckDB and OpenSSL check it without us.")
        .in_path("invoice", "Its id, or its number.")
        .sends(200, "One folder, named by the number of the invoice.", "application/x-tar")
        .problem(404, "There is no such invoice.")
        .problem(409, "It is a draft, it is not sealed yet, or it cannot be shown.")
        .problem(413, "It has too many readings to be made on the way.")
        .problem(503, "Another bundle is being made."),
    ]
}

/// The latest signed checkpoint (c2sp.org/tlog-checkpoint).
pub async fn get_checkpoint(State(tiles): State<Tiles>, caller: Caller) -> Result<Response, Problem> {
    caller.authorize(Action::ProofRead, caller.target(None))?;
    let path = tiles.0.join("checkpoint");
    file(&path, "text/plain; charset=utf-8", HeaderValue::from_static("no-cache")).await
}

/// Hashes of the log, or its entries (c2sp.org/tlog-tiles): `<level>/<n>[.p/<w>]` or `entries/<n>[.p/<w>]`.
pub async fn get_tile(State(tiles): State<Tiles>, caller: Caller, Path(path): Path<String>) -> Result<Response, Problem> {
    let permit = caller.authorize(Action::ProofRead, caller.target(None))?;
    let entries = path.starts_with("entries/");
    if !is_tile(&path) || (entries && scope_of(&permit) != Scope::Operator) {
        return Err(missing());
    }
    // A tile never changes once it is full; a partial one goes when the full one comes.
    file(&tiles.0.join("tile").join(&path), "application/octet-stream", HeaderValue::from_static("max-age=3600, immutable")).await
}

fn missing() -> Problem {
    let detail = "nothing of that name is published".to_owned();
    Problem::new(StatusCode::NOT_FOUND, "EVIDENCE-0101", "There is no such file of the log.", detail)
}

/// `<level or entries>/[x<3 digits>/…]<3 digits>[.p/<1 to 255>]` and nothing else: no other file of the folder can be named.
fn is_tile(path: &str) -> bool {
    let number = |text: &str, most: u16| {
        !text.is_empty()
            && text.len() <= 3
            && text.bytes().all(|byte| byte.is_ascii_digit())
            && text.parse::<u16>().is_ok_and(|number| number <= most)
    };
    let mut parts: Vec<&str> = path.split('/').collect();
    if parts.len() > 12 || parts.is_empty() {
        return false;
    }
    let level = parts.remove(0);
    if level != "entries" && !number(level, 63) {
        return false;
    }
    let partial = parts.len() > 1 && parts.iter().rev().nth(1).is_some_and(|part| part.ends_with(".p"));
    if partial && !parts.pop().is_some_and(|width| number(width, 255)) {
        return false;
    }
    let Some((last, groups)) = parts.split_last() else { return false };
    let last = if partial { last.strip_suffix(".p").unwrap_or_default() } else { last };
    let three = |text: &str| text.len() == 3 && number(text, 999);
    three(last) && groups.iter().all(|group| group.strip_prefix('x').is_some_and(three))
}

/// Most readings of a bundle that is made while its caller waits.
const READINGS_MAX: u64 = 1_000_000;

/// Makes bundles for callers: one at a time, because each is in memory until it is sent.
#[derive(Clone, Debug)]
pub struct Bundles {
    home: Arc<Home>,
    one: Arc<Semaphore>,
}

impl Bundles {
    /// Of a home.
    pub fn new(home: &Home) -> Self {
        Self { home: Arc::new(home.clone()), one: Arc::new(Semaphore::new(1)) }
    }
}

/// An issued invoice of the caller's with everything that proves it.
pub async fn get_bundle(
    State(answers): State<Answers>,
    State(bundles): State<Bundles>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Response, Problem> {
    let permit = caller.authorize(Action::BundleMake, caller.target(None))?;
    let stored = story::invoice(&answers, &scope_of(&permit), &name).await?;
    let stored = stored.ok_or_else(|| no_invoice(format!("no invoice is named {name:?}")))?;
    let conflict = |detail: String| Problem::new(StatusCode::CONFLICT, "EVIDENCE-0102", "The invoice cannot be proven now.", detail);
    let Some(issue) = stored.issue else {
        return Err(conflict(format!("invoice {name} is a draft: a bundle proves an issued invoice")));
    };
    let readings = stored.invoice.logs.iter().fold(0_u64, |sum, log| sum.saturating_add(log.to));
    if readings > READINGS_MAX {
        let detail =
            format!("it covers {readings} readings, more than {READINGS_MAX}: ask for the folder that `tally evidence bundle` writes");
        return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "EVIDENCE-0103", "The bundle is too large to be made on the way.", detail));
    }
    let Ok(_one) = bundles.one.try_acquire() else {
        let detail = "one bundle is made at a time".to_owned();
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "EVIDENCE-0104", "Another bundle is being made.", detail).retry_after(5));
    };
    let (home, id) = (Arc::clone(&bundles.home), stored.invoice.invoice_id.to_string());
    // It reads files and hashes for as long as there are readings: not on a thread that serves others.
    let making = tokio::task::spawn_blocking(move || Handle::current().block_on(async move { seal(&home, &id).await }));
    let made = making.await.map_err(|error| internal(&error))?;
    let made = made.map_err(|error| match error.downcast_ref::<NotSealed>() {
        Some(early) => conflict(early.to_string()).retry_after(5),
        None if error.is::<NotProvable>() => conflict(error.to_string()),
        None if error.is::<NamesOthers>() => {
            conflict("a contract that it was priced by names others too: ask whoever runs this server".to_owned())
        }
        None => internal(&*error),
    })?;
    let archive = archive(&made.sealed, &issue).map_err(|error| internal(&error))?;
    let file = format!("attachment; filename=\"{}.tar\"", issue.shown());
    let headers = [(header::CONTENT_TYPE, "application/x-tar".to_owned()), (header::CONTENT_DISPOSITION, file)];
    Ok((headers, Body::from(archive)).into_response())
}

/// The files in one folder, each as old as the issue: the same bundle is the same archive.
fn archive(bundle: &Bundle<Sealed>, issue: &Issue) -> std::io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for (path, file) in bundle.files() {
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o644);
        header.set_mtime(u64::try_from(issue.issued_at.micros().div_euclid(1_000_000)).unwrap_or(0));
        header.set_size(u64::try_from(file.bytes.len()).map_err(std::io::Error::other)?);
        archive.append_data(&mut header, format!("{}/{path}", issue.shown()), file.bytes.as_slice())?;
    }
    archive.into_inner()
}

async fn file(path: &std::path::Path, content_type: &'static str, cache: HeaderValue) -> Result<Response, Problem> {
    match tokio::fs::read(path).await {
        Ok(bytes) => {
            let headers = [(header::CONTENT_TYPE, HeaderValue::from_static(content_type)), (header::CACHE_CONTROL, cache)];
            Ok((headers, Body::from(bytes)).into_response())
        }
        Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => Err(missing()),
        Err(error) => Err(internal(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::is_tile;

    #[test]
    fn only_tiles_can_be_named() {
        for path in ["0/000", "0/x001/067", "1/000.p/3", "entries/x001/234.p/255", "63/999"] {
            assert!(is_tile(path), "{path}");
        }
        for path in [
            "",
            "0",
            "0/",
            "0/1",
            "0/../checkpoint",
            "../secrets/log.key",
            "0/000/..",
            "entries",
            "64/000",
            "0/x001",
            "0/000.p",
            "0/000.p/256",
            "0/000.p/../000",
            "0/x1/000",
            "/etc/passwd",
            "0/000.p/x",
            "0//000",
        ] {
            assert!(!is_tile(path), "{path}");
        }
    }
}
