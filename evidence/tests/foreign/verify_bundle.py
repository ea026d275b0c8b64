"""Verifies a bundle with programs that this project did not write: stock DuckDB runs the bundle's verify.sql, OpenSSL the commands of its
VERIFY.md as they stand there, Go's x/mod note and tlog (check.go, with the copy inside the Go toolchain of PyPI) and aics-tlog the signed notes and
proofs, securesystemslib the DSSE envelope, in-toto-attestation its statements. Python only carries bytes between them.

    python verify_bundle.py [BUNDLE [VERIFIER-KEY]]     without arguments: the frozen bundle of tests/golden, and VERIFY.md's DuckDB commands

Exit status 0: every program accepts. Needs the pinned packages of tests/foreign/requirements.txt, openssl, and a POSIX shell.
"""

import base64
import contextlib
import functools
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import duckdb
from google.protobuf import json_format
from in_toto_attestation.v1.statement import Statement
from in_toto_attestation.v1.statement_pb2 import Statement as StatementPb
from securesystemslib.dsse import Envelope
from securesystemslib.signer import SSlibKey

HERE = pathlib.Path(__file__).resolve().parent
GOLDEN = HERE.parent / "golden" / "bundle"
BEFORE = HERE.parent / "golden" / "bundle_before"
ENTRIES = HERE.parent / "golden" / "bundle_log" / "tile" / "entries"
BIN = pathlib.Path(sys.executable).parent


class Broken(str):
    """A program ended in another way than its refusals do: no verdict."""


@contextlib.contextmanager
def inside(folder):
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def by_duckdb(folder, outside):
    """Rows of verify.sql; an error of DuckDB is a refusal too, as VERIFY.md says, but names no check. The SQL is this project's copy: a forger would bring his own."""
    sql = (HERE.parent.parent / "src" / "bundle" / "verify.sql").read_text(encoding="utf-8")
    connection = duckdb.connect(config={"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"})
    try:
        with inside(folder):
            if outside.get("earlier"):
                connection.execute("SET VARIABLE earlier = '%s/invoice.json'" % outside["earlier"])
            rows = connection.execute(sql).fetchall()
        return ["%s: %s: expected %s, found %s" % row for row in rows]
    except (duckdb.Error, UnicodeDecodeError) as error:
        return ["refused: %s" % str(error).splitlines()[0]]
    finally:
        connection.close()


def by_openssl(folder, outside):
    """The shell commands of VERIFY.md, step 1, as they stand there."""
    done = subprocess.run(["bash", "-c", blocks()[1]], cwd=folder, capture_output=True, text=True)
    findings = []
    if done.returncode != 0 or done.stdout.count("Signature Verified Successfully") != 3:
        findings.append((done.stdout + done.stderr).strip().splitlines()[-1] if done.stdout + done.stderr else "cmp differs")
    key = outside["key"].split("+", 2)[2]
    if done.stdout.split("\n")[0] != key:
        findings.append("keys/log.pem is not the pinned key")
    return findings


@functools.cache
def go_program():
    """check.go built with the toolchain's own copy of golang.org/x/mod: no module is fetched."""
    go = BIN / "go"
    environment = dict(os.environ, GOFLAGS="-mod=mod", GOPROXY="off", GOTOOLCHAIN="local", GO111MODULE="on", GONOSUMDB="*")
    root = subprocess.run([go, "env", "GOROOT"], env=environment, capture_output=True, text=True, check=True).stdout.strip()
    vendored = pathlib.Path(root) / "src" / "cmd" / "vendor" / "golang.org" / "x" / "mod"
    folder = pathlib.Path(tempfile.mkdtemp(prefix="tally-go-"))
    for package in ("sumdb/note", "sumdb/tlog"):
        shutil.copytree(vendored / package, folder / package)
    (folder / "check").mkdir()
    shutil.copy(HERE / "check.go", folder / "check" / "main.go")
    (folder / "go.mod").write_text("module golang.org/x/mod\n\ngo 1.23\n")
    program = folder / "check-bundle"
    subprocess.run([go, "build", "-o", program, "./check"], cwd=folder, env=environment, check=True)
    return program


def by_go(folder, outside):
    command = [go_program(), folder, outside["key"]]
    if outside.get("kept"):
        command += [outside["kept"]] + ([outside["entries"]] if outside.get("entries") else [])
    done = subprocess.run(command, capture_output=True, text=True)
    lines = (done.stdout + done.stderr).strip().splitlines()
    if done.returncode not in (0, 1):
        return [Broken("exit status %d: %s" % (done.returncode, lines[:1]))]
    return lines if done.returncode else []


