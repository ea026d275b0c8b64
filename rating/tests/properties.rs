//! Properties of rating against an oracle on big rationals that shares no code with it: T is the oracle's to the last digit, whatever
//! the order, the cuts between batches, the threads, the restarts. Counters show that the edges were met.

#[cfg(test)]
#[path = "properties/calendar.rs"]
mod calendar;
#[cfg(test)]
#[path = "properties/forecast.rs"]
mod forecast;
#[cfg(test)]
#[path = "golden/cases.rs"]
mod golden;
#[cfg(test)]
#[path = "golden/runner.rs"]
mod golden_runner;
#[cfg(test)]
#[path = "golden/hazards.rs"]
mod hazards;
#[cfg(test)]
#[path = "properties/models.rs"]
mod models;
#[cfg(test)]
#[path = "properties/oracle.rs"]
mod oracle;
#[cfg(test)]
#[path = "properties/per_row.rs"]
mod per_row;
#[cfg(test)]
#[path = "properties/per_row_scalar.rs"]
mod per_row_scalar;
#[cfg(test)]
#[path = "properties/rerating.rs"]
mod rerating;
#[cfg(test)]
#[path = "properties/world.rs"]
mod world;

#[cfg(test)]
mod properties {
    use std::cell::RefCell;
    use std::collections::BTreeMap;

    use platform_rating::{
        Charge, Fate, Key, PriceIndex, PriceModel, RatedBatch, RatingState, Rule, Total, charges_from_arrow, charges_to_arrow, evaluate,
        rate, totals_from_arrow, totals_to_arrow,
    };
    use platform_usage::MeteredReading;
    use proptest::prelude::*;
    use proptest::test_runner::{Config, TestCaseError, TestCaseResult, TestRunner};
    use shared_types::Month;

    use crate::oracle::{self, Tie};
    use crate::world::{World, sealed, world};

    const CASES: u32 = 1_500;

    fn run<S: Strategy>(strategy: &S, test: impl Fn(S::Value) -> TestCaseResult) {
        let config = Config { cases: CASES, failure_persistence: None, max_shrink_iters: 20_000, ..Config::default() };
        TestRunner::new(config).run(strategy, test).unwrap_or_else(|error| panic!("{error}"));
    }

