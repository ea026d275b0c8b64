SELECT count(*) FROM sqlite_schema WHERE name = ''
