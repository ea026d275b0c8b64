//! A small deployment of two organizations over two months, made from a seed: what the bundle tests pack. Every measure and model that bundles
//! prove prices some of it. Prices are resolved by hand and amounts computed by `bundle_oracle`; nothing of `platform-rating` is used.

use std::collections::BTreeMap;

use platform_evidence::bundle::{
    BundleEvent, BundleInput, BundleKey, BundleReading, CoveredLog, Issue, Proof, RegistryDocuments, RegistryIndex,
};
use platform_evidence::{AuditHead, Checkpoint, CutInput, Entry, LeafInput, LedgerHead, SaltKey, Signer, State, commitment, tree};
use serde_json::{Value, json};
use shared_types::{
    AssetId, BatchNo, Digest, IdentityHash, Instant, MeterId, Month, OrganizationId, ProjectId, Quantity, SourceId, Sum, UnitId,
    canonical_json,
};

use crate::bundle_invoice::invoice;
use crate::bundle_oracle::{Charged, rational};

pub const ORIGIN: &str = "bundle.tallystick.example/log";

/// What a bundle is made from, and the keys.
pub struct World {
    /// The invoice of the month before, as the customer kept it.
    pub before: String,
    pub input: BundleInput,
    pub log: Signer,
    pub key: BundleKey,
    /// The tiled log: entries in order.
    pub entries: Vec<String>,
}

/// splitmix64: the same world for the same seed, everywhere.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }

    fn uuid(&mut self) -> String {
        let hex: String = (0..32).map(|_| char::from_digit(u32::try_from(self.roll(16)).unwrap(), 16).unwrap()).collect();
        format!("{}-{}-4{}-a{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..])
    }
}

pub fn text(value: &Value) -> String {
    canonical_json(value).unwrap()
}

fn per_unit(id: &str, sku: &str, from: &str, per: &str, unit_price: &str) -> Value {
    json!({"id": id, "sku": sku, "effective_at": from, "model": {"per_unit": {"per": per, "unit_price": unit_price}}})
}

const START: &str = "2026-01-01T00:00:00Z";

/// Price rows that the second version words differently: a price as it is, one of a maximum, one of levels, one with an allowance.
const ALTERED: [(&str, &str, &str); 5] = [
    ("in-large-1", "0.0000031", "0.0000029"),
    ("net.max-1", "\"package_price\":\"0.9\"", "\"package_price\":\"0.8\""),
    ("level.tiers-1", "\"unit_price\":\"90\"", "\"unit_price\":\"85.5\""),
    ("payments-1", "\"rate\":\"2.9\"", "\"rate\":\"2.7\""),
    ("lease.gpus-1", "\"unit_price\":\"2.49\"", "\"unit_price\":\"2.29\""),
];

/// Prices of leases that only one version has, with the instants at which they begin: in the second one leases of GPUs are cut anew at one, those of disks
/// no more at the other.
const CUTS: [(&str, &str, bool); 2] = [("lease.gpus", "2026-10-10T12:00:00Z", true), ("lease.disk", "2026-10-20T06:00:00Z", false)];

/// Where a version cuts leases of a meter inside months.
fn cuts(meter: &str, second: bool) -> Vec<Instant> {
    let of_meter = CUTS.into_iter().filter(|(of, _, later)| (*of, *later) == (meter, second));
    of_meter.map(|(_, at, _)| Instant::parse(at).unwrap()).collect()
}

/// Where output of a long context ends and that of a longer one begins.
fn band(second: bool) -> &'static str {
    if second { "3100" } else { "3500" }
}

