"""What the attacks of attack_bundle.py change: each function takes the copy and changes something at a random place. One that needs something
from outside, a kept checkpoint or invoice, answers with it.
"""

import base64
import json
from decimal import Decimal

import duckdb

from forger import LOG, ORIGIN, PINNED, canonical, sha256
from verify_bundle import BEFORE, ENTRIES

TILES = ENTRIES.parent.parent


def cents(text, change):
    """A decimal text moved by some cents."""
    return format((Decimal(text) + Decimal(change) / 100).normalize(), "f")


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


def taken_back(copy, where="true"):
    """A reading that was rated again: month and number of the leaf that takes it back, its event and meter."""
    rows = duckdb.execute("SELECT month, log_seq, event, meter FROM (SELECT *, row_number() OVER (PARTITION BY event, meter, start_at ORDER BY log_seq) AS n, count(*) OVER (PARTITION BY event, meter, start_at) AS leaves"
                          " FROM '%s') WHERE n = 2 AND leaves > 2 AND %s ORDER BY ALL" % (copy.path("data/readings.parquet"), where)).fetchall()
    return copy.dice.choice(rows)


def leaves_removed(copy, month, log_seq, count):
    copy.rows("DELETE FROM r WHERE month = %d AND log_seq BETWEEN %d AND %d" % (month, log_seq, log_seq + count - 1),
              "UPDATE r SET log_seq = log_seq - %d WHERE month = %d AND log_seq > %d" % (count, month, log_seq))


def taking_back_left_out(copy):
    """A reading stands twice: the leaf that takes the first one back is gone."""
    month, log_seq, _, _ = taken_back(copy)
    leaves_removed(copy, month, log_seq, 1)


def correction_left_out(copy):
    """A reading stays at the price that was corrected for the others."""
    month, log_seq, _, _ = taken_back(copy)
    leaves_removed(copy, month, log_seq, 2)


def another_reading_taken_back(copy):
    month, log_seq, event, meter = taken_back(copy)
    other = copy.pick("month = %d AND meter = '%s' AND event <> %d" % (month, meter, event))[2]
    copy.rows("UPDATE r SET event = %d WHERE month = %d AND log_seq = %d" % (other, month, log_seq))


def another_quantity_taken_back(copy):
    month, log_seq, _, _ = taken_back(copy, "quantity <> 0")
    copy.rows("UPDATE r SET quantity = quantity / 2 WHERE month = %d AND log_seq = %d" % (month, log_seq))


def put_back_at_another_price(copy):
    month, log_seq, _, _ = taken_back(copy, "sku = 'tokens.out.long'")
    copy.rows("UPDATE r SET sku = 'tokens.out', price_id = 'out-1' WHERE month = %d AND log_seq = %d" % (month, log_seq + 1))


def put_back_as_it_was(copy):
    """The leaf that stands again names the version that was corrected, and is priced by it."""
    month, log_seq, _, _ = taken_back(copy)
    old = "(SELECT %%s FROM r WHERE month = %d AND log_seq = %d)" % (month, log_seq)
    copy.rows("UPDATE r SET %s WHERE month = %d AND log_seq = %d"
              % (", ".join("%s = %s" % (column, old % column) for column in ("registry_version", "contract", "sku", "price_id")), month, log_seq + 1))


def piece(copy):
    """A piece of an event's billed time."""
    rows = duckdb.execute("SELECT month, log_seq FROM '%s' WHERE start_at IS NOT NULL ORDER BY ALL" % copy.path("data/readings.parquet")).fetchall()
    return "month = %d AND log_seq = %d" % copy.dice.choice(rows)


def piece_moved(copy):
    copy.rows("UPDATE r SET start_at = start_at + INTERVAL 1 SECOND, end_at = end_at + INTERVAL 1 SECOND WHERE " + piece(copy))


def piece_lengthened(copy):
    copy.rows("UPDATE r SET end_at = end_at + INTERVAL %d MICROSECOND WHERE %s" % (copy.dice.choice([1, 60_000_000]), piece(copy)))


def piece_of_another_level(copy):
    copy.rows("UPDATE r SET quantity = quantity + 1 WHERE " + piece(copy))


