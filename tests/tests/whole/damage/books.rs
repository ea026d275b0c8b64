//! The books, damaged row by row: ledger, invoices, re-ratings, registry, drafts, fees.

use super::*;
use crate::tally::root;
use crate::{recurring, rerate, reread};

#[test]
fn a_damaged_ledger_is_named() {
    let template = Template::new();
    let posting = |name, check, set: &str, named: &str| {
        let (sql, named) = (format!("UPDATE platform_ledger_postings SET {set} WHERE seq = 2"), named.to_owned());
        case(name, check, move |home| {
            home.sql("books", &sql);
            named.clone()
        })
    };
    let of_entry = |name, check, sql: &'static str, named| row(name, check, "books", sql, named);
    let copy = template.copy();
    let owner = copy.ask("books", "SELECT organization FROM platform_ledger_postings WHERE seq = 2");
    let account = copy.ask("books", "SELECT debit_account FROM platform_ledger_postings WHERE seq = 2");
    let entry = format!("entry {}", copy.ask("books", "SELECT entry_no FROM platform_ledger_postings WHERE seq = 2"));
    let balance = |name, change: &str| {
        let (sql, account) = (format!("{change} WHERE account = '{account}'"), &account);
        case(name, "ledger", move |home| {
            home.sql("books", &sql);
            account.clone()
        })
    };
    template.check(&[
        posting("an amount", "ledger", "amount = amount + 1", &entry),
        posting("an amount and its balance", "ledger", "amount = amount + 1", &account),
        posting("an amount and its key", "totals-postings", "amount = amount + 1", &owner),
        posting("a debit account", "ledger", "debit_account = 'org/other/unbilled'", "org/other/unbilled"),
        posting("a credit account", "ledger", "credit_account = 'revenue/other'", "revenue/other"),
        posting("swapped accounts", "ledger", "debit_account = credit_account, credit_account = debit_account", &entry),
        posting("an organization", "totals-postings", "organization = 'other'", "other"),
        posting("an organization that is none", "ledger", "organization = 'no one'", "posting 2"),
        posting("a contract line", "totals-postings", "contract_line = 'other'", "other"),
        posting("a service period", "ledger", "service_period = 202601", &entry),
        posting("an accounting period", "ledger", "accounting_period = 202601", "posting 2"),
        posting("a quantity", "ledger", "quantity = '1'", &entry),
        posting("a quantity that is none", "ledger", "quantity = 'one'", "posting 2"),
        posting("an instant", "ledger", "effective_at = effective_at + 1", &entry),
        posting("a kind", "ledger", "kind = 2", &entry),
        posting("the entry of a posting", "ledger", "entry_no = 99", "posting 2"),
        posting("the asset of a posting", "ledger", "asset = 'EUR', currency = 'EUR'", "posting 2"),
        of_entry("a missing posting", "ledger", "DELETE FROM platform_ledger_postings WHERE seq = 2", "posting 2 is missing"),
        of_entry(
            "an added posting",
            "ledger",
            "INSERT INTO platform_ledger_postings SELECT (SELECT max(seq) + 1 FROM platform_ledger_postings), entry_no, debit_account, credit_account, asset, amount, kind, \
             ref_seq, accounting_period, organization, contract, contract_line, service_period, currency, quantity, effective_at FROM platform_ledger_postings WHERE seq = 2",
            "which does not cover it",
        ),
        of_entry("the digest of an entry", "ledger", "UPDATE platform_ledger_entries SET digest = randomblob(32) WHERE entry_no = 1", "entry 1"),
        of_entry("the digest of the last entry", "ledger", "UPDATE platform_ledger_entries SET digest = randomblob(32) WHERE entry_no = (SELECT max(entry_no) FROM platform_ledger_entries)", "does not have its digest"),
        of_entry("the previous digest of an entry", "ledger", "UPDATE platform_ledger_entries SET previous = randomblob(32) WHERE entry_no = 2", "entry 2"),
        of_entry("the batches of an entry", "ledger", "UPDATE platform_ledger_entries SET last_batch = last_batch + 100 WHERE entry_no = 1", "entry 1"),
        of_entry("the postings of an entry", "ledger", "UPDATE platform_ledger_entries SET last_seq = 10000 WHERE entry_no = 1", "entry 1"),
        of_entry("a missing entry", "ledger", "DELETE FROM platform_ledger_entries WHERE entry_no = 1", "entry 2"),
        balance("the debits of a balance", "UPDATE platform_ledger_balances SET debits = debits + 1"),
        balance("the credits of a balance", "UPDATE platform_ledger_balances SET credits = credits + 1"),
        balance("the account of a balance", "UPDATE platform_ledger_balances SET account = 'no account'"),
        balance("the asset of a balance", "UPDATE platform_ledger_balances SET asset = 'no asset'"),
        balance("a missing balance", "DELETE FROM platform_ledger_balances"),
        balance("a missing account", "DELETE FROM platform_ledger_accounts"),
        of_entry("an added balance", "ledger", "INSERT INTO platform_ledger_balances VALUES ('org/other/unbilled', 'USD', 1, 0, 1, 0, 0)", "org/other/unbilled"),
        of_entry("a missing asset", "ledger", "DELETE FROM platform_ledger_assets WHERE asset = 'USD'", "USD"),
        of_entry("a missing period", "ledger", "DELETE FROM platform_ledger_periods WHERE period = (SELECT accounting_period FROM platform_ledger_postings WHERE seq = 2)", "posting 2"),
        of_entry("the cursor", "cursor", "UPDATE shared_db_cursors SET batch_no = batch_no - 1", "ledger"),
        of_entry("a cursor beyond the log", "cursor", "UPDATE shared_db_cursors SET batch_no = 1000000", "ledger"),
        of_entry("a missing cut", "cursor", "DELETE FROM shared_db_cuts WHERE cut_no = 1", "ledger"),
    ]);
}

