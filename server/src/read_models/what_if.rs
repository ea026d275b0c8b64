//! `what_if.charges`: what the usage that was rated would be charged under another book, a draft for example. It exists for one question that
//! names the book, is rated while it is asked, by the code that rates again, and nothing of it is kept.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use anyhow::Context as _;
use arrow::array::new_null_array;
use arrow::record_batch::RecordBatch;
use futures::{StreamExt, stream};
use platform_catalog::{Audience, BatchStream, CatalogError, Comparison, Description, Filter, FilterValue, ReadModel, Request, RowsModel};
use platform_ingest::store;
use platform_rating::{Charge, Plan, RatingState, charges_schema, charges_to_arrow};
use platform_registry::Version;
use shared_types::{BatchNo, Instant, Month};

use super::Readers;
use super::rows::{failed, refuse_history};
use super::usage::{CHARGES_SENTENCES, plain};
use crate::registries::Registries;
use crate::rerating::{UnitKey, Waiting, Work, not_followed, parts, rated_key, restore, unit_of};

const NAME: &str = "what_if.charges";

/// What a reading takes in memory while it is rated, at most: its row as it stands, its row under the book, and its columns.
const READING_BYTES: u64 = 2_048;

/// The model for one question.
///
/// - `version`: the book. `memory_bytes`: what the question may use; usage that needs more is rated part by part, one organization and month
///   that needs more is refused.
pub fn charges(readers: &Readers, version: Version, memory_bytes: usize) -> anyhow::Result<Arc<dyn ReadModel>> {
    let sentences: Vec<(&str, &str)> =
        CHARGES_SENTENCES.iter().map(|(column, text)| (*column, sentence(column).unwrap_or(*text))).collect();
    let description = Description::new(
        NAME,
        "platform-rating",
        "One row for each reading that stands, or would leave quarantine, rated under the book that the question names. Nothing of it is booked.",
        Audience::Operator,
        plain(&charges_schema()),
        &sentences,
    )?;
    let plan = Arc::new(platform_registry::compile(&version)?.plan);
    let (readers, version) = (readers.clone(), Arc::new(version));
    let readings_max = u64::try_from(memory_bytes)?.checked_div(READING_BYTES).unwrap_or_default();
    Ok(Arc::new(RowsModel::new(description, move |request: Request| {
        let (readers, version, plan) = (readers.clone(), Arc::clone(&version), Arc::clone(&plan));
        Box::pin(async move {
            refuse_history(NAME, request.as_of)?;
            let asked = Asked::of(readers, &version, plan, &request.filters, readings_max).await.map_err(refused)?;
            let rows = stream::try_unfold(asked, |mut asked| async move {
                let batch = asked.next().await.map_err(refused)?;
                Ok::<_, CatalogError>(batch.map(|batch| (batch, asked)))
            });
            Ok::<BatchStream, CatalogError>(rows.boxed())
        })
    })))
}

/// What a column means here, where it is not what it means in `usage.charges`.
fn sentence(column: &str) -> Option<&'static str> {
    Some(match column {
        "log_seq" => "Null: no evidence log holds what is not booked.",
        "registry_version" => "Content address of the book.",
        "fate" => "charged, free, or quarantined where the book has no price for it.",
        "accounting_period" => "Month of the books of the row that stands, yyyymm.",
        "supersedes" => {
            "The reading itself where booking the book would put another row in the place of the one that stands, or is in quarantine."
        }
        _ => return None,
    })
}

/// Why the rows are not made.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct NotMade(String);

fn refused(error: anyhow::Error) -> CatalogError {
    match error.downcast::<NotMade>() {
        Ok(NotMade(why)) => CatalogError::Refused { model: NAME.to_owned(), why },
        Err(error) => failed(NAME, &error),
    }
}

/// A question, part by part.
struct Asked {
    readers: Readers,
    registries: Registries,
    plan: Arc<Plan>,
    state: RatingState,
    through: BatchNo,
    waiting: Arc<Waiting>,
    parts: VecDeque<BTreeSet<UnitKey>>,
}

impl Asked {
    async fn of(readers: Readers, version: &Version, plan: Arc<Plan>, filters: &[Filter], readings_max: u64) -> anyhow::Result<Self> {
        let through = {
            let mut tx = readers.log.read().await?;
            readers.lake.refresh(&mut tx).await?;
            store::head(&mut tx).await?.0
        };
        let state = restore(&readers.log, &readers.lake, through).await?;
        let range = Range::of(filters);
        let mut units: BTreeMap<UnitKey, u64> = BTreeMap::new();
        let mut keys = Vec::new();
        for (key, kept) in state.keys() {
            let unit = unit_of(key);
            if range.holds(&unit) {
                keys.push(rated_key((key, kept)));
                let readings = units.entry(unit).or_default();
                *readings = kept.segments.values().fold(*readings, |sum, segment| sum.saturating_add(segment.readings));
            }
        }
        if let Some(error) = not_followed(&readers.books, version, &keys).await? {
            return Err(NotMade(error.to_string()).into());
        }
        let registries = Registries::new(readers.books.clone(), &readers.home.secrets()?);
        let threads = readers.home.settings.batch.threads;
        let work = Work { log: &readers.log, lake: &readers.lake, registries: &registries, through, threads };
        let active = platform_registry::store::active(&mut readers.books.read().await?).await?;
        // Before the first version nothing was rated.
        let waiting = match &active {
            Some(active) => work.wait(active, version, &plan, Arc::default()).await?,
            None => Arc::default(),
        };
        for (unit, (_, waits)) in waiting.units().into_iter().filter(|(unit, _)| range.holds(unit)) {
            let readings = units.entry(unit.clone()).or_default();
            *readings = readings.saturating_add(waits);
        }
        let too_many = |((organization, month), readings)| {
            NotMade(format!(
                "organization {organization} has {readings} readings in {month}, and {readings_max} fit into the memory that a query may have: \
                 give it more (query.memory_bytes_max), or ask for other organizations and months"
            ))
        };
        Ok(Self { parts: parts(units, readings_max).map_err(too_many)?, readers, registries, plan, state, through, waiting })
    }

