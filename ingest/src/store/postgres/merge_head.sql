SELECT merge_no, digest FROM platform_ingest_merges ORDER BY merge_no DESC LIMIT 1
