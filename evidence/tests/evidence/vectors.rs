//! The frozen vectors: this crate must produce `golden/vectors.json` byte for byte, for ever.
//! Amounts come from big rationals here; `foreign/verify_vectors.py` lets stock DuckDB and OpenSSL recompute everything from the file.
//! `TALLY_WRITE_GOLDEN=1` writes the file: only for a new format version.

use std::collections::BTreeMap;

use num_bigint::BigInt;
use num_rational::BigRational;
use platform_evidence::{CutInput, Entry, Frontier, LeafInput, LedgerHead, SaltKey, Signer, State, commitment, tree};
use serde_json::{Value, json};
use shared_types::{Amount, AssetId, BatchNo, Digest, IdentityHash, Instant, MeterId, Month, OrganizationId, Price, Quantity, Sum, UnitId};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/vectors.json");
const ORIGIN: &str = "vectors.tallystick.example/evidence";

fn organization(id: &str) -> OrganizationId {
    OrganizationId::parse(id).unwrap()
}

fn month(number: i32) -> Month {
    Month::from_number(number).unwrap()
}

fn secret(first: u8) -> [u8; 32] {
    std::array::from_fn(|at| first + u8::try_from(at).unwrap())
}

/// organization, event id, subject, meter, unit, quantity, start, end
type Reading =
    (&'static str, &'static str, Option<&'static str>, &'static str, &'static str, &'static str, &'static str, Option<&'static str>);

const READINGS: [Reading; 15] = [
    ("acme", "t-1", None, "llm.tokens", "token", "900000", "2026-11-02T08:00:00Z", None),
    ("acme", "t-2", Some("user \"é\"\\\n"), "llm.tokens", "token", "200000.25", "2026-11-02T08:00:00.000001Z", None),
    ("acme", "g-1", Some("gpu-7"), "gpu.time", "gpu_us", "3599999999", "2026-11-02T00:00:00.000001Z", Some("2026-11-02T01:00:00Z")),
    ("acme", "t-3", None, "llm.tokens", "token", "-100000.000000001", "2026-11-03T23:59:59.999999Z", None),
    ("acme", "t-4", None, "llm.tokens", "token", "1500000", "2026-11-04T00:00:00Z", None),
    ("acme", "t-5", None, "llm.tokens", "token", "0", "2026-11-05T00:00:00Z", None),
    ("acme", "g-2", Some("gpu-8"), "gpu.time", "gpu_us", "7", "2026-11-06T12:00:00Z", Some("2026-11-06T12:00:00.000007Z")),
    ("acme", "t-6", None, "llm.tokens", "token", "1234567.000000002", "2026-11-07T00:00:00Z", None),
    ("acme", "g-3", Some("gpu-8"), "gpu.time", "gpu_us", "90061000001", "2026-11-08T00:00:00Z", Some("2026-11-09T01:01:01.000001Z")),
    ("acme", "t-7", None, "llm.tokens", "token", "0.000000001", "2026-11-30T23:59:59.999999Z", None),
    ("acme", "t-8", None, "llm.tokens", "token", "12", "2026-11-30T00:00:00Z", None),
    ("acme", "t-9", None, "llm.tokens", "token", "5", "2026-12-01T00:00:00Z", None),
    ("globex", "i-1", None, "images", "image", "2", "2026-11-01T00:00:00Z", None),
    ("globex", "i-2", None, "images", "image", "-1", "2026-11-02T00:00:00Z", None),
    ("globex", "i-3", None, "images", "image", "-4", "2026-11-02T00:00:00Z", None),
];

struct Leaf {
    organization: OrganizationId,
    leaf: LeafInput,
    commitment: Value,
}