/// Documents of both versions; in the second the price of output falls from 15 November on and is given per thousand, and December's, which
/// prices nothing here, is corrected. What the second one alters of October has its usage rated again: see [`ALTERED`] and [`band`].
pub fn documents(second: bool) -> Vec<Value> {
    let tier = |up_to: Option<&str>, price: &str, fee: &str| match up_to {
        Some(bound) => json!({"up_to": bound, "unit_price": price, "flat_fee": fee}),
        None => json!({"unit_price": price, "flat_fee": fee}),
    };
    let mut prices = vec![
        per_unit("gpu-1", "gpu.h100", START, "3600", "2.79"),
        json!({"id": "health-1", "sku": "health", "effective_at": START, "model": {"free": {"rule": "launch"}}}),
        json!({"id": "in-1", "sku": "tokens.in", "effective_at": START, "model": {"graduated": {"per": "1000000", "tiers": [
            tier(Some("100000"), "0.88", "0.01"), tier(Some("1000000"), "0.79", "0.5"), tier(None, "0.71", "0")]}}}),
        per_unit("in-large-1", "tokens.in.large", START, "7", "0.0000031"),
        per_unit("lease.gpus-1", "lease.gpus", START, "3600", "2.49"),
        per_unit("lease.disk-1", "lease.disk", START, "1", "0.0831"),
        per_unit("lease.stopped-1", "lease.stopped", START, "1", "0.2"),
        per_unit("out-1", "tokens.out", START, "1000000", "2.64"),
        per_unit("out-long-1", "tokens.out.long", START, "1000000", "5.28"),
        per_unit("out-longer-1", "tokens.out.longer", START, "1000000", "7.92"),
        per_unit("out-3", "tokens.out", "2026-12-01T00:00:00Z", "1000000", if second { "1.99" } else { "19.9" }),
        json!({"id": "requests-1", "sku": "requests", "effective_at": START, "model": {"package": {"size": "10", "package_price": "0.05"}}}),
        json!({"id": "storage-1", "sku": "storage", "effective_at": START, "model": {"volume": {"per": "1", "tiers": [
            tier(Some("20"), "0.0003333", "0"), tier(None, "0.00021", "1")]}}}),
    ];
    let cut = CUTS.into_iter().filter(|(_, _, later)| *later == second);
    prices.extend(cut.map(|(sku, from, _)| match sku {
        "lease.gpus" => per_unit("lease.gpus-2", sku, from, "3600", "2.19"),
        _ => per_unit("lease.disk-0", sku, from, "1", "0.0799"),
    }));
    if second {
        prices.push(per_unit("out-2", "tokens.out", "2026-11-15T00:00:00Z", "1000", "0.0021"));
    }
    let metered = metered();
    prices.extend(
        metered
            .iter()
            .map(|priced| json!({"id": format!("{}-1", priced.id), "sku": priced.id, "effective_at": START, "model": priced.model})),
    );
    for (id, before, after) in ALTERED.into_iter().filter(|_| second) {
        let price = prices.iter_mut().find(|price| price["id"] == id).unwrap();
        let altered = text(price).replacen(before, after, 1);
        assert_ne!(altered, text(price));
        *price = serde_json::from_str(&altered).unwrap();
    }
    prices.sort_by_key(|price| (price["sku"].as_str().unwrap().to_owned(), price["effective_at"].as_str().unwrap().to_owned()));
    let meter = |id: &str, event_type: &str, value: Option<&str>, unit: &str, dimensions: Value| {
        let mut meter = json!({"kind": "meter", "id": id, "event_type": event_type, "aggregation": if value.is_some() { "sum" } else { "count" },
            "unit": unit, "dimensions": dimensions, "negative": "accept"});
        if let Some(value) = value {
            meter["value"] = json!(value);
        }
        meter
    };
    let sku = |id: &str, meter: &str, matches: Value| json!({"kind": "sku", "id": id, "family": "tokens", "meter": meter, "match": matches, "description": format!("what {id} is")});
    let banded = |id: &str, bounds: Value| {
        let mut sku = sku(id, "llm.tokens.out", json!({}));
        sku.as_object_mut().unwrap().extend(bounds.as_object().unwrap().clone());
        sku
    };
    let mut documents = vec![
        json!({"kind": "contract", "id": "globex-own", "covers": {"organizations": ["globex"]}, "price_book": "globex-usd",
            "effective_at": START, "billing_period": "month"}),
        json!({"kind": "contract", "id": "standard", "covers": "default", "price_book": "list-usd", "effective_at": START,
            "billing_period": "month"}),
        meter("gpu.seconds", "gpu.lease", Some("gpu_seconds"), "gpu-second", json!({"gpu_model": "gpu.model"})),
        meter("health.checks", "health.check", None, "request", json!({})),
        meter("llm.requests", "llm.request", None, "request", json!({})),
        meter("llm.tokens.in", "llm.request", Some("usage.in"), "token", json!({"model": "model"})),
        meter("llm.tokens.out", "llm.request", Some("usage.out"), "token", json!({"context": "usage.in", "model": "model"})),
        meter("storage.hours", "storage.sample", Some("gb_hours"), "gb-hour", json!({})),
        json!({"kind": "price_book", "id": "globex-usd", "currency": "USD", "prices": [per_unit("globex-9", "tokens.in", START, "1", "0.000000777")]}),
        json!({"kind": "price_book", "id": "list-usd", "currency": "USD", "prices": prices}),
        json!({"kind": "billable_states", "id": "leases", "states": ["running", "stopped"], "told": {"spans": "history"}, "start": ["running"],
            "stop": ["stopped"], "ready": [], "session": "lease", "split": "month", "zone": "UTC", "bands": {}, "meters": leased()}),
        json!({"kind": "rounding", "asset": "USD", "scale": "2", "mode": "half_away_from_zero"}),
        sku("gpu.h100", "gpu.seconds", json!({"gpu_model": "h100"})),
        sku("health", "health.checks", json!({})),
        sku("lease.gpus", "lease.gpus", json!({"rate": "use"})),
        sku("lease.disk", "lease.disk", json!({"rate": "disk"})),
        sku("lease.stopped", "lease.disk", json!({"rate": "stopped"})),
        sku("requests", "llm.requests", json!({})),
        sku("storage", "storage.hours", json!({})),
        sku("tokens.in", "llm.tokens.in", json!({})),
        sku("tokens.in.large", "llm.tokens.in", json!({"model": "large"})),
        sku("tokens.out", "llm.tokens.out", json!({})),
        banded("tokens.out.long", json!({"above": {"context": "2500"}, "up_to": {"context": band(second)}})),
        banded("tokens.out.longer", json!({"above": {"context": band(second)}})),
        json!({"kind": "unit", "id": "piece", "scale": "9"}),
        json!({"kind": "unit", "id": "gb-hour", "scale": "9"}),
        json!({"kind": "unit", "id": "gpu-second", "scale": "9"}),
        json!({"kind": "unit", "id": "request", "scale": "0"}),
        json!({"kind": "unit", "id": "token", "scale": "0"}),
    ];
    for (id, value, measure) in [("lease.gpus", "gpus", "time_weighted"), ("lease.disk", "disk", "prorated")] {
        let mut meter = meter(id, "lease", Some(value), "piece", json!({}));
        meter["aggregation"] = json!({measure: {"by": "microsecond"}});
        meter["billable"] = json!("leases");
        documents.push(meter);
    }
    for Priced { id, event_type, value, aggregation, .. } in metered {
        let dimensions = if event_type == "seat.use" { json!({"user": "user"}) } else { json!({}) };
        let mut meter = meter(id, event_type, value, "piece", dimensions);
        meter["aggregation"] = aggregation;
        documents.extend([meter, sku(id, id, json!({}))]);
    }
    documents.sort_by_key(|document| ["kind", "id"].map(|name| document[name].as_str().unwrap_or_default().to_owned()));
    documents
}

