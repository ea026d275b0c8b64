-- Recomputes golden/vectors.json in stock DuckDB 1.5 (no extension beyond the built-in json). `failures` is empty when everything holds.
-- Needs: SET VARIABLE vectors = '<path of vectors.json>'. Signatures are OpenSSL's part (verify_vectors.py).
-- Money: quantities and prices are cut into limbs of nine digits, multiplied as 64-bit integers, added, carried and divided as
-- integers; DuckDB's decimal division and BIGNUM products are floats and are not used.

CREATE OR REPLACE MACRO h(bytes) AS unhex(sha256(bytes));

-- HMAC-SHA256 (RFC 2104) of a key of 32 bytes.
CREATE OR REPLACE MACRO padded_key(key, pad) AS
    CAST(xor(CAST(key || repeat('\x00'::BLOB, 32) AS BIT), CAST(repeat(pad, 64) AS BIT)) AS BLOB);
CREATE OR REPLACE MACRO hmac(key, message) AS
    h(padded_key(key, '\x5c'::BLOB) || h(padded_key(key, '\x36'::BLOB) || message));

-- RFC 3339 in UTC, six decimal places or none.
CREATE OR REPLACE MACRO instant_text(moment) AS
    strftime(moment, '%Y-%m-%dT%H:%M:%S')
    || CASE WHEN epoch_us(moment) % 1000000 = 0 THEN '' ELSE '.' || lpad(CAST(epoch_us(moment) % 1000000 AS VARCHAR), 6, '0') END || 'Z';

-- A decimal text as digits of an integer at a scale, without its sign; and that integer.
CREATE OR REPLACE MACRO magnitude(number, scale) AS
    ltrim(split_part(number, '.', 1), '-') || rpad(split_part(number, '.', 2), scale, '0');
CREATE OR REPLACE MACRO units(number, scale) AS
    CASE WHEN starts_with(number, '-') THEN -1 ELSE 1 END * CAST(magnitude(number, scale) AS HUGEINT);
-- A decimal(38,9) as plain text.
CREATE OR REPLACE MACRO decimal_text(number) AS
    regexp_replace(CAST(CAST(number AS DECIMAL(38, 9)) AS VARCHAR), '\.?0+$', '');

CREATE OR REPLACE TABLE document AS SELECT json FROM read_json_objects(getvariable('vectors'), format = 'unstructured');

CREATE OR REPLACE TABLE leaves AS SELECT unnest(from_json(json -> 'leaves', '[{"organization": "VARCHAR", "month": "VARCHAR",
    "log_seq": "VARCHAR", "meter": "VARCHAR", "unit": "VARCHAR", "quantity": "VARCHAR", "start_at": "VARCHAR", "end_at": "VARCHAR",
    "registry_version": "VARCHAR", "commitment": "VARCHAR", "text": "VARCHAR", "hash": "VARCHAR"}]'), max_depth := 2) FROM document;
CREATE OR REPLACE TABLE commitments AS SELECT unnest(from_json(json -> 'commitments', '[{"identity": "VARCHAR", "salt": "VARCHAR",
    "source_supplied": "VARCHAR", "commitment": "VARCHAR"}]'), max_depth := 2) FROM document;
CREATE OR REPLACE TABLE stated_roots AS SELECT unnest(from_json(json -> 'roots', '[{"organization": "VARCHAR", "month": "VARCHAR",
    "size": "BIGINT", "root": "VARCHAR"}]'), max_depth := 2) FROM document;
CREATE OR REPLACE TABLE frontiers AS SELECT unnest(from_json(json -> 'frontiers', '[{"organization": "VARCHAR", "month": "VARCHAR",
    "size": "BIGINT", "frontier": "VARCHAR"}]'), max_depth := 2) FROM document;
CREATE OR REPLACE TABLE organizations AS SELECT unnest(from_json(json -> 'organizations', '[{"tree_size": "BIGINT",
    "organization": "VARCHAR", "salt": "VARCHAR", "salted": "VARCHAR", "logs": [{"month": "VARCHAR", "size": "VARCHAR", "root": "VARCHAR"}],
    "sums": [{"currency": "VARCHAR", "amount": "VARCHAR"}], "text": "VARCHAR", "index": "BIGINT", "path": ["VARCHAR"]}]'), max_depth := 2)
    FROM document;
