"""The rating job in PostgreSQL: PROGRAMS INPUT OUTPUT THREADS. A server of its own is started on a socket in a folder of its own, usage is loaded
(not measured), rated into a table (measured, with the CPU time of every process of the server), and read out as Parquet. Tables are unlogged, a
query may use as many processes as there are threads; the server refuses root, so it runs as `nobody` then. It ends with the script."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psycopg
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet

programs, source, output = map(Path, sys.argv[1:4])
threads = int(sys.argv[4])
COLUMNS = {
    "identity": "uuid", "account_id": "integer", "project_id": "integer", "meter_id": "integer", "sku_id": "integer", "quantity": "numeric(18,6)",
    "event_at": "timestamptz", "accepted_at": "timestamptz", "price_id": "integer", "from_at": "timestamptz", "until_at": "timestamptz",
    "unit_price": "numeric(18,10)",
}
HALF_EVEN = """CREATE FUNCTION half_even(exact numeric, digits integer) RETURNS numeric IMMUTABLE PARALLEL SAFE LANGUAGE sql AS $$
  SELECT CASE WHEN round(exact, digits) - exact = 5 * power(10::numeric, -digits - 1) AND mod(round(exact, digits) * power(10::numeric, digits), 2) = 1
    THEN round(exact, digits) - power(10::numeric, -digits) ELSE round(exact, digits) END
$$"""
RATE = """CREATE UNLOGGED TABLE rated AS
  WITH repeated AS MATERIALIZED (SELECT identity, min(accepted_at) AS first FROM events GROUP BY identity HAVING count(*) > 1),
  usage AS (SELECT events.* FROM events LEFT JOIN repeated USING (identity) WHERE first IS NULL OR accepted_at = first)
  SELECT identity, usage.account_id, project_id, meter_id, usage.sku_id, event_at, quantity,
    coalesce(own.unit_price, prices.unit_price) AS unit_price, coalesce(own.price_id, prices.price_id) AS price_id,
    half_even(quantity * coalesce(own.unit_price, prices.unit_price), 12)::numeric(38,12) AS amount
  FROM usage
  JOIN prices ON prices.sku_id = usage.sku_id AND event_at >= prices.from_at AND event_at < prices.until_at
  LEFT JOIN own_prices own ON own.account_id = usage.account_id AND own.sku_id = usage.sku_id AND event_at >= own.from_at AND event_at < own.until_at"""


def load(db, table, path):
    rows = pa.dataset.dataset(path, format="parquet").to_table()
    db.execute(f"CREATE UNLOGGED TABLE {table} ({', '.join(f'{name} {COLUMNS[name]}' for name in rows.column_names)})")
    with db.cursor().copy(f"COPY {table} FROM STDIN") as copy:
        for batch in rows.to_batches(max_chunksize=65536):
            columns = [batch.column(name) for name in batch.schema.names]
            texts = [[value.hex() for value in column.to_pylist()] if pa.types.is_fixed_size_binary(column.type) else column.cast(pa.string()).to_pylist() for column in columns]
            copy.write("".join("\t".join(row) + "\n" for row in zip(*texts)))


def stat(process):
    return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()


def processor_seconds(server):
    """Of the server, of its processes, and of those that have ended."""
    processes = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
    ticks = sum(int(field) for field in stat(server)[11:15])
    for process in processes:
        try:
            fields = stat(process)
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[1]) == server:
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def peak_mb(process):
    line = next(line for line in Path(f"/proc/{process}/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 // 1_000_000


def write(db):
    schema = {
        "identity": pa.binary(16), "account_id": pa.int32(), "project_id": pa.int32(), "meter_id": pa.int32(), "sku_id": pa.int32(),
        "event_at": pa.timestamp("us", "UTC"), "quantity": pa.decimal128(18, 6), "unit_price": pa.decimal128(18, 10), "price_id": pa.int32(),
        "amount": pa.decimal128(38, 12),
    }
    schema = pa.schema(list(schema.items()))
    with db.transaction(), db.cursor(name="rated") as cursor, pa.parquet.ParquetWriter(output / "rated", schema) as writer:
        cursor.itersize = 50_000
        cursor.execute(f"SELECT {', '.join(schema.names)} FROM rated")
        while rows := cursor.fetchmany(50_000):
            columns = list(zip(*rows))
            columns[0] = [value.bytes for value in columns[0]]
            writer.write_table(pa.table([pa.array(column, field.type) for column, field in zip(columns, schema)], schema=schema))


home = Path(tempfile.mkdtemp(prefix="bench-postgres-"))
user = "nobody" if os.getuid() == 0 else None
if user:
    shutil.chown(home, user)
try:
    cluster = home / "cluster"
    subprocess.run([programs / "initdb", "-D", cluster, "-U", "bench", "-A", "trust"], user=user, cwd=home, stdout=subprocess.DEVNULL, check=True)
    options = ["-c", "listen_addresses=", "-c", f"unix_socket_directories={home}", "-c", "shared_buffers=1GB", "-c", "work_mem=512MB",
               "-c", f"max_parallel_workers_per_gather={threads - 1}", "-c", "timezone=UTC", "-c", "jit=off"]
    server = subprocess.Popen([programs / "postgres", "-D", cluster, *options], user=user, cwd=home, stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            if (home / ".s.PGSQL.5432").exists() and subprocess.run([programs / "pg_isready", "-h", home, "-q"]).returncode == 0:
                break
            time.sleep(0.1)
        with psycopg.connect(host=str(home), user="bench", dbname="postgres", autocommit=True) as db:
            db.execute(HALF_EVEN)
            for table, path in {"events": "events", "prices": "prices.parquet", "own_prices": "own_prices.parquet"}.items():
                load(db, table, source / path)
            db.execute("ANALYZE")
            backend = db.info.backend_pid
            wall, cpu = time.perf_counter(), processor_seconds(server.pid)
            db.execute(RATE)
            figures = {"wall_s": time.perf_counter() - wall, "cpu_s": processor_seconds(server.pid) - cpu, "peak_mb": peak_mb(backend)}
            write(db)
            print(json.dumps(figures))
    finally:
        server.terminate()
        server.wait()
finally:
    shutil.rmtree(home)
