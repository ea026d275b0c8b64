"""Attacks copies of the frozen bundle at random places (of a fixed seed) and lets every verifier look: the foreign programs of verify_bundle.py,
and `tally-verify` (environment TALLY_VERIFY_BIN). Each attack must be found by at least one foreign program and by ours, each time.
The table attacks x finder is docs/reference/attacks.md; it is compared, or written with TALLY_WRITE_GOLDEN=1.

    TALLY_VERIFY_BIN=target/debug/tally-verify python attack_bundle.py [ATTACK-NAME-PART]

The keys of the frozen bundle are those of tests/evidence/bundle_world.rs: an insider's attacks are signed with them.
"""

import base64
import concurrent.futures
import hashlib
import json
import multiprocessing
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile

import duckdb
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

import verify_bundle
from verify_bundle import ENTRIES, GOLDEN, HERE

ROOT = HERE.parent.parent.parent
PAGE = ROOT / "docs" / "reference" / "attacks.md"
SEED = 20261125
ORIGIN = "bundle.tallystick.example/log"
PINNED = json.loads((GOLDEN / "manifest.json").read_text())["predicate"]["log_key"]
TILES = ENTRIES.parent.parent
OURS = "tally-verify"


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


class Copy:
    """A copy of the bundle under attack."""

    def __init__(self, folder, dice):
        self.folder, self.dice = folder, dice
        shutil.copytree(GOLDEN, folder)

    def path(self, name):
        return self.folder / name

    def json(self, name):
        return json.loads(self.path(name).read_text())

    def put(self, name, value):
        self.path(name).write_text(value if isinstance(value, str) else canonical(value))

    def names(self):
        return sorted(str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file())

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
        sql = (HERE.parent.parent / "src" / "bundle" / "verify.sql").read_text(encoding="utf-8")
        head = sql[: sql.index("-- RFC 6962: an inner node")]
        connection = duckdb.connect()
        with verify_bundle.inside(self.folder):
            connection.execute(head)
            connection.execute("CREATE TEMP TABLE fixed AS SELECT r.* REPLACE (coalesce(CAST('0x' || left(k.leaf, 4) AS INTEGER), 0) AS leaf_check)"
                               " FROM read_parquet('data/readings.parquet') AS r LEFT JOIN (SELECT DISTINCT month, log_seq, event, leaf FROM readings) AS k ON k.month = r.month AND k.log_seq = r.log_seq AND k.event = r.event")
            connection.execute("COPY (FROM fixed ORDER BY month, log_seq) TO 'data/readings.parquet' (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 16384)")
        connection.close()

    def listed(self, log=LOG, bundle=BUNDLE, signed=False):
        """The manifest with digests of what is there now; `signed` makes the envelope anew, else its signature stays the old one."""
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

    def resigned(self):
        """By another log key and bundle key, everywhere."""
        text = self.path("log/checkpoint").read_text().split("\n\n")[0] + "\n"
        self.put("log/checkpoint", FORGED_LOG.note(text))
        self.put("keys/log.pem", FORGED_LOG.pem())
        self.put("keys/bundle.pem", FORGED_BUNDLE.pem())
        self.put("keys/bundle.note", FORGED_LOG.note("tallystick/bundle-key/v1\n%s\n" % FORGED_BUNDLE.text))
        self.listed(FORGED_LOG, FORGED_BUNDLE, signed=True)


def cents(text, change):
    """A decimal text moved by some cents."""
    from decimal import Decimal

    return format((Decimal(text) + Decimal(change) / 100).normalize(), "f")


# Changes. Each takes the copy and changes something at a random place.


def row_added(copy):
    month, _, event = copy.pick()
    last = "(SELECT max(log_seq) FROM r WHERE month = %d)" % month
    copy.rows(
        "INSERT INTO e SELECT * REPLACE ((SELECT max(event) + 1 FROM e) AS event, id || '-added' AS id) FROM e WHERE event = %d" % event,
        "INSERT INTO r SELECT * REPLACE (%s + 1 AS log_seq, (SELECT max(event) FROM e) AS event) FROM r WHERE month = %d AND event = %d LIMIT 1" % (last, month, event),
    )


def row_removed(copy):
    month, log_seq, event = copy.pick()
    copy.rows(
        "DELETE FROM r WHERE month = %d AND log_seq = %d" % (month, log_seq),
        "UPDATE r SET log_seq = log_seq - 1 WHERE month = %d AND log_seq > %d" % (month, log_seq),
        "DELETE FROM e WHERE event NOT IN (SELECT event FROM r)",
    )


def row_repeated(copy):
    month, log_seq, _ = copy.pick()
    copy.rows("INSERT INTO r FROM r WHERE month = %d AND log_seq = %d" % (month, log_seq))


