"""The audit's records and heads, computed without any code of ours: hashlib and json only.

Without arguments it checks tests/golden/vectors.json and exits 1 at the first difference; `write` makes the file.
A record's text is JSON with sorted keys, no spaces, every value a text, null or an object of texts; its digest is SHA-256 of the text.
The head over all chains is the root of an RFC 6962 tree over {"chain","digest","seq"}, sorted by chain.
"""
import hashlib
import json
import pathlib
import sys

GOLDEN = pathlib.Path(__file__).parent.parent / "golden" / "vectors.json"
REGISTRY = {
    "iam.organization.add": ("change", "organization", "notice"),
    "iam.key.present": ("access", "key", "notice"),
    "iam.key.revoke": ("change", "key", "warning"),
}
RECORDS = [
    ("organization/acme", "iam.organization.add", "done", "local", "operator", None, "acme", "2026-11-25T10:00:00Z", 1,
     {"name": "Acme \"€\" \\ \u0001 Ltd"}),
    ("deployment", "iam.key.present", "denied", "unknown", None, None, "", "2026-11-25T10:00:01.5Z", 12345,
     {"reason": "unknown", "route": "GET /v1/keys", "last_at": "2026-11-25T10:00:59Z"}),
    ("organization/acme", "iam.key.revoke", "done", "app", "customer", "tally_0QqO9M6zhAV", "tally_0QqO9M6zhAV",
     "2026-11-25T10:00:02Z", 1, {}),
]


def canonical(value):
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def sha(data):
    return hashlib.sha256(data)


def root(leaves):
    if not leaves:
        return sha(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    at = 1
    while at * 2 < len(leaves):
        at *= 2
    return sha(b"\x01" + root(leaves[:at]) + root(leaves[at:])).digest()


def vectors():
    ends, records = {}, []
    for chain, action, outcome, principal, role, key, target, at, count, detail in RECORDS:
        seq, previous = ends.get(chain, (0, "0" * 64))
        kind, target_type, severity = REGISTRY[action]
        # Instants have six decimal places or none.
        at = at.replace(".5Z", ".500000Z")
        text = canonical({
            "action": action, "at": at, "chain": chain, "class": kind, "count": str(count), "detail": detail, "key": key,
            "outcome": outcome, "previous": previous, "principal": principal, "role": role, "seq": str(seq + 1),
            "severity": severity, "target": target, "target_type": target_type, "v": "1",
        })
        digest = sha(text.encode()).hexdigest()
        ends[chain] = (seq + 1, digest)
        records.append({"content": text, "digest": digest})
    leaves = [sha(b"\x00" + canonical({"chain": chain, "digest": ends[chain][1], "seq": str(ends[chain][0])}).encode()).digest()
              for chain in sorted(ends)]
    return {"records": records, "head": root(leaves).hex()}


if sys.argv[1:] == ["write"]:
    GOLDEN.write_text(json.dumps(vectors(), ensure_ascii=False, indent=1) + "\n")
elif json.loads(GOLDEN.read_text()) != vectors():
    sys.exit(f"{GOLDEN} is not what this program computes")
else:
    print(f"{GOLDEN.name}: {len(RECORDS)} records and the head over their chains hold")
