//! Input that is wrong, absurd or too much: a clear answer or quarantine, nothing lost, nothing half-written.

use crate::tally::{Tally, request};

const BATCH: &str = "application/cloudevents-batch+json";
const ONE: &str = "application/cloudevents+json";
const DAY: &str = "2026-10-05T10:00:00Z";

#[test]
fn bodies_that_are_no_events_are_refused_and_store_nothing() {
    let tally = Tally::new();
    let server = tally.serve();
    let client = server.client();
    for (body, kind, status) in
        [("{", ONE, 400), ("[{\"id\":1},", BATCH, 400), ("\u{0}", ONE, 400), ("{}", "text/plain", 415), ("{}", "", 415)]
    {
        let answer = client.post("/v1/events", kind, body.as_bytes()).unwrap();
        assert_eq!(answer.status, status, "{body:?} {kind}: {}", answer.text);
        assert!(answer.text.contains("\"code\":\"INGEST-"), "{}", answer.text);
    }
    let invalid_utf8 = client.post("/v1/events", ONE, b"{\"id\":\"\xff\"}").unwrap();
    assert_eq!(invalid_utf8.status, 400);
    let unknown = client.post("/v1/nothing", ONE, b"{}").unwrap();
    assert_eq!(unknown.status, 404);
    server.stop();
    assert_eq!(tally.value("SELECT count(*) FROM usage.events WHERE outcome <> 'control'"), "0");
}

#[test]
fn a_hundred_megabytes_are_refused_while_others_are_served() {
    let tally = Tally::new();
    let server = tally.serve();
    let client = server.client();
    let huge = vec![b' '; 100 << 20];
    // The server may answer 413 or close while we still send; it must not take the body.
    if let Ok(answer) = client.post("/v1/events", BATCH, &huge) {
        assert_eq!(answer.status, 413, "{}", answer.text);
    }
    let long = request("long", "org", DAY, 1, 1).replace("gateway", &"g".repeat(2 << 20));
    let answer = client.post("/v1/events", ONE, long.as_bytes()).unwrap();
    assert_eq!(answer.status, 413, "{}", answer.text);
    assert_eq!(client.events(&[request("good", "org", DAY, 1, 1)]).unwrap().status, 202);
    server.stop();
    assert_eq!(tally.value("SELECT count(*) FROM usage.events WHERE outcome = 'accepted'"), "1");
}

