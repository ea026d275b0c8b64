-- A DuckLake 1.0 catalog: the tables, columns and column order that DuckDB 1.5.5's extension creates and expects. Owner: shared-lake.
-- DuckDB reads instants and uuids as text and truth values as 0 and 1 here. No trigger guards these tables: compaction ends rows.

CREATE TABLE ducklake_metadata (
    "key" TEXT NOT NULL,
    "value" TEXT NOT NULL,
    "scope" TEXT,
    scope_id INTEGER
) STRICT;

CREATE TABLE ducklake_snapshot (
    snapshot_id INTEGER PRIMARY KEY,
    snapshot_time TEXT,
    schema_version INTEGER,
    next_catalog_id INTEGER,
    next_file_id INTEGER
) STRICT;

CREATE TABLE ducklake_snapshot_changes (
    snapshot_id INTEGER PRIMARY KEY,
    changes_made TEXT,
    author TEXT,
    commit_message TEXT,
    commit_extra_info TEXT
) STRICT;

CREATE TABLE ducklake_schema (
    schema_id INTEGER PRIMARY KEY,
    schema_uuid TEXT,
    begin_snapshot INTEGER,
    end_snapshot INTEGER,
    schema_name TEXT,
    path TEXT,
    path_is_relative INTEGER
) STRICT;

CREATE TABLE ducklake_table (
    table_id INTEGER,
    table_uuid TEXT,
    begin_snapshot INTEGER,
    end_snapshot INTEGER,
    schema_id INTEGER,
    table_name TEXT,
    path TEXT,
    path_is_relative INTEGER
) STRICT;

CREATE TABLE ducklake_view (
    view_id INTEGER,
    view_uuid TEXT,
    begin_snapshot INTEGER,
    end_snapshot INTEGER,
    schema_id INTEGER,
    view_name TEXT,
    dialect TEXT,
    "sql" TEXT,
    column_aliases TEXT
) STRICT;

CREATE TABLE ducklake_tag (
    object_id INTEGER,
    begin_snapshot INTEGER,
    end_snapshot INTEGER,
    "key" TEXT,
    "value" TEXT
) STRICT;

CREATE TABLE ducklake_column_tag (
    table_id INTEGER,
    column_id INTEGER,
    begin_snapshot INTEGER,
    end_snapshot INTEGER,
    "key" TEXT,
    "value" TEXT
) STRICT;

CREATE TABLE ducklake_data_file (
    data_file_id INTEGER PRIMARY KEY,
    table_id INTEGER,
    begin_snapshot INTEGER,
    end_snapshot INTEGER,
    file_order INTEGER,
    path TEXT,
    path_is_relative INTEGER,
    file_format TEXT,
    record_count INTEGER,
    file_size_bytes INTEGER,
    footer_size INTEGER,
    row_id_start INTEGER,
    partition_id INTEGER,
    encryption_key TEXT,
    mapping_id INTEGER,
    partial_max INTEGER
) STRICT;

CREATE TABLE ducklake_file_column_stats (
    data_file_id INTEGER,
    table_id INTEGER,
    column_id INTEGER,
    column_size_bytes INTEGER,
    value_count INTEGER,
    null_count INTEGER,
    min_value TEXT,
    max_value TEXT,
    contains_nan INTEGER,
    extra_stats TEXT
) STRICT;

CREATE TABLE ducklake_file_variant_stats (
    data_file_id INTEGER,
    table_id INTEGER,
    column_id INTEGER,
    variant_path TEXT,
    shredded_type TEXT,
    column_size_bytes INTEGER,
    value_count INTEGER,
    null_count INTEGER,
    min_value TEXT,
    max_value TEXT,
    contains_nan INTEGER,
    extra_stats TEXT
) STRICT;

CREATE TABLE ducklake_delete_file (
    delete_file_id INTEGER PRIMARY KEY,
    table_id INTEGER,
    begin_snapshot INTEGER,
    end_snapshot INTEGER,
    data_file_id INTEGER,
    path TEXT,
    path_is_relative INTEGER,
    format TEXT,
    delete_count INTEGER,
    file_size_bytes INTEGER,
    footer_size INTEGER,
    encryption_key TEXT,
    partial_max INTEGER
) STRICT;

