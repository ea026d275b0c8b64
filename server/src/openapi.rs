//! The OpenAPI document: a fragment for each domain, made from its handlers, and the bundle of all. `cargo xtask generate` writes them.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use serde_json::{Map, Value, json};

use crate::Outcome;
use crate::contract::{Named, Operation};
use crate::routes;

/// Arguments of the hidden command.
#[derive(Args)]
pub struct OpenapiArguments {
    /// Folder for `tallystick.json`, `tallystick.yaml` and `domains/<domain>.yaml`.
    #[arg(long)]
    out: PathBuf,
}

/// The operations by domain.
fn domains() -> [(&'static str, Vec<Operation>); 11] {
    [
        ("platform-audit", routes::platform_audit::operations()),
        ("platform-billing", routes::platform_billing::operations()),
        ("platform-catalog", routes::platform_catalog::operations()),
        ("platform-evidence", routes::platform_evidence::operations()),
        ("platform-iam", routes::platform_iam::operations()),
        ("platform-ingest", routes::platform_ingest::operations()),
        ("platform-ledger", routes::platform_ledger::operations()),
        ("platform-query", routes::platform_query::operations()),
        ("platform-rating", routes::platform_rating::operations()),
        ("platform-registry", routes::platform_registry::operations()),
        ("server", routes::operations()),
    ]
}

/// Writes all documents.
pub fn run(arguments: &OpenapiArguments) -> anyhow::Result<Outcome> {
    let folder = arguments.out.join("domains");
    std::fs::create_dir_all(&folder).with_context(|| format!("could not create {}", folder.display()))?;
    let domains = domains();
    for domain in &domains {
        std::fs::write(folder.join(format!("{}.yaml", domain.0)), yaml(&document(domain.0, std::slice::from_ref(domain))))?;
    }
    let bundle = document("all domains", &domains);
    std::fs::write(arguments.out.join("tallystick.yaml"), yaml(&bundle))?;
    std::fs::write(arguments.out.join("tallystick.json"), serde_json::to_string_pretty(&bundle)? + "\n")?;
    Ok(Outcome::Done)
}

/// One document over some domains.
fn document(title: &str, domains: &[(&str, Vec<Operation>)]) -> Value {
    let (mut paths, mut named) = (Map::new(), Named::new());
    for (domain, operations) in domains {
        for operation in operations {
            let described = operation.document(domain, &mut named);
            let path = paths.entry(operation.path).or_insert_with(|| json!({}));
            path[operation.method] = described;
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": format!("Tallystick: {title}"),
            "version": env!("CARGO_PKG_VERSION"),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            "description": "Money and quantities are texts. Errors are problem documents (RFC 9457) with stable codes: docs/reference/errors.md.",
        },
        "servers": [{"url": "http://127.0.0.1:7420", "description": "tally serve on this machine"}],
        "tags": domains.iter().map(|(domain, _)| json!({"name": domain})).collect::<Vec<_>>(),
        "paths": paths,
        "security": [{"key": []}],
        "components": {
            "schemas": named,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "description": "A key of `tally key create`: Authorization: Bearer tally_…"}},
        },
    })
}

/// A JSON value as YAML: mappings and sequences in blocks, every text quoted as JSON quotes it.
fn yaml(value: &Value) -> String {
    let mut out = String::new();
    block(value, 0, &mut out);
    out
}

fn block(value: &Value, depth: usize, out: &mut String) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(members) if !members.is_empty() => {
            for (name, member) in members {
                out.push_str(&format!("{indent}{}:", key(name)));
                nested(member, depth, out);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                out.push_str(&format!("{indent}-"));
                nested(item, depth, out);
            }
        }
        plain => out.push_str(&format!("{indent}{plain}\n")),
    }
}

fn nested(value: &Value, depth: usize, out: &mut String) {
    let is_block = value.as_object().is_some_and(|members| !members.is_empty()) || value.as_array().is_some_and(|items| !items.is_empty());
    if is_block {
        out.push('\n');
        block(value, depth + 1, out);
    } else {
        out.push_str(&format!(" {value}\n"));
    }
}

/// Plain where YAML reads it as a text for certain.
fn key(name: &str) -> String {
    let plain = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-/.{}".contains(c))
        && !["true", "false", "null", "yes", "no", "on", "off", "y", "n"].contains(&name.to_ascii_lowercase().as_str());
    if plain { name.to_owned() } else { Value::from(name).to_string() }
}

#[cfg(test)]
mod tests {
    use super::yaml;

    #[test]
    fn yaml_is_in_blocks_with_quoted_texts() {
        let value = serde_json::json!({"a": {"200": "x: \"y\"", "on": null, "/v1/{id}": []}, "b": [1, {"c": true}, [2]]});
        let text = "a:\n  /v1/{id}: []\n  \"200\": \"x: \\\"y\\\"\"\n  \"on\": null\nb:\n  - 1\n  -\n    c: true\n  -\n    - 2\n";
        assert_eq!(yaml(&value), text);
    }
}
