//! A forecast's stages add up to rating all of its readings once, wherever they are parted.

use std::collections::BTreeMap;

use platform_rating::{Key, RatingState, forecast, rate};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestCaseResult, TestRunner};

use crate::world::{World, sealed, world};

#[test]
fn stages_add_up_to_rating_everything_once() {
    let config = Config { cases: 1_000, failure_persistence: None, ..Config::default() };
    let test = |(world, first, second): (World, usize, usize)| -> TestCaseResult {
        let all = sealed(&world.readings);
        let (first, second) = (first.min(all.len()), second.min(all.len()));
        let (so_far, rest) = all.split_at(first.min(second));
        let (known, repeated) = rest.split_at(first.abs_diff(second));
        let Ok(found) = forecast(&world.plan, so_far, known, repeated) else { return Err(TestCaseError::reject("out of range")) };
        let once = rate(&RatingState::default(), &world.plan, &all, 1).unwrap();
        let mut owed: BTreeMap<Key, i128> = BTreeMap::new();
        let mut quantities: BTreeMap<Key, i128> = BTreeMap::new();
        for charge in &once.charges {
            let (Some(key), Some(amount)) = (charge.key(), charge.fate.amount()) else { continue };
            *owed.entry(key.clone()).or_default() += i128::from(amount.units());
            *quantities.entry(key).or_default() += charge.quantity.units();
        }
        prop_assert_eq!(found.lines.iter().map(|line| &line.key).collect::<Vec<_>>(), owed.keys().collect::<Vec<_>>());
        for line in &found.lines {
            let stages = [line.so_far, line.known, line.repeated];
            prop_assert_eq!(i128::from(line.at_end.units()), owed[&line.key]);
            prop_assert_eq!(stages.iter().map(|stage| i128::from(stage.amount.units())).sum::<i128>(), owed[&line.key]);
            prop_assert_eq!(stages.iter().map(|stage| stage.quantity.units()).sum::<i128>(), quantities[&line.key]);
        }
        Ok(())
    };
    let worlds = (world(), 0..30_usize, 0..30_usize);
    TestRunner::new(config).run(&worlds, test).unwrap_or_else(|error| panic!("{error}"));
}
