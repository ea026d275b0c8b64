//! Driving the built binary from outside: commands, the server, its HTTP surface.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

/// The binary under test.
pub fn binary() -> PathBuf {
    match std::env::var_os("TALLY_BIN") {
        Some(path) => PathBuf::from(path),
        None => {
            let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
            let built = target.join("debug/tally");
            assert!(built.exists(), "no binary to test: run `cargo build --package server`, or set TALLY_BIN");
            built
        }
    }
}

/// The root of the checkout.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The shared data of the project, if it is there; says loudly when it is not.
pub fn shared() -> Option<PathBuf> {
    let shared = std::env::var_os("TALLY_SHARED").map_or_else(|| root().parent().unwrap().join("shared"), PathBuf::from);
    if shared.join("data/traces").is_dir() {
        return Some(shared);
    }
    eprintln!("SKIPPED: {} has no data/traces; the generated fall-back runs instead", shared.display());
    None
}

/// The Python with the foreign programs; a missing one is an error where tools are required.
pub fn python() -> Option<PathBuf> {
    let python = std::env::var_os("TALLY_PYTHON").map_or_else(|| root().join(".tools/py/bin/python"), PathBuf::from);
    let found = Command::new(&python).args(["-c", "import duckdb"]).output().is_ok_and(|output| output.status.success());
    if found {
        return Some(python);
    }
    assert!(std::env::var_os("TALLY_REQUIRE_TOOLS").is_none(), "{} cannot import duckdb", python.display());
    eprintln!("SKIPPED: no Python with duckdb; run `cargo xtask test`");
    None
}

/// A home of a test, removed with it.
pub struct Tally {
    binary: PathBuf,
    folder: Arc<tempfile::TempDir>,
    environment: Vec<(String, String)>,
    /// An operator's key, once a server showed one.
    key: Mutex<Option<String>>,
}

impl Tally {
    /// A fresh home with the tests' registry in force.
    pub fn new() -> Self {
        let tally = Self::empty();
        tally.done(&["init"]);
        let registry = root().join("tests/registry");
        tally.done(&["registry", "publish", registry.to_str().unwrap()]);
        tally
    }

    /// A folder that is no home yet.
    pub fn empty() -> Self {
        Self { binary: binary(), folder: Arc::new(tempfile::tempdir().unwrap()), environment: Vec::new(), key: Mutex::new(None) }
    }

    /// Like [`Tally::empty`], in a folder of a given file system.
    pub fn on(disk: &Path) -> Self {
        Self { folder: Arc::new(tempfile::tempdir_in(disk).unwrap()), ..Self::empty() }
    }

    /// With another binary.
    pub fn binary(mut self, binary: PathBuf) -> Self {
        self.binary = binary;
        self
    }

    /// With a setting or plant in the environment of every command.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The same home, looked at by another binary with one more setting; its folder goes with the last of them.
    pub fn beside(&self, binary: PathBuf, name: &str, value: &str) -> Self {
        Self {
            binary,
            folder: Arc::clone(&self.folder),
            environment: vec![(name.to_owned(), value.to_owned())],
            key: Mutex::new(self.key.lock().unwrap().clone()),
        }
    }

    /// The home folder.
    pub fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    /// A folder for files of the test.
    pub fn scratch(&self) -> &Path {
        self.folder.path()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.arg("--home").arg(self.home()).args(arguments).env("RUST_BACKTRACE", "0");
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs a command.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).stdin(Stdio::null()).output().unwrap()
    }

    /// Starts a command whose output nobody reads.
    pub fn spawn(&self, arguments: &[&str]) -> Child {
        self.command(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// A home of its own with the same contents.
    pub fn copy(&self) -> Self {
        let tally = Self { binary: self.binary.clone(), environment: self.environment.clone(), ..Self::empty() };
        let done = Command::new("cp").arg("-a").arg(self.home()).arg(tally.home()).status().unwrap();
        assert!(done.success());
        tally
    }

    /// Runs a command that must succeed; its standard output.
    pub fn done(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "tally {arguments:?} ended with {}\n{}{}", output.status, out(&output), err(&output));
        out(&output)
    }

    /// The rows of an answer, decimals as text.
    pub fn sql(&self, sql: &str) -> Vec<Value> {
        let text = self.done(&["--format", "json", "sql", sql]);
        let answer: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        let rows = answer.get("rows").cloned().unwrap_or(answer);
        rows.as_array().unwrap_or_else(|| panic!("no rows in {text}")).clone()
    }

    /// The only value of an answer with one row and one column, as text.
    pub fn value(&self, sql: &str) -> String {
        let rows = self.sql(sql);
        let row = rows.first().unwrap_or_else(|| panic!("no row: {sql}"));
        let value = row.as_object().and_then(|row| row.values().next()).or_else(|| row.get(0)).unwrap_or(&Value::Null);
        match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        }
    }

    /// What `tally check` says; none when everything adds up.
    pub fn check(&self) -> Result<(), String> {
        let output = self.run(&["check"]);
        match output.status.code() {
            Some(0) => Ok(()),
            Some(1) => Err(out(&output)),
            other => Err(format!("check ended with {other:?}: {}", err(&output))),
        }
    }

    /// Starts the server and waits until it listens.
    pub fn serve(&self) -> Server {
        self.try_serve().unwrap_or_else(|text| panic!("the server did not start: {text}"))
    }

    /// Starts the server; what it said instead of listening.
    pub fn try_serve(&self) -> Result<Server, String> {
        let mut child = self
            .command(&["--format", "json", "serve", "--listen", "127.0.0.1:0"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        match serde_json::from_str::<Value>(&line) {
            Ok(said) => {
                // Nobody reads further: let the server's log go.
                let errors = child.stderr.take().unwrap();
                std::thread::spawn(move || std::io::copy(&mut BufReader::new(errors), &mut std::io::sink()));
                let address = said["listen"].as_str().unwrap().to_owned();
                let mut key = self.key.lock().unwrap();
                if let Some(shown) = said["operator_key"].as_str() {
                    *key = Some(shown.to_owned());
                }
                // The home was served by another test before: its key is nowhere.
                let key = key.get_or_insert_with(|| self.key(&["tester", "--role", "operator"])).clone();
                Ok(Server { child, address, key })
            }
            Err(_) => {
                let output = child.wait_with_output().unwrap();
                Err(err(&output))
            }
        }
    }
}

impl Tally {
    /// What a server prints for people, and its log at its most talkative, from start to end.
    pub fn with_log(&self) -> (String, String) {
        let mut child = self
            .command(&["serve", "--listen", "127.0.0.1:0"])
            .env("TALLY_LOG", "trace")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut errors = child.stderr.take().unwrap();
        let log = std::thread::spawn(move || {
            let mut text = Vec::new();
            std::io::Read::read_to_end(&mut errors, &mut text).unwrap();
            String::from_utf8_lossy(&text).into_owned()
        });
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut text = String::new();
        while !text.contains("listening on") && lines.read_line(&mut text).unwrap() > 0 {}
        assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
        assert!(child.wait().unwrap().success());
        (text, log.join().unwrap())
    }

    /// Makes a key as these arguments of `tally key create` say; its text.
    pub fn key(&self, arguments: &[&str]) -> String {
        let made = self.done(&[&["--format", "json", "key", "create"], arguments].concat());
        serde_json::from_str::<Value>(&made).unwrap()["secret"].as_str().unwrap().to_owned()
    }
}

/// Standard output as text.
pub fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Standard error as text.
pub fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A running server; killed when dropped.
pub struct Server {
    child: Child,
    address: String,
    key: String,
}

/// An HTTP answer.
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Body.
    pub text: String,
    /// `Retry-After`, if said.
    pub retry_after: Option<String>,
    /// `Content-Type`.
    pub content_type: String,
}

