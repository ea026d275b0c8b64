//! A registry version comes into force: proposed by one, approved by another, published; compared, asked about by both times, retired.

use serde_json::{Value, json};

use crate::tally::{Answer, Client, Tally, err, root};

const JSON: &str = "application/json";

fn books() -> String {
    std::fs::read_to_string(root().join("tests/registry/books.toml")).unwrap()
}

/// The tests' registry with another price of input tokens, long from now.
fn cheaper(price: &str) -> String {
    let row = format!(
        "[[price_book.price]]\nsku = \"input\"\neffective_at = \"2999-11-01T00:00:00Z\"\nmodel = \"per_unit\"\nper = \"1000000\"\nunit_price = \"{price}\"\n\n[[contract]]"
    );
    books().replacen("[[contract]]", &row, 1)
}

fn files(text: &str) -> Value {
    json!({"files": [{"name": "books.toml", "text": text}]})
}

fn post(client: &Client, path: &str, body: &Value) -> Answer {
    client.ask("POST", path, JSON, body.to_string().as_bytes()).unwrap()
}

#[track_caller]
fn answered(answer: &Answer, status: u16) -> Value {
    assert_eq!(answer.status, status, "{}", answer.text);
    serde_json::from_str(&answer.text).unwrap()
}

#[track_caller]
fn refused(answer: &Answer, status: u16, code: &str) {
    let problem = answered(answer, status);
    assert_eq!(problem["code"], code, "{problem}");
}

#[test]
fn a_price_is_proposed_by_one_and_approved_by_another() {
    let tally = Tally::new().with("TALLY_REGISTRY_REVIEW", "required");
    let server = tally.serve();
    let client = |name: &str, role: &str| server.client().with_key(Some(&tally.key(&[name, "--role", role])));
    let (alice, bob) = (client("alice", "operator"), client("bob", "finance"));

    refused(&post(&alice, "/v1/registry/versions", &files(&cheaper("0.12"))), 409, "REGISTRY-0006");
    let draft = answered(&post(&alice, "/v1/registry/drafts", &files(&cheaper("0.12"))), 201);
    assert_eq!(
        (&draft["draft"], &draft["state"], &draft["money"], &draft["proposed_by"]),
        (&json!(1), &json!("proposed"), &json!(true), &json!("alice"))
    );
    let (first, second) = (draft["base"].as_str().unwrap().to_owned(), draft["version"].as_str().unwrap().to_owned());
    refused(&post(&alice, "/v1/registry/drafts/1/publish", &json!({})), 409, "REGISTRY-0008");
    let approval = json!({"verdict": "approved", "reason": "as agreed"});
    refused(&post(&alice, "/v1/registry/drafts/1/review", &approval), 403, "REGISTRY-0009");
    refused(&post(&bob, "/v1/registry/drafts/1/review", &json!({"verdict": "approved", "reason": " "})), 400, "REGISTRY-0004");
    refused(&post(&bob, "/v1/registry/drafts/1/review", &json!({"verdict": "perhaps", "reason": "x"})), 400, "REGISTRY-0004");
    let shown = answered(&bob.ask("GET", "/v1/registry/drafts/draft-1", JSON, b"").unwrap(), 200);
    let said = "input: 0.1500000005 → 0.12 USD per 1M token from 2999-11-01";
    assert_eq!(shown["differences"][0]["text"], said, "{shown}");
    assert_eq!(answered(&post(&bob, "/v1/registry/drafts/1/review", &approval), 200)["state"], "approved");
    refused(&post(&bob, "/v1/registry/drafts/1/publish", &json!({})), 403, "ACCESS-0003");
    let published = answered(&post(&alice, "/v1/registry/drafts/1/publish", &json!({})), 200);
    assert_eq!((&published["version"], &published["changed"]), (&json!(second), &json!(true)));
    assert_eq!(answered(&post(&alice, "/v1/registry/drafts/1/publish", &json!({})), 200)["changed"], false);

    let differences = answered(&bob.ask("GET", &format!("/v1/registry/versions/{first}/diff/{second}"), JSON, b"").unwrap(), 200);
    assert_eq!(differences["differences"].as_array().unwrap().len(), 1);
    assert_eq!(
        (&differences["differences"][0]["before"], &differences["differences"][0]["money"]),
        (&json!("0.1500000005 USD per 1M token"), &json!(true))
    );
    // What was believed: before the publication, and now.
    let recorded = answered(&bob.ask("GET", "/v1/registry/price?sku=input&at=2999-12-01", JSON, b"").unwrap(), 200);
    assert_eq!((&recorded["model"]["per_unit"]["unit_price"], &recorded["version"]), (&json!("0.12"), &json!(second)));
    let registry = answered(&bob.ask("GET", "/v1/registry", JSON, b"").unwrap(), 200);
    let before = registry["versions"][0]["recorded_at"].as_str().unwrap();
    let then = answered(&bob.ask("GET", &format!("/v1/registry/price?sku=input&at=2999-12-01&as_of={before}"), JSON, b"").unwrap(), 200);
    assert_eq!((&then["model"]["per_unit"]["unit_price"], &then["version"]), (&json!("0.1500000005"), &json!(first)));
    refused(&bob.ask("GET", "/v1/registry/price?sku=input&at=2999-12-01&as_of=2020-01-01", JSON, b"").unwrap(), 404, "REGISTRY-0005");
    refused(&bob.ask("GET", "/v1/registry/price?at=2999-12-01", JSON, b"").unwrap(), 400, "REGISTRY-0004");

    refused(&post(&alice, &format!("/v1/registry/versions/{second}/retire"), &json!({"reason": "wrong"})), 409, "REGISTRY-0008");
    answered(&post(&alice, &format!("/v1/registry/versions/{first}/retire"), &json!({"reason": "the old prices"})), 200);
    refused(&post(&alice, "/v1/registry/drafts", &files(&books())), 409, "REGISTRY-0008");
    refused(&bob.ask("GET", "/v1/registry/drafts/7", JSON, b"").unwrap(), 404, "REGISTRY-0007");
    let audit = alice.ask("GET", "/v1/audit/events", JSON, b"").unwrap().text;
    for action in ["registry.draft.propose", "registry.draft.review", "registry.version.publish", "registry.version.retire"] {
        assert!(audit.contains(action), "{action} is not in {audit}");
    }
    server.stop();
    tally.check().unwrap();
}