#[test]
fn a_damaged_close_is_named() {
    let template = Template::new();
    template.tally.done(&["close", "2026-10"]);
    let copy = template.copy();
    let invoice = copy.ask("books", "SELECT min(invoice_id) FROM platform_billing_invoices");
    let owner = copy.ask("books", "SELECT organization FROM platform_billing_invoices ORDER BY invoice_id");
    let of = |name, check, sql: &str, named: &str| {
        let (sql, named) = (sql.to_owned(), named.to_owned());
        case(name, check, move |home| {
            home.sql("books", &sql);
            named.clone()
        })
    };
    let one = format!("WHERE invoice_id = '{invoice}'");
    let total = format!("WHERE organization = '{owner}' AND accounting_period = 202610 AND sku = 'input'");
    template.check(&[
        of("an amount of a total", "billing-total", &format!("UPDATE platform_billing_totals SET amount = amount + 1 {total}"), &owner),
        of("a missing total", "billing-total", &format!("DELETE FROM platform_billing_totals {total}"), &owner),
        of("an added total", "billing-total", &format!("INSERT INTO platform_billing_totals SELECT 'other', contract, contract_line, sku, service_period, currency, accounting_period, quantity, amount, readings, total, prices, log_sizes FROM platform_billing_totals {total}"), "other"),
        of("the period of a total", "billing-total", &format!("UPDATE platform_billing_totals SET accounting_period = 202612 {total}"), "202612"),
        of("the T of a total", "billing", &format!("UPDATE platform_billing_totals SET total = total + 1 {total}"), "books"),
        of("the quantity of a total", "invoice", &format!("UPDATE platform_billing_totals SET quantity = '1' {total}"), &owner),
        of("the readings of a total", "invoice", &format!("UPDATE platform_billing_totals SET readings = readings + 1 {total}"), &owner),
        of("the prices of a total", "invoice", &format!("UPDATE platform_billing_totals SET prices = '[]' {total}"), &owner),
        of("the log sizes of a total", "invoice", &format!("UPDATE platform_billing_totals SET log_sizes = '{{\"202610\":\"1000\"}}' {total}"), &owner),
        of("the content of an invoice", "billing", &format!("UPDATE platform_billing_invoices SET content = replace(content, '\"v\":\"1\"', '\"v\":\"2\"') {one}"), "books"),
        of("the total of an invoice", "billing", &format!("UPDATE platform_billing_invoices SET total = total + 1 {one}"), "books"),
        of("the digest of an invoice", "billing", &format!("UPDATE platform_billing_invoices SET digest = randomblob(32) {one}"), "books"),
        of("a missing invoice", "invoice", &format!("DELETE FROM platform_billing_invoices {one}"), &owner),
        of("the amount of a line", "invoice-lines", &format!("UPDATE platform_billing_lines SET amount = amount + 1 {one} AND number = 1"), &invoice),
        of("a missing line", "invoice-lines", &format!("DELETE FROM platform_billing_lines {one} AND number = 1"), &invoice),
        of("the count of drafts", "invoice", "UPDATE platform_billing_drafts SET invoices = invoices + 1", "2026-10"),
        of("a number", "invoice-number", "UPDATE platform_billing_issues SET number = 99 WHERE number = 2", "TALLY 2"),
        of("a missing issue", "invoice-number", "DELETE FROM platform_billing_issues WHERE number = 1", "TALLY 1"),
        of("the last issue", "unbilled", "DELETE FROM platform_billing_issues WHERE number = (SELECT max(number) FROM platform_billing_issues)", "unbilled"),
        of("the entry of an issue", "invoice-entry", &format!("UPDATE platform_billing_issues SET entry_no = 99 {one}"), &invoice),
        of("the registry version of a close", "billing", "UPDATE platform_billing_closes SET registry_version = randomblob(32)", "2026-10"),
        of("the subject of a command", "ledger", "UPDATE platform_ledger_commands SET subject = 'x' WHERE entry_no = (SELECT max(entry_no) FROM platform_ledger_commands)", "is unreadable"),
        of("a missing command", "ledger", "DELETE FROM platform_ledger_commands WHERE entry_no = (SELECT max(entry_no) FROM platform_ledger_commands)", "is missing"),
    ]);
}

