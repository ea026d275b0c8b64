//! `tally close MONTH`: the close record enters every shard; behind it the month is locked, drafted and issued. Beside a server it asks the
//! server and waits; without one it runs the roles itself.

use std::time::{Duration, Instant as Timer};

use anyhow::bail;
use clap::Args;
use platform_billing::{Close, CloseError, Held};
use platform_iam::Action;
use serde_json::json;
use shared_types::Month;

use super::owner::{Method, OwnerClient};
use super::{Refused, period};
use crate::clock::now;
use crate::home::{Home, IssueWhen, Store};
use crate::roles::{OnFailure, Running};
use crate::{Common, Format, Outcome, access};

/// Arguments of `tally close`.
#[derive(Args)]
pub struct CloseArguments {
    /// The month, for example 2026-10. It and every month before it are closed for ever.
    #[arg(value_parser = Month::parse)]
    month: Month,
}

/// How long to wait for a server that drafts and issues.
const PATIENCE: Duration = Duration::from_secs(300);

/// Closes a month, waits until its invoices are there, and says what came of it.
pub async fn run(arguments: CloseArguments, common: &Common) -> anyhow::Result<Outcome> {
    let home = Home::open(&common.home)?;
    let month = arguments.month;
    refuse_running(month)?;
    match OwnerClient::of(&home)? {
        Some(owner) => {
            owner.ask(Method::Post(json!({})), &format!("/v1/periods/{month}/close")).await?;
            wait(&home, month).await?;
        }
        None => {
            let running = Running::start(&home, OnFailure::End).await?;
            running.close(access::local(Action::PeriodClose)?, month).await?;
            running.drain().await?;
        }
    }
    refuse_held(&home, month).await?;
    let close = find(&home, month).await?.ok_or_else(|| Refused(format!("{month} is not closed yet; run `tally close {month}` again")))?;
    match common.format {
        Format::Json => println!("{}", period::view(&close)),
        _ => {
            println!("{} is closed, with every month before it: {}", close.period, period::sentence(&close));
            println!("  tally invoice list --period {}", close.period);
        }
    }
    Ok(Outcome::Done)
}

/// A month that is not over has usage to come: it is not closed.
pub fn refuse_running(month: Month) -> Result<(), Refused> {
    match month.next() {
        Some(next) if next.start() <= now() => Ok(()),
        next => {
            let over = next.map_or_else(|| "never".to_owned(), |next| format!("at {}", next.start()));
            Err(Refused(format!("{month} cannot be closed: it is over {over}")))
        }
    }
}

async fn find(home: &Home, month: Month) -> anyhow::Result<Option<Close>> {
    let mut tx = home.database_read_only(Store::Books).await?.read().await?;
    match platform_billing::close_of(&mut tx, month).await {
        Ok(close) => Ok(Some(close)),
        Err(CloseError::Open { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Names the organizations that a month was closed without, because their invoices do not fit. Everyone else is invoiced.
async fn refuse_held(home: &Home, month: Month) -> anyhow::Result<()> {
    let held = platform_billing::held(&mut home.database_read_only(Store::Books).await?.read().await?).await?;
    let mut held = held.into_iter().filter(|held| held.period <= month);
    let Some(Held { organization, period, problem }) = held.next() else { return Ok(()) };
    let more = held.count();
    let others = if more == 0 { String::new() } else { format!(", nor are {more} others") };
    bail!(Refused(format!(
        "{month} is closed and everyone else is invoiced, but organization {organization} is not since {period}{others}: {problem}\n    remedy: \
         no amount beyond that can be invoiced; the organization's usage and its balance stand in the books"
    )));
}

/// Until the server has drafted, and issued if it is set to.
async fn wait(home: &Home, month: Month) -> anyhow::Result<()> {
    let bar = super::ingest::spinner("drafting and issuing");
    let started = Timer::now();
    loop {
        let close = find(home, month).await?;
        let wanted = match home.settings.billing.issue {
            IssueWhen::AtClose => "issued",
            IssueWhen::AfterSecondOpinion => "drafted",
        };
        if close.is_some_and(|close| close.stage() == wanted || close.stage() == "issued") {
            bar.finish_and_clear();
            return Ok(());
        }
        if started.elapsed() > PATIENCE {
            bail!("the server has not drafted {month} within {} seconds; `tally period list` shows how far it is", PATIENCE.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