#[test]
fn one_person_works_with_commands_alone() {
    let tally = Tally::new();
    let folder = tally.scratch().join("registry");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("books.toml"), cheaper("0.12")).unwrap();
    let folder = folder.to_str().unwrap();
    let said = "input: 0.1500000005 → 0.12 USD per 1M token from 2999-11-01";
    assert!(tally.done(&["registry", "diff", "in-force", folder]).contains(said));
    let proposed = tally.done(&["registry", "propose", folder, "--note", "cheaper"]);
    assert!(proposed.starts_with("draft-1 is proposed") && proposed.contains("proposed by local (cheaper), about money"), "{proposed}");
    assert!(tally.done(&["registry", "drafts", "1"]).contains(said));
    let refused = tally.run(&["registry", "review", "draft-1", "--approve", "--reason", "fine"]);
    assert!(refused.status.code() == Some(1) && err(&refused).contains("another person has to approve it"), "{}", err(&refused));
    tally.done(&["registry", "review", "draft-1", "--reject", "--reason", "withdrawn"]);
    let refused = tally.run(&["registry", "publish", "draft-1"]);
    assert!(refused.status.code() == Some(1) && err(&refused).contains("draft 1 is rejected"), "{}", err(&refused));
    assert!(tally.done(&["registry", "publish", folder]).contains("is in force"), "a home of one person publishes a folder as it is");
    let price = tally.done(&["registry", "price", "--meter", "tokens.input", "--at", "2999-12-01"]);
    assert!(price.starts_with("input: 0.12 USD per 1M token from 2999-11-01\n"), "{price}");
    let versions: Vec<Value> = serde_json::from_str(&tally.done(&["--format", "json", "registry", "show", "--list"])).unwrap();
    let first = versions[0]["version"].as_str().unwrap();
    assert!(tally.done(&["registry", "diff", &first[..12], "in-force"]).contains(said));
    assert!(tally.done(&["registry", "retire", first, "--reason", "old"]).contains("is retired"));
    let refused = tally.run(&["registry", "publish", root().join("tests/registry").to_str().unwrap()]);
    assert!(err(&refused).contains("is retired: it is not put in force again"), "{}", err(&refused));
    tally.check().unwrap();
}
