//! `tally demo`: the whole path on generated usage, through the same code as everything else.

mod book;

use std::time::Instant as Timer;

use clap::Args;
use platform_billing::LineKind;
use platform_catalog::{AsOf, Scope};
use platform_iam::Action;
use platform_ingest::wire::RawEvent;
use platform_query::{Limits, render};
use platform_registry::Version;
use serde_json::json;
use shared_types::Month;

use super::Refused;
use super::invoice::changes::Compared;
use crate::answers::Answers;
use crate::forecast::{self, Asked};
use crate::home::{Home, Store};
use crate::read_models::Readers;
use crate::roles::{OnFailure, Running};
use crate::{Common, Format, Outcome, access, bundles, check, story};

/// Arguments of `tally demo`.
#[derive(Args)]
pub struct DemoArguments {
    /// The same seed gives the same usage, charges and totals.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Days of usage, from 2026-09-15.
    #[arg(long, default_value_t = 45)]
    days: u32,
    /// Distinct events.
    #[arg(long, default_value_t = 90_000)]
    events: u64,
}

/// Events in one append.
const EVENTS: usize = 1_000;

/// What the demo asks once everything is booked.
const QUESTIONS: [(&str, &str); 4] = [
    (
        "What became of every record of the stream",
        "SELECT outcome, reason, count(*) AS records FROM usage.events GROUP BY outcome, reason ORDER BY outcome, reason",
    ),
    (
        "What the five largest customers owe, by month of usage",
        "SELECT organization, service_period, currency, count(*) AS readings, sum(amount) AS amount FROM usage.charges \
         WHERE fate = 'charged' GROUP BY organization, service_period, currency ORDER BY amount DESC LIMIT 5",
    ),
    (
        "The books: debits equal credits, to the last digit",
        "SELECT asset, sum(debits) AS debits, sum(credits) AS credits FROM ledger.balances GROUP BY asset",
    ),
    ("What does not add up (must be empty)", "SELECT * FROM sys.conservation"),
];

/// Runs the demo in a fresh home.
pub async fn run(arguments: DemoArguments, common: &Common) -> anyhow::Result<Outcome> {
    let started = Timer::now();
    let home = Home::create(&common.home)?;
    let version = Version::check(&book::documents(book::Price::Slipped)?).map_err(|problems| Refused(problems.to_string()))?;
    let quiet = common.format == Format::Json;
    let say = |text: String| {
        if !quiet {
            println!("{text}");
        }
    };
    say(format!("home      {}", home.root().display()));
    let running = Running::start(&home, OnFailure::End).await?;
    let published = running.publish(access::local(Action::RegistryPublish)?, version, false).await?;
    say(format!("registry  version {} is in force", published.address));

    let options = datasets::Options { seed: arguments.seed, days: arguments.days, events: arguments.events, ..Default::default() };
    let events: Vec<String> = datasets::events(options).collect();
    let sending = Timer::now();
    for chunk in events.chunks(EVENTS) {
        send(&running, chunk).await?;
    }
    // Every fifth event once more: a source that did not hear our answer.
    let again: Vec<String> = events.iter().step_by(5).cloned().collect();
    for chunk in again.chunks(EVENTS) {
        send(&running, chunk).await?;
    }
    let sent = events.len().saturating_add(again.len());
    say(format!(
        "intake    {sent} records are durable ({} ms), {} of them sent twice on purpose",
        sending.elapsed().as_millis(),
        again.len()
    ));
    let folding = Timer::now();
    running.drain().await?;
    say(format!("path      rated, committed, booked, catalogued and sealed ({} ms)", folding.elapsed().as_millis()));
    let late = close_months(&home, &events, &say).await?;

    let engine = super::sql::engine(&home).await?;
    for (title, sql) in QUESTIONS {
        let answer = engine.query(sql, &Scope::Operator, AsOf(None), Limits::default()).await?;
        let out = render(&answer, platform_query::Format::Table)?;
        say(format!("\n{title}\n  {sql}\n{}", String::from_utf8_lossy(&out).trim_end()));
    }
    let report = check::everything(&Readers::open(&home).await?).await?;
    for violation in &report.violations {
        println!("{}: {}: {}", violation.check, violation.subject, violation.detail);
    }
    say(format!(
        "\ncheck     {} batches, {} positions, {} readings: {} violations",
        report.batches,
        report.events,
        report.charges,
        report.violations.len()
    ));
    say(format!("done in {} ms. Now try:\n{}", started.elapsed().as_millis(), suggestions(&home)));
    if quiet {
        println!(
            "{}",
            json!({
                "home": home.root(), "version": published.address, "records": sent + late, "batches": report.batches,
                "readings": report.charges, "violations": report.violations.len(), "milliseconds": started.elapsed().as_millis().to_string(),
            })
        );
    }
    Ok(if report.violations.is_empty() { Outcome::Done } else { Outcome::Found })
}

