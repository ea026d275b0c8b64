//! Proof that each rule bites: a copy of the tree, one small violation at a time, and exactly that rule names it. The plants are then put in
//! together and compiled: what the rules catch is what the compiler would let through.
//!
//! The light packages are compiled by default; `TALLY_COMPILE_PLANTS=all` compiles the whole workspace, DataFusion included.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::workspace::{Workspace, cargo, files_of_git};
use super::{GOLDEN, RULES, Violation, listed, plants, violations};

/// A change of one file; each can be made twice and is then made once.
pub enum Edit {
    Append {
        file: String,
        text: String,
    },
    /// Puts `text` behind the first `after`.
    Insert {
        file: String,
        after: String,
        text: String,
    },
    Replace {
        file: String,
        from: String,
        to: String,
    },
    Create {
        file: String,
        text: String,
    },
    Remove {
        file: String,
    },
    /// Lists a name of a kind for an owner in the ownership map.
    Own {
        owner: String,
        kind: &'static str,
        name: String,
    },
}

/// A planted violation.
pub struct Plant {
    /// The rule that must name it.
    pub rule: &'static str,
    /// How the place begins that it must name.
    pub place: &'static str,
    pub edits: Vec<Edit>,
    /// Whether it stands beside the other plants when all are compiled. A few contradict others, or cargo itself.
    pub compiles: bool,
}

/// Packages whose build is worth its time in every run; plants lie in others too.
const LIGHT: [&str; 7] =
    ["shared-types", "shared-bus", "platform-usage", "gpuaas-inventory", "gpuaas-terminal", "tokenfactory-gateway", "control"];

/// A copy of the tree below the target folder. It is kept between runs, so that a check compiles only what changed.
struct Copy {
    root: PathBuf,
    /// What edited files held before.
    before: BTreeMap<String, Option<String>>,
    /// Held while the copy is in use.
    _lock: File,
}

impl Copy {
    fn of(tree: &Path) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("architecture");
        let root = folder.join("tree");
        fs::create_dir_all(&root).unwrap();
        let lock = File::create(folder.join("lock")).unwrap();
        lock.lock().unwrap();
        let files = files_of_git(tree);
        for file in files_of(&root).difference(&files) {
            fs::remove_file(root.join(file)).unwrap();
        }
        for file in &files {
            let (from, to) = (fs::read(tree.join(file)).unwrap(), root.join(file));
            if fs::read(&to).ok().as_ref() != Some(&from) {
                fs::create_dir_all(to.parent().unwrap()).unwrap();
                fs::write(to, from).unwrap();
            }
        }
        // Crates that are not in the lock file cannot be asked for offline: empty ones stand in for them.
        for name in plants::STAND_INS {
            let stand_in = folder.join("stand-ins").join(name);
            fs::create_dir_all(stand_in.join("src")).unwrap();
            let manifest = format!("[package]\nname = \"{name}\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[workspace]\n");
            fs::write(stand_in.join("Cargo.toml"), manifest).unwrap();
            fs::write(stand_in.join("src/lib.rs"), "//! Stands in.\n").unwrap();
        }
        Self { root, before: BTreeMap::new(), _lock: lock }
    }

    fn read(&self) -> Workspace {
        Workspace::read(&self.root, files_of(&self.root))
    }

    fn text(&self, file: &str) -> Option<String> {
        fs::read_to_string(self.root.join(file)).ok()
    }

    fn put(&mut self, file: &str, text: Option<&str>) {
        let before = self.text(file);
        self.before.entry(file.to_owned()).or_insert(before);
        let path = self.root.join(file);
        match text {
            Some(text) => {
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            None => fs::remove_file(path).unwrap(),
        }
    }

    fn edit(&mut self, edit: &Edit) {
        match edit {
            Edit::Append { file, text } => {
                let old = self.text(file).unwrap_or_else(|| panic!("{file} is not there to plant in"));
                if !old.contains(text.as_str()) {
                    self.put(file, Some(&format!("{old}{text}")));
                }
            }
            Edit::Insert { file, after, text } => {
                let old = self.text(file).unwrap_or_else(|| panic!("{file} is not there to plant in"));
                if !old.contains(text.as_str()) {
                    assert!(old.contains(after.as_str()), "{file} has no {after:?} to plant behind");
                    self.put(file, Some(&old.replacen(after.as_str(), &format!("{after}{text}"), 1)));
                }
            }
            Edit::Replace { file, from, to } => {
                let old = self.text(file).unwrap_or_else(|| panic!("{file} is not there to plant in"));
                if old.contains(from.as_str()) {
                    self.put(file, Some(&old.replacen(from.as_str(), to, 1)));
                } else {
                    assert!(old.contains(to.as_str()), "{file} has no {from:?} to replace");
                }
            }
            Edit::Create { file, text } => self.put(file, Some(text)),
            Edit::Remove { file } => {
                if self.text(file).is_some() {
                    self.put(file, None);
                }
            }
            Edit::Own { owner, kind, name } => self.own(owner, kind, name),
        }
    }

    fn own(&mut self, owner: &str, kind: &str, name: &str) {
        let mut map: toml::Table = self.text(super::ownership::MAP).unwrap().parse().unwrap();
        let owned = map.entry(owner).or_insert_with(|| toml::Table::new().into()).as_table_mut().unwrap();
        if ["folder", "previews"].contains(&kind) {
            let value = match kind {
                "folder" => name.into(),
                _ => toml::Table::from_iter([(name.to_owned(), "when it was planted".into())]).into(),
            };
            owned.insert(kind.to_owned(), value);
        } else {
            let names = owned.entry(kind).or_insert_with(|| toml::Value::Array(Vec::new())).as_array_mut().unwrap();
            if !names.contains(&name.into()) {
                names.push(name.into());
            }
        }
        self.put(super::ownership::MAP, Some(&toml::to_string(&map).unwrap()));
    }

    /// Brings what is generated from the tree up to date, but for what the rule itself holds against it.
    fn regenerate(&mut self, rule: &str) {
        if !self.before.keys().any(|file| file.ends_with(".toml")) {
            return;
        }
        let workspace = self.read();
        for golden in GOLDEN.iter().filter(|golden| golden.rule != rule) {
            let before = self.text(golden.path);
            self.before.entry(golden.path.to_owned()).or_insert(before);
            golden.write(&workspace);
        }
    }

    /// Takes every edit back.
    fn restore(&mut self) {
        for (file, text) in std::mem::take(&mut self.before) {
            let path = self.root.join(&file);
            match text {
                Some(text) => fs::write(path, text).unwrap(),
                None if path.exists() => fs::remove_file(path).unwrap(),
                None => {}
            }
        }
    }
}