def pieces_cut_anew(copy):
    """A piece that a later version cuts: month, number of the leaf that takes it back, and of the leaf of the piece that begins at the cut."""
    rows = duckdb.execute(
        """WITH r AS (SELECT r.* REPLACE (coalesce(r.start_at, e.start_at) AS start_at, CASE WHEN r.start_at IS NULL THEN e.end_at ELSE r.end_at END AS end_at) FROM '%s' AS r JOIN '%s' AS e USING (event) WHERE e.type = 'lease'),
        n AS (SELECT *, row_number() OVER chain AS n, lead(end_at) OVER chain AS cut FROM r WINDOW chain AS (PARTITION BY event, meter, start_at ORDER BY log_seq))
        SELECT n.month, n.log_seq, b.log_seq FROM n JOIN r AS b ON b.event = n.event AND b.meter = n.meter AND b.start_at = n.cut WHERE n.n = 2 AND n.cut < n.end_at ORDER BY ALL"""
        % (copy.path("data/readings.parquet"), copy.path("data/events.parquet"))).fetchall()
    return copy.dice.choice(rows)


def pieces_gone(copy):
    """A piece that a later version does not have: month and number of the leaf that takes it back for good."""
    rows = duckdb.execute("SELECT month, max(log_seq) FROM '%s' WHERE start_at IS NOT NULL GROUP BY event, meter, start_at, month HAVING count(*) = 2 ORDER BY ALL"
                          % copy.path("data/readings.parquet")).fetchall()
    return copy.dice.choice(rows)


def piece_not_cut(copy):
    """A piece stands as it was before a price that began inside it: neither taken back nor cut."""
    month, back, born = pieces_cut_anew(copy)
    leaves_removed(copy, month, born, 1)
    leaves_removed(copy, month, back, 2)


def piece_of_both_versions(copy):
    """Time is billed twice: a piece stands as the former version cut it, beside the one that the later version cuts from it."""
    month, back, _ = pieces_cut_anew(copy)
    leaves_removed(copy, month, back, 2)


def piece_left_out(copy):
    """A piece is cut, and what lies behind the cut is not there."""
    month, _, born = pieces_cut_anew(copy)
    leaves_removed(copy, month, born, 1)


def piece_taken_back_for_good(copy):
    """A piece is taken back, and the one that begins with it is not there."""
    month, back, _ = pieces_cut_anew(copy)
    leaves_removed(copy, month, back + 1, 1)


def piece_by_the_former_version(copy):
    """A piece names a version that does not have it."""
    month, back, born = pieces_cut_anew(copy)
    copy.rows("UPDATE r SET registry_version = (SELECT registry_version FROM r WHERE month = %d AND log_seq = %d) WHERE month = %d AND log_seq = %d" % (month, back, month, born))


def piece_kept(copy):
    """A piece stands that the later version does not have: what is billed there is billed twice."""
    month, back = pieces_gone(copy)
    leaves_removed(copy, month, back, 1)


def history_changed(copy):
    """A lease runs on where its source says that it was stopped."""
    events = duckdb.execute("SELECT event FROM '%s' WHERE type = 'lease' ORDER BY ALL" % copy.path("data/events.parquet")).fetchall()
    copy.rows("""UPDATE e SET data = replace(data, '"state":"stopped"', '"state":"running"') WHERE event = %d""" % copy.dice.choice(events)[0])


def reading_cut(copy):
    """A reading that is no piece has times of its own."""
    month, log_seq, event = copy.pick("meter = 'llm.tokens.in'")
    copy.rows("UPDATE r SET start_at = (SELECT start_at + INTERVAL 1 SECOND FROM e WHERE event = %d) WHERE month = %d AND log_seq = %d" % (event, month, log_seq))


def tie_removed(copy):
    """Of events that start together none is the first any more: an order that decides is gone."""
    starts = duckdb.execute("SELECT start_at FROM '%s' WHERE tie > 0 ORDER BY ALL" % copy.path("data/events.parquet")).fetchall()
    copy.rows("UPDATE e SET tie = NULL WHERE start_at = TIMESTAMP '%s'" % copy.dice.choice(starts)[0])


def ties_turned(copy):
    """Events that start together come in the opposite order, and everything else follows."""
    copy.rows("UPDATE e SET tie = 1000 - tie")
    copy.rerated()