/// Closes the first month, sends usage of it that comes late, closes the second, and shows the largest invoice that adjusts the first; how many
/// events came late.
async fn close_months(home: &Home, events: &[String], say: &impl Fn(String)) -> anyhow::Result<usize> {
    let (first, second) = (Month::parse("2026-09")?, Month::parse("2026-10")?);
    let closing = Timer::now();
    let running = Running::start(home, OnFailure::End).await?;
    running.close(access::local(Action::PeriodClose)?, first).await?;
    let late: Vec<String> = events.iter().filter_map(|event| late_copy(event, first)).step_by(LATE).collect();
    send(&running, &late).await?;
    running.drain().await?;
    mend(home, say).await?;
    let running = Running::start(home, OnFailure::End).await?;
    running.close(access::local(Action::PeriodClose)?, second).await?;
    running.drain().await?;
    foresee(home, say).await?;
    let mut books = home.database_read_only(Store::Books).await?.read().await?;
    for close in platform_billing::closes(&mut books).await? {
        say(format!("close     {}: {}", close.period, super::period::sentence(&close)));
    }
    say(format!("          {} events of {first} came after its close ({} ms)", late.len(), closing.elapsed().as_millis()));
    let all = platform_billing::invoices(&mut books).await?;
    if let Some(credited) =
        all.iter().find(|stored| stored.invoice.organization.as_str() == book::CUSTOMER && stored.invoice.period == second)
    {
        say(format!(
            "\nThe next invoice of {}: what the slip cost in {first} is given back, and the support fee stands in it",
            book::CUSTOMER
        ));
        for line in credited.invoice.lines.iter().filter(|line| [book::GPU, book::SUPPORT].contains(&line.sku.as_str())) {
            say(format!("  {}  {}  {} {}", line.service_period, line.contract_line, credited.invoice.currency, line.amount));
        }
    }
    let mut adjusted = all.clone();
    adjusted.retain(|stored| {
        // What was rated again is shown above.
        let again = stored.invoice.organization.as_str() == book::CUSTOMER;
        !again && stored.invoice.lines.iter().any(|line| line.kind == LineKind::Adjustment)
    });
    if let Some(largest) = adjusted.into_iter().max_by_key(|stored| stored.invoice.total) {
        let answers = Answers::open(home).await?;
        say(format!(
            "\nAn invoice of the second month, with what came late for the first\n{}",
            super::invoice::page(&largest, &[], &story::measured(&answers, &largest.invoice).await?).trim_end()
        ));
        let before =
            all.into_iter().find(|stored| stored.invoice.organization == largest.invoice.organization && stored.invoice.period == first);
        if let Some(before) = before {
            let compared = Compared::of(&answers, before, largest.clone()).await?;
            say(format!("\n{}", compared.page()));
        }
        if largest.issue.is_some() {
            let proving = Timer::now();
            let folder = home.path(BUNDLE);
            let made = bundles::seal(home, largest.invoice.invoice_id.as_str()).await?;
            bundles::write(&made.sealed, &folder)?;
            say(format!(
                "bundle    {}: {} readings and what proves them, {} bytes in {} ({} ms); VERIFY.md in it says how to check them without us",
                made.issue.number,
                made.readings,
                made.bytes(),
                folder.display(),
                proving.elapsed().as_millis()
            ));
        }
    }
    Ok(late.len())
}

