//! Cursors of folds: how far each consumer of the batch log has come, and the ranges it took at once.
//! It does not know what a fold writes; a fold calls [`advance`] in the transaction of its effects.

use shared_types::BatchNo;

use crate::store::{CURSOR, CURSOR_RAISE, CURSOR_START, CUT_INSERT, CUTS};
use crate::{DbError, Transaction, Value};

/// One recorded cut: the batches that one transaction of a fold took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// Dense number in its fold, from 1.
    pub number: u64,
    /// First batch taken.
    pub first: BatchNo,
    /// Last batch taken.
    pub last: BatchNo,
}

/// The last batch that the fold has taken; 0 before the first.
pub async fn cursor(tx: &mut Transaction, fold: &str) -> Result<BatchNo, DbError> {
    match tx.query_optional(&CURSOR, &[fold.into()]).await? {
        Some(row) => row.batch_no(0),
        None => Ok(BatchNo(0)),
    }
}

/// Moves the fold's cursor from `from` (where it must stand) to `to` (> `from`) and records the cut `from + 1 ..= to`.
///
/// - Errors: [`DbError::CursorMoved`] when the cursor stands elsewhere: the range was folded before, or by someone else.
pub async fn advance(tx: &mut Transaction, fold: &str, from: BatchNo, to: BatchNo) -> Result<(), DbError> {
    let (from_value, to_value) = (Value::try_from(from)?, Value::try_from(to)?);
    let moved = if from == BatchNo(0) {
        tx.execute(&CURSOR_START, &[fold.into(), to_value.clone()]).await?
    } else {
        tx.execute(&CURSOR_RAISE, &[fold.into(), from_value.clone(), to_value.clone()]).await?
    };
    if moved != 1 {
        let found = cursor(tx, fold).await?;
        tx.fail();
        return Err(DbError::CursorMoved { fold: fold.to_owned(), expected: from, found });
    }
    tx.execute(&CUT_INSERT, &[fold.into(), from_value, to_value]).await?;
    Ok(())
}

/// All cuts of a fold in order.
pub async fn cuts(tx: &mut Transaction, fold: &str) -> Result<Vec<Cut>, DbError> {
    let rows = tx.query(&CUTS, &[fold.into()]).await?;
    rows.iter().map(|row| Ok(Cut { number: row.unsigned(0)?, first: row.batch_no(1)?, last: row.batch_no(2)? })).collect()
}
