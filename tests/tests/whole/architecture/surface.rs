//! What the workspace shows: routes, subjects of events, read models. Found in the code as literals; rules about their names.

use super::ownership::{self, Owned};
use super::rust::{Token, closing};
use super::workspace::{Finding, PRODUCTS, Source, Workspace, finding};

/// Where routes are composed, and the folder of their modules.
const ROUTES: &str = "server/src/routes";

/// A route as the server registers it.
pub struct Route {
    /// `POST /v1/events`.
    pub name: String,
    pub place: String,
    /// The module of its handler; none for one of the server itself.
    pub module: Option<String>,
}

/// Something with a name of its own, found in the code.
pub struct Named {
    pub name: String,
    pub place: String,
    /// The owner that the code states.
    pub owner: Option<String>,
}

const METHODS: [&str; 8] = ["get", "post", "put", "patch", "delete", "head", "options", "any"];

/// Every `.route("path", method(handler)…)` of the server.
pub fn routes(workspace: &Workspace) -> Vec<Route> {
    let mut routes = Vec::new();
    for source in workspace.sources.iter().filter(|source| source.path.starts_with(ROUTES)) {
        let own = source.path.strip_prefix("server/src/routes/").map(|file| file.trim_end_matches(".rs").to_owned());
        for (open, path) in calls(source, "route").filter_map(|(open, path)| Some((open, path?))) {
            for at in open + 2..closing(&source.live, open) {
                let Some(method) = source.live[at].word().filter(|word| METHODS.contains(word)) else { continue };
                if !source.live.get(at + 1).is_some_and(|token| token.is('(')) {
                    continue;
                }
                let handler: Vec<&str> = source.live[at + 2..].iter().map_while(path_word).flatten().collect();
                let module = if handler.len() > 1 { handler.iter().rev().nth(1).map(|module| (*module).to_owned()) } else { own.clone() };
                let name = format!("{} {path}", method.to_ascii_uppercase());
                routes.push(Route { name, place: source.place(source.live[at].line), module });
            }
        }
    }
    routes
}

/// A part of a path: a word, or a colon as nothing.
fn path_word(token: &Token) -> Option<Option<&str>> {
    if token.is(':') { Some(None) } else { token.word().map(Some) }
}

/// Calls of a function: the index of the bracket, and the text given first, if it is a literal or a constant of the file.
fn calls<'a>(source: &'a Source, function: &'a str) -> impl Iterator<Item = (usize, Option<&'a str>)> {
    let called = |at: &usize| {
        let defined = at.checked_sub(1).is_some_and(|before| source.live[before].word() == Some("fn"));
        source.live[*at].word() == Some(function) && !defined && source.live.get(at + 1).is_some_and(|token| token.is('('))
    };
    (0..source.live.len()).filter(called).map(|at| (at + 1, given(source, at + 2)))
}

/// The text at an index: a literal, or the constant of the file that is named there.
fn given(source: &Source, at: usize) -> Option<&str> {
    let token = source.live.get(at)?;
    let constant = |name: &str| {
        let defined = source.live.windows(2).position(|pair| pair[0].word() == Some("const") && pair[1].word() == Some(name))?;
        source.live[defined..].iter().take_while(|token| !token.is(';')).find_map(Token::text)
    };
    token.text().or_else(|| token.word().and_then(constant))
}

/// Subjects: literals that read like one, and whatever is given as the subject of an `OutboxEvent`.
pub fn published(workspace: &Workspace) -> Vec<Named> {
    let mut subjects = Vec::new();
    for source in &workspace.sources {
        let outbox = outbox_subjects(source).filter_map(|(line, text)| Some((text?, line)));
        let read = source.live.iter().filter_map(|token| Some((token.text().filter(|text| is_subject(text))?, token.line)));
        let mut found: Vec<_> = outbox.chain(read).collect();
        found.sort_unstable();
        found.dedup_by_key(|(name, _)| *name);
        subjects.extend(found.into_iter().map(|(name, line)| Named { name: name.to_owned(), place: source.place(line), owner: None }));
    }
    subjects
}

/// The `subject:` of each `OutboxEvent` that a file makes; shared-db's own reading of rows is none.
fn outbox_subjects(source: &Source) -> impl Iterator<Item = (usize, Option<&str>)> {
    let made = source.live.windows(2).enumerate().filter(|(at, pair)| {
        let defined = at.checked_sub(1).is_some_and(|before| source.live[before].word() == Some("struct"));
        pair[0].word() == Some("OutboxEvent") && pair[1].is('{') && !defined && source.package.as_deref() != Some("shared-db")
    });
    made.filter_map(|(at, _)| {
        let fields = at + 1..closing(&source.live, at + 1);
        let subject = fields.clone().find(|at| source.live[*at].word() == Some("subject") && source.live[at + 1].is(':'))?;
        Some((source.live[subject].line, given(source, subject + 2)))
    })
}

/// `layer.domain.what_happened`.
fn is_subject(text: &str) -> bool {
    let words: Vec<&str> = text.split('.').collect();
    let plain = |word: &&str| {
        !word.is_empty() && word.chars().all(|char| char.is_ascii_lowercase() || char.is_ascii_digit() || "_-".contains(char))
    };
    words.len() >= 3 && (words[0] == "platform" || PRODUCTS.contains(&words[0])) && words.iter().all(plain)
}

