SELECT count(*) FROM ducklake_inlined_data_tables WHERE table_id = $1
