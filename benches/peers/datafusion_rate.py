"""The rating jobs in DataFusion, plain SQL. Its rounding is half away from zero: a half that went to an odd neighbour is taken back."""

import measure

import datafusion

job, source, output, threads = measure.arguments()
config = datafusion.SessionConfig().with_target_partitions(threads)
config = config.set("datafusion.execution.parquet.compression", "zstd(1)")
config = config.set("datafusion.execution.parquet.max_row_group_size", "1000000")
config = config.set("datafusion.sql_parser.parse_float_as_decimal", "true")
context = datafusion.SessionContext(config)
for table, place in {"events": "events/", "list": "prices.parquet", "own": "own_prices.parquet", "tier": "tiers.parquet"}.items():
    context.register_parquet(table, f"{source}/{place}")
USAGE = """WITH repeated AS (
    SELECT identity, min(accepted_at) AS first FROM events GROUP BY identity HAVING count(*) > 1
  ), usage AS (
    SELECT events.* FROM events LEFT JOIN repeated ON events.identity = repeated.identity WHERE first IS NULL OR accepted_at = first
  )"""


def half_even(exact, scale, digits):
    """`exact` of `scale` digits behind the point to `digits` of them."""
    unit, half = "0." + "0" * (digits - 1) + "1", "0." + "0" * digits + "5"
    two = "0." + "0" * (digits - 1) + "2"
    away = f"CAST(round({exact}, {digits}) AS DECIMAL(38,{digits}))"
    tie = f"CAST(round({exact}, {digits}) AS DECIMAL(38,{scale})) - {exact} = CAST('{half}' AS DECIMAL(38,{scale}))"
    odd = f"{away} % CAST('{two}' AS DECIMAL(38,{digits})) <> 0"
    return f"CASE WHEN {tie} AND {odd} THEN {away} - CAST('{unit}' AS DECIMAL(38,{digits})) ELSE {away} END"


def write(query, name):
    context.sql(f"COPY ({query}) TO '{output}/{name}' STORED AS PARQUET").collect()


def rate():
    # A name that ends in .parquet is one file; the comparison takes a folder too.
    write(
        f"""{USAGE}, rated AS (
          SELECT identity, usage.account_id, project_id, meter_id, usage.sku_id, event_at, quantity,
            coalesce(own.unit_price, list.unit_price) AS unit_price, coalesce(own.price_id, list.price_id) AS price_id,
            quantity * coalesce(own.unit_price, list.unit_price) AS exact
          FROM usage
          JOIN list ON list.sku_id = usage.sku_id AND event_at >= list.from_at AND event_at < list.until_at
          LEFT JOIN own ON own.account_id = usage.account_id AND own.sku_id = usage.sku_id AND event_at >= own.from_at AND event_at < own.until_at
        )
        SELECT identity, account_id, project_id, meter_id, sku_id, event_at, quantity, unit_price, price_id, {half_even("exact", 16, 12)} AS amount
        FROM rated""",
        "rated/all.parquet",
    )


def tiers():
    write(
        f"""{USAGE}, monthly AS (
          SELECT *, CAST(date_part('year', event_at) * 100 + date_part('month', event_at) AS INT) AS month FROM usage
        ), running AS (
          SELECT account_id, meter_id, month, quantity, CAST(sum(quantity) OVER (PARTITION BY account_id, meter_id, month
            ORDER BY event_at, identity ROWS UNBOUNDED PRECEDING) AS DECIMAL(18,6)) AS after
          FROM monthly
        ), worth AS (
          SELECT account_id, running.meter_id, month, CAST(sum(
            CAST(least(after, up_to) - greatest(CAST(after - quantity AS DECIMAL(18,6)), above) AS DECIMAL(18,6)) * unit_price
          ) AS DECIMAL(38,16)) AS exact
          FROM running JOIN tier ON running.meter_id = tier.meter_id
          WHERE after > above AND after - quantity < up_to
          GROUP BY account_id, running.meter_id, month
        )
        SELECT account_id, meter_id, month, {half_even("exact", 16, 12)} AS amount FROM worth""",
        "tiers.parquet",
    )


def totals():
    context.register_parquet("rated", f"{output}/rated/")
    sums = "count(*) AS rows, sum(quantity) AS quantity, CAST(sum(amount) AS DECIMAL(38,12)) AS amount"
    totals = context.sql(f"SELECT account_id, meter_id, {sums} FROM rated GROUP BY account_id, meter_id").collect()
    context.register_record_batches("totals", [totals])
    exact = "SELECT account_id, CAST(sum(amount) AS DECIMAL(38,12)) AS exact FROM totals GROUP BY account_id"
    invoices = context.sql(f"SELECT account_id, {half_even('exact', 12, 2)} AS total FROM ({exact})").collect()

    def later():
        context.register_record_batches("invoices", [invoices])
        write("SELECT * FROM totals", "totals.parquet")
        write("SELECT * FROM invoices", "invoices.parquet")

    return later


measure.run({"rate": rate, "tiers": tiers, "totals": totals}[job])
