//! Stage 2: leaves, roots, and the paths from them to the checkpoint.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::rows::Rows;
use super::{Cover, Files, PROOF, READINGS, list, member, read_json, unreadable};
use crate::finding::{Findings, Stage};
use crate::money::{plain, scaled};
use crate::note::Head;
use crate::tree::{self, Hash, sha256};

/// Leaves, roots and paths up to the checkpoint; answers whose they are.
pub(super) fn logs(files: &Files, head: &Head, invoice: &Value, rows: &Rows, findings: &mut Findings) -> anyhow::Result<String> {
    let stage = Stage::Logs;
    let commitments: Vec<String> = rows.events.iter().map(|event| hex::encode(sha256(&[&event.salt, event.text.as_bytes()]))).collect();
    let mut leaves: BTreeMap<i32, Vec<Hash>> = BTreeMap::new();
    for reading in &rows.readings {
        let log = leaves.entry(reading.month).or_default();
        findings.compare(stage, READINGS, &reading.place(), "log_seq", &i64::try_from(log.len()).unwrap_or(i64::MAX), &reading.log_seq);
        // Either of two rows may be the damaged one.
        let place = || format!("{} of event {}", reading.place(), reading.number);
        let event = reading.event.and_then(|at| Some((rows.events.get(at)?, commitments.get(at)?)));
        let Some((event, commitment)) = event else {
            findings.add(stage, READINGS, place(), "event", "there", "missing");
            continue;
        };
        let (start, end) = reading.times(event);
        let end = end.map_or("null".to_owned(), |end| format!("\"{}\"", crate::time::text(end)));
        let text = format!(
            "{{\"commitment\":\"{commitment}\",\"end_at\":{end},\"log_seq\":\"{}\",\"meter\":\"{}\",\"quantity\":\"{}\",\"registry_version\":\"{}\",\"start_at\":\"{}\",\"unit\":\"{}\"}}",
            reading.log_seq,
            reading.meter,
            plain(&scaled(reading.quantity, 9)),
            reading.version,
            crate::time::text(start),
            reading.unit
        );
        let hash = tree::leaf(text.as_bytes());
        let [first, second, ..] = hash;
        findings.compare(stage, READINGS, &place(), "leaf_check", &i32::from(u16::from_be_bytes([first, second])), &reading.check);
        log.push(hash);
    }
    let proof = read_json(files, PROOF, stage)?;
    let empty = Value::Null;
    let organization = proof.get("organization").unwrap_or(&empty);
    let leaf_text = member(organization, "leaf");
    let leaf: Value = serde_json::from_str(&leaf_text).map_err(|error| unreadable(stage, PROOF, error))?;
    let stated: BTreeMap<String, &Value> = list(&leaf, "logs").map(|log| (member(log, "month"), log)).collect();
    let proven: BTreeMap<String, &Value> = list(&proof, "logs").map(|log| (member(log, "month"), log)).collect();
    let covered: BTreeMap<String, u64> =
        list(invoice, "logs").map(|log| (member(log, "month"), member(log, "to").parse().unwrap_or(0))).filter(|(_, to)| *to > 0).collect();
    let months: BTreeSet<String> = covered.keys().cloned().chain(leaves.keys().map(i32::to_string)).chain(proven.keys().cloned()).collect();
    for month in months {
        let log = month.parse::<i32>().ok().and_then(|month| leaves.get(&month)).map(Vec::as_slice).unwrap_or_default();
        let size = u64::try_from(log.len()).unwrap_or(u64::MAX);
        findings.compare(stage, READINGS, &month, "leaves", &covered.get(&month).copied().unwrap_or(0), &size);
        let claim = proven.get(&month).copied().unwrap_or(&empty);
        let root = tree::root(log);
        findings.compare(stage, READINGS, &month, "root", &member(claim, "root"), &hex::encode(root));
        let later = stated.get(&month).copied().unwrap_or(&empty);
        let path = hashes(claim, "path")?;
        let second = (member(later, "size").parse().unwrap_or(0), hash(&member(later, "root")));
        let holds =
            member(claim, "size") == size.to_string() && second.1.is_some_and(|to| tree::consistent(size, &root, second.0, &to, &path));
        if !holds {
            findings.add(
                stage,
                PROOF,
                month,
                "consistency",
                format!("{} leaves with root {}", second.0, member(later, "root")),
                format!("{size} leaves with root {}", hex::encode(root)),
            );
        }
    }
    let (id, salt) = (member(organization, "id"), hex::decode(member(organization, "salt")).unwrap_or_default());
    let salted = hex::encode(sha256(&[&salt, id.as_bytes()]));
    findings.compare(stage, PROOF, "organization", "salted organization", &member(&leaf, "organization"), &salted);
    let entry = proof.get("entry").unwrap_or(&empty);
    let entry_text = member(entry, "text");
    let heads: Value = serde_json::from_str(&entry_text).map_err(|error| unreadable(stage, PROOF, error))?;
    let number = |value: &Value, name: &str| member(value, name).parse::<u64>().unwrap_or(u64::MAX);
    let found = tree::inclusion(
        tree::leaf(leaf_text.as_bytes()),
        number(organization, "index"),
        number(&heads, "organizations"),
        &hashes(organization, "path")?,
    );
    findings.compare(
        stage,
        PROOF,
        "organization",
        "root of organizations",
        &member(&heads, "organizations_root"),
        &found.map(hex::encode).unwrap_or_default(),
    );
    let found = tree::inclusion(tree::leaf(entry_text.as_bytes()), head.size.saturating_sub(1), head.size, &hashes(entry, "path")?);
    findings.compare(stage, PROOF, "entry", "root of the checkpoint", &hex::encode(head.root), &found.map(hex::encode).unwrap_or_default());
    Ok(id)
}

/// Beside each log of the organization's leaf, how far the invoice goes.
pub(super) fn covers(files: &Files, invoice: &Value) -> anyhow::Result<Vec<Cover>> {
    let proof = read_json(files, PROOF, Stage::Logs)?;
    let text = proof.pointer("/organization/leaf").and_then(Value::as_str).unwrap_or_default();
    let leaf: Value = serde_json::from_str(text).map_err(|error| unreadable(Stage::Logs, PROOF, error))?;
    let number = |value: &Value, name: &str| member(value, name).parse().unwrap_or(0);
    let covers = list(&leaf, "logs").map(|log| {
        let month = member(log, "month");
        let range = list(invoice, "logs").find(|range| member(range, "month") == month);
        Cover { range: range.map(|range| (number(range, "from"), number(range, "to"))), size: number(log, "size"), month }
    });
    Ok(covers.collect())
}

fn hash(text: &str) -> Option<Hash> {
    hex::decode(text).ok()?.try_into().ok()
}

fn hashes(value: &Value, name: &str) -> anyhow::Result<Vec<Hash>> {
    list(value, name)
        .map(|text| {
            text.as_str().and_then(hash).ok_or_else(|| unreadable(Stage::Logs, PROOF, format!("{name} holds {text}, hashes are wanted")))
        })
        .collect()
}
