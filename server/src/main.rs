//! `tally`: the one binary. It parses the command line, runs a command, and turns its end into an exit code.

mod access;
mod answers;
mod book;
mod bundles;
mod check;
mod clock;
mod commands;
mod connections;
mod contract;
mod exports;
mod forecast;
mod home;
mod kept;
mod lake;
mod levels;
mod openapi;
mod problem;
mod read_models;
mod registries;
mod rerating;
mod roles;
mod routes;
mod story;

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Metering, rating, billing and evidence for AI factories.
///
/// Exit codes: 0 done; 1 a check found something or the input was refused; 2 wrong usage of the command line; 3 the home cannot be
/// used (missing, owned by another process, damaged); 4 anything else failed.
#[derive(Parser)]
#[command(name = "tally", version, propagate_version = true, arg_required_else_help = true)]
struct Cli {
    /// The home folder: settings, stream, databases, files.
    #[arg(long, global = true, env = "TALLY_HOME", default_value = "./.tally")]
    home: PathBuf,
    /// Output for people or for scripts.
    #[arg(long, global = true, value_enum, default_value_t = Format::Human)]
    format: Format,
    #[command(subcommand)]
    command: Command,
}

/// How a command prints its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Aligned text.
    #[value(alias = "text")]
    Human,
    /// The same as `human` (for `sql`).
    Table,
    /// One JSON document.
    Json,
    /// Comma-separated values (`sql` and `invoice` only).
    Csv,
    /// An Arrow IPC stream on standard output (`sql` only).
    Arrow,
}

#[derive(Subcommand)]
enum Command {
    /// Create a home folder with fresh secrets.
    Init,
    /// Check, publish and show registry versions: units, meters, SKUs, prices, contracts.
    #[command(subcommand)]
    Registry(commands::registry::RegistryCommand),
    /// Send a CSV or JSONL file (plain, .gz, .zst) through the stream, as a map says.
    Ingest(commands::ingest::IngestArguments),
    /// Run every role in this process and listen for events.
    Serve(commands::serve::ServeArguments),
    /// Work until everything accepted is committed and folded.
    Drain,
    /// Rate what was rated before again, under another book: what would change, by organization, line and cause, and its booking.
    Rerate(commands::rerate::RerateArguments),
    /// What a running month will come to at its end, by organization, line and currency. Nothing is booked.
    Forecast(commands::forecast::ForecastArguments),
    /// Close a month and all before it: its books are locked, its invoices drafted and issued.
    Close(commands::close::CloseArguments),
    /// Invoices of closed months.
    #[command(subcommand)]
    Invoice(commands::invoice::InvoiceCommand),
    /// Closed months, and what the second engine said of them.
    #[command(subcommand)]
    Period(commands::period::PeriodCommand),
    /// Drain, then merge small files into large ones and remove replaced files that nobody can read any more.
    Compact,
    /// Ask in SQL, with exact money.
    Sql(commands::sql::SqlArguments),
    /// Why was it billed, or not? An event, a charge or a line of an invoice: the whole computation on one page.
    Explain(commands::explain::ExplainArguments),
    /// The OpenAPI document, for `cargo xtask generate`.
    #[command(hide = true)]
    Openapi(openapi::OpenapiArguments),
    /// Check conservation, chains and that every fold equals the log; exit 1 and the offending rows otherwise.
    Check,
    /// Rebuild a fold from the batch log.
    Rebuild(commands::rebuild::RebuildArguments),
    /// The lake for other tools.
    #[command(subcommand)]
    Lake(commands::lake::LakeCommand),
    /// Who owes: registered organizations.
    #[command(subcommand)]
    Organization(commands::iam::OrganizationCommand),
    /// Sub-accounts of organizations.
    #[command(subcommand)]
    Project(commands::iam::ProjectCommand),
    /// API keys: who may ask the server for what.
    #[command(subcommand)]
    Key(commands::iam::KeyCommand),
    /// Enrolled sources: who may report usage, and for whom.
    #[command(subcommand)]
    Source(commands::iam::SourceCommand),
    /// What was quarantined, and why.
    #[command(subcommand)]
    Quarantine(commands::quarantine::QuarantineCommand),
    /// What others verify without us: bundles, exports for the second opinion, the log's key.
    #[command(subcommand)]
    Evidence(commands::evidence::EvidenceCommand),
    /// The whole path on generated usage: a home, a registry, events, charges, books, proofs.
    Demo(commands::demo::DemoArguments),
}