CREATE OR REPLACE TABLE checkpoints AS SELECT unnest(from_json(json -> 'checkpoints', '[{"tree_size": "BIGINT", "batch_no": "VARCHAR",
    "batch_digest": "VARCHAR", "ledger_batch_no": "VARCHAR", "ledger_seq": "VARCHAR", "ledger_digest": "VARCHAR",
    "registry_version": "VARCHAR", "organizations": "VARCHAR", "organizations_root": "VARCHAR", "recorded_at": "VARCHAR", "v": "VARCHAR",
    "text": "VARCHAR", "root": "VARCHAR", "path": ["VARCHAR"], "note": "VARCHAR"}]'), max_depth := 2) FROM document;
CREATE OR REPLACE TABLE audited_entries AS SELECT unnest(from_json(json -> 'audited_entries', '[{"audit_chains": "VARCHAR",
    "audit_digest": "VARCHAR", "audit_records": "VARCHAR", "batch_no": "VARCHAR", "batch_digest": "VARCHAR", "ledger_batch_no": "VARCHAR", "ledger_seq": "VARCHAR",
    "ledger_digest": "VARCHAR", "registry_version": "VARCHAR", "organizations": "VARCHAR", "organizations_root": "VARCHAR",
    "recorded_at": "VARCHAR", "v": "VARCHAR", "text": "VARCHAR", "hash": "VARCHAR"}]'), max_depth := 2) FROM document;
CREATE OR REPLACE TABLE consistency AS SELECT unnest(from_json(json -> 'consistency', '[{"from": "BIGINT", "size": "BIGINT",
    "path": ["VARCHAR"]}]'), max_depth := 2) FROM document;
CREATE OR REPLACE TABLE lines AS SELECT unnest(from_json(json -> 'lines', '[{"name": "VARCHAR", "organization": "VARCHAR",
    "month": "VARCHAR", "meter": "VARCHAR", "currency": "VARCHAR", "quantity": "VARCHAR", "per": "VARCHAR",
    "tiers": [{"up_to": "VARCHAR", "unit_price": "VARCHAR", "flat_fee": "VARCHAR"}], "amount": "VARCHAR"}]'), max_depth := 2) FROM document;
CREATE OR REPLACE TABLE secrets AS SELECT unhex(json ->> 'salt_secret') AS salt_secret, json ->> '$.key.origin' AS origin,
    json ->> '$.key.verifier_key' AS verifier_key FROM document;

-- Trees. One row per leaf of every tree at every stated size; the leaf text of logs is built from typed columns.
CREATE OR REPLACE TABLE leaf_texts AS
SELECT organization, month, CAST(log_seq AS BIGINT) AS i, text,
    '{"commitment":"' || commitment || '","end_at":' || coalesce('"' || instant_text(CAST(end_at AS TIMESTAMP)) || '"', 'null')
    || ',"log_seq":"' || CAST(CAST(log_seq AS BIGINT) AS VARCHAR) || '","meter":"' || meter || '","quantity":"' || decimal_text(quantity)
    || '","registry_version":"' || registry_version || '","start_at":"' || instant_text(CAST(start_at AS TIMESTAMP))
    || '","unit":"' || unit || '"}' AS rebuilt
FROM leaves;

CREATE OR REPLACE TABLE organization_texts AS
SELECT tree_size, organization, salted, text, row_number() OVER (PARTITION BY tree_size ORDER BY salted) - 1 AS i,
    '{"logs":[' || array_to_string(list_transform(logs, lambda log:
        '{"month":"' || log.month || '","root":"' || log.root || '","size":"' || log.size || '"}'), ',')
    || '],"organization":"' || salted || '","sums":[' || array_to_string(list_transform(sums, lambda sum:
        '{"amount":"' || decimal_text(sum.amount) || '","currency":"' || sum.currency || '"}'), ',') || ']}' AS rebuilt
FROM organizations;

