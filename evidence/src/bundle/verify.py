"""What VERIFY.md says for a Python with DuckDB, run in a bundle's folder: says what differs, and exits with 1 where anything does."""

import sys

import duckdb

rows = duckdb.connect().execute(open('verify.sql', encoding='utf-8').read()).fetchall()
for row in rows[:3]:
    print("%s: %s: expected %s, found %s" % row)
print("%s differences" % (len(rows) or "no"))
sys.exit(bool(rows))
