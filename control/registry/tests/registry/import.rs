//! LiteLLM's price map as registry documents: every field known, every digit kept, nothing guessed, slips held beside the book.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use platform_rating::LineIndex;
use platform_registry::document::{Document, PriceModel, PriceRow};
use platform_registry::import::{BOOK, FIELDS, Import, ImportTerms, ListPrice, MapError, Meaning, PriceMap, decode, field, import};
use platform_registry::stake::at_stake;
use platform_registry::{Compiled, SourceFile, Version, compile};
use platform_usage::json::Json;
use platform_usage::{Dimensions, Event, EventLimits, MeterSet};
use shared_types::{Instant, MeterId};

use super::golden::check_frozen;
use super::plausibility::shared;

const EXCERPT: &str = include_str!("../golden/litellm/excerpt.json");

fn terms(effective_at: &str) -> ImportTerms {
    ImportTerms::from(Instant::parse(effective_at).unwrap()).unwrap()
}

fn excerpt() -> Import {
    import(&PriceMap::parse(EXCERPT).unwrap(), None, &terms("2026-07-24T18:23:43Z")).unwrap()
}

/// The files that are published, checked.
fn book(files: &[SourceFile]) -> Version {
    let inside = format!("{BOOK}/");
    let files: Vec<SourceFile> = files.iter().filter(|file| file.name.starts_with(&inside)).cloned().collect();
    Version::check(&files).unwrap_or_else(|problems| panic!("{problems}"))
}

/// The book under a contract for everybody.
fn compiled(files: &[SourceFile]) -> Compiled {
    let contract = "[[contract]]\nid = \"all\"\ndefault = true\nprice_book = \"litellm\"\neffective_at = \"2020-01-01T00:00:00Z\"\n";
    let contract = SourceFile { name: format!("{BOOK}/contract.toml"), text: contract.to_owned() };
    let compiled = compile(&book(&[files, &[contract]].concat())).unwrap();
    compiled.plan.validate().unwrap();
    compiled
}