def row_of_another_organization(copy):
    _, _, event = copy.pick()
    other = sha256(b"another organization", str(copy.dice.random()).encode())
    copy.rows("UPDATE e SET id = '%s', source = 'their-gateway', salt = from_hex('%s') WHERE event = %d" % (other.hex()[:32], other.hex(), event))


def row_of_another_price(copy):
    month, log_seq, _ = copy.pick("sku = 'tokens.out'")
    copy.rows("UPDATE r SET price_id = CASE price_id WHEN 'out-1' THEN 'out-2' ELSE 'out-1' END WHERE month = %d AND log_seq = %d" % (month, log_seq))


def row_of_another_quantity(copy):
    month, log_seq, event = copy.pick("meter = 'llm.tokens.in'")
    copy.rows(
        "UPDATE r SET quantity = quantity + 1 WHERE month = %d AND log_seq = %d" % (month, log_seq),
        """UPDATE e SET data = regexp_replace(data, '"in":"([0-9]+)"', '"in":"' || (CAST(regexp_extract(data, '"in":"([0-9]+)"', 1) AS BIGINT) + 1) || '"') WHERE event = %d""" % event,
    )


def row_of_another_date(copy):
    _, _, event = copy.pick()
    seconds = copy.dice.choice([1, 60, 3600])
    copy.rows("UPDATE e SET start_at = start_at - INTERVAL %d SECOND, end_at = end_at - INTERVAL %d SECOND WHERE event = %d" % (seconds, seconds, event))


def price_in_the_registry(copy):
    """A dearer price in the documents, with every name and index that follows; what the leaves name is rewritten too."""
    old = next(path for path in copy.path("registry/documents").iterdir() if '"kind":"price_book"' in path.read_text() and "out-2" in path.read_text())
    text = old.read_text()
    price = copy.dice.choice(['"unit_price":"2.64"', '"unit_price":"0.0021"', '"unit_price":"2.79"'])
    assert price in text
    new = text.replace(price, price[:-2] + str((int(price[-2]) + 1) % 10) + '"')
    old.unlink()
    copy.put("registry/documents/%s.json" % sha256(new.encode()).hex(), new)
    for path in list(copy.path("registry").glob("*.json")):
        index = path.read_text()
        if old.stem in index:
            path.unlink()
            index = index.replace(old.stem, sha256(new.encode()).hex())
            address = sha256(index.encode()).hex()
            copy.put("registry/%s.json" % address, index)
            copy.rows("UPDATE r SET registry_version = from_hex('%s') WHERE lower(hex(registry_version)) = '%s'" % (address, path.stem))
            copy.put("invoice.json", copy.path("invoice.json").read_text().replace(path.stem, address))


def amount(copy):
    """A line's amount, and everything on the invoice that must follow it."""
    invoice = copy.json("invoice.json")
    line, change = copy.dice.choice(invoice["lines"]), copy.dice.choice([1, -1, 100])
    for name in ("amount", "key_amount", "rounding"):
        line[name] = cents(line[name], change)
    invoice["total"] = cents(invoice["total"], change)
    copy.put("invoice.json", invoice)


def line_left_out(copy):
    invoice = copy.json("invoice.json")
    line = invoice["lines"].pop(copy.dice.randrange(len(invoice["lines"])))
    for number, other in enumerate(invoice["lines"], 1):
        other["number"] = str(number)
    from decimal import Decimal

    invoice["total"] = format((Decimal(invoice["total"]) - Decimal(line["amount"])).normalize(), "f")
    copy.put("invoice.json", invoice)


def earlier_invoice_forgotten(copy):
    """An adjustment that charges again what an earlier invoice charged."""
    invoice = copy.json("invoice.json")
    line = copy.dice.choice([line for line in invoice["lines"] if line["invoiced_before"] != "0"])
    from decimal import Decimal

    again = Decimal(line["invoiced_before"])
    line.update(invoiced_before="0", exact_before="0", exact=line["key_total"], kind="usage")
    line["amount"] = line["key_amount"]
    line["rounding"] = format((Decimal(line["amount"]) - Decimal(line["exact"])).normalize(), "f")
    invoice["total"] = format((Decimal(invoice["total"]) + again).normalize(), "f")
    copy.put("invoice.json", invoice)


def file_added(copy):
    name = copy.dice.choice(["notes.txt", "data/more.parquet", ".hidden", "registry/documents/%s.json" % ("0" * 64)])
    copy.put(name, "{}")


def file_removed(copy):
    copy.path(copy.dice.choice([name for name in copy.names() if not name.startswith("manifest")])).unlink()


