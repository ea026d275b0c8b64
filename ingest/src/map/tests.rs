//! Maps over small files in all formats, over broken ones, and over the real traces.

use std::io::Write as _;
use std::path::PathBuf;

use platform_usage::{Aggregation, Event, EventLimits, Meter, MeterSet, Negative, Reason};
use shared_types::{Digest, Instant, MeterId, Quantity, UnitId};

use super::*;

const MAP: &str = r#"format = "csv"
source = "s"
type = "t"
[identity]
columns = ["id", "part"]
[organization]
column = "who"
[project]
column = "project"
[subject]
constant = "vm"
[time]
column = "from"
format = "rfc3339"
[end_time]
column = "to"
format = "rfc3339"
empty = "absent"
[quantities]
seconds = { column = "ms", factor = "0.001" }
cost = { sum = [{ product = ["ms", "price"] }, { constant = "0.10" }] }
left = { difference = [{ column = "limit", empty = "100" }, "ms"] }
[dimensions]
model = { column = "model" }
kind = { constant = "a\"b" }
[[filter]]
column = "state"
is = "equals"
value = "FAILED"
[[filter]]
column = "who"
is = "empty"
rule = "nobody owes"
"#;

const HEADER: &str = "id,part,who,project,from,to,ms,price,limit,model,state\n";

fn file(name: &str, bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    (dir, path)
}

fn shown(item: Result<Item, ReadError>, path: &Path) -> String {
    match item {
        Ok(Item::Event { row, json, .. }) => format!("{row} {}", String::from_utf8(json).unwrap()),
        Ok(Item::Filtered { row, rule }) => format!("{row} left out: {rule}"),
        Ok(Item::Broken { row, text, why, .. }) => format!("{row} broken: {why}: {text}"),
        Err(error) => format!("stopped: {error}").replace(&path.display().to_string(), "FILE"),
    }
}

fn read(map: &str, name: &str, bytes: &[u8]) -> Vec<String> {
    let (_dir, path) = file(name, bytes);
    match Map::parse(map).unwrap().open(&path) {
        Ok(reader) => reader.map(|item| shown(item, &path)).collect(),
        Err(error) => vec![shown(Err(error), &path)],
    }
}

fn csv(rows: &str) -> Vec<String> {
    read(MAP, "f.csv", format!("{HEADER}{rows}").as_bytes())
}

#[test]
fn a_row_becomes_an_event() {
    let rows = "7,a:b,acme,p1,2026-01-01T00:00:00Z,2026-01-01T00:00:01Z,1500,0.0000002,,m1,OK\r\n\
                \n\
                8,,acme,,2026-01-01T01:00:00+01:00,,0,1,7,,\n\
                9,,acme,,,,,,,,FAILED\n\
                10,,,,,,,,,,\n";
    assert_eq!(
        csv(rows),
        [
            r#"1 {"specversion":"1.0","id":"7:a%3Ab","source":"s","type":"t","organization":"acme","project":"p1","subject":"vm","time":"2026-01-01T00:00:00Z","endtime":"2026-01-01T00:00:01Z","data":{"cost":0.1003,"left":-1400,"seconds":1.5,"kind":"a\"b","model":"m1"}}"#,
            r#"2 {"specversion":"1.0","id":"8:","source":"s","type":"t","organization":"acme","subject":"vm","time":"2026-01-01T00:00:00Z","data":{"cost":0.1,"left":7,"seconds":0,"kind":"a\"b"}}"#,
            "3 left out: state equals FAILED",
            "4 left out: nobody owes",
        ]
    );
}

