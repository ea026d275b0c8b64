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
pub(crate) const FIRST: Statement = statement!("first");
pub(crate) const FILES_LISTED: Statement = statement!("files_listed");
pub(crate) const FILES_SHOWN: Statement = statement!("files_shown");
pub(crate) const FILES_END: Statement = statement!("files_end");
pub(crate) const TOTALS_CHANGE: Statement = statement!("totals_change");
pub(crate) const TOTALS_SEED: Statement = statement!("totals_seed");
pub(crate) const SNAPSHOTS_EXPIRE: Statement = statement!("snapshots_expire");
pub(crate) const CHANGES_EXPIRE: Statement = statement!("changes_expire");
pub(crate) const FILES_SCHEDULE: Statement = statement!("files_schedule");
pub(crate) const STATISTICS_FORGET: Statement = statement!("statistics_forget");
pub(crate) const FILES_FORGET: Statement = statement!("files_forget");
pub(crate) const SCHEDULED: Statement = statement!("scheduled");
pub(crate) const UNSCHEDULE: Statement = statement!("unschedule");
pub(crate) const PATHS: Statement = statement!("paths");
pub(crate) const WAITING: Statement = statement!("waiting");