def price_in_the_registry(copy):
    """A dearer price in the documents, with every name and index that follows; what the leaves name is rewritten too."""
    documents = copy.documents()
    old = next(document for document in documents if '"kind":"price_book"' in document and "out-2" in document)
    price = copy.dice.choice(['"unit_price":"2.64"', '"unit_price":"0.0021"', '"unit_price":"2.79"'])
    assert price in old
    new = old.replace(price, price[:-2] + str((int(price[-2]) + 1) % 10) + '"')
    copy.put_documents([new if document == old else document for document in documents])
    before, after = (sha256(document.encode()).hex() for document in (old, new))
    copy.reindexed(lambda index: json.loads(canonical(index).replace(before, after)))


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
    # A line of free readings alone may be left out.
    line = copy.dice.choice([line for line in invoice["lines"] if line["prices"]])
    invoice["lines"].remove(line)
    for number, other in enumerate(invoice["lines"], 1):
        other["number"] = str(number)
    invoice["total"] = format((Decimal(invoice["total"]) - Decimal(line["amount"])).normalize(), "f")
    copy.put("invoice.json", invoice)


def term_invented(copy):
    """A line of a term that the contract does not have, and everything on the invoice that must follow it."""
    invoice = copy.json("invoice.json")
    line, amount = invoice["lines"][0], copy.dice.choice(["250", "-0.5"])
    invoice["terms"] = [{
        "amount": amount, "contract": line["contract"], "description": "Minimum spend", "invoiced_before": "0", "number": str(len(invoice["lines"]) + 1), "over": "everything",
        "rule": {"minimum_spend": {"amount": "1000"}}, "service_period": line["service_period"], "spend": "750", "term": "least", "term_amount": amount}]
    invoice.update(v="2", total=format((Decimal(invoice["total"]) + Decimal(amount)).normalize(), "f"))
    copy.put("invoice.json", invoice)


def earlier_invoice_forgotten(copy):
    """An adjustment that charges again what an earlier invoice charged."""
    invoice = copy.json("invoice.json")
    line = copy.dice.choice([line for line in invoice["lines"] if line["invoiced_before"] != "0"])
    again = Decimal(line["invoiced_before"])
    line.update(invoiced_before="0", exact_before="0", exact=line["key_total"], kind="usage")
    line["amount"] = line["key_amount"]
    line["rounding"] = format((Decimal(line["amount"]) - Decimal(line["exact"])).normalize(), "f")
    invoice["total"] = format((Decimal(invoice["total"]) + again).normalize(), "f")
    copy.put("invoice.json", invoice)


def charged_twice(copy):
    """`from` lowered: what an earlier invoice charged is charged again, and everything else follows."""
    invoice = copy.json("invoice.json")
    log = next(log for log in invoice["logs"] if log["from"] != "0")
    log["from"] = "0"
    for line in invoice["lines"]:
        if line["service_period"] == log["month"]:
            line.update(kind="usage", exact_before="0", invoiced_before="0")
    copy.put("invoice.json", invoice)
    copy.rerated()


def charged_twice_beside_kept(copy):
    charged_twice(copy)
    return {"key": PINNED, "earlier": BEFORE}


def consistency(leaves, size, whole=True):
    """RFC 9162, 2.1.4.1."""
    if size == len(leaves):
        return [] if whole else [root(leaves)]
    middle = 1 << (len(leaves) - 1).bit_length() - 1
    if size <= middle:
        return consistency(leaves[:middle], size, whole) + [root(leaves[middle:])]
    return consistency(leaves[middle:], size - middle, False) + [root(leaves[:middle])]


def log_shortened(copy):
    """The invoice stops before the end of a log, where credits could stand; everything else follows."""
    invoice, proof = copy.json("invoice.json"), copy.json("log/proof.json")
    log = next(log for log in invoice["logs"] if log["month"] == "202610")
    leaves = copy.leaves(log["month"])
    size = len(leaves) - copy.dice.randrange(1, 8)
    copy.rows("DELETE FROM r WHERE month = 202610 AND log_seq >= %d" % size, "DELETE FROM e WHERE event NOT IN (SELECT event FROM r)")
    claim = next(claim for claim in proof["logs"] if claim["month"] == log["month"])
    claim.update(size=str(size), root=root(leaves[:size]).hex(), path=[node.hex() for node in consistency(leaves, size)])
    log["to"] = str(size)
    copy.put("invoice.json", invoice)
    copy.put("log/proof.json", proof)
    copy.rerated()