fn leaves(salts: &SaltKey) -> Vec<Leaf> {
    let mut numbers: BTreeMap<(&str, Month), u64> = BTreeMap::new();
    READINGS
        .map(|(id, event_id, subject, meter, unit, quantity, start_at, end_at)| {
            let start_at = Instant::parse(start_at).unwrap();
            let next = numbers.entry((id, start_at.month())).or_default();
            let log_seq = *next;
            *next += 1;
            let [identity @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = Digest::of(event_id.as_bytes()).0;
            let identity = IdentityHash(identity);
            // What platform-usage calls the source strings of an event: canonical JSON, absent members left out.
            let mut supplied = json!({"data": {"meter": meter, "model": "m1"}, "id": event_id, "source": "gateway-1", "type": "usage"});
            if let Some(subject) = subject {
                supplied["project"] = json!("research");
                supplied["subject"] = json!(subject);
            }
            let supplied = shared_types::canonical_json(&supplied).unwrap();
            let salt = salts.reading_salt(&identity);
            let committed = commitment(&salt, &supplied);
            assert_eq!(committed, salts.commitment(&identity, &supplied));
            Leaf {
                organization: organization(id),
                leaf: LeafInput {
                    log_seq,
                    meter: MeterId::parse(meter).unwrap(),
                    unit: UnitId::parse(unit).unwrap(),
                    quantity: Quantity::parse(quantity).unwrap(),
                    start_at,
                    end_at: end_at.map(|at| Instant::parse(at).unwrap()),
                    registry_version: Digest::of(b"registry"),
                    commitment: committed,
                },
                commitment: json!({
                    "identity": identity.to_string(), "salt": hex(&salt.0), "source_supplied": supplied, "commitment": committed,
                }),
            }
        })
        .into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Leaves `first..end` of one log.
fn part(all: &[Leaf], id: &str, of: i32, first: u64, end: u64) -> (OrganizationId, Month, Vec<LeafInput>) {
    let chosen = all.iter().filter(|leaf| leaf.organization == organization(id) && leaf.leaf.start_at.month() == month(of));
    let chosen = chosen.filter(|leaf| (first..end).contains(&leaf.leaf.log_seq));
    (organization(id), month(of), chosen.map(|leaf| leaf.leaf.clone()).collect())
}

/// One open or bounded tier: upper bound, unit price, flat fee.
type Tier = (Option<&'static str>, &'static str, &'static str);

struct Line {
    name: &'static str,
    /// Whose readings it sums, of which meter and currency; or a quantity of its own.
    of: Result<(&'static str, &'static str, &'static str), &'static str>,
    per: &'static str,
    tiers: &'static [Tier],
}

const LINES: [Line; 6] = [
    Line {
        name: "graduated",
        of: Ok(("acme", "llm.tokens", "USD")),
        per: "1000000",
        tiers: &[(Some("1000000"), "0.5", "0"), (Some("2500000.5"), "0.25", "0.1"), (None, "0.123456789012345678", "1")],
    },
    Line { name: "price per hour over microseconds", of: Ok(("acme", "gpu.time", "USD")), per: "3600000000", tiers: &[(None, "2.1", "0")] },
    Line { name: "half tie below zero", of: Ok(("globex", "images", "EUR")), per: "2", tiers: &[(None, "0.000000001", "0")] },
    Line { name: "half tie down to even", of: Err("1"), per: "2", tiers: &[(None, "0.000000001", "0")] },
    Line { name: "half tie up to even", of: Err("3"), per: "2", tiers: &[(None, "0.000000001", "0")] },
    Line {
        name: "product beyond 128 bits",
        of: Err("98765432109876543210987654321.123456789"),
        per: "1000000000000000000",
        tiers: &[(None, "0.090000000000000003", "0")],
    },
];

fn rational(units: impl Into<BigInt>, scale: u32) -> BigRational {
    BigRational::new(units.into(), BigInt::from(10).pow(scale))
}

/// F of graduated tiers over exact rationals, rounded half to even at scale 9.
fn amount(quantity: Quantity, per: &str, tiers: &[Tier]) -> Amount {
    let number = |text| rational(Quantity::parse(text).unwrap().units(), Quantity::SCALE);
    let price = |text| rational(Price::parse(text).unwrap().units(), Price::SCALE);
    let zero = rational(0, 0);
    let quantity = rational(quantity.units(), Quantity::SCALE);
    let (mut owed, mut from) = (zero.clone(), None);
    for (up_to, unit_price, flat_fee) in tiers {
        let below = from.clone().unwrap_or_else(|| zero.clone());
        let upper = up_to.map(number);
        let reached = upper.clone().map_or(quantity.clone(), |upper| quantity.clone().min(upper));
        if from.is_none() || quantity > below {
            owed += (reached - &below) * price(unit_price) / number(per);
        }
        if quantity > below {
            owed += price(flat_fee);
        }
        from = upper;
    }
    let scaled = owed * rational(10_i64.pow(Amount::SCALE), 0);
    let (floor, half) = (scaled.floor(), BigRational::new(1.into(), 2.into()));
    let rest = &scaled - &floor;
    let odd = floor.to_integer() % BigInt::from(2) != BigInt::from(0);
    let rounded = if rest > half || (rest == half && odd) { floor + rational(1, 0) } else { floor };
    Amount::from_units(rounded.to_integer().to_string().parse().unwrap()).unwrap()
}

fn line(all: &[Leaf], line: &Line) -> (Value, Amount) {
    let quantity = match line.of {
        Ok((id, meter, _)) => all
            .iter()
            .filter(|leaf| leaf.organization == organization(id) && leaf.leaf.meter.as_str() == meter)
            .filter(|leaf| leaf.leaf.start_at.month() == month(202_611))
            .fold(Quantity::ZERO, |sum, leaf| sum.checked_add(leaf.leaf.quantity).unwrap()),
        Err(quantity) => Quantity::parse(quantity).unwrap(),
    };
    let amount = amount(quantity, line.per, line.tiers);
    let tiers: Vec<_> = line
        .tiers
        .iter()
        .map(|(up_to, unit_price, flat_fee)| json!({"up_to": up_to, "unit_price": unit_price, "flat_fee": flat_fee}))
        .collect();
    let (id, meter, currency) = line.of.map_or((None, None, None), |(id, meter, currency)| (Some(id), Some(meter), Some(currency)));
    let month = id.map(|_| "202611");
    let value = json!({
        "name": line.name, "organization": id, "month": month, "meter": meter, "currency": currency, "quantity": quantity,
        "per": line.per, "tiers": tiers, "amount": amount,
    });
    (value, amount)
}

fn cuts(all: &[Leaf], amounts: &[Amount]) -> Vec<CutInput> {
    let half = Sum::parse("0.5").unwrap();
    let rest = Sum::from(amounts[0]).checked_add(amounts[1].into()).unwrap().checked_sub(half).unwrap();
    let (usd, eur) = (AssetId::parse("USD").unwrap(), AssetId::parse("EUR").unwrap());
    let cut = |first, last, leaves, sums, organizations, ledger_seq: u64, at: &str| CutInput {
        first: BatchNo(first),
        last: BatchNo(last),
        last_digest: Digest::of(format!("batch {last}").as_bytes()),
        leaves,
        sums,
        organizations,
        ledger: LedgerHead { batch_no: BatchNo(last), seq: ledger_seq, digest: Digest::of(format!("entry {ledger_seq}").as_bytes()) },
        registry_version: Digest::of(b"registry"),
        audit: None,
        recorded_at: Instant::parse(at).unwrap(),
    };
    let mut cuts = vec![
        cut(
            1,
            2,
            vec![part(all, "acme", 202_611, 0, 5), part(all, "globex", 202_611, 0, 2)],
            vec![(organization("acme"), usd.clone(), half)],
            vec![],
            1,
            "2026-11-30T23:59:58Z",
        ),
        cut(3, 3, vec![part(all, "acme", 202_611, 5, 11)], vec![], vec![organization("initech")], 1, "2026-11-30T23:59:59.5Z"),
        cut(
            4,
            7,
            vec![part(all, "acme", 202_612, 0, 1), part(all, "globex", 202_611, 2, 3)],
            vec![(organization("acme"), usd, rest), (organization("globex"), eur, amounts[2].into())],
            vec![],
            4,
            "2026-12-01T00:00:01.000001Z",
        ),
    ];
    // Four more in which only the ledger moves, so that the tiled log has paths worth the name.
    for seq in 5..9_u64 {
        let at = format!("2026-12-01T00:00:0{seq}Z");
        let heads = cut(8, 7, vec![], vec![], vec![], seq, &at);
        cuts.push(heads);
    }
    cuts
}

fn roots(all: &[Leaf]) -> (Vec<Value>, Vec<Value>) {
    let (mut roots, mut frontiers) = (Vec::new(), Vec::new());
    for (id, of) in [("acme", 202_611), ("acme", 202_612), ("globex", 202_611)] {
        let (_, _, leaves) = part(all, id, of, 0, u64::MAX);
        let mut frontier = Frontier::default();
        let mut put = |frontier: &Frontier| {
            let size = frontier.size().to_string();
            roots.push(json!({"organization": id, "month": of.to_string(), "size": size, "root": frontier.root()}));
            frontiers.push(json!({"organization": id, "month": of.to_string(), "size": size, "frontier": hex(&frontier.encode())}));
        };
        put(&frontier);
        for leaf in leaves {
            frontier.append(leaf.hash()).unwrap();
            put(&frontier);
        }
    }
    (roots, frontiers)
}

fn checkpoints(cuts: &[CutInput], salts: &SaltKey, signer: &Signer) -> (Vec<Value>, Vec<Value>, Vec<Value>) {
    let (mut checkpoints, mut organizations, mut consistency) = (Vec::new(), Vec::new(), Vec::new());
    let (mut state, mut frontier, mut entries) = (State::default(), Frontier::default(), Vec::new());
    for cut in cuts {
        state.apply(cut).unwrap();
        let leaves = state.leaves(salts);
        let hashes: Vec<_> = leaves.iter().map(|leaf| leaf.hash()).collect();
        let entry = Entry {
            batch_no: cut.last,
            batch_digest: cut.last_digest,
            ledger: cut.ledger,
            registry_version: cut.registry_version,
            organizations: state.head(salts),
            audit: cut.audit,
            recorded_at: cut.recorded_at,
        };
        let path: Vec<_> = frontier.path_of_next();
        frontier.append(entry.hash()).unwrap();
        entries.push(entry.hash());
        let head = tree::Head { size: frontier.size(), root: frontier.root() };
        let size = head.size.to_string();
        let note = signer.sign(head).unwrap();
        assert_eq!(signer.key().open(&note).unwrap(), head);
        let mut fields: Value = serde_json::from_str(&entry.canonical()).unwrap();
        fields["tree_size"] = json!(size);
        fields["text"] = json!(entry.canonical());
        fields["root"] = json!(head.root);
        fields["path"] = json!(path);
        fields["note"] = json!(note);
        checkpoints.push(fields);
        for (index, leaf) in leaves.iter().enumerate() {
            let id = state.organizations().find(|id| salts.salted_organization(id) == leaf.organization).unwrap();
            let logs: Vec<_> = leaf
                .logs
                .iter()
                .map(|(month, head)| json!({"month": month.number().to_string(), "size": head.size.to_string(), "root": head.root}))
                .collect();
            let sums: Vec<_> = leaf.sums.iter().map(|(currency, sum)| json!({"currency": currency, "amount": sum})).collect();
            organizations.push(json!({
                "tree_size": size, "organization": id, "salt": hex(&salts.organization_salt(id).0), "salted": leaf.organization,
                "logs": logs, "sums": sums, "text": leaf.canonical(), "index": index.to_string(),
                "path": tree::inclusion_path(&hashes, index).unwrap(),
            }));
        }
        for from in 1..=entries.len() {
            let path = tree::consistency_path(&entries, from).unwrap();
            consistency.push(json!({"from": from.to_string(), "size": size, "path": path}));
        }
    }
    (checkpoints, organizations, consistency)
}

/// Version 2: the same entry as the last one of version 1, with the head of the audit chains.
fn audited_entries(checkpoints: &[Value]) -> Vec<Value> {
    let last = checkpoints.last().and_then(|last| last["text"].as_str()).unwrap();
    [(1, "audit of one chain"), (7, "audit of seven chains")]
        .map(|(chains, digest)| {
            let audit = Some(platform_evidence::AuditHead { chains, records: chains * 100, digest: Digest::of(digest.as_bytes()) });
            let entry = Entry { audit, ..Entry::parse(last).unwrap() };
            let mut fields: Value = serde_json::from_str(&entry.canonical()).unwrap();
            fields["text"] = json!(entry.canonical());
            fields["hash"] = json!(entry.hash());
            fields
        })
        .into()
}

fn document() -> Value {
    let salts = SaltKey::from_bytes(&secret(0));
    let signer = Signer::new(ORIGIN, &secret(100)).unwrap();
    let all = leaves(&salts);
    let (lines, amounts): (Vec<_>, Vec<_>) = LINES.iter().map(|of| line(&all, of)).unzip();
    let (checkpoints, organizations, consistency) = checkpoints(&cuts(&all, &amounts), &salts, &signer);
    let (roots, frontiers) = roots(&all);
    let leaf = |of: &Leaf| {
        let mut fields: Value = serde_json::from_str(&of.leaf.canonical()).unwrap();
        fields["organization"] = json!(of.organization);
        fields["month"] = json!(of.leaf.start_at.month().number().to_string());
        fields["text"] = json!(of.leaf.canonical());
        fields["hash"] = json!(of.leaf.hash());
        fields
    };
    let mut document = json!({
        "salt_secret": hex(&secret(0)),
        "key": {"origin": ORIGIN, "verifier_key": signer.key().to_string()},
        "commitments": all.iter().map(|leaf| leaf.commitment.clone()).collect::<Vec<_>>(),
        "leaves": all.iter().map(leaf).collect::<Vec<_>>(),
        "roots": roots,
        "frontiers": frontiers,
        "organizations": organizations,
        "audited_entries": audited_entries(&checkpoints),
        "checkpoints": checkpoints,
        "consistency": consistency,
        "lines": lines,
    });
    let count = |(name, value): (&String, &Value)| value.as_array().map(|rows| (name.clone(), json!(rows.len().to_string())));
    let counts: serde_json::Map<_, _> = document.as_object().unwrap().iter().filter_map(count).collect();
    document["counts"] = Value::Object(counts);
    document
}

#[test]
fn the_frozen_vectors_are_still_what_this_crate_makes() {
    let text = serde_json::to_string_pretty(&document()).unwrap() + "\n";
    if std::env::var_os("TALLY_WRITE_GOLDEN").is_some() {
        std::fs::write(FILE, &text).unwrap();
    }
    let frozen = std::fs::read_to_string(FILE).unwrap();
    assert!(text == frozen, "the evidence format changed: bundles in customers' hands would no longer verify");
}

#[test]
fn frozen_frontiers_entries_and_notes_still_load() {
    let frozen: Value = serde_json::from_str(&std::fs::read_to_string(FILE).unwrap()).unwrap();
    let key = platform_evidence::LogKey::parse(frozen["key"]["verifier_key"].as_str().unwrap()).unwrap();
    for (row, root) in frozen["frontiers"].as_array().unwrap().iter().zip(frozen["roots"].as_array().unwrap()) {
        let text = row["frontier"].as_str().unwrap();
        let bytes: Vec<u8> = (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect();
        assert_eq!(Frontier::decode(&bytes).unwrap().root().to_string(), root["root"].as_str().unwrap());
    }
    for row in frozen["audited_entries"].as_array().unwrap() {
        let entry = Entry::parse(row["text"].as_str().unwrap()).unwrap();
        assert_eq!(
            (entry.canonical().as_str(), entry.hash().to_string().as_str()),
            (row["text"].as_str().unwrap(), row["hash"].as_str().unwrap())
        );
        assert!(entry.audit.is_some());
    }
    for row in frozen["checkpoints"].as_array().unwrap() {
        let entry = Entry::parse(row["text"].as_str().unwrap()).unwrap();
        assert_eq!(entry.canonical(), row["text"].as_str().unwrap());
        let head = key.open(row["note"].as_str().unwrap()).unwrap();
        assert_eq!(
            (head.size.to_string().as_str(), head.root.to_string().as_str()),
            (row["tree_size"].as_str().unwrap(), row["root"].as_str().unwrap())
        );
    }
}

#[test]
fn the_lines_are_what_their_names_say() {
    let amounts: BTreeMap<_, _> =
        LINES.iter().map(|of| (of.name, line(&leaves(&SaltKey::from_bytes(&secret(0))), of).1.to_string())).collect();
    assert_eq!(amounts["half tie down to even"], "0");
    assert_eq!(amounts["half tie up to even"], "0.000000002");
    assert_eq!(amounts["half tie below zero"], "-0.000000002");
    // 93 661 000 007 µs = 26.016944446… h
    assert_eq!(amounts["price per hour over microseconds"], "54.635583337");
}
