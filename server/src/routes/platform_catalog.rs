//! `GET /v1/usage`: how much was used and what it came to, by bucket and group. Owned by platform-catalog.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use platform_catalog::Scope;
use platform_iam::Action;
use serde::{Deserialize, Serialize};
use shared_types::{Digest, Instant};

use super::{named, scope_of};
use crate::access::Caller;
use crate::answers::{Answers, Row};
use crate::contract::{Operation, wire};
use crate::problem::{Parameters, Problem};

/// Rows of a page at most, and by default.
const PAGE_MAX: usize = 10_000;
const PAGE: usize = 1_000;

const HOUR: i64 = 3_600_000_000;
const DAY: i64 = 24 * HOUR;

wire! {
    /// What of the usage.
    #[derive(Clone, Deserialize, Serialize)]
    #[serde(deny_unknown_fields)]
    pub struct UsageQuery {
        /// Only this organization. For a customer's key there is no other than its own.
        pub organization: Option<String>,
        /// Only this project.
        pub project: Option<String>,
        /// Only this meter.
        pub meter: Option<String>,
        /// Only usage of this resource: the `subject` of the events.
        pub resource: Option<String>,
        /// `hour`, `day` (default), `month` or `total`: begin and end are UTC.
        pub bucket: Option<String>,
        /// What rows are told apart by, comma-separated: `organization`, `project`, `meter`, `resource`. Default: `organization,project,meter`.
        /// Units and currencies are always told apart.
        pub group: Option<String>,
        /// Usage that began at or after this instant: a UTC date or an RFC 3339 instant, a whole hour.
        pub from: String,
        /// Usage that began before this instant.
        pub to: String,
        /// Rows of a page, 1 to 10000; 1000 by default.
        pub limit: Option<usize>,
        /// `next` of the page before; everything else as it was there.
        pub page: Option<String>,
    }
}

wire! {
    /// A page of usage.
    #[derive(Serialize)]
    pub struct UsagePage {
        /// By bucket, then by group.
        pub usage: Vec<UsageRow>,
        /// Asks for the next page; null on the last one.
        pub next: Option<String>,
    }
}

wire! {
    /// What was used in a bucket.
    #[derive(Serialize)]
    pub struct UsageRow {
        /// Begin of the bucket.
        pub from: String,
        /// End of the bucket, exclusive.
        pub to: String,
        /// Who owes.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub organization: Option<String>,
        /// Sub-account; absent where none was named or where it is not told apart.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub project: Option<String>,
        /// The meter.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub meter: Option<String>,
        /// The subject of the events; absent where they have none or where it is not told apart.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub resource: Option<String>,
        /// What the quantity counts.
        pub unit: String,
        /// The currency of the amount.
        pub currency: String,
        /// Sum of the quantities.
        pub quantity: String,
        /// Sum of the charges, before rounding to the currency.
        pub amount: String,
        /// How many readings.
        pub readings: i64,
    }
}

/// What this domain answers.
pub fn operations() -> Vec<Operation> {
    vec![
        Operation::get("/v1/usage", "list_usage", "Usage by bucket and group, a page at a time.")
            .about("Charged and free readings count; quarantined ones do not. The figures are those of everything committed so far.")
            .query::<UsageQuery>()
            .answers::<UsagePage>(200, "A page.")
            .problem(400, "A parameter does not read; detail names it."),
    ]
}

/// Usage by bucket and group, a page at a time.
///
/// Charged and free readings count; quarantined ones do not. The figures are those of all batches committed so far.
pub async fn list_usage(
    State(answers): State<Answers>,
    caller: Caller,
    Parameters(query): Parameters<UsageQuery>,
) -> Result<Json<UsagePage>, Problem> {
    let organization = named(query.organization.as_deref()).map_err(|error| refused(error.to_string()))?;
    let permit = caller.authorize(Action::UsageRead, caller.target(organization))?;
    page(&answers, &scope_of(&permit), &query).await.map(Json)
}

/// What rows can be told apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Group {
    Organization,
    Project,
    Meter,
    Resource,
}

impl Group {
    const ALL: [Self; 4] = [Self::Organization, Self::Project, Self::Meter, Self::Resource];

    fn name(self) -> &'static str {
        match self {
            Self::Organization => "organization",
            Self::Project => "project",
            Self::Meter => "meter",
            Self::Resource => "resource",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bucket {
    Hour,
    Day,
    Month,
    Total,
}

/// A question that was understood.
struct Wanted<'a> {
    query: &'a UsageQuery,
    bucket: Bucket,
    groups: Vec<Group>,
    from: Instant,
    to: Instant,
    limit: usize,
    /// The key of the last row of the page before.
    after: Option<Vec<String>>,
}

fn refused(detail: String) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "CATALOG-0001", "A parameter does not read.", detail)
}

