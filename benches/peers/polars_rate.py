"""The rating jobs in Polars: its streaming engine, decimals at scale 16 so that no digit of a product is lost."""

import os

import measure

job, source, output, threads = measure.arguments()
os.environ["POLARS_MAX_THREADS"] = str(threads)

import polars as pl  # noqa: E402  (it reads the number of threads when it is imported)

EVENTS = source / "events" / "*.parquet"
EXACT = pl.Decimal(38, 16)


def usage():
    """The rows that count: of each identity the one that arrived first. Repeats are few, so they are found apart and joined back."""
    arrivals = pl.scan_parquet(EVENTS).group_by("identity").agg(first=pl.col("accepted_at").min(), rows=pl.len())
    repeated = arrivals.filter(pl.col("rows") > 1).select("identity", "first")
    rows = pl.scan_parquet(EVENTS).join(repeated, on="identity", how="left")
    return rows.filter(pl.col("first").is_null() | (pl.col("accepted_at") == pl.col("first"))).drop("first")


def amount(quantity, unit_price):
    return (quantity.cast(EXACT) * unit_price.cast(EXACT)).round(12, mode="half_to_even").cast(pl.Decimal(38, 12))


def write(rows, name):
    rows.sink_parquet(output / name, compression="zstd", compression_level=1, row_group_size=1_000_000)


def rate():
    names = {"price_id": "list_id", "unit_price": "list_price", "from_at": "list_from", "until_at": "list_until"}
    prices = pl.scan_parquet(source / "prices.parquet").rename(names)
    own = pl.scan_parquet(source / "own_prices.parquet").rename({"price_id": "own_id", "unit_price": "own_price"})
    rows = usage().join(prices, on="sku_id")
    rows = rows.filter((pl.col("event_at") >= pl.col("list_from")) & (pl.col("event_at") < pl.col("list_until")))
    rows = rows.join(own, on=["account_id", "sku_id"], how="left")
    is_own = (pl.col("event_at") >= pl.col("from_at")) & (pl.col("event_at") < pl.col("until_at"))
    rows = rows.with_columns(
        unit_price=pl.when(is_own).then("own_price").otherwise("list_price"),
        price_id=pl.when(is_own).then("own_id").otherwise("list_id"),
    )
    columns = ["identity", "account_id", "project_id", "meter_id", "sku_id", "event_at", "quantity", "unit_price", "price_id"]
    write(rows.select(*columns, amount=amount(pl.col("quantity"), pl.col("unit_price"))), "rated")


def tiers():
    """Running totals are sums of whole numbers of the last digit; parts are priced exactly."""
    key = ["account_id", "meter_id", "month"]
    units = lambda name: (pl.col(name).cast(pl.Decimal(38, 6)) * 1_000_000).cast(pl.Int64)  # noqa: E731
    month = pl.col("event_at").dt.year() * 100 + pl.col("event_at").dt.month().cast(pl.Int32)
    rows = usage().with_columns(month=month).select(*key, "event_at", "identity", "quantity").sort("event_at", "identity")
    rows = rows.with_columns(units=units("quantity")).with_columns(after=pl.col("units").cum_sum().over(key))
    steps = pl.scan_parquet(source / "tiers.parquet").select("meter_id", "unit_price", above=units("above"), up_to=units("up_to"))
    rows = rows.select(*key, "units", "after").join(steps, on="meter_id")
    before = pl.col("after") - pl.col("units")
    rows = rows.filter((pl.col("after") > pl.col("above")) & (before < pl.col("up_to")))
    rows = rows.with_columns(part=pl.min_horizontal("after", "up_to") - pl.max_horizontal(before, pl.col("above")))
    parts = rows.group_by(*key, "unit_price").agg(part=pl.col("part").sum())
    quantity = pl.col("part").cast(EXACT) * pl.lit("0.000001").cast(EXACT)
    worth = parts.with_columns(worth=quantity * pl.col("unit_price").cast(EXACT)).group_by(*key).agg(worth=pl.col("worth").sum())
    write(worth.select(*key, amount=pl.col("worth").round(12, mode="half_to_even").cast(pl.Decimal(38, 12))), "tiers.parquet")


def totals():
    rows = pl.scan_parquet(output / "rated")
    sums = {"rows": pl.len(), "quantity": pl.col("quantity").sum(), "amount": pl.col("amount").sum()}
    totals = rows.group_by("account_id", "meter_id").agg(**sums).collect()
    total = pl.col("amount").sum().round(2, mode="half_to_even").cast(pl.Decimal(38, 2))
    invoices = totals.group_by("account_id").agg(total=total)

    def later():
        totals.write_parquet(output / "totals.parquet", compression="zstd")
        invoices.write_parquet(output / "invoices.parquet", compression="zstd")

    return later


measure.run({"rate": rate, "tiers": tiers, "totals": totals}[job])
