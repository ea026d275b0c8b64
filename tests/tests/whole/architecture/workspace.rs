//! The workspace as the rules see it: packages and edges from `cargo metadata`, files from git, Rust sources as tokens.
//! Nothing is compiled and nothing is downloaded.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

use super::rust::{self, Token};

/// What breaks a rule: where, what it is, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub place: String,
    pub what: String,
    pub remedy: String,
}

/// A finding; the remedy is a sentence of its own.
pub fn finding(place: impl ToString, what: impl ToString, remedy: impl ToString) -> Finding {
    Finding { place: place.to_string(), what: what.to_string(), remedy: remedy.to_string() }
}

/// The first word of a package's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    Shared,
    Platform,
    /// A product, with its family.
    Product(&'static str),
    /// Composes the others; no library imports it.
    Wiring,
}

/// Packages that compose, generate or test.
pub const WIRING: [&str; 6] = ["server", "xtask", "tests", "benches", "datasets", "control"];

/// Families of products.
pub const PRODUCTS: [&str; 3] = ["gpuaas", "appplatform", "tokenfactory"];

impl Layer {
    /// None for a name that belongs to no layer.
    pub fn of(package: &str) -> Option<Self> {
        match package.split_once('-') {
            Some(("shared", _)) => Some(Self::Shared),
            Some(("platform", _)) => Some(Self::Platform),
            Some((family, _)) => PRODUCTS.into_iter().find(|known| *known == family).map(Self::Product),
            None => WIRING.contains(&package).then_some(Self::Wiring),
        }
    }
}

/// A package of the workspace.
#[derive(Debug)]
pub struct Package {
    pub name: String,
    /// Its folder, from the root.
    pub folder: String,
    pub edges: Vec<Edge>,
    /// Integration-test targets.
    pub tests: Vec<String>,
    pub features: BTreeMap<String, Vec<String>>,
}

impl Package {
    pub fn layer(&self) -> Option<Layer> {
        Layer::of(&self.name)
    }

    pub fn is_wiring(&self) -> bool {
        self.layer() == Some(Layer::Wiring)
    }

    /// The name as modules, routes and tables spell it.
    pub fn snake(&self) -> String {
        self.name.replace('-', "_")
    }

    /// Where a finding about its dependencies stands.
    pub fn manifest(&self) -> String {
        format!("{}/Cargo.toml", self.folder)
    }

    /// A path below its folder.
    pub fn path(&self, below: &str) -> String {
        format!("{}/{below}", self.folder)
    }
}

/// A dependency as a package asks for it.
#[derive(Debug, Deserialize)]
pub struct Edge {
    #[serde(rename = "name")]
    pub to: String,
    /// None, `dev` or `build`.
    pub kind: Option<String>,
    pub optional: bool,
    #[serde(rename = "uses_default_features")]
    pub default_features: bool,
    pub features: Vec<String>,
    pub target: Option<String>,
}

/// A Rust file.
pub struct Source {
    pub path: String,
    /// Its package; none for a file outside all of them.
    pub package: Option<String>,
    /// Every token.
    pub tokens: Vec<Token>,
    /// The tokens that a build without tests sees.
    pub live: Vec<Token>,
}

impl Source {
    pub fn place(&self, line: usize) -> String {
        format!("{}:{line}", self.path)
    }
}

/// The tree.
pub struct Workspace {
    pub root: PathBuf,
    /// Paths from the root.
    pub files: BTreeSet<String>,
    /// By name.
    pub packages: Vec<Package>,
    pub sources: Vec<Source>,
}

impl Workspace {
    /// Reads the tree of which `files` are the files.
    pub fn read(root: &Path, files: BTreeSet<String>) -> Self {
        let packages = packages(root);
        let sources = sources(root, &files, &packages);
        Self { root: root.to_owned(), files, packages, sources }
    }

    pub fn package(&self, name: &str) -> Option<&Package> {
        self.packages.iter().find(|package| package.name == name)
    }

    /// The package in whose folder a file lies.
    pub fn owner(&self, path: &str) -> Option<&Package> {
        owner(&self.packages, path)
    }

    /// The text of a file; empty when there is none.
    pub fn text(&self, path: &str) -> String {
        std::fs::read_to_string(self.root.join(path)).unwrap_or_default()
    }

