//! Rating again by hand: what keeps its row, what is taken back and set anew, and what must add up.

use super::*;
use crate::plan::{Contract, Line, PriceBook, PriceModel, PriceRow, Tier};
use platform_usage::{Dimensions, Reason};
use shared_types::{AssetId, ContractId, Incarnation, MeterId, PriceId, Sequence, SkuId, SourceId, UnitId};

/// One book in USD, one line, one contract for everybody; each price is (effective_at, unit price).
fn plan(version: u8, prices: &[(&str, &str)]) -> Plan {
    let models = prices.iter().map(|(at, price)| (*at, PriceModel::PerUnit { unit_price: price.parse().unwrap() }));
    plan_of(version, "s", models.collect())
}

fn plan_of(version: u8, sku: &str, prices: Vec<(&str, PriceModel)>) -> Plan {
    let prices = prices.into_iter().enumerate().map(|(at, (effective_at, model))| PriceRow {
        id: PriceId::parse(&format!("p-{at}")).unwrap(),
        effective_at: Instant::parse(effective_at).unwrap(),
        per: "1".parse().unwrap(),
        model,
        basis: crate::Basis::default(),
    });
    let meter = MeterId::parse("m").unwrap();
    let line = Line {
        sku: SkuId::parse(sku).unwrap(),
        family: "tokens".into(),
        meter: meter.clone(),
        matches: Dimensions::default(),
        bands: Vec::new(),
        prices: prices.collect(),
    };
    Plan {
        version: Digest([version; 32]),
        books: vec![PriceBook { currency: AssetId::parse("USD").unwrap(), lines: BTreeMap::from([(meter, vec![line])]) }],
        contracts: BTreeMap::new(),
        default_contracts: vec![Contract { id: ContractId::parse("c").unwrap(), effective_at: Instant::EPOCH, book: 0 }],
    }
}

fn reading(sequence: u64, quantity: &str, start_at: &str) -> MeteredReading {
    let start_at = Instant::parse(start_at).unwrap();
    MeteredReading {
        position: Position {
            shard: shared_types::ShardId::of_organization("o"),
            incarnation: Incarnation(1),
            sequence: Sequence(sequence),
        },
        ordinal: 0,
        identity: IdentityHash(u128::from(sequence).to_be_bytes()),
        organization: OrganizationId::parse("o").unwrap(),
        project: None,
        source: SourceId::parse("src").unwrap(),
        meter: MeterId::parse("m").unwrap(),
        unit: UnitId::parse("u").unwrap(),
        dimensions: Dimensions::default(),
        quantity: quantity.parse().unwrap(),
        start_at,
        end_at: None,
        accepted_at: start_at,
        accounting_period: start_at.month(),
        commitment: Digest::ZERO,
        refused: None,
    }
}

struct Home {
    state: RatingState,
    rows: Vec<Charge>,
}

impl Home {
    fn new(plan: &Plan, readings: &[MeteredReading]) -> Self {
        let batch = rate(&RatingState::default(), plan, readings, 1).unwrap();
        let mut state = RatingState::default();
        state.apply(batch.overlay);
        Self { state, rows: batch.charges }
    }

    fn unit(&self, sequence: u64) -> (Unit, AtRecord) {
        let mut gathering = Gathering::default();
        self.rows.iter().for_each(|row| gathering.add(row.clone()));
        let standing = gathering.readings();
        let record = AtRecord {
            position: Position { sequence: Sequence(sequence), ..standing[0].origin },
            accepted_at: Instant::parse("2026-05-01T00:00:00Z").unwrap(),
            accounting_period: Month::from_number(202_605).unwrap(),
        };
        let month = standing[0].charge.start_at.month();
        (Unit { organization: OrganizationId::parse("o").unwrap(), month, standing, born: Vec::new() }, record)
    }

    fn rerate(&mut self, sequence: u64, plans: &[&Plan]) -> RatedBatch {
        let before = plans.iter().map(|plan| (plan.version, *plan)).collect();
        let batch = rerate(&self.state, plans.last().unwrap(), &before, vec![self.unit(sequence)], 2).unwrap();
        self.state.apply(batch.overlay.clone());
        self.rows.extend(batch.charges.clone());
        batch
    }
}