/// What the billable states say of their meters: begun minutes of each session, and disks also while there is none.
pub fn leased() -> Value {
    let billed = |meter: &str, rates: Value, during: &str, each: &str| json!({"meter": meter, "rates": rates, "during": during, "rounding": "up", "minimum": "0", "each": each, "greater_of": {}, "at_least": "0"});
    let mut gpus = billed("lease.gpus", json!({"running": "use"}), "session", "session");
    gpus["increment"] = json!("60");
    json!([billed("lease.disk", json!({"running": "disk", "stopped": "stopped"}), "lease", "reading"), gpus])
}

/// A meter with the SKU and the price of the same name.
struct Priced {
    id: &'static str,
    event_type: &'static str,
    value: Option<&'static str>,
    aggregation: Value,
    model: Value,
}

/// One for each way in which readings add up, and for each model, beside those that the documents spell out.
fn metered() -> Vec<Priced> {
    let priced = |id, event_type, value, aggregation, model| Priced { id, event_type, value, aggregation, model };
    let level = |id, aggregation, model| priced(id, "fleet.level", Some("gpus"), aggregation, model);
    let net = |id, aggregation, model| priced(id, "net.sample", Some("bytes"), aggregation, model);
    let seat = |id, per: &str, model| priced(id, "seat.use", None, json!({"unique": {"of": "user", "per": per}}), model);
    let payment = |id, model| priced(id, "payment", Some("value"), json!("sum"), model);
    let session = |id, model| priced(id, "session", Some("seconds"), json!("sum"), model);
    let by = |measure: &str, clock: &str| json!({measure: {"by": clock}});
    let bucketed = |bucket: &str, each: &str, then: &str| json!({"bucketed": {"bucket": bucket, "each": each, "then": then}});
    let unit = |per: &str, price: &str| json!({"per_unit": {"per": per, "unit_price": price}});
    let tiers = |list: &[(&str, &str, &str)]| {
        let tier = |(up_to, price, fee): &(&str, &str, &str)| match *up_to {
            "" => json!({"unit_price": price, "flat_fee": fee}),
            bound => json!({"up_to": bound, "unit_price": price, "flat_fee": fee}),
        };
        list.iter().map(tier).collect::<Vec<_>>()
    };
    let blocks = json!({"tiers": [{"up_to": "900", "size": "250", "block_price": "1.1"}, {"size": "1000", "block_price": "3.3"}]});
    let adjusted = |convert: Option<[&str; 4]>, free: &str, applies_to: &str, model: Value| {
        let mut adjusted = json!({"free_units": free, "applies_to": applies_to, "model": model});
        if let Some([multiply, divide, rounding, places]) = convert {
            adjusted["convert"] = json!({"multiply": multiply, "divide": divide, "rounding": rounding, "places": places});
        }
        json!({"adjusted": adjusted})
    };
    let percentage = json!({"rate": "2.9", "fee": "0.3", "least": "0.5", "most": "20", "free_readings": "2", "free_value": "250"});
    vec![
        level("level.hours", by("time_weighted", "microsecond"), unit("3600", "2.15")),
        level(
            "level.days",
            by("time_weighted", "day"),
            adjusted(Some(["1", "86400", "ceiling", "0"]), "2", "period", json!({"package": {"size": "3", "package_price": "7.5"}})),
        ),
        level("level.mean", by("prorated", "microsecond"), unit("1", "99.99")),
        level(
            "level.volume",
            by("prorated", "day"),
            json!({"volume": {"per": "1", "tiers": tiers(&[("3", "30", "1"), ("", "20.5", "2")])}}),
        ),
        level(
            "level.tiers",
            by("prorated", "microsecond"),
            json!({"graduated": {"per": "1", "tiers": tiers(&[("2", "90", "5"), ("5", "60", "7"), ("", "41.3", "0")])}}),
        ),
        net("net.rank", bucketed("day", "max", "p95"), unit("1000", "0.7")),
        net(
            "net.days",
            bucketed("day", "sum", "alone"),
            json!({"graduated": {"per": "1000", "tiers": tiers(&[("700", "1.9", "0.25"), ("", "1.1", "0")])}}),
        ),
        net(
            "net.peaks",
            bucketed("five_minutes", "max", "sum"),
            adjusted(Some(["8", "1000", "none", "0"]), "1.5", "period", unit("3", "0.1")),
        ),
        net("net.max", json!("max"), json!({"package": {"size": "100", "package_price": "0.9"}})),
        net("net.min", json!("min"), unit("7", "0.5")),
        net("net.mean", json!("average"), json!({"volume": {"per": "3", "tiers": tiers(&[("400", "0.01", "1"), ("", "0.009", "2")])}})),
        net("net.latest", json!("latest"), unit("1", "0.0123")),
        seat("seats", "period", json!({"graduated": {"per": "1", "tiers": tiers(&[("2", "10", "1"), ("", "8", "0")])}})),
        seat("seat.days", "day", unit("1", "31.7")),
        payment("payments", json!({"percentage": percentage})),
        payment("payments.plain", json!({"percentage": {"rate": "1.75", "fee": "0.01", "free_readings": "0", "free_value": "0"}})),
        payment("payments.tiers", json!({"graduated_percentage": {"tiers": tiers(&[("300", "3", "1"), ("", "2.5", "0.5")])}})),
        session(
            "sessions",
            adjusted(
                Some(["1", "60", "ceiling", "0"]),
                "1",
                "each_event",
                json!({"volume": {"per": "1", "tiers": tiers(&[("5", "0.02", "0"), ("", "0.015", "0.01")])}}),
            ),
        ),
        session("sessions.blocks", json!({"blocks": blocks})),
        session("sessions.minutes", adjusted(Some(["1", "60", "half_even", "1"]), "10", "period", unit("1", "0.02"))),
        session("sessions.top", adjusted(Some(["1", "1", "floor", "-2"]), "0", "period", json!({"top_blocks": blocks}))),
        priced("sessions.count", "session", None, json!("count"), adjusted(None, "3", "period", unit("1", "0.2"))),
    ]
}