/// Corrects the price that slipped: shows what that changes, books it, and finds nothing more.
async fn mend(home: &Home, say: &impl Fn(String)) -> anyhow::Result<()> {
    let rating = Timer::now();
    let folder = home.path("mended-book");
    std::fs::create_dir_all(&folder)?;
    for file in book::documents(book::Price::Mended)? {
        std::fs::write(folder.join(&file.name), &file.text)?;
    }
    let folder = folder.display().to_string();
    say(format!(
        "\nA price was ten times too high: {} paid {} instead of {} an hour. What the corrected book changes\n  tally rerate --book mended-book --preview",
        book::CUSTOMER,
        book::SLIPPED,
        book::MENDED
    ));
    for (shown, preview) in [("", true), ("The same, booked\n  tally rerate --book mended-book", false), ("And again", false)] {
        if !shown.is_empty() {
            say(shown.to_owned());
        }
        let page = super::rerate::page(home, &folder, preview).await?;
        page.lines().filter(|line| !line.trim_start().starts_with("cause:")).for_each(|line| say(format!("    {line}")));
    }
    say(format!("rerate    shown, booked and asked again ({} ms)", rating.elapsed().as_millis()));
    Ok(())
}

/// What the second month would come to, said on its twentieth day, and what it came to.
async fn foresee(home: &Home, say: &impl Fn(String)) -> anyhow::Result<()> {
    let readers = Readers::open(home).await?;
    let version = platform_registry::store::active(&mut readers.books.read().await?).await?;
    let version = version.ok_or_else(|| Refused("no registry version is in force".to_owned()))?;
    let asked = Asked {
        organization: Some(book::CUSTOMER.parse()?),
        period: None,
        as_of: forecast::instant_of(AS_OF).map_err(Refused)?,
        version,
        memory_bytes: home.settings.query.memory_bytes_max,
    };
    let made = forecast::of(&readers, &asked).await?;
    say(format!(
        "\nWhat October would come to for {}, said on the 20th\n  tally forecast --as-of {AS_OF} --organization {}",
        book::CUSTOMER,
        book::CUSTOMER
    ));
    made.text()
        .lines()
        .filter(|line| line.starts_with("organization") || line.contains(book::GPU) || line.contains(book::SUPPORT))
        .for_each(|line| say(format!("    {line}")));
    let sql =
        format!("SELECT sum(amount) AS amount FROM usage.charges WHERE organization = '{}' AND service_period = 202610", book::CUSTOMER);
    let engine = super::sql::engine(home).await?;
    let answer = engine.query(&sql, &Scope::Operator, AsOf(None), Limits::default()).await?;
    let rows = crate::answers::rows(&answer)?;
    say(format!("  it came to {}", rows.first().and_then(|row| row.decimal("amount")).unwrap_or_default()));
    Ok(())
}

/// The instant of the demo's forecast.
const AS_OF: &str = "2026-10-20";

/// Where in its home the demo puts the bundle of the invoice that it shows.
const BUNDLE: &str = "bundle";

/// One in so many events of the first month comes once more as another event, after its close.
const LATE: usize = 40;

/// An event of the month as another one of the same kind.
fn late_copy(event: &str, month: Month) -> Option<String> {
    let mut event: serde_json::Value = serde_json::from_str(event).ok()?;
    if !event.get("time")?.as_str()?.starts_with(&month.to_string()) {
        return None;
    }
    let id = format!("{}-late", event.get("id")?.as_str()?);
    event.as_object_mut()?.insert("id".to_owned(), id.into());
    Some(event.to_string())
}

async fn send(running: &Running, events: &[String]) -> anyhow::Result<()> {
    let raw = events.iter().map(|event| RawEvent::new(event.clone().into_bytes())).collect();
    running.intake.append(&access::local(Action::EventsSend)?, raw).await?;
    Ok(())
}

fn suggestions(home: &Home) -> String {
    let binary = std::env::current_exe().map_or_else(|_| "tally".to_owned(), |path| path.display().to_string());
    let at = format!("{binary} --home {}", home.root().display());
    [
        format!(
            "  {at} sql \"SELECT meter, sum(quantity) AS quantity, sum(amount) AS amount FROM usage.charges GROUP BY meter ORDER BY meter\""
        ),
        format!("  {at} sql \"SHOW TABLES\""),
        format!("  {at} quarantine list --limit 5"),
        format!("  {at} invoice list --period 2026-10"),
        format!("  {at} evidence key"),
        format!("  {at} period list"),
        format!("  {at} registry show"),
        format!("  {at} check"),
        format!("  {at} rebuild ledger --compare"),
        format!("  {at} lake attach"),
        format!("  {at} serve --listen 127.0.0.1:0"),
    ]
    .join("\n")
}
