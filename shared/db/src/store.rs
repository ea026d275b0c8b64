//! The statements of this crate.

use crate::{Statement, statement};

pub(crate) const CURSOR: Statement = statement!("cursor");
pub(crate) const CURSOR_START: Statement = statement!("cursor_start");
pub(crate) const CURSOR_RAISE: Statement = statement!("cursor_raise");
pub(crate) const CUT_INSERT: Statement = statement!("cut_insert");
pub(crate) const CUTS: Statement = statement!("cuts");
pub(crate) const OUTBOX_LOCK: Statement = statement!("outbox_lock");
pub(crate) const OUTBOX_INSERT: Statement = statement!("outbox_insert");
pub(crate) const OUTBOX_AFTER: Statement = statement!("outbox_after");
pub(crate) const MIGRATIONS_TABLE: Statement = statement!("migrations_table");
pub(crate) const MIGRATIONS_APPLIED: Statement = statement!("migrations_applied");
pub(crate) const MIGRATION_INSERT: Statement = statement!("migration_insert");
pub(crate) const SNAPSHOT_PIN: Statement = statement!("snapshot_pin");
