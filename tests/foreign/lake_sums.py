"""Counts and sums of the lake's charges by stock DuckDB, attached with the statements that `tally lake attach` printed."""

import os

import duckdb
from duckdb_extensions import import_extension

for extension in ("sqlite_scanner", "ducklake"):
    import_extension(extension)
connection = duckdb.connect()
connection.execute(os.environ["TALLY_ATTACH"])
count, quantity, amount = connection.execute(
    "SELECT count(*), sum(quantity), sum(amount) FROM tally.charges"
).fetchone()
print(count, quantity, amount)