#[test]
fn a_row_that_is_no_event_stops_the_reader_or_is_sent_to_quarantine() {
    let good = "7,a,acme,,2026-01-01T00:00:00Z,,1,1,1,,\n";
    for (row, why) in [
        ("7,a", "it has 2 cells where the header has 11"),
        ("7,a,acme,,2026-01-01T00:00:00Z,,x,1,1,,", "column \"ms\": \"x\" is not a decimal number"),
        ("7,a,acme,,2026-01-01T00:00:00Z,,1,,1,,", "column \"price\": empty"),
        ("7,a,acme,,,,1,1,1,,", "column \"from\": empty"),
        ("7,a,acme,,yesterday,,1,1,1,,", "column \"from\": \"yesterday\" is not a time"),
        (
            "7,a,acme,,2026-01-01T00:00:00Z,2025-01-01T00:00:00Z,1,1,1,,",
            "it ends at 2025-01-01T00:00:00Z, before it starts at 2026-01-01T00:00:00Z",
        ),
        ("7,a,a b,,2026-01-01T00:00:00Z,,1,1,1,,", "organization \"a b\" is not 1 to 128 characters of A-Z a-z 0-9 . _ : / @ -"),
        (",,acme,,2026-01-01T00:00:00Z,,1,1,1,,", "the columns of its identity are empty"),
        ("7,\"a\"b,acme,,2026-01-01T00:00:00Z,,1,1,1,,", "cell 2 has text behind its closing quote"),
        (
            "7,a,acme,,2026-01-01T00:00:00Z,,1e30,1e30,1,,",
            "1000000000000000000000000000000 × 1000000000000000000000000000000 needs more than 38 digits",
        ),
    ] {
        let rows = format!("{good}{row}\n{good}");
        let stopped = csv(&rows);
        assert_eq!(stopped.len(), 2, "{row}");
        assert_eq!(stopped[1], format!("stopped: row 2 of FILE is broken: {why}: {row}"));

        let quarantine = MAP.replace("type = \"t\"", "type = \"t\"\non_broken = \"quarantine\"");
        let (_dir, path) = file("f.csv", format!("{HEADER}{rows}").as_bytes());
        let mut reader = Map::parse(&quarantine).unwrap().open(&path).unwrap();
        let items: Vec<Item> = reader.by_ref().map(Result::unwrap).collect();
        let counts = reader.counts();
        assert_eq!((counts.rows, counts.events, counts.broken), (3, 2, 1));
        let Item::Broken { row: 2, text, why: found, json } = &items[1] else { panic!("{row}: {:?}", items[1]) };
        assert_eq!((text.as_str(), found.as_str()), (row, why));
        let at = Instant::parse("2026-06-01T00:00:00Z").unwrap();
        let defect = Event::parse(json, at, &EventLimits::default()).unwrap_err();
        assert_eq!(defect.reason, Reason::MissingField);
        let seen = platform_usage::glimpse(json);
        assert_eq!((seen.source.as_deref(), seen.id.as_deref(), seen.organization_text), (Some("s"), Some("f:2"), None));
    }
}

#[test]
fn a_file_of_another_kind_is_refused() {
    assert_eq!(read(MAP, "f.csv", b""), ["stopped: FILE has no header: it is empty"]);
    assert_eq!(read(MAP, "f.csv", b"a,b\n"), ["stopped: FILE has no column \"id\"; its columns are a, b"]);
    let twice = HEADER.replace("part", "id");
    assert_eq!(read(MAP, "f.csv", twice.as_bytes()), ["stopped: FILE has no header: it names column \"id\" twice"]);
    let open_quote = format!("{HEADER}\"7,a,acme\n{}", "x\n".repeat(600_000));
    assert_eq!(
        read(MAP, "f.csv", open_quote.as_bytes()),
        ["stopped: row 1 of FILE has more than 1048576 bytes; look for a quote that is not closed, or raise row_bytes_max"]
    );
    let error = Map::parse(MAP).unwrap().open(Path::new("/nonexistent/f.csv")).unwrap_err();
    assert_eq!(error.to_string(), "could not read /nonexistent/f.csv at row 0");
}

#[test]
fn compression_and_byte_order_marks_change_nothing() {
    let text = format!("\u{feff}{HEADER}7,a,acme,,2026-01-01T00:00:00Z,,1,1,1,,\n");
    let plain = read(MAP, "f.csv", text.as_bytes());
    assert!(plain[0].starts_with("1 {"));
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(text.as_bytes()).unwrap();
    let gz = gz.finish().unwrap();
    assert_eq!(read(MAP, "f.csv.gz", &gz), plain);
    // Two members one after the other, as `cat a.gz b.gz` makes them, under a name that says nothing.
    let (head, tail) = text.split_at(40);
    let member = |text: &str| {
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(text.as_bytes()).unwrap();
        gz.finish().unwrap()
    };
    assert_eq!(read(MAP, "f.csv", &[member(head), member(tail)].concat()), plain);
    assert_eq!(read(MAP, "f.csv.zst", &zstd::encode_all(text.as_bytes(), 3).unwrap()), plain);
    let cut = read(MAP, "f.csv.gz", &gz[..gz.len() - 12]);
    assert!(cut.last().unwrap().starts_with("stopped: could not read FILE"), "{cut:?}");
}

