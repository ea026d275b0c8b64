//! `tally organization|project|key|source`: who may do what. Beside a server they ask it, without one they write the books themselves.

use clap::Subcommand;
use platform_iam::{Action, KeyId, Pepper};
use serde_json::Value;
use shared_types::{Instant, OrganizationId, ProjectId, SourceId};

use super::Refused;
use super::owner::{Method, OwnerClient};
use crate::home::{Home, Store};
use crate::roles::iam::{self, Iam, KeyCreate, OrganizationAdd, ProjectAdd, SourceEnroll};
use crate::{Common, Format, Outcome, access};

/// What of organizations.
#[derive(Subcommand)]
pub enum OrganizationCommand {
    /// Register an organization; only customers' keys and projects need that, metering does not.
    Add {
        /// Its id, as events and contracts name it.
        organization: OrganizationId,
        /// What people call it; its id by default. It cannot be changed.
        #[arg(long)]
        name: Option<String>,
    },
    /// List registered organizations.
    List,
}

/// What of projects.
#[derive(Subcommand)]
pub enum ProjectCommand {
    /// Register a project of a registered organization.
    Add {
        /// Whose it is.
        organization: OrganizationId,
        /// Its id, as events name it.
        project: ProjectId,
        /// What people call it; its id by default. It cannot be changed.
        #[arg(long)]
        name: Option<String>,
    },
    /// List registered projects.
    List,
}

/// What of keys.
#[derive(Subcommand)]
pub enum KeyCommand {
    /// Make a key; it is shown this once.
    Create {
        /// Whose: a name of a person or program. It has one role for ever, and may have several keys.
        principal: String,
        /// operator, finance, auditor, customer or agent.
        #[arg(long)]
        role: String,
        /// The organization of a customer; it must be registered.
        #[arg(long)]
        organization: Option<OrganizationId>,
        /// A source that an agent may send as; it must be enrolled. May be given several times.
        #[arg(long = "source")]
        sources: Vec<SourceId>,
        /// An action that the key is made for, for example usage.reading.read; all that the role may by default. May be given several times.
        #[arg(long = "scope")]
        scopes: Vec<String>,
        /// From when on it is refused, for example 2027-01-01T00:00:00Z; never by default.
        #[arg(long, value_parser = Instant::parse)]
        expires_at: Option<Instant>,
    },
    /// List keys; their secrets are nowhere.
    List,
    /// Revoke a key: it is refused from now on, for ever.
    Revoke {
        /// Its first 17 characters, as `list` shows them.
        key: String,
    },
}

/// What of sources.
#[derive(Subcommand)]
pub enum SourceCommand {
    /// Enrol a source, or let it report for more organizations.
    Enroll {
        /// Its id, as events name it.
        source: SourceId,
        /// An organization that it may report for. May be given several times.
        #[arg(long = "organization")]
        organizations: Vec<OrganizationId>,
        /// It may report for every organization.
        #[arg(long, conflicts_with = "organizations")]
        any_organization: bool,
        /// It numbers what it sends without gaps, for ever. Refused so far: nothing checks the numbers yet.
        #[arg(long)]
        sequenced: bool,
    },
    /// List enrolled sources.
    List,
}

/// Where the books are written.
enum Books {
    /// By the server that owns the home.
    Owner(OwnerClient),
    /// Here; the home is owned meanwhile.
    Own(Iam, crate::home::Lock),
}

impl Books {
    async fn open(home: &Home) -> anyhow::Result<Self> {
        if let Some(owner) = OwnerClient::of(home)? {
            return Ok(Self::Owner(owner));
        }
        let lock = home.lock(None)?;
        let pepper = Pepper::from_bytes(&home.secrets()?.pepper);
        Ok(Self::Own(Iam::new(home.database(Store::Books).await?, pepper), lock))
    }
}

/// Makes something: `$route` of the owner, or `$make` of the own books under a permit for `$action`.
macro_rules! make {
    ($home:expr, $action:expr, $route:literal, $make:ident, $wanted:expr) => {
        match Books::open($home).await? {
            Books::Owner(owner) => owner.ask(Method::Post(serde_json::to_value($wanted)?), $route).await?,
            Books::Own(iam, _lock) => iam.$make(&access::local($action)?, $wanted).await.map_err(|error| said(&error))?,
        }
    };
}

/// Runs a command about organizations.
pub async fn organization(command: OrganizationCommand, common: &Common) -> anyhow::Result<Outcome> {
    let home = Home::open(&common.home)?;
    match command {
        OrganizationCommand::Add { organization, name } => {
            let wanted = OrganizationAdd { name: name.unwrap_or_else(|| organization.to_string()), organization };
            let made = make!(&home, Action::OrganizationAdd, "/v1/organizations", organization_add, &wanted);
            show(&made, common, |made| format!("organization {} ({}) is registered", text(made, "organization"), text(made, "name")));
        }
        OrganizationCommand::List => list(&home, common, Action::OrganizationRead, &["organization", "name", "created_at"]).await?,
    }
    Ok(Outcome::Done)
}

/// Runs a command about projects.
pub async fn project(command: ProjectCommand, common: &Common) -> anyhow::Result<Outcome> {
    let home = Home::open(&common.home)?;
    match command {
        ProjectCommand::Add { organization, project, name } => {
            let wanted = ProjectAdd { name: name.unwrap_or_else(|| project.to_string()), organization, project };
            let made = make!(&home, Action::ProjectAdd, "/v1/projects", project_add, &wanted);
            show(&made, common, |made| format!("project {} of {} is registered", text(made, "project"), text(made, "organization")));
        }
        ProjectCommand::List => list(&home, common, Action::ProjectRead, &["organization", "project", "name", "created_at"]).await?,
    }
    Ok(Outcome::Done)
}