def files_swapped(copy):
    pairs = [("data/readings.parquet", "data/events.parquet"), ("keys/log.pem", "keys/bundle.pem"), ("invoice.json", "issue.json")]
    first, second = map(copy.path, copy.dice.choice(pairs))
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)


def flip_of(name):
    return lambda copy: copy.flip(name)


def flip_of_a_registry_document(copy):
    copy.flip(copy.dice.choice([name for name in copy.names() if name.startswith("registry/")]))


def root(leaves):
    while len(leaves) > 1:
        leaves = [sha256(b"\x01", *pair) if len(pair) == 2 else pair[0] for pair in (leaves[at : at + 2] for at in range(0, len(leaves), 2))]
    return leaves[0]


def entries():
    bundle = next(iter(sorted((ENTRIES / "000.p").iterdir()))).read_bytes()
    texts = []
    while bundle:
        length = int.from_bytes(bundle[:2], "big")
        texts.append(bundle[2 : 2 + length])
        bundle = bundle[2 + length :]
    return texts


def head_of(texts):
    return "%s\n%d\n%s\n" % (ORIGIN, len(texts), base64.b64encode(root([sha256(b"\x00", text) for text in texts])).decode())


def kept(copy, texts, key=LOG):
    """A checkpoint that the customer kept, and the log's true files."""
    path = copy.folder.parent / "kept"
    path.write_text(key.note(head_of(texts)))
    return {"key": PINNED, "kept": path, "entries": ENTRIES, "tiles": TILES}


def stale(copy):
    """The bundle is honest, but of a log that has grown since: what was added is kept from the customer."""
    return kept(copy, entries() + [b"one more entry"])


def forked(copy):
    """The holder of the key keeps two logs: the customer kept a checkpoint of the other one, of the same size."""
    texts = entries()
    at = copy.dice.randrange(len(texts))
    texts[at] = texts[at].replace(b'"v":"1"', b'"v":"1" ')
    return kept(copy, texts)


def rewritten(copy):
    """The log was rewritten below the customer's checkpoint, and signed with the right key."""
    texts = entries()
    texts = texts[: copy.dice.randrange(2, len(texts))]
    texts[copy.dice.randrange(len(texts))] += b" "
    return kept(copy, texts)


# Ways to cover a change up.


def as_it_is(copy):
    return None


def with_digests(copy):
    copy.listed()


def careful(copy):
    copy.checked()
    copy.listed()


def other_key(copy):
    copy.resigned()


def right_key(copy):
    copy.listed(signed=True)


def careful_right_key(copy):
    copy.checked()
    copy.listed(signed=True)


ROWS = [
    ("row added", row_added), ("row removed", row_removed), ("row repeated", row_repeated), ("row of another organization", row_of_another_organization),
    ("row re-priced", row_of_another_price), ("row of another quantity", row_of_another_quantity), ("row re-dated", row_of_another_date),
]
ATTACKS = (
    [("byte flipped in %s" % name, flip_of(name), "nothing else", as_it_is) for name in (
        "data/readings.parquet", "data/events.parquet", "invoice.json", "issue.json", "log/checkpoint", "log/proof.json", "keys/log.pem", "keys/bundle.pem",
        "keys/bundle.note", "manifest.json", "manifest.dsse.json", "provenance.json", "verify.sql", "VERIFY.md")]
    + [("byte flipped in registry/", flip_of_a_registry_document, "nothing else", as_it_is)]
    + [("byte flipped in %s" % name, flip_of(name), "digests rewritten", with_digests) for name in ("data/readings.parquet", "data/events.parquet", "log/proof.json")]
    + [(name, change, "nothing else", as_it_is) for name, change in ROWS]
    + [(name, change, "digests rewritten", with_digests) for name, change in ROWS]
    + [(name, change, "digests and leaf checks rewritten", careful) for name, change in ROWS if "re-priced" not in name]
    + [(name, change, "signed with the right keys, leaf checks rewritten", careful_right_key) for name, change in ROWS]
    + [("price changed in the registry", price_in_the_registry, way, cover) for way, cover in (
        ("nothing else", as_it_is), ("digests and leaf checks rewritten", careful), ("signed with the right keys, leaf checks rewritten", careful_right_key))]
    + [(name, change, way, cover) for name, change in (("amount changed", amount), ("line left out", line_left_out), ("earlier invoice forgotten", earlier_invoice_forgotten))
       for way, cover in (("digests rewritten", with_digests), ("re-signed with other keys", other_key), ("signed with the right keys", right_key))]
    + [("file added", file_added, "nothing else", as_it_is), ("file added", file_added, "digests rewritten", with_digests), ("file removed", file_removed, "nothing else", as_it_is),
       ("files swapped", files_swapped, "nothing else", as_it_is), ("files swapped", files_swapped, "digests rewritten", with_digests)]
    + [("nothing changed", as_it_is, "re-signed with other keys", other_key)]
    + [("stale checkpoint", stale, "against a kept checkpoint", as_it_is), ("forked log", forked, "against a kept checkpoint", as_it_is),
       ("rewritten log", rewritten, "against a kept checkpoint", as_it_is)]
)
TRIES = 2