/// A version; what of it may be shown goes into `shown`.
fn version(second: bool, shown: &mut RegistryDocuments) -> RegistryIndex {
    let mut entries = Vec::new();
    for document in documents(second) {
        let canonical = text(&document);
        let digest = Digest::of(canonical.as_bytes());
        entries.push(json!({"digest": digest, "kind": document["kind"]}));
        if !canonical.contains("globex") {
            shown.insert(digest, &canonical);
        }
    }
    RegistryIndex { index: text(&json!({"format": "2", "documents": entries})) }
}

/// A decimal as different sources quote it.
fn quoted(plain: &str, number: usize) -> String {
    let (whole, fraction) = plain.split_once('.').unwrap_or((plain, ""));
    match number % 5 {
        0 => format!("+{plain}"),
        1 => format!("00{plain}"),
        2 => format!("{whole}{fraction}e-{}", fraction.len()),
        3 if !fraction.is_empty() => format!("{plain}00"),
        _ => plain.to_owned(),
    }
}

/// Meter, unit, quantity, SKU.
type Reading = (&'static str, &'static str, String, &'static str);
/// Begin, end and session of a reading that is a piece of its event.
type Piece = (Instant, Instant, String);

/// One event with its readings, by either version.
#[derive(Clone)]
struct Made {
    event: BundleEvent,
    readings: [Vec<Reading>; 2],
    identity: IdentityHash,
    /// Of the dimension whose values are counted.
    value: Option<String>,
    /// Of the readings that are pieces of the event.
    pieces: [Vec<Piece>; 2],
}

fn instant(micros: i64) -> Instant {
    Instant::from_micros(micros).unwrap()
}

fn make(dice: &mut Dice, salts: &SaltKey, organization: &str, number: usize, month: &str, days: u64) -> Made {
    let start = Instant::parse(&format!("{month}-01T00:00:00Z")).unwrap().micros();
    let micros = days * 86_400_000_000;
    // The first and the last microsecond of the month are used.
    let offset = if number == 0 { micros - 1 } else { dice.roll(micros) };
    let offset = if number % 3 == 1 { offset / 1_000_000 * 1_000_000 } else { offset };
    let id = dice.uuid();
    let identity = Digest::of_parts(&[organization.as_bytes(), id.as_bytes()]);
    let identity = IdentityHash(std::array::from_fn(|at| identity.0[at]));
    let kind = dice.roll(17);
    // Some leases of October in which one version begins a price.
    let lease = if month == "2026-10" { CUTS.get(number % 2).filter(|_| (5..9).contains(&number)) } else { None };
    let kind = if lease.is_some() { 16 } else { kind };
    // Levels change and payments come together, so that what is decided by more than the start is there.
    let offset = if [10, 13].contains(&kind) { offset / 432_000_000_000 * 432_000_000_000 } else { offset };
    let start_at = match lease {
        Some((_, at, _)) => {
            instant(Instant::parse(at).unwrap().micros() - 36_000_000_000 - i64::try_from(dice.roll(7_200_000_000)).unwrap())
        }
        None => instant(start + i64::try_from(offset).unwrap()),
    };
    let (mut end_at, mut value, mut pieces) = (None, None, [Vec::new(), Vec::new()]);
    let mut cut_anew = None;
    let all = |event_type: &'static str, quantity: &str| -> Vec<_> {
        let of_type = metered().into_iter().filter(|priced| priced.event_type == event_type);
        of_type.map(|priced| (priced.id, "piece", if priced.value.is_some() { quantity } else { "1" }.to_owned(), priced.id)).collect()
    };
    let (event_type, data, readings) = match kind {
        0 => {
            let seconds =
                format!("{}.{:06}", dice.roll(7_200), dice.roll(1_000_000)).trim_end_matches('0').trim_end_matches('.').to_owned();
            end_at = Some(instant(start_at.micros() + 1_000_000));
            (
                "gpu.lease",
                Some(json!({"gpu": {"model": "h100"}, "gpu_seconds": quoted(&seconds, number)})),
                vec![("gpu.seconds", "gpu-second", seconds, "gpu.h100")],
            )
        }
        1 => {
            let hours = format!("{}.{}", dice.roll(3), dice.roll(9) + 1);
            ("storage.sample", Some(json!({"gb_hours": quoted(&hours, number)})), vec![("storage.hours", "gb-hour", hours, "storage")])
        }
        10 => {
            let gpus = ["1", "2", "3", "-1", "-2", "0.5"][usize::try_from(dice.roll(6)).unwrap()];
            end_at = (dice.roll(3) == 0).then(|| instant(start_at.micros() + 1 + i64::try_from(dice.roll(200_000_000_000)).unwrap()));
            ("fleet.level", Some(json!({"gpus": gpus})), all("fleet.level", gpus))
        }
        11 => {
            let bytes = format!("{}.{}", dice.roll(900), dice.roll(9) + 1);
            ("net.sample", Some(json!({"bytes": quoted(&bytes, number)})), all("net.sample", &bytes))
        }
        12 => {
            value = Some(format!("user-{}", dice.roll(4)));
            end_at = (dice.roll(2) == 0).then(|| instant(start_at.micros() + i64::try_from(dice.roll(200_000_000_000)).unwrap()));
            ("seat.use", Some(json!({"user": value})), all("seat.use", "1"))
        }
        13 => {
            let paid = format!("{}.{:02}", dice.roll(990), dice.roll(99) + 1).trim_end_matches('0').to_owned();
            ("payment", Some(json!({"value": paid})), all("payment", &paid))
        }
        14 | 15 => {
            let seconds = dice.roll(700).to_string();
            ("session", Some(json!({"seconds": quoted(&seconds, number)})), all("session", &seconds))
        }
        16 => {
            // Running, stopped, running again; a lease of October ends in it, one of November where it will.
            let bound = if month == "2026-10" { start + i64::try_from(micros).unwrap() } else { i64::MAX };
            let mut at = vec![start_at];
            for _ in 0..3 {
                let least = if lease.is_some() { 43_200_000_000 } else { 1 };
                let next =
                    at[at.len() - 1].micros() + i64::try_from(dice.roll(90_000_000_000 - least)).unwrap() + i64::try_from(least).unwrap();
                at.push(instant(next.min(bound)));
            }
            end_at = Some(at[3]);
            let (lease, gpus, disk) =
                (format!("lease-{}", dice.roll(3)), (dice.roll(8) + 1).to_string(), (dice.roll(900) + 100).to_string());
            let span = |state: &str, at: Instant| json!({"state": state, "start": at});
            let data = json!({"lease": lease, "gpus": gpus, "disk": disk, "history": [span("running", at[0]), span("stopped", at[1]), span("running", at[2])]});
            let mut read = [Vec::new(), Vec::new()];
            let parts = [
                ("lease.disk", &disk, "lease.disk", 0, ""),
                ("lease.disk", &disk, "lease.stopped", 1, ""),
                ("lease.disk", &disk, "lease.disk", 2, ""),
                ("lease.gpus", &gpus, "lease.gpus", 0, ""),
                ("lease.gpus", &gpus, "lease.gpus", 2, "#2"),
            ];
            for (second, (readings, pieces)) in [false, true].into_iter().zip(read.iter_mut().zip(&mut pieces)) {
                for (meter, level, sku, span, again) in parts {
                    let (mut from, to) = (at[span], at[span + 1]);
                    while from < to {
                        let cut = cuts(meter, second).into_iter().filter(|cut| *cut > from).min();
                        let until = to.min(from.month().next().unwrap().start()).min(cut.unwrap_or(to));
                        readings.push((meter, "piece", level.clone(), sku));
                        pieces.push((from, until, format!("{lease}{again}")));
                        from = until;
                    }
                }
            }
            let [first, second] = read;
            cut_anew = Some(second);
            ("lease", Some(data), first)
        }
        2 => ("health.check", None, vec![("health.checks", "request", "1".to_owned(), "health")]),
        _ => {
            let (model, sku) = if dice.roll(4) == 0 { ("large", "tokens.in.large") } else { ("small \"7B\"", "tokens.in") };
            let (input, output) = (dice.roll(4_000).to_string(), dice.roll(900).to_string());
            let data = json!({"model": model, "usage": {"in": input, "out": output}});
            let readings = vec![
                ("llm.requests", "request", "1".to_owned(), "requests"),
                ("llm.tokens.in", "token", input, sku),
                ("llm.tokens.out", "token", output, "tokens.out"),
            ];
            ("llm.request", Some(data), readings)
        }
    };
    let event = BundleEvent {
        id,
        event_type: event_type.to_owned(),
        source: SourceId::parse("gateway-1").unwrap(),
        project: number.is_multiple_of(2).then(|| ProjectId::parse("chat").unwrap()),
        subject: number.is_multiple_of(5).then(|| "user \"é\" \\ 7".to_owned()),
        data: data.as_ref().map(text),
        start_at,
        end_at,
        identity,
        salt: salts.reading_salt(&identity),
    };
    let second = cut_anew.unwrap_or_else(|| readings.clone());
    Made { event, readings: [readings, second], identity, value, pieces }
}

