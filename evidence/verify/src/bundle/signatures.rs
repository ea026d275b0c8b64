//! Stage 1: who signed. Envelope, the bundle's key, the checkpoint; all from the log's key.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

use super::{ENVELOPE, Files, MANIFEST, Outside, Signed, Verdict, bytes, list, member, predicate, read_json, unreadable, utf8};
use crate::finding::{Findings, Stage};
use crate::note::{Head, Key};

/// Checks the signatures; answers the log's key and the checkpoint's head.
pub(super) fn signatures(
    files: &Files,
    manifest: &Value,
    outside: &Outside,
    findings: &mut Findings,
    verdict: &mut Verdict,
) -> anyhow::Result<Signed> {
    let stage = Stage::Signatures;
    let key_of = |name: &str| Key::parse(&member(predicate(manifest), name)).map_err(|error| unreadable(stage, MANIFEST, error));
    let stated = key_of("log_key")?;
    let bundle_key = key_of("bundle_key")?;
    let pinned = outside.log_key.as_ref();
    if let Some(pinned) = pinned {
        findings.compare(stage, MANIFEST, "", "log_key", &pinned.text, &stated.text);
    } else {
        verdict.unjudged.push("whether the log's key is the right one: give it with --log-key".to_owned());
    }
    let log_key = pinned.unwrap_or(&stated);
    for (path, key) in [("keys/log.pem", log_key), ("keys/bundle.pem", &bundle_key)] {
        findings.compare(stage, path, "", "key", &key.pem(), &utf8(files, path, stage)?.to_owned());
    }
    // The envelope.
    let envelope = read_json(files, ENVELOPE, stage)?;
    let body = bytes(files, MANIFEST, stage)?;
    let payload = BASE64_STANDARD.decode(member(&envelope, "payload")).unwrap_or_default();
    if payload != body {
        findings.add(stage, ENVELOPE, "", "payload", "manifest.json", "something else");
    }
    let kind = member(&envelope, "payloadType");
    let signed = [format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len()).as_bytes(), &payload].concat();
    let by_key = list(&envelope, "signatures").any(|signature| {
        member(signature, "keyid") == hex::encode(bundle_key.id)
            && BASE64_STANDARD.decode(member(signature, "sig")).is_ok_and(|signature| bundle_key.signed(&signed, &signature))
    });
    if !by_key {
        findings.add(stage, ENVELOPE, "", "signature", format!("by {}", bundle_key.text), "another or none");
    }
    // The bundle's key.
    let vouched = format!("tallystick/bundle-key/v1\n{}\n", bundle_key.text);
    match log_key.open(utf8(files, "keys/bundle.note", stage)?) {
        Ok(text) => findings.compare(stage, "keys/bundle.note", "", "vouched key", &vouched, &text.to_owned()),
        Err(error) => findings.add(stage, "keys/bundle.note", "", "signature", format!("by {}", log_key.text), format!("{error:#}")),
    }
    // The checkpoint.
    let note = utf8(files, "log/checkpoint", stage)?;
    if let Err(error) = log_key.open(note) {
        findings.add(stage, "log/checkpoint", "", "signature", format!("by {}", log_key.text), format!("{error:#}"));
    }
    let text = note.split_once("\n\n").map(|(text, _)| text).unwrap_or_default();
    let head = Head::parse(text).map_err(|error| unreadable(stage, "log/checkpoint", error))?;
    findings.compare(stage, "log/checkpoint", "", "origin", &log_key.name, &head.origin);
    Ok(Signed { key: log_key.clone(), head })
}