    /// How often each edge was met; printed, and every one must have been.
    #[derive(Default)]
    struct Edges(RefCell<BTreeMap<&'static str, u64>>);

    impl Edges {
        fn met(&self, edge: &'static str, when: bool) {
            *self.0.borrow_mut().entry(edge).or_default() += u64::from(when);
        }

        fn all_met(self) {
            for (edge, times) in self.0.into_inner() {
                println!("{edge}: {times}");
                assert!(times > 0, "{edge} was never met");
            }
        }
    }

    fn rated(state: &RatingState, world: &World, readings: &[MeteredReading], threads: usize) -> Result<RatedBatch, TestCaseError> {
        rate(state, &world.plan, &sealed(readings), threads).map_err(|error| TestCaseError::fail(format!("{error:?}")))
    }

    fn totals_of(state: &RatingState) -> BTreeMap<Key, i128> {
        state.keys().map(|(key, state)| (key.clone(), i128::from(state.total.units()))).collect()
    }

    fn has_overflow(charges: &[Charge]) -> bool {
        charges.iter().any(|charge| charge.fate.reason() == Some("amount_overflow"))
    }

    /// Σ charges and Σ totals of each key, in units of 10^-9.
    fn sums(charges: &[Charge], totals: &[Total]) -> (BTreeMap<Key, i128>, BTreeMap<Key, i128>) {
        let mut by_charges = BTreeMap::new();
        for charge in charges {
            let (Some(priced), Some(amount)) = (charge.fate.priced(), charge.fate.amount()) else { continue };
            let key = Key {
                organization: charge.organization.clone(),
                contract: priced.contract.clone(),
                sku: priced.sku.clone(),
                service_period: priced.service_period,
                currency: priced.currency.clone(),
            };
            *by_charges.entry(key).or_insert(0) += i128::from(amount.units());
        }
        let mut by_totals = BTreeMap::new();
        for total in totals {
            *by_totals.entry(total.key()).or_insert(0) += i128::from(total.amount.units());
        }
        (by_charges, by_totals)
    }

    #[test]
    fn every_charge_and_total_is_the_oracles_to_the_last_digit() {
        let edges = Edges::default();
        run(&world(), |world| {
            prop_assert_eq!(world.plan.validate(), Ok(()));
            let mut state = RatingState::default();
            let batch = rated(&state, &world, &world.readings, 1)?;
            state.apply(batch.overlay.clone());

            let mut oracle = oracle::Oracle::new(&world.plan);
            for reading in sealed(&world.readings) {
                oracle.rate(&reading);
            }
            prop_assert_eq!(batch.charges.len(), oracle.fates.len());
            for (charge, fate) in batch.charges.iter().zip(&oracle.fates) {
                let priced = charge.fate.priced();
                let ours = oracle::Fate {
                    code: charge.fate.code().to_owned(),
                    reason: charge.fate.reason().map(str::to_owned),
                    price: priced.map(|priced| priced.price.to_string()),
                    log_seq: priced.map(|priced| priced.log_seq),
                    amount: charge.fate.amount().map(|amount| i128::from(amount.units())),
                };
                prop_assert_eq!(&ours, fate);
            }
            prop_assert_eq!(totals_of(&state), oracle.totals());
            let (by_charges, by_totals) = sums(&batch.charges, &batch.totals);
            prop_assert_eq!(&by_charges, &oracle.totals());
            prop_assert_eq!(&by_totals, &oracle.totals());
            rows_hold_what_their_readings_add_up_to(&batch)?;
            explanations_agree(&world, &state)?;
            count_edges(&edges, &world, &batch, &state, &oracle);
            Ok(())
        });
        edges.all_met();
    }

    /// Each key and accounting period has one row with the sums of its readings, or several where one could not hold them.
    fn rows_hold_what_their_readings_add_up_to(batch: &RatedBatch) -> TestCaseResult {
        let mut wanted: BTreeMap<_, (i128, i128, u64)> = BTreeMap::new();
        for charge in &batch.charges {
            let (Some(priced), Some(amount)) = (charge.fate.priced(), charge.fate.amount()) else { continue };
            let line = (charge.organization.clone(), priced.contract_line.to_string(), priced.service_period, priced.currency.clone());
            let sums = wanted.entry((line, charge.accounting_period)).or_default();
            *sums = (sums.0 + charge.quantity.units() / 64, sums.1 + i128::from(amount.units()), sums.2 + 1);
        }
        let mut found: BTreeMap<_, (i128, i128, u64)> = BTreeMap::new();
        let mut rows: BTreeMap<_, u32> = BTreeMap::new();
        for total in &batch.totals {
            let line = (total.organization.clone(), total.contract_line.to_string(), total.service_period, total.currency.clone());
            let place = (line, total.accounting_period);
            let sums = found.entry(place.clone()).or_default();
            *sums = (sums.0 + total.quantity.units() / 64, sums.1 + i128::from(total.amount.units()), sums.2 + total.readings);
            *rows.entry(place).or_default() += 1;
        }
        prop_assert_eq!(wanted.keys().collect::<Vec<_>>(), found.keys().collect::<Vec<_>>());
        for (place, (quantity, amount, readings)) in &wanted {
            let (rows_quantity, rows_amount, rows_readings) = found[place];
            // A 64th of each quantity, so that sums of the largest fit; each reading and row may lose one by the division.
            prop_assert!((rows_quantity - quantity).unsigned_abs() <= u128::from(2 * *readings));
            prop_assert_eq!((rows_amount, rows_readings), (*amount, *readings));
            prop_assert!(rows[place] == 1 || has_enormous_parts(batch));
        }
        Ok(())
    }

    /// Whether single charges or quantities are so large that their partial sums may leave the range.
    fn has_enormous_parts(batch: &RatedBatch) -> bool {
        batch.charges.iter().any(|charge| {
            let amount = charge.fate.amount().map_or(0, |amount| amount.units().unsigned_abs());
            amount > 1 << 58 || charge.quantity.units().unsigned_abs() > 10_u128.pow(36)
        })
    }

    fn explanations_agree(world: &World, state: &RatingState) -> TestCaseResult {
        let prices = PriceIndex::of(&world.plan);
        for (_, key) in state.keys() {
            let evaluation = evaluate(&key.segments, &prices).map_err(|error| TestCaseError::fail(error.to_string()))?;
            prop_assert_eq!(evaluation.rounded, key.total);
            prop_assert_eq!(oracle::round(&oracle::parse(&evaluation.exact)).0, key.total.units().into());
            let parts = evaluation.segments.iter().map(|segment| oracle::parse(&segment.exact));
            let sum = parts.fold(oracle::parse("0"), |sum, part| sum + part);
            prop_assert_eq!(sum, oracle::parse(&evaluation.exact));
        }
        Ok(())
    }

    fn count_edges(edges: &Edges, world: &World, batch: &RatedBatch, state: &RatingState, oracle: &oracle::Oracle<'_>) {
        let prices = PriceIndex::of(&world.plan);
        for (_, key) in state.keys() {
            edges.met("key with several prices", key.segments.len() > 1);
            for (price, segment) in &key.segments {
                match &prices.get(price).unwrap().model {
                    PriceModel::Graduated { tiers } => {
                        edges.met("graduated tier edge", tiers.iter().any(|tier| tier.up_to == Some(segment.quantity)));
                    }
                    PriceModel::Volume { tiers } => {
                        edges.met("volume tier edge", tiers.iter().any(|tier| tier.up_to == Some(segment.quantity)));
                    }
                    PriceModel::Package { size, .. } => {
                        let (units, size) = (segment.quantity.units(), size.units());
                        edges.met("full package", units > 0 && units % size == 0);
                        edges.met("just begun package", units > 0 && units % size == 1);
                        edges.met("negative packages", units < 0);
                    }
                    _ => {}
                }
                edges.met("negative sum", segment.quantity.units() < 0);
            }
        }
        for charge in &batch.charges {
            if let Fate::Charged { priced, amount, .. } = &charge.fate {
                let money_back = amount.units() < 0 && charge.quantity.units() > 0;
                edges.met("volume price that gives money back", money_back && priced.rule == Rule::Volume);
                edges.met("charge of zero", amount.units() == 0);
            }
            edges.met("free reading", charge.fate.code() == "free");
            for reason in ["amount_overflow", "no_contract", "unpriced", "invalid_quantity"] {
                edges.met(reason, charge.fate.reason() == Some(reason));
            }
        }
        edges.met("two accounting periods of a key", batch.totals.windows(2).any(|pair| pair[0].key() == pair[1].key()));
        edges.met("late event", oracle.late > 0);
        edges.met("tie to the even below", oracle.ties.contains(&Tie::Down));
        edges.met("tie to the even above", oracle.ties.contains(&Tie::Up));
        edges.met("tie below zero", oracle.ties.contains(&Tie::Negative));
        edges.met(
            "denominators without a common one in 256 bits",
            state.keys().any(|(_, key)| evaluate(&key.segments, &prices).is_ok_and(|evaluation| evaluation.exact.contains('+'))),
        );
    }

    #[test]
    fn cuts_threads_and_restarts_change_nothing() {
        let edges = Edges::default();
        let plans = (world(), prop::collection::vec((0_usize..30, 1_usize..5, any::<bool>()), 0..6));
        run(&plans, |(world, cuts)| {
            let whole = rated(&RatingState::default(), &world, &world.readings, 1)?;
            for threads in [2, 4] {
                prop_assert_eq!(&rated(&RatingState::default(), &world, &world.readings, threads)?, &whole);
            }
            prop_assert_eq!(charges_from_arrow(&charges_to_arrow(&whole.charges).unwrap()), Ok(whole.charges.clone()));
            let mut at_once = RatingState::default();
            at_once.apply(whole.overlay);

            let mut state = RatingState::default();
            let (mut charges, mut totals, mut from) = (Vec::new(), Vec::new(), 0);
            let mut cuts = cuts;
            cuts.sort_unstable();
            cuts.push((usize::MAX, 1, true));
            for (cut, threads, restart) in cuts {
                let to = cut.clamp(from, world.readings.len());
                let batch = rated(&state, &world, &world.readings[from..to], threads)?;
                edges.met("a batch of several", to > from && to - from < world.readings.len());
                edges.met("an empty batch", to == from);
                charges.extend(batch.charges);
                totals.extend(totals_from_arrow(&totals_to_arrow(&batch.totals).unwrap()).unwrap());
                state.apply(batch.overlay);
                if restart {
                    let restored = RatingState::restore(&totals).unwrap();
                    prop_assert_eq!(&restored, &state);
                    edges.met("a restart", true);
                    state = restored;
                }
                from = to;
            }
            charges.sort_by_key(|charge| (charge.position, charge.ordinal));
            prop_assert_eq!(&charges, &whole.charges);
            prop_assert_eq!(&state, &at_once);
            let (by_charges, by_totals) = sums(&charges, &totals);
            prop_assert_eq!(&by_charges, &totals_of(&state));
            prop_assert_eq!(&by_totals, &totals_of(&state));
            log_places_are_dense(&charges, &state)
        });
        edges.all_met();
    }

    fn log_places_are_dense(charges: &[Charge], state: &RatingState) -> TestCaseResult {
        let mut next: BTreeMap<(String, Month), u64> = BTreeMap::new();
        for charge in charges {
            let Some(priced) = charge.fate.priced() else { continue };
            let size = next.entry((charge.organization.to_string(), priced.log_month)).or_insert(0);
            prop_assert_eq!(priced.log_seq, *size);
            *size += 1;
        }
        for ((organization, month), size) in next {
            prop_assert_eq!(state.log_size(&organization.parse().unwrap(), month), size);
        }
        Ok(())
    }

    #[test]
    fn the_order_of_readings_moves_no_total() {
        let edges = Edges::default();
        let shuffled = world().prop_flat_map(|world| {
            let order: Vec<usize> = (0..world.readings.len()).collect();
            (Just(world), Just(order).prop_shuffle())
        });
        run(&shuffled, |(world, order)| {
            let mut states = Vec::new();
            let mut overflow = false;
            for order in [(0..world.readings.len()).collect(), order] {
                let readings: Vec<MeteredReading> = order.into_iter().map(|at| world.readings[at].clone()).collect();
                let batch = rated(&RatingState::default(), &world, &crate::world::placed(readings), 2)?;
                overflow |= has_overflow(&batch.charges);
                let mut state = RatingState::default();
                state.apply(batch.overlay);
                states.push(state);
            }
            edges.met("an overflow, which depends on order", overflow);
            edges.met("totals alike in two orders", !overflow && !totals_of(&states[0]).is_empty());
            if !overflow {
                prop_assert_eq!(&states[0], &states[1]);
            }
            Ok(())
        });
        edges.all_met();
    }
}