CREATE OR REPLACE TABLE entry_texts AS
SELECT tree_size, text, '{"batch_digest":"' || batch_digest || '","batch_no":"' || batch_no || '","ledger_batch_no":"' || ledger_batch_no
    || '","ledger_digest":"' || ledger_digest || '","ledger_seq":"' || ledger_seq || '","organizations":"' || organizations
    || '","organizations_root":"' || organizations_root || '","recorded_at":"' || instant_text(CAST(recorded_at AS TIMESTAMP))
    || '","registry_version":"' || registry_version || '","v":"' || v || '"}' AS rebuilt
FROM checkpoints;

CREATE OR REPLACE TABLE tree_leaves AS
SELECT 'log ' || r.organization || ' ' || r.month AS tree, r.size AS n, l.i, h('\x00'::BLOB || encode(l.rebuilt)) AS hash
FROM stated_roots AS r JOIN leaf_texts AS l ON l.organization = r.organization AND l.month = r.month AND l.i < r.size
UNION ALL
SELECT 'organizations ' || o.tree_size, count(*) OVER (PARTITION BY o.tree_size), o.i, h('\x00'::BLOB || encode(o.rebuilt))
FROM organization_texts AS o
UNION ALL
SELECT 'checkpoints', c.tree_size, e.tree_size - 1, h('\x00'::BLOB || encode(e.rebuilt))
FROM checkpoints AS c JOIN entry_texts AS e ON e.tree_size <= c.tree_size;

-- RFC 6962: an inner node is H(01 ‖ left ‖ right); the last node of an odd level moves up unchanged.
CREATE OR REPLACE TABLE nodes AS
WITH RECURSIVE level (tree, n, l, i, width, hash) AS (
    SELECT tree, n, 0, i, n, hash FROM tree_leaves
    UNION ALL
    SELECT tree, n, l + 1, i // 2, (width + 1) // 2,
        CASE WHEN count(*) = 2 THEN h('\x01'::BLOB || min_by(hash, i) || max_by(hash, i)) ELSE min_by(hash, i) END
    FROM level WHERE width > 1 GROUP BY tree, n, l, i // 2, width
)
SELECT * FROM level;

CREATE OR REPLACE TABLE roots AS
SELECT tree, n, lower(hex(hash)) AS root FROM nodes WHERE width = 1
UNION ALL
SELECT 'log ' || organization || ' ' || month, size, sha256(''::BLOB) FROM stated_roots WHERE size = 0;

-- A frontier is the size (8 bytes, big end first) and, for each bit of it from the highest, the node that this bit completes.
CREATE OR REPLACE TABLE rebuilt_frontiers AS
SELECT f.organization, f.month, f.size, f.frontier,
    printf('%016x', f.size) || coalesce(string_agg(lower(hex(k.hash)), '' ORDER BY k.l DESC), '') AS rebuilt
FROM frontiers AS f LEFT JOIN nodes AS k
    ON k.tree = 'log ' || f.organization || ' ' || f.month AND k.n = f.size AND (f.size >> k.l) & 1 = 1 AND k.i = (f.size >> k.l) - 1
GROUP BY f.organization, f.month, f.size, f.frontier;

-- How often an even index above 0 can be halved.
CREATE OR REPLACE MACRO halvings(x) AS CASE WHEN x = 0 THEN 0 ELSE bit_count((x & -x) - 1) END;

-- Inclusion paths: RFC 9162, 2.1.3.2.
CREATE OR REPLACE TABLE inclusion_claims AS
SELECT 'organizations ' || o.tree_size AS tree, o.index AS i, c.organizations_root AS root, CAST(c.organizations AS BIGINT) AS n, o.path,
    h('\x00'::BLOB || encode(o.text)) AS hash
FROM organizations AS o JOIN checkpoints AS c USING (tree_size)
UNION ALL
SELECT 'checkpoints', tree_size - 1, root, tree_size, path, h('\x00'::BLOB || encode(text)) FROM checkpoints;