/// Runs a command about keys.
pub async fn key(command: KeyCommand, common: &Common) -> anyhow::Result<Outcome> {
    let home = Home::open(&common.home)?;
    match command {
        KeyCommand::Create { principal, role, organization, sources, scopes, expires_at } => {
            let scopes = (!scopes.is_empty()).then(|| scopes.into_iter().collect());
            let wanted = KeyCreate { principal, role, organization, sources: sources.into_iter().collect(), scopes, expires_at };
            let made = make!(&home, Action::KeyCreate, "/v1/keys", key_create, &wanted);
            show(&made, common, |made| {
                let of = made.get("organization").and_then(Value::as_str).map_or_else(String::new, |found| format!(" of {found}"));
                format!(
                    "{}\nkey {} of {}, {}{of}; its text is shown this once and kept nowhere",
                    text(made, "secret"),
                    text(made, "key"),
                    text(made, "principal"),
                    text(made, "role")
                )
            });
        }
        KeyCommand::List => {
            let columns = ["key", "last4", "state", "principal", "role", "organization", "sources", "scopes", "created_at", "expires_at"];
            list(&home, common, Action::KeyRead, &columns).await?;
        }
        KeyCommand::Revoke { key } => {
            let key = KeyId::parse(&key).ok_or_else(|| {
                Refused(format!("{:?} is not the first 17 characters of a key", key.chars().take(20).collect::<String>()))
            })?;
            let made = match Books::open(&home).await? {
                Books::Owner(owner) => owner.ask(Method::Delete, &format!("/v1/keys/{key}")).await?,
                Books::Own(iam, _lock) => iam.key_revoke(&access::local(Action::KeyRevoke)?, &key).await.map_err(|error| said(&error))?,
            };
            show(&made, common, |made| format!("key {} of {} is revoked", text(made, "key"), text(made, "principal")));
        }
    }
    Ok(Outcome::Done)
}

/// Runs a command about sources.
pub async fn source(command: SourceCommand, common: &Common) -> anyhow::Result<Outcome> {
    let home = Home::open(&common.home)?;
    match command {
        SourceCommand::Enroll { source, organizations, any_organization, sequenced } => {
            let wanted = SourceEnroll { source, sequenced, organizations: organizations.into_iter().collect(), any_organization };
            let made = make!(&home, Action::SourceEnroll, "/v1/sources", source_enroll, &wanted);
            show(&made, common, |made| format!("source {} is enrolled for {}", text(made, "source"), reported(made)));
        }
        SourceCommand::List => {
            let columns = ["source", "sequenced", "any_organization", "organizations", "created_at"];
            list(&home, common, Action::SourceRead, &columns).await?;
        }
    }
    Ok(Outcome::Done)
}

fn reported(source: &Value) -> String {
    match source.get("any_organization").and_then(Value::as_bool) {
        Some(true) => "any organization".to_owned(),
        _ => text(source, "organizations"),
    }
}

/// What IAM refuses is a refusal of the input; what fails is a failure.
fn said(error: &platform_iam::IamError) -> anyhow::Error {
    use platform_iam::IamError;
    match error {
        IamError::Db(_) | IamError::Audit(_) | IamError::Damaged { .. } | IamError::Permit { .. } => {
            let cause = std::error::Error::source(error).map_or_else(String::new, |cause| format!(": {cause}"));
            anyhow::anyhow!("{error}{cause}")
        }
        refused => Refused(refused.to_string()).into(),
    }
}

fn show(made: &Value, common: &Common, human: impl Fn(&Value) -> String) {
    match common.format {
        Format::Json => println!("{made}"),
        _ => println!("{}", human(made)),
    }
}

/// Lists what the OS user may see, read beside an owner or without one.
async fn list(home: &Home, common: &Common, action: Action, columns: &[&str]) -> anyhow::Result<()> {
    let books = home.database_read_only(Store::Books).await?;
    let rows = iam::list(&books, &access::local(action)?).await.map_err(|error| said(&error))?;
    if common.format == Format::Json {
        println!("{rows}");
        return Ok(());
    }
    let rows = rows.as_array().map(Vec::as_slice).unwrap_or_default();
    let head = columns.iter().map(|column| (*column).to_owned()).collect();
    let cells: Vec<Vec<String>> = rows.iter().map(|row| columns.iter().map(|column| text(row, column)).collect()).collect();
    print!("{}", table(head, cells));
    Ok(())
}

/// A field for people: lists separated by spaces, nothing as a dash.
fn text(row: &Value, field: &str) -> String {
    let shown = match row.get(field) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" "),
        Some(Value::Bool(fact)) => (if *fact { "yes" } else { "no" }).to_owned(),
        Some(Value::Number(number)) => number.to_string(),
        _ => String::new(),
    };
    if shown.is_empty() { "-".to_owned() } else { shown }
}

fn table(head: Vec<String>, rows: Vec<Vec<String>>) -> String {
    let lines: Vec<Vec<String>> = std::iter::once(head).chain(rows).collect();
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| lines.iter().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |cells: &Vec<String>| {
        let padded: Vec<String> = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        format!("{}\n", padded.join("  ").trim_end())
    };
    lines.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lists_are_aligned_and_what_is_not_there_is_a_dash() {
        let rows =
            [json!({"key": "tally_1", "scopes": ["a", "b"], "expires_at": null}), json!({"key": "t", "scopes": [], "expires_at": "x"})];
        let columns = ["key", "scopes", "expires_at"];
        let cells = rows.iter().map(|row| columns.iter().map(|column| text(row, column)).collect()).collect();
        let shown = table(columns.map(str::to_owned).to_vec(), cells);
        assert_eq!(shown, "key      scopes  expires_at\ntally_1  a b     -\nt        -       x\n");
    }
}
