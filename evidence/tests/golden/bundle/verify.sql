-- Verifies this bundle in stock DuckDB 1.5 alone (built-in icu, json and parquet; no other extension, no network). Run it inside the folder:
--     duckdb -c ".read verify.sql"
-- and, with every invoice of earlier months that you got, of every currency (a pattern, or a list of paths):
--     duckdb -c "SET VARIABLE earlier = '../earlier/*/invoice.json'" -c ".read verify.sql"
-- No row: everything holds. Each row names what does not: check, subject, expected, found. Signatures are OpenSSL's part: see VERIFY.md.
-- Money is exact: quantities and prices are cut into limbs of nine digits, multiplied as 64-bit integers, added, carried and divided as
-- integers; DuckDB's decimal division is a float and is not used. What does not fit is an error, never a wrong figure.

CREATE OR REPLACE TEMP MACRO h(bytes) AS unhex(sha256(bytes));
-- RFC 3339 in UTC, six decimal places or none.
CREATE OR REPLACE TEMP MACRO instant_text(moment) AS
    strftime(moment, '%Y-%m-%dT%H:%M:%S')
    || CASE WHEN epoch_us(moment) % 1000000 = 0 THEN '' ELSE '.' || lpad(CAST(epoch_us(moment) % 1000000 AS VARCHAR), 6, '0') END || 'Z';
-- A decimal text as an integer at a scale.
CREATE OR REPLACE TEMP MACRO units(number, scale) AS
    CASE WHEN starts_with(number, '-') THEN -1 ELSE 1 END
    * CAST(ltrim(split_part(number, '.', 1), '-') || rpad(split_part(number, '.', 2), scale, '0') AS HUGEINT);