#[test]
fn progress_counts_the_stored_bytes() {
    let text = format!("{HEADER}{}", "7,a,acme,,2026-01-01T00:00:00Z,,1,1,1,,\n".repeat(10_000));
    let gz = zstd::encode_all(text.as_bytes(), 3).unwrap();
    let (_dir, path) = file("f.csv.zst", &gz);
    let mut reader = Map::parse(MAP).unwrap().open(&path).unwrap();
    assert_eq!(reader.progress().bytes_total, gz.len() as u64);
    assert_eq!(reader.by_ref().count(), 10_000);
    assert_eq!(reader.progress().bytes_read, gz.len() as u64);
    assert_eq!(reader.counts().events, 10_000);
}

#[test]
fn json_lines_files_without_header_and_line_numbers() {
    let jsonl = r#"
format = "jsonl"
source = "s"
type = "t"
identity = { line_number = true }
organization = { hash = { columns = ["a.b"], buckets = 3, prefix = "o" } }
time = { column = "t", format = "number", unit = "ms", base = "2026-01-01T00:00:00Z" }
quantities = { n = "n" }
"#;
    // python3: int.from_bytes(sha256(b"\0\0\0\x011").digest()[:8]) % 3 is 0, of b"\0\0\0\0" it is 2.
    assert_eq!(
        read(jsonl, "day.1.jsonl", b"{\"a\":{\"b\":1},\"t\":1.5,\"n\":2.50}\n\n{\"t\":0,\"n\":\"3\"}\r\n{\"t\":0}\n"),
        [
            r#"1 {"specversion":"1.0","id":"day.1:1","source":"s","type":"t","organization":"o0","time":"2026-01-01T00:00:00.001500Z","data":{"n":2.5}}"#,
            r#"2 {"specversion":"1.0","id":"day.1:2","source":"s","type":"t","organization":"o2","time":"2026-01-01T00:00:00Z","data":{"n":3}}"#,
            "stopped: row 3 of FILE is broken: column \"n\": empty: {\"t\":0}",
        ]
    );
    let bare = r#"
format = "csv"
delimiter = "\t"
header = false
columns = ["t", "n"]
source = "s"
type = "t"
identity = { line_number = true, name = "x" }
organization = { constant = "o" }
time = { column = "t", format = "%Y-%m-%d", zone = "UTC" }
quantities = { n = "n" }
"#;
    assert_eq!(
        read(bare, "f.csv", b"2026-01-02\t5"),
        [r#"1 {"specversion":"1.0","id":"x:1","source":"s","type":"t","organization":"o","time":"2026-01-02T00:00:00Z","data":{"n":5}}"#]
    );
}

#[test]
fn a_wrong_map_is_refused_with_line_field_and_remedy() {
    let error = |from: &str, to: &str| {
        assert!(MAP.contains(from), "{from}");
        Map::parse(&MAP.replacen(from, to, 1)).unwrap_err().to_string()
    };
    for (from, to, expected) in [
        ("format = \"csv\"", "format = ", "line 1, map: this is no TOML: "),
        ("format = \"csv\"", "format = \"xml\"", "line 1, format: must be \"csv\" or \"jsonl\""),
        ("source = \"s\"\n", "", "line 1, source: is required"),
        ("source = \"s\"", "source = 7", "line 2, source: must be text in quotes"),
        ("source = \"s\"", "source = \"a b\"", "line 2, source: source \"a b\" is not 1 to 128 characters"),
        ("type = \"t\"", "typo = \"t\"", "line 1, type: is required"),
        ("type = \"t\"", "type = \"t\"\ndelimeter = \";\"", "line 4, delimeter: is not read here; known are format, "),
        ("type = \"t\"", "type = \"t\"\ndelimiter = \"ab\"", "line 4, delimiter: must be one ASCII character"),
        ("type = \"t\"", "type = \"t\"\nheader = false", "line 1, columns: is required"),
        (
            "type = \"t\"",
            "type = \"t\"\nheader = false\ncolumns = [\"id\"]",
            "line 5, columns: the map reads column \"part\", which is not among them",
        ),
        ("type = \"t\"", "type = \"t\"\non_broken = \"skip\"", "line 4, on_broken: must be \"stop\" or \"quarantine\""),
        ("type = \"t\"", "type = \"t\"\nrow_bytes_max = 0", "line 4, row_bytes_max: must be a whole number of 1 or more"),
        ("columns = [\"id\", \"part\"]", "", "line 4, identity: must say either columns"),
        ("columns = [\"id\", \"part\"]", "line_number = true\ncolumns = [\"id\"]", "line 4, identity: must say either columns"),
        ("columns = [\"id\", \"part\"]", "columns = \"id\"", "line 5, identity.columns: must be a list of texts in quotes"),
        ("[organization]\ncolumn = \"who\"\n", "", "line 1, organization: is required: who owes for these rows"),
        ("column = \"who\"", "constant = \"a b\"", "line 7, organization.constant: organization \"a b\" is not"),
        ("column = \"who\"", "column = \"who\"\nconstant = \"x\"", "line 6, organization: must say one of column, constant and hash"),
        (
            "column = \"who\"",
            "hash = { columns = [\"who\"], buckets = 0, prefix = \"x\" }",
            "line 7, organization.hash.buckets: must be a whole number of 1 or more",
        ),
        ("format = \"rfc3339\"", "format = \"%Y\"", "line 14, time.format: %m is missing"),
        ("format = \"rfc3339\"", "format = \"%Y%m%d\"", "line 12, time: say zone = \"UTC\" if the times are in UTC"),
        ("format = \"rfc3339\"", "format = \"%Y%m%d\"\nzone = \"CET\"", "line 15, time.zone: must be \"UTC\""),
        ("format = \"rfc3339\"", "format = \"%Y%m%d%z\"\nzone = \"UTC\"", "line 15, time.zone: does not go with %z"),
        ("format = \"rfc3339\"", "format = \"number\"", "line 12, time.unit: is required"),
        ("format = \"rfc3339\"", "format = \"number\"\nunit = \"h\"", "line 15, time.unit: must be \"s\" or \"ms\" or \"us\" or \"ns\""),
        ("format = \"rfc3339\"", "format = \"rfc3339\"\nunit = \"s\"", "line 15, time.unit: belongs to format = \"number\""),
        ("format = \"rfc3339\"", "format = \"rfc3339\"\nempty = \"absent\"", "line 15, time.empty: belongs to end_time"),
        ("factor = \"0.001\"", "factor = \"0,001\"", "line 20, quantities.seconds.factor: \"0,001\" is not a decimal number"),
        ("factor = \"0.001\"", "faktor = \"0.001\"", "line 20, quantities.seconds.faktor: is not read here"),
        (
            "{ product = [\"ms\", \"price\"] }",
            "{ product = [\"ms\"] }",
            "line 21, quantities.cost.sum.product: must be a list of at least two",
        ),
        (
            "{ column = \"limit\", empty = \"100\" }, \"ms\"",
            "\"ms\", \"ms\", \"ms\"",
            "line 22, quantities.left.difference: must be a list of two",
        ),
        ("model = { column", "left = { column", "line 24, dimensions.left: is a quantity already"),
        ("model = { column = \"model\" }", "model = \"model\"", "line 24, dimensions.model: must be a table"),
        ("is = \"equals\"", "is = \"like\"", "line 28, filter.is: must be \"empty\""),
        ("is = \"empty\"", "is = \"empty\"\nvalue = \"x\"", "line 33, filter.value: goes with is = \"equals\""),
    ] {
        let found = error(from, to);
        assert!(found.starts_with(expected), "{to}\n  {found}\n  {expected}");
    }
}

/// The project's shared folder: beside the workspace, or where `TALLY_SHARED` says.
fn shared() -> PathBuf {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared");
    std::env::var_os("TALLY_SHARED").map_or_else(|| PathBuf::from(beside), PathBuf::from)
}

fn meter(id: &str, event_type: &str) -> Meter {
    Meter {
        id: MeterId::parse(id).unwrap(),
        event_type: Arc::from(event_type),
        aggregation: Aggregation::Sum,
        value: Some(Arc::from(id)),
        unit: UnitId::parse("unit").unwrap(),
        dimensions: vec![],
        negative: Negative::Quarantine,
        part_of: None,
        billable: None,
    }
}

/// Reads a trace through its map, every event as the stream would, and sums the readings. The trace is the real one if it is
/// there, else what `generated` makes, with its sums.
fn check(map: &str, event_type: &str, trace: &str, meters: [&str; 2], sums: [i128; 2], generated: fn() -> (String, [i128; 2])) {
    let real = shared().join("data/traces").join(trace);
    let (_dir, path, sums) = if real.exists() {
        (None, real, sums)
    } else {
        println!("SKIPPED: {} is not there; a generated look-alike is read instead", real.display());
        let (text, sums) = generated();
        let (dir, path) = file("generated", text.as_bytes());
        (Some(dir), path, sums)
    };
    let set = MeterSet::new(meters.iter().map(|id| meter(id, event_type)).collect()).unwrap();
    let at = Instant::parse("2026-11-24T09:30:00Z").unwrap();
    let map = Map::parse(map).unwrap();
    let mut reader = map.open(&path).unwrap();
    let mut found = [Quantity::ZERO; 2];
    let mut ids = std::collections::HashSet::new();
    let mut first = Digest::ZERO;
    for item in reader.by_ref() {
        let Item::Event { organization, json, .. } = item.unwrap() else { continue };
        first = Digest::of_parts(&[&first.0, &json]);
        let event = Event::parse(&json, at, &EventLimits::default()).unwrap();
        assert_eq!(*event.organization(), organization);
        assert!(ids.insert(event.id().to_owned()), "{}", event.id());
        for reading in set.read(&event) {
            let sum = &mut found[usize::from(reading.ordinal)];
            *sum = sum.checked_add(reading.result.unwrap()).unwrap();
        }
    }
    assert_eq!(found.map(|sum| sum.to_string()), sums.map(|sum| sum.to_string()));
    let counts = reader.counts().clone();
    assert_eq!(counts.rows, counts.events + counts.filtered.values().sum::<u64>());
    assert_eq!(reader.progress().bytes_read, reader.progress().bytes_total);
    if trace.contains("openb") && path.starts_with(shared()) {
        assert_eq!((counts.rows, counts.filtered["never scheduled"]), (8_152, 897));
    }
    // The same file and map again: the same bytes.
    let again = map.open(&path).unwrap().fold(Digest::ZERO, |digest, item| match item.unwrap() {
        Item::Event { json, .. } => Digest::of_parts(&[&digest.0, &json]),
        _ => digest,
    });
    assert_eq!(again, first);
}

const AZURE: &str = include_str!("../../../docs/guide/maps/azure-llm-2023.toml");
const OPENB: &str = include_str!("../../../docs/guide/maps/openb-pods.toml");
const MOONCAKE: &str = include_str!("../../../docs/guide/maps/mooncake.toml");

fn azure_like() -> (String, [i128; 2]) {
    let mut text = "TIMESTAMP,ContextTokens,GeneratedTokens\r\n".to_owned();
    let mut sums = [0, 0];
    for row in 0_i128..2_000 {
        let (input, output) = (row * 37 % 5_000, row * 11 % 700);
        sums = [sums[0] + input, sums[1] + output];
        text += &format!("2023-11-16 18:{:02}:{:02}.{:07},{input},{output}\r\n", row / 60 % 60, row % 60, row * 4_999);
    }
    (text, sums)
}

fn openb_like() -> (String, [i128; 2]) {
    let mut text =
        "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos,pod_phase,creation_time,deletion_time,scheduled_time\n".to_owned();
    let mut sums = [0, 0];
    for row in 0_i128..1_000 {
        let (cpu, gpus, milli, from, to) = (row * 500, row % 9, row * 10 % 1_001, row * 7, row * 11 + 5);
        let scheduled = if row % 9 == 8 { String::new() } else { from.to_string() };
        if !scheduled.is_empty() {
            sums = [sums[0] + cpu * (to - from), sums[1] + gpus * milli * (to - from)];
        }
        text += &format!("pod-{row},{cpu},1,{gpus},{milli},,LS,Running,0,{to},{scheduled}\n");
    }
    (text, sums)
}

fn mooncake_like() -> (String, [i128; 2]) {
    let lines =
        (0_i128..500).map(|row| format!("{{\"timestamp\": {row}, \"input_length\": {row}, \"output_length\": 2, \"hash_ids\": [1]}}\n"));
    (lines.collect(), [500 * 499 / 2, 1_000])
}

#[test]
fn azure_traces_give_their_published_sums() {
    let meters = ["input_tokens", "output_tokens"];
    for (file, sums) in [("code", [18_059_974, 245_896]), ("conv", [22_361_870, 4_088_665])] {
        let trace = format!("azure-llm-2023/AzureLLMInferenceTrace_{file}.csv.gz");
        check(AZURE, "llm.request", &trace, meters, sums, azure_like);
    }
}

#[test]
fn openb_pods_give_their_published_sums() {
    let meters = ["cpu_milli_seconds", "gpu_milli_seconds"];
    let sums = [2_506_537_593_492, 185_294_426_970];
    check(OPENB, "pod.finished", "alibaba-gpu-v2023/openb_pod_list_default.csv.gz", meters, sums, openb_like);
}

#[test]
fn the_mooncake_trace_gives_its_published_sums() {
    let meters = ["input_tokens", "output_tokens"];
    check(MOONCAKE, "llm.request", "mooncake-fast25/synthetic_trace.jsonl.gz", meters, [61_194_628, 595_432], mooncake_like);
}
