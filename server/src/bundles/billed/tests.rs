//! A lease of ten hours under versions that cut it nowhere, cut it at noon, or do not bill it: which leaves a bundle may have.

use platform_registry::{SourceFile, Version};
use platform_usage::EventLimits;
use shared_types::{MeterId, Month, SourceId, UnitId};

use super::*;

const STATES: &str = r#"
[[unit]]
id = "gib"
[[billable_states]]
id = "file-systems"
states = ["mounted", "unmounted"]
state = "state"
[[billable_states.meter]]
meter = "size"
rates = { mounted = "kept" }
[[meter]]
id = "size"
event_type = "file-system"
aggregation = "prorated"
value = "gib"
unit = "gib"
billable = "file-systems"
[[sku]]
id = "kept"
family = "storage"
meter = "size"
[[rounding]]
asset = "USD"
scale = 2
[[price_book]]
id = "list"
currency = "USD"
[[price_book.price]]
sku = "kept"
effective_at = "2026-01-01T00:00:00Z"
model = "per_unit"
unit_price = "3"
[[contract]]
id = "standard"
default = true
price_book = "list"
effective_at = "2026-01-01T00:00:00Z"
"#;

fn version(text: &str) -> (Digest, Meters) {
    let file = SourceFile { name: "all.toml".to_owned(), text: text.to_owned() };
    let version = Version::check(&[file]).unwrap_or_else(|problems| panic!("{problems}"));
    let all = MeterSet::new(platform_registry::compile(&version).unwrap().meters).unwrap();
    (version.address(), Meters { all, billed: HashSet::from(["size".parse().unwrap()]) })
}

fn at(hour: u32) -> Instant {
    Instant::parse(&format!("2026-09-10T{hour:02}:00:00Z")).unwrap()
}

/// Leaves as hours of begin and end, level and version, under an invoice's version; what is refused, if anything is.
#[track_caller]
fn check(leaves: &[(u32, u32, i64, usize)], in_force: usize, refused: Option<&str>) {
    let noon = "[[price_book.price]]\nsku = \"kept\"\neffective_at = \"2026-09-10T12:00:00Z\"\nmodel = \"per_unit\"\nunit_price = \"4\"\n[[contract]]";
    let other = STATES.replacen("mounted = \"kept\"", "unmounted = \"kept\"", 1);
    let (addresses, known): (Vec<Digest>, Vec<_>) = [STATES, &STATES.replacen("[[contract]]", noon, 1), &other]
        .map(version)
        .into_iter()
        .map(|(address, meters)| (address, (address, meters)))
        .unzip();
    let mut versions = Versions { known: known.into_iter().collect(), read: HashMap::new() };
    let text = r#"{"specversion":"1.0","id":"a","source":"agent","type":"file-system","time":"2026-09-10T08:00:00Z","endtime":"2026-09-10T18:00:00Z","organization":"acme","data":{"gib":200,"state":"mounted"}}"#;
    let event = Event::parse(text.as_bytes(), at(20), &EventLimits { far_future_micros: i64::MAX }).unwrap();
    let shown = BundleEvent {
        id: "a".to_owned(),
        event_type: "file-system".to_owned(),
        source: SourceId::parse("agent").unwrap(),
        project: None,
        subject: None,
        data: None,
        start_at: at(8),
        end_at: Some(at(18)),
        identity: IdentityHash([1; 16]),
        salt: platform_evidence::SaltKey::from_bytes(&[1; 32]).reading_salt(&IdentityHash([1; 16])),
    };
    let readings = leaves.iter().map(|(from, to, level, version)| BundleReading {
        event: 0,
        meter: MeterId::parse("size").unwrap(),
        unit: UnitId::parse("gib").unwrap(),
        quantity: level.to_string().parse().unwrap(),
        piece: ((*from, *to) != (8, 18)).then(|| (at(*from), Some(at(*to)))),
        registry_version: addresses[*version],
        contract: "standard".parse().unwrap(),
        sku: "kept".parse().unwrap(),
        price: "kept-1".parse().unwrap(),
    });
    let logs = [CoveredLog { month: Month::from_number(202_609).unwrap(), readings: readings.collect(), later: Vec::new() }];
    let parsed = HashMap::from([(shown.identity, event)]);
    let found = provable(&logs, &[shown], &parsed, &mut versions, addresses[in_force]);
    match (found, refused) {
        (Ok(()), None) => {}
        (Err(error), Some(refused)) => assert!(error.to_string().contains(refused), "{error}"),
        (found, refused) => panic!("{found:?}, not {refused:?}"),
    }
}

#[test]
fn billed_time_stands_as_the_invoices_version_cuts_it() {
    check(&[(8, 18, 200, 0)], 0, None);
    check(&[(8, 18, 200, 0), (8, 18, -200, 0), (8, 12, 200, 1), (12, 18, 200, 1)], 1, None);
    // Cut, and cut no more; cut once more under the version that it had.
    let back = [(8, 18, 200, 0), (8, 18, -200, 0), (8, 12, 200, 1), (12, 18, 200, 1), (8, 12, -200, 1), (8, 18, 200, 0), (12, 18, -200, 1)];
    check(&back, 0, None);
    check(&[&back[..], &[(8, 18, -200, 0), (8, 12, 200, 1), (12, 18, 200, 1)]].concat(), 1, None);
    // It is not billed any more.
    check(&[(8, 18, 200, 0), (8, 18, -200, 0)], 2, None);
}

#[test]
fn what_verifiers_would_find_is_refused_by_name() {
    check(&[(8, 18, 200, 0)], 1, Some("the invoice's version cuts otherwise"));
    check(&[(8, 18, 100, 0)], 0, Some("its version cuts otherwise"));
    check(&[(8, 18, 200, 1)], 1, Some("its version cuts otherwise"));
    check(&[(8, 18, 200, 0), (12, 18, 200, 1)], 1, Some("the invoice's version cuts otherwise"));
    check(&[(8, 18, 200, 0), (8, 18, -200, 0), (8, 12, 200, 1)], 1, Some("was taken back, and does not stand anew"));
    check(&[(8, 18, 200, 0), (8, 18, -200, 0)], 0, Some("was taken back, and does not stand anew"));
    check(&[(8, 18, 200, 0)], 2, Some("the invoice's version cuts otherwise"));
}