#[test]
fn a_book_that_was_rewritten_in_itself_is_named_by_the_signed_checkpoint() {
    let template = Template::new();
    let liar = Template::with(&[101, 200, 300]).copy();
    template.check(&[case("the book of another home", "evidence", |home| {
        for ending in ["", "-wal"] {
            fs::copy(liar.database("books") + ending, home.database("books") + ending).unwrap();
        }
        "ledger".to_owned()
    })]);
}

#[test]
fn a_damaged_registry_is_named() {
    let template = Template::new();
    let address = template.copy().ask("books", "SELECT lower(hex(address)) FROM platform_registry_versions");
    let of = |name, check, sql: &'static str, named| row(name, check, "books", sql, named);
    template.check(&[
        of(
            "a price",
            "registry",
            "UPDATE platform_registry_documents SET content = replace(content, '0.0001', '0.0002') WHERE kind = 'price_book'",
            &address,
        ),
        of(
            "a document that is none",
            "registry",
            "UPDATE platform_registry_documents SET content = '{}' WHERE kind = 'price_book'",
            &address,
        ),
        of("a missing document", "registry", "DELETE FROM platform_registry_documents WHERE kind = 'price_book'", &address),
        of(
            "the digest of a document",
            "registry",
            "UPDATE platform_registry_documents SET digest = randomblob(32) WHERE kind = 'price_book'",
            &address,
        ),
        of(
            "the documents of a version",
            "registry",
            "UPDATE platform_registry_versions SET documents = json_remove(documents, '$[0]')",
            &address,
        ),
        of("a missing version", "registry", "DELETE FROM platform_registry_versions", &address),
        of(
            "the payload of a control record",
            "registry-controls",
            "UPDATE platform_registry_controls SET payload = replace(payload, '1', '2')",
            "control record 1",
        ),
        of(
            "the payload of a control record that is none",
            "registry-controls",
            "UPDATE platform_registry_controls SET payload = ''",
            "control record 1",
        ),
        of(
            "the digest of a control record",
            "registry-controls",
            "UPDATE platform_registry_controls SET digest = randomblob(32)",
            "control record 1",
        ),
        of(
            "the version of a control record",
            "registry-controls",
            "UPDATE platform_registry_controls SET version = randomblob(32)",
            "control record 1",
        ),
        of(
            "the number of a control record",
            "registry-controls",
            "UPDATE platform_registry_controls SET control_no = 2",
            "control record 2",
        ),
        of("a missing control record", "registry-controls", "DELETE FROM platform_registry_controls", "control record 1"),
    ]);
}

#[test]
fn a_damaged_draft_is_named() {
    let template = Template::new();
    let folder = template.tally.scratch().join("draft");
    fs::create_dir(&folder).unwrap();
    let text = fs::read_to_string(root().join("tests/registry/books.toml")).unwrap();
    fs::write(folder.join("books.toml"), text.replacen("[[price_book]]", "[[unit]]\nid = \"other\"\n\n[[price_book]]", 1)).unwrap();
    template.tally.done(&["registry", "propose", folder.to_str().unwrap()]);
    template.tally.done(&["registry", "review", "draft-1", "--approve", "--reason", "as agreed"]);
    template.tally.done(&["registry", "publish", "draft-1"]);
    let of = |name, sql: &'static str| row(name, "registry-drafts", "books", sql, "draft-1");
    template.check(&[
        of("the documents of a draft", "UPDATE platform_registry_drafts SET documents = json_remove(documents, '$[0]')"),
        of("the version of a draft", "UPDATE platform_registry_drafts SET version = randomblob(32)"),
        of("a document of a draft alone", "DELETE FROM platform_registry_documents WHERE kind = 'unit' AND id = 'other'"),
        of("the control record of a publication", "UPDATE platform_registry_publications SET control_no = 1"),
    ]);
}