def ours(folder, outside):
    command = [os.environ["TALLY_VERIFY_BIN"], folder, "--log-key", outside["key"], "--format", "json"]
    if outside.get("kept"):
        command += ["--checkpoint", outside["kept"], "--log", outside["tiles"]]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode == 0:
        return []
    if done.returncode == 1:
        return json.loads(done.stdout)["differences"]
    return [{"stage": "none", "file": "", "row": "", "what": done.stderr.strip(), "expected": "", "found": ""}]


def named(attack, findings):
    """What ours must name: the file, and in data the row or the row group."""
    if not attack.startswith("byte flipped in data/"):
        return True
    file = attack.split(" ")[-1]
    return any(finding["file"] == file for finding in findings) and any(finding["row"] for finding in findings)


def page(results):
    programs = list(verify_bundle.PROGRAMS) + [OURS]
    lines = [
        "# Attacks on a bundle, and who finds them", "",
        "Generated by `evidence/tests/foreign/attack_bundle.py`, which attacks copies of the frozen bundle at %d random places each (of a fixed seed) and runs every verifier." % TRIES,
        "A mark: found each time; a number: found so many times of %d; empty: not found, because that program does not look at it." % TRIES,
        "Every attack is found each time by `tally-verify` and by at least one program that is not ours.", "",
        "| Attack | Cover-up | " + " | ".join(programs) + " |", "|-|-|" + "-|" * len(programs),
    ]
    for (attack, cover), counts in results.items():
        cells = ["✓" if counts[name] == TRIES else str(counts[name] or "") for name in programs]
        lines.append("| %s | %s | %s |" % (attack, cover, " | ".join(cells)))
    return "\n".join(lines) + "\n"


def tried(number):
    """An attack at every place: who found it, and what is wrong with that."""
    attack, change, cover, covered = ATTACKS[number]
    tries = []
    for at in range(TRIES):
        dice = random.Random("%d %s %s %d" % (SEED, attack, cover, at))
        with tempfile.TemporaryDirectory() as name:
            copy = Copy(pathlib.Path(name) / "bundle", dice)
            outside = change(copy) or {"key": PINNED}
            covered(copy)
            found = verify_bundle.verify(copy.folder, outside)
            found[OURS] = ours(copy.folder, outside)
        foreign = [program for program in verify_bundle.PROGRAMS if found[program]]
        good = foreign and found[OURS] and named(attack, found[OURS])
        tries.append(([program for program in found if found[program]], None if good else "try %d: foreign %s, ours %s" % (at, foreign, found[OURS][:2])))
    return tries


def main():
    part = sys.argv[1] if len(sys.argv) > 1 else ""
    honest = verify_bundle.verify(GOLDEN, {"key": PINNED})
    honest[OURS] = ours(GOLDEN, {"key": PINNED})
    for name, findings in honest.items():
        if findings:
            print("the honest bundle is refused by %s: %s" % (name, findings[0]))
            return 1
    results, wrong = {}, 0
    verify_bundle.go_program()
    chosen = [number for number, (attack, _, cover, _) in enumerate(ATTACKS) if part in attack + " " + cover]
    with concurrent.futures.ProcessPoolExecutor(mp_context=multiprocessing.get_context("fork")) as pool:
        for number, tries in zip(chosen, pool.map(tried, chosen)):
            attack, _, cover, _ = ATTACKS[number]
            counts = dict.fromkeys([*verify_bundle.PROGRAMS, OURS], 0)
            for found, missed in tries:
                for program in found:
                    counts[program] += 1
                if missed:
                    wrong += 1
                    print("NOT FOUND: %s, %s: %s" % (attack, cover, missed))
            results[attack, cover] = counts
            print("%s, %s: %s" % (attack, cover, ", ".join("%s %d" % item for item in counts.items())), flush=True)
    text = page(results)
    if part:
        pass
    elif os.environ.get("TALLY_WRITE_GOLDEN"):
        PAGE.write_text(text)
    elif not PAGE.exists() or PAGE.read_text() != text:
        print("docs/reference/attacks.md is not what was found; TALLY_WRITE_GOLDEN=1 writes it")
        wrong += 1
    print("%d attacks, %d tries each, %d not found" % (len(results), TRIES, wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
