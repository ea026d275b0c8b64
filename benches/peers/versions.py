"""Prints the versions of the engines."""

import json
from importlib.metadata import version

print(json.dumps({name: version(name) for name in ("datafusion", "duckdb", "polars")}))