def by_aics_tlog(folder, outside):
    """Signed notes and proofs once more, by the other C2SP implementation; the log's own tiles when a kept checkpoint is given."""
    findings = []

    def run(*arguments):
        done = subprocess.run([BIN / "aics-tlog", *map(str, arguments)], capture_output=True, text=True)
        if done.returncode:
            kind = str if done.returncode == 1 else Broken
            findings.append(kind("%s: %s" % (arguments[0], (done.stderr + done.stdout).strip().splitlines()[-1])))

    run("verify-checkpoint", "--note", folder / "log/checkpoint", "--log-key", outside["key"])
    try:
        proof = json.loads((folder / "log/proof.json").read_text())
        _, size, root = (folder / "log/checkpoint").read_text().split("\n")[:3]
        heads, leaf = json.loads(proof["entry"]["text"]), json.loads(proof["organization"]["leaf"])
        b64 = lambda text: base64.b64encode(bytes.fromhex(text)).decode()
        with tempfile.TemporaryDirectory() as name:
            scratch = pathlib.Path(name)

            def included(text, index, size, root, path):
                (scratch / "leaf").write_bytes(text.encode())
                (scratch / "proof").write_text("".join(b64(item) + "\n" for item in path))
                run("verify-inclusion", "--leaf", scratch / "leaf", "--index", index, "--size", size, "--root", root, "--proof", scratch / "proof")

            included(proof["entry"]["text"], int(size) - 1, size, root, proof["entry"]["path"])
            organization = proof["organization"]
            included(organization["leaf"], organization["index"], heads["organizations"], b64(heads["organizations_root"]), organization["path"])
            later = {log["month"]: log for log in leaf["logs"]}
            for log in proof["logs"]:
                (scratch / "proof").write_text("".join(b64(item) + "\n" for item in log["path"]))
                end = later[log["month"]]
                run("verify-consistency", "--old-size", log["size"], "--old-root", b64(log["root"]), "--new-size", end["size"], "--new-root", b64(end["root"]),
                    "--proof", scratch / "proof")
    except (ValueError, KeyError, IndexError, OSError) as error:
        findings.append("proof: %r" % error)
    if outside.get("kept") and outside.get("tiles"):
        run("verify-consistency", "--old-checkpoint", outside["kept"], "--checkpoint", folder / "log/checkpoint", "--log-key", outside["key"], "--tiles", outside["tiles"])
    return findings


def by_securesystemslib(folder, outside):
    """The envelope, by the bundle key that the note vouches for."""
    try:
        envelope = Envelope.from_dict(json.loads((folder / "manifest.dsse.json").read_text()))
        vouched = (folder / "keys/bundle.note").read_text().split("\n")[1]
        _, keyid, encoded = vouched.split("+", 2)
        # Keys match by the envelope's keyid string.
        key = SSlibKey(keyid, "ed25519", "ed25519", {"public": base64.b64decode(encoded)[1:].hex()})
        envelope.verify([key], 1)
        return [] if envelope.payload == (folder / "manifest.json").read_bytes() else ["the payload is not manifest.json"]
    except Exception as error:  # whatever a program that is not ours raises is a refusal
        return ["%s: %s" % (type(error).__name__, error)]


def by_in_toto(folder, outside):
    findings = []
    for name in ("manifest.json", "provenance.json"):
        try:
            Statement.copy_from_pb(json_format.Parse((folder / name).read_text(), StatementPb())).validate()
        except Exception as error:  # whatever a program that is not ours raises is a refusal
            findings.append("%s: %s: %s" % (name, type(error).__name__, error))
    return findings


PROGRAMS = {
    "DuckDB": by_duckdb,
    "OpenSSL": by_openssl,
    "Go x/mod": by_go,
    "aics-tlog": by_aics_tlog,
    "securesystemslib": by_securesystemslib,
    "in-toto-attestation": by_in_toto,
}


def verify(folder, outside):
    """What each program refuses: name → findings."""
    folder = pathlib.Path(folder).resolve()
    return {name: program(folder, outside) for name, program in PROGRAMS.items()}


def blocks():
    """The commands of VERIFY.md: step number → its shell commands."""
    page = (HERE.parent.parent / "src" / "bundle" / "VERIFY.md").read_text(encoding="utf-8")
    return {step: re.search(r"\n## %d\..*?```\n(.*?)```" % step, page, re.S).group(1) for step in (1, 2, 3, 4)}


def documented():
    """Steps 2 to 4 of VERIFY.md with the duckdb program, as they stand there: what does not go as the page says."""
    wrong = []
    environment = dict(os.environ, PATH="%s%s%s" % (BIN, os.pathsep, os.environ["PATH"]))
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name) / "bundle"
        shutil.copytree(GOLDEN, folder)
        (folder.parent / "earlier").mkdir()
        shutil.copytree(BEFORE, folder.parent / "earlier" / "202610")

        def run(step, wanted):
            done = subprocess.run(["bash", "-c", "set -e\n" + blocks()[step]], cwd=folder, env=environment, capture_output=True, text=True)
            if done.returncode or not all(text in done.stdout for text in wanted):
                wrong.append("step %d: exit status %d: %s" % (step, done.returncode, (done.stderr + done.stdout)[-300:]))

        run(2, ["0 rows"])
        run(3, ["gateway-1", "tokens.out", "leaves_in_the_log"])
        run(4, ["0 rows"])
        if sorted(os.listdir(folder)) != sorted(os.listdir(GOLDEN)):
            wrong.append("the commands left something in the folder")
        kept = folder.parent / "earlier" / "202610" / "invoice.json"
        kept.write_text(kept.read_text().replace('"to":"', '"to":"1'))
        run(4, ["from of a log, by the earlier invoices"])
        invoice = folder / "invoice.json"
        invoice.write_text(invoice.read_text().replace('"kind":"usage"', '"kind":"adjustment"', 1))
        run(2, ["digest of a file", "kind of a line"])
    return wrong


def main():
    folder = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else GOLDEN
    key = sys.argv[2] if len(sys.argv) > 2 else json.loads((folder / "manifest.json").read_text())["predicate"]["log_key"]
    refused = False
    for name, findings in verify(folder, {"key": key}).items():
        print("%s: %s" % (name, "holds" if not findings else "REFUSES"))
        for finding in findings[:20]:
            print("    " + finding)
        refused = refused or bool(findings)
    if len(sys.argv) == 1:
        wrong = documented()
        print("VERIFY.md, steps 2 to 4: %s" % ("go as it says" if not wrong else "\n    ".join(["DO NOT GO AS IT SAYS"] + wrong)))
        refused = refused or bool(wrong)
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main())
