INSERT INTO ducklake_table (table_id, table_uuid, begin_snapshot, schema_id, table_name, path, path_is_relative)
VALUES ($1, $2::text::uuid, $3, 0, $4, $5, true)