#[test]
fn wrong_events_are_quarantined_with_their_reason_and_bytes() {
    let tally = Tally::new();
    let good = |id: &str| request(id, "org", DAY, 10, 10);
    let cases: Vec<(String, &str)> = vec![
        ("{\"hello\":\"world\"}".to_owned(), "missing_field"),
        ("1".to_owned(), "unparseable"),
        (good("a").replace("\"organization\":\"org\",", ""), "missing_field"),
        (good("b").replace("2026-10-05", "2026-13-05"), "invalid_field"),
        (good("c").replace("10:00:00Z", "10:00:00.1234567Z"), "invalid_field"),
        (good("d").replace("\"org\"", "\"o r g\""), "invalid_field"),
        (good("e").replace("\"1.0\"", "\"0.3\""), "invalid_field"),
        (good("f").replace("2026-10-05", "2126-10-05"), "far_future"),
        (good("g").replace("llm.request", "llm.nothing"), "unknown_type"),
        (good("h").replace("\"input_tokens\":10", "\"input_tokens\":-1"), "negative_quantity"),
        (good("i").replace("\"input_tokens\":10", "\"input_tokens\":\"ten\""), "invalid_quantity"),
        (good("j").replace("\"input_tokens\":10", "\"input_tokens\":0.0000000001"), "quantity_too_fine"),
        (good("k").replace("\"input_tokens\":10", &format!("\"input_tokens\":{}", "9".repeat(40))), "quantity_too_large"),
        (good("l").replace("\"input_tokens\":10,", ""), "missing_quantity"),
        (good("m").replace("\"input_tokens\":10", "\"input_tokens\":99999999999999999999999999999"), "amount_overflow"),
    ];
    let server = tally.serve();
    let bodies: Vec<String> = cases.iter().map(|(body, _)| body.clone()).collect();
    let answer = server.client().events(&bodies).unwrap();
    assert_eq!(answer.status, 202, "parseable but wrong is accepted, then quarantined: {}", answer.text);
    server.stop();
    for (body, reason) in &cases {
        let count: u32 = tally.value(&format!("SELECT count(*) FROM usage.quarantine WHERE reason = '{reason}'")).parse().unwrap();
        let expected = cases.iter().filter(|(_, other)| other == reason).count();
        assert_eq!(count, u32::try_from(expected).unwrap(), "{reason}: {body}");
    }
    // The other readings of a half-wrong event are charged.
    assert_eq!(tally.value("SELECT count(*) FROM usage.charges WHERE fate = 'charged' AND sku_id = 'request'"), "6");
    let list = tally.done(&["quarantine", "list", "--reason", "unknown_type"]);
    assert!(list.contains("llm.nothing"), "{list}");
    let raw = tally.value("SELECT raw FROM usage.quarantine WHERE reason = 'far_future'");
    assert!(raw.contains("2126-10-05"), "{raw}");
    let position = tally.value("SELECT concat(shard, '/', incarnation, '/', sequence) FROM usage.quarantine WHERE reason = 'unknown_type'");
    assert!(tally.done(&["quarantine", "show", &position]).contains("llm.nothing"));
    assert_eq!(tally.sql("SELECT * FROM sys.conservation").len(), 0);
    tally.check().unwrap();
}

#[test]
fn a_full_disk_is_a_clear_error_and_nothing_is_lost() {
    // A small file system of its own needs root; elsewhere the crates' simulated disks stand for it.
    let folder = tempfile::tempdir().unwrap();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=12m", "tmpfs"])
        .arg(folder.path())
        .output()
        .is_ok_and(|output| output.status.success());
    if !mounted {
        eprintln!("SKIPPED: cannot mount a small file system here");
        return;
    }
    let result = std::panic::catch_unwind(|| fill(folder.path()));
    assert!(std::process::Command::new("umount").arg("-l").arg(folder.path()).status().unwrap().success());
    result.unwrap();
}

fn fill(disk: &std::path::Path) {
    let tally = Tally::on(disk).with("TALLY_STREAM_SEGMENT_BYTES", "2097152");
    tally.done(&["init"]);
    tally.done(&["registry", "publish", crate::tally::root().join("tests/registry").to_str().unwrap()]);
    let server = tally.serve();
    let client = server.client();
    let mut acknowledged = 0;
    let mut refused = None;
    for round in 0..400 {
        let events: Vec<String> = (0..200).map(|at| request(&format!("{round}-{at}"), "org", DAY, 1, 1)).collect();
        match client.events(&events) {
            Ok(answer) if answer.status == 202 => acknowledged += 200,
            Ok(answer) => {
                refused = Some(answer);
                break;
            }
            Err(_) => break,
        }
    }
    let refused = refused.expect("a full disk is said in an answer");
    assert_eq!(refused.status, 503, "{}", refused.text);
    // Room again: the same process goes on, and everything that was acknowledged is there.
    let remount = std::process::Command::new("mount").args(["-o", "remount,size=200m"]).arg(disk).status().unwrap();
    assert!(remount.success());
    let again = (0..50).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(200));
        client.events(&[request("again", "org", DAY, 1, 1)]).is_ok_and(|answer| answer.status == 202)
    });
    assert!(again, "with room again events are accepted again");
    acknowledged += 1;
    server.stop();
    assert_eq!(tally.value("SELECT count(*) FROM usage.events WHERE outcome = 'accepted'"), acknowledged.to_string());
    tally.check().unwrap();
}
