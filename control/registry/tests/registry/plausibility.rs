//! The plausibility gate over a history of prices: what it would have held of the slips, and of everything else.
//!
//! The real history lies in the project's shared data (`TALLY_SHARED`, or `../shared` beside the workspace). Where it is absent the test
//! says so and measures a generated one. `TALLY_WRITE_RESULTS=1` keeps the figures in `benches/results`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use platform_registry::import::{ListPrice, Meaning, Stated, Terms, Tier, field};
use platform_registry::plausibility::{Market, Offer, Rule, judge};
use platform_usage::json::Json;
use serde_json::json;
use shared_types::Instant;

/// The project's shared folder.
pub fn shared() -> PathBuf {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    std::env::var_os("TALLY_SHARED").map_or(beside, PathBuf::from)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Add,
    Remove,
    Alter,
}

/// One change of one field.
#[derive(Clone, Debug)]
struct Row {
    change: Change,
    model: String,
    field: String,
    old: String,
    new: String,
}

/// Prices by model and field, as text.
type Prices = BTreeMap<String, BTreeMap<String, String>>;

/// Versions of a price map.
struct History {
    /// Before the first version.
    base: Prices,
    versions: Vec<Vec<Row>>,
    /// Model, field, value before and after of each edit by nine times or more.
    edits: BTreeSet<(String, String, String, String)>,
}

/// The recorded history. Its base is what undoing all of it leaves of the present map.
fn recorded(folder: &Path) -> Option<History> {
    let packed = std::fs::read(folder.join("litellm_price_history.csv.gz")).ok()?;
    let mut text = String::new();
    flate2::read::GzDecoder::new(&packed[..]).read_to_string(&mut text).unwrap();
    let mut versions: Vec<(String, Vec<Row>)> = Vec::new();
    for record in csv::Reader::from_reader(text.as_bytes()).records() {
        let record = record.unwrap();
        let [_, version, change, model, field, old, new] = [0, 1, 2, 3, 4, 5, 6].map(|at| record[at].to_owned());
        let change = match change.as_str() {
            "add" => Change::Add,
            "remove" => Change::Remove,
            _ => Change::Alter,
        };
        if versions.last().is_none_or(|(last, _)| *last != version) {
            versions.push((version, Vec::new()));
        }
        versions.last_mut().unwrap().1.push(Row { change, model, field, old, new });
    }
    let versions: Vec<Vec<Row>> = versions.into_iter().map(|(_, rows)| rows).collect();
    let fields: BTreeSet<&String> = versions.iter().flatten().map(|row| &row.field).collect();
    let map = std::fs::read_to_string(folder.join("litellm_model_prices.json")).unwrap();
    let mut base = Prices::new();
    let Json::Object(models) = Json::parse(&map).unwrap() else { panic!("no map") };
    for (model, value) in &models {
        let Json::Object(members) = value else { continue };
        for (name, value) in members.iter().filter(|(name, _)| fields.contains(&name.to_string())) {
            let text = if let Json::Number(text) = value { *text } else { "" };
            base.entry(model.to_string()).or_default().insert(name.to_string(), text.to_owned());
        }
    }
    for row in versions.iter().rev().flat_map(|rows| rows.iter().rev()) {
        let prices = base.entry(row.model.clone()).or_default();
        match row.change {
            Change::Add => assert!(prices.remove(&row.field).is_some(), "{} {}", row.model, row.field),
            Change::Remove | Change::Alter => {
                prices.insert(row.field.clone(), row.old.clone());
            }
        }
    }
    let incidents = std::fs::read_to_string(folder.join("litellm_price_incidents.csv")).unwrap();
    let mut incidents = csv::Reader::from_reader(incidents.as_bytes());
    let edits = incidents.records().map(|record| record.map(|of| (of[1].to_owned(), of[2].to_owned(), of[3].to_owned(), of[4].to_owned())));
    Some(History { base, versions, edits: edits.collect::<Result<_, _>>().unwrap() })
}

