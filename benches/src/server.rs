//! The built `tally`, driven from outside: commands, the server, its HTTP surface. It knows no crate of the product.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::Value;

/// A home of the bench.
pub struct Tally {
    binary: PathBuf,
    home: PathBuf,
    log: PathBuf,
}

impl Tally {
    /// A fresh home with the demo's registry in force.
    pub fn new(binary: &Path, folder: &Path) -> anyhow::Result<Self> {
        Self::with_registry(binary, folder, &datasets::demo_registry())
    }

    /// A fresh home with a registry in force: names and texts of its files.
    pub fn with_registry(binary: &Path, folder: &Path, files: &[(&str, &str)]) -> anyhow::Result<Self> {
        let tally = Self { binary: binary.to_owned(), home: folder.join("home"), log: folder.join("server.log") };
        let registry = folder.join("registry");
        std::fs::create_dir_all(&registry)?;
        for (name, text) in files {
            std::fs::write(registry.join(name), text)?;
        }
        tally.done(&["init"])?;
        tally.done(&["registry", "publish", &registry.display().to_string()])?;
        Ok(tally)
    }

    /// The home folder.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// What the server and the commands wrote on standard error.
    pub fn log(&self) -> anyhow::Result<String> {
        std::fs::read_to_string(&self.log).with_context(|| format!("could not read {}", self.log.display()))
    }

    /// A command with the stages of each batch in its log.
    fn command(&self, arguments: &[&str]) -> anyhow::Result<Command> {
        let log = File::options().create(true).append(true).open(&self.log)?;
        let mut command = Command::new(&self.binary);
        command.arg("--home").arg(&self.home).args(arguments).stdin(Stdio::null()).stderr(log);
        command.env("TALLY_LOG", "warn,tally=debug").env("NO_COLOR", "1");
        Ok(command)
    }

    /// Runs a command that must succeed; its standard output.
    pub fn done(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output = self.command(arguments)?.output().with_context(|| format!("could not start {}", self.binary.display()))?;
        if !output.status.success() {
            bail!("tally {arguments:?} ended with {}; its last words: {}", output.status, self.last_words());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The only value of an answer with one row and one column.
    pub fn value(&self, sql: &str) -> anyhow::Result<String> {
        let text = self.done(&["--format", "csv", "sql", sql])?;
        Ok(text.lines().nth(1).with_context(|| format!("no row: {sql}"))?.to_owned())
    }

    /// Starts the server and waits until it listens.
    pub fn serve(&self) -> anyhow::Result<Server> {
        let mut child = self.command(&["--format", "json", "serve", "--listen", "127.0.0.1:0"])?.stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("standard output was piped")?).read_line(&mut line)?;
        let said: Option<Value> = serde_json::from_str(&line).ok();
        let text = |name: &str| said.as_ref().and_then(|said| said.get(name)).and_then(Value::as_str).map(str::to_owned);
        match text("listen") {
            Some(address) => {
                let mut server = Server { child, address, key: String::new() };
                server.key = match text("operator_key") {
                    Some(key) => key,
                    // The first operator key is shown once; a server that was started before has shown it.
                    None => self.key()?,
                };
                Ok(server)
            }
            None => {
                child.wait()?;
                bail!("the server did not start: {}", self.last_words())
            }
        }
    }

    fn key(&self) -> anyhow::Result<String> {
        let made = self.done(&["key", "create", "bench", "--role", "operator"])?;
        Ok(made.lines().next().context("no key was made")?.to_owned())
    }

    fn last_words(&self) -> String {
        let log = self.log().unwrap_or_default();
        let lines: Vec<&str> = log.lines().rev().take(5).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

/// A running server; killed when dropped.
pub struct Server {
    child: Child,
    address: String,
    key: String,
}

impl Server {
    /// Its process.
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// A client with a connection of its own.
    pub fn client(&self) -> Client {
        let agent = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(Duration::from_secs(60))).build();
        Client { agent: agent.into(), address: self.address.clone(), authorization: format!("Bearer {}", self.key) }
    }

    /// Asks it to end and waits until it has.
    pub fn stop(mut self) -> anyhow::Result<()> {
        signal("TERM", self.process())?;
        let status = self.child.wait()?;
        if !status.success() {
            bail!("the server ended with {status}");
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has ended already after `stop`.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal to a process that this one started.
pub fn signal(name: &str, process: u32) -> anyhow::Result<()> {
    let status = Command::new("kill").arg(format!("-{name}")).arg(process.to_string()).status()?;
    if !status.success() {
        bail!("could not send {name} to process {process}");
    }
    Ok(())
}

/// Sends to a server.
pub struct Client {
    agent: ureq::Agent,
    address: String,
    authorization: String,
}

impl Client {
    /// POSTs a batch of events; status and body of the answer.
    pub fn post(&self, body: &str) -> anyhow::Result<(u16, String)> {
        let url = format!("http://{}/v1/events", self.address);
        let request = self.agent.post(url).header("authorization", &self.authorization);
        let mut answer = request.header("content-type", "application/cloudevents-batch+json").send(body)?;
        Ok((answer.status().as_u16(), answer.body_mut().read_to_string()?))
    }

    /// How far the log and its folds are.
    pub fn progress(&self) -> anyhow::Result<Value> {
        let request = self.agent.get(format!("http://{}/v1/progress", self.address)).header("authorization", &self.authorization);
        let text = request.call()?.body_mut().read_to_string()?;
        Ok(serde_json::from_str(&text)?)
    }
}