#[test]
fn damaged_usage_that_was_rated_again_is_named() {
    // Three homes with the same keys, and the same usage at another price each.
    let (twenty, thirty) = (rerate::home("20"), Tally::empty());
    assert!(Command::new("cp").arg("-a").arg(twenty.home()).arg(thirty.home()).status().unwrap().success());
    thirty.done(&["registry", "publish", rerate::book(&thirty, "thirty", "30").to_str().unwrap()]);
    for tally in [&twenty, &thirty] {
        let server = tally.serve();
        rerate::send(&server, &[request("a", "acme", "2026-09-12T10:00:00Z", 1_000_000, 10)]);
        server.stop();
        tally.done(&["rerate", "--book", rerate::book(tally, "mended", "3").to_str().unwrap()]);
    }
    let (template, other) = (Template { tally: thirty }, Damaged { tally: twenty });
    // Shards of which nothing was rated again have a batch of their own, before it or behind.
    let batch = |home: &Damaged| home.ask("books", "SELECT max(batch_no) FROM platform_billing_reratings").parse::<u64>().unwrap();
    let (last, theirs) = (batch(&template.copy()), batch(&other));
    let amount = |name, sql: &'static str| row(name, "billing-rerating", "books", sql, "acme");
    template.check(&[
        case("rows that take back what never stood", "rated-again", |home| {
            fs::copy(other.file(&other.path("charges", theirs)), home.file(&home.path("charges", last))).unwrap();
            "takes back another quantity or amount than stands".to_owned()
        }),
        amount("the amount of a re-rating", "UPDATE platform_billing_reratings SET amount = amount + 1"),
        amount("the batch of a re-rating", "UPDATE platform_billing_reratings SET batch_no = batch_no - 1"),
        amount("a missing re-rating", "DELETE FROM platform_billing_reratings"),
    ]);
}

#[test]
fn damaged_usage_that_left_quarantine_or_was_read_anew_is_named() {
    // Homes with the same keys: usage that waited for a price, other usage that did, and usage that a new meter reads.
    let waits = reread::home("2026-09-20T00:00:00Z");
    let [more, read] = [(), ()].map(|()| {
        let tally = Tally::empty();
        assert!(Command::new("cp").arg("-a").arg(waits.home()).arg(tally.home()).status().unwrap().success());
        tally
    });
    let rated = |tally: &Tally, input: u64, book: PathBuf| {
        let server = tally.serve();
        rerate::send(&server, &[request("a", "acme", "2026-09-12T10:00:00Z", input, 10)]);
        server.stop();
        tally.done(&["rerate", "--book", book.to_str().unwrap()]);
    };
    rated(&waits, 1_000_000, reread::priced_from(&waits, "stated", reread::ALWAYS));
    rated(&more, 2_000_000, reread::priced_from(&more, "stated", reread::ALWAYS));
    rated(&read, 1_000_000, reread::metered(&read, "read", true, &[]));
    let [more, read] = [more, read].map(|tally| Damaged { tally });
    let template = Template { tally: waits };
    // Shards of which nothing was rated again have a batch of their own, before it or behind.
    let batch = |home: &Damaged| home.ask("books", "SELECT max(batch_no) FROM platform_billing_reratings").parse::<u64>().unwrap();
    let last = batch(&template.copy());
    let from = |name, other: &'static str, named: &'static str| {
        let (more, read) = (&more, &read);
        case(name, "rated-again", move |home| {
            let other = if other == "more" { more } else { read };
            fs::copy(other.file(&other.path("charges", batch(other))), home.file(&home.path("charges", last))).unwrap();
            named.to_owned()
        })
    };
    template.check(&[
        from("a row for more than was in quarantine", "more", "stands for another quantity than was taken back, or is in quarantine"),
        from("a row for a reading that no version reads", "read", "supersedes a reading that does not stand"),
    ]);
}

#[test]
fn a_recurring_fee_that_was_called_due_and_not_counted_is_named() {
    let tally = Tally::empty();
    tally.done(&["init"]);
    assert!(recurring::publish(&tally, &recurring::registry("2", "")).status.success());
    tally.done(&["drain"]);
    // A tick that says to have come further than any fee was counted: its row, text and digest fit each other.
    let later = "'{\"at\":\"2096' || substr(payload, 12)";
    let sql = format!(
        "UPDATE platform_registry_controls SET payload = {later}, digest = digest({later}) \
         WHERE control_no = (SELECT max(control_no) FROM platform_registry_controls WHERE kind = 'tick')"
    );
    Template { tally }.check(&[case("a tick", "recurring-fees", |home| {
        home.sql("books", &sql);
        "acme".to_owned()
    })]);
}