/// All files below a folder.
fn files_of(root: &Path) -> BTreeSet<String> {
    let mut files = BTreeSet::new();
    let mut open = vec![root.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                files.insert(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    files
}

#[test]
fn each_rule_names_what_is_planted_against_it() {
    let mut copy = Copy::of(Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap());
    let before = violations(&copy.read(), |_| true);
    let plants = plants::all();
    let mut problems = Vec::new();
    for rule in RULES.iter().filter(|rule| plants.iter().all(|plant| plant.rule != rule.name)) {
        problems.push(format!("nothing is planted against {}", rule.name));
    }
    for plant in &plants {
        plant.edits.iter().for_each(|edit| copy.edit(edit));
        copy.regenerate(plant.rule);
        let mut found = violations(&copy.read(), |_| true);
        found.retain(|violation| !before.contains(violation));
        copy.restore();
        problems.extend(misjudged(plant, &found));
    }
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
    compile(&mut copy, &plants);
}

/// What is wrong with the answer to a plant.
fn misjudged(plant: &Plant, found: &[Violation]) -> Option<String> {
    let others: Vec<Violation> = found.iter().filter(|violation| violation.rule != plant.rule).cloned().collect();
    let named = found.iter().any(|violation| violation.rule == plant.rule && violation.finding.place.starts_with(plant.place));
    match (named, others.is_empty()) {
        (true, true) => None,
        (false, _) => Some(format!("{} does not name what is planted in {}; found:\n{}", plant.rule, plant.place, listed(found))),
        (true, false) => {
            Some(format!("what is planted against {} in {} breaks other rules too:\n{}", plant.rule, plant.place, listed(&others)))
        }
    }
}

/// All plants at once, as cargo and rustc see them.
fn compile(copy: &mut Copy, plants: &[Plant]) {
    for edit in plants.iter().filter(|plant| plant.compiles).flat_map(|plant| &plant.edits) {
        copy.edit(edit);
    }
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let mut check = cargo(&["check", "--quiet"], &copy.root);
    check.arg("--target-dir").arg(target);
    if std::env::var_os("TALLY_COMPILE_PLANTS").is_some_and(|which| which == "all") {
        check.args(["--workspace", "--all-targets"]);
    } else {
        check.args(LIGHT.iter().flat_map(|package| ["--package", package]));
    }
    let output = check.output().unwrap();
    copy.restore();
    assert!(output.status.success(), "the plants do not compile:\n{}", String::from_utf8_lossy(&output.stderr));
}