impl Made {
    /// The SKU of a reading by a version: that of output depends on the context.
    fn sku(&self, sku: &'static str, second: bool) -> &'static str {
        if sku != "tokens.out" {
            return sku;
        }
        let data: Value = serde_json::from_str(self.event.data.as_ref().unwrap()).unwrap();
        match data["usage"]["in"].as_str().unwrap().parse::<u64>().unwrap() {
            context if context > band(second).parse().unwrap() => "tokens.out.longer",
            2501.. => "tokens.out.long",
            _ => sku,
        }
    }

    fn strings(&self) -> String {
        let event = &self.event;
        let mut members = json!({"id": event.id, "source": event.source, "type": event.event_type});
        if let Some(data) = &event.data {
            members["data"] = serde_json::from_str(data).unwrap();
        }
        if let Some(project) = &event.project {
            members["project"] = json!(project);
        }
        if let Some(subject) = &event.subject {
            members["subject"] = json!(subject);
        }
        text(&members)
    }
}

fn price_of(sku: &str, at: Instant, second: bool) -> String {
    let price = match sku {
        "gpu.h100" => "gpu-1",
        "health" => "health-1",
        "tokens.in" => "in-1",
        "tokens.in.large" => "in-large-1",
        "requests" => "requests-1",
        "storage" => "storage-1",
        "lease.gpus" | "lease.disk" if cuts(sku, second).first().is_some_and(|from| at >= *from) => {
            return if second { "lease.gpus-2" } else { "lease.disk-0" }.to_owned();
        }
        "tokens.out.long" => "out-long-1",
        "tokens.out.longer" => "out-longer-1",
        other if other != "tokens.out" => return format!("{other}-1"),
        _ if second && at >= Instant::parse("2026-11-15T00:00:00Z").unwrap() => "out-2",
        _ => "out-1",
    };
    price.to_owned()
}

#[derive(Clone)]
pub struct Row {
    pub reading: BundleReading,
    /// Rated under the second version.
    pub second: bool,
    /// It takes the reading's leaf before it back.
    pub back: bool,
    pub charged: Charged,
    pub log: Month,
    pub log_seq: u64,
    /// After the close of the month before.
    pub fresh: bool,
    /// Behind the close of the invoice.
    pub later: bool,
}

fn month(number: i32) -> Month {
    Month::from_number(number).unwrap()
}

/// What is invoiced: month, how many events of it, and whether they came behind an earlier close, or behind the invoice's own.
type Wave = (&'static str, u64, usize, bool, bool);

/// A log while its leaves are written.
struct Logs<'w> {
    versions: &'w [RegistryIndex; 2],
    leaves: BTreeMap<Month, Vec<LeafInput>>,
    rows: Vec<Row>,
}

impl Logs<'_> {
    /// Gives a reading of an event its leaf, or takes it back.
    fn write(&mut self, made: &Made, committed: Digest, event: usize, at: usize, [second, back, fresh, later]: [bool; 4]) {
        let (meter, unit, quantity, sku) = &made.readings[usize::from(second)][at];
        let sku = made.sku(sku, second);
        let piece = made.pieces[usize::from(second)].get(at);
        let (start_at, end_at) = piece.map_or((made.event.start_at, made.event.end_at), |(start, end, _)| (*start, Some(*end)));
        let log = start_at.month();
        // What begins behind the month that is closed is on no invoice yet.
        let later = later || log > month(202_611);
        let leaves = self.leaves.entry(log).or_default();
        let log_seq = u64::try_from(leaves.len()).unwrap();
        let stated: Quantity = quantity.parse().unwrap();
        let quantity = if back { Quantity::ZERO.checked_sub(stated).unwrap() } else { stated };
        let version = self.versions[usize::from(second)].address();
        leaves.push(LeafInput {
            log_seq,
            meter: MeterId::parse(meter).unwrap(),
            unit: UnitId::parse(unit).unwrap(),
            quantity,
            start_at,
            end_at,
            registry_version: version,
            commitment: committed,
        });
        let reading = BundleReading {
            event,
            meter: MeterId::parse(meter).unwrap(),
            unit: UnitId::parse(unit).unwrap(),
            quantity,
            piece: ((start_at, end_at) != (made.event.start_at, made.event.end_at)).then_some((start_at, end_at)),
            registry_version: version,
            contract: "standard".parse().unwrap(),
            sku: sku.parse().unwrap(),
            price: price_of(sku, start_at, second).parse().unwrap(),
        };
        let charged = Charged {
            start_at,
            identity: made.identity,
            end_at,
            quantity: rational(&stated.to_string()),
            value: piece.map(|(_, _, session)| session.clone()).or_else(|| made.value.clone()),
        };
        self.rows.push(Row { reading, second, back, charged, log, log_seq, fresh, later });
    }