/// A UTC date or an instant, a whole hour.
fn whole_hour(name: &str, text: &str) -> Result<Instant, Problem> {
    let instant = if text.len() == 10 { format!("{text}T00:00:00Z") } else { text.to_owned() };
    let at = Instant::parse(&instant).map_err(|_| {
        refused(format!("{name} = {text:?} is neither a date such as 2026-10-01 nor an instant such as 2026-10-01T08:00:00Z"))
    })?;
    if at.micros().rem_euclid(HOUR) != 0 {
        return Err(refused(format!("{name} = {text:?} is no whole hour; usage is kept by hours")));
    }
    Ok(at)
}

impl<'a> Wanted<'a> {
    fn read(query: &'a UsageQuery) -> Result<Self, Problem> {
        let bucket = match query.bucket.as_deref() {
            Some("hour") => Bucket::Hour,
            None | Some("day") => Bucket::Day,
            Some("month") => Bucket::Month,
            Some("total") => Bucket::Total,
            Some(other) => return Err(refused(format!("bucket = {other:?} is none of hour, day, month, total"))),
        };
        let mut groups = Vec::new();
        for name in query.group.as_deref().unwrap_or("organization,project,meter").split(',').map(str::trim).filter(|name| !name.is_empty())
        {
            let Some(group) = Group::ALL.into_iter().find(|group| group.name() == name) else {
                return Err(refused(format!("group = {name:?} is none of organization, project, meter, resource")));
            };
            if !groups.contains(&group) {
                groups.push(group);
            }
        }
        let (from, to) = (whole_hour("from", &query.from)?, whole_hour("to", &query.to)?);
        if from >= to {
            return Err(refused(format!("from = {from} is not before to = {to}")));
        }
        let limit = query.limit.unwrap_or(PAGE);
        if !(1..=PAGE_MAX).contains(&limit) {
            return Err(refused(format!("limit = {limit} is not 1 to {PAGE_MAX}")));
        }
        let mut wanted = Self { query, bucket, groups, from, to, limit, after: None };
        wanted.after = query.page.as_deref().map(|page| wanted.key_of(page)).transpose()?;
        Ok(wanted)
    }

    /// What a page's mark is bound to: the question without the page.
    fn fingerprint(&self) -> String {
        let question = UsageQuery { page: None, limit: None, ..self.query.clone() };
        let text = serde_json::to_string(&question).unwrap_or_default();
        Digest::of(text.as_bytes()).to_string().chars().take(16).collect()
    }