fn shown(batch: &RatedBatch) -> Vec<String> {
    let row = |charge: &Charge| match &charge.fate {
        Fate::Charged { priced, amount, .. } => {
            format!("{} {} v{} {amount} #{}", charge.quantity, priced.price, charge.registry_version.0[0], priced.log_seq)
        }
        Fate::Free { named, priced } => {
            format!("{} free by {named} v{} #{}", charge.quantity, charge.registry_version.0[0], priced.log_seq)
        }
        Fate::Quarantined { reason } => format!("{} {reason}", charge.quantity),
    };
    batch.charges.iter().map(row).collect()
}

#[test]
fn a_price_that_was_ten_times_too_high_for_some_hours_is_given_back_and_nothing_else_moves() {
    let right = ("2026-03-01T00:00:00Z", "1");
    let wrong = plan(1, &[right, ("2026-03-10T00:00:00Z", "10"), ("2026-03-15T00:00:00Z", "1")]);
    let mended = plan(2, &[right, ("2026-03-10T00:00:00Z", "1"), ("2026-03-15T00:00:00Z", "1")]);
    let readings =
        [reading(1, "3", "2026-03-09T00:00:00Z"), reading(2, "4", "2026-03-12T00:00:00Z"), reading(3, "5", "2026-03-16T00:00:00Z")];
    let mut home = Home::new(&wrong, &readings);
    let batch = home.rerate(9, &[&wrong, &mended]);
    assert_eq!(shown(&batch), ["-4 p-1 v1 -40 #3", "4 p-1 v2 4 #4"]);
    let total = &batch.totals[0];
    assert_eq!((total.amount.to_string(), total.total.to_string(), total.readings), ("-36".to_owned(), "12".to_owned(), 2));
    assert_eq!((total.quantity, total.accounting_period.number(), total.last_sequence), (Quantity::ZERO, 202_605, Sequence(9)));
    assert!(batch.charges.iter().all(|row| row.supersedes == Some(row.identity) && row.position.sequence == Sequence(9)));
    assert_eq!(shown(&home.rerate(10, &[&wrong, &mended])), Vec::<String>::new());
    // Back again: the row that stands is the second one.
    assert_eq!(shown(&home.rerate(11, &[&mended, &wrong])), ["-4 p-1 v2 -4 #5", "4 p-1 v1 40 #6"]);
}

#[test]
fn readings_move_to_another_key_and_the_old_one_owes_nothing() {
    let one = |sku: &str, version| {
        plan_of(version, sku, vec![("2026-03-01T00:00:00Z", PriceModel::PerUnit { unit_price: "2".parse().unwrap() })])
    };
    let (old, new) = (one("s", 1), one("t", 2));
    let mut home = Home::new(&old, &[reading(1, "3", "2026-03-09T00:00:00Z")]);
    let batch = home.rerate(9, &[&old, &new]);
    assert_eq!(shown(&batch), ["-3 p-0 v1 -6 #1", "3 p-0 v2 6 #2"]);
    let totals: Vec<String> = batch.totals.iter().map(|total| format!("{} {} {}", total.sku, total.amount, total.total)).collect();
    assert_eq!(totals, ["s -6 0", "t 6 6"]);
    assert_eq!(batch.totals[0].state[..], [1, 0, 0, 0, 0]);
}

#[test]
fn tiers_and_largest_values_are_rated_whole() {
    let tier = |up_to: Option<&str>, price: &str| Tier {
        up_to: up_to.map(|bound| bound.parse().unwrap()),
        unit_price: price.parse().unwrap(),
        flat_fee: "0".parse().unwrap(),
    };
    let volume = |bound| PriceModel::Volume { tiers: vec![tier(Some(bound), "1"), tier(None, "0.5")] };
    let (old, new) =
        (plan_of(1, "s", vec![("2026-03-01T00:00:00Z", volume("10"))]), plan_of(2, "s", vec![("2026-03-01T00:00:00Z", volume("20"))]));
    let mut home = Home::new(&old, &[reading(1, "9", "2026-03-02T00:00:00Z"), reading(2, "9", "2026-03-02T00:00:00Z")]);
    assert_eq!(home.rerate(9, &[&old, &new]).totals[0].amount.to_string(), "9");
    let mut largest = plan_of(3, "s", vec![("2026-03-01T00:00:00Z", PriceModel::PerUnit { unit_price: "1".parse().unwrap() })]);
    for row in largest.books[0].lines.values_mut().flatten().flat_map(|line| &mut line.prices) {
        row.basis.measure = crate::Measure::Max;
    }
    assert_eq!(home.rerate(10, &[&new, &largest]).totals[0].total.to_string(), "9");
    assert_eq!(home.rerate(11, &[&largest, &old]).totals[0].total.to_string(), "9");
}