/// A made-up history: forty harmless changes, ten slips by a change and ten by a new entry, half of each in either half.
fn generated() -> History {
    let row = |change, model: String, field: &str, old: &str, new: &str| Row {
        change,
        model,
        field: field.to_owned(),
        old: old.to_owned(),
        new: new.to_owned(),
    };
    let (input, output) = ("input_cost_per_token", "output_cost_per_token");
    let mut base = Prices::new();
    for number in 0..60 {
        let prices = [(input.to_owned(), "2e-06".to_owned()), (output.to_owned(), "8e-06".to_owned())];
        base.insert(format!("maker/model-{number}"), prices.into());
    }
    let mut versions = Vec::new();
    let mut edits = BTreeSet::new();
    let mut edit = |model: &str, field: &str, old: &str, new: &str| {
        edits.insert((model.to_owned(), field.to_owned(), old.to_owned(), new.to_owned()));
    };
    for number in 0..20 {
        let model = |offset: usize| format!("maker/model-{}", number * 3 + offset);
        let mut rows = vec![
            row(Change::Alter, model(0), input, "2e-06", "1.5e-06"),
            row(Change::Alter, model(0), output, "8e-06", "6e-06"),
            row(Change::Add, format!("other/new-{number}"), input, "", "3e-07"),
            row(Change::Add, format!("other/new-{number}"), output, "", "1.2e-06"),
        ];
        let mut mend = Vec::new();
        if number % 2 == 0 {
            let (slip, new) = (model(1), format!("other/slip-{number}"));
            rows.push(row(Change::Alter, slip.clone(), input, "2e-06", "0.002"));
            rows.push(row(Change::Add, new.clone(), input, "", "0.0006"));
            mend.push(row(Change::Alter, slip.clone(), input, "0.002", "2e-06"));
            mend.push(row(Change::Alter, new.clone(), input, "0.0006", "6e-07"));
            edit(&slip, input, "2e-06", "0.002");
            edit(&slip, input, "0.002", "2e-06");
            edit(&new, input, "0.0006", "6e-07");
        }
        versions.extend([rows, mend]);
    }
    History { base, versions, edits }
}

/// How often the gate held.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    all: usize,
    held: usize,
}

impl Tally {
    fn count(&mut self, held: bool) {
        self.all += 1;
        self.held += usize::from(held);
    }

    /// Of a thousand, to the nearest whole.
    fn per_thousand(self) -> usize {
        (self.held * 1000 + self.all / 2).checked_div(self.all).unwrap_or(0)
    }

    fn json(self) -> serde_json::Value {
        json!({"all": self.all, "held": self.held, "held_per_1000": self.per_thousand()})
    }
}

/// One half of a history.
#[derive(Debug, Default)]
struct Measured {
    /// Edits by nine times or more: slips and their corrections.
    edits: Tally,
    /// Values that an edit by nine times or more corrected later, and that had come with a new price.
    new_slips: Tally,
    /// The same by occasion: versions × the first part of the model's name, held altogether.
    new_occasions: Tally,
    /// Such values that had come with a smaller change.
    small_slips: Tally,
    /// All other changes of a price.
    changes: Tally,
    /// All other new prices.
    new: Tally,
    /// False alarms by rule: a price may be held for more than one.
    alarms: BTreeMap<&'static str, usize>,
}

fn stated(name: &str, text: &str) -> Option<Stated> {
    let row = field(name).unwrap_or_else(|| panic!("unknown field {name}"));
    let terms = match row.meaning {
        Meaning::Price(term) => Terms::from(&term),
        // Never imported; the gate still says what it would think of the figure.
        Meaning::Refused(_) => Terms { code: row.name, tier: Tier::Standard, only: BTreeMap::new(), above: None, up_to: None },
        _ => return None,
    };
    Some(Stated { field: name.to_owned(), terms, price: ListPrice::parse(text).ok()? })
}

fn all_stated(prices: &BTreeMap<String, String>) -> Vec<Stated> {
    prices.iter().filter_map(|(name, text)| stated(name, text)).collect()
}

