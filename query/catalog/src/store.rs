//! Statements over the hour buckets.

use shared_db::{Statement, statement};

pub(crate) const HOURS_FIND: Statement = statement!("hours_find");
pub(crate) const HOURS_PUT: Statement = statement!("hours_put");
pub(crate) const HOURS_ALL: Statement = statement!("hours_all");

/// Every statement of this store: prepared against both engines by a test.
#[cfg(test)]
pub(crate) const ALL: [Statement; 3] = [HOURS_FIND, HOURS_PUT, HOURS_ALL];