CREATE OR REPLACE TABLE inclusions AS
WITH RECURSIVE walk (tree, i, n, root, path, step, fn, sn, r) AS (
    SELECT tree, i, n, root, path, 0, i, n - 1, hash FROM inclusion_claims
    UNION ALL
    SELECT tree, i, n, root, path, step + 1,
        (CASE WHEN fn & 1 = 0 AND fn = sn THEN fn >> halvings(fn) ELSE fn END) >> 1,
        (CASE WHEN fn & 1 = 0 AND fn = sn THEN sn >> halvings(fn) ELSE sn END) >> 1,
        CASE WHEN fn & 1 = 1 OR fn = sn THEN h('\x01'::BLOB || unhex(path[step + 1]) || r) ELSE h('\x01'::BLOB || r || unhex(path[step + 1])) END
    FROM walk WHERE step < len(path) AND sn > 0
)
SELECT tree, i, n, coalesce(bool_or(step = len(path) AND sn = 0 AND lower(hex(r)) = root), false) AS holds
FROM walk GROUP BY tree, i, n;

-- Consistency paths of the tiled log: RFC 9162, 2.1.4.2.
CREATE OR REPLACE TABLE consistencies AS
WITH RECURSIVE start AS (
    SELECT c."from" AS first, c.size AS second, a.root AS first_root, b.root AS second_root,
        CASE WHEN c."from" = c.size THEN [a.root] || c.path WHEN bit_count(c."from") = 1 THEN [a.root] || c.path ELSE c.path END AS path,
        bit_count(xor(c."from", c."from" - 1)) - 1 AS shift
    FROM consistency AS c
    JOIN checkpoints AS a ON a.tree_size = c."from" JOIN checkpoints AS b ON b.tree_size = c.size
), walk (first, second, first_root, second_root, path, step, fn, sn, fr, sr) AS (
    SELECT first, second, first_root, second_root, path, 1, (first - 1) >> shift, (second - 1) >> shift, unhex(path[1]), unhex(path[1])
    FROM start
    UNION ALL
    SELECT first, second, first_root, second_root, path, step + 1,
        (CASE WHEN fn & 1 = 0 AND fn = sn THEN fn >> halvings(fn) ELSE fn END) >> 1,
        (CASE WHEN fn & 1 = 0 AND fn = sn THEN sn >> halvings(fn) ELSE sn END) >> 1,
        CASE WHEN fn & 1 = 1 OR fn = sn THEN h('\x01'::BLOB || unhex(path[step + 1]) || fr) ELSE fr END,
        CASE WHEN fn & 1 = 1 OR fn = sn THEN h('\x01'::BLOB || unhex(path[step + 1]) || sr)
            ELSE h('\x01'::BLOB || sr || unhex(path[step + 1])) END
    FROM walk WHERE step < len(path) AND sn > 0
)
SELECT first, second,
    coalesce(bool_or(step = len(path) AND (sn = 0 OR first = second) AND lower(hex(fr)) = first_root AND lower(hex(sr)) = second_root), false)
    AS holds
FROM walk GROUP BY first, second;

-- Money. F(Q) = Σ tiers (part of Q inside the tier × unit price) / per + Σ flat fees of reached tiers; T = F rounded half to even at 10^-9.
-- With Q, per in 10^-9 and prices in 10^-18: T = (Σ part × price + per × Σ fees) / (per × 10^9), all integers.
CREATE OR REPLACE TABLE tiers AS
WITH each AS (SELECT name, units(quantity, 9) AS q, units(per, 9) AS per, unnest(tiers) AS tier, generate_subscripts(tiers, 1) AS t FROM lines),
bounds AS (
    SELECT name, q, per, t, tier, CASE WHEN tier.up_to IS NOT NULL THEN units(tier.up_to, 9) END AS upper,
        lag(CASE WHEN tier.up_to IS NOT NULL THEN units(tier.up_to, 9) END) OVER (PARTITION BY name ORDER BY t) AS lower
    FROM each
)
SELECT name, per,
    CASE WHEN t = 1 THEN least(q, coalesce(upper, q))
        WHEN q > lower THEN least(q, coalesce(upper, q)) - lower ELSE 0 END AS part,
    units(tier.unit_price, 18) AS unit_price,
    CASE WHEN q > coalesce(lower, 0) THEN units(tier.flat_fee, 18) ELSE 0 END AS fee
