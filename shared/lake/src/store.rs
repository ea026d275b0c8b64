//! The statements of the catalog.

use shared_db::{Statement, statement};

pub(crate) const LOCK: Statement = statement!("lock");
pub(crate) const HEAD: Statement = statement!("head");
pub(crate) const SNAPSHOT_INSERT: Statement = statement!("snapshot_insert");
pub(crate) const CHANGES_INSERT: Statement = statement!("changes_insert");
pub(crate) const METADATA_DELETE: Statement = statement!("metadata_delete");
pub(crate) const METADATA_INSERT: Statement = statement!("metadata_insert");
pub(crate) const SCHEMA_INSERT: Statement = statement!("schema_insert");
pub(crate) const SCHEMA_VERSION_INSERT: Statement = statement!("schema_version_insert");
pub(crate) const TABLE_INSERT: Statement = statement!("table_insert");
pub(crate) const TABLES: Statement = statement!("tables");
pub(crate) const COLUMNS: Statement = statement!("columns");
pub(crate) const COLUMNS_INSERT: Statement = statement!("columns_insert");
pub(crate) const FILES_INSERT: Statement = statement!("files_insert");
pub(crate) const STATISTICS_INSERT: Statement = statement!("statistics_insert");
pub(crate) const TOTALS_RAISE: Statement = statement!("totals_raise");
pub(crate) const FILES: Statement = statement!("files");
pub(crate) const DELETES: Statement = statement!("deletes");
pub(crate) const INLINED: Statement = statement!("inlined");
pub(crate) const SNAPSHOTS: Statement = statement!("snapshots");