-- An integer at scale 9 as a decimal text.
CREATE OR REPLACE TEMP MACRO money(number) AS
    CASE WHEN number < 0 THEN '-' ELSE '' END || CAST(abs(number) // 1000000000 AS VARCHAR)
    || rtrim(rtrim('.' || lpad(CAST(abs(number) % 1000000000 AS VARCHAR), 9, '0'), '0'), '.');
-- A decimal(38,9) as an integer at scale 9, and as plain text.
CREATE OR REPLACE TEMP MACRO quantity_units(number) AS CAST(replace(CAST(number AS VARCHAR), '.', '') AS HUGEINT);
CREATE OR REPLACE TEMP MACRO quantity_text(number) AS rtrim(rtrim(CAST(number AS VARCHAR), '0'), '.');
-- A dimension's value as an integer at scale 9, where it is a plain decimal, and whether such a value lies in a SKU's range.
CREATE OR REPLACE TEMP MACRO dimension_units(dimensions, name) AS (
    list_transform(list_filter(dimensions, lambda d: starts_with(d, name || chr(1))
            AND regexp_full_match(substr(d, length(name) + 2), '-?[0-9]{1,29}(\.[0-9]{1,9})?')),
        lambda d: units(substr(d, length(name) + 2), 9))[1]);
CREATE OR REPLACE TEMP MACRO in_range(number, above, up_to) AS
    number IS NOT NULL AND (above IS NULL OR number > above) AND (up_to IS NULL OR number <= up_to);
-- Whether a text is a quantity as a source may write it, +1.50 or 15e-1, of at most nine decimal places: a cast would round finer ones.
CREATE OR REPLACE TEMP MACRO number_part(number, part) AS regexp_extract(number, '^[-+]?([0-9]+)(\.([0-9]+))?([eE]([-+]?[0-9]+))?$', part);
CREATE OR REPLACE TEMP MACRO is_quantity(number) AS
    number_part(number, 1) <> '' AND (rtrim(number_part(number, 1) || number_part(number, 3), '0') = ''
        OR len(rtrim(number_part(number, 1) || number_part(number, 3), '0')) - len(number_part(number, 1))
            - coalesce(TRY_CAST(number_part(number, 5) AS INTEGER), 0) <= 9);
-- The path of member names joined by dots, as DuckDB writes paths.
CREATE OR REPLACE TEMP MACRO json_path(names) AS '$."' || replace(names, '.', '"."') || '"';
CREATE OR REPLACE TEMP MACRO floor_div(x, d) AS CASE WHEN x % d < 0 THEN x // d - 1 ELSE x // d END;
CREATE OR REPLACE TEMP MACRO floor_mod(x, d) AS CASE WHEN x % d < 0 THEN x % d + d ELSE x % d END;
-- An integer at a scale rounded to fewer places, the half as the mode says: as an integer at scale 9.
CREATE OR REPLACE TEMP MACRO rounded_from(number, scale, places, mode) AS
    sign(number) * (abs(number) // CAST(10 ** (scale - places) AS HUGEINT)
        + CASE WHEN 2 * (abs(number) % CAST(10 ** (scale - places) AS HUGEINT)) > CAST(10 ** (scale - places) AS HUGEINT)
                OR (2 * (abs(number) % CAST(10 ** (scale - places) AS HUGEINT)) = CAST(10 ** (scale - places) AS HUGEINT)
                    AND (mode = 'half_away_from_zero' OR (abs(number) // CAST(10 ** (scale - places) AS HUGEINT)) % 2 = 1))
            THEN 1 ELSE 0 END) * CAST(10 ** (9 - places) AS HUGEINT);
CREATE OR REPLACE TEMP MACRO rounded(number, places, mode) AS rounded_from(number, 9, places, mode);
-- Local clocks: what they show at an instant, in microseconds as if they were those of UTC; and when they show something: where they skip it, as long after midnight
-- as it would have been, where they show it twice, the first time. Dates are days since 1970; one that clocks skip begins with the next one, and is not among dates.
CREATE OR REPLACE TEMP MACRO shown_at(zone, micros) AS CASE WHEN zone = 'UTC' THEN micros ELSE epoch_us(timezone(zone, make_timestamptz(micros))) END;
CREATE OR REPLACE TEMP MACRO ahead(zone, micros) AS shown_at(zone, micros) - micros;
CREATE OR REPLACE TEMP MACRO instant_of(zone, shown) AS shown - CASE WHEN zone = 'UTC' THEN 0
    WHEN shown_at(zone, shown - ahead(zone, shown - 86400000000)) <> shown AND shown_at(zone, shown - ahead(zone, shown + 86400000000)) = shown THEN ahead(zone, shown + 86400000000)
    ELSE ahead(zone, shown - 86400000000) END;
CREATE OR REPLACE TEMP MACRO date_of(zone, micros) AS floor_div(shown_at(zone, micros), 86400000000);
CREATE OR REPLACE TEMP MACRO start_of(zone, date) AS instant_of(zone, date * 86400000000);
CREATE OR REPLACE TEMP MACRO dates(zone, start, last) AS list_filter(range(date_of(zone, start), date_of(zone, last) + 1),
    lambda d: d = date_of(zone, start) OR d = date_of(zone, last) OR start_of(zone, d) < start_of(zone, d + 1));
-- Months since the year 0, and back.
CREATE OR REPLACE TEMP MACRO months_of(month) AS month // 100 * 12 + month % 100 - 1;
CREATE OR REPLACE TEMP MACRO month_from(months) AS CAST(months // 12 * 100 + months % 12 + 1 AS INTEGER);
-- Whether a term looks at a SKU: at all of the contract where it names none.
CREATE OR REPLACE TEMP MACRO looks_at(families, skus, family, sku) AS
    len(families) + len(skus) = 0 OR list_contains(skus, sku) OR coalesce(list_contains(families, family), false);

-- 1. Files.
CREATE OR REPLACE TEMP TABLE files AS
SELECT regexp_replace(replace(filename, '\', '/'), '^\./', '') AS path, octet_length(content) AS size, sha256(content) AS digest FROM read_blob('**');
CREATE OR REPLACE TEMP TABLE manifest AS SELECT content AS text, CAST(content AS JSON) AS json FROM read_text('manifest.json');
CREATE OR REPLACE TEMP TABLE envelope AS SELECT CAST(content AS JSON) AS json FROM read_text('manifest.dsse.json');
CREATE OR REPLACE TEMP TABLE listed AS
SELECT (json ->> 'path') AS path, CAST(json ->> 'size' AS BIGINT) AS size, (json ->> 'sha256') AS digest, CAST(json ->> 'rows' AS BIGINT) AS n
FROM (SELECT unnest(CAST(json -> 'predicate' -> 'files' AS JSON[])) AS json FROM manifest);
CREATE OR REPLACE TEMP TABLE subjects AS
SELECT (json ->> 'name') AS path, (json -> 'digest' ->> 'sha256') AS digest
FROM (SELECT unnest(CAST(json -> 'subject' AS JSON[])) AS json FROM manifest);
-- The rating as a build: which files it says it was made from, and what it made.
CREATE OR REPLACE TEMP TABLE provenance AS SELECT CAST(content AS JSON) AS json FROM read_text('provenance.json');
CREATE OR REPLACE TEMP TABLE built AS
SELECT 'subject' AS role, (f ->> 'name') AS path, (f -> 'digest' ->> 'sha256') AS digest
FROM (SELECT unnest(CAST(json -> 'subject' AS JSON[])) AS f FROM provenance)
UNION ALL
SELECT 'dependency', (f ->> 'uri'), (f -> 'digest' ->> 'sha256')
FROM (SELECT unnest(CAST(json -> '$.predicate.buildDefinition.resolvedDependencies' AS JSON[])) AS f FROM provenance);
CREATE OR REPLACE TEMP TABLE keys AS
SELECT role, key, from_base64(array_to_string(string_split(key, '+')[3:], '+')) AS bytes FROM (
    SELECT unnest(['log', 'bundle']) AS role, unnest([(json -> 'predicate' ->> 'log_key'), (json -> 'predicate' ->> 'bundle_key')]) AS key FROM manifest);

CREATE OR REPLACE TEMP TABLE invoice AS SELECT sha256(content) AS digest, CAST(content AS JSON) AS json FROM read_text('invoice.json');
CREATE OR REPLACE TEMP TABLE issue AS SELECT CAST(content AS JSON) AS json FROM read_text('issue.json');
CREATE OR REPLACE TEMP TABLE proof AS SELECT CAST(content AS JSON) AS json FROM read_text('log/proof.json');
CREATE OR REPLACE TEMP TABLE entry AS SELECT (json -> 'entry' ->> 'text') AS text, CAST(json -> 'entry' ->> 'text' AS JSON) AS json FROM proof;
CREATE OR REPLACE TEMP TABLE organization AS
SELECT (json -> 'organization' ->> 'id') AS id, unhex(json -> 'organization' ->> 'salt') AS salt,
    (json -> 'organization' ->> 'leaf') AS text, CAST(json -> 'organization' ->> 'leaf' AS JSON) AS json FROM proof;
CREATE OR REPLACE TEMP TABLE checkpoint AS
SELECT content AS note, string_split(content, chr(10))[1] AS origin, CAST(string_split(content, chr(10))[2] AS BIGINT) AS size,
    lower(hex(from_base64(string_split(content, chr(10))[3]))) AS root FROM read_text('log/checkpoint');

CREATE OR REPLACE TEMP TABLE covered AS
SELECT CAST(json ->> 'month' AS INTEGER) AS month, CAST(json ->> 'from' AS BIGINT) AS first, CAST(json ->> 'to' AS BIGINT) AS size
FROM (SELECT unnest(CAST(json -> 'logs' AS JSON[])) AS json FROM invoice);
CREATE OR REPLACE TEMP TABLE lines AS
SELECT (json ->> 'contract') AS contract, (json ->> 'sku') AS sku, CAST(json ->> 'service_period' AS INTEGER) AS month,
    coalesce(json ->> 'contract_line', '?') || ' ' || coalesce(json ->> 'service_period', '?') AS subject, json
FROM (SELECT unnest(CAST(json -> 'lines' AS JSON[])) AS json FROM invoice);

-- Earlier invoices, if any are given. They are believed as they were kept.
CREATE OR REPLACE TEMP TABLE earlier AS
SELECT filename, CAST(content AS JSON) AS json FROM read_text(coalesce(getvariable('earlier'), 'invoice.json')) WHERE getvariable('earlier') IS NOT NULL;
CREATE OR REPLACE TEMP TABLE earlier_logs AS
SELECT CAST(log ->> 'month' AS INTEGER) AS month, max(CAST(log ->> 'to' AS BIGINT)) AS size
FROM (SELECT unnest(CAST(json -> 'logs' AS JSON[])) AS log FROM earlier) GROUP BY ALL;
CREATE OR REPLACE TEMP TABLE earlier_lines AS
SELECT (line ->> 'contract') AS contract, (line ->> 'sku') AS sku, CAST(line ->> 'service_period' AS INTEGER) AS month,
    max_by(line ->> 'key_total', period) AS key_total, max_by(line ->> 'key_amount', period) AS key_amount
FROM (
    SELECT (json ->> 'period') AS period, unnest(CAST(json -> 'lines' AS JSON[])) AS line FROM earlier
    WHERE (json ->> 'currency') = (SELECT (json ->> 'currency') FROM invoice)
) GROUP BY ALL;

-- Registry documents of each version, as far as they are shown: a line each, found by its digest.
CREATE OR REPLACE TEMP TABLE indexes AS
SELECT regexp_extract(replace(filename, '\', '/'), '([^/]*)\.json$', 1) AS version, sha256(content) AS digest, CAST(content AS JSON) AS json
FROM read_text('registry/*.json');
CREATE OR REPLACE TEMP TABLE index_entries AS
SELECT version, (entry ->> 'digest') AS digest, (entry ->> 'kind') AS kind
FROM (SELECT version, unnest(CAST(json -> 'documents' AS JSON[])) AS entry FROM indexes);
CREATE OR REPLACE TEMP TABLE shown AS
SELECT line, sha256(text) AS digest, text FROM (
    SELECT unnest(lines) AS text, generate_subscripts(lines, 1) AS line, len(lines) AS last
    FROM (SELECT string_split(content, chr(10)) AS lines FROM read_text('registry/documents.jsonl'))
) WHERE line < last OR text <> '';
CREATE OR REPLACE TEMP TABLE documents AS
SELECT i.version, i.kind, d.line, CAST(d.text AS JSON) AS json FROM index_entries AS i LEFT JOIN shown AS d USING (digest);
CREATE OR REPLACE TEMP TABLE contracts AS
SELECT version, (json ->> 'id') AS id, (json ->> 'price_book') AS book, CAST(json ->> 'effective_at' AS TIMESTAMP) AS effective_at,
    coalesce(list_contains(CAST(json -> 'covers' -> 'organizations' AS VARCHAR[]), (SELECT id FROM organization)), false) AS own,
    coalesce((json ->> 'covers') = 'default', false) AS other, CAST(json -> 'terms' AS JSON[]) AS terms, (json ->> 'terms_over') AS over
FROM documents WHERE kind = 'contract' AND json IS NOT NULL;
-- An organization with a contract of its own never falls back to the default one.
CREATE OR REPLACE TEMP TABLE agreements AS
SELECT * FROM contracts WHERE own OR (other AND version NOT IN (SELECT version FROM contracts WHERE own));
CREATE OR REPLACE TEMP TABLE books AS
SELECT version, (json ->> 'id') AS book, (json ->> 'currency') AS currency, CAST(json -> 'prices' AS JSON[]) AS prices
FROM documents WHERE kind = 'price_book' AND json IS NOT NULL;
-- A committed model is another one, of windows each against what was promised for it; an adjusted one, of a quantity that is converted or partly
-- free, or of each reading alone.
CREATE OR REPLACE TEMP TABLE prices AS
SELECT version, book, currency, (p ->> 'id') AS price_id, (p ->> 'sku') AS sku, CAST(p ->> 'effective_at' AS TIMESTAMP) AS effective_at,
    json_keys(model)[1] AS kind, json_extract(model, '$.' || json_keys(model)[1]) AS model, adjusted, committed, CAST(p AS VARCHAR) AS text
FROM (
    SELECT version, book, currency, p, committed, stated -> 'adjusted' AS adjusted, coalesce(stated -> 'adjusted' -> 'model', stated) AS model
    FROM (SELECT *, p -> 'model' -> 'committed' AS committed, coalesce(p -> 'model' -> 'committed' -> 'model', p -> 'model') AS stated
        FROM (SELECT version, book, currency, unnest(prices) AS p FROM books))
);
CREATE OR REPLACE TEMP TABLE meters AS
SELECT version, (json ->> 'id') AS meter, (json ->> 'event_type') AS event_type, (json ->> 'value') AS value, (json ->> 'unit') AS unit,
    (json ->> 'billable') AS billable, coalesce(json ->> 'zone', 'UTC') AS zone, json -> 'dimensions' AS dimensions, (json ->> 'aggregation') AS aggregation,
    CASE WHEN json_type(json -> 'aggregation') = 'OBJECT' THEN json_keys(json -> 'aggregation')[1] ELSE (json ->> 'aggregation') END AS measure,
    json_extract(json -> 'aggregation', '$.' || json_keys(json -> 'aggregation')[1]) AS settings
FROM documents WHERE kind = 'meter' AND json IS NOT NULL;
-- What billable states say of the meters that name them.
CREATE OR REPLACE TEMP TABLE billed_meters AS
SELECT m.version, m.meter, m.value, m.settings, p.policy, p.terms
FROM meters AS m JOIN (
    SELECT version, json AS policy, unnest(CAST(json -> 'meters' AS JSON[])) AS terms FROM documents WHERE kind = 'billable_states' AND json IS NOT NULL
) AS p ON p.version = m.version AND (p.policy ->> 'id') = m.billable AND (p.terms ->> 'meter') = m.meter;
CREATE OR REPLACE TEMP TABLE meter_dimensions AS
SELECT version, meter, name, json_path(json_extract_string(dimensions, json_path(name))) AS path
FROM (SELECT version, meter, dimensions, unnest(json_keys(dimensions)) AS name FROM meters);
CREATE OR REPLACE TEMP TABLE skus AS
SELECT version, (json ->> 'id') AS sku, (json ->> 'meter') AS meter, (json ->> 'family') AS family,
    list_transform(json_keys(json -> 'match'),
        lambda name: name || chr(1) || json_extract_string(json -> 'match', '$."' || name || '"')) AS terms,
    list_transform(list_distinct(coalesce(json_keys(json -> 'above'), []) || coalesce(json_keys(json -> 'up_to'), [])),
        lambda name: {'name': name, 'above': units(json_extract_string(json -> 'above', '$."' || name || '"'), 9),
            'up_to': units(json_extract_string(json -> 'up_to', '$."' || name || '"'), 9)}) AS ranges
FROM documents WHERE kind = 'sku' AND json IS NOT NULL;
CREATE OR REPLACE TEMP TABLE roundings AS
SELECT version, (json ->> 'asset') AS currency, CAST(json ->> 'scale' AS INTEGER) AS places, (json ->> 'mode') AS mode
FROM documents WHERE kind = 'rounding' AND json IS NOT NULL;

-- 2. Readings: commitments, leaves, trees.
CREATE OR REPLACE TEMP TABLE events AS
SELECT event, id, source, type, data, start_at, end_at, tie, '"' || instant_text(start_at) || '"' AS start_text,
    coalesce('"' || instant_text(end_at) || '"', 'null') AS end_text,
    sha256(salt || encode('{' || concat_ws(',', '"data":' || data, '"id":' || CAST(to_json(id) AS VARCHAR),
        '"project":' || CAST(to_json(project) AS VARCHAR), '"source":' || CAST(to_json(source) AS VARCHAR),
        '"subject":' || CAST(to_json(subject) AS VARCHAR), '"type":' || CAST(to_json(type) AS VARCHAR)) || '}')) AS commitment
FROM read_parquet('data/events.parquet');
CREATE OR REPLACE TEMP TABLE readings AS
SELECT r.month, r.log_seq, r.event, r.meter, r.unit, r.quantity, r.text AS quantity_text, r.version, r.contract, r.sku, r.price_id,
    r.leaf_check, coalesce(r.start_at, e.start_at) AS start_at, CASE WHEN r.start_at IS NULL THEN e.end_at ELSE r.end_at END AS end_at, coalesce(e.tie, 0) AS tie,
    r.start_at IS NOT NULL OR r.end_at IS NOT NULL AS piece,
    sha256('\x00'::BLOB || encode('{"commitment":"' || e.commitment
        || '","end_at":' || CASE WHEN r.start_at IS NULL THEN e.end_text ELSE coalesce('"' || instant_text(r.end_at) || '"', 'null') END || ',"log_seq":"' || r.log_seq
        || '","meter":"' || r.meter || '","quantity":"' || r.text || '","registry_version":"' || r.version
        || '","start_at":' || CASE WHEN r.start_at IS NULL THEN e.start_text ELSE '"' || instant_text(r.start_at) || '"' END || ',"unit":"' || r.unit || '"}')) AS leaf
FROM (SELECT *, lower(hex(registry_version)) AS version, quantity_text(quantity) AS text FROM read_parquet('data/readings.parquet')) AS r
LEFT JOIN events AS e USING (event);

-- RFC 6962: an inner node is H(01 ‖ left ‖ right); the last node of an odd level moves up unchanged.
CREATE OR REPLACE TEMP TABLE roots AS
WITH RECURSIVE level (month, l, i, width, hash) AS (
    SELECT r.month, 0, r.log_seq, c.n, unhex(r.leaf)
    FROM readings AS r JOIN (SELECT month, count(*) AS n FROM readings GROUP BY month) AS c USING (month) WHERE r.leaf IS NOT NULL
    UNION ALL
    SELECT month, l + 1, i // 2, (width + 1) // 2,
        CASE WHEN count(*) = 2 THEN h('\x01'::BLOB || min_by(hash, i) || max_by(hash, i)) ELSE min_by(hash, i) END
    FROM level WHERE width > 1 GROUP BY month, l, i // 2, width
)
SELECT month, min(lower(hex(hash))) AS root FROM level WHERE width = 1 GROUP BY month;

CREATE OR REPLACE TEMP TABLE log_proofs AS
SELECT p.month, p.size AS first, p.root AS first_root, l.size AS second, l.root AS second_root, p.path
FROM (SELECT CAST(json ->> 'month' AS INTEGER) AS month, CAST(json ->> 'size' AS BIGINT) AS size, (json ->> 'root') AS root,
        CAST(json -> 'path' AS VARCHAR[]) AS path
    FROM (SELECT unnest(CAST(json -> 'logs' AS JSON[])) AS json FROM proof)) AS p
FULL JOIN (SELECT CAST(json ->> 'month' AS INTEGER) AS month, CAST(json ->> 'size' AS BIGINT) AS size, (json ->> 'root') AS root
    FROM (SELECT unnest(CAST(json -> 'logs' AS JSON[])) AS json FROM organization)) AS l USING (month);

-- How often an even index above 0 can be halved.
CREATE OR REPLACE TEMP MACRO halvings(x) AS CASE WHEN x = 0 THEN 0 ELSE bit_count((x & -x) - 1) END;

-- Inclusion paths: RFC 9162, 2.1.3.2.
CREATE OR REPLACE TEMP TABLE inclusions AS
WITH RECURSIVE claims AS (
    SELECT 'organizations' AS tree, CAST((p.json -> 'organization' ->> 'index') AS BIGINT) AS i, (e.json ->> 'organizations_root') AS root,
        CAST((e.json ->> 'organizations') AS BIGINT) AS n, CAST(p.json -> 'organization' -> 'path' AS VARCHAR[]) AS path,
        h('\x00'::BLOB || encode(o.text)) AS hash
    FROM proof AS p, entry AS e, organization AS o
    UNION ALL
    SELECT 'checkpoints', c.size - 1, c.root, c.size, CAST(p.json -> 'entry' -> 'path' AS VARCHAR[]), h('\x00'::BLOB || encode(e.text))
    FROM proof AS p, entry AS e, checkpoint AS c
), walk (tree, i, n, root, path, step, fn, sn, r) AS (
    SELECT tree, i, n, root, path, 0, i, n - 1, hash FROM claims
    UNION ALL
    SELECT tree, i, n, root, path, step + 1,
        (CASE WHEN fn & 1 = 0 AND fn = sn THEN fn >> halvings(fn) ELSE fn END) >> 1,
        (CASE WHEN fn & 1 = 0 AND fn = sn THEN sn >> halvings(fn) ELSE sn END) >> 1,
        CASE WHEN fn & 1 = 1 OR fn = sn THEN h('\x01'::BLOB || unhex(path[step + 1]) || r) ELSE h('\x01'::BLOB || r || unhex(path[step + 1])) END
    FROM walk WHERE step < len(path) AND sn > 0
)
SELECT tree, i, n, root, max_by(lower(hex(r)), step) AS found,
    coalesce(bool_or(step = len(path) AND sn = 0 AND i < n AND lower(hex(r)) = root), false) AS holds
FROM walk GROUP BY tree, i, n, root;

-- Consistency paths of the organization's logs: RFC 9162, 2.1.4.2.
CREATE OR REPLACE TEMP TABLE consistencies AS
WITH RECURSIVE start AS (
    SELECT month, first, second, first_root, second_root,
        CASE WHEN bit_count(first) = 1 OR first = second THEN [first_root] || path ELSE path END AS path,
        bit_count(xor(first, first - 1)) - 1 AS shift
    FROM log_proofs WHERE first > 0 AND second >= first
), walk (month, first, second, first_root, second_root, path, step, fn, sn, fr, sr) AS (
    SELECT month, first, second, first_root, second_root, path, 1, (first - 1) >> shift, (second - 1) >> shift, unhex(path[1]), unhex(path[1])
    FROM start
    UNION ALL
    SELECT month, first, second, first_root, second_root, path, step + 1,
        (CASE WHEN fn & 1 = 0 AND fn = sn THEN fn >> halvings(fn) ELSE fn END) >> 1,
        (CASE WHEN fn & 1 = 0 AND fn = sn THEN sn >> halvings(fn) ELSE sn END) >> 1,
        CASE WHEN fn & 1 = 1 OR fn = sn THEN h('\x01'::BLOB || unhex(path[step + 1]) || fr) ELSE fr END,
        CASE WHEN fn & 1 = 1 OR fn = sn THEN h('\x01'::BLOB || unhex(path[step + 1]) || sr)
            ELSE h('\x01'::BLOB || sr || unhex(path[step + 1])) END
    FROM walk WHERE step < len(path) AND sn > 0
)
SELECT month, coalesce(bool_or(step = len(path) AND (sn = 0 OR first = second) AND lower(hex(fr)) = first_root AND lower(hex(sr)) = second_root),
    false) AS holds
FROM walk GROUP BY month;

-- A reading is a meter of an event, or a piece of it. Those that were rated again have more than one leaf: in the order of the log every other one takes the one before back, and the next one
-- stands in its place. The last stands now; the last of those that earlier invoices covered stood then. Of billed time nothing need stand in its place: a later version may cut or bill it otherwise.
CREATE OR REPLACE TEMP TABLE chains AS
SELECT month, log_seq, version, meter, n % 2 = 1 AS back, n % 2 = 0 AND n + 1 = leaves AS stands, n % 2 = 0 AND n + 1 = old_leaves AS stood, old, before, next,
    next IS NULL AND n % 2 = 1 AS gone, coalesce(next.month = month AND next.log_seq = log_seq + 1, false) AS goes_on, coalesce(before.month = month AND before.log_seq + 1 = log_seq, false) AS follows
FROM (
    SELECT month, log_seq, version, meter, old, row_number() OVER in_order - 1 AS n, count(*) OVER whole AS leaves, count(*) FILTER (old) OVER whole AS old_leaves,
        lag({'month': month, 'log_seq': log_seq, 'old': old, 'version': version, 'taken': concat_ws(' ', quantity_text(-quantity), version, contract, sku, price_id, unit, end_at)}) OVER in_order AS before,
        lead({'month': month, 'log_seq': log_seq, 'version': version}) OVER in_order AS next
    FROM (SELECT r.*, r.log_seq < coalesce(v.first, 0) AS old FROM readings AS r SEMI JOIN (SELECT event, meter, start_at FROM readings GROUP BY event, meter, start_at HAVING count(*) > 1) AS again
            USING (event, meter, start_at)
        LEFT JOIN covered AS v USING (month))
    WINDOW whole AS (PARTITION BY event, meter, start_at), in_order AS (PARTITION BY event, meter, start_at ORDER BY month, log_seq)
);
CREATE OR REPLACE TEMP TABLE standing AS
SELECT r.* EXCLUDE (leaf), coalesce(c.back, false) AS back, coalesce(c.stands, true) AS stands, coalesce(c.stood, r.log_seq < coalesce(v.first, 0)) AS stood
FROM readings AS r LEFT JOIN chains AS c USING (month, log_seq) LEFT JOIN covered AS v USING (month);

-- The pieces of events whose time is billed by states, by the versions of their leaves, and by that of the invoice, under which what stands must be the same piece.
CREATE OR REPLACE TEMP MACRO month_of(micros) AS year(make_timestamp(micros)) * 12 + month(make_timestamp(micros)) - 1;
CREATE OR REPLACE TEMP MACRO names_of(fields, name) AS coalesce(CAST(json_extract(fields, '$.' || name) AS VARCHAR[]), []);
CREATE OR REPLACE TEMP MACRO band_micros(band) AS (CAST(band[1:2] AS BIGINT) * 60 + CAST(band[4:5] AS BIGINT)) * 60000000;
-- A span's own member goes before the event's.
CREATE OR REPLACE TEMP MACRO look(own, data, path) AS coalesce(json_extract_string(own, path), json_extract_string(data, path));
CREATE OR REPLACE TEMP MACRO read_units(number) AS CASE WHEN is_quantity(number) THEN quantity_units(TRY_CAST(number AS DECIMAL(38, 9))) END;
-- RFC 3339 with any offset, in microseconds.
CREATE OR REPLACE TEMP MACRO offset_minutes(zone) AS
    CASE WHEN upper(zone) = 'Z' THEN 0 ELSE CASE WHEN zone[1] = '-' THEN -1 ELSE 1 END * (CAST(zone[2:3] AS BIGINT) * 60 + CAST(zone[5:6] AS BIGINT)) END;
CREATE OR REPLACE TEMP MACRO span_micros(moment) AS
    epoch_us(CAST(moment[1:10] || ' ' || moment[12:19] AS TIMESTAMP)) + CAST(rpad(left(regexp_extract(moment, '^.{19}\.([0-9]+)', 1), 6), 6, '0') AS BIGINT)
    - offset_minutes(regexp_extract(moment, '([Zz]|[-+][0-9]{2}:[0-9]{2})$', 1)) * 60000000;
CREATE OR REPLACE TEMP TABLE changes AS
SELECT version, meter, list(DISTINCT epoch_us(effective_at)) AS moments FROM (
    SELECT a.version, b.meter, a.effective_at FROM agreements AS a JOIN billed_meters AS b USING (version)
    UNION ALL
    SELECT p.version, s.meter, p.effective_at FROM prices AS p SEMI JOIN agreements AS a USING (version, book) JOIN skus AS s USING (version, sku)
) GROUP BY version, meter;
CREATE OR REPLACE TEMP TABLE spans AS
WITH leases AS (
    SELECT l.event, l.version, l.meter, e.data, epoch_us(e.start_at) AS start, epoch_us(e.start_at) AS opening, epoch_us(e.end_at) AS closing, epoch_us(e.end_at) AS until, b.value, b.terms, names_of(b.policy, 'start') AS starting, names_of(b.policy, 'stop') AS stopping,
        CASE WHEN list_has_any(names_of(b.policy, 'start'), names_of(b.policy, 'stop')) THEN error('billable states ' || (b.policy ->> 'id') || ' both start and stop by one state, which this file cannot judge; tally-verify can')
            ELSE b.policy END AS policy
    FROM (SELECT event, version, meter FROM standing UNION SELECT event, (i.json ->> 'registry_version'), meter FROM standing, invoice AS i) AS l JOIN billed_meters AS b USING (version, meter) JOIN events AS e USING (event)
), told AS (
    SELECT *, 1 AS i, CAST(NULL AS JSON) AS own, json_extract_string(data, json_path(policy -> 'told' ->> 'state')) AS state FROM leases WHERE (policy -> 'told' ->> 'state') IS NOT NULL
    UNION ALL
    SELECT * EXCLUDE (own, list) REPLACE (span_micros(own ->> 'start') AS start), own, (own ->> 'state') FROM (
        SELECT *, generate_subscripts(list, 1) AS i, unnest(list) AS own FROM (SELECT *, CAST(json_extract(data, json_path(policy -> 'told' ->> 'spans')) AS JSON[]) AS list FROM leases WHERE (policy -> 'told' ->> 'spans') IS NOT NULL)
    ) AS s
)
SELECT * REPLACE (coalesce(lead(start) OVER lease, until) AS until), (terms ->> 'during') = 'lease' OR len(starting) + len(stopping) = 0 AS whole FROM told
WINDOW lease AS (PARTITION BY event, version, meter ORDER BY i);
CREATE OR REPLACE TEMP TABLE pieces AS
WITH opened AS (
    SELECT *, whole OR coalesce(last_value(CASE WHEN list_contains(starting, state) THEN true WHEN list_contains(stopping, state) THEN false END IGNORE NULLS) OVER lease, len(starting) = 0) AS open
    FROM spans WINDOW lease AS (PARTITION BY event, version, meter ORDER BY i ROWS UNBOUNDED PRECEDING)
), begun AS (
    SELECT *, open AND NOT coalesce(lag(open) OVER (PARTITION BY event, version, meter ORDER BY i), whole OR len(starting) = 0) AS begins FROM opened
), sessions AS (
    SELECT *, CAST(count(*) FILTER (begins) OVER (PARTITION BY event, version, meter ORDER BY i ROWS UNBOUNDED PRECEDING) - CASE WHEN whole OR len(starting) = 0 THEN 0 ELSE 1 END AS BIGINT) AS number
    FROM begun
), rated AS (
    SELECT *, CASE WHEN (policy ->> 'never_ready') IS NOT NULL AND NOT bool_or(list_contains(names_of(policy, 'ready'), state)) OVER (PARTITION BY event, version, meter, number)
        THEN (policy ->> 'never_ready') ELSE json_extract_string(terms -> 'rates', json_path(state)) END AS rate
    FROM sessions WHERE open
), levels AS (
    SELECT r.event, r.version, r.meter, r.i, r.start, r.until, r.policy, list_max([read_units(look(own, data, json_path(value))), units(terms ->> 'at_least', 9)]
            || list_transform(json_keys(terms -> 'greater_of'), lambda path: read_units(look(own, data, json_path(path))) * units(json_extract_string(terms -> 'greater_of', '$."' || path || '"'), 9) // 1000000000)) AS level,
        list_filter(coalesce(list_transform(d.dimensions, lambda d: d.name || chr(1) || look(own, data, d.path)), []), lambda d: split_part(d, chr(1), 1) NOT IN ('rate', 'session', 'band'))
            || ['rate' || chr(1) || rate] || CASE WHEN (policy ->> 'session') IS NULL THEN [] ELSE
                ['session' || chr(1) || json_extract_string(data, json_path(policy ->> 'session')) || CASE WHEN number = 0 THEN '' ELSE '#' || (number + 1) END] END AS dimensions
    FROM rated AS r LEFT JOIN (SELECT version, meter, list({'name': name, 'path': path} ORDER BY name) AS dimensions FROM meter_dimensions GROUP BY version, meter) AS d USING (version, meter)
    WHERE r.start < r.until AND json_extract_string(terms -> 'rates', json_path(state)) IS NOT NULL AND read_units(look(own, data, json_path(value))) IS NOT NULL
), joined AS (
    SELECT *, CASE WHEN start = lag(until) OVER lease AND level = lag(level) OVER lease AND dimensions = lag(dimensions) OVER lease THEN 0 ELSE 1 END AS first FROM levels
    WINDOW lease AS (PARTITION BY event, version, meter ORDER BY i)
), merged AS (
    SELECT event, version, meter, min(start) AS start, max(until) AS until, any_value(policy) AS policy, any_value(level) AS level, any_value(dimensions) AS dimensions
    FROM (SELECT *, sum(first) OVER (PARTITION BY event, version, meter ORDER BY i ROWS UNBOUNDED PRECEDING) AS island FROM joined) GROUP BY event, version, meter, island
), cut AS (
    SELECT m.*, list_sort(list_distinct(list_filter(coalesce(c.moments, []) || list_transform(range(month_of(start) + 1, month_of(until) + 1), lambda k: epoch_us(make_timestamp(k // 12, k % 12 + 1, 1, 0, 0, 0)))
            || list_transform(list_filter(days, lambda d: (policy ->> 'split') = 'day' OR day(DATE '1970-01-01' + CAST(d AS INTEGER)) = 1), lambda d: start_of(policy ->> 'zone', d))
            || list_transform(bands, lambda b: b.moment),
        lambda x: x > start AND x < until))) AS inside
    FROM (SELECT *, flatten(list_transform(days, lambda d: list_transform(list_sort(json_keys(policy -> 'bands')),
            lambda t: {'moment': instant_of(policy ->> 'zone', d * 86400000000 + band_micros(t)), 'band': json_extract_string(policy -> 'bands', '$."' || t || '"')}))) AS bands
        FROM (SELECT *, range(date_of(policy ->> 'zone', start) - 1, date_of(policy ->> 'zone', until) + 2) AS days FROM merged)) AS m LEFT JOIN changes AS c USING (version, meter)
)
SELECT event, version, meter, piece[1] AS start, piece[2] AS until, level,
    list_sort(dimensions || CASE WHEN len(bands) = 0 THEN [] ELSE ['band' || chr(1) || list_filter(bands, lambda b: b.moment <= piece[1])[-1].band] END) AS dimensions
FROM (SELECT *, unnest(list_zip([start] || inside, inside || [until])) AS piece FROM cut);

-- 3 and 4. What the version's meter reads, and the price of each reading; of what stands also the price that the invoice's version has for it (`now`). Readings of
-- one version, meter and dimension values have one schedule of prices.
CREATE OR REPLACE TEMP TABLE metered AS
SELECT *, array_to_string(dimensions, chr(2)) AS dimension_text FROM (
SELECT r.month, r.log_seq, r.quantity, r.quantity_text, r.version, r.meter, r.contract, r.sku, r.price_id, r.start_at, r.end_at, r.tie, r.back, r.stands, r.stood, r.now, m.billable IS NOT NULL OR r.cut AS billable,
    r.piece AND m.billable IS NULL AND (r.start_at, r.end_at) IS DISTINCT FROM (e.start_at, e.end_at) AS moved, m.billable IS NOT NULL AND epoch_us(r.end_at) IS DISTINCT FROM p.until AS other_end,
    p.until, p.level,
    concat_ws(' ', e.type, r.unit) AS kind_found, concat_ws(' ', m.event_type, m.unit) AS kind_wanted,
    CASE WHEN m.billable IS NOT NULL THEN money(p.level) WHEN m.path IS NULL THEN '1' ELSE json_extract_string(e.data, m.path) END AS metered,
    CASE WHEN m.billable IS NOT NULL THEN p.dimensions ELSE list_transform(m.dimensions, lambda d: d.name || chr(1) || json_extract_string(e.data, d.path)) END AS dimensions
FROM (
    SELECT *, false AS now, false AS cut FROM standing
    UNION ALL
    SELECT s.* REPLACE ((i.json ->> 'registry_version') AS version), true, (s.version, s.meter) IN (SELECT (version, meter) FROM billed_meters) FROM standing AS s, invoice AS i WHERE s.stands AND s.version <> (i.json ->> 'registry_version')
) AS r JOIN events AS e USING (event)
LEFT JOIN (
    SELECT m.version, m.meter, m.event_type, m.unit, m.billable, json_path(m.value) AS path, coalesce(d.dimensions, []) AS dimensions
    FROM meters AS m LEFT JOIN (
        SELECT version, meter, list({'name': name, 'path': path} ORDER BY name) AS dimensions FROM meter_dimensions GROUP BY version, meter
    ) AS d ON d.version = m.version AND d.meter = m.meter
) AS m ON m.version = r.version AND m.meter = r.meter
LEFT JOIN pieces AS p ON p.event = r.event AND p.version = r.version AND p.meter = r.meter AND p.start = epoch_us(r.start_at));
CREATE OR REPLACE TEMP TABLE schedules AS
WITH combinations AS (SELECT version, meter, dimension_text, any_value(dimensions) AS dimensions FROM metered GROUP BY version, meter, dimension_text),
-- Of the SKUs that a book prices and that match, the one with the most members, ranges counted. A price list has thousands: those that
-- match the same names are found by the values of these.
shapes AS (SELECT DISTINCT version, meter, list_transform(terms, lambda t: split_part(t, chr(1), 1)) AS names FROM skus),
choices AS (
    SELECT c.version, c.meter, c.dimension_text, p.book, max_by(s.sku, len(s.terms) + len(s.ranges)) AS sku
    FROM (SELECT c.*, list_filter(c.dimensions, lambda d: list_contains(n.names, split_part(d, chr(1), 1))) AS terms
        FROM combinations AS c JOIN shapes AS n ON n.version = c.version AND n.meter = c.meter) AS c
    JOIN skus AS s ON s.version = c.version AND s.meter = c.meter AND s.terms = c.terms
    JOIN (SELECT DISTINCT version, book, sku FROM prices) AS p ON p.version = s.version AND p.sku = s.sku
    WHERE len(list_filter(s.ranges, lambda r: NOT in_range(dimension_units(c.dimensions, r.name), r.above, r.up_to))) = 0
    GROUP BY c.version, c.meter, c.dimension_text, p.book
),
moments AS (SELECT DISTINCT version, effective_at FROM agreements UNION SELECT version, effective_at FROM prices),
agreed AS (
    SELECT m.version, m.effective_at, a.id AS contract, a.book
    FROM moments AS m ASOF JOIN agreements AS a ON a.version = m.version AND m.effective_at >= a.effective_at
)
SELECT c.version, c.meter, c.dimension_text, c.effective_at, c.contract, c.sku, p.price_id, p.kind, p.currency
-- A contract whose book prices none of the SKUs ends what the contract before it charged: it has a row, without a price.
FROM (
    SELECT c.version, c.meter, c.dimension_text, g.effective_at, g.contract, g.book, s.sku FROM combinations AS c JOIN agreed AS g ON g.version = c.version
    LEFT JOIN choices AS s ON s.version = c.version AND s.meter = c.meter AND s.dimension_text = c.dimension_text AND s.book = g.book
) AS c
ASOF LEFT JOIN prices AS p ON p.version = c.version AND p.book = c.book AND p.sku = c.sku AND c.effective_at >= p.effective_at;
CREATE OR REPLACE TEMP TABLE priced AS
SELECT r.month, r.log_seq, r.quantity, r.version, r.meter, r.contract, r.sku, r.price_id, r.start_at, r.end_at, r.tie, r.dimensions, p.contract AS found_contract, p.sku AS found_sku,
    p.price_id AS found_price, p.kind, p.currency, r.log_seq >= coalesce(v.first, 0) AS fresh, r.stands, r.stood, r.now
FROM metered AS r
ASOF LEFT JOIN schedules AS p ON p.version = r.version AND p.meter = r.meter AND p.dimension_text = r.dimension_text AND r.start_at >= p.effective_at
LEFT JOIN covered AS v ON v.month = r.month;
-- Only rows that price what stands must say the same in each version, of a meter that adds up the same way: one that priced nothing may be
-- corrected in a later version, and rating again may alter one. So rows by which something stood before have a name of their own.
-- Unit size, size of packages and free units at scale 9; a conversion in lowest terms.
CREATE OR REPLACE TEMP MACRO before_row(price_id) AS price_id || ' before';
CREATE OR REPLACE TEMP TABLE price_rows AS
SELECT price_id, texts, CASE WHEN terms IS NULL THEN measure ELSE 'stepped' END AS measure, measure = 'prorated' AS share, settings, zone, stated_kind,
    coalesce(units(terms ->> 'increment', 6), 1) AS step, coalesce(units(terms ->> 'minimum', 6), 0) AS least, (terms ->> 'rounding') AS step_rounding,
    CASE WHEN coalesce(units(terms ->> 'increment', 6), 1) = 1 AND units(terms ->> 'minimum', 6) = 0 THEN 'reading' ELSE (terms ->> 'each') END AS together, CASE WHEN stated_kind = 'graduated_percentage' THEN 'graduated' ELSE stated_kind END AS kind, model, adjusted,
    coalesce(units(model ->> 'per', 9), CASE WHEN ends_with(stated_kind, 'percentage') THEN 100 ELSE 1 END * CAST(1000000000 AS HUGEINT)) AS per,
    coalesce((adjusted ->> 'applies_to') = 'each_event', false) AS each, coalesce(units(adjusted ->> 'free_units', 9), 0) AS free,
    multiply // gcd(multiply, divide) AS factor, divide // gcd(multiply, divide) AS divisor,
    coalesce(adjusted -> 'convert' ->> 'rounding', 'none') AS rounding, CAST(coalesce(adjusted -> 'convert' ->> 'places', '0') AS INTEGER) AS places,
    committed, units(commitment -> 'promised' ->> 'amount', 18) AS promised_amount, units(commitment -> 'promised' ->> 'quantity', 9) AS promised_quantity,
    overage // gcd(overage, 1000000000) AS overage, 1000000000 // gcd(overage, 1000000000) AS whole_price, (commitment ->> 'true_up') AS true_up
FROM (
    SELECT *, committed -> 'commitment' AS commitment, units(committed -> 'commitment' ->> 'overage_factor', 9) AS overage FROM (
    SELECT f.price_id, any_value(p.kind) AS stated_kind, any_value(p.model) AS model, any_value(p.adjusted) AS adjusted, any_value(p.committed) AS committed, any_value(m.measure) AS measure,
        any_value(m.settings) AS settings, any_value(m.zone) AS zone, any_value(b.terms) AS terms,
        count(DISTINCT p.text || m.aggregation || m.zone || concat_ws(' ', b.terms ->> 'increment', b.terms ->> 'rounding', b.terms ->> 'minimum', b.terms ->> 'each')) AS texts,
        coalesce(units(any_value(p.adjusted) -> 'convert' ->> 'multiply', 9), 1) AS multiply, coalesce(units(any_value(p.adjusted) -> 'convert' ->> 'divide', 9), 1) AS divide
    FROM (
        SELECT version, meter, found_price, found_price AS price_id FROM priced WHERE stands
        UNION
        SELECT version, meter, found_price, before_row(found_price) FROM priced WHERE stood AND NOT now
    ) AS f JOIN prices AS p ON p.version = f.version AND p.price_id = f.found_price JOIN meters AS m ON m.version = f.version AND m.meter = f.meter
    LEFT JOIN billed_meters AS b ON b.version = f.version AND b.meter = f.meter
    GROUP BY f.price_id)
);
CREATE OR REPLACE TEMP TABLE tiers AS
SELECT price_id, t, coalesce(units(lag(tier ->> 'up_to') OVER (PARTITION BY price_id ORDER BY t), 9), 0) AS lower, units(tier ->> 'up_to', 9) AS upper,
    units(coalesce(tier ->> 'unit_price', tier ->> 'block_price'), 18) AS price, coalesce(units(tier ->> 'flat_fee', 18), 0) AS fee, units(tier ->> 'size', 9) AS size
FROM (SELECT price_id, unnest(CAST(model -> 'tiers' AS JSON[])) AS tier, generate_subscripts(CAST(model -> 'tiers' AS JSON[]), 1) AS t FROM price_rows);

-- 5. Lines. A key is worth something after all covered leaves, and was worth something after those of earlier invoices.
CREATE OR REPLACE TEMP TABLE key_readings AS
SELECT found_contract AS contract, found_sku AS sku, month, found_price AS price_id, kind, quantity_units(quantity) AS q, fresh, start_at, end_at, tie, dimensions, stands, stood
FROM priced WHERE NOT now AND currency = (SELECT (json ->> 'currency') FROM invoice);
CREATE OR REPLACE TEMP TABLE keys_found AS
SELECT contract, sku, month, sum(q) AS quantity, count(*) AS readings, coalesce(sum(q) FILTER (fresh), 0) AS fresh_quantity,
    count(*) FILTER (fresh) AS fresh_readings, count(*) FILTER (fresh AND kind <> 'free') AS fresh_charged, count(*) FILTER (NOT fresh) AS earlier
FROM key_readings GROUP BY contract, sku, month;
CREATE OR REPLACE TEMP TABLE segments AS
SELECT contract, sku, month, 'after' AS stage, price_id, sum(q) AS q, count(*) AS n FROM key_readings WHERE kind <> 'free' AND stands GROUP BY ALL
UNION ALL
SELECT contract, sku, month, 'before', before_row(price_id), sum(q), count(*) FROM key_readings WHERE kind <> 'free' AND stood GROUP BY ALL;
CREATE OR REPLACE TEMP MACRO key_name(contract, sku, month, stage) AS contract || chr(1) || sku || chr(1) || month || chr(1) || stage;
-- Readings one by one, where sums are not enough: with the service period in microseconds, how long each is held (without an end to the end of
-- the period), and the value that is counted. With whole days, from the begin of the first to the end of the last local one that it touches, without what of them
-- lies in the month before or, unless the reading goes on, in the one behind.
CREATE OR REPLACE TEMP TABLE facts AS
SELECT *, CASE WHEN (settings ->> 'by') = 'day' THEN least(start_of(zone, date_of(zone, greatest(until - 1, start)) + 1), CASE WHEN until <= first + length THEN first + length END)
    - greatest(start_of(zone, date_of(zone, start)), first) ELSE until - start END AS held FROM (
    SELECT key_name(contract, sku, month, stage) AS name, price_id, q, r.tie,
        epoch_us(start_at) AS start, epoch_us(coalesce(end_at, opening + INTERVAL 1 MONTH)) AS until, epoch_us(end_at) AS stated_end,
        epoch_us(opening) AS first, epoch_us(opening + INTERVAL 1 MONTH) - epoch_us(opening) AS length,
        CASE WHEN p.together = 'session' THEN substr(list_filter(dimensions, lambda d: starts_with(d, 'session' || chr(1)))[1], 9)
            ELSE substr(list_filter(dimensions, lambda d: starts_with(d, (settings ->> 'of') || chr(1)))[1], length(settings ->> 'of') + 2) END AS value,
        p.together, p.step, p.step_rounding, p.least, p.share, p.measure, p.settings, p.zone, p.kind, p.each
    FROM (
        SELECT *, make_timestamp(month // 100, month % 100, 1, 0, 0, 0) AS opening FROM (
            SELECT *, 'after' AS stage FROM key_readings WHERE stands UNION ALL SELECT * REPLACE (before_row(price_id) AS price_id), 'before' FROM key_readings WHERE stood)
    ) AS r JOIN price_rows AS p USING (price_id)
    WHERE p.kind <> 'free' AND (p.each OR p.kind = 'percentage' OR p.measure NOT IN ('sum', 'count', 'average'))
);
-- Where the buckets of a period begin: the first one with the period; an hour at each full one of local clocks, and where these are changed by a part of one.
CREATE OR REPLACE TEMP TABLE grids AS
SELECT zone, size, first, len(begins) AS n, unnest(begins) AS start FROM (
    SELECT zone, size, first, CASE
        WHEN size = 'five_minutes' THEN range(first, first + length, 300000000)
        WHEN size = 'hour' AND zone = 'UTC' THEN range(first, first + length, 3600000000)
        WHEN size = 'hour' THEN list_filter(range(first, first + length, 60000000), lambda m: m = first OR shown_at(zone, m) % 3600000000 = 0
            OR (ahead(zone, m) - ahead(zone, m - 60000000)) % 3600000000 <> 0)
        WHEN size = 'day' THEN list_transform(dates(zone, first, first + length - 1), lambda d: greatest(start_of(zone, d), first)) END AS begins
    FROM (SELECT DISTINCT zone, settings ->> 'bucket' AS size, first, length FROM facts WHERE measure = 'bucketed'));
-- Of days the date decides: there were clocks that were put back over midnight.
CREATE OR REPLACE TEMP TABLE buckets AS
SELECT name, price_id, outcome, any_value(n) AS n, bucket, CASE WHEN each = 'sum' THEN sum(q) ELSE greatest(max(q), 0) END AS q
FROM (
    SELECT f.name, f.price_id, f.q, f.settings ->> 'then' AS outcome, f.settings ->> 'each' AS each, g.n, CASE WHEN g.size = 'day' THEN date_of(f.zone, f.start) ELSE g.start END AS bucket
    FROM (SELECT *, settings ->> 'bucket' AS size FROM facts WHERE measure = 'bucketed') AS f ASOF JOIN grids AS g ON f.zone = g.zone AND f.size = g.size AND f.first = g.first AND f.start >= g.start
) GROUP BY name, price_id, outcome, each, bucket;
-- Time held, of what belongs together and of each level by itself, counted in steps; of nothing, nothing is counted.
CREATE OR REPLACE TEMP MACRO counted(held, step, rounding, least) AS CASE WHEN held = 0 THEN 0 ELSE greatest(least, held - held % step
    + CASE WHEN held % step = 0 OR rounding = 'down' OR (rounding = 'half_even' AND (2 * (held % step) < step OR (2 * (held % step) = step AND held // step % 2 = 0))) THEN 0 ELSE step END) END;
CREATE OR REPLACE TEMP TABLE stepped AS
SELECT name, price_id, q, share, length, counted(held, step, step_rounding, least) AS held FROM facts WHERE measure = 'stepped' AND together = 'reading'
UNION ALL
SELECT name, price_id, q, any_value(share), any_value(length), counted(sum(held), any_value(step), any_value(step_rounding), any_value(least))
FROM facts WHERE measure = 'stepped' AND together <> 'reading' GROUP BY name, price_id, q, value;
-- What is measured: quantities n ÷ d at scale 9, each so many times. Tiers go by them, but of prorated levels by the full ones, which are marked as reached.
CREATE OR REPLACE TEMP TABLE measured AS
SELECT key_name(contract, sku, month, stage) AS name, price_id, false AS reached, q AS n, CASE WHEN p.measure = 'average' THEN s.n ELSE 1 END AS d, 1 AS times
FROM segments AS s JOIN price_rows AS p USING (price_id) WHERE p.measure IN ('sum', 'count', 'average') AND NOT p.each AND p.kind <> 'percentage'
UNION ALL
SELECT name, price_id, false, q, 1, count(*) FROM facts WHERE each GROUP BY name, price_id, q
UNION ALL
SELECT name, price_id, false, CASE any_value(measure) WHEN 'max' THEN max(q) WHEN 'min' THEN min(q) ELSE greatest(last(q ORDER BY start, tie), 0) END, 1, 1
FROM facts WHERE measure IN ('max', 'min', 'latest') GROUP BY name, price_id
UNION ALL
SELECT name, price_id, false, count(DISTINCT value) * CAST(1000000000 AS HUGEINT), 1, 1 FROM facts WHERE measure = 'unique' AND (settings ->> 'per') = 'period' GROUP BY name, price_id
UNION ALL
SELECT name, price_id, false, count(DISTINCT day || ' ' || value) * CAST(1000000000 AS HUGEINT), len(any_value(dates(zone, first, first + length - 1))), 1
FROM (SELECT *, unnest(dates(zone, start, greatest(coalesce(stated_end, start) - 1, start))) AS day FROM facts WHERE measure = 'unique' AND (settings ->> 'per') = 'day')
GROUP BY name, price_id
UNION ALL
SELECT name, price_id, false, sum(q * held), CASE WHEN any_value(measure) = 'prorated' THEN any_value(length) ELSE 1000000 END, 1
FROM facts WHERE measure = 'time_weighted' OR (measure = 'prorated' AND kind <> 'graduated') GROUP BY name, price_id
UNION ALL
SELECT name, price_id, false, CAST(sum(q * held) AS HUGEINT), CASE WHEN any_value(share) THEN any_value(length) ELSE 1000000 END, 1 FROM stepped GROUP BY name, price_id
UNION ALL
SELECT name, price_id, true, sum(q), 1, 1 FROM facts WHERE measure = 'prorated' AND kind <> 'graduated' GROUP BY name, price_id
UNION ALL
SELECT name, price_id, false, sum(q), 1, 1 FROM buckets WHERE outcome = 'sum' GROUP BY name, price_id
UNION ALL
SELECT name, price_id, false, q, 1, count(*) FROM buckets WHERE outcome = 'alone' GROUP BY name, price_id, q
UNION ALL
-- What was promised as a quantity costs what a window costs that measures it; it is none of the windows: it is there no times.
SELECT DISTINCT b.name, price_id, false, p.promised_quantity, 1, 0 FROM buckets AS b JOIN price_rows AS p USING (price_id) WHERE p.promised_quantity IS NOT NULL
UNION ALL
-- The nearest rank, buckets without readings being zero.
SELECT name, price_id, false, list_sort(list_resize(list(q), any_value(n), CAST(0 AS HUGEINT)))[
    (any_value(n) * CAST(substr(any_value(outcome), 2) AS INTEGER) + 99) // 100], 1, 1
FROM buckets WHERE starts_with(outcome, 'p') GROUP BY name, price_id;
-- Converted, rounded once, without what is free; `above` is the whole number of 10^-9 at or above n ÷ d: bounds are compared with it.
CREATE OR REPLACE TEMP MACRO ceil_div(x, d) AS floor_div(x, d) + CASE WHEN x % d = 0 THEN 0 ELSE 1 END;
CREATE OR REPLACE TEMP TABLE billed AS
WITH converted AS (
    SELECT name, price_id, reached, times, free, rounding, (n // gcd(n, divisor)) * (factor // gcd(factor, d)) AS n, (d // gcd(factor, d)) * (divisor // gcd(n, divisor)) AS d,
        CAST(rpad('1', 10 - places, '0') AS HUGEINT) AS step
    FROM (SELECT m.* REPLACE (CAST(m.d AS HUGEINT) AS d), p.free, p.rounding, p.places, CAST(p.factor AS HUGEINT) AS factor, CAST(p.divisor AS HUGEINT) AS divisor
        FROM measured AS m JOIN price_rows AS p USING (price_id))
), rounded AS (
    SELECT name, price_id, reached, times, free, CASE WHEN rounding = 'none' THEN n ELSE step * CASE rounding WHEN 'floor' THEN floor_div(n, step * d) WHEN 'ceiling' THEN ceil_div(n, step * d)
            ELSE floor_div(n, step * d) + CASE WHEN floor_mod(n, step * d) > step * d - floor_mod(n, step * d) THEN 1 WHEN floor_mod(n, step * d) < step * d - floor_mod(n, step * d) THEN 0
                WHEN rounding = 'half_away_from_zero' THEN CASE WHEN n > 0 THEN 1 ELSE 0 END ELSE abs(floor_div(n, step * d) % 2) END END END AS n,
        CASE WHEN rounding = 'none' THEN d ELSE 1 END AS d
    FROM converted
)
SELECT name, price_id, reached, times, n, d, ceil_div(n, d) AS above FROM (SELECT * REPLACE (CASE WHEN n > 0 THEN greatest(n - free * d, 0) ELSE n END AS n) FROM rounded);
CREATE OR REPLACE TEMP TABLE quantities AS
SELECT row_number() OVER () AS i, b.name, b.n, b.d, b.times, b.above, coalesce(r.above, b.above) AS reach, p.price_id, p.kind, p.model, p.per, p.committed IS NOT NULL AS committed
FROM (SELECT * FROM billed WHERE NOT reached) AS b LEFT JOIN (SELECT * FROM billed WHERE reached) AS r USING (name, price_id) JOIN price_rows AS p USING (price_id);
-- Graduated tiers over prorated levels: each change, in order, is spread over the tiers that it passes and weighted with the time that it is held.
CREATE OR REPLACE TEMP MACRO inside(level, t, lower, upper) AS
    CASE WHEN t = 1 THEN least(level, coalesce(upper, level)) ELSE greatest(least(level, coalesce(upper, level)), lower) - lower END;
CREATE OR REPLACE TEMP TABLE levels AS
SELECT name, price_id, t, price, fee, length, sum((inside(level, t, lower, upper) - inside(level - q, t, lower, upper)) * held) AS moved, bool_or(level > lower) AS entered
FROM (
    SELECT name, price_id, q, held, length, sum(q) OVER (PARTITION BY name, price_id ORDER BY start, tie ROWS UNBOUNDED PRECEDING) AS level
    FROM facts WHERE measure = 'prorated' AND kind = 'graduated'
) JOIN tiers USING (price_id) GROUP BY name, price_id, t, price, fee, length;
-- Percentages: while the allowance lasts readings are free, the first ones by their start; the share of any other is held between its bounds.
CREATE OR REPLACE TEMP TABLE percentages AS
WITH rates AS (
    SELECT price_id, per, units(model ->> 'rate', 18) AS rate, units(model ->> 'fee', 18) AS fee, units(model ->> 'least', 18) AS least, units(model ->> 'most', 18) AS most,
        CAST(model ->> 'free_readings' AS BIGINT) AS free_readings, units(model ->> 'free_value', 9) AS free_value FROM price_rows WHERE kind = 'percentage'
), numbered AS (
    SELECT name, price_id, q, row_number() OVER in_order AS i, sum(greatest(q, 0)) OVER in_order - greatest(q, 0) AS taken, sum(q) OVER (PARTITION BY name, price_id) AS whole
    FROM facts WHERE kind = 'percentage' WINDOW in_order AS (PARTITION BY name, price_id ORDER BY start, tie ROWS UNBOUNDED PRECEDING)
), charged AS (
    SELECT name, rate, fee, least, most, per, rate // gcd(rate, per) AS lowest_rate, per // gcd(rate, per) AS lowest_per, CASE
        WHEN (free_readings = 0 AND free_value = 0) OR (free_readings > 0 AND i > free_readings) OR (free_value > 0 AND taken >= free_value) THEN q
        WHEN free_value > 0 AND q > free_value - taken THEN q - (free_value - taken) END AS q
    FROM numbered JOIN rates USING (price_id) WHERE whole > 0
)
SELECT name, rate, fee, least, most, per, q, CASE WHEN q * lowest_rate < least * lowest_per THEN 'least' WHEN q * lowest_rate > most * lowest_per THEN 'most' ELSE 'within' END AS share
FROM charged WHERE q IS NOT NULL;
-- What each quantity is worth by its model: terms a × b ÷ per. Quantities are at scale 9, prices at scale 18; fees, packages and blocks have no unit size.
CREATE OR REPLACE TEMP TABLE worths AS
SELECT i, n AS a, units(model ->> 'unit_price', 18) AS b, per * d AS per FROM quantities WHERE kind = 'per_unit'
UNION ALL
SELECT i, ceil_div(greatest(above, 0), units(model ->> 'size', 9)), units(model ->> 'package_price', 18), 1 FROM quantities WHERE kind = 'package'
UNION ALL
SELECT i, CASE WHEN above > upper THEN upper - lower ELSE n - lower * d END, price, CASE WHEN above > upper THEN per ELSE per * d END
FROM quantities JOIN tiers USING (price_id) WHERE kind = 'graduated' AND (t = 1 OR above > lower)
UNION ALL
SELECT i, 1, fee, 1 FROM quantities JOIN tiers USING (price_id) WHERE kind = 'graduated' AND above > lower
UNION ALL
SELECT i, n, price, per * d FROM quantities JOIN tiers USING (price_id) WHERE kind = 'volume' AND (t = 1 OR reach > lower) AND (upper IS NULL OR reach <= upper)
UNION ALL
SELECT i, 1, fee, 1 FROM quantities JOIN tiers USING (price_id) WHERE kind = 'volume' AND reach > lower AND (upper IS NULL OR reach <= upper)
UNION ALL
SELECT i, ceil_div(least(above, coalesce(upper, above)) - lower, size), price, 1 FROM quantities JOIN tiers USING (price_id) WHERE kind = 'blocks' AND above > lower
UNION ALL
SELECT i, ceil_div(greatest(above, 0), size), price, 1
FROM quantities JOIN tiers USING (price_id) WHERE kind = 'top_blocks' AND (t = 1 OR reach > lower) AND (upper IS NULL OR reach <= upper);

-- Sums of terms for each name, as coefficients of 10^9k over one denominator: the least common multiple of the unit sizes in lowest terms, below 10^28.
CREATE OR REPLACE TEMP MACRO limbs(number) AS list_transform(range(5), lambda k:
    CAST(substr(lpad(CAST(abs(number) AS VARCHAR), 45, '0'), 45 - 9 * (k + 1) + 1, 9) AS BIGINT));
CREATE OR REPLACE TEMP MACRO coefficients_of(source) AS TABLE
WITH lowest AS (
    SELECT name, a // gcd(a, per) AS a, b, per // gcd(a, per) AS per
    FROM (SELECT name, CAST(sum(a) AS HUGEINT) AS a, b, CAST(per AS HUGEINT) AS per FROM query_table(source) GROUP BY name, b, per)
), divisors AS (
    SELECT name, CASE WHEN multiple < CAST('10000000000000000000000000000' AS HUGEINT) THEN multiple
        ELSE error('the unit sizes of ' || name || ' have too large a common multiple for this verifier; tally-verify has no such limit') END AS per
    FROM (SELECT name, list_reduce(list(DISTINCT per), lambda x, y: CAST(lcm(x, y) AS HUGEINT)) AS multiple FROM lowest GROUP BY name)
), products AS (
    SELECT name, d.per, sign(a) * sign(b) AS s, limbs(a * (d.per // t.per)) AS a, limbs(b) AS b FROM lowest AS t JOIN divisors AS d USING (name)
), pairs AS (
    SELECT name, per, s, unnest(a) AS x, generate_subscripts(a, 1) - 1 AS i, b FROM products
), cells AS (
    SELECT name, per, s, x, i, unnest(b) AS y, generate_subscripts(b, 1) - 1 AS j FROM pairs
)
SELECT name, per, i + j AS k, sum(CAST(s AS BIGINT) * x * y) AS c FROM cells GROUP BY name, per, i + j;

-- Windows against what was promised for each: whether what one costs, less that, is not below zero.
CREATE OR REPLACE TEMP TABLE promises AS
SELECT q.name, q.price_id, w.a, w.b, w.per FROM quantities AS q JOIN worths AS w USING (i) WHERE q.committed AND q.times = 0
UNION ALL
SELECT DISTINCT q.name, price_id, 1, p.promised_amount, 1 FROM quantities AS q JOIN price_rows AS p USING (price_id) WHERE p.promised_amount IS NOT NULL;
CREATE OR REPLACE TEMP TABLE differences AS
SELECT q.name || chr(1) || q.i AS name, w.a, w.b, w.per FROM quantities AS q JOIN worths AS w USING (i) WHERE q.committed AND q.times > 0
UNION ALL
SELECT q.name || chr(1) || q.i, -p.a, p.b, p.per FROM quantities AS q JOIN promises AS p USING (name, price_id) WHERE q.committed AND q.times > 0;
CREATE OR REPLACE TEMP TABLE windows AS
WITH reached AS (SELECT name, list_reduce(list(c ORDER BY k), lambda carry, c: floor_div(carry, 1000000000) + c) >= 0 AS beyond FROM coefficients_of('differences') GROUP BY name)
SELECT q.i, q.name, q.price_id, q.times, p.overage, p.whole_price, p.true_up, coalesce(r.beyond, true) AS beyond
FROM quantities AS q JOIN price_rows AS p USING (price_id) LEFT JOIN reached AS r ON r.name = q.name || chr(1) || q.i WHERE q.committed AND q.times > 0;
CREATE OR REPLACE TEMP TABLE unused AS
SELECT name, price_id, any_value(b.n) - count(*) AS times FROM buckets AS b JOIN price_rows AS p USING (price_id)
WHERE p.true_up = 'owed_always' GROUP BY name, price_id;
-- All terms of a name. Beyond what was promised a window costs so many times more; what is missing to it is owed where the commitment says so.
CREATE OR REPLACE TEMP TABLE terms AS
SELECT q.name, w.a * q.times AS a, w.b, w.per FROM quantities AS q JOIN worths AS w USING (i) WHERE NOT q.committed
UNION ALL
SELECT q.name, w.a * q.times, w.b, w.per FROM windows AS q JOIN worths AS w USING (i) WHERE NOT q.beyond AND q.true_up = 'none'
UNION ALL
SELECT q.name, p.a * q.times, p.b, p.per FROM windows AS q JOIN promises AS p USING (name, price_id) WHERE NOT q.beyond AND q.true_up <> 'none'
UNION ALL
SELECT q.name, w.a * q.times * q.overage, w.b, w.per * q.whole_price FROM windows AS q JOIN worths AS w USING (i) WHERE q.beyond
UNION ALL
SELECT q.name, p.a * q.times * (q.whole_price - q.overage), p.b, p.per * q.whole_price FROM windows AS q JOIN promises AS p USING (name, price_id) WHERE q.beyond
UNION ALL
SELECT q.name, p.a * q.times, p.b, p.per FROM unused AS q JOIN promises AS p USING (name, price_id)
UNION ALL
SELECT name, moved, price, per * length FROM levels JOIN price_rows USING (price_id)
UNION ALL
SELECT name, 1, fee, 1 FROM levels WHERE entered
UNION ALL
SELECT name, q, rate, per FROM percentages WHERE share = 'within'
UNION ALL
SELECT name, 1, CASE share WHEN 'least' THEN least ELSE most END, 1 FROM percentages WHERE share <> 'within'
UNION ALL
SELECT name, 1, fee, 1 FROM percentages;
CREATE OR REPLACE TEMP TABLE coefficients AS FROM coefficients_of('terms');
CREATE OR REPLACE TEMP TABLE divisors AS SELECT DISTINCT name, per FROM coefficients;

-- Carry from the least significant limb up; eleven limbs hold 99 digits. The carry out of the last one is 0, or -1 for a sum below zero.
CREATE OR REPLACE TEMP TABLE carried AS
WITH RECURSIVE step (name, k, limb, carry) AS (
    SELECT name, 0, CAST(floor_mod(c, 1000000000) AS HUGEINT), CAST(floor_div(c, 1000000000) AS HUGEINT) FROM coefficients WHERE k = 0
    UNION ALL
    SELECT p.name, p.k + 1, floor_mod(p.carry + coalesce(c.c, 0), 1000000000), floor_div(p.carry + coalesce(c.c, 0), 1000000000)
    FROM step AS p LEFT JOIN coefficients AS c ON c.name = p.name AND c.k = p.k + 1 WHERE p.k < 10
)
SELECT * FROM step;
-- Sign and magnitude: below zero the limbs are the complement, so they are subtracted from zero with a borrow.
CREATE OR REPLACE TEMP TABLE numerators AS
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
-- Long division by per × 10^9: dividing by 10^9 drops limb 0, dividing by per goes limb by limb from the top. Half to even.
CREATE OR REPLACE TEMP TABLE totals AS
WITH RECURSIVE division (name, negative, per, k, quotient, rest) AS (
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

-- Everything that a line says beside everything that follows from the readings, one row for each member.
CREATE OR REPLACE TEMP TABLE judged AS
SELECT l.subject, l.json, k.*, coalesce(after.amount, 0) AS total, coalesce(earlier_total.amount, 0) AS before,
    units((l.json ->> 'invoiced_before'), 9) AS invoiced
FROM lines AS l JOIN keys_found AS k ON k.contract = l.contract AND k.sku = l.sku AND k.month = l.month
LEFT JOIN totals AS after ON after.name = l.contract || chr(1) || l.sku || chr(1) || l.month || chr(1) || 'after'
LEFT JOIN totals AS earlier_total ON earlier_total.name = l.contract || chr(1) || l.sku || chr(1) || l.month || chr(1) || 'before';
CREATE OR REPLACE TEMP TABLE policy AS
SELECT r.places, r.mode FROM roundings AS r, invoice AS i WHERE r.version = (i.json ->> 'registry_version') AND r.currency = (i.json ->> 'currency');
CREATE OR REPLACE TEMP TABLE members AS
SELECT subject, unnest([
    {'name': 'key_total', 'expected': money(total)},
    {'name': 'exact_before', 'expected': money(before)},
    {'name': 'exact', 'expected': money(total - before)},
    {'name': 'key_amount', 'expected': money(rounded(total, p.places, p.mode))},
    {'name': 'amount', 'expected': money(rounded(total, p.places, p.mode) - invoiced)},
    {'name': 'rounding', 'expected': money(rounded(total, p.places, p.mode) - invoiced - (total - before))},
    {'name': 'service_period', 'expected': CAST(month AS VARCHAR)},
    {'name': 'key_quantity', 'expected': money(quantity)},
    {'name': 'key_readings', 'expected': CAST(readings AS VARCHAR)},
    {'name': 'quantity', 'expected': money(fresh_quantity)},
    {'name': 'readings', 'expected': CAST(fresh_readings AS VARCHAR)}], recursive := true), json
FROM judged, policy AS p;

-- Terms of contracts: what each makes of what the keys of a service period come to, after all covered leaves and after those of earlier invoices.
CREATE OR REPLACE TEMP TABLE term_lines AS
SELECT (json ->> 'contract') AS contract, (json ->> 'term') AS term, CAST(json ->> 'service_period' AS INTEGER) AS month, place,
    concat_ws(' ', (json ->> 'contract') || '#' || (json ->> 'term'), json ->> 'service_period') AS subject, json
FROM (SELECT unnest(terms) AS json, generate_subscripts(terms, 1) AS place FROM (SELECT CAST(json -> 'terms' AS JSON[]) AS terms FROM invoice));
CREATE OR REPLACE TEMP TABLE in_force AS
SELECT id AS contract, book, over, terms, CAST(strftime(effective_at, '%Y%m') AS INTEGER) AS begins,
    CAST(strftime(lead(effective_at) OVER (ORDER BY effective_at), '%Y%m') AS INTEGER) AS ends
FROM agreements WHERE version = (SELECT (json ->> 'registry_version') FROM invoice);
-- Months that a term looks at together follow one another from the contract's first one on: those behind one of a line have lines too.
CREATE OR REPLACE TEMP TABLE behind AS
SELECT month_from(months_of(month) + after) AS month FROM (
    SELECT l.month, unnest(range(1, t.months - (months_of(l.month) - months_of(t.begins)) % t.months)) AS after
    FROM term_lines AS l JOIN (SELECT contract, begins, (term ->> 'id') AS term, coalesce(TRY_CAST(term ->> 'months' AS INTEGER), 1) AS months
        FROM (SELECT contract, begins, unnest(terms) AS term FROM in_force)) AS t USING (contract, term) WHERE t.months > 1 AND l.month >= t.begins
);
CREATE OR REPLACE TEMP TABLE termed AS
SELECT contract, month, over, terms, begins FROM in_force, (
    SELECT month FROM covered UNION SELECT month FROM term_lines UNION SELECT CAST(json ->> 'period' AS INTEGER) FROM invoice UNION SELECT month FROM behind
) WHERE len(terms) > 0 AND month % 100 BETWEEN 1 AND 12 AND month <= (SELECT CAST(json ->> 'period' AS INTEGER) FROM invoice) AND month >= begins AND (ends IS NULL OR month < ends) AND book IN (
    SELECT b.book FROM books AS b, invoice AS i WHERE b.version = (i.json ->> 'registry_version') AND b.currency = (i.json ->> 'currency'));
-- In the order of application: discounts by id, then scope by scope, all of the contract last. Place: of the month among those that a term looks at together.
CREATE OR REPLACE TEMP TABLE steps AS
SELECT t.*, row_number() OVER (PARTITION BY contract ORDER BY month, s) AS n, (months_of(month) - months_of(begins)) % months AS place_together,
    months > 1 AND row_number() OVER (PARTITION BY contract, month, families, skus, kind <> 'discount' AND months > 1 ORDER BY s) = 1 AS first_together,
    month <> (SELECT CAST(json ->> 'period' AS INTEGER) FROM invoice) AND month NOT IN (SELECT month FROM covered) AS stated
FROM (
    SELECT *, row_number() OVER application AS s, NOT coalesce((lag(kind) OVER application) <> 'discount' AND (lag(families) OVER application) = families
        AND (lag(skus) OVER application) = skus, false) AS opens
    FROM (
        SELECT contract, month, over, begins, (term ->> 'id') AS term, term -> 'rule' AS rule, json_keys(term -> 'rule')[1] AS kind,
            json_extract(term -> 'rule', '$.' || json_keys(term -> 'rule')[1]) AS asks, (term ->> 'description') AS description,
            coalesce(TRY_CAST(term ->> 'months' AS INTEGER), 1) AS months, (term ->> 'months') AS months_text,
            coalesce(CAST(term -> 'families' AS VARCHAR[]), []) AS families, coalesce(CAST(term -> 'skus' AS VARCHAR[]), []) AS skus, json_keys(term) AS members
        FROM (SELECT contract, month, over, begins, unnest(terms) AS term FROM termed)
    ) WINDOW application AS (PARTITION BY contract, month ORDER BY kind <> 'discount', CASE WHEN kind = 'discount' THEN term END, len(families) + len(skus) = 0, families, skus,
        list_position(['capacity', 'graduated_discount', 'commitment', 'maximum_spend', 'minimum_spend'], kind))
) AS t;
CREATE OR REPLACE TEMP TABLE spends AS
SELECT t.contract, t.month, stage, coalesce(list({'sku': k.sku, 'family': s.family, 'net': CAST(rounded(coalesce(w.amount, 0), p.places, p.mode) AS HUGEINT)})
    FILTER (k.sku IS NOT NULL AND (t.over = 'everything' OR NOT coalesce(regexp_full_match(m.event_type, 'tallystick\.recurring(\..+)?'), false))), []) AS keys
FROM termed AS t CROSS JOIN (SELECT unnest(['after', 'before']) AS stage) CROSS JOIN policy AS p
LEFT JOIN keys_found AS k ON k.contract = t.contract AND k.month = t.month AND (stage = 'after' OR k.earlier > 0)
LEFT JOIN totals AS w ON w.name = key_name(k.contract, k.sku, k.month, stage)
LEFT JOIN skus AS s ON s.version = (SELECT (json ->> 'registry_version') FROM invoice) AND s.sku = k.sku
LEFT JOIN meters AS m ON m.version = s.version AND m.meter = s.meter
GROUP BY t.contract, t.month, stage;
CREATE OR REPLACE TEMP MACRO off(net, percent, places, mode) AS rounded_from(CAST(net AS HUGEINT) * units(percent, 9), 20, places, mode);
CREATE OR REPLACE TEMP MACRO part_of(spend, tiers, i) AS CASE WHEN i = 1 THEN least(spend, coalesce(units(tiers[1] ->> 'up_to', 9), spend))
    ELSE greatest(least(spend, coalesce(units(tiers[i] ->> 'up_to', 9), spend)), units(tiers[i - 1] ->> 'up_to', 9)) - units(tiers[i - 1] ->> 'up_to', 9) END;
-- What a term adds to a spend, which is that so far where it looks at several months together: what is missing is owed with the last one.
CREATE OR REPLACE TEMP MACRO comes_to(kind, asks, tiers, nets, spend, last, places, mode) AS CAST(CASE kind
    WHEN 'discount' THEN -coalesce(list_sum(list_transform(nets, lambda k: off(k.net, asks ->> 'percent', places, mode))), 0)
    WHEN 'capacity' THEN rounded(coalesce(list_max(list_transform(nets, lambda k: k.net)), 0) - coalesce(list_sum(list_transform(nets, lambda k: k.net)), 0), places, mode)
    WHEN 'graduated_discount' THEN -rounded_from(CAST(list_sum(list_transform(range(1, len(tiers) + 1),
        lambda i: CAST(part_of(spend, tiers, i) AS HUGEINT) * units(tiers[i] ->> 'percent', 9))) AS HUGEINT), 20, places, mode)
    WHEN 'commitment' THEN rounded(rounded_from(greatest(spend - units(asks ->> 'amount', 9), 0) * units(asks ->> 'overage_factor', 9), 18, places, mode)
        - greatest(spend - units(asks ->> 'amount', 9), 0)
        + CASE WHEN (asks ->> 'true_up') = 'owed' AND last THEN greatest(units(asks ->> 'amount', 9) - spend, 0) ELSE 0 END, places, mode)
    WHEN 'maximum_spend' THEN rounded(-least(greatest(spend - units(asks ->> 'amount', 9), 0), greatest(spend, 0)), places, mode)
    WHEN 'minimum_spend' THEN CASE WHEN last THEN rounded(greatest(units(asks ->> 'amount', 9) - spend, 0), places, mode) ELSE 0 END END AS HUGEINT);
-- Of terms that look at months together: what was spent before, as their line says; and in months of which the bundle has no leaves what the first of a scope was
-- applied to, without what such terms before it added to all of the contract.
CREATE OR REPLACE TEMP TABLE worded AS
SELECT t.contract, t.month, t.term, units(l.json -> 'window' ->> 'spend_before', 9) AS spent, units(l.json ->> 'spend', 9)
    - CASE WHEN len(families) + len(skus) = 0 THEN coalesce(sum(units(l.json ->> 'term_amount', 9)) FILTER (len(families) + len(skus) > 0) OVER (PARTITION BY t.contract, t.month), 0) ELSE 0 END AS base
FROM steps AS t JOIN term_lines AS l USING (contract, month, term) WHERE t.months > 1;
-- Month by month, because what a term came to in one goes on into the next: so_far is what it was applied to up to a month.
CREATE OR REPLACE TEMP TABLE applied AS
WITH RECURSIVE application (contract, stage, n, month, s, keys, spend, amount, added, together, spent, came_to, so_far) AS (
    SELECT DISTINCT contract, stage, CAST(0 AS BIGINT), 0, CAST(0 AS BIGINT), keys[:0], CAST(0 AS HUGEINT), CAST(0 AS HUGEINT), CAST(0 AS HUGEINT), CAST(0 AS HUGEINT),
        CAST(0 AS HUGEINT), CAST(0 AS HUGEINT), [{'term': '', 'month': 0, 'sum': CAST(0 AS HUGEINT)}] FROM spends
    UNION ALL
    SELECT contract, stage, n, month, s, CASE WHEN kind = 'discount' THEN list_transform(keys, lambda k: {'sku': k.sku, 'family': k.family,
            'net': CASE WHEN looks_at(families, skus, k.family, k.sku) THEN k.net - off(k.net, asks ->> 'percent', places, mode) ELSE k.net END}) ELSE keys END,
        spend, amount, CASE WHEN kind = 'discount' THEN added ELSE added + amount END, CASE WHEN months > 1 THEN together + amount ELSE together END, spent, came_to,
        CASE WHEN months > 1 THEN list_append(list_filter(so_far, lambda x: x.term <> term), {'term': term, 'month': month, 'sum': CAST(spent + spend AS HUGEINT)}) ELSE so_far END
    FROM (
        SELECT *, CAST(comes_to(kind, asks, tiers, nets, spent + spend, place_together + 1 = months, places, mode) - came_to AS HUGEINT) AS amount
        FROM (
            SELECT *, CASE WHEN months > 1 THEN comes_to(kind, asks, tiers, nets, spent, false, places, mode) ELSE CAST(0 AS HUGEINT) END AS came_to
            FROM (
                SELECT *, CAST(CASE WHEN stated AND first_together THEN coalesce(base, 0) + CASE WHEN len(families) + len(skus) = 0 THEN together ELSE 0 END
                        WHEN kind = 'discount' OR opens
                        THEN coalesce(list_sum(list_transform(nets, lambda k: k.net)), 0) + CASE WHEN kind <> 'discount' AND len(families) + len(skus) = 0 THEN added ELSE 0 END
                        ELSE before_spend + before_amount END AS HUGEINT) AS spend,
                    CAST(CASE WHEN months = 1 OR place_together = 0 THEN 0
                        ELSE coalesce(list_filter(so_far, lambda x: x.term = term AND months_of(x.month) + 1 = months_of(month))[1].sum, worded, 0) END AS HUGEINT) AS spent
                FROM (
                    SELECT *, list_filter(keys, lambda k: looks_at(families, skus, k.family, k.sku)) AS nets FROM (
                        SELECT a.contract, a.stage, t.n, t.month, t.s, CASE WHEN t.s = 1 THEN p.keys ELSE a.keys END AS keys, a.spend AS before_spend, a.amount AS before_amount,
                            CASE WHEN t.s = 1 THEN CAST(0 AS HUGEINT) ELSE a.added END AS added, CASE WHEN t.s = 1 THEN CAST(0 AS HUGEINT) ELSE a.together END AS together, a.so_far,
                            t.term, t.kind, t.asks, CASE WHEN t.kind = 'graduated_discount' THEN CAST(t.asks -> 'tiers' AS JSON[]) END AS tiers, t.opens, t.families, t.skus, t.months,
                            t.place_together, t.first_together, t.stated, w.spent AS worded, w.base, r.places, r.mode
                        FROM application AS a JOIN steps AS t ON t.contract = a.contract AND t.n = a.n + 1 JOIN spends AS p ON p.contract = a.contract AND p.month = t.month AND p.stage = a.stage
                        LEFT JOIN worded AS w ON w.contract = t.contract AND w.month = t.month AND w.term = t.term CROSS JOIN policy AS r
                    )
                )
            )
        )
    )
)
SELECT contract, month, stage, s, spend, amount, spent, came_to FROM application WHERE s > 0;
-- What earlier invoices said of a term: nothing, where this close is the first of the month; what it came to then, where they cover leaves of the month;
-- of a month of which they cover none either of both, because they may have billed a minimum of it.
CREATE OR REPLACE TEMP TABLE judged_terms AS
SELECT *, CASE WHEN list_contains(befores, said) THEN said ELSE befores[1] END AS before FROM (
    SELECT t.*, n.spend, n.amount, n.spent, n.came_to, l.json, l.place, coalesce(l.subject, concat_ws(' ', t.contract || '#' || t.term, t.month)) AS subject, units(l.json ->> 'invoiced_before', 9) AS said,
        CASE WHEN c.first > 0 THEN [b.amount] WHEN CAST(t.month AS VARCHAR) = (SELECT (json ->> 'period') FROM invoice) THEN [CAST(0 AS HUGEINT)] ELSE [CAST(0 AS HUGEINT), b.amount] END AS befores
    FROM steps AS t JOIN applied AS n ON n.contract = t.contract AND n.month = t.month AND n.s = t.s AND n.stage = 'after'
    JOIN applied AS b ON b.contract = t.contract AND b.month = t.month AND b.s = t.s AND b.stage = 'before'
    LEFT JOIN covered AS c ON c.month = t.month LEFT JOIN term_lines AS l ON l.contract = t.contract AND l.month = t.month AND l.term = t.term
);
CREATE OR REPLACE TEMP TABLE earlier_terms AS
SELECT (term ->> 'contract') AS contract, (term ->> 'term') AS term, CAST(term ->> 'service_period' AS INTEGER) AS month, max_by(term ->> 'term_amount', period) AS amount,
    units(max_by(term ->> 'spend', period), 9) AS spend
FROM (
    SELECT (json ->> 'period') AS period, unnest(CAST(json -> 'terms' AS JSON[])) AS term FROM earlier
    WHERE (json ->> 'currency') = (SELECT (json ->> 'currency') FROM invoice)
) GROUP BY ALL;

-- Lines of terms that look at months together: the first of these, whether one of them has a line here before it, and what such terms over parts of the contract added
-- to all of it by the earlier invoices.
CREATE OR REPLACE TEMP TABLE lined AS
SELECT t.contract, t.term, t.month, t.stated, t.first_together, month_from(months_of(t.month) - t.place_together) AS first,
    EXISTS (FROM term_lines AS o WHERE o.contract = t.contract AND o.term = t.term AND o.month < t.month AND months_of(o.month) >= months_of(t.month) - t.place_together) AS follows,
    CASE WHEN len(t.families) + len(t.skus) = 0 THEN (SELECT sum(units(e.amount, 9)) FROM steps AS o JOIN earlier_terms AS e USING (contract, term, month)
        WHERE o.contract = t.contract AND o.month = t.month AND o.months > 1 AND len(o.families) + len(o.skus) > 0) END AS added_before
FROM steps AS t JOIN term_lines AS l USING (contract, month, term) WHERE t.months > 1;

CREATE OR REPLACE TEMP TABLE failures ("check" VARCHAR, subject VARCHAR, expected VARCHAR, found VARCHAR);
INSERT INTO failures
-- 1. Files.
SELECT 'file missing', l.path, l.digest, NULL FROM listed AS l ANTI JOIN files AS f USING (path)
UNION ALL
SELECT 'file not in the manifest', f.path, NULL, f.digest FROM files AS f ANTI JOIN listed AS l USING (path)
WHERE f.path NOT IN ('manifest.json', 'manifest.dsse.json')
UNION ALL
SELECT 'file listed twice', path, '1', CAST(count(*) AS VARCHAR) FROM listed GROUP BY path HAVING count(*) > 1
UNION ALL
SELECT 'digest of a file', path, l.digest, f.digest FROM listed AS l JOIN files AS f USING (path) WHERE l.digest IS DISTINCT FROM f.digest
UNION ALL
SELECT 'size of a file', path, CAST(l.size AS VARCHAR), CAST(f.size AS VARCHAR) FROM listed AS l JOIN files AS f USING (path)
WHERE l.size IS DISTINCT FROM f.size
UNION ALL
SELECT 'subject of the statement', path, l.digest, s.digest FROM listed AS l FULL JOIN subjects AS s USING (path)
WHERE l.digest IS DISTINCT FROM s.digest
UNION ALL
SELECT 'rows of a file', path, CAST(l.n AS VARCHAR), CAST(f.n AS VARCHAR) FROM (
    SELECT 'data/readings.parquet' AS path, count(*) AS n FROM readings UNION ALL SELECT 'data/events.parquet', count(*) FROM events
) AS f LEFT JOIN listed AS l USING (path) WHERE l.n IS DISTINCT FROM f.n
UNION ALL
SELECT b.role || ' of the provenance', coalesce(w.path, b.path), w.digest, b.digest FROM built AS b FULL JOIN (
    SELECT CASE WHEN path IN ('invoice.json', 'data/readings.parquet') THEN 'subject' ELSE 'dependency' END AS role, path, digest FROM files
    WHERE path IN ('invoice.json', 'data/readings.parquet', 'data/events.parquet') OR starts_with(path, 'registry/')
) AS w ON w.role = b.role AND w.path = b.path WHERE w.digest IS DISTINCT FROM b.digest
UNION ALL
SELECT 'invoice of the provenance', 'provenance.json', concat_ws(' ', i.json ->> 'invoice_id', i.json ->> 'organization', i.json ->> 'period', i.digest),
    concat_ws(' ', p.json ->> '$.predicate.buildDefinition.externalParameters.invoice_id', p.json ->> '$.predicate.buildDefinition.externalParameters.organization',
        p.json ->> '$.predicate.buildDefinition.externalParameters.period', p.json ->> '$.predicate.runDetails.metadata.invocationId')
FROM invoice AS i, provenance AS p
WHERE concat_ws(' ', i.json ->> 'invoice_id', i.json ->> 'organization', i.json ->> 'period', i.digest) <>
    concat_ws(' ', p.json ->> '$.predicate.buildDefinition.externalParameters.invoice_id', p.json ->> '$.predicate.buildDefinition.externalParameters.organization',
        p.json ->> '$.predicate.buildDefinition.externalParameters.period', p.json ->> '$.predicate.runDetails.metadata.invocationId')
UNION ALL
SELECT 'kind of statement', 'manifest.json', 'https://in-toto.io/Statement/v1 urn:tallystick:bundle:v1 1',
    concat_ws(' ', (json ->> '_type'), (json ->> 'predicateType'), (json -> 'predicate' ->> 'format')) FROM manifest
WHERE concat_ws(' ', (json ->> '_type'), (json ->> 'predicateType'), (json -> 'predicate' ->> 'format'))
    <> 'https://in-toto.io/Statement/v1 urn:tallystick:bundle:v1 1'
UNION ALL
SELECT 'payload of the envelope', 'manifest.dsse.json', sha256(m.text), sha256(from_base64((e.json ->> 'payload'))) FROM manifest AS m, envelope AS e
WHERE encode(m.text) IS DISTINCT FROM from_base64((e.json ->> 'payload')) OR (e.json ->> 'payloadType') IS DISTINCT FROM 'application/vnd.in-toto+json'
    OR (e.json ->> '$.signatures[0].keyid') IS DISTINCT FROM string_split((SELECT key FROM keys WHERE role = 'bundle'), '+')[2]
UNION ALL
SELECT 'key file', 'keys/' || k.role || '.pem', k.key, t.content FROM keys AS k
LEFT JOIN read_text('keys/*.pem') AS t ON replace(t.filename, '\', '/') = 'keys/' || k.role || '.pem'
WHERE t.content IS DISTINCT FROM '-----BEGIN PUBLIC KEY-----' || chr(10)
    || base64(unhex('302a300506032b6570032100' || substr(hex(k.bytes), 3))) || chr(10) || '-----END PUBLIC KEY-----' || chr(10)
UNION ALL
SELECT 'key that the log vouches for', 'keys/bundle.note', k.key, t.content FROM keys AS k, read_text('keys/bundle.note') AS t
WHERE k.role = 'bundle' AND NOT starts_with(t.content, 'tallystick/bundle-key/v1' || chr(10) || k.key || chr(10) || chr(10) || '— '
    || (SELECT split_part(key, '+', 1) FROM keys WHERE role = 'log') || ' ')
UNION ALL
SELECT 'origin of the checkpoint', 'log/checkpoint', split_part(k.key, '+', 1), c.origin FROM keys AS k, checkpoint AS c
WHERE k.role = 'log' AND split_part(k.key, '+', 1) IS DISTINCT FROM c.origin
UNION ALL
-- Registry.
SELECT 'address of a registry version', version, version, digest FROM indexes WHERE digest IS DISTINCT FROM version
UNION ALL
SELECT 'registry document of no version', 'registry/documents.jsonl line ' || line, NULL, digest FROM shown ANTI JOIN index_entries USING (digest)
UNION ALL
SELECT 'order of the registry documents', 'registry/documents.jsonl line ' || line, 'above ' || before, digest
FROM (SELECT line, digest, lag(digest) OVER (ORDER BY line) AS before FROM shown SEMI JOIN index_entries USING (digest)) WHERE digest <= before
UNION ALL
SELECT 'kind of a registry document', 'registry/documents.jsonl line ' || line, kind, (json ->> 'kind') FROM documents WHERE json IS NOT NULL AND kind IS DISTINCT FROM (json ->> 'kind')
UNION ALL
-- Shown documents lead to others, which must be shown too: a SKU left out would let a dearer, less specific one take its place.
SELECT 'SKU of a price is not shown', version || ' ' || sku, sku, NULL FROM (SELECT DISTINCT version, sku FROM prices) ANTI JOIN skus USING (version, sku)
UNION ALL
SELECT 'price book of a contract is not shown', version || ' ' || book, book, NULL FROM (SELECT DISTINCT version, book FROM agreements) ANTI JOIN books USING (version, book)
UNION ALL
SELECT 'meter of a SKU is not shown', version || ' ' || meter, meter, NULL FROM (SELECT DISTINCT version, meter FROM skus) ANTI JOIN meters USING (version, meter)
UNION ALL
SELECT DISTINCT 'registry version', version, version, NULL FROM (
    SELECT version FROM readings UNION ALL SELECT (json ->> 'registry_version') FROM invoice
) WHERE version NOT IN (SELECT version FROM indexes) OR version IS NULL
UNION ALL
SELECT 'price row that varies', price_id, '1', CAST(texts AS VARCHAR) FROM price_rows WHERE texts > 1
UNION ALL
-- 2. Logs.
SELECT 'leaves that the invoice covers', CAST(month AS VARCHAR), CAST(c.size AS VARCHAR), CAST(r.n AS VARCHAR)
FROM (SELECT * FROM covered WHERE size > 0) AS c FULL JOIN (SELECT month, count(*) AS n FROM readings GROUP BY month) AS r USING (month)
WHERE c.size IS DISTINCT FROM r.n OR c.first > c.size OR c.first < 0
UNION ALL
SELECT 'number of a leaf', month || ' row ' || n, CAST(n AS VARCHAR), CAST(log_seq AS VARCHAR)
FROM (SELECT month, log_seq, row_number() OVER (PARTITION BY month ORDER BY log_seq) - 1 AS n FROM readings) WHERE n IS DISTINCT FROM log_seq
UNION ALL
SELECT 'row of the readings', month || ' leaf ' || log_seq, printf('%04x', leaf_check), left(leaf, 4) FROM readings
WHERE printf('%04x', leaf_check) IS DISTINCT FROM left(leaf, 4)
UNION ALL
SELECT 'root of a log', CAST(month AS VARCHAR), p.first_root, r.root FROM (SELECT * FROM log_proofs WHERE first IS NOT NULL) AS p
FULL JOIN roots AS r USING (month) WHERE p.first_root IS DISTINCT FROM r.root
UNION ALL
SELECT 'size of a log', CAST(month AS VARCHAR), CAST(c.size AS VARCHAR), CAST(p.first AS VARCHAR) FROM (SELECT * FROM covered WHERE size > 0) AS c
FULL JOIN (SELECT * FROM log_proofs WHERE first IS NOT NULL) AS p USING (month) WHERE c.size IS DISTINCT FROM p.first
UNION ALL
SELECT 'consistency of a log', CAST(p.month AS VARCHAR), p.second_root, p.first_root FROM log_proofs AS p LEFT JOIN consistencies AS c USING (month)
WHERE p.first IS NOT NULL AND c.holds IS DISTINCT FROM true
UNION ALL
SELECT 'inclusion in the tree of ' || tree, i || ' of ' || n, root, found FROM inclusions WHERE NOT holds
UNION ALL
SELECT 'inclusion', 'organizations and checkpoints', '2', CAST(count(*) AS VARCHAR) FROM inclusions HAVING count(*) <> 2
UNION ALL
SELECT 'salted organization', id, (json ->> 'organization'), sha256(salt || encode(id)) FROM organization
WHERE sha256(salt || encode(id)) IS DISTINCT FROM (json ->> 'organization')
UNION ALL
SELECT 'organization', 'invoice.json', o.id, (i.json ->> 'organization') FROM organization AS o, invoice AS i, manifest AS m
WHERE o.id IS DISTINCT FROM (i.json ->> 'organization') OR o.id IS DISTINCT FROM (m.json -> 'predicate' ->> 'organization')
    OR (i.json ->> 'invoice_id') IS DISTINCT FROM (m.json -> 'predicate' ->> 'invoice_id') OR (i.json ->> 'period') IS DISTINCT FROM (m.json -> 'predicate' ->> 'period')
UNION ALL
-- 3. Readings.
SELECT 'event of a reading', month || ' leaf ' || log_seq, CAST(event AS VARCHAR), NULL FROM readings WHERE leaf IS NULL
UNION ALL
SELECT 'event without a reading', CAST(event AS VARCHAR), NULL, id FROM events ANTI JOIN readings USING (event)
UNION ALL
SELECT 'event that is there twice', source || ' ' || id, '1', CAST(count(*) AS VARCHAR) FROM events GROUP BY source, id HAVING count(*) > 1
UNION ALL
SELECT 'leaf that takes a reading back', r.month || ' leaf ' || r.log_seq, c.before.taken, concat_ws(' ', r.quantity_text, r.version, r.contract, r.sku, r.price_id, r.unit, r.end_at)
FROM chains AS c JOIN readings AS r USING (month, log_seq) WHERE c.back AND c.before.taken IS DISTINCT FROM concat_ws(' ', r.quantity_text, r.version, r.contract, r.sku, r.price_id, r.unit, r.end_at)
UNION ALL
SELECT 'leaf behind one that takes a reading back', c.month || ' leaf ' || c.log_seq, c.month || ' leaf ' || (c.log_seq + 1), c.next.month || ' leaf ' || c.next.log_seq FROM chains AS c
LEFT JOIN billed_meters AS b ON b.version = c.version AND b.meter = c.meter LEFT JOIN billed_meters AS n ON n.version = c.next.version AND n.meter = c.meter
WHERE c.back AND NOT c.gone AND NOT c.goes_on AND b.meter IS NULL AND n.meter IS NULL
UNION ALL
-- Of billed time, what the version of the invoice reads in the time that was taken back stands; of anything else the reading itself.
SELECT DISTINCT 'leaf behind one that takes a reading back', c.month || ' leaf ' || c.log_seq, 'a reading from ' || instant_text(make_timestamp(o.start)), NULL
FROM chains AS c JOIN readings AS r USING (month, log_seq) JOIN events AS e USING (event)
JOIN invoice AS i ON true LEFT JOIN meters AS m ON m.version = (i.json ->> 'registry_version') AND m.meter = c.meter LEFT JOIN billed_meters AS b ON b.version = c.version AND b.meter = c.meter
JOIN (
    SELECT month, log_seq, epoch_us(start_at) AS start FROM chains JOIN readings USING (month, log_seq) WHERE back AND gone
    UNION
    SELECT c.month, c.log_seq, p.start FROM chains AS c JOIN readings AS r USING (month, log_seq) JOIN pieces AS p ON p.event = r.event AND p.meter = c.meter AND p.version = (SELECT (json ->> 'registry_version') FROM invoice)
    WHERE c.back AND p.until > epoch_us(r.start_at) AND p.start < coalesce(epoch_us(r.end_at), p.until) AND month_of(p.start) = month_of(epoch_us(r.start_at))
    UNION
    SELECT c.month, c.log_seq, epoch_us(e.start_at) FROM chains AS c JOIN readings AS r USING (month, log_seq) JOIN events AS e USING (event) WHERE c.back AND strftime(e.start_at, '%Y%m') = strftime(r.start_at, '%Y%m')
) AS o ON o.month = c.month AND o.log_seq = c.log_seq
LEFT JOIN pieces AS p ON p.event = r.event AND p.version = m.version AND p.meter = c.meter AND p.start = o.start
WHERE c.back AND CASE WHEN m.billable IS NOT NULL THEN p.until > epoch_us(r.start_at) AND p.start < coalesce(epoch_us(r.end_at), p.until) WHEN m.meter IS NOT NULL AND b.meter IS NOT NULL THEN o.start = epoch_us(e.start_at) ELSE c.gone AND o.start = epoch_us(r.start_at) END
    AND NOT EXISTS (SELECT 1 FROM standing AS s WHERE s.stands AND s.event = r.event AND s.meter = c.meter AND epoch_us(s.start_at) = o.start)
UNION ALL
SELECT 'version of a reading that was rated again', c.month || ' leaf ' || c.log_seq, 'another one', r.version FROM chains AS c JOIN readings AS r USING (month, log_seq)
WHERE NOT c.back AND c.before.version = r.version AND (c.follows OR (c.version, c.meter) NOT IN (SELECT (version, meter) FROM billed_meters))
UNION ALL
SELECT 'from between two leaves of a reading', month || ' leaf ' || log_seq, 'before or behind both', CAST(log_seq AS VARCHAR) FROM chains WHERE NOT back AND NOT old AND before.old
    AND before.log_seq + 1 = log_seq
UNION ALL
SELECT 'month of a reading', month || ' leaf ' || log_seq, CAST(month AS VARCHAR), strftime(start_at, '%Y%m') FROM readings
WHERE leaf IS NOT NULL AND CAST(month AS VARCHAR) IS DISTINCT FROM strftime(start_at, '%Y%m')
UNION ALL
SELECT 'meter of a reading', month || ' leaf ' || log_seq, kind_wanted, kind_found || ' ' || meter FROM metered
WHERE NOT now AND kind_wanted IS DISTINCT FROM kind_found
UNION ALL
SELECT 'value of a reading that is counted', replace(name, chr(1), ' '), price_id, NULL FROM facts WHERE (measure = 'unique' OR together = 'session') AND value IS NULL
UNION ALL
SELECT 'piece of billed time' || CASE WHEN now THEN ' by the version of the invoice' ELSE '' END, month || ' leaf ' || log_seq, coalesce('to ' || instant_text(make_timestamp(until)), 'none that begins then'), concat_ws(' ', instant_text(start_at), 'to', instant_text(end_at)) FROM metered
WHERE other_end
UNION ALL
SELECT DISTINCT 'spans of a lease', 'event ' || event || ' ' || meter, 'known states in order, from the begin of the event on', state || ' from ' || instant_text(make_timestamp(start)) FROM spans
WHERE (NOT list_contains(names_of(policy, 'states'), state) OR start > until OR until > closing OR (i = 1 AND start <> opening)
    OR ((policy ->> 'session') IS NOT NULL AND coalesce(json_extract_string(data, json_path(policy ->> 'session')), '') = '')) IS DISTINCT FROM false
UNION ALL
SELECT 'times of a reading', month || ' leaf ' || log_seq, 'those of the event', concat_ws(' ', instant_text(start_at), 'to', instant_text(end_at)) FROM metered WHERE moved AND (NOT now OR billable)
UNION ALL
SELECT DISTINCT 'billable states of a meter are not shown', version || ' ' || meter, billable, NULL FROM meters ANTI JOIN billed_meters USING (version, meter) WHERE billable IS NOT NULL
UNION ALL
SELECT 'tie between events', instant_text(start_at), CAST(count(*) AS VARCHAR), CAST(count(DISTINCT coalesce(tie, 0)) AS VARCHAR) FROM events
GROUP BY start_at HAVING count(*) <> count(DISTINCT coalesce(tie, 0))
UNION ALL
SELECT 'measure that this file cannot judge', price_id, 'see the format', concat_ws(' ', measure, settings, zone) FROM price_rows
WHERE (zone <> 'UTC' AND NOT coalesce((settings ->> 'per') = 'day' OR (settings ->> 'by') = 'day' OR (settings ->> 'bucket') IN ('hour', 'day'), false)) OR NOT coalesce(CASE
    WHEN measure IN ('sum', 'count', 'average', 'max', 'min', 'latest') THEN settings IS NULL
    WHEN measure = 'unique' THEN (settings ->> 'of') IS NOT NULL AND (settings ->> 'per') IN ('period', 'day')
    WHEN measure = 'stepped' THEN (settings ->> 'by') = 'microsecond' AND step > 0 AND least >= 0 AND step_rounding IN ('up', 'down', 'half_even') AND together IN ('reading', 'session', 'period')
    WHEN measure IN ('time_weighted', 'prorated') THEN (settings ->> 'by') IN ('microsecond', 'day')
    WHEN measure = 'bucketed' THEN (settings ->> 'bucket') IN ('five_minutes', 'hour', 'day') AND (settings ->> 'each') IN ('max', 'sum')
        AND (settings ->> 'then') IN ('sum', 'alone', 'p50', 'p90', 'p95', 'p99') END, false)
UNION ALL
-- Percentages and prices of each reading are of sums; graduated tiers over prorated levels are of the levels as they are.
SELECT 'price that this file cannot judge', price_id, 'see the format', concat_ws(' ', stated_kind, adjusted, committed -> 'commitment', measure) FROM price_rows
WHERE stated_kind NOT IN ('free', 'per_unit', 'package', 'graduated', 'volume', 'blocks', 'top_blocks', 'percentage', 'graduated_percentage')
    OR rounding NOT IN ('none', 'ceiling', 'floor', 'half_away_from_zero', 'half_even') OR places NOT BETWEEN -20 AND 9
    OR (adjusted IS NOT NULL AND ((adjusted ->> 'applies_to') IN ('period', 'each_event')) IS DISTINCT FROM true)
    OR (committed IS NOT NULL AND NOT coalesce(measure = 'bucketed' AND (settings ->> 'then') = 'alone' AND NOT each AND kind IN ('per_unit', 'package', 'graduated', 'volume', 'blocks', 'top_blocks')
        AND array_to_string(json_keys(committed -> 'commitment' -> 'promised'), ' ') IN ('amount', 'quantity') AND coalesce(promised_amount, promised_quantity) > 0
        AND overage > 0 AND true_up IN ('none', 'owed_when_used', 'owed_always'), false))
    OR ((kind = 'percentage' OR each) AND measure NOT IN ('sum', 'count')) OR (adjusted IS NOT NULL AND (kind = 'percentage' OR (kind = 'graduated' AND measure = 'prorated')))
UNION ALL
SELECT 'quantity of a reading' || CASE WHEN now THEN ' by the version of the invoice' ELSE '' END, month || ' leaf ' || log_seq, metered, quantity_text FROM metered
WHERE (NOT now OR billable) AND NOT back AND metered IS DISTINCT FROM quantity_text AND NOT coalesce(is_quantity(metered) AND TRY_CAST(metered AS DECIMAL(38, 9)) = quantity, false)
UNION ALL
-- 4. Prices.
SELECT CASE WHEN now THEN 'price of a reading by the version of the invoice' ELSE 'price of a reading' END, month || ' leaf ' || log_seq,
    concat_ws(' ', found_contract, found_sku, found_price), concat_ws(' ', contract, sku, price_id) FROM priced
WHERE contract IS DISTINCT FROM found_contract OR sku IS DISTINCT FROM found_sku OR price_id IS DISTINCT FROM found_price
UNION ALL
-- 5. Lines.
SELECT 'key without a line', k.contract || '/' || k.sku || ' ' || k.month, '1', '0' FROM keys_found AS k
ANTI JOIN lines AS l ON k.contract = l.contract AND k.sku = l.sku AND k.month = l.month WHERE k.fresh_charged > 0
UNION ALL
SELECT 'line without a reading', l.subject, '1', '0' FROM lines AS l
LEFT JOIN keys_found AS k ON k.contract = l.contract AND k.sku = l.sku AND k.month = l.month WHERE coalesce(k.fresh_readings, 0) = 0
UNION ALL
SELECT 'line of a key', any_value(subject), '1', CAST(count(*) AS VARCHAR) FROM lines GROUP BY contract, sku, month HAVING count(*) > 1
UNION ALL
SELECT 'name of a line', subject, contract || '/' || sku, (json ->> 'contract_line') FROM lines WHERE (json ->> 'contract_line') IS DISTINCT FROM contract || '/' || sku
UNION ALL
SELECT 'number of a line', subject, CAST(n AS VARCHAR), number FROM (
    SELECT subject, (json ->> 'number') AS number, row_number() OVER (ORDER BY CAST(json ->> 'number' AS INTEGER)) AS n FROM lines
) WHERE number IS DISTINCT FROM CAST(n AS VARCHAR)
UNION ALL
SELECT 'rounding policy', 'invoice.json', string_agg(p.places || ' ' || p.mode, ', '), any_value((i.json -> 'rounding' ->> 'scale') || ' ' || ((i.json -> 'rounding' ->> 'mode')))
FROM invoice AS i LEFT JOIN policy AS p ON true
HAVING string_agg(p.places || ' ' || p.mode, ', ') IS DISTINCT FROM any_value((i.json -> 'rounding' ->> 'scale') || ' ' || ((i.json -> 'rounding' ->> 'mode')))
UNION ALL
SELECT name || ' of a line', subject, expected, json_extract_string(json, '$.' || name) FROM members
WHERE json_extract_string(json, '$.' || name) IS DISTINCT FROM expected
UNION ALL
SELECT 'invoiced_before of a line', subject, money(before), (json ->> 'invoiced_before') FROM judged AS j
WHERE NOT EXISTS (SELECT 1 FROM roundings AS r WHERE r.currency = (SELECT (json ->> 'currency') FROM invoice) AND rounded(j.before, r.places, r.mode) = j.invoiced)
UNION ALL
SELECT 'kind of a line', subject, CASE WHEN earlier = 0 THEN 'usage' ELSE 'usage or adjustment' END, (json ->> 'kind') FROM judged
WHERE (json ->> 'kind') NOT IN ('usage', 'adjustment') OR ((json ->> 'kind') = 'usage' AND (before <> 0 OR invoiced <> 0)) OR ((json ->> 'kind') = 'adjustment' AND earlier = 0)
UNION ALL
SELECT 'unit of a line', l.subject, m.unit, (l.json ->> 'unit') FROM lines AS l
LEFT JOIN skus AS s ON s.version = (SELECT json ->> 'registry_version' FROM invoice) AND s.sku = l.sku LEFT JOIN meters AS m ON m.version = s.version AND m.meter = s.meter
WHERE (l.json ->> 'unit') IS DISTINCT FROM m.unit
UNION ALL
SELECT 'prices of a line', coalesce(l.subject, s.contract || '/' || s.sku || ' ' || s.month) || ' ' || coalesce(l.price_id, s.price_id),
    money(s.q) || ' in ' || s.n, l.quantity || ' in ' || l.readings
FROM (
    SELECT subject, contract, sku, month, (p ->> 'price_id') AS price_id, (p ->> 'quantity') AS quantity, (p ->> 'readings') AS readings
    FROM (SELECT *, unnest(CAST(json -> 'prices' AS JSON[])) AS p FROM lines)
) AS l FULL JOIN (SELECT * FROM segments WHERE stage = 'after' AND (contract, sku, month) IN (SELECT (contract, sku, month) FROM lines)) AS s
    ON s.contract = l.contract AND s.sku = l.sku AND s.month = l.month AND s.price_id = l.price_id
WHERE l.quantity IS DISTINCT FROM money(s.q) OR l.readings IS DISTINCT FROM CAST(s.n AS VARCHAR)
UNION ALL
SELECT 'total of the invoice', 'invoice.json', money(total), (json ->> 'total')
FROM invoice, (SELECT coalesce(sum(units(json ->> 'amount', 9)), 0) AS total FROM (SELECT json FROM lines UNION ALL SELECT json FROM term_lines))
WHERE (json ->> 'total') IS DISTINCT FROM money(total)
UNION ALL
-- Terms.
SELECT 'version of the invoice', 'invoice.json', CASE WHEN n = 0 THEN '1' ELSE '2' END, (json ->> 'v') FROM invoice, (SELECT count(*) AS n FROM term_lines)
WHERE (json ->> 'v') IS DISTINCT FROM CASE WHEN n = 0 THEN '1' ELSE '2' END
UNION ALL
SELECT 'term that this file cannot judge', subject, 'see the format', CAST(rule AS VARCHAR) FROM judged_terms
WHERE NOT coalesce(json_keys(rule) IN (['discount'], ['capacity'], ['graduated_discount'], ['commitment'], ['maximum_spend'], ['minimum_spend'])
    AND over IN ('everything', 'usage') AND (kind <> 'commitment' OR (asks ->> 'true_up') IN ('owed', 'none'))
    AND (months_text IS NULL OR months BETWEEN 2 AND 120 AND months_text = CAST(months AS VARCHAR) AND kind NOT IN ('discount', 'capacity'))
    AND (kind <> 'graduated_discount' OR len(list_filter(CAST(asks -> 'tiers' AS JSON[]), lambda t, i: (t ->> 'percent') IS NULL
        OR ((t ->> 'up_to') IS NULL) <> (i = json_array_length(asks -> 'tiers')) OR len(list_filter(json_keys(t), lambda m: m NOT IN ('percent', 'up_to'))) > 0)) = 0)
    AND len(list_filter(members, lambda m: m NOT IN ('description', 'families', 'id', 'months', 'rule', 'skus'))) = 0
    AND list_sort(json_keys(asks)) = CASE kind WHEN 'discount' THEN ['percent'] WHEN 'capacity' THEN [] WHEN 'graduated_discount' THEN ['tiers'] WHEN 'commitment' THEN ['amount', 'overage_factor', 'true_up'] ELSE ['amount'] END, false)
UNION ALL
SELECT 'terms that cannot be judged', contract || ' ' || month, '1 of a kind over the same SKUs', CAST(count(*) AS VARCHAR) FROM steps WHERE kind <> 'discount'
GROUP BY contract, month, kind, families, skus HAVING count(*) > 1
UNION ALL
SELECT 'member of a term', subject, NULL, unnest(list_filter(json_keys(json), lambda m: m NOT IN ('amount', 'contract', 'description', 'families', 'invoiced_before', 'number', 'over', 'rule',
    'service_period', 'skus', 'spend', 'term', 'term_amount', 'window'))) FROM term_lines
UNION ALL
SELECT 'terms that cannot be judged', any_value(r.currency), '1 rounding in all versions', CAST(count(DISTINCT (r.places, r.mode)) AS VARCHAR) FROM roundings AS r
WHERE r.currency = (SELECT (json ->> 'currency') FROM invoice) AND EXISTS (FROM termed) HAVING count(DISTINCT (r.places, r.mode)) > 1
UNION ALL
SELECT 'line of a term', subject, money(amount - befores[1]), NULL FROM judged_terms WHERE json IS NULL AND (months > 1 OR NOT list_contains(befores, amount))
UNION ALL
SELECT 'line of a term', subject, 'none, of nothing', '1' FROM judged_terms WHERE json IS NOT NULL AND spend = 0 AND amount = said AND months = 1
UNION ALL
SELECT 'line of a term', any_value(subject), '1', CAST(count(*) AS VARCHAR) FROM term_lines GROUP BY contract, term, month HAVING count(*) > 1
UNION ALL
SELECT 'term of a line', subject, 'one of the contract in this service period', term FROM term_lines ANTI JOIN steps USING (contract, term, month)
UNION ALL
SELECT 'number of a line', subject, CAST(place + (SELECT count(*) FROM lines) AS VARCHAR), (json ->> 'number') FROM term_lines
WHERE (json ->> 'number') IS DISTINCT FROM CAST(place + (SELECT count(*) FROM lines) AS VARCHAR)
UNION ALL
SELECT 'order of the terms', subject, CAST(n AS VARCHAR), CAST(place AS VARCHAR)
FROM (SELECT subject, place, row_number() OVER (ORDER BY contract, month, s) AS n FROM judged_terms WHERE json IS NOT NULL) WHERE n <> place
UNION ALL
SELECT name || ' of a term', subject, expected, found FROM (
    SELECT subject, unnest([
        {'name': 'spend', 'expected': money(spend), 'found': (json ->> 'spend')},
        {'name': 'term_amount', 'expected': money(amount), 'found': (json ->> 'term_amount')},
        {'name': 'invoiced_before', 'expected': money(before), 'found': (json ->> 'invoiced_before')},
        {'name': 'amount', 'expected': money(amount - said), 'found': (json ->> 'amount')},
        {'name': 'description', 'expected': coalesce(description, CASE kind WHEN 'discount' THEN 'Discount of ' || (asks ->> 'percent') || ' %'
            ELSE upper(left(kind, 1)) || replace(substr(kind, 2), '_', ' ') END), 'found': (json ->> 'description')},
        {'name': 'service_period', 'expected': CAST(month AS VARCHAR), 'found': (json ->> 'service_period')},
        {'name': 'members of the window', 'expected': CASE WHEN months > 1 THEN 'amount_before, months, spend_before' END, 'found': array_to_string(list_sort(json_keys(json -> 'window')), ', ')},
        {'name': 'months', 'expected': CASE WHEN months > 1 THEN CAST(months AS VARCHAR) END, 'found': (json -> 'window' ->> 'months')},
        {'name': 'spend_before', 'expected': CASE WHEN months > 1 THEN money(spent) END, 'found': (json -> 'window' ->> 'spend_before')},
        {'name': 'amount_before', 'expected': CASE WHEN months > 1 THEN money(came_to) END, 'found': (json -> 'window' ->> 'amount_before')},
        {'name': 'over', 'expected': over, 'found': (json ->> 'over')},
        {'name': 'rule', 'expected': CAST(rule AS VARCHAR), 'found': CAST(json -> 'rule' AS VARCHAR)},
        {'name': 'families', 'expected': CAST(families AS VARCHAR), 'found': CAST(coalesce(CAST(json -> 'families' AS VARCHAR[]), []) AS VARCHAR)},
        {'name': 'skus', 'expected': CAST(skus AS VARCHAR), 'found': CAST(coalesce(CAST(json -> 'skus' AS VARCHAR[]), []) AS VARCHAR)}], recursive := true)
    FROM judged_terms WHERE json IS NOT NULL
) WHERE found IS DISTINCT FROM expected
UNION ALL
SELECT 'invoiced_before of a term, by the earlier invoices', l.subject, coalesce(e.amount, '0'), (l.json ->> 'invoiced_before')
FROM term_lines AS l LEFT JOIN earlier_terms AS e ON e.contract = l.contract AND e.term = l.term AND e.month = l.month
WHERE getvariable('earlier') IS NOT NULL AND (l.json ->> 'invoiced_before') IS DISTINCT FROM coalesce(e.amount, '0')
UNION ALL
-- A month that they closed and that has nothing new has no line; one without usage before may have been billed a minimum, which is taken back.
SELECT 'service period of a term, by the earlier invoices', subject, 'one with new usage, or one behind ' || last, CAST(month AS VARCHAR)
FROM term_lines AS l LEFT JOIN lined USING (contract, term, month), (SELECT max(CAST(json ->> 'period' AS INTEGER)) AS last FROM earlier)
WHERE month <= last AND month NOT IN (SELECT month FROM covered) AND NOT coalesce(follows, false)
UNION ALL
-- Of the first month that moved, what was spent before it; of one without leaves, what was spent in it.
SELECT 'spend_before of a term, by the earlier invoices', any_value(l.subject), money(coalesce(sum(e.spend), 0)), any_value(l.json -> 'window' ->> 'spend_before')
FROM term_lines AS l JOIN lined AS d USING (contract, term, month) LEFT JOIN earlier_terms AS e ON e.contract = l.contract AND e.term = l.term AND e.month >= d.first AND e.month < l.month
WHERE getvariable('earlier') IS NOT NULL AND NOT d.follows GROUP BY l.contract, l.term, l.month
HAVING any_value(l.json -> 'window' ->> 'spend_before') IS DISTINCT FROM money(coalesce(sum(e.spend), 0))
UNION ALL
SELECT 'spend of a term, by the earlier invoices', l.subject, money(coalesce(e.spend, 0) - coalesce(d.added_before, 0)), money(w.base)
FROM term_lines AS l JOIN lined AS d USING (contract, term, month) JOIN worded AS w USING (contract, term, month)
LEFT JOIN earlier_terms AS e ON e.contract = l.contract AND e.term = l.term AND e.month = l.month
WHERE getvariable('earlier') IS NOT NULL AND d.stated AND d.first_together AND w.base IS DISTINCT FROM coalesce(e.spend, 0) - coalesce(d.added_before, 0)
UNION ALL
-- One that they closed and that has nothing new is looked at only for terms that look at it together with another: of it there are no leaves here.
SELECT 'line of a term, by the earlier invoices', j.subject, money(j.amount - units(coalesce(e.amount, '0'), 9)), NULL
FROM judged_terms AS j LEFT JOIN earlier_terms AS e ON e.contract = j.contract AND e.term = j.term AND e.month = j.month
WHERE getvariable('earlier') IS NOT NULL AND j.json IS NULL AND j.months = 1 AND j.amount <> units(coalesce(e.amount, '0'), 9)
    AND (j.month IN (SELECT month FROM covered) OR j.month > (SELECT max(CAST(json ->> 'period' AS INTEGER)) FROM earlier))
UNION ALL
-- Earlier invoices: nothing that they charged is charged again.
SELECT 'earlier invoice', e.filename, (i.json ->> 'organization') || ' before ' || (i.json ->> 'period'), concat_ws(' ', e.json ->> 'organization', e.json ->> 'period')
FROM earlier AS e, invoice AS i
WHERE (e.json ->> 'organization') IS DISTINCT FROM (i.json ->> 'organization') OR ((e.json ->> 'period') < (i.json ->> 'period')) IS DISTINCT FROM true
UNION ALL
SELECT 'from of a log, by the earlier invoices', CAST(c.month AS VARCHAR), CAST(coalesce(e.size, 0) AS VARCHAR), CAST(c.first AS VARCHAR)
FROM covered AS c LEFT JOIN earlier_logs AS e USING (month) WHERE getvariable('earlier') IS NOT NULL AND c.first IS DISTINCT FROM coalesce(e.size, 0)
UNION ALL
SELECT name || ' of a line, by the earlier invoices', subject, expected, json_extract_string(json, '$.' || name) FROM (
    SELECT l.subject, l.json, unnest([
        {'name': 'exact_before', 'expected': coalesce(e.key_total, '0')}, {'name': 'invoiced_before', 'expected': coalesce(e.key_amount, '0')},
        {'name': 'kind', 'expected': CASE WHEN e.sku IS NULL THEN 'usage' ELSE 'adjustment' END}], recursive := true)
    FROM lines AS l LEFT JOIN earlier_lines AS e ON e.contract = l.contract AND e.sku = l.sku AND e.month = l.month
) WHERE getvariable('earlier') IS NOT NULL AND json_extract_string(json, '$.' || name) IS DISTINCT FROM expected
UNION ALL
-- 6. Issue.
SELECT 'digest of the invoice', 'issue.json', (n.json ->> 'digest'), i.digest FROM issue AS n, invoice AS i WHERE (n.json ->> 'digest') IS DISTINCT FROM i.digest
UNION ALL
SELECT 'ledger entry of the invoice', 'issue.json', concat_ws(' ', e.json ->> 'ledger_seq', e.json ->> 'ledger_digest'),
    concat_ws(' ', n.json ->> 'entry', n.json ->> 'entry_digest') FROM issue AS n, entry AS e
WHERE CAST(n.json ->> 'entry' AS BIGINT) > CAST(e.json ->> 'ledger_seq' AS BIGINT)
    OR ((n.json ->> 'entry') = (e.json ->> 'ledger_seq') AND (n.json ->> 'entry_digest') IS DISTINCT FROM (e.json ->> 'ledger_digest'))
    OR ((n.json ->> 'entry') IS NULL AND (EXISTS (SELECT 1 FROM lines WHERE (json ->> 'exact') <> '0' OR (json ->> 'rounding') <> '0')
        OR EXISTS (SELECT 1 FROM term_lines WHERE (json ->> 'amount') <> '0')));

SELECT "check", subject, expected, found FROM failures ORDER BY ALL;