    /// Edges to other packages of the workspace.
    pub fn inner_edges(&self) -> impl Iterator<Item = (&Package, &Edge, &Package)> {
        self.packages.iter().flat_map(move |from| {
            from.edges.iter().filter_map(move |edge| self.package(&edge.to).filter(|_| edge.to != from.name).map(|to| (from, edge, to)))
        })
    }

    /// The files below a folder that end so.
    pub fn files_below<'a>(&'a self, folder: &str, end: &str) -> impl Iterator<Item = &'a String> {
        self.files.iter().filter(move |path| path.starts_with(&format!("{folder}/")) && path.ends_with(end))
    }
}

fn owner<'a>(packages: &'a [Package], path: &str) -> Option<&'a Package> {
    let holds = |package: &&Package| path.strip_prefix(package.folder.as_str()).is_some_and(|rest| rest.starts_with('/'));
    packages.iter().filter(holds).max_by_key(|package| package.folder.len())
}

/// Tracked files, and untracked ones that git does not ignore. A hook's git variables are left out: they name another index.
pub fn files_of_git(root: &Path) -> BTreeSet<String> {
    let mut git = Command::new("git");
    for name in ["GIT_DIR", "GIT_INDEX_FILE", "GIT_WORK_TREE", "GIT_PREFIX"] {
        git.env_remove(name);
    }
    let output = git.arg("-C").arg(root).args(["ls-files", "--cached", "--others", "--exclude-standard", "-z"]).output().unwrap();
    assert!(output.status.success(), "git ls-files: {}", String::from_utf8_lossy(&output.stderr));
    let paths = String::from_utf8(output.stdout).unwrap();
    paths.split_terminator('\0').filter(|path| root.join(path).is_file()).map(str::to_owned).collect()
}

/// cargo, offline.
pub fn cargo(arguments: &[&str], root: &Path) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(arguments).args(["--offline", "--manifest-path"]).arg(root.join("Cargo.toml")).current_dir(root);
    cargo
}

fn packages(root: &Path) -> Vec<Package> {
    #[derive(Deserialize)]
    struct Metadata {
        packages: Vec<Described>,
    }
    #[derive(Deserialize)]
    struct Described {
        name: String,
        manifest_path: PathBuf,
        dependencies: Vec<Edge>,
        targets: Vec<Target>,
        features: BTreeMap<String, Vec<String>>,
    }
    #[derive(Deserialize)]
    struct Target {
        kind: Vec<String>,
        name: String,
    }

    let output = cargo(&["metadata", "--format-version", "1", "--no-deps"], root).output().unwrap();
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Metadata = serde_json::from_slice(&output.stdout).unwrap();
    let root = root.canonicalize().unwrap();
    let mut packages: Vec<Package> = metadata
        .packages
        .into_iter()
        .map(|found| {
            let folder = found.manifest_path.parent().unwrap().canonicalize().unwrap();
            let folder = folder.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
            let tests = found.targets.into_iter().filter(|target| target.kind.iter().any(|kind| kind == "test"));
            Package {
                name: found.name,
                folder,
                edges: found.dependencies,
                tests: tests.map(|target| target.name).collect(),
                features: found.features,
            }
        })
        .collect();
    packages.sort_by(|left, right| left.name.cmp(&right.name));
    packages
}

fn sources(root: &Path, files: &BTreeSet<String>, packages: &[Package]) -> Vec<Source> {
    let mut for_tests: BTreeSet<String> = BTreeSet::new();
    let mut sources = Vec::new();
    for path in files.iter().filter(|path| path.ends_with(".rs")) {
        let package = owner(packages, path);
        let tokens = rust::lex(&std::fs::read_to_string(root.join(path)).unwrap());
        let (live, modules) = rust::without_tests(&tokens);
        let children = path.strip_suffix(".rs").unwrap();
        let children = children.strip_suffix("/lib").or_else(|| children.strip_suffix("/main")).unwrap_or(children);
        for_tests.extend(modules.iter().map(|module| format!("{children}/{module}")));
        let outside_src = package.is_some_and(|package| {
            package.name == "tests" || ["tests/", "benches/", "examples/"].iter().any(|folder| path.starts_with(&package.path(folder)))
        });
        let live = if outside_src { Vec::new() } else { live };
        sources.push(Source { path: path.clone(), package: package.map(|package| package.name.clone()), tokens, live });
    }
    for source in &mut sources {
        let module = source.path.strip_suffix(".rs").unwrap();
        if for_tests.iter().any(|tests| module.strip_prefix(tests.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))) {
            source.live.clear();
        }
    }
    sources
}