def log_cut(copy):
    """As above, without the path that shows it as a beginning of the log."""
    path = copy.json("log/proof.json")["logs"][0]["path"]
    log_shortened(copy)
    proof = copy.json("log/proof.json")
    proof["logs"][0]["path"] = path
    copy.put("log/proof.json", proof)


def month_dropped(copy):
    """Late usage, or credits, of an earlier month are left off the invoice."""
    invoice, proof = copy.json("invoice.json"), copy.json("log/proof.json")
    copy.rows("DELETE FROM r WHERE month = 202610", "DELETE FROM e WHERE event NOT IN (SELECT event FROM r)")
    for document in (invoice, proof):
        document["logs"] = [log for log in document["logs"] if log["month"] != "202610"]
    copy.put("invoice.json", invoice)
    copy.put("log/proof.json", proof)
    copy.rerated()


def withhold(copy, word):
    documents = copy.documents()
    copy.put_documents([document for document in documents if word not in document])
    assert len(copy.documents()) < len(documents)


def sku_withheld(copy):
    """The document of a more specific SKU is left out, its usage charged as the general one; the index of the registry stays true."""
    withhold(copy, '"id":"tokens.in.large","kind":"sku"')
    copy.rows("UPDATE r SET sku = 'tokens.in', price_id = 'in-1' WHERE sku = 'tokens.in.large'")
    copy.rerated()


def meter_withheld(copy):
    withhold(copy, '"id":"storage.hours"')


def document_changed(copy):
    """A document says something else, under the indexes as they were: no figure of the invoice follows from it."""
    documents = copy.documents()
    units = [document for document in documents if '"kind":"unit"' in document]
    chosen = copy.dice.choice(units)
    changed = json.loads(chosen)
    changed["scale"] = str(int(changed["scale"]) + 1)
    copy.put_documents([canonical(changed) if document == chosen else document for document in documents])


def document_repeated(copy):
    documents = copy.documents()
    copy.put_documents([*documents, copy.dice.choice(documents)])


def contract_ended(copy):
    """In November another contract, whose book prices nothing, took the place of the one that the usage is charged by."""
    made = [{"kind": "contract", "id": "nothing", "covers": "default", "price_book": "empty", "effective_at": "2026-11-%02dT00:00:00Z" % copy.dice.randrange(2, 20),
             "billing_period": "month"}, {"kind": "price_book", "id": "empty", "currency": "USD", "prices": []}]
    copy.put_documents([*copy.documents(), *map(canonical, made)])
    more = [{"digest": sha256(canonical(document).encode()).hex(), "kind": document["kind"]} for document in made]
    copy.reindexed(lambda index: index | {"documents": index["documents"] + more})


def false_provenance(copy):
    """The statement names other inputs than the files that are there."""
    statement = copy.json("provenance.json")
    files = statement["subject"] + statement["predicate"]["buildDefinition"]["resolvedDependencies"]
    copy.dice.choice(files)["digest"]["sha256"] = sha256(str(copy.dice.random()).encode()).hex()
    copy.put("provenance.json", statement)
    copy.provenance = False


def unit(copy):
    invoice = copy.json("invoice.json")
    line = copy.dice.choice(invoice["lines"])
    line["unit"] = "token" if line["unit"] != "token" else "request"
    copy.put("invoice.json", invoice)


def quantity_too_fine(copy):
    """A source's text with more places than a quantity has, rounded away; salts are the insider's, so only the tree holds him."""
    month, log_seq, event = copy.pick("meter = 'llm.tokens.in'")
    copy.rows("""UPDATE e SET data = regexp_replace(data, '"in":"([0-9]+)"', '"in":"\\1.0000000001"') WHERE event = %d""" % event)


def file_added(copy):
    name = copy.dice.choice(["notes.txt", "data/more.parquet", ".hidden", "registry/%s.json" % ("0" * 64)])
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


def flip_of_a_registry_index(copy):
    copy.flip(copy.dice.choice([name for name in copy.names() if name.startswith("registry/") and name.endswith(".json")]))


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
    texts[copy.dice.randrange(len(texts))] += b" "
    return kept(copy, texts)


def rewritten(copy):
    """The log was rewritten below the customer's checkpoint, and signed with the right key."""
    texts = entries()
    texts = texts[: copy.dice.randrange(2, len(texts))]
    texts[copy.dice.randrange(len(texts))] += b" "
    return kept(copy, texts)
