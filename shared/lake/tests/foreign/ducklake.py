#!/usr/bin/env python3
"""Stock DuckDB 1.5.5 reads a lake that we wrote. It knows our attach statements and the expected answers, nothing else.

usage: ducklake.py probe
       ducklake.py read ATTACH.sql EXPECTED.json
       ducklake.py follow ATTACH.sql STOP       reads over and over while someone writes, until the file STOP exists
       ducklake.py cleanup ATTACH.sql DUE.json      names the files that DuckDB would remove, removes none: attaches writable
       ducklake.py merge ATTACH.sql EXPECTED.json   attaches writable and compacts: for a copy only
"""
import json, os, re, sys, tempfile

import duckdb
from duckdb_extensions import import_extension


def attach(sql, writable=False):
    folder = tempfile.TemporaryDirectory()
    connection = duckdb.connect(config={"extension_directory": folder.name})
    for extension in ("sqlite_scanner", "postgres_scanner", "ducklake"):
        import_extension(extension, con=connection)
    connection.execute("SET TimeZone = 'UTC'")
    if writable:
        assert "READ_ONLY, " in sql
        sql = sql.replace("READ_ONLY, ", "")
    connection.execute(sql)
    return connection, folder


def equal(what, found, expected):
    if found != expected:
        sys.exit(f"{what}: found {found!r}, expected {expected!r}")
    print(f"{what}: {found!r}")


def one(connection, sql):
    return connection.execute(sql).fetchone()


SUMS = "SELECT count(*), sum(quantity)::VARCHAR, sum(amount)::VARCHAR FROM tally.readings"


def sums(connection, expected, at=""):
    equal(f"readings {at}", list(one(connection, f"{SUMS} {at}")), expected)


def files_read(connection, sql):
    plan = connection.execute(f"EXPLAIN ANALYZE {sql}").fetchall()[0][1]
    found = re.findall(r"Total Files Read:\s*(\d+)", plan)
    if not found:
        sys.exit(f"no file count in the plan:\n{plan}")
    return sum(int(count) for count in found)


def read(connection, expected):
    sums(connection, expected["readings"])
    equal("totals", list(one(connection, "SELECT sum(rows)::BIGINT, sum(quantity)::VARCHAR FROM tally.totals")), expected["totals"])
    for snapshot, then in expected["snapshots"].items():
        sums(connection, then["readings"], f"AT (VERSION => {snapshot})")
        sums(connection, then["readings"], f"AT (TIMESTAMP => TIMESTAMPTZ '{then['at']}')")
    types = [list(row[:2]) for row in connection.execute("DESCRIBE tally.readings").fetchall()]
    equal("types", types, expected["types"])
    first = "SELECT COLUMNS(*)::VARCHAR FROM tally.readings WHERE sequence = 0"
    equal("first row", list(one(connection, first)), expected["first_row"])
    nulls = "SELECT count(raw), count(late), min(organization), max(start_at)::VARCHAR FROM tally.readings"
    equal("nulls and bounds", list(one(connection, nulls)), expected["nulls_and_bounds"])
    log = connection.execute("SELECT author, commit_message, commit_extra_info FROM ducklake_snapshots('tally') ORDER BY snapshot_id DESC LIMIT 1")
    equal("snapshot", list(log.fetchone()), expected["last_commit"])
    listed = one(connection, "SELECT count(*) FROM ducklake_list_files('tally', 'readings')")[0]
    equal("files", listed, expected["files"])
    for where, (rows, count) in expected["pruned"].items():
        sql = f"SELECT count(*) FROM tally.readings WHERE {where}"
        equal(f"rows where {where}", one(connection, sql)[0], rows)
        # With a file count alone DuckDB answers from the catalog; a sum makes it open what is left.
        equal(f"files where {where}", files_read(connection, f"SELECT sum(quantity) FROM tally.readings WHERE {where}"), count)


def follow(connection, stop):
    last, reads, seen = 0, 0, set()
    print("following", flush=True)
    while True:
        stopping = os.path.exists(stop)
        connection.execute("BEGIN")
        rows, quantity, _ = one(connection, SUMS)
        total, total_quantity = one(connection, "SELECT coalesce(sum(rows), 0)::BIGINT, sum(quantity)::VARCHAR FROM tally.totals")
        connection.execute("COMMIT")
        if (rows, quantity) != (total, total_quantity) or rows < last:
            sys.exit(f"read {reads}: {rows} readings of {quantity}, totals say {total} of {total_quantity}, before {last}")
        last, reads = rows, reads + 1
        seen.add(rows)
        if stopping:
            break
    print(json.dumps({"reads": reads, "states": len(seen), "rows": last}))


def merge(connection, expected):
    sums(connection, expected["readings"])
    connection.execute("CALL ducklake_merge_adjacent_files('tally')")
    sums(connection, expected["readings"])
    listed = one(connection, "SELECT count(*) FROM ducklake_list_files('tally', 'readings')")[0]
    if listed >= expected["files"]:
        sys.exit(f"nothing was merged: {listed} files")
    print("files after the merge:", listed)
    for snapshot, then in expected["snapshots"].items():
        sums(connection, then["readings"], f"AT (VERSION => {snapshot})")


def cleanup(connection, due):
    rows = connection.execute("CALL ducklake_cleanup_old_files('tally', dry_run => true, cleanup_all => true)").fetchall()
    equal("files due for removal", len(rows), due["files"])
    missing = [path for (path,) in rows if not os.path.exists(path) or not path.startswith(due["folder"])]
    equal("of them elsewhere", missing, [])


def main():
    mode, arguments = sys.argv[1], sys.argv[2:]
    if mode == "probe":
        equal("DuckDB", duckdb.__version__, "1.5.5")
        return
    connection, _folder = attach(open(arguments[0]).read(), writable=mode in ("merge", "cleanup"))
    if mode == "follow":
        follow(connection, arguments[1])
    else:
        {"read": read, "merge": merge, "cleanup": cleanup}[mode](connection, json.load(open(arguments[1])))


main()