    /// The mark of the page that follows a row.
    fn mark(&self, key: Vec<String>) -> String {
        let parts: Vec<String> = std::iter::once(self.fingerprint()).chain(key).collect();
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(&parts).unwrap_or_default())
    }

    fn key_of(&self, mark: &str) -> Result<Vec<String>, Problem> {
        let wrong =
            || refused(format!("page = {mark:?} is no page of this question; take `next` of the page before and change nothing else"));
        let bytes = URL_SAFE_NO_PAD.decode(mark).map_err(|_| wrong())?;
        let parts: Vec<String> = serde_json::from_slice(&bytes).map_err(|_| wrong())?;
        match parts.split_first() {
            Some((fingerprint, key)) if *fingerprint == self.fingerprint() && key.len() == self.keys().len() => Ok(key.to_vec()),
            _ => Err(wrong()),
        }
    }

    /// The columns that tell rows apart, in order.
    fn keys(&self) -> Vec<&'static str> {
        let bucket = (self.bucket != Bucket::Total).then_some("bucket");
        bucket.into_iter().chain(self.groups.iter().map(|group| group.name())).chain(["unit", "currency"]).collect()
    }

    fn needs_resource(&self) -> bool {
        self.query.resource.is_some() || self.groups.contains(&Group::Resource)
    }

    fn sql(&self) -> String {
        let (from, to) = (self.from, self.to);
        let source = if self.needs_resource() {
            format!(
                "SELECT c.start_at AS at, c.organization, c.project, c.meter, e.subject AS resource, c.unit, c.currency, c.quantity, \
                 c.amount, CAST(1 AS bigint) AS readings FROM usage.charges c JOIN usage.events e ON c.identity = e.identity \
                 WHERE e.outcome = 'accepted' AND c.fate <> 'quarantined' AND c.start_at >= TIMESTAMP '{from}' AND c.start_at < TIMESTAMP '{to}'"
            )
        } else {
            format!(
                "SELECT hour AS at, organization, project, meter, unit, currency, quantity, amount, readings FROM usage.hours \
                 WHERE hour >= TIMESTAMP '{from}' AND hour < TIMESTAMP '{to}'"
            )
        };
        let conditions: Vec<String> = [
            ("organization", &self.query.organization),
            ("project", &self.query.project),
            ("meter", &self.query.meter),
            ("resource", &self.query.resource),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some(format!("{name} = {}", literal(value.as_deref()?))))
        .collect();
        let only = if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) };
        let keys = self.keys();
        let columns: Vec<String> = keys.iter().map(|key| format!("{} AS {key}", self.expression(key))).collect();
        let by: Vec<String> = keys.iter().map(|key| self.expression(key)).collect();
        let order = keys.join(", ");
        let sums = format!(
            "SELECT {}, sum(quantity) AS quantity, sum(amount) AS amount, sum(readings) AS readings FROM ({source}) AS u{only} GROUP BY {}",
            columns.join(", "),
            by.join(", ")
        );
        let beyond = self.after.as_ref().map(|key| format!(" WHERE {}", after(&keys, key))).unwrap_or_default();
        format!("SELECT * FROM ({sums}) AS s{beyond} ORDER BY {order} LIMIT {}", self.limit.saturating_add(1))
    }

    /// How a key is computed: what is not named is the empty text, which no id is.
    fn expression(&self, key: &str) -> String {
        match (key, self.bucket) {
            ("bucket", Bucket::Hour) => "date_trunc('hour', at)".to_owned(),
            ("bucket", Bucket::Month) => "date_trunc('month', at)".to_owned(),
            ("bucket", _) => "date_trunc('day', at)".to_owned(),
            ("project" | "resource", _) => format!("coalesce({key}, '')"),
            _ => key.to_owned(),
        }
    }

    fn row(&self, row: &Row) -> UsageRow {
        let text = |column: &str| row.text(column).filter(|text| !text.is_empty()).map(ToOwned::to_owned);
        let group = |group: Group| self.groups.contains(&group).then(|| text(group.name())).flatten();
        let (from, to) = self.bounds(row.text("bucket"));
        UsageRow {
            from: from.to_string(),
            to: to.to_string(),
            organization: group(Group::Organization),
            project: group(Group::Project),
            meter: group(Group::Meter),
            resource: group(Group::Resource),
            unit: text("unit").unwrap_or_default(),
            currency: text("currency").unwrap_or_default(),
            quantity: row.decimal("quantity").unwrap_or_default(),
            amount: row.decimal("amount").unwrap_or_default(),
            readings: row.integer("readings").unwrap_or_default(),
        }
    }

    /// A bucket's begin and end, inside the question's.
    fn bounds(&self, bucket: Option<&str>) -> (Instant, Instant) {
        let Some(begin) = bucket.and_then(|text| Instant::parse(text).ok()) else {
            return (self.from, self.to);
        };
        let later = |micros: i64| Instant::from_micros(begin.micros().saturating_add(micros)).unwrap_or(self.to);
        let end = match self.bucket {
            Bucket::Hour => later(HOUR),
            Bucket::Day => later(DAY),
            Bucket::Month => begin.month().next().map_or(self.to, |month| month.start()),
            Bucket::Total => self.to,
        };
        (begin.max(self.from), if end < self.to { end } else { self.to })
    }
}

/// A text in SQL.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// The condition of rows whose key comes after another.
fn after(keys: &[&str], key: &[String]) -> String {
    let pairs: Vec<(String, String)> = keys
        .iter()
        .zip(key)
        .map(|(name, value)| match *name {
            "bucket" => ((*name).to_owned(), format!("TIMESTAMP {}", literal(value))),
            _ => ((*name).to_owned(), literal(value)),
        })
        .collect();
    pairs.iter().rev().fold(String::new(), |inner, (name, value)| {
        if inner.is_empty() { format!("{name} > {value}") } else { format!("({name} > {value} OR ({name} = {value} AND {inner}))") }
    })
}

async fn page(answers: &Answers, scope: &Scope, query: &UsageQuery) -> Result<UsagePage, Problem> {
    let wanted = Wanted::read(query)?;
    let mut rows = answers.rows(&wanted.sql(), scope).await?;
    let more = rows.len() > wanted.limit;
    rows.truncate(wanted.limit);
    let key = |row: &Row| wanted.keys().iter().map(|key| row.text(key).unwrap_or_default().to_owned()).collect();
    let next = rows.last().filter(|_| more).map(|row| wanted.mark(key(row)));
    Ok(UsagePage { usage: rows.iter().map(|row| wanted.row(row)).collect(), next })
}
