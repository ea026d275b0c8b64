"""A forger's tools: a copy of the frozen bundle, its keys, and everything that he rewrites so that a change does not show. The keys are those of
tests/evidence/bundle_world.rs.
"""

import base64
import hashlib
import json
import shutil
from decimal import ROUND_HALF_UP, Decimal

import duckdb
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

import verify_bundle
from verify_bundle import GOLDEN, HERE

ORIGIN = "bundle.tallystick.example/log"
PINNED = json.loads((GOLDEN / "manifest.json").read_text())["predicate"]["log_key"]
DOCUMENTS = "registry/documents.jsonl"
SQL = (HERE.parent.parent / "src" / "bundle" / "verify.sql").read_text(encoding="utf-8")


def canonical(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


class Key:
    def __init__(self, name, secret):
        self.name, self.private = name, Ed25519PrivateKey.from_private_bytes(secret)
        self.public = self.private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.id = sha256(name.encode(), b"\n\x01", self.public)[:4]
        self.text = "%s+%s+%s" % (name, self.id.hex(), base64.b64encode(b"\x01" + self.public).decode())

    def note(self, text):
        return "%s\n— %s %s\n" % (text, self.name, base64.b64encode(self.id + self.private.sign(text.encode())).decode())

    def pem(self):
        der = bytes.fromhex("302a300506032b6570032100") + self.public
        return "-----BEGIN PUBLIC KEY-----\n%s\n-----END PUBLIC KEY-----\n" % base64.b64encode(der).decode()


LOG, BUNDLE = Key(ORIGIN, bytes([7] * 32)), Key(ORIGIN + "/bundle", bytes([9] * 32))
FORGED_LOG, FORGED_BUNDLE = Key(ORIGIN, bytes([66] * 32)), Key(ORIGIN + "/bundle", bytes([67] * 32))
assert LOG.text == PINNED


def new_line(subject):
    """A line of nothing yet, for a key that has none."""
    key, month = subject.rsplit(" ", 1)
    contract, sku = key.split("/", 1)
    zeros = ("amount", "exact", "exact_before", "invoiced_before", "key_amount", "key_quantity", "key_readings", "key_total", "quantity", "readings", "rounding")
    return dict({name: "0" for name in zeros}, contract=contract, sku=sku, contract_line=key, service_period=month, kind="usage", description="", unit="", prices=[])


class Copy:
    """A copy of the bundle under attack."""

    def __init__(self, folder, dice):
        self.folder, self.dice, self.provenance = folder, dice, True
        shutil.copytree(GOLDEN, folder)

    def path(self, name):
        return self.folder / name

    def json(self, name):
        return json.loads(self.path(name).read_text())

    def put(self, name, value):
        self.path(name).write_text(value if isinstance(value, str) else canonical(value))

    def names(self):
        return sorted(str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file())

    def documents(self):
        """The registry documents, canonical JSON each."""
        return self.path(DOCUMENTS).read_text().split("\n")[:-1]

    def put_documents(self, documents):
        """These registry documents, in order of their digests as the format has them."""
        self.put(DOCUMENTS, "".join(document + "\n" for document in sorted(documents, key=lambda document: sha256(document.encode()))))

    def reindexed(self, change):
        """Every registry version with another index, and what names the versions with it."""
        for path in list(self.path("registry").glob("*.json")):
            index = canonical(change(json.loads(path.read_text())))
            path.unlink()
            address = sha256(index.encode()).hex()
            self.put("registry/%s.json" % address, index)
            self.rows("UPDATE r SET registry_version = from_hex('%s') WHERE lower(hex(registry_version)) = '%s'" % (address, path.stem))
            self.put("invoice.json", self.path("invoice.json").read_text().replace(path.stem, address))

    def flip(self, name):
        content = bytearray(self.path(name).read_bytes())
        content[self.dice.randrange(len(content))] ^= 1 << self.dice.randrange(8)
        self.path(name).write_bytes(content)

    def rows(self, *statements):
        """Both tables through DuckDB: `r` and `e`."""
        connection = duckdb.connect()
        connection.execute("CREATE TABLE r AS FROM read_parquet('%s')" % self.path("data/readings.parquet"))
        connection.execute("CREATE TABLE e AS FROM read_parquet('%s')" % self.path("data/events.parquet"))
        for statement in statements:
            connection.execute(statement)
        for table, name, order in (("r", "readings", "month, log_seq"), ("e", "events", "event")):
            connection.execute("COPY (FROM %s ORDER BY %s) TO '%s' (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 16384)"
                               % (table, order, self.path("data/%s.parquet" % name)))
        connection.close()

    def pick(self, where="true"):
        """A random reading: month, log_seq, event."""
        rows = duckdb.execute("SELECT month, log_seq, event FROM '%s' WHERE %s ORDER BY ALL" % (self.path("data/readings.parquet"), where)).fetchall()
        return self.dice.choice(rows)

    def checked(self):
        """Rewrites leaf_check, as a careful forger would."""
        head = SQL[: SQL.index("-- RFC 6962: an inner node")]
        connection = duckdb.connect()
        with verify_bundle.inside(self.folder):
            connection.execute(head)
            connection.execute("CREATE TEMP TABLE fixed AS SELECT r.* REPLACE (coalesce(CAST('0x' || left(k.leaf, 4) AS INTEGER), 0) AS leaf_check)"
                               " FROM read_parquet('data/readings.parquet') AS r LEFT JOIN (SELECT DISTINCT month, log_seq, event, leaf FROM readings) AS k ON k.month = r.month AND k.log_seq = r.log_seq AND k.event = r.event")
            connection.execute("COPY (FROM fixed ORDER BY month, log_seq) TO 'data/readings.parquet' (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 16384)")
        connection.close()

    def listed(self, log=LOG, bundle=BUNDLE, signed=False):
        """The manifest with digests of what is there now; `signed` makes the envelope anew, else its signature stays the old one."""
        if self.provenance:
            self.put("provenance.json", self.built(self.json("provenance.json")))
        issue = self.json("issue.json")
        issue["digest"] = sha256(self.path("invoice.json").read_bytes()).hex()
        self.put("issue.json", issue)
        manifest = self.json("manifest.json")
        files = []
        for name in self.names():
            if name in ("manifest.json", "manifest.dsse.json"):
                continue
            content = self.path(name).read_bytes()
            file = {"path": name, "sha256": sha256(content).hex(), "size": str(len(content))}
            if name.endswith(".parquet"):
                try:
                    file["rows"] = str(duckdb.execute("SELECT count(*) FROM '%s'" % self.path(name)).fetchone()[0])
                except duckdb.Error:
                    file["rows"] = next(f["rows"] for f in manifest["predicate"]["files"] if f["path"] == name)
            files.append(file)
        manifest["predicate"].update(files=files, log_key=log.text, bundle_key=bundle.text)
        manifest["subject"] = [{"digest": {"sha256": file["sha256"]}, "name": file["path"]} for file in files]
        text = canonical(manifest)
        self.put("manifest.json", text)
        envelope = self.json("manifest.dsse.json")
        envelope["payload"] = base64.b64encode(text.encode()).decode()
        if signed:
            pae = b"DSSEv1 28 application/vnd.in-toto+json %d %s" % (len(text.encode()), text.encode())
            envelope["signatures"] = [{"keyid": bundle.id.hex(), "sig": base64.b64encode(bundle.private.sign(pae)).decode()}]
        self.put("manifest.dsse.json", envelope)

    def built(self, statement):
        """The provenance of what is there now."""
        described = lambda name, path: {"digest": {"sha256": sha256(self.path(path).read_bytes()).hex()}, name: path}
        registry = [name for name in self.names() if name.startswith("registry/")]
        statement["subject"] = [described("name", "data/readings.parquet"), described("name", "invoice.json")]
        statement["predicate"]["buildDefinition"]["resolvedDependencies"] = [described("uri", path) for path in ["data/events.parquet", *registry]]
        statement["predicate"]["runDetails"]["metadata"]["invocationId"] = sha256(self.path("invoice.json").read_bytes()).hex()
        return statement

    def leaves(self, month):
        """Hashes of a month's leaves, by verify.sql."""
        with verify_bundle.inside(self.folder), duckdb.connect() as connection:
            connection.execute(SQL[: SQL.index("-- RFC 6962: an inner node")])
            return [bytes.fromhex(leaf) for (leaf,) in connection.execute("SELECT leaf FROM readings WHERE month = %s ORDER BY log_seq" % month).fetchall()]

    def rerated(self):
        """Rewrites the invoice until verify.sql finds its lines right: an insider computes as well as a verifier."""
        for _ in range(5):
            with verify_bundle.inside(self.folder), duckdb.connect() as connection:
                failures = connection.execute(SQL).fetchall()
            invoice = self.json("invoice.json")
            lines = {"%s %s" % (line["contract_line"], line["service_period"]): line for line in invoice["lines"]}
            changed = False
            for check, subject, expected, _ in failures:
                name = check.removesuffix(" of a line")
                if check == "line without a reading":
                    invoice["lines"].remove(lines[subject])
                elif check == "key without a line":
                    invoice["lines"].append(new_line(subject))
                elif check == "prices of a line":
                    line, price = subject.rsplit(" ", 1)
                    prices = {row["price_id"]: row for row in lines[line]["prices"]}
                    prices.pop(price, None)
                    if expected:
                        quantity, readings = expected.split(" in ")
                        prices[price] = {"price_id": price, "quantity": quantity, "readings": readings}
                    lines[line]["prices"] = [prices[price] for price in sorted(prices)]
                elif check == "invoiced_before of a line":
                    lines[subject]["invoiced_before"] = format(Decimal(expected).quantize(Decimal("0.01"), ROUND_HALF_UP).normalize(), "f")
                elif check == "kind of a line":
                    lines[subject]["kind"] = "usage"
                elif check.endswith(" of a line") and subject in lines and name != "number":
                    lines[subject][name] = expected
                else:
                    continue
                changed = True
            for number, line in enumerate(invoice["lines"], 1):
                line["number"] = str(number)
            invoice["total"] = format(sum((Decimal(line["amount"]) for line in invoice["lines"]), Decimal(0)).normalize(), "f")
            self.put("invoice.json", invoice)
            if not changed:
                return
        raise AssertionError("the forger's invoice does not settle: %s" % failures[:5])

    def resigned(self):
        """By another log key and bundle key, everywhere."""
        text = self.path("log/checkpoint").read_text().split("\n\n")[0] + "\n"
        self.put("log/checkpoint", FORGED_LOG.note(text))
        self.put("keys/log.pem", FORGED_LOG.pem())
        self.put("keys/bundle.pem", FORGED_BUNDLE.pem())
        self.put("keys/bundle.note", FORGED_LOG.note("tallystick/bundle-key/v1\n%s\n" % FORGED_BUNDLE.text))
        self.listed(FORGED_LOG, FORGED_BUNDLE, signed=True)
