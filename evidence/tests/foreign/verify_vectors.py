"""Verifies golden/vectors.json with tools that this project did not write: stock DuckDB recomputes everything in SQL
(verify_vectors.sql), OpenSSL checks every signature. Python only carries bytes between them.

Then it plants changes into copies of the file, one at a time; each must be found.

    python verify_vectors.py          one change of each kind
    python verify_vectors.py --all    a changed digit in every single value

Exit status 0: the file holds and every planted change was found. Needs the pinned packages of tests/foreign/requirements.txt and openssl.
"""

import base64
import copy
import json
import pathlib
import re
import subprocess
import sys
import tempfile

import duckdb

HERE = pathlib.Path(__file__).resolve().parent
VECTORS = HERE.parent / "golden" / "vectors.json"
SQL = (HERE / "verify_vectors.sql").read_text()
# SubjectPublicKeyInfo of Ed25519 (RFC 8410) up to the 32 bytes of the key.
ED25519_PREFIX = bytes.fromhex("302a300506032b6570032100")
# Changes that leave the amount as it is, rightly: a flat fee is owed only for usage above zero.
HARMLESS = {("lines", 2, "tiers", 0, "flat_fee")}


def sql_failures(path):
    """Rows of the view `failures`; an error of DuckDB counts as one."""
    connection = duckdb.connect()
    try:
        connection.execute("SET VARIABLE vectors = '%s'" % str(path).replace("'", "''"))
        connection.execute(SQL)
        return ["%s: %s" % row for row in connection.execute("SELECT what, subject FROM failures").fetchall()]
    except duckdb.Error as error:
        return ["refused: %s" % str(error).splitlines()[0]]
    finally:
        connection.close()


def signature_failures(document, folder):
    """Checks each note's Ed25519 signature over its text with OpenSSL."""
    try:
        key = base64.b64decode(document["key"]["verifier_key"].split("+", 2)[2], validate=True)
    except ValueError as error:
        return ["verifier key: %s" % error]
    public, text_file, signature_file = (folder / name for name in ("key.der", "text", "signature"))
    public.write_bytes(ED25519_PREFIX + key[1:])
    failures = []
    for checkpoint in document["checkpoints"]:
        text, _, line = checkpoint["note"].rpartition("\n\n")
        try:
            signature = base64.b64decode(line.rstrip("\n").split(" ")[2], validate=True)
        except (ValueError, IndexError) as error:
            failures.append("signature %s: %s" % (checkpoint["tree_size"], error))
            continue
        text_file.write_bytes((text + "\n").encode())
        signature_file.write_bytes(signature[4:])
        command = ["openssl", "pkeyutl", "-verify", "-pubin", "-keyform", "DER", "-inkey", public, "-rawin", "-in", text_file]
        outcome = subprocess.run(command + ["-sigfile", signature_file], capture_output=True, text=True)
        if outcome.returncode != 0:
            failures.append("signature %s: %s" % (checkpoint["tree_size"], (outcome.stdout + outcome.stderr).strip()))
    return failures


def failures(document, folder):
    path = folder / "vectors.json"
    path.write_text(json.dumps(document, ensure_ascii=False))
    return sql_failures(path) or signature_failures(document, folder)


def strings(value, path=()):
    """Every string of the document with its path."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for name, member in value.items():
            yield from strings(member, path + (name,))
    elif isinstance(value, list):
        for index, member in enumerate(value):
            yield from strings(member, path + (index,))


def changed(text):
    """One digit or letter replaced: the first digit above zero of a number, the middle character of anything else."""
    number = re.fullmatch(r"-?[0-9.]+", text)
    places = [at for at, c in enumerate(text) if c.isascii() and c.isalnum()]
    significant = [at for at in places if text[at] not in "0"] if number else []
    at = significant[0] if significant else places[len(places) // 2]
    successor = {"9": "8", "f": "a", "z": "a", "Z": "A"}.get(text[at]) or chr(ord(text[at]) + 1)
    return text[:at] + successor + text[at + 1 :]


def put(document, path, value):
    for step in path[:-1]:
        document = document[step]
    document[path[-1]] = value


def planted(document, every):
    """(description, changed copy) pairs."""
    seen = set()
    for path, text in strings(document):
        kind = tuple("*" if isinstance(step, int) else step for step in path)
        if path in HARMLESS or (not every and kind in seen):
            continue
        seen.add(kind)
        copied = copy.deepcopy(document)
        put(copied, path, changed(text))
        yield "changed %s" % "/".join(map(str, path)), copied
    for name in document["counts"]:
        for position, verb in ((0, "dropped"), (-1, "dropped"), (0, "repeated")):
            copied = copy.deepcopy(document)
            if verb == "dropped":
                del copied[name][position]
            else:
                copied[name].insert(0, copied[name][0])
            copied["counts"][name] = str(len(copied[name]))
            yield "%s %s/%s" % (verb, name, position), copied
    for at, checkpoint in enumerate(document["checkpoints"]):
        text, _, line = checkpoint["note"].rpartition("\n\n")
        copied = copy.deepcopy(document)
        signature = bytearray(base64.b64decode(line.rstrip("\n").split(" ")[2]))
        signature[4] ^= 1
        encoded = base64.b64encode(signature).decode()
        copied["checkpoints"][at]["note"] = "%s\n\n%s\n" % (text, " ".join(line.split(" ")[:2] + [encoded]))
        yield "changed the signature of checkpoint %s" % checkpoint["tree_size"], copied


def main():
    document = json.loads(VECTORS.read_text())
    every = "--all" in sys.argv[1:]
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        found = sql_failures(VECTORS) + signature_failures(document, folder)
        for failure in found:
            print("FAILED", failure)
        if found:
            return 1
        print("duckdb %s and openssl: vectors.json holds" % duckdb.__version__)
        missed, count = [], 0
        for what, copied in planted(document, every):
            count += 1
            if not failures(copied, folder):
                missed.append(what)
                print("NOT FOUND", what)
        print("%d planted changes, %d not found" % (count, len(missed)))
        return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