/// Replays a history, each version on the one before it, and measures both halves.
fn measure(history: &History) -> [Measured; 2] {
    let key = |row: &Row| (row.model.clone(), row.field.clone(), row.old.clone(), row.new.clone());
    // Where each value came in that an edit by nine times or more corrected.
    let mut arrivals: HashMap<(String, String), (usize, usize)> = HashMap::new();
    let mut slips: BTreeSet<(usize, usize)> = BTreeSet::new();
    let mut found = BTreeSet::new();
    for (version, rows) in history.versions.iter().enumerate() {
        for (at, row) in rows.iter().enumerate() {
            let place = (row.model.clone(), row.field.clone());
            if row.change == Change::Alter && history.edits.contains(&key(row)) {
                found.insert(key(row));
                slips.extend(arrivals.get(&place));
            }
            match row.change {
                Change::Remove => arrivals.remove(&place),
                Change::Add | Change::Alter => arrivals.insert(place, (version, at)),
            };
        }
    }
    assert_eq!(found, history.edits, "every edit is in the history");
    let mut market = Market::default();
    let mut prices = history.base.clone();
    for (model, prices) in &prices {
        market.put(model, all_stated(prices));
    }
    let mut halves = [Measured::default(), Measured::default()];
    for (version, rows) in history.versions.iter().enumerate() {
        let half = &mut halves[usize::from(version >= history.versions.len() / 2)];
        let models: BTreeSet<&String> = rows.iter().map(|row| &row.model).collect();
        let before: HashMap<&String, BTreeMap<String, String>> =
            models.iter().map(|model| (*model, prices.get(*model).cloned().unwrap_or_default())).collect();
        for row in rows {
            let of_model = prices.entry(row.model.clone()).or_default();
            match row.change {
                Change::Remove => of_model.remove(&row.field),
                Change::Add | Change::Alter => of_model.insert(row.field.clone(), row.new.clone()),
            };
        }
        for model in &models {
            market.put(model, all_stated(&prices[*model]));
        }
        let mut held: HashMap<(&String, String), Vec<Rule>> = HashMap::new();
        for model in &models {
            let before = &before[model];
            let offers: Vec<Offer> = all_stated(&prices[*model])
                .into_iter()
                .map(|now| Offer { before: before.get(&now.field).and_then(|text| ListPrice::parse(text).ok()), stated: now })
                .collect();
            for hold in judge(model, &offers, &market) {
                assert!(hold.reasons.iter().all(|reason| reason.text.contains(model.as_str())), "a reason names its model");
                let rules = hold.reasons.iter().map(|reason| reason.rule).collect();
                held.insert((*model, offers[hold.offer].stated.field.clone()), rules);
            }
        }
        let mut occasions: BTreeMap<&str, bool> = BTreeMap::new();
        for (at, row) in rows.iter().enumerate() {
            let numeric = row.change != Change::Remove && stated_or_none(&row.field, &row.new).is_some();
            if !numeric {
                continue;
            }
            let rules = held.get(&(&row.model, row.field.clone()));
            let slip = slips.contains(&(version, at));
            let edit = row.change == Change::Alter && history.edits.contains(&key(row));
            let tally = match (row.change, edit, slip) {
                (Change::Alter, true, _) => &mut half.edits,
                (Change::Alter, false, true) => &mut half.small_slips,
                (Change::Alter, false, false) => &mut half.changes,
                (_, _, true) => {
                    let provider = row.model.split(['/', '.']).next().unwrap_or_default();
                    *occasions.entry(provider).or_insert(true) &= rules.is_some();
                    &mut half.new_slips
                }
                (_, _, false) => &mut half.new,
            };
            tally.count(rules.is_some());
            if !edit && !slip {
                for rule in rules.into_iter().flatten() {
                    *half.alarms.entry(rule.name()).or_default() += 1;
                }
            }
        }
        for held in occasions.into_values() {
            half.new_occasions.count(held);
        }
    }
    halves
}

/// As [`stated`], for fields that were never prices too.
fn stated_or_none(name: &str, text: &str) -> Option<Stated> {
    field(name).and_then(|_| stated(name, text))
}

fn figures(history: &History, halves: &[Measured; 2]) -> serde_json::Value {
    let [first, second] = halves.each_ref().map(|half| {
        json!({
            "edits_of_9_times_or_more": half.edits.json(),
            "slips_in_new_prices": half.new_slips.json(),
            "slips_in_new_prices_by_version_and_provider": half.new_occasions.json(),
            "slips_in_smaller_changes": half.small_slips.json(),
            "harmless_changes": half.changes.json(),
            "harmless_new_prices": half.new.json(),
            "false_alarms_by_rule": half.alarms,
        })
    });
    json!({"versions_with_changes": history.versions.len(), "first_half": first, "second_half": second})
}

/// Keeps a result beside those of the benchmarks.
fn keep(figures: &serde_json::Value) {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let at = Instant::from_micros(i64::try_from(since).unwrap() * 1_000_000).unwrap().to_string();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let result = json!({
        "bench": "plausibility", "at": at, "profile": "dev", "machine": {"cores": cores},
        "versions": {"platform-registry": env!("CARGO_PKG_VERSION")}, "figures": figures,
    });
    let day: String = at.chars().take(10).collect();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../benches/results/plausibility-{day}.json"));
    std::fs::write(path, serde_json::to_string_pretty(&result).unwrap() + "\n").unwrap();
}

