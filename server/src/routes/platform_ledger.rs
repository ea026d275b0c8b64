//! `GET /v1/balances`: the accounts of the books. Owned by platform-ledger.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use platform_catalog::{Comparison, Filter, FilterValue, Scope};
use platform_iam::Action;
use serde::{Deserialize, Serialize};

use super::{named, scope_of};
use crate::access::Caller;
use crate::answers::{Answers, Row};
use crate::contract::{Operation, wire};
use crate::problem::{Parameters, Problem};

/// Accounts of a page at most, and by default.
const PAGE_MAX: usize = 10_000;
const PAGE: usize = 1_000;

wire! {
    /// Which accounts.
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct BalancesQuery {
        /// Only the accounts of this organization. For a customer's key there is no other than its own.
        pub organization: Option<String>,
        /// Accounts of a page, 1 to 10000; 1000 by default.
        pub limit: Option<usize>,
        /// `next` of the page before.
        pub page: Option<String>,
    }
}

wire! {
    /// A page of accounts.
    #[derive(Serialize)]
    pub struct BalancesPage {
        /// By account and asset.
        pub balances: Vec<BalanceView>,
        /// Asks for the next page; null on the last one.
        pub next: Option<String>,
    }
}

wire! {
    /// One account in one asset.
    #[derive(Serialize)]
    pub struct BalanceView {
        /// The account, for example `org/acme/unbilled`.
        pub account: String,
        /// Whose it is; null for the operator's own accounts.
        pub organization: Option<String>,
        /// What the amounts count.
        pub asset: String,
        /// Debits minus credits.
        pub balance: String,
        /// Sum of the debits; for the operator.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub debits: Option<String>,
        /// Sum of the credits; for the operator.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub credits: Option<String>,
    }
}

/// What this domain answers.
pub fn operations() -> Vec<Operation> {
    vec![
        Operation::get("/v1/balances", "list_balances", "The balances of accounts, a page at a time, as the ledger has them now.")
            .query::<BalancesQuery>()
            .answers::<BalancesPage>(200, "A page.")
            .problem(400, "A parameter does not read; detail names it."),
    ]
}

/// The balances of accounts, a page at a time, as the ledger has them now.
pub async fn list_balances(
    State(answers): State<Answers>,
    caller: Caller,
    Parameters(query): Parameters<BalancesQuery>,
) -> Result<Json<BalancesPage>, Problem> {
    let organization = named(query.organization.as_deref()).map_err(|error| refused(error.to_string()))?;
    let permit = caller.authorize(Action::BalanceRead, caller.target(organization))?;
    page(&answers, &scope_of(&permit), &query).await.map(Json)
}

fn refused(detail: String) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "LEDGER-0020", "A parameter does not read.", detail)
}

async fn page(answers: &Answers, scope: &Scope, query: &BalancesQuery) -> Result<BalancesPage, Problem> {
    let limit = query.limit.unwrap_or(PAGE);
    if !(1..=PAGE_MAX).contains(&limit) {
        return Err(refused(format!("limit = {limit} is not 1 to {PAGE_MAX}")));
    }
    // An account holds no space: what follows the first one is the asset.
    let after = match query.page.as_deref() {
        None => None,
        Some(page) => {
            Some(page.split_once(' ').ok_or_else(|| refused(format!("page = {page:?} is no page; take `next` of the page before")))?)
        }
    };
    let mut filters = Vec::new();
    if let Some(organization) = &query.organization {
        let value = FilterValue::Text(organization.clone());
        filters.push(Filter { column: "organization".to_owned(), comparison: Comparison::Eq, value });
    }
    if let Some((account, _)) = after {
        let value = FilterValue::Text(account.to_owned());
        filters.push(Filter { column: "account".to_owned(), comparison: Comparison::Ge, value });
    }
    let columns = ["account", "organization", "asset", "balance", "debits", "credits"];
    let rows = answers.scan_rows("ledger.balances", scope, &columns, &filters).await?;
    let mut balances: Vec<BalanceView> = rows.iter().map(view).collect();
    balances.sort_by(|a, b| (&a.account, &a.asset).cmp(&(&b.account, &b.asset)));
    balances.retain(|balance| after.is_none_or(|after| (balance.account.as_str(), balance.asset.as_str()) > after));
    let more = balances.len() > limit;
    balances.truncate(limit);
    let next = balances.last().filter(|_| more).map(|last| format!("{} {}", last.account, last.asset));
    Ok(BalancesPage { balances, next })
}

fn view(row: &Row) -> BalanceView {
    let text = |column: &str| row.text(column).map(ToOwned::to_owned);
    BalanceView {
        account: text("account").unwrap_or_default(),
        organization: text("organization"),
        asset: text("asset").unwrap_or_default(),
        balance: row.decimal("balance").unwrap_or_default(),
        debits: row.decimal("debits"),
        credits: row.decimal("credits"),
    }
}