FROM bounds;

-- Sums of products, each factor with its sign and its limbs of nine digits, least significant first.
CREATE OR REPLACE MACRO limbs(number) AS list_transform(range(5), lambda k:
    CAST(substr(lpad(CAST(abs(number) AS VARCHAR), 45, '0'), 45 - 9 * (k + 1) + 1, 9) AS BIGINT));

CREATE OR REPLACE TABLE coefficients AS
WITH products AS (
    SELECT name, part AS a, unit_price AS b FROM tiers UNION ALL SELECT name, per, fee FROM tiers
), a_limbs AS (
    SELECT name, row_number() OVER () AS product, sign(a) * sign(b) AS s, limbs(a) AS a, limbs(b) AS b FROM products
), pairs AS (
    SELECT name, s, unnest(a) AS x, generate_subscripts(a, 1) - 1 AS i, b FROM a_limbs
), terms AS (
    SELECT name, s, x, i, unnest(b) AS y, generate_subscripts(b, 1) - 1 AS j FROM pairs
)
-- BIGINT × BIGINT below 10^18, summed exactly.
SELECT name, i + j AS k, sum(CAST(s AS BIGINT) * x * y) AS c FROM terms GROUP BY name, i + j;

-- Carry from the least significant limb up; eleven limbs hold 99 digits. The carry out of the last one is 0, or -1 for a sum below zero.
CREATE OR REPLACE MACRO floor_div(x, d) AS CASE WHEN x % d < 0 THEN x // d - 1 ELSE x // d END;
CREATE OR REPLACE MACRO floor_mod(x, d) AS CASE WHEN x % d < 0 THEN x % d + d ELSE x % d END;

CREATE OR REPLACE TABLE carried AS
WITH RECURSIVE step (name, k, limb, carry) AS (
    SELECT name, 0, CAST(floor_mod(c, 1000000000) AS HUGEINT), CAST(floor_div(c, 1000000000) AS HUGEINT) FROM coefficients WHERE k = 0
    UNION ALL
    SELECT p.name, p.k + 1, floor_mod(p.carry + coalesce(c.c, 0), 1000000000), floor_div(p.carry + coalesce(c.c, 0), 1000000000)
    FROM step AS p LEFT JOIN coefficients AS c ON c.name = p.name AND c.k = p.k + 1 WHERE p.k < 10
)
SELECT * FROM step;

-- Sign and magnitude: below zero the limbs are the complement, so they are subtracted from zero with a borrow.
CREATE OR REPLACE TABLE numerators AS
WITH RECURSIVE signs AS (SELECT name, carry < 0 AS negative FROM carried WHERE k = 10),
step (name, negative, k, limb, borrow) AS (
    SELECT name, negative, 0, CASE WHEN negative THEN (1000000000 - limb) % 1000000000 ELSE limb END,
        CASE WHEN negative AND limb > 0 THEN 1 ELSE 0 END
    FROM carried JOIN signs USING (name) WHERE k = 0
    UNION ALL
    SELECT n.name, p.negative, n.k, CASE WHEN p.negative THEN (1000000000 - n.limb - p.borrow) % 1000000000 ELSE n.limb END,
        CASE WHEN p.negative AND n.limb + p.borrow > 0 THEN 1 ELSE 0 END
    FROM step AS p JOIN carried AS n ON n.name = p.name AND n.k = p.k + 1
)
SELECT name, negative, k, limb FROM step;

