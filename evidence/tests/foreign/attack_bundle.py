"""Attacks copies of the frozen bundle at random places (of a fixed seed) and lets every verifier look: the foreign programs of verify_bundle.py,
and `tally-verify` (environment TALLY_VERIFY_BIN). Each attack must be found by at least one foreign program and by ours, each time; an insider's
attack, signed with the right keys, by the checks that are there for it (EXPECTED). A program that breaks off has found nothing.
Honest bundles in other circumstances must hold; what no verifier can see (UNSEEN) must at least be shown.
The table attacks x finder is docs/reference/attacks.md; it is compared, or written with TALLY_WRITE_GOLDEN=1.

    TALLY_VERIFY_BIN=target/debug/tally-verify python attack_bundle.py [ATTACK-NAME-PART]

What is changed stands in changes.py, how it is covered up in forger.py.
"""

import concurrent.futures
import json
import multiprocessing
import os
import pathlib
import random
import subprocess
import sys
import tempfile
from decimal import Decimal

import duckdb

import changes
import verify_bundle
from changes import TILES
from forger import DOCUMENTS, PINNED, SQL, Copy, Key
from verify_bundle import BEFORE, ENTRIES, GOLDEN, HERE, Broken

ROOT = HERE.parent.parent.parent
PAGE = ROOT / "docs" / "reference" / "attacks.md"
SEED = 20261125
OURS = "tally-verify"


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
    ("row added", changes.row_added), ("row removed", changes.row_removed), ("row repeated", changes.row_repeated), ("row of another organization", changes.row_of_another_organization),
    ("row re-priced", changes.row_of_another_price), ("row of another quantity", changes.row_of_another_quantity), ("row re-dated", changes.row_of_another_date),
]
# Of readings that were rated again.
AGAIN = [
    ("leaf that takes back removed", changes.taking_back_left_out), ("correction of a reading removed", changes.correction_left_out),
    ("leaf that takes back turned to another reading", changes.another_reading_taken_back), ("another quantity taken back", changes.another_quantity_taken_back),
    ("rated again at another price", changes.put_back_at_another_price), ("rated again as it was", changes.put_back_as_it_was),
]
# Of pieces of billed time.
PIECES = [
    ("piece moved", changes.piece_moved), ("piece lengthened", changes.piece_lengthened), ("piece of another level", changes.piece_of_another_level),
    ("history of a lease changed", changes.history_changed), ("times of a reading changed", changes.reading_cut),
    ("piece not cut anew", changes.piece_not_cut), ("piece of two versions", changes.piece_of_both_versions), ("piece behind a new cut left out", changes.piece_left_out),
    ("piece taken back for good", changes.piece_taken_back_for_good), ("piece of a version without it", changes.piece_by_the_former_version), ("piece kept that is gone", changes.piece_kept),
]
ATTACKS = (
    [("byte flipped in %s" % name, changes.flip_of(name), "nothing else", as_it_is) for name in (
        "data/readings.parquet", "data/events.parquet", "invoice.json", "issue.json", "log/checkpoint", "log/proof.json", "keys/log.pem", "keys/bundle.pem",
        "keys/bundle.note", "manifest.json", "manifest.dsse.json", "provenance.json", "verify.sql", "VERIFY.md")]
    + [("byte flipped in registry/<address>.json", changes.flip_of_a_registry_index, "nothing else", as_it_is)]
    + [("byte flipped in %s" % DOCUMENTS, changes.flip_of(DOCUMENTS), way, cover) for way, cover in (("nothing else", as_it_is), ("digests rewritten", with_digests))]
    + [("byte flipped in %s" % name, changes.flip_of(name), "digests rewritten", with_digests) for name in ("data/readings.parquet", "data/events.parquet", "log/proof.json")]
    + [(name, change, "nothing else", as_it_is) for name, change in ROWS]
    + [(name, change, "digests rewritten", with_digests) for name, change in ROWS]
    + [(name, change, "digests and leaf checks rewritten", careful) for name, change in ROWS if "re-priced" not in name]
    + [(name, change, "signed with the right keys, leaf checks rewritten", careful_right_key) for name, change in ROWS]
    + [(name, change, way, cover) for name, change in AGAIN + PIECES for way, cover in (("nothing else", as_it_is), ("digests and leaf checks rewritten", careful))]
    + [("price changed in the registry", changes.price_in_the_registry, way, cover) for way, cover in (
        ("nothing else", as_it_is), ("digests and leaf checks rewritten", careful), ("signed with the right keys, leaf checks rewritten", careful_right_key))]
    + [(name, change, "signed with the right keys, leaf checks rewritten", careful_right_key) for name, change in (
        ("quantity finer than nine places", changes.quantity_too_fine), ("contract ended", changes.contract_ended), ("SKU withheld", changes.sku_withheld), ("log cut", changes.log_cut),
        ("tie removed", changes.tie_removed), *AGAIN, *PIECES)]
    + [(name, change, "signed with the right keys", right_key) for name, change in (
        ("meter withheld", changes.meter_withheld), ("registry document changed", changes.document_changed), ("registry document repeated", changes.document_repeated), ("unit changed", changes.unit),
        ("false provenance", changes.false_provenance))]
    + [("charged twice", changes.charged_twice_beside_kept, "signed with the right keys, beside a kept invoice", right_key)]
    + [(name, change, way, cover) for name, change in (("amount changed", changes.amount), ("line left out", changes.line_left_out), ("term invented", changes.term_invented), ("earlier invoice forgotten", changes.earlier_invoice_forgotten))
       for way, cover in (("digests rewritten", with_digests), ("re-signed with other keys", other_key), ("signed with the right keys", right_key))]
    + [("file added", changes.file_added, "nothing else", as_it_is), ("file added", changes.file_added, "digests rewritten", with_digests), ("file removed", changes.file_removed, "nothing else", as_it_is),
       ("files swapped", changes.files_swapped, "nothing else", as_it_is), ("files swapped", changes.files_swapped, "digests rewritten", with_digests)]
    + [("nothing changed", as_it_is, "re-signed with other keys", other_key)]
    + [("stale checkpoint", changes.stale, "against a kept checkpoint", as_it_is), ("forked log", changes.forked, "against a kept checkpoint", as_it_is),
       ("rewritten log", changes.rewritten, "against a kept checkpoint", as_it_is)]
)
TRIES = 2