/// What every command gets.
#[derive(Clone, Args)]
pub struct Common {
    /// The home folder.
    #[arg(skip)]
    pub home: PathBuf,
    /// Output format.
    #[arg(skip = Format::Human)]
    pub format: Format,
}

/// How a command ended, short of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It did what it was asked.
    Done,
    /// A check found something, or the input was refused; it was printed.
    Found,
}

/// Ends in silence where whoever reads the output has read enough, as `head` does.
fn end_with_the_reader() {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let text = panic.payload().downcast_ref::<String>();
        if text.is_some_and(|text| text.starts_with("failed printing to stdout: Broken pipe")) {
            // What a shell says of a program that a closed pipe ended.
            std::process::exit(141);
        }
        hook(panic);
    }));
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if !matches!(cli.command, Command::Serve(_)) {
        end_with_the_reader();
    }
    // A command prints its error once, at its end; what a query refuses is not news of the log.
    let filter = tracing_subscriber::EnvFilter::try_from_env("TALLY_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn,platform_query=off"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .log_internal_errors(false)
        .init();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&format!("could not start: {error}"));
            return ExitCode::from(4);
        }
    };
    let common = Common { home: cli.home, format: cli.format };
    match runtime.block_on(run(cli.command, &common)) {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Found) => ExitCode::from(1),
        Err(error) => {
            complain(&format!("{error:#}"));
            let code = if error.chain().any(|cause| cause.is::<home::HomeError>()) {
                3
            } else if error.chain().any(|cause| cause.is::<commands::Refused>()) {
                1
            } else {
                4
            };
            ExitCode::from(code)
        }
    }
}

/// An error for a person. A standard error that cannot be written to must not hide the exit code.
fn complain(text: &str) {
    let _ = writeln!(std::io::stderr(), "tally: {text}");
}

async fn run(command: Command, common: &Common) -> anyhow::Result<Outcome> {
    match command {
        Command::Init => commands::init::run(common).await,
        Command::Registry(command) => commands::registry::run(command, common).await,
        Command::Ingest(arguments) => commands::ingest::run(arguments, common).await,
        Command::Serve(arguments) => commands::serve::run(arguments, common).await,
        Command::Drain => commands::drain::run(common).await,
        Command::Rerate(arguments) => commands::rerate::run(arguments, common).await,
        Command::Forecast(arguments) => commands::forecast::run(arguments, common).await,
        Command::Close(arguments) => commands::close::run(arguments, common).await,
        Command::Invoice(command) => commands::invoice::run(command, common).await,
        Command::Period(command) => commands::period::run(command, common).await,
        Command::Compact => commands::compact::run(common).await,
        Command::Sql(arguments) => commands::sql::run(arguments, common).await,
        Command::Explain(arguments) => commands::explain::run(arguments, common).await,
        Command::Openapi(arguments) => openapi::run(&arguments),
        Command::Check => commands::check::run(common).await,
        Command::Evidence(command) => commands::evidence::run(command, common).await,
        Command::Rebuild(arguments) => commands::rebuild::run(arguments, common).await,
        Command::Lake(command) => commands::lake::run(command, common).await,
        Command::Organization(command) => commands::iam::organization(command, common).await,
        Command::Project(command) => commands::iam::project(command, common).await,
        Command::Key(command) => commands::iam::key(command, common).await,
        Command::Source(command) => commands::iam::source(command, common).await,
        Command::Quarantine(command) => commands::quarantine::run(command, common).await,
        Command::Demo(arguments) => commands::demo::run(arguments, common).await,
    }
}