#[test]
fn a_reading_without_a_price_is_quarantined_until_it_has_one() {
    let (old, new) = (plan(1, &[("2026-03-01T00:00:00Z", "1")]), plan(2, &[("2026-03-05T00:00:00Z", "1")]));
    let mut home = Home::new(&old, &[reading(1, "3", "2026-03-02T00:00:00Z"), reading(2, "4", "2026-03-06T00:00:00Z")]);
    assert_eq!(shown(&home.rerate(9, &[&old, &new])), ["-3 p-0 v1 -3 #2", "3 unpriced", "-4 p-0 v1 -4 #3", "4 p-0 v2 4 #4"]);
    assert_eq!(shown(&home.rerate(10, &[&new, &old])), ["3 p-0 v1 3 #5", "-4 p-0 v2 -4 #6", "4 p-0 v1 4 #7"]);
    assert_eq!(shown(&home.rerate(11, &[&new, &old])), Vec::<String>::new(), "twice is once");
}

#[test]
fn usage_in_quarantine_is_charged_by_one_row_once_it_has_a_price() {
    let (old, new) = (plan(1, &[("2026-03-05T00:00:00Z", "1")]), plan(2, &[("2026-03-01T00:00:00Z", "1")]));
    let refused = MeteredReading { refused: Some(Reason::PartsDiffer), ..reading(3, "0", "2026-03-02T00:00:00Z") };
    let readings = [reading(1, "3", "2026-03-02T00:00:00Z"), reading(2, "4", "2026-02-02T00:00:00Z"), refused];
    let mut home = Home::new(&old, &readings);
    assert!(home.rows.iter().all(|row| row.fate.priced().is_none()));
    // A meter refused the third one, and the second one began before there was a price.
    let batch = home.rerate(9, &[&old, &new]);
    assert_eq!(shown(&batch), ["3 p-0 v2 3 #0"]);
    assert_eq!((batch.charges[0].position.sequence, batch.charges[0].supersedes), (Sequence(9), Some(readings[0].identity)));
    assert_eq!(shown(&home.rerate(10, &[&old, &new])), Vec::<String>::new());
    assert_eq!(shown(&home.rerate(11, &[&new, &plan(3, &[("2026-03-01T00:00:00Z", "2")])])), ["-3 p-0 v2 -3 #1", "3 p-0 v3 6 #2"]);
}