# What must find an insider's attack: one of these checks of DuckDB, and a difference of one of these stages of ours.
TREE = ({"root of a log"}, {"logs"})
LINE = {"lines"}
EXPECTED = {
    "row added": TREE, "row removed": TREE, "row repeated": ({"number of a leaf", "leaf that takes a reading back"}, {"logs", "readings"}), "row of another organization": TREE,
    "row re-priced": ({"price of a reading"}, {"prices"}), "row of another quantity": TREE, "row re-dated": ({"root of a log", "piece of billed time", "spans of a lease"}, {"logs", "readings"}), "price changed in the registry": TREE,
    "leaf that takes back removed": ({"leaf that takes a reading back"}, {"readings"}), "leaf that takes back turned to another reading": ({"leaf that takes a reading back"}, {"readings"}),
    "another quantity taken back": ({"leaf that takes a reading back"}, {"readings"}), "rated again as it was": ({"version of a reading that was rated again"}, {"readings"}),
    "rated again at another price": ({"price of a reading"}, {"prices"}),
    "correction of a reading removed": ({"price of a reading by the version of the invoice", "price row that varies", "piece of billed time by the version of the invoice"}, {"prices", "readings"}),
    "piece moved": ({"piece of billed time"}, {"readings"}), "piece lengthened": ({"piece of billed time"}, {"readings"}), "piece of another level": ({"quantity of a reading", "leaf that takes a reading back"}, {"readings"}),
    "piece not cut anew": ({"piece of billed time by the version of the invoice"}, {"readings"}), "piece of two versions": ({"piece of billed time by the version of the invoice"}, {"readings"}),
    "piece behind a new cut left out": ({"leaf behind one that takes a reading back"}, {"readings"}), "piece taken back for good": ({"leaf behind one that takes a reading back"}, {"readings"}),
    "piece of a version without it": ({"piece of billed time"}, {"readings"}), "piece kept that is gone": ({"piece of billed time by the version of the invoice"}, {"readings"}),
    "history of a lease changed": ({"piece of billed time", "price of a reading", "key without a line", "line without a reading"}, {"readings", "prices", "lines"}),
    "times of a reading changed": ({"times of a reading"}, {"readings"}),
    "quantity finer than nine places": ({"quantity of a reading"}, {"readings"}),
    "contract ended": ({"price of a reading"}, {"prices"}), "tie removed": ({"tie between events"}, {"readings"}),
    "amount changed": ({"amount of a line"}, LINE), "line left out": ({"key without a line"}, LINE), "unit changed": ({"unit of a line"}, LINE), "term invented": ({"term of a line"}, LINE),
    "earlier invoice forgotten": ({"exact_before of a line"}, LINE), "charged twice": ({"from of a log, by the earlier invoices"}, LINE),
    "registry document changed": ({"registry document of no version"}, {"registry"}), "registry document repeated": ({"order of the registry documents"}, {"registry"}),
    "SKU withheld": ({"SKU of a price is not shown"}, {"registry"}), "meter withheld": ({"meter of a SKU is not shown"}, {"registry"}),
    "false provenance": ({"subject of the provenance", "dependency of the provenance"}, {"files"}), "log cut": ({"consistency of a log"}, {"logs"}),
}

