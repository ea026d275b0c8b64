"""The JSON Schemas of the registry, by two validators that are not ours (PyPI's jsonschema, npm's ajv): they accept every version that
the workspace has, as TOML and as canonical content, and refuse each planted mistake."""

import copy
import json
import os
import pathlib
import subprocess
import tempfile
import tomllib

from jsonschema import Draft202012Validator

ROOT = pathlib.Path(__file__).parents[2]
SCHEMAS = {name: json.loads((ROOT / f"contracts/registry/{name}.schema.json").read_text()) for name in ("folder", "version")}


def at(document, *path):
    for step in path:
        document = document[step]
    return document


def change(*path, to):
    """A mistake: the value at a path becomes another one; `...` removes it."""

    def mistake(document):
        if to is ...:
            del at(document, *path[:-1])[path[-1]]
        else:
            at(document, *path[:-1])[path[-1]] = to

    return mistake


PRICE = ("price_book", 0, "price", 0)
FOLDER = [
    change(*PRICE, "unit_price", to=0.18),
    change(*PRICE, "unit_price", to="-0.18"),
    change(*PRICE, "unit_price", to="0,18"),
    change(*PRICE, "unit_price", to="0.1234567890123456789"),
    change(*PRICE, "unit_price", to=...),
    change(*PRICE, "unit_prise", to="0.18"),
    change(*PRICE, "per", to="0.00"),
    change(*PRICE, "per", to=1000000),
    change(*PRICE, "effective_at", to="2026-13-01T00:00:00Z"),
    change(*PRICE, "effective_at", to="2026-01-01"),
    change(*PRICE, "effective_at", to="2026-01-01T00:00:00"),
    change(*PRICE, "model", to="per-unit"),
    change(*PRICE, "model", to="package"),
    change(*PRICE, "model", to=...),
    change(*PRICE, "tiers", to=[{"unit_price": "1"}]),
    change(*PRICE, "sku", to=...),
    change(*PRICE, "sku", to="a sku"),
    change("price_book", 0, "price", 2, "tiers", to=[]),
    change("price_book", 0, "price", 2, "tiers", 0, "size", to="1"),
    change(*PRICE, "window_commitment", to="10"),
    change(*PRICE, "window_commitment", to={"overage_factor": "2", "true_up": "none"}),
    change(*PRICE, "window_commitment", to={"amount": "10", "overage_factor": "2"}),
    change(*PRICE, "window_commitment", to={"amount": "10", "true_up": "owed"}),
    change(*PRICE, "window_commitment", to={"amount": "10", "quantity": "1", "true_up": "owed_always"}),
    change(*PRICE, "window_commitment", to={"amount": "0", "true_up": "owed_always"}),
    change(*PRICE, "window_commitment", to={"quantity": "1", "overage_factor": "0", "true_up": "none"}),
    change("price_book", 0, "currency", to=...),
    change("price_book", 0, "id", to="list usd"),
    change("price_book", 0, "discount", to="1"),
    change("contract", 0, "organization", to="acme"),
    change("contract", 0, "default", to=False),
    change("contract", 0, "default", to=...),
    change("contract", 0, "billing_period", to="week"),
    change("contract", 0, "extends", to="standard"),
    change("meter", 0, "aggregation", to="median"),
    change("meter", 0, "aggregation", to="count"),
    change("meter", 0, "value", to="usage..tokens"),
    change("meter", 0, "value", to=...),
    change("meter", 0, "negative", to=True),
    change("meter", 0, "dimensions", to={str(number): "path" for number in range(17)}),
    change("meter", 0, "bucket", to="hour"),
    change("meter", 0, "zone", to="Asia/Tokyo"),
    change("sku", 0, "family", to="token factory"),
    change("sku", 0, "match", to={"model": 7}),
    change("sku", 0, "above", to={"input_tokens": "many"}),
    change("rounding", 0, "scale", to="2"),
    change("rounding", 0, "scale", to=10),
    change("rounding", 0, "mode", to="up"),
    change("unit", 0, "id", to=...),
    change("unit", 0, "id", to=""),
    change("meters", to=[]),
    change("unit", to=[]),
]


def of(kind, *path, to):
    """A mistake in the first canonical document of a kind."""

    def mistake(content):
        documents = at(content, "documents")
        place = next(place for place, document in enumerate(documents) if document["kind"] == kind)
        change("documents", place, *path, to=to)(content)

    return mistake


def committed(promised, model):
    commitment = {"promised": promised, "overage_factor": "1.5", "true_up": "none"}
    return {"committed": {"commitment": commitment, "model": model}}