/// Read models: what `Description::new` and the server's `model` are given as name and owner.
pub fn read_models(workspace: &Workspace) -> Vec<Named> {
    let described = workspace.sources.iter().flat_map(|source| descriptions(source).map(move |(open, name)| (source, open, name)));
    let named = described.filter_map(|(source, open, name)| Some((source, open, name?)));
    named
        .map(|(source, open, name)| {
            let owner = given(source, open + 3).map(str::to_owned);
            Named { name: name.to_owned(), place: source.place(source.live[open].line), owner }
        })
        .collect()
}

/// Calls that describe a read model. The function `model` itself passes on what it is given.
fn descriptions(source: &Source) -> impl Iterator<Item = (usize, Option<&str>)> {
    let passes_on = source.live.windows(2).any(|pair| pair[0].word() == Some("fn") && pair[1].word() == Some("model"));
    let models = calls(source, "model").filter(|(_, name)| name.is_some_and(|name| name.contains('.')));
    let new = calls(source, "new").filter(move |(open, name)| constructs(source, *open, "Description") && !(passes_on && name.is_none()));
    models.chain(new)
}

/// Routes, subjects and read models whose name is made at run time, where nobody can see whose they are.
pub fn unseen(workspace: &Workspace) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in &workspace.sources {
        let routes = calls(source, "route").filter(|(open, _)| *open >= 2 && source.live[open - 2].is('.'));
        let routes = routes.map(|(open, path)| (source.live[open].line, path, "a route"));
        let subjects = outbox_subjects(source).map(|(line, subject)| (line, subject, "a subject"));
        let models = descriptions(source).map(|(open, name)| (source.live[open].line, name, "a read model"));
        for (line, _, what) in routes.chain(subjects).chain(models).filter(|(_, name, _)| name.is_none()) {
            let remedy = "write the name as a literal, or as a constant of the same file";
            findings.push(finding(source.place(line), format!("makes the name of {what} at run time"), remedy));
        }
    }
    findings
}

/// Whether the bracket opens the arguments of `kind::new`.
fn constructs(source: &Source, open: usize, kind: &str) -> bool {
    open >= 4 && source.live[open - 2].is(':') && source.live[open - 4].word() == Some(kind)
}

/// A route module is one domain's, and serves that domain's routes alone.
pub fn route_modules(workspace: &Workspace) -> Vec<Finding> {
    let mut findings = Vec::new();
    let domain = |module: &str| workspace.packages.iter().find(|package| package.snake() == module && !package.is_wiring());
    for path in workspace.files_below(ROUTES, ".rs") {
        let module = path.trim_start_matches(ROUTES).trim_start_matches('/').split(['/', '.']).next().unwrap_or_default();
        if domain(module).is_none() {
            findings.push(finding(path, format!("`{module}` is no domain"), "name a route module after the domain that owns its routes"));
        }
    }
    let owners = ownership::read(workspace).unwrap_or_default();
    for route in routes(workspace) {
        let module = route.module.as_deref().unwrap_or("server");
        let owner = owners.iter().find(|(_, owned)| owned.routes.contains(&route.name) || owned.previews.contains_key(&route.name));
        if let Some((owner, _)) = owner.filter(|(owner, _)| owner.replace('-', "_") != module) {
            let what = format!("{} is owned by {owner} and handled in {module}", route.name);
            findings.push(finding(route.place, what, "handle a route in its owner's module"));
        }
    }
    findings
}

/// Whatever is served below `/v1/preview` says when it is removed; whatever says so is served there.
pub fn previews(workspace: &Workspace) -> Vec<Finding> {
    let owners = ownership::read(workspace).unwrap_or_default();
    let condition = |name: &str| owners.values().find_map(|owned: &Owned| owned.previews.get(name)).map_or("", |text| text.trim());
    let is_preview = |name: &str| name.split_once(' ').is_some_and(|(_, path)| path.starts_with("/v1/preview"));
    let mut findings = Vec::new();
    for route in routes(workspace).into_iter().filter(|route| is_preview(&route.name) && condition(&route.name).is_empty()) {
        let remedy = format!("list it under `previews` of its owner in {}, with the condition", ownership::MAP);
        findings.push(finding(route.place, format!("{} has no condition under which it goes", route.name), remedy));
    }
    for name in owners.values().flat_map(|owned| owned.previews.keys()).filter(|name| !is_preview(name)) {
        findings.push(finding(ownership::MAP, format!("{name} is no preview"), "list it under `routes`, or serve it below /v1/preview"));
    }
    findings
}

/// `platform.billing.…` is `platform-billing`'s.
pub fn subjects(workspace: &Workspace) -> Vec<Finding> {
    let mut findings = Vec::new();
    let owners = ownership::read(workspace).unwrap_or_default();
    for (owner, subject) in owners.iter().flat_map(|(owner, owned)| owned.subjects.iter().map(move |subject| (owner, subject))) {
        if !subject.starts_with(&format!("{}.", owner.replacen('-', ".", 1))) {
            let what = format!("{owner} owns the subject {subject}");
            findings.push(finding(ownership::MAP, what, "a subject begins with its owner's name, the first dash as a dot"));
        }
    }
    for subject in published(workspace).into_iter().filter(|subject| !is_subject(&subject.name)) {
        findings.push(finding(subject.place, format!("{} is no subject", subject.name), "name it layer.domain.what_happened"));
    }
    findings
}