    /// Whether the second version rates a reading differently, or reads it otherwise: at these places of both versions' readings.
    fn differs(made: &Made, at: usize, anew: usize) -> bool {
        let (_, _, _, sku) = &made.readings[0][at];
        let (start_at, end) = made.pieces[0].get(at).map_or((made.event.start_at, None), |(start, end, _)| (*start, Some(*end)));
        let price = price_of(sku, start_at, true);
        made.sku(sku, false) != made.sku(sku, true)
            || ALTERED.iter().any(|(id, _, _)| *id == price)
            || price_of(sku, start_at, false) != price
            || made.pieces[1].get(anew).map(|(_, end, _)| *end) != end
    }

    /// What the second version makes of an event that the first one read: the places of a reading by both, where it is there by both, and its number.
    fn again(made: &Made) -> Vec<(Option<usize>, Option<usize>, usize)> {
        let begin = |second: usize, at: usize| {
            let (meter, ..) = made.readings[second][at];
            (meter, made.pieces[second].get(at).map(|(start, _, _)| *start))
        };
        let (first, second) = (made.readings[0].len(), made.readings[1].len());
        let mut again = Vec::new();
        for at in 0..first {
            let anew = (0..second).find(|anew| begin(1, *anew) == begin(0, at));
            if anew.is_none_or(|anew| Self::differs(made, at, anew)) {
                again.push((Some(at), anew, at));
            }
        }
        let born = (0..second).filter(|anew| (0..first).all(|at| begin(0, at) != begin(1, *anew)));
        again.extend(born.zip(first..).map(|(anew, number)| (None, Some(anew), number)));
        again
    }
}