-- Long division by per × 10^9, from the top limb: dividing by 10^9 drops limb 0, dividing by per goes limb by limb. `per` stays below 10^28,
-- so nothing leaves 128 bits (DuckDB would refuse, not wrap).
CREATE OR REPLACE TABLE amounts AS
WITH RECURSIVE divisors AS (SELECT DISTINCT name, per FROM tiers),
division (name, negative, per, k, quotient, rest) AS (
    SELECT name, negative, per, 10, limb // per, limb % per FROM numerators JOIN divisors USING (name) WHERE k = 10
    UNION ALL
    SELECT d.name, d.negative, d.per, n.k, (d.rest * 1000000000 + n.limb) // d.per, (d.rest * 1000000000 + n.limb) % d.per
    FROM division AS d JOIN numerators AS n ON n.name = d.name AND n.k = d.k - 1 WHERE n.k >= 1
), whole AS (
    SELECT name, negative, per,
        sum(CASE WHEN k = 1 THEN quotient WHEN k = 2 THEN quotient * 1000000000 WHEN k = 3 THEN quotient * 1000000000000000000
            WHEN quotient = 0 THEN 0 ELSE error('the amount of ' || name || ' has more than 27 digits') END) AS floor,
        sum(CASE WHEN k = 1 THEN rest ELSE 0 END) AS rest
    FROM division GROUP BY name, negative, per
), last AS (SELECT w.*, w.rest * 1000000000 + n.limb AS remainder, w.per * 1000000000 AS divisor FROM whole AS w JOIN numerators AS n USING (name) WHERE n.k = 0)
SELECT name, CASE WHEN negative THEN -1 ELSE 1 END
    * (floor + CASE WHEN 2 * remainder > divisor OR (2 * remainder = divisor AND floor % 2 = 1) THEN 1 ELSE 0 END) AS amount
FROM last;

CREATE OR REPLACE VIEW failures AS
-- Everything that the file announces is there.
SELECT 'count' AS what, kind AS subject FROM (
    SELECT unnest(json_keys(json -> 'counts')) AS kind, json FROM document
) WHERE json_array_length(json -> kind) IS DISTINCT FROM CAST(json -> 'counts' ->> kind AS BIGINT)
    OR json_array_length(json -> kind) = 0
UNION ALL
SELECT 'kinds', list_aggregate(json_keys(json -> 'counts'), 'string_agg', ' ') FROM document
WHERE list_sort(json_keys(json -> 'counts')) IS DISTINCT FROM
    ['audited_entries', 'checkpoints', 'commitments', 'consistency', 'frontiers', 'leaves', 'lines', 'organizations', 'roots']
UNION ALL
SELECT 'repeated', identity FROM commitments GROUP BY identity HAVING count(*) > 1
UNION ALL
SELECT 'repeated', organization || ' ' || month || ' ' || size FROM frontiers GROUP BY organization, month, size HAVING count(*) > 1
UNION ALL
SELECT 'repeated', "from" || ' to ' || size FROM consistency GROUP BY "from", size HAVING count(*) > 1
UNION ALL
-- Salts and commitments.
SELECT 'salt', identity FROM commitments, secrets
WHERE hmac(salt_secret, encode('tallystick/reading-salt/v1') || '\x00'::BLOB || unhex(identity)) IS DISTINCT FROM unhex(salt)
UNION ALL
SELECT 'commitment', identity FROM commitments
WHERE lower(hex(h(unhex(salt) || encode(source_supplied)))) IS DISTINCT FROM commitment
UNION ALL
SELECT 'commitment of a leaf', text FROM leaves WHERE commitment NOT IN (SELECT commitment FROM commitments)
UNION ALL
-- Leaves.
SELECT 'leaf text', text FROM leaf_texts WHERE rebuilt IS DISTINCT FROM text
UNION ALL
SELECT 'leaf hash', text FROM leaves WHERE sha256('\x00'::BLOB || encode(text)) IS DISTINCT FROM hash
UNION ALL
SELECT 'leaf month', text FROM leaves WHERE strftime(CAST(start_at AS TIMESTAMP), '%Y%m') IS DISTINCT FROM month
UNION ALL
SELECT 'leaf numbers', organization || ' ' || month FROM leaf_texts GROUP BY organization, month
HAVING min(i) <> 0 OR max(i) <> count(*) - 1 OR count(DISTINCT i) <> count(*)
UNION ALL
SELECT 'duration', text FROM leaves WHERE unit = 'gpu_us'
    AND units(quantity, 9) IS DISTINCT FROM CAST(epoch_us(CAST(end_at AS TIMESTAMP)) - epoch_us(CAST(start_at AS TIMESTAMP)) AS HUGEINT) * 1000000000