/// What the readings of an event cost: meter, quantity and unit price for the unit size, or the reason why not.
fn charged(compiled: &Compiled, event_type: &str, at: &str, data: &str) -> Vec<String> {
    let text =
        format!(r#"{{"specversion":"1.0","id":"1","source":"s","type":"{event_type}","organization":"o","time":"{at}","data":{data}}}"#);
    let event = Event::parse(text.as_bytes(), Instant::parse(at).unwrap(), &EventLimits::default()).unwrap();
    let set = MeterSet::new(compiled.meters.clone()).unwrap();
    let readings = set.read(&event).into_iter().map(|reading| {
        let priced = match &reading.result {
            Err(defect) => return format!("{} {}", reading.meter, defect.reason),
            Ok(quantity) => quantity,
        };
        let found = compiled.plan.resolve(event.organization(), &reading.meter, &reading.dimensions, event.start_at());
        match found {
            Err(reason) => format!("{} {priced} {reason}", reading.meter),
            Ok(found) => {
                let platform_rating::PriceModel::PerUnit { unit_price } = found.price.model else { panic!("per unit") };
                format!("{} {priced} x {unit_price} / {}", reading.meter, found.price.per)
            }
        }
    });
    readings.collect()
}

const AT: &str = "2026-08-01T00:00:00Z";

fn request(model: &str, tier: &str, input: &[(&str, u64)], output: &[(&str, u64)], more: &str) -> String {
    let members = |side: &str, parts: &[(&str, u64)]| {
        let total = parts.iter().map(|(_, count)| count).sum::<u64>();
        let parts: String = parts.iter().map(|(name, count)| format!(r#","{side}_{name}":{count}"#)).collect();
        format!(r#""{side}_tokens":{total}{parts}"#)
    };
    format!(r#"{{"model":"{model}","service_tier":"{tier}",{},{}{more}}}"#, members("input", input), members("output", output))
}

#[test]
fn an_excerpt_becomes_these_files() {
    let files = excerpt().files();
    let shown: Vec<String> =
        files.iter().filter(|file| !file.name.ends_with("meters.toml")).map(|file| format!("# {}\n{}", file.name, file.text)).collect();
    check_frozen("litellm/excerpt.files.toml", &shown.join("\n"));
    let meters = files.iter().find(|file| file.name.ends_with("meters.toml")).unwrap();
    check_frozen("litellm/meters.toml", &meters.text);
    let version = book(&files);
    assert_eq!(version.to_toml(), book(&excerpt().files()).to_toml());
}

#[test]
fn long_requests_tiers_and_kinds_of_tokens_have_their_own_prices() {
    let compiled = compiled(&excerpt().files());
    let check = |model: &str, tier: &str, input: &[(&str, u64)], output: &[(&str, u64)], more: &str, expected: &[&str]| {
        let found = charged(&compiled, "llm.request", AT, &request(model, tier, input, output, more));
        assert_eq!(found, expected, "{model} {tier}");
    };
    check(
        "acme/long",
        "standard",
        &[("uncached", 150_000), ("cache_read", 40_000), ("cache_write_5m", 6000), ("cache_write_1h", 4000)],
        &[("text", 900), ("reasoning", 100)],
        "",
        &[
            "tokens.cache_read 40000 x 0.125 / 1000000",
            "tokens.cache_write_1h 4000 x 2.5 / 1000000",
            "tokens.cache_write_5m 6000 x 1.5625 / 1000000",
            "tokens.input 150000 x 1.25 / 1000000",
            "tokens.output 900 x 10 / 1000000",
            "tokens.reasoning 100 x 10 / 1000000",
        ],
    );
    // One token more, and every token of the request has the other price; a kind without one keeps its own.
    check(
        "acme/long",
        "standard",
        &[("uncached", 160_001), ("cache_read", 40_000)],
        &[("text", 900), ("reasoning", 100)],
        "",
        &[
            "tokens.cache_read 40000 x 0.125 / 1000000",
            "tokens.input 160001 x 2.5 / 1000000",
            "tokens.output 900 x 15 / 1000000",
            "tokens.reasoning 100 x 15 / 1000000",
        ],
    );
    check("acme/long", "priority", &[("uncached", 10)], &[], "", &["tokens.input 10 x 2.5000999999999998 / 1000000"]);
    check(
        "acme/long",
        "batch",
        &[("uncached", 10)],
        &[("reasoning", 3)],
        "",
        &["tokens.input 10 x 0.625 / 1000000", "tokens.reasoning 3 x 5 / 1000000"],
    );
    check("acme/ranges", "standard", &[("uncached", 256_000)], &[], "", &["tokens.input 256000 x 0.05 / 1000000"]);
    check("acme/ranges", "standard", &[("uncached", 256_001)], &[], "", &["tokens.input 256001 x 0.25 / 1000000"]);
    let region = |region: &str, speed: &str| format!(r#","inference_region":"{region}","speed":"{speed}""#);
    for (values, price) in [
        (region("global", "standard"), "5"),
        (region("eu", "standard"), "5.5"),
        (region("global", "fast"), "30"),
        (region("eu", "fast"), "33"),
    ] {
        check("acme/regions", "standard", &[("uncached", 10)], &[], &values, &[&format!("tokens.input 10 x {price} / 1000000")]);
    }
    let of = |event_type: &str, data: &str| charged(&compiled, event_type, AT, data);
    let film = |more: &str| format!(r#"{{"model":"acme/film*maker","service_tier":"standard","quantity":8{more}}}"#);
    assert_eq!(of("llm.seconds.output", &film("")), ["seconds.output 8 x 0.05 / 1"]);
    assert_eq!(of("llm.seconds.output", &film(r#","resolution":"1080p""#)), ["seconds.output 8 x 0.08 / 1"]);
    assert_eq!(of("llm.images.input", &film("")), ["images.input 8 x 0.0004 / 1"]);
    // A price of zero is a price.
    assert_eq!(of("llm.pixels.output", &film("")), ["pixels.output 8 x 0 / 1000000"]);
    let search = |results: u64| format!(r#"{{"model":"acme/search","service_tier":"standard","quantity":1,"max_results":{results}}}"#);
    assert_eq!(
        [25, 26, 101].map(|results| of("llm.queries", &search(results))),
        [["queries 1 x 0.005 / 1"], ["queries 1 x 0.025 / 1"], ["queries 1 unpriced"]]
    );
    let web = r#"{"model":"acme/long","service_tier":"standard","quantity":2,"search_context_size":"medium"}"#;
    assert_eq!(of("llm.web_searches", web), ["web_searches 2 x 0.035 / 1"]);
}

#[test]
fn what_the_map_does_not_price_is_unpriced_and_never_zero() {
    let compiled = compiled(&excerpt().files());
    let check = |model: &str, tier: &str, more: &str, expected: &[&str]| {
        let data = request(model, tier, &[("uncached", 10)], &[], more);
        assert_eq!(charged(&compiled, "llm.request", AT, &data), expected, "{model}");
    };
    for model in ["acme/nobody", "acme/long2", "acme/lon", "ACME/LONG", "acme/long ", "acme/unpriced", "acme/slip", "long", ""] {
        check(model, "standard", "", &["tokens.input 10 unpriced"]);
    }
    // Neither the price of another tier nor that of another region.
    check("acme/long", "flex", "", &["tokens.input 10 unpriced"]);
    check("acme/regions", "standard", "", &["tokens.input 10 unpriced"]);
    check("acme/regions", "standard", r#","inference_region":"mars","speed":"standard""#, &["tokens.input 10 unpriced"]);
    let cache = request("acme/ranges", "standard", &[("cache_read", 10)], &[], "");
    assert_eq!(charged(&compiled, "llm.request", AT, &cache), ["tokens.cache_read 10 unpriced"]);
    let above = request("acme/ranges", "standard", &[("uncached", 1_000_001)], &[], "");
    assert_eq!(charged(&compiled, "llm.request", AT, &above), ["tokens.input 1000001 unpriced"]);
}

#[test]
fn kinds_of_tokens_that_do_not_add_up_are_quarantined() {
    let compiled = compiled(&excerpt().files());
    // The vendor's input includes what came from the cache, and nobody took it out.
    let data = r#"{"model":"acme/long","service_tier":"standard",
        "input_tokens":100,"input_uncached":100,"input_cache_read":40,"output_tokens":7,"output_text":7}"#;
    let found = charged(&compiled, "llm.request", AT, data);
    assert_eq!(found.iter().filter(|line| line.ends_with("parts_differ")).count(), 9, "{found:?}");
    assert_eq!(found.iter().filter(|line| !line.ends_with("parts_differ")).collect::<Vec<_>>(), ["tokens.output 7 x 10 / 1000000"]);
    // Between what the parts cost as they stand and all of them at the dearest price, which is the one of writing for an hour.
    let text =
        format!(r#"{{"specversion":"1.0","id":"1","source":"s","type":"llm.request","organization":"o","time":"{AT}","data":{data}}}"#);
    let event = Event::parse(text.as_bytes(), Instant::parse(AT).unwrap(), &EventLimits::default()).unwrap();
    let stated = MeterSet::new(compiled.meters.clone()).unwrap().stated_parts(&event);
    let prices = platform_rating::PriceIndex::of(&compiled.plan);
    let stakes = stated.iter().map(|stated| {
        let stake = at_stake(&compiled.plan, &prices, event.organization(), event.start_at(), stated).unwrap().unwrap();
        format!("{} to {} {}", stake.stated, stake.most, stake.currency)
    });
    assert_eq!(stakes.collect::<Vec<_>>(), ["0.00013 to 0.00035 USD", "0.00007 to 0.00007 USD"]);
    let missing = charged(&compiled, "llm.request", AT, r#"{"model":"acme/long","service_tier":"standard"}"#);
    assert!(missing.len() == 14 && missing.iter().all(|line| line.ends_with("missing_quantity")), "{missing:?}");
}

#[test]
fn a_field_that_nobody_has_looked_at_stops_the_import() {
    let map =
        |field: &str| format!(r#"{{"m":{{"litellm_provider":"p","{field}":1e-06}},"n":{{"{field}":1e-06,"input_cost_per_token":1}}}}"#);
    let refused = |text: &str| PriceMap::parse(text).unwrap_err();
    assert_eq!(
        refused(&map("input_cost_per_thought")).to_string(),
        "the price map has fields that are not known: input_cost_per_thought (in m)"
    );
    assert!(PriceMap::parse(&map("supports_thoughts")).is_ok());
    let inner = r#"{"m":{"tiered_pricing":[{"range":[0,10],"input_cost_per_thought":1}]}}"#;
    assert!(refused(inner).to_string().contains("tiered_pricing[0].input_cost_per_thought (in m)"));
    assert_eq!(refused("[]"), MapError::Shape);
    assert_eq!(refused(r#"{"m":1}"#), MapError::Shape);
    assert!(matches!(refused(r#"{"m":{"input_cost_per_token":1,"input_cost_per_token":2}}"#), MapError::Json(_)));
    assert!(matches!(refused(r#"{"m":"#), MapError::Json(_)));
}

#[test]
fn what_cannot_be_expressed_is_refused_by_name() {
    let check = |fields: &str, expected: &[&str]| {
        let map = PriceMap::parse(&format!(r#"{{"m":{{{fields}}}}}"#)).unwrap();
        let made = import(&map, None, &terms("2026-01-01T00:00:00Z")).unwrap();
        let found: Vec<String> = made.refused.iter().map(|refused| format!("{}: {}", refused.field, refused.why)).collect();
        assert_eq!(found, expected, "{fields}");
        assert!(made.documents.iter().all(|document| !matches!(document, Document::Sku(_))), "{fields}");
    };
    check(r#""input_cost_per_token":-1"#, &["input_cost_per_token: -1 is below zero"]);
    check(r#""input_cost_per_token":"1e-06""#, &["input_cost_per_token: not of the form that this field has"]);
    check(r#""input_cost_per_token":1e-25"#, &["input_cost_per_token: \"1e-19\" has more than 18 decimal places"]);
    check(r#""input_cost_per_token":1e15"#, &["input_cost_per_token: \"1e21\" does not fit: at most 20 digits before the decimal point"]);
    check(
        r#""input_cost_per_token_cache_hit":1e-07,"cache_read_input_token_cost":5e-08"#,
        &[
            "cache_read_input_token_cost: two fields state different prices for the same thing",
            "input_cost_per_token_cache_hit: two fields state different prices for the same thing",
        ],
    );
    check(
        r#""input_cost_per_video_per_second":1,"input_cost_per_video_per_second_above_8s_interval":2,"input_cost_per_video_per_second_above_128k_tokens":3"#,
        &[
            "input_cost_per_video_per_second: two different thresholds on one price",
            "input_cost_per_video_per_second_above_128k_tokens: two different thresholds on one price",
            "input_cost_per_video_per_second_above_8s_interval: two different thresholds on one price",
        ],
    );
    check(r#""provider_specific_entry":{"moon":2.0}"#, &["provider_specific_entry.moon: a factor whose condition the map does not state"]);
    let long = format!(r#"{{"{}":{{"input_cost_per_token":1e-06}}}}"#, "m".repeat(120));
    let made = import(&PriceMap::parse(&long).unwrap(), None, &terms("2026-01-01T00:00:00Z")).unwrap();
    assert!(made.refused[0].why.contains("is not 1 to 128 characters"), "{:?}", made.refused);
}

fn changed(from: &str, to: &str) -> PriceMap {
    assert!(EXCERPT.contains(from));
    PriceMap::parse(&EXCERPT.replace(from, to)).unwrap()
}

fn rows(version: &Version, sku: &str) -> Vec<String> {
    let rows = version.price_books().flat_map(|book| &book.prices).filter(|row| row.sku.as_str() == sku);
    let shown = |row: &PriceRow| match &row.model {
        PriceModel::PerUnit { unit_price, .. } => format!("{} {unit_price}", row.effective_at),
        _ => "other".to_owned(),
    };
    rows.map(shown).collect()
}

#[test]
fn the_next_import_adds_rows_for_what_changed_and_nothing_else() {
    let published = book(&excerpt().files());
    let again = import(&PriceMap::parse(EXCERPT).unwrap(), Some(&published), &terms("2026-09-01T00:00:00Z")).unwrap();
    assert_eq!((again.added, again.changed, again.held.len()), (0, 0, 2));
    assert_eq!(book(&again.files()).address(), published.address());
    let map = changed(r#""input_cost_per_token": 1.25e-06"#, r#""input_cost_per_token": 1e-06"#);
    let next = import(&map, Some(&published), &terms("2026-09-01T00:00:00Z")).unwrap();
    assert_eq!((next.added, next.changed), (0, 1));
    let version = book(&next.files());
    assert_eq!(rows(&version, "input:acme/long"), ["2026-07-24T18:23:43Z 1.25", "2026-09-01T00:00:00Z 1"]);
    // The same instant again: the new price would be in force at once with the old one.
    let error = import(&map, Some(&published), &terms("2026-07-24T18:23:43Z")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the price of sku input:acme/long changes from 2026-07-24T18:23:43Z on, which is not after its last price, from 2026-07-24T18:23:43Z on"
    );
    // A model that is gone keeps its prices: usage of it is still charged.
    let map = changed("acme/ranges", "acme/renamed");
    let next = import(&map, Some(&published), &terms("2026-09-01T00:00:00Z")).unwrap();
    assert_eq!(next.gone.len(), 4);
    assert_eq!(rows(&book(&next.files()), "input:acme/ranges").len(), 1);
    assert_eq!(rows(&book(&next.files()), "input:acme/renamed").len(), 1);
}

#[test]
fn a_held_price_is_released_by_moving_its_block_and_by_nothing_else() {
    let published = book(&excerpt().files());
    let map = changed(r#""output_cost_per_token": 1e-05"#, r#""output_cost_per_token": 1e-04"#);
    let next = import(&map, Some(&published), &terms("2026-09-01T00:00:00Z")).unwrap();
    // The slip itself, the copy for reasoning, and the two of the model that was held from the beginning.
    let held: Vec<(&str, &str)> = next.held.iter().map(|held| (held.model.as_str(), held.what.as_str())).collect();
    assert_eq!(
        held,
        [("acme/long", "output tokens"), ("acme/long", "reasoning tokens"), ("acme/slip", "input tokens"), ("acme/slip", "output tokens")]
    );
    assert_eq!(rows(&book(&next.files()), "output:acme/long"), ["2026-07-24T18:23:43Z 10"]);
    let mut files = next.files();
    let held = files.iter().find(|file| file.name == "held.toml").unwrap().text.clone();
    let block = held.split("\n#").find(|part| part.contains("\"output:acme/long\"")).unwrap();
    let block: String = block.split_inclusive('\n').skip_while(|line| !line.starts_with("[[")).collect();
    files.iter_mut().find(|file| file.name.ends_with("prices.toml")).unwrap().text += &block;
    let released = book(&files);
    assert_eq!(rows(&released, "output:acme/long"), ["2026-07-24T18:23:43Z 10", "2026-09-01T00:00:00Z 100"]);
    let after = import(&map, Some(&released), &terms("2026-10-01T00:00:00Z")).unwrap();
    assert!(after.held.iter().all(|held| held.what != "output tokens" || held.model != "acme/long"), "{:?}", after.held);
    assert!(after.held.iter().any(|held| held.what == "reasoning tokens"), "what was not released is held again");
}

/// The whole map as it was published, if it is there.
fn whole() -> Option<String> {
    let path = shared().join("data/litellm_model_prices.json");
    let text = std::fs::read_to_string(&path).ok();
    if text.is_none() {
        eprintln!("NOT TESTED: there is no price map at {}", path.display());
    }
    text
}

#[test]
fn every_price_field_of_the_whole_map_is_expressed_or_refused_by_name() {
    let Some(text) = whole() else { return };
    let Json::Object(models) = Json::parse(&text).unwrap() else { panic!("no map") };
    let entries = models.iter().filter_map(|(model, value)| match value {
        Json::Object(members) if model != "sample_spec" && members.iter().any(|(name, _)| name == "litellm_provider") => Some(members),
        _ => None,
    });
    let names: BTreeSet<String> = entries.flatten().map(|(name, _)| name.to_string()).collect();
    let money = |name: &&String| name.contains("cost") || name.as_str() == "tiered_pricing";
    assert_eq!(names.iter().filter(money).count(), 77);
    let refused: Vec<&String> = names.iter().filter(|name| matches!(field(name).unwrap().meaning, Meaning::Refused(_))).collect();
    assert_eq!(refused, ["input_dbu_cost_per_token", "output_dbu_cost_per_token"]);
    for name in names.iter().filter(money) {
        assert!(!matches!(field(name).unwrap().meaning, Meaning::Description), "{name}");
    }
    let kinds = FIELDS.iter().filter(|row| names.contains(row.name) && !matches!(row.meaning, Meaning::Description)).count();
    assert_eq!(kinds, 80, "77 prices, two factors by region and one for the others");
}

#[test]
fn the_whole_map_checks_compiles_and_keeps_every_digit() {
    let Some(text) = whole() else { return };
    let map = PriceMap::parse(&text).unwrap();
    let made = import(&map, None, &terms("2026-07-24T18:23:43Z")).unwrap();
    let compiled = compiled(&made.files());
    let mut whys: BTreeMap<&str, usize> = BTreeMap::new();
    for refused in &made.refused {
        *whys.entry(refused.why.as_str()).or_default() += 1;
    }
    println!(
        "{} models, {} without a price, {} prices, {} held; refused: {whys:?}",
        map.models.len(),
        made.unpriced.len(),
        made.added,
        made.held.len()
    );
    assert_eq!(map.models.len(), 2982);
    // A second reading of the file: the number's text against the row of the book.
    let book = book(&made.files());
    let rows: BTreeMap<&str, ListPrice> = book
        .price_books()
        .flat_map(|book| &book.prices)
        .map(|row| match &row.model {
            PriceModel::PerUnit { per, unit_price } => (row.sku.as_str(), ListPrice::of_row(*unit_price, *per).unwrap()),
            _ => panic!("per unit"),
        })
        .collect();
    for sku in rows.keys() {
        let (_, model) = sku.split_once(':').unwrap();
        assert!(map.models.contains_key(&decode(model).unwrap()), "{sku}");
    }
    let Json::Object(models) = Json::parse(&text).unwrap() else { panic!("no map") };
    let held: BTreeSet<(&str, &str)> = made.held.iter().map(|held| (held.model.as_str(), held.field.as_str())).collect();
    let mut compared = 0;
    for (model, value) in &models {
        let Json::Object(members) = value else { continue };
        for (code, name) in [
            ("input", "input_cost_per_token"),
            ("output.priority", "output_cost_per_token_priority"),
            ("images_output", "output_cost_per_image"),
        ] {
            let Some((_, Json::Number(number))) = members.iter().find(|(member, _)| member == name) else { continue };
            if held.contains(&(&**model, name)) || model == "sample_spec" {
                continue;
            }
            let sku = format!("{code}:{}", platform_registry::import::encode(model));
            assert_eq!(rows[sku.as_str()].to_string(), shared_types::plain_decimal(number).unwrap(), "{sku}");
            compared += 1;
        }
    }
    assert!(compared > 2600, "{compared}");
    // The index of lines finds what trying them one by one finds, and not by trying them one by one.
    let book = &compiled.plan.books[0];
    let meter = MeterId::parse("tokens.input").unwrap();
    let index = LineIndex::of(book, &meter);
    let mut probes = Vec::new();
    for model in map.models.keys().chain([&"gpt-99".to_owned()]) {
        for (tier, context) in [("standard", "9000"), ("standard", "200001"), ("priority", "300000"), ("economy", "1")] {
            let pairs = [("model", model.as_str()), ("service_tier", tier), ("context_tokens", context), ("inference_region", "eu")];
            probes.push(Dimensions::new(pairs.map(|(name, value)| (Arc::from(name), Arc::from(value)))));
        }
    }
    let begun = std::time::Instant::now();
    let found: Vec<_> = probes.iter().map(|probe| index.line(probe).map(|line| &line.sku)).collect();
    let indexed = begun.elapsed();
    let tried: Vec<_> = probes.iter().map(|probe| book.line(&meter, probe).map(|line| &line.sku)).collect();
    println!("{} look-ups: {indexed:?} by index, {:?} one by one", probes.len(), begun.elapsed() - indexed);
    assert_eq!(found, tried);
    assert!(found.iter().flatten().count() > 5000);
    let context = |context: &str| {
        let pairs = [("model", "gemini-2.5-pro"), ("service_tier", "standard"), ("context_tokens", context)];
        index.line(&Dimensions::new(pairs.map(|(name, value)| (Arc::from(name), Arc::from(value))))).map(|line| line.sku.to_string())
    };
    assert_eq!(context("200000.000000001").as_deref(), Some("input.above-200000:gemini-2.5-pro"));
    assert_eq!(context("-0.5").as_deref(), Some("input:gemini-2.5-pro"));
    for no_number in ["", "2e5", "+1", "1.", ".5", "200000.0000000001", "x"] {
        assert_eq!(context(no_number), None, "{no_number}");
    }
    let data = request("gemini-2.5-pro", "standard", &[("uncached", 200_001)], &[("text", 1)], "");
    assert_eq!(charged(&compiled, "llm.request", AT, &data), ["tokens.input 200001 x 2.5 / 1000000", "tokens.output 1 x 15 / 1000000"]);
    let dimensions = Dimensions::new([(Arc::from("model"), Arc::from("gpt-99")), (Arc::from("service_tier"), Arc::from("standard"))]);
    let unknown =
        compiled.plan.resolve(&"o".parse().unwrap(), &MeterId::parse("tokens.input").unwrap(), &dimensions, Instant::parse(AT).unwrap());
    assert_eq!(unknown.unwrap_err().code(), "unpriced");
}