# What an issuer with the right keys can do and no verifier can see in the bundle alone: what shows it nevertheless.
UNSEEN = [
    ("charged twice", changes.charged_twice, "`from` is lowered; the customer kept no invoice", "the invoices that a customer keeps (above: found)"),
    ("log shortened", changes.log_shortened, "`to` is lowered", "the leaves behind `to`, listed by VERIFY.md step 3 and `tally-verify`"),
    ("order of equals turned", changes.ties_turned, "events of one microsecond stand in another order", "nothing: where an order decides between them, it is the issuer's word"),
    ("month dropped", changes.month_dropped, "late usage of a month is left off", "the month's log, listed by VERIFY.md step 3 and `tally-verify`"),
]


def tally_verify(folder, outside):
    command = [os.environ["TALLY_VERIFY_BIN"], folder, "--log-key", outside["key"], "--format", "json"]
    if outside.get("kept"):
        command += ["--checkpoint", outside["kept"], "--log", outside["tiles"]]
    if outside.get("earlier"):
        command += ["--previous", outside["earlier"]]
    return subprocess.run(command, capture_output=True, text=True)


def ours(folder, outside):
    done = tally_verify(folder, outside)
    if done.returncode in (0, 1):
        return json.loads(done.stdout)["differences"]
    return [Broken("exit status %d: %s" % (done.returncode, done.stderr.strip()))]


def decoded(folder, name):
    return duckdb.execute("FROM read_parquet('%s')" % (folder / name)).fetchall()


def in_footer(file, folder):
    """Whether the first changed byte of a Parquet file lies in what describes its row groups."""
    before, after = (GOLDEN / file).read_bytes(), (folder / file).read_bytes()
    at = next(at for at, (one, other) in enumerate(zip(before, after)) if one != other)
    return at >= len(before) - 8 - int.from_bytes(before[-8:-4], "little")


def named(attack, findings, folder):
    """What ours must name: the file, and in data the row or the row group, in registry documents the line. A changed event shows by its readings.
    Where the rows are what they were, the file is enough."""
    if attack == "byte flipped in %s" % DOCUMENTS:
        lines = [(GOLDEN / DOCUMENTS).read_bytes(), (folder / DOCUMENTS).read_bytes()]
        line = 1 + next(at for at, (before, after) in enumerate(zip(*(content.split(b"\n") for content in lines))) if before != after)
        return any(finding["file"] == DOCUMENTS and finding["row"] == "line %d" % line for finding in findings)
    if not attack.startswith("byte flipped in data/"):
        return True
    file = attack.split(" ")[-1]
    if any(finding["file"] == file and finding["row"] for finding in findings):
        return True
    try:
        before, after = decoded(GOLDEN, file), decoded(folder, file)
    except duckdb.Error:
        # No row lies in the footer: a reader that gets every row all the same can only name the digest or the signature.
        return in_footer(file, folder) and bool(findings)
    if before == after:
        return any(finding["file"] == file for finding in findings)
    changed = [row[0] for row in before if row not in after]
    return file == "data/events.parquet" and any(finding["row"].endswith(" of event %d" % number) for finding in findings for number in changed)


def expected(attack, cover, found):
    """Whether an insider's attack was found by what is there for it."""
    if not cover.startswith("signed with the right keys"):
        return True
    checks, stages = EXPECTED[attack]
    return any(finding.split(": ")[0] in checks for finding in found["DuckDB"]) and any(finding["stage"] in stages for finding in found[OURS])


def page(results):
    programs = list(verify_bundle.PROGRAMS) + [OURS]
    lines = [
        "# Attacks on a bundle, and who finds them", "",
        "Generated by `evidence/tests/foreign/attack_bundle.py`, which attacks copies of the frozen bundle at %d random places each (of a fixed seed) and runs every verifier." % TRIES,
        "A mark: found each time; a number: found so many times of %d; empty: not found, because that program does not look at it." % TRIES,
        "Every attack is found each time by `tally-verify` and by at least one program that is not ours. Those signed with the right keys are an insider's: they are found by the check that is there for them.",
        "", "## Found", "",
        "| Attack | Cover-up | " + " | ".join(programs) + " |", "|-|-|" + "-|" * len(programs),
    ]
    for (attack, cover), counts in results.items():
        cells = ["✓" if counts[name] == TRIES else str(counts[name] or "") for name in programs]
        lines.append("| %s | %s | %s |" % (attack, cover, " | ".join(cells)))
    lines += ["", "## What nobody can see in the bundle alone", "", "An issuer with the right keys can do this, and every verifier accepts it. The last column says what shows it nevertheless.", "",
              "| Attack | What is done | Shown by |", "|-|-|-|"]
    lines += ["| %s | %s | %s |" % (attack, what, shown) for attack, _, what, shown in UNSEEN]
    return "\n".join(lines) + "\n"