impl Server {
    /// An agent and URL for events, to be used from other threads.
    pub fn client(&self) -> Client {
        Client {
            agent: ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(Duration::from_secs(30))).build().into(),
            address: self.address.clone(),
            key: Some(self.key.clone()),
        }
    }

    /// Where it listens.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Kills it as a crash would.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to end and waits until it has.
    pub fn stop(mut self) {
        let pid = i32::try_from(self.child.id()).unwrap();
        assert!(Command::new("kill").args(["-TERM", &pid.to_string()]).status().unwrap().success());
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends to a server, with an operator's key unless it is told otherwise.
#[derive(Clone)]
pub struct Client {
    agent: ureq::Agent,
    address: String,
    key: Option<String>,
}

impl Client {
    /// The same with another key, or with none.
    pub fn with_key(&self, key: Option<&str>) -> Self {
        Self { key: key.map(ToOwned::to_owned), ..self.clone() }
    }

    /// POSTs a body; an error when the connection failed.
    pub fn post(&self, path: &str, content_type: &str, body: &[u8]) -> Result<Answer, String> {
        self.ask("POST", path, content_type, body)
    }

    /// Any request; an error when the connection failed.
    pub fn ask(&self, method: &str, path: &str, content_type: &str, body: &[u8]) -> Result<Answer, String> {
        let mut request = ureq::http::Request::builder().method(method).uri(format!("http://{}{path}", self.address));
        if let Some(key) = &self.key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        if !body.is_empty() {
            request = request.header("content-type", content_type);
        }
        let mut response = if body.is_empty() && method != "POST" {
            self.agent.run(request.body(()).unwrap())
        } else {
            self.agent.run(request.body(body).unwrap())
        }
        .map_err(|error| error.to_string())?;
        Ok(Answer {
            status: response.status().as_u16(),
            retry_after: response.headers().get("retry-after").and_then(|value| value.to_str().ok()).map(ToOwned::to_owned),
            content_type: response.headers().get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned(),
            text: response.body_mut().read_to_string().map_err(|error| error.to_string())?,
        })
    }

    /// Sends any request; everything that came back.
    pub fn reply(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        let mut request = ureq::http::Request::builder().method(method).uri(format!("http://{}{path}", self.address));
        if let Some(key) = &self.key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut response = match method {
            "GET" => self.agent.run(request.body(()).unwrap()),
            _ => self.agent.run(request.body(body).unwrap()),
        }
        .unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        let text = |value: &ureq::http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        Reply {
            status: response.status().as_u16(),
            headers: response.headers().iter().map(|(name, value)| (name.to_string(), text(value))).collect(),
            body: response.body_mut().with_config().limit(256 << 20).read_to_vec().unwrap(),
        }
    }

    /// POSTs events as one batch.
    pub fn events(&self, events: &[String]) -> Result<Answer, String> {
        self.post("/v1/events", "application/cloudevents-batch+json", format!("[{}]", events.join(",")).as_bytes())
    }
}

/// A whole answer, for comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Status code.
    pub status: u16,
    /// Headers by name, in their order.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Vec<u8>,
}

impl Reply {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// A header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

/// One event of the tests' registry.
pub fn request(id: &str, organization: &str, time: &str, input: u64, output: u64) -> String {
    json!({
        "specversion": "1.0", "id": id, "source": "gateway", "type": "llm.request", "time": time, "organization": organization,
        "data": {"input_tokens": input, "output_tokens": output},
    })
    .to_string()
}