#[test]
fn slips_of_public_prices_are_held_and_harmless_changes_are_not() {
    let folder = shared().join("data");
    let history = recorded(&folder);
    let real = history.is_some();
    if !real {
        eprintln!("NOT MEASURED: there is no price history in {}; a generated one takes its place", folder.display());
    }
    let history = history.unwrap_or_else(generated);
    let halves = measure(&history);
    let figures = figures(&history, &halves);
    println!("{}", serde_json::to_string_pretty(&figures).unwrap());
    if real && std::env::var_os("TALLY_WRITE_RESULTS").is_some() {
        keep(&figures);
    }
    let [_, second] = halves;
    assert!(second.edits.all > 0 && second.edits.per_thousand() >= 950, "{second:?}");
    assert!(second.new_slips.all > 0 && second.new_slips.per_thousand() >= 600, "{second:?}");
    assert!(second.changes.per_thousand() <= 20, "{second:?}");
    assert!(second.new.per_thousand() <= 20, "{second:?}");
}

#[test]
fn the_generated_history_is_judged_without_an_error() {
    for half in measure(&generated()) {
        assert_eq!([half.edits, half.new_slips].map(|slips| slips.all - slips.held), [0, 0]);
        assert_eq!((half.changes.held, half.new.held), (0, 0), "{:?}", half.alarms);
        assert!(half.edits.all >= 10 && half.new_slips.all >= 5 && half.changes.all >= 20);
    }
}

#[test]
fn reasons_are_sentences_that_a_person_can_check() {
    let offer = |name: &str, before: Option<&str>, now: &str| Offer {
        stated: stated(name, now).unwrap(),
        before: before.map(|text| ListPrice::parse(text).unwrap()),
    };
    let check = |offers: &[Offer], expected: &[&str]| {
        let holds = judge("m", offers, &Market::default());
        let found: Vec<String> =
            holds.iter().flat_map(|hold| &hold.reasons).map(|reason| format!("{}: {reason}", reason.rule.name())).collect();
        assert_eq!(found, expected);
    };
    let (input, output) = ("input_cost_per_token", "output_cost_per_token");
    check(
        &[offer(input, Some("1.5e-07"), "1.5e-07"), offer(output, Some("6e-07"), "0.0006")],
        &[
            "changed_by_a_factor: price of output tokens of m rose 1000 times, a power of ten, from 0.6 USD per million tokens to 600 USD per million tokens; price of input tokens rose 1.0 times",
            "unit_slip: price of output tokens of m is 600 USD per million tokens: probably the price of more units than one",
            "output_far_above_input: price of output tokens of m is 4000 times the price of input tokens (600 USD per million tokens against 0.15 USD per million tokens)",
        ],
    );
    check(&[offer(output, Some("6e-07"), "0")], &["became_free: price of output tokens of m fell from 0.6 USD per million tokens to zero"]);
    check(
        &[offer(input, None, "1e-06"), offer(output, None, "4e-06"), offer("cache_read_input_token_cost", None, "1.25e-06")],
        &[
            "cache_read_above_input: price of input tokens read from the cache of m is 1.2 times the price of input tokens (1.25 USD per million tokens against 1 USD per million tokens)",
        ],
    );
    check(
        &[offer(input, None, "1e-06"), offer("input_cost_per_token_priority", None, "2e-05")],
        &["variant_far_from_usual: price of input tokens (priority) of m is 20.0 times the usual 1 USD per million tokens"],
    );
    check(
        &[offer(input, None, "0.00025"), offer(output, None, "0.001"), offer("cache_read_input_token_cost", None, "2.5e-05")],
        &[
            "unit_slip: price of input tokens of m is 250 USD per million tokens: probably the price of more units than one",
            "unit_slip: price of output tokens of m is 1000 USD per million tokens: probably the price of more units than one",
            "same_entry: price of input tokens read from the cache of m came with one of input tokens that is held",
        ],
    );
    let mut market = Market::default();
    for (model, price) in [("a/m", "1e-06"), ("b/m", "2e-06"), ("c/m", "5e-05")] {
        market.put(model, vec![stated(input, price).unwrap()]);
    }
    let holds = judge("c/m", &[offer(input, None, "5e-05")], &market);
    assert_eq!(
        holds[0].reasons[0].text,
        "price of input tokens of c/m is 50.0 times the 1 USD per million tokens that 2 other offers of the model have in the middle"
    );
    // What was paid before is compared with, never held.
    check(&[offer(input, Some("0.5"), "0.5")], &[]);
}