UNION ALL
-- Trees of the organizations' logs, at every size.
SELECT 'root', s.organization || ' ' || s.month || ' ' || s.size FROM stated_roots AS s
LEFT JOIN roots AS r ON r.tree = 'log ' || s.organization || ' ' || s.month AND r.n = s.size
WHERE r.root IS DISTINCT FROM s.root
UNION ALL
SELECT 'root of the whole log', l.organization || ' ' || l.month FROM leaf_texts AS l
LEFT JOIN stated_roots AS s ON s.organization = l.organization AND s.month = l.month AND s.size = l.i + 1 WHERE s.root IS NULL
UNION ALL
SELECT 'sizes of a log', organization || ' ' || month FROM stated_roots GROUP BY organization, month
HAVING min(size) <> 0 OR max(size) <> count(*) - 1 OR count(DISTINCT size) <> count(*)
UNION ALL
SELECT 'root without frontier', organization || ' ' || month || ' ' || size FROM stated_roots ANTI JOIN frontiers USING (organization, month, size)
UNION ALL
SELECT 'frontier', organization || ' ' || month || ' ' || size FROM rebuilt_frontiers WHERE rebuilt IS DISTINCT FROM frontier
UNION ALL
-- The tree of organizations.
SELECT 'organization salt', organization FROM organizations, secrets
WHERE hmac(salt_secret, encode('tallystick/organization-salt/v1') || '\x00'::BLOB || encode(organization)) IS DISTINCT FROM unhex(salt)
UNION ALL
SELECT 'salted organization', organization FROM organizations
WHERE lower(hex(h(unhex(salt) || encode(organization)))) IS DISTINCT FROM salted
UNION ALL
SELECT 'organization text', text FROM organization_texts WHERE rebuilt IS DISTINCT FROM text
UNION ALL
SELECT 'organization order', o.organization || ' ' || o.tree_size FROM organizations AS o JOIN organization_texts AS t USING (tree_size, organization)
WHERE o.index IS DISTINCT FROM t.i
UNION ALL
SELECT 'log of an organization', o.organization || ' ' || o.tree_size FROM (SELECT *, unnest(logs) AS log FROM organizations) AS o
LEFT JOIN roots AS r ON r.tree = 'log ' || o.organization || ' ' || o.log.month AND r.n = CAST(o.log.size AS BIGINT)
WHERE r.root IS DISTINCT FROM o.log.root
UNION ALL
SELECT 'sum of an organization', coalesce(s.organization, l.organization) FROM (
    SELECT organization, sum.currency AS currency, units(sum.amount, 9) AS amount
    FROM (SELECT organization, unnest(sums) AS sum FROM organizations WHERE tree_size = (SELECT max(tree_size) FROM checkpoints))
) AS s FULL JOIN (
    SELECT organization, currency, sum(units(amount, 9)) AS amount FROM lines WHERE organization IS NOT NULL GROUP BY ALL
) AS l ON l.organization = s.organization AND l.currency = s.currency
WHERE l.amount IS DISTINCT FROM s.amount
UNION ALL
SELECT 'organizations root', CAST(c.tree_size AS VARCHAR) FROM checkpoints AS c
LEFT JOIN roots AS r ON r.tree = 'organizations ' || c.tree_size AND r.n = CAST(c.organizations AS BIGINT)
WHERE r.root IS DISTINCT FROM c.organizations_root
UNION ALL
-- The tiled log of checkpoints.
SELECT 'entry text', text FROM entry_texts WHERE rebuilt IS DISTINCT FROM text
UNION ALL
-- Version 2: with the head of the audit chains.
SELECT 'audited entry', text FROM audited_entries
WHERE '{"audit_chains":"' || audit_chains || '","audit_digest":"' || audit_digest || '","audit_records":"' || audit_records || '","batch_digest":"' || batch_digest || '","batch_no":"'
    || batch_no || '","ledger_batch_no":"' || ledger_batch_no || '","ledger_digest":"' || ledger_digest || '","ledger_seq":"' || ledger_seq
    || '","organizations":"' || organizations || '","organizations_root":"' || organizations_root || '","recorded_at":"'
    || instant_text(CAST(recorded_at AS TIMESTAMP)) || '","registry_version":"' || registry_version || '","v":"' || v || '"}' IS DISTINCT FROM text
    OR v IS DISTINCT FROM '2' OR sha256('\x00'::BLOB || encode(text)) IS DISTINCT FROM hash
