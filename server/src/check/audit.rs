//! The audit is what was written, and who may do what is what the audit says was decided.

use shared_db::Transaction;

use super::Report;

/// Chains, texts and ends of the audit; then each row of `platform-iam` against the record of its making.
pub async fn rules(books: &mut Transaction, report: &mut Report) {
    let held = chains(books, report).await;
    report.unless("audit", "books", held);
    let held = decisions(books, report).await;
    report.unless("iam", "books", held);
}

async fn chains(books: &mut Transaction, report: &mut Report) -> anyhow::Result<()> {
    for flaw in platform_audit::verify(books).await? {
        report.add("audit", flaw.subject, flaw.detail);
    }
    Ok(())
}

async fn decisions(books: &mut Transaction, report: &mut Report) -> anyhow::Result<()> {
    for flaw in platform_iam::verify(books).await? {
        report.add("iam", flaw.subject, flaw.detail);
    }
    Ok(())
}
