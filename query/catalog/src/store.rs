//! Statements over the hour buckets.

use shared_db::{Statement, statement};

pub(crate) const HOURS_FIND: Statement = statement!("hours_find");
pub(crate) const HOURS_PUT: Statement = statement!("hours_put");
pub(crate) const HOURS_ALL: Statement = statement!("hours_all");
pub(crate) const HOURS_BETWEEN: Statement = statement!("hours_between");
pub(crate) const HOURS_OF_ORGANIZATION: Statement = statement!("hours_of_organization");

/// Every statement of this store: prepared against both engines by a test.
#[cfg(test)]
pub(crate) const ALL: [Statement; 5] = [HOURS_FIND, HOURS_PUT, HOURS_ALL, HOURS_BETWEEN, HOURS_OF_ORGANIZATION];