#[test]
fn readings_that_are_read_otherwise_not_any_more_or_for_the_first_time_have_the_rows_that_say_so() {
    let (old, new) = (plan(1, &[("2026-03-01T00:00:00Z", "1")]), plan(2, &[("2026-03-01T00:00:00Z", "1")]));
    let readings = [1, 2, 3, 4].map(|sequence| reading(sequence, "3", "2026-03-02T00:00:00Z"));
    let mut home = Home::new(&old, &readings);
    let (mut unit, record) = home.unit(9);
    let otherwise = |at: usize, quantity: &str| MeteredReading { quantity: quantity.parse().unwrap(), ..readings[at].clone() };
    unit.standing[0].read = Read::Anew(Box::new(otherwise(0, "5")));
    unit.standing[1].read = Read::Anew(Box::new(otherwise(1, "3")));
    unit.standing[2].read = Read::Gone;
    unit.born = vec![MeteredReading { ordinal: 1, ..otherwise(3, "7") }];
    let before: HashMap<Digest, &Plan> = [(old.version, &old), (new.version, &new)].into();
    let shown_of_it = rate_standing(&home.state, &new, &before, vec![unit.clone()], 1).unwrap();
    let batch = rerate(&home.state, &new, &before, vec![(unit, record)], 1).unwrap();
    // The second one is read again as it was, the fourth is not read again: both keep their rows.
    assert_eq!(shown(&batch), ["-3 p-0 v1 -3 #4", "5 p-0 v2 5 #5", "-3 p-0 v1 -3 #6", "7 p-0 v2 7 #7"]);
    assert_eq!(batch.totals[0].total.to_string(), "18");
    let named: Vec<String> =
        shown_of_it.iter().map(|row| format!("{} {} {}", row.position.sequence, row.quantity, row.supersedes.is_some())).collect();
    assert_eq!(named, ["1 5 true", "2 3 false", "4 3 false", "4 7 true"]);
    home.state.apply(batch.overlay);
    home.rows.extend(batch.charges);
    assert_eq!(shown(&home.rerate(10, &[&old, &new])), Vec::<String>::new(), "what was read stands");
    let (mut unit, record) = home.unit(11);
    assert_eq!(unit.standing.iter().filter(|standing| standing.taken_back).count(), 1);
    unit.standing[2].read = Read::Anew(Box::new(otherwise(2, "3")));
    let batch = rerate(&home.state, &new, &before, vec![(unit, record)], 1).unwrap();
    // What follows it in the order of events is told apart by its state, not by its amount: it keeps its row.
    assert_eq!(shown(&batch), ["3 p-0 v2 3 #8"]);
}

#[test]
fn rows_that_do_not_add_up_to_the_books_halt() {
    let (old, new) = (plan(1, &[("2026-03-01T00:00:00Z", "1")]), plan(2, &[("2026-03-01T00:00:00Z", "2")]));
    let mut home = Home::new(&old, &[reading(1, "3", "2026-03-02T00:00:00Z"), reading(2, "4", "2026-03-06T00:00:00Z")]);
    home.rows.pop();
    let before = HashMap::from([(old.version, &old)]);
    let error = rerate(&home.state, &new, &before, vec![home.unit(9)], 1).unwrap_err();
    assert!(matches!(error, RerateError::BookedDiffers { standing: 3_000_000_000, .. }), "{error}");
    let unknown = rerate(&home.state, &new, &HashMap::new(), vec![home.unit(9)], 1).unwrap_err();
    assert!(matches!(unknown, RerateError::BookedDiffers { .. }), "{unknown}");
}

#[test]
fn readings_that_come_behind_a_prepared_unit_are_added_and_those_before_it_are_refused() {
    let (old, new) = (plan(1, &[("2026-03-01T00:00:00Z", "1")]), plan(2, &[("2026-03-01T00:00:00Z", "2")]));
    let readings =
        [reading(1, "3", "2026-03-02T00:00:00Z"), reading(2, "4", "2026-03-06T00:00:00Z"), reading(3, "5", "2026-03-05T00:00:00Z")];
    let home = Home::new(&old, &readings);
    let before = HashMap::from([(old.version, &old)]);
    let (unit, record) = home.unit(9);
    let whole = rerate(&home.state, &new, &before, vec![(unit.clone(), record)], 1).unwrap();
    let part = |standing: &[Standing]| Unit { standing: standing.to_vec(), ..unit.clone() };
    let (first, rest) = unit.standing.split_at(1);
    let early = Home::new(&old, &readings[..1]);
    let prepared = prepare(&early.state, &new, &before, vec![part(first)], 1).unwrap();
    assert_eq!(prepared[0].changed(), 1);
    // What came since is missing.
    let missing = book(&home.state, vec![(prepared[0].clone(), record)], 1).unwrap_err();
    assert!(matches!(missing, RerateError::BookedDiffers { .. }), "{missing}");
    let went_on = go_on(&home.state, &new, &before, vec![(prepared[0].clone(), part(rest))], 1).unwrap();
    assert_eq!(book(&home.state, vec![(went_on[0].clone(), record)], 1).unwrap(), whole);
    let again = go_on(&home.state, &new, &before, vec![(went_on[0].clone(), part(first))], 1).unwrap_err();
    assert!(matches!(again, RerateError::Rate { source: RateError::Unordered { .. }, .. }), "{again}");
}
