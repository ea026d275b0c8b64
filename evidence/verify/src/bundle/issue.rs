//! Stage 6: the invoice's digest and its place in the ledger.

use serde_json::Value;

use super::{Files, INVOICE, PROOF, bytes, list, member, read_json, unreadable};
use crate::finding::{Findings, Stage};
use crate::tree::sha256;

/// Digest and entry, as far as the checkpoint proves them.
pub(super) fn issue(files: &Files, findings: &mut Findings) -> anyhow::Result<()> {
    let stage = Stage::Issue;
    let issue = read_json(files, "issue.json", stage)?;
    let digest = hex::encode(sha256(&[bytes(files, INVOICE, stage)?]));
    findings.compare(stage, "issue.json", "", "digest", &digest, &member(&issue, "digest"));
    let proof = read_json(files, PROOF, stage)?;
    let text = proof.get("entry").map(|entry| member(entry, "text")).unwrap_or_default();
    let heads: Value = serde_json::from_str(&text).map_err(|error| unreadable(stage, PROOF, error))?;
    let reached = member(&heads, "ledger_seq").parse::<u64>().unwrap_or(0);
    let Some(entry) = issue.get("entry") else {
        let invoice = read_json(files, INVOICE, stage)?;
        let moved = list(&invoice, "lines").any(|line| member(line, "exact") != "0" || member(line, "rounding") != "0");
        if moved || list(&invoice, "terms").any(|term| member(term, "amount") != "0") {
            findings.add(stage, "issue.json", "", "entry", "the ledger entry that posted the lines", "");
        }
        return Ok(());
    };
    let entry = entry.as_str().and_then(|entry| entry.parse::<u64>().ok()).unwrap_or(u64::MAX);
    if entry > reached {
        findings.add(stage, "issue.json", "", "entry", format!("at most {reached}, where the checkpoint stands"), entry);
    } else if entry == reached {
        findings.compare(stage, "issue.json", "", "entry_digest", &member(&heads, "ledger_digest"), &member(&issue, "entry_digest"));
    }
    Ok(())
}