def honest():
    """Honest bundles, and what is wrong with an answer about them."""
    wrong = []
    with tempfile.TemporaryDirectory() as name:
        cosigned = Copy(pathlib.Path(name) / "cosigned", random.Random(SEED))
        note = cosigned.path("log/checkpoint").read_text()
        text, line = note.split("\n\n")
        witness = Key("witness.example", bytes([5] * 32)).note(text + "\n").split("\n\n")[1]
        cosigned.put("log/checkpoint", "%s\n\n%s%s%s" % (text, line, witness, Key("other.example", bytes([6] * 32)).note(text + "\n").split("\n\n")[1]))
        cosigned.listed(signed=True)
        for what, folder, outside in [
            ("the frozen bundle", GOLDEN, {}), ("beside kept invoices", GOLDEN, {"earlier": BEFORE}),
            ("beside an older kept checkpoint", GOLDEN, {"kept": BEFORE / "log" / "checkpoint", "entries": ENTRIES, "tiles": TILES}),
            ("with a checkpoint that witnesses signed", cosigned.folder, {}),
        ]:
            outside["key"] = PINNED
            answers = verify_bundle.verify(folder, outside)
            answers[OURS] = ours(folder, outside)
            wrong += ["%s is refused by %s: %s" % (what, name, findings[0]) for name, findings in answers.items() if findings]
        for number, (attack, change, _, _) in enumerate(UNSEEN):
            copy = Copy(pathlib.Path(name) / str(number), random.Random(SEED))
            change(copy)
            copy.checked()
            copy.listed(signed=True)
            answers = verify_bundle.verify(copy.folder, {"key": PINNED})
            answers[OURS] = ours(copy.folder, {"key": PINNED})
            # One that is found belongs into the other table.
            wrong += ["%s is seen by %s: %s" % (attack, name, findings[0]) for name, findings in answers.items() if findings]
            october = next(log for log in json.loads(tally_verify(copy.folder, {"key": PINNED}).stdout)["logs"] if log["month"] == "202610")
            if attack in ("log shortened", "month dropped") and not (october["to"] is None or int(october["to"]) < int(october["size"])):
                wrong.append("%s is not shown: %s" % (attack, october))
    return wrong


def texts():
    """How verify.sql reads a quantity's text, beside exact decimals."""
    macros = SQL[: SQL.index("-- 1. Files.")]
    with duckdb.connect() as connection:
        connection.execute(macros)
        wrong = []
        for text in ("1.50", "+5", "007", "1e3", "-15E-1", "0.5e+2", "-0", "1e-9", "0e-20", "100e-11", "99999999999999999999999999999.999999999", "0.000000001", "12.3400000000000"):
            holds = connection.execute("SELECT is_quantity(?) AND TRY_CAST(? AS DECIMAL(38, 9)) = CAST(? AS DECIMAL(38, 9))", [text, text, format(Decimal(text), "f")]).fetchone()[0]
            wrong += [] if holds else ["%r is a quantity" % text]
        for text in ("", "+", "--1", "1_000", " 1", ".5", "5.", "5e", "e5", "1e5.0", "true", "0x10", "NaN", "1.0000000001", "1e-10", "15e-10", "1\n"):
            if connection.execute("SELECT coalesce(is_quantity(?), false)", [text]).fetchone()[0]:
                wrong.append("%r is no quantity" % text)
    return wrong


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
            broken = [program for program, findings in found.items() if any(isinstance(finding, Broken) for finding in findings)]
            foreign = [program for program in verify_bundle.PROGRAMS if found[program]]
            good = not broken and foreign and found[OURS] and named(attack, found[OURS], copy.folder) and expected(attack, cover, found)
        shown = "try %d: broken %s, foreign %s, DuckDB %s, ours %s" % (at, broken, foreign, found["DuckDB"][:3], found[OURS][:3])
        tries.append(([program for program in found if found[program] and program not in broken], None if good else shown))
    return tries


def main():
    part = sys.argv[1] if len(sys.argv) > 1 else ""
    verify_bundle.go_program()
    refused = honest() + texts()
    for problem in refused:
        print(problem)
    if refused:
        return 1
    results, wrong = {}, 0
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
