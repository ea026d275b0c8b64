//! `GET /v1/evidence/checkpoint` and `/v1/evidence/tile/…`: the tiled log as its files are (c2sp.org/tlog-tiles). Owned by
//! platform-evidence. The log is public to every key: it commits to all organizations and shows none. Its entries count them, and are
//! therefore for the operator.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use platform_catalog::Scope;
use platform_iam::Action;

use super::{Tiles, scope_of};
use crate::access::Caller;
use crate::contract::Operation;
use crate::problem::{Problem, internal};

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