CREATE TABLE ducklake_column (
    column_id INTEGER,
    begin_snapshot INTEGER,
    end_snapshot INTEGER,
    table_id INTEGER,
    column_order INTEGER,
    column_name TEXT,
    column_type TEXT,
    initial_default TEXT,
    default_value TEXT,
    nulls_allowed INTEGER,
    parent_column INTEGER,
    default_value_type TEXT,
    default_value_dialect TEXT
) STRICT;

CREATE TABLE ducklake_table_stats (
    table_id INTEGER,
    record_count INTEGER,
    next_row_id INTEGER,
    file_size_bytes INTEGER
) STRICT;

CREATE TABLE ducklake_table_column_stats (
    table_id INTEGER,
    column_id INTEGER,
    contains_null INTEGER,
    contains_nan INTEGER,
    min_value TEXT,
    max_value TEXT,
    extra_stats TEXT
) STRICT;

CREATE TABLE ducklake_partition_info (
    partition_id INTEGER,
    table_id INTEGER,
    begin_snapshot INTEGER,
    end_snapshot INTEGER
) STRICT;

CREATE TABLE ducklake_partition_column (
    partition_id INTEGER,
    table_id INTEGER,
    partition_key_index INTEGER,
    column_id INTEGER,
    "transform" TEXT
) STRICT;

CREATE TABLE ducklake_file_partition_value (
    data_file_id INTEGER,
    table_id INTEGER,
    partition_key_index INTEGER,
    partition_value TEXT
) STRICT;

CREATE TABLE ducklake_files_scheduled_for_deletion (
    data_file_id INTEGER,
    path TEXT,
    path_is_relative INTEGER,
    schedule_start TEXT
) STRICT;

CREATE TABLE ducklake_inlined_data_tables (
    table_id INTEGER,
    table_name TEXT,
    schema_version INTEGER
) STRICT;

CREATE TABLE ducklake_column_mapping (
    mapping_id INTEGER,
    table_id INTEGER,
    "type" TEXT
) STRICT;

CREATE TABLE ducklake_name_mapping (
    mapping_id INTEGER,
    column_id INTEGER,
    source_name TEXT,
    target_field_id INTEGER,
    parent_column INTEGER,
    is_partition INTEGER
) STRICT;

CREATE TABLE ducklake_schema_versions (
    begin_snapshot INTEGER,
    schema_version INTEGER,
    table_id INTEGER
) STRICT;

CREATE TABLE ducklake_macro (
    schema_id INTEGER,
    macro_id INTEGER,
    macro_name TEXT,
    begin_snapshot INTEGER,
    end_snapshot INTEGER
) STRICT;

CREATE TABLE ducklake_macro_impl (
    macro_id INTEGER,
    impl_id INTEGER,
    dialect TEXT,
    "sql" TEXT,
    "type" TEXT
) STRICT;

CREATE TABLE ducklake_macro_parameters (
    macro_id INTEGER,
    impl_id INTEGER,
    column_id INTEGER,
    parameter_name TEXT,
    parameter_type TEXT,
    default_value TEXT,
    default_value_type TEXT
) STRICT;

CREATE TABLE ducklake_sort_info (
    sort_id INTEGER,
    table_id INTEGER,
    begin_snapshot INTEGER,
    end_snapshot INTEGER
) STRICT;

CREATE TABLE ducklake_sort_expression (
    sort_id INTEGER,
    table_id INTEGER,
    sort_key_index INTEGER,
    expression TEXT,
    dialect TEXT,
    sort_direction TEXT,
    null_order TEXT
) STRICT;

-- Ours, on top of the specification: a file is in the catalog once, a table has one row of totals, and the look-ups of a commit stay constant.
CREATE UNIQUE INDEX shared_lake_data_file_once ON ducklake_data_file (table_id, path);
CREATE UNIQUE INDEX shared_lake_table_stats_once ON ducklake_table_stats (table_id);
CREATE INDEX shared_lake_file_column_stats_of_file ON ducklake_file_column_stats (data_file_id);