    /// The rows of the next part; none behind the last.
    async fn next(&mut self) -> anyhow::Result<Option<RecordBatch>> {
        let Some(units) = self.parts.pop_front() else { return Ok(None) };
        let work = Work {
            log: &self.readers.log,
            lake: &self.readers.lake,
            registries: &self.registries,
            through: self.through,
            threads: self.readers.home.settings.batch.threads,
        };
        let rows = work.stand_under(&self.state, &self.plan, &self.waiting, &units).await?;
        Ok(Some(without_places(&rows)?))
    }
}

/// The columns of charges; what is not booked has no place in a log.
fn without_places(rows: &[Charge]) -> anyhow::Result<RecordBatch> {
    let batch = charges_to_arrow(rows)?;
    let (schema, mut columns) = (batch.schema(), batch.columns().to_vec());
    let place = columns.get_mut(schema.index_of("log_seq")?).context("charges have no log_seq")?;
    *place = new_null_array(place.data_type(), rows.len());
    Ok(RecordBatch::try_new(schema, columns)?)
}

/// What the conditions of a question leave of organizations and months. It may be too much: the rows are looked at once more.
#[derive(Debug, Default, PartialEq, Eq)]
struct Range {
    organization: Option<String>,
    first: Option<Month>,
    last: Option<Month>,
}

impl Range {
    fn of(filters: &[Filter]) -> Self {
        let mut range = Self::default();
        for filter in filters {
            let month = match (filter.column.as_str(), &filter.value) {
                ("organization", FilterValue::Text(text)) if filter.comparison == Comparison::Eq => {
                    range.organization = Some(text.clone());
                    continue;
                }
                ("start_at", FilterValue::At(at)) if filter.comparison == Comparison::Lt => {
                    at.micros().checked_sub(1).and_then(|before| Instant::from_micros(before).ok()).map(Instant::month)
                }
                ("start_at", FilterValue::At(at)) => Some(at.month()),
                ("service_period" | "log_month", FilterValue::Integer(number)) => {
                    i32::try_from(*number).ok().and_then(|number| Month::from_number(number).ok())
                }
                _ => None,
            };
            let Some(month) = month else { continue };
            if matches!(filter.comparison, Comparison::Eq | Comparison::Ge | Comparison::Gt) {
                range.first = Some(range.first.map_or(month, |first| first.max(month)));
            }
            if matches!(filter.comparison, Comparison::Eq | Comparison::Le | Comparison::Lt) {
                range.last = Some(range.last.map_or(month, |last| last.min(month)));
            }
        }
        range
    }

    fn holds(&self, (organization, month): &UnitKey) -> bool {
        self.organization.as_ref().is_none_or(|wanted| wanted == organization.as_str())
            && self.first.is_none_or(|first| first <= *month)
            && self.last.is_none_or(|last| *month <= last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(column: &str, comparison: Comparison, value: FilterValue) -> Filter {
        Filter { column: column.to_owned(), comparison, value }
    }

    fn month(text: &str) -> Option<Month> {
        Some(Month::parse(text).unwrap())
    }

    #[test]
    fn only_the_months_and_organizations_that_are_asked_for_are_rated() {
        let at = |text: &str| FilterValue::At(Instant::parse(text).unwrap());
        let asked = [
            filter("organization", Comparison::Eq, FilterValue::Text("acme".to_owned())),
            filter("start_at", Comparison::Ge, at("2026-09-10T00:00:00Z")),
            filter("start_at", Comparison::Lt, at("2026-11-01T00:00:00Z")),
            filter("meter", Comparison::Eq, FilterValue::Text("tokens".to_owned())),
        ];
        let range = Range::of(&asked);
        assert_eq!(range, Range { organization: Some("acme".to_owned()), first: month("2026-09"), last: month("2026-10") });
        let unit = |organization: &str, month: &str| (organization.parse().unwrap(), Month::parse(month).unwrap());
        assert!(range.holds(&unit("acme", "2026-09")) && range.holds(&unit("acme", "2026-10")));
        assert!(!range.holds(&unit("acme", "2026-11")) && !range.holds(&unit("globex", "2026-10")));
        let period = Range::of(&[filter("service_period", Comparison::Eq, FilterValue::Integer(202_609))]);
        assert_eq!(period, Range { organization: None, first: month("2026-09"), last: month("2026-09") });
        // More than one organization is not told apart here.
        assert_eq!(Range::of(&[filter("organization", Comparison::Gt, FilterValue::Text("a".to_owned()))]), Range::default());
    }
}