ROW = ("prices", 0, "model")
VERSION = [
    change("format", to="2"),
    change("documents", to=[]),
    of("contract", "kind", to="contracts"),
    of("contract", "covers", to="everybody"),
    of("contract", "covers", to={"organizations": []}),
    of("contract", "effective_at", to="2026-01-01T01:00:00+01:00"),
    of("contract", "effective_at", to="2026-01-01T00:00:00.5Z"),
    of("contract", "billing_period", to=...),
    of("meter", "aggregation", to={"unique": {"of": "user"}}),
    of("meter", "dimensions", to=...),
    of("meter", "negative", to="accepted"),
    of("price_book", "prices", 0, "id", to=...),
    of("price_book", "prices", 0, "effective_at", to="2026-01-01"),
    of("price_book", *ROW, to={}),
    of("price_book", *ROW, to={"per_unit": {"per": "1", "unit_price": "1"}, "free": {"rule": "x"}}),
    of("price_book", *ROW, to={"per_unit": {"per": "0", "unit_price": "1"}}),
    of("price_book", *ROW, to={"per_unit": {"per": "1", "unit_price": "1.50"}}),
    of("price_book", *ROW, to={"per_unit": {"per": "1", "unit_price": "01"}}),
    of("price_book", *ROW, to={"per_unit": {"per": "1", "unit_price": "1e3"}}),
    of("price_book", *ROW, to={"per_unit": {"per": "1", "unit_price": "-1"}}),
    of("price_book", *ROW, to={"per_unit": {"per": 1, "unit_price": "1"}}),
    of("price_book", *ROW, to={"graduated": {"per": "1", "tiers": [{"unit_price": "1"}]}}),
    of("price_book", *ROW, to={"adjusted": {"free_units": "1", "applies_to": "period", "model": {"free": {"rule": "x"}}}}),
    of("price_book", *ROW, to={"committed": {"model": {"per_unit": {"per": "1", "unit_price": "1"}}}}),
    of("price_book", *ROW, to=committed({"amount": "10", "quantity": "1"}, {"per_unit": {"per": "1", "unit_price": "1"}})),
    of("price_book", *ROW, to=committed({"amount": "0"}, {"per_unit": {"per": "1", "unit_price": "1"}})),
    of("price_book", *ROW, to=committed({"amount": "10"}, {"free": {"rule": "x"}})),
    of("price_book", *ROW, to=committed({"amount": "10"}, committed({"amount": "10"}, {"per_unit": {"per": "1", "unit_price": "1"}}))),
    of("rounding", "scale", to=2),
    of("rounding", "scale", to="10"),
    of("sku", "match", to=...),
    of("sku", "up_to", to={"input_tokens": "1.0"}),
    of("unit", "size", to="1"),
]

versions = json.loads(pathlib.Path(os.environ["TALLY_REGISTRY_VERSIONS"]).read_text())
assert len(versions) >= 4, f"{len(versions)} versions"
cases = []
for version in versions:
    for number, text in enumerate(version["texts"]):
        cases.append(("folder", f"{version['name']}, file {number}", tomllib.loads(text), True))
    cases.append(("version", version["name"], version["content"], True))
demo = next(version for version in versions if version["name"].endswith("demo"))
whole = {}
for text in demo["texts"]:
    for kind, documents in tomllib.loads(text).items():
        whole.setdefault(kind, []).extend(documents)
cases.append(("folder", "the demo in one file", whole, True))
for schema, right, mistakes in (("folder", whole, FOLDER), ("version", demo["content"], VERSION)):
    for number, mistake in enumerate(mistakes):
        wrong = copy.deepcopy(right)
        mistake(wrong)
        cases.append((schema, f"mistake {number} of {schema}", wrong, False))

for name, schema in SCHEMAS.items():
    Draft202012Validator.check_schema(schema)
validators = {name: Draft202012Validator(schema) for name, schema in SCHEMAS.items()}
with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
    named = [{"schema": schema, "instance": instance} for schema, _, instance, _ in cases]
    json.dump({"schemas": SCHEMAS, "cases": named}, file)
    file.flush()
    command = ["node", str(ROOT / "tests/foreign/schemas.cjs"), os.environ["TALLY_NODE_MODULES"], file.name]
    said = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
verdicts = {"jsonschema": [validators[schema].is_valid(instance) for schema, _, instance, _ in cases], "ajv": said}
wrong = [
    f"{validator} {'accepts' if verdict else 'refuses'} {name}"
    for validator, given in verdicts.items()
    for (_, name, _, right), verdict in zip(cases, given, strict=True)
    if verdict != right
]
assert not wrong, "\n".join(wrong)
print(f"{len(versions)} registry versions are accepted and {len(FOLDER) + len(VERSION)} mistakes refused by jsonschema and ajv")