/// The second invoice of `acme`: all of November, adjustments for late usage of October and for what of October was rated again, and usage
/// behind the close that the checkpoint has already.
pub fn world(seed: u64, events: usize) -> World {
    let salts = SaltKey::from_bytes(&std::array::from_fn(|at| u8::try_from(at + 1).unwrap()));
    let log = Signer::new(ORIGIN, &[7; 32]).unwrap();
    let key = BundleKey::new(ORIGIN, &[9; 32]).unwrap();
    let mut dice = Dice(seed);
    let mut documents = RegistryDocuments::default();
    let versions = [false, true].map(|second| version(second, &mut documents));
    let organization = OrganizationId::parse("acme").unwrap();
    let mut state = State::default();
    let mut logs = Logs { versions: &versions, leaves: BTreeMap::new(), rows: Vec::new() };
    let mut shown: Vec<BundleEvent> = Vec::new();
    let waves: [Wave; 4] = [
        ("2026-10", 31, events / 4, false, false),
        ("2026-10", 31, events / 10 + 1, true, false),
        ("2026-11", 30, events - events / 4 - events / 10 - 1, true, false),
        ("2026-11", 30, 3, true, true),
    ];
    for (wave, (name, days, count, fresh, later)) in waves.into_iter().enumerate() {
        let mut again = Vec::new();
        for number in 0..count {
            let made = make(&mut dice, &salts, "acme", number, name, days);
            let committed = commitment(&made.event.salt, &made.strings());
            for at in 0..made.readings[usize::from(wave > 0)].len() {
                logs.write(&made, committed, shown.len(), at, [wave > 0, false, fresh, later]);
            }
            if wave == 0 {
                let of_event = Logs::again(&made).into_iter();
                again.extend(of_event.map(|(at, anew, number)| ((number, made.identity), at, anew, made.clone(), committed, shown.len())));
            }
            if !later {
                shown.push(made.event);
            }
        }
        // The second version comes into force behind the first close: what it rates differently is taken back, and stands anew.
        again.sort_by_key(|(place, ..)| *place);
        for (_, at, anew, made, committed, event) in again {
            if let Some(at) = at {
                logs.write(&made, committed, event, at, [false, true, true, false]);
            }
            if let Some(anew) = anew {
                logs.write(&made, committed, event, anew, [true, false, true, false]);
            }
        }
    }
    let Logs { leaves, rows, .. } = logs;
    let first: Vec<Row> = rows.iter().filter(|row| !row.fresh && !row.later).map(|row| Row { fresh: true, ..row.clone() }).collect();
    let before = invoice(&first, "202610", &versions[0]);
    let invoice = invoice(&rows, "202611", &versions[1]);

    // Another organization, of which the bundle must hold nothing.
    let globex = OrganizationId::parse("globex").unwrap();
    let mut other = Vec::new();
    for (log_seq, number) in (0_u64..).zip(0..9_usize) {
        let made = make(&mut dice, &salts, "globex", number, "2026-11", 30);
        let (meter, unit, quantity, _) = &made.readings[1][0];
        other.push(LeafInput {
            log_seq,
            meter: MeterId::parse(meter).unwrap(),
            unit: UnitId::parse(unit).unwrap(),
            quantity: quantity.parse().unwrap(),
            start_at: made.event.start_at,
            end_at: made.event.end_at,
            registry_version: versions[1].address(),
            commitment: commitment(&made.event.salt, &made.strings()),
        });
    }
    let usd = AssetId::parse("USD").unwrap();
    let mut cut_leaves: Vec<_> = leaves.iter().map(|(month, leaves)| (organization.clone(), *month, leaves.clone())).collect();
    cut_leaves.push((globex.clone(), month(202_611), other));
    let ledger = LedgerHead { batch_no: BatchNo(9), seq: 12, digest: Digest::of(b"entry 12") };
    state
        .apply(&CutInput {
            first: BatchNo(1),
            last: BatchNo(9),
            last_digest: Digest::of(b"batch 9"),
            leaves: cut_leaves,
            sums: vec![(organization.clone(), usd.clone(), "41.25".parse::<Sum>().unwrap()), (globex, usd, "77.7".parse().unwrap())],
            organizations: ["idle", "initech"].map(|id| OrganizationId::parse(id).unwrap()).to_vec(),
            ledger,
            registry_version: versions[1].address(),
            audit: None,
            recorded_at: Instant::EPOCH,
        })
        .unwrap();
    // Entries of a deployment whose first checkpoint is older than its audit chains: version 1, then version 2.
    let audit =
        |size: u64| (size > 1).then(|| AuditHead { chains: 3, records: 10 * size, digest: Digest::of(format!("audit {size}").as_bytes()) });
    let tree_leaves = state.leaves(&salts);
    let hashes: Vec<Digest> = tree_leaves.iter().map(platform_evidence::OrganizationLeaf::hash).collect();
    let leaf = state.leaf(&organization, &salts);
    let index = tree_leaves.iter().position(|found| *found == leaf).unwrap();
    let entries: Vec<Entry> = (1..=6_u64)
        .map(|size| Entry {
            batch_no: BatchNo(size + 3),
            batch_digest: Digest::of(format!("batch {}", size + 3).as_bytes()),
            ledger,
            registry_version: versions[1].address(),
            audit: audit(size),
            organizations: state.head(&salts),
            recorded_at: Instant::parse(&format!("2026-12-01T00:00:0{size}Z")).unwrap(),
        })
        .collect();
    let entry_hashes: Vec<Digest> = entries.iter().map(Entry::hash).collect();
    let head = tree::Head { size: 6, root: tree::root(&entry_hashes) };
    let logs = leaves.iter().filter(|(of, _)| **of <= month(202_611)).map(|(month, leaves)| {
        let of_month = || rows.iter().filter(|row| row.log == *month);
        CoveredLog {
            month: *month,
            readings: of_month().filter(|row| !row.later).map(|row| row.reading.clone()).collect(),
            later: leaves.iter().skip(of_month().filter(|row| !row.later).count()).map(LeafInput::hash).collect(),
        }
    });
    let logs: Vec<_> = logs.collect();
    let input = BundleInput {
        salt: salts.organization_salt(&organization),
        organization,
        issue: Issue {
            digest: Digest::of(invoice.as_bytes()),
            number: "2026-000042".to_owned(),
            issuer: "tallystick.example".to_owned(),
            entry: Some((11, Digest::of(b"entry 11"))),
            issued_at: Instant::parse("2026-12-01T00:10:00Z").unwrap(),
        },
        invoice,
        logs,
        events: shown,
        registry: versions.to_vec(),
        documents,
        proof: Proof {
            checkpoint: Checkpoint { entry: entries[5].clone(), head, note: log.sign(head).unwrap() },
            entry_path: tree::inclusion_path(&entry_hashes, 5).unwrap(),
            leaf,
            index: u64::try_from(index).unwrap(),
            path: tree::inclusion_path(&hashes, index).unwrap(),
        },
        builder: "tally/0.1.0".to_owned(),
    };
    let entries = entries.iter().map(Entry::canonical).collect();
    World { before, input, log, key, entries }
}
