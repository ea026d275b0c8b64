//! `ledger.postings`, `ledger.balances`, `ledger.entries`.

use std::sync::Arc;

use arrow::datatypes::DataType;
use platform_catalog::{Audience, Description, ReadModel};
use platform_ledger::{AccountId, Cause};

use super::Readers;
use super::rows::{self, Cell, MONEY, instant, model};

/// All of them.
pub fn models(readers: &Readers) -> anyhow::Result<Vec<Arc<dyn ReadModel>>> {
    Ok(vec![postings(readers)?, balances(readers)?, entries(readers)?])
}

fn postings(readers: &Readers) -> anyhow::Result<Arc<dyn ReadModel>> {
    let books = readers.books.clone();
    model(
        "ledger.postings",
        "platform-ledger",
        "One row for each balanced posting.",
        Audience::Operator,
        &[
            ("seq", DataType::Int64, false, "Dense number."),
            ("entry_no", DataType::Int64, false, "The entry that booked it."),
            ("debit_account", DataType::Utf8, false, "Account debited."),
            ("credit_account", DataType::Utf8, false, "Account credited."),
            ("asset", DataType::Utf8, false, "What the amount counts."),
            ("amount", MONEY, false, "Above zero."),
            ("kind", DataType::Utf8, false, "post or rounding."),
            ("accounting_period", DataType::Int32, false, "Month of the books, yyyymm."),
            ("organization", DataType::Utf8, true, "Key: who owes."),
            ("contract_line", DataType::Utf8, true, "Key: contract and SKU."),
            ("service_period", DataType::Int32, true, "Key: month of usage, yyyymm."),
            ("quantity", DataType::Decimal128(38, 9), true, "The quantity behind the amount."),
            ("effective_at", instant(), false, "The latest acceptance of the usage behind it."),
        ],
        move || {
            let books = books.clone();
            Box::pin(async move {
                let mut tx = books.read().await?;
                let mut rows = Vec::new();
                let mut after = 0;
                loop {
                    let page = platform_ledger::postings(&mut tx, after, 10_000).await?;
                    let Some(last) = page.last() else { return Ok(rows) };
                    after = last.seq;
                    for booked in &page {
                        let (posting, key) = (&booked.posting, booked.posting.key());
                        rows.push(vec![
                            booked.seq.into(),
                            booked.entry_no.into(),
                            posting.debit().as_str().into(),
                            posting.credit().as_str().into(),
                            posting.asset().as_str().into(),
                            posting.amount().into(),
                            posting.kind().name().into(),
                            posting.accounting_period().into(),
                            key.map(|key| key.organization.as_str()).into(),
                            key.map(|key| key.contract_line.as_str()).into(),
                            key.map(|key| key.service_period).into(),
                            posting.quantity().into(),
                            posting.effective_at().into(),
                        ]);
                    }
                }
            })
        },
    )
}

fn balances(readers: &Readers) -> anyhow::Result<Arc<dyn ReadModel>> {
    let books = readers.books.clone();
    let columns = [
        ("account", DataType::Utf8, false, "The account."),
        ("organization", DataType::Utf8, true, "Whose account it is; null for the operator's own."),
        ("asset", DataType::Utf8, false, "What the amounts count."),
        ("debits", MONEY, false, "Sum of what was debited."),
        ("credits", MONEY, false, "Sum of what was credited."),
        ("balance", MONEY, false, "Debits minus credits."),
        ("last_seq", DataType::Int64, false, "The last posting that touched it."),
    ];
    let description = Description::new(
        "ledger.balances",
        "platform-ledger",
        "One row for each account and asset.",
        Audience::Organizations { column: "organization" },
        rows::schema(&columns),
        &rows::sentences(&columns),
    )?
    // The ledger nets what it folds together, and when it folds depends on everybody's usage: only the balance is one organization's own.
    .for_the_operator(&["debits", "credits", "last_seq"])?;
    Ok(rows::described(description, move || {
        let books = books.clone();
        Box::pin(async move {
            let balances = platform_ledger::balances(&mut books.read().await?).await?;
            Ok(balances
                .into_iter()
                .map(|balance| {
                    vec![
                        balance.account.as_str().into(),
                        organization_of(&balance.account).into(),
                        balance.asset.as_str().into(),
                        Cell::Decimal(balance.debits),
                        Cell::Decimal(balance.credits),
                        Cell::Decimal(balance.debits - balance.credits),
                        balance.last_seq.into(),
                    ]
                })
                .collect())
        })
    }))
}

/// The second segment of `org/<organization>/<what>`.
fn organization_of(account: &AccountId) -> Option<String> {
    match account.segments().as_slice() {
        [org, organization, _, ..] if org == "org" => Some(organization.clone()),
        _ => None,
    }
}

fn entries(readers: &Readers) -> anyhow::Result<Arc<dyn ReadModel>> {
    let books = readers.books.clone();
    model(
        "ledger.entries",
        "platform-ledger",
        "One row for each entry: the postings of one cut or command, chained.",
        Audience::Operator,
        &[
            ("entry_no", DataType::Int64, false, "Dense number."),
            ("first_seq", DataType::Int64, false, "First posting."),
            ("last_seq", DataType::Int64, false, "Last posting."),
            ("first_batch", DataType::Int64, true, "First batch covered; null for a command."),
            ("last_batch", DataType::Int64, true, "Last batch covered; null for a command."),
            ("command", DataType::Utf8, true, "Digest of the command; null for batches."),
            ("previous", DataType::Utf8, false, "Digest of the entry before."),
            ("digest", DataType::Utf8, false, "SHA-256 over header and postings."),
        ],
        move || {
            let books = books.clone();
            Box::pin(async move {
                let entries = platform_ledger::entries(&mut books.read().await?).await?;
                Ok(entries
                    .into_iter()
                    .map(|entry| {
                        let (first_batch, last_batch, command) = match entry.cause {
                            Cause::Batches { first, last } => (first.0.into(), last.0.into(), Cell::Null),
                            Cause::Command { digest } => (Cell::Null, Cell::Null, digest.into()),
                        };
                        vec![
                            entry.number.into(),
                            entry.first_seq.into(),
                            entry.last_seq.into(),
                            first_batch,
                            last_batch,
                            command,
                            entry.previous.into(),
                            entry.digest.into(),
                        ]
                    })
                    .collect())
            })
        },
    )
}

#[cfg(test)]
mod tests {
    use platform_ledger::AccountId;

    use super::organization_of;

    #[test]
    fn an_account_tells_whose_it_is() {
        for organization in ["acme", "a/b", "a%2Fb", "%"] {
            let account = AccountId::of(&["org", organization, "credit", "grant-1"]).unwrap();
            assert_eq!(organization_of(&account).as_deref(), Some(organization));
        }
        for account in [&["revenue", "gpu"][..], &["org", "acme"]] {
            assert_eq!(organization_of(&AccountId::of(account).unwrap()), None);
        }
    }
}
