"""The rating jobs in DuckDB. Decimals are widened first, so that products fit; its round_even is exact on decimals."""

import measure

import duckdb

job, source, output, threads = measure.arguments()
db = duckdb.connect(config={"threads": threads, "temp_directory": str(output / "temporary"), "preserve_insertion_order": False})
db.execute("SET TimeZone = 'UTC'")
EVENTS = f"'{source}/events/*.parquet'"
USAGE = f"""WITH repeated AS MATERIALIZED (
    SELECT identity, min(accepted_at) AS first FROM {EVENTS} GROUP BY identity HAVING count(*) > 1
  ), usage AS (
    SELECT event.* FROM {EVENTS} event LEFT JOIN repeated USING (identity) WHERE first IS NULL OR event.accepted_at = first
  )"""


def write(query, name):
    db.execute(f"COPY ({query}) TO '{output}/{name}' (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1, ROW_GROUP_SIZE 1000000)")


def rate():
    write(
        f"""{USAGE}
        SELECT identity, usage.account_id, project_id, meter_id, usage.sku_id, event_at, quantity,
          coalesce(own.unit_price, list.unit_price) AS unit_price, coalesce(own.price_id, list.price_id) AS price_id,
          CAST(round_even(quantity::DECIMAL(19,6) * coalesce(own.unit_price, list.unit_price)::DECIMAL(19,10), 12) AS DECIMAL(38,12)) AS amount
        FROM usage
        JOIN '{source}/prices.parquet' list
          ON list.sku_id = usage.sku_id AND event_at >= list.from_at AND event_at < list.until_at
        LEFT JOIN '{source}/own_prices.parquet' own
          ON own.account_id = usage.account_id AND own.sku_id = usage.sku_id AND event_at >= own.from_at AND event_at < own.until_at""",
        "rated",
    )


def tiers():
    write(
        f"""{USAGE}, running AS (
          SELECT account_id, meter_id, (year(event_at) * 100 + month(event_at))::INTEGER AS month, quantity,
            (sum(quantity) OVER (PARTITION BY account_id, meter_id, year(event_at) * 100 + month(event_at)
              ORDER BY event_at, identity ROWS UNBOUNDED PRECEDING))::DECIMAL(18,6) AS after
          FROM usage
        )
        SELECT account_id, meter_id, month, CAST(round_even(sum(
          (least(after, up_to) - greatest(after - quantity, above))::DECIMAL(19,6) * unit_price::DECIMAL(19,10)
        )::DECIMAL(38,16), 12) AS DECIMAL(38,12)) AS amount
        FROM running JOIN '{source}/tiers.parquet' USING (meter_id)
        WHERE after > above AND after - quantity < up_to
        GROUP BY account_id, meter_id, month""",
        "tiers.parquet",
    )


def totals():
    db.execute(
        f"""CREATE TEMP TABLE totals AS
        SELECT account_id, meter_id, count(*) AS rows, sum(quantity) AS quantity, sum(amount) AS amount FROM read_parquet('{output}/rated') GROUP BY ALL"""
    )
    db.execute(
        "CREATE TEMP TABLE invoices AS SELECT account_id, CAST(round_even(sum(amount), 2) AS DECIMAL(38,2)) AS total FROM totals GROUP BY ALL"
    )

    def later():
        write("FROM totals", "totals.parquet")
        write("FROM invoices", "invoices.parquet")

    return later


measure.run({"rate": rate, "tiers": tiers, "totals": totals}[job])
