//! Rules about the console's sources, read as text: which modules a file imports.

use super::workspace::{Finding, PRODUCTS, Workspace, finding};

const SHARED: &str = "web/src/shared";

/// What is shared imports neither platform nor products.
pub fn shared_imports(workspace: &Workspace) -> Vec<Finding> {
    let ends = [".ts", ".tsx", ".mts", ".js", ".jsx", ".mjs", ".vue", ".svelte", ".css"];
    let mut findings = Vec::new();
    for path in workspace.files_below(SHARED, "").filter(|path| ends.iter().any(|end| path.ends_with(end))) {
        for (line, module) in imports(&workspace.text(path)) {
            if is_foreign(&resolved(path, &module)) {
                let remedy = "shared code takes what it needs as an argument";
                findings.push(finding(format!("{path}:{line}"), format!("imports {module}"), remedy));
            }
        }
    }
    findings
}

/// The modules that a file imports, exports from or requires, with their lines.
fn imports(text: &str) -> Vec<(usize, String)> {
    let mut modules = Vec::new();
    let mut rest = text;
    while let Some(open) = rest.find(['"', '\'', '`']) {
        let quote = rest[open..].chars().next().unwrap();
        let inside = &rest[open + 1..];
        let Some(close) = inside.find([quote, '\n']) else { break };
        let before = rest[..open].trim_end();
        if ["from", "import", "import(", "require(", "@import"].iter().any(|word| before.ends_with(word)) {
            let line = text[..text.len() - inside.len()].lines().count();
            modules.push((line, inside[..close].to_owned()));
        }
        rest = &inside[close + 1..];
    }
    modules
}

/// A module's path below `web/src`, as far as that can be told without the bundler.
fn resolved(from: &str, module: &str) -> String {
    if !module.starts_with('.') {
        return module.trim_start_matches(['@', '~', '#', '/']).trim_start_matches("web/").trim_start_matches("src/").to_owned();
    }
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in module.split('/') {
        match part {
            "." => {}
            ".." => {
                parts.pop();
            }
            _ => parts.push(part),
        }
    }
    parts.join("/").trim_start_matches("web/src/").to_owned()
}

fn is_foreign(module: &str) -> bool {
    let first = module.split('/').next().unwrap_or_default();
    ["platform", "products"].contains(&first) || PRODUCTS.contains(&first)
}

#[test]
fn imports_are_resolved() {
    let text = "import a from './a';\nexport { b } from \"../../platform/b\"\nconst c = await import('@/products/gpuaas/c');\nlet d = 'platform/d';";
    let found: Vec<(usize, String, bool)> = imports(text)
        .into_iter()
        .map(|(line, module)| {
            let path = resolved("web/src/shared/ui/x.ts", &module);
            let foreign = is_foreign(&path);
            (line, path, foreign)
        })
        .collect();
    let expected = [(1, "shared/ui/a", false), (2, "platform/b", true), (3, "products/gpuaas/c", true)];
    assert_eq!(found, expected.map(|(line, path, foreign)| (line, path.to_owned(), foreign)));
}