UNION ALL
SELECT 'repeated', text FROM audited_entries GROUP BY text HAVING count(*) > 1
UNION ALL
SELECT 'audited entries', CAST(count(*) AS VARCHAR) FROM audited_entries HAVING count(*) <> 2
UNION ALL
SELECT 'checkpoint root', CAST(c.tree_size AS VARCHAR) FROM checkpoints AS c
LEFT JOIN roots AS r ON r.tree = 'checkpoints' AND r.n = c.tree_size WHERE r.root IS DISTINCT FROM c.root
UNION ALL
SELECT 'checkpoints are dense', CAST(count(*) AS VARCHAR) FROM checkpoints HAVING max(tree_size) <> count(*) OR min(tree_size) <> 1
UNION ALL
SELECT 'inclusion', tree || ' ' || i || ' of ' || n FROM inclusions WHERE NOT holds
UNION ALL
SELECT 'consistency', c."from" || ' to ' || c.size FROM consistency AS c
LEFT JOIN consistencies AS k ON k.first = c."from" AND k.second = c.size WHERE k.holds IS DISTINCT FROM true
UNION ALL
SELECT 'all consistencies', CAST(count(*) AS VARCHAR) FROM (SELECT DISTINCT "from", size FROM consistency WHERE "from" <= size)
HAVING count(*) <> (SELECT count(*) * (count(*) + 1) // 2 FROM checkpoints)
UNION ALL
SELECT 'note text', note FROM checkpoints, secrets
WHERE NOT starts_with(note, origin || chr(10) || tree_size || chr(10) || base64(unhex(root)) || chr(10) || chr(10) || '— ' || origin || ' ')
UNION ALL
-- A key is named by the first four bytes of SHA-256(name ‖ LF ‖ 01 ‖ public key); the verifier key and each signature carry them.
SELECT 'key id', verifier_key FROM secrets
WHERE split_part(verifier_key, '+', 1) IS DISTINCT FROM origin
    OR substr(sha256(encode(origin) || '\x0A'::BLOB || from_base64(array_to_string(string_split(verifier_key, '+')[3:], '+'))), 1, 8)
        IS DISTINCT FROM split_part(verifier_key, '+', 2)
UNION ALL
SELECT 'key id of a signature', note FROM checkpoints, secrets
WHERE left(lower(hex(from_base64(rtrim(split_part(note, ' ', 3), chr(10))))), 8) IS DISTINCT FROM split_part(verifier_key, '+', 2)
UNION ALL
-- Money.
SELECT 'line', l.name || ': ' || coalesce(CAST(a.amount AS VARCHAR), 'nothing') FROM lines AS l LEFT JOIN amounts AS a USING (name)
WHERE a.amount IS DISTINCT FROM units(l.amount, 9)
UNION ALL
SELECT 'quantity of a line', l.name FROM lines AS l LEFT JOIN (
    SELECT organization, month, meter, sum(units(quantity, 9)) AS q FROM leaves GROUP BY ALL
) AS s USING (organization, month, meter)
WHERE l.organization IS NOT NULL AND s.q IS DISTINCT FROM units(l.quantity, 9)
UNION ALL
SELECT 'a line of each kind', kind FROM (SELECT unnest([
    'graduated', 'price per hour over microseconds', 'half tie below zero', 'half tie down to even', 'half tie up to even',
    'product beyond 128 bits']) AS kind)
WHERE kind NOT IN (SELECT name FROM lines)
UNION ALL
-- A tie is a tie: twice the remainder is the divisor, so that the rounding mode decides.
SELECT 'tie', name FROM lines WHERE starts_with(name, 'half tie') AND (units(quantity, 9) * units(tiers[1].unit_price, 18) * 2) % (units(per, 9) * 1000000000 * 2)
    NOT IN (units(per, 9) * 1000000000, -units(per, 9) * 1000000000);
