//! The formats of answers, to the byte.

use platform_query::{Format, QueryError, render, render_within};

use crate::world::ask;

const SQL: &str = "SELECT meter AS \"me,ter\", amount, readings, start_at, identity, load, readings > 2 AS many, '' AS empty, E'a\"b\\t' AS odd, \
                   CAST(start_at AS date) AS day FROM usage.charges WHERE organization IN ('beta', 'gamma') ORDER BY start_at";

fn written(format: Format) -> String {
    let result = ask(SQL).unwrap();
    String::from_utf8(render(&result, format).unwrap()).unwrap()
}

#[test]
fn csv_is_rfc_4180_and_tells_null_from_empty() {
    let expected = "\"me,ter\",amount,readings,start_at,identity,load,many,empty,odd,day\r\n\
        gpu,-0.500000000,3,2026-01-01T01:00:00Z,02abcdff,0.1,true,\"\",\"a\"\"b\t\",2026-01-01\r\n\
        token,0.375000000,5,2026-01-02T06:00:00Z,04abcdff,2,true,\"\",\"a\"\"b\t\",2026-01-02\r\n\
        gpu,,,2026-02-01T00:00:00Z,05abcdff,0,,\"\",\"a\"\"b\t\",2026-02-01\r\n";
    assert_eq!(written(Format::Csv), expected);
}

#[test]
fn json_quotes_decimals_and_tells_types_and_truncation() {
    let json: serde_json::Value = serde_json::from_str(&written(Format::Json)).unwrap();
    assert_eq!(json["columns"][1], serde_json::json!({"name": "amount", "type": "decimal(19,9)"}));
    assert_eq!(json["columns"][3]["type"], "timestamp with time zone");
    assert_eq!(
        json["rows"][0],
        serde_json::json!({"me,ter": "gpu", "amount": "-0.500000000", "readings": 3, "start_at": "2026-01-01T01:00:00Z", "identity": "02abcdff",
            "load": 0.1, "many": true, "empty": "", "odd": "a\"b\t", "day": "2026-01-01"})
    );
    assert_eq!(json["rows"][2]["amount"], serde_json::Value::Null);
    assert_eq!(json["truncated"], false);
    let lines = written(Format::Ndjson);
    assert_eq!(lines.lines().count(), 3);
    assert!(lines.starts_with("{\"me,ter\":\"gpu\",\"amount\":\"-0.500000000\",\"readings\":3,"), "{lines}");
}

#[test]
fn tables_are_aligned_and_show_control_characters() {
    let expected = "\
me,ter        amount  readings  start_at              identity  load  many  empty  odd    day
------  ------------  --------  --------------------  --------  ----  ----  -----  -----  ----------
gpu     -0.500000000         3  2026-01-01T01:00:00Z  02abcdff   0.1  true         a\"b\\t  2026-01-01
token    0.375000000         5  2026-01-02T06:00:00Z  04abcdff     2  true         a\"b\\t  2026-01-02
gpu             null      null  2026-02-01T00:00:00Z  05abcdff     0  null         a\"b\\t  2026-02-01
(3 rows)
";
    assert_eq!(written(Format::Table), expected);
}

#[test]
fn arrow_round_trips() {
    let result = ask(SQL).unwrap();
    let bytes = render(&result, Format::Arrow).unwrap();
    let reader = arrow::ipc::reader::StreamReader::try_new(std::io::Cursor::new(bytes), None).unwrap();
    let batches: Vec<_> = reader.map(Result::unwrap).collect();
    assert_eq!(batches, result.batches);
}

#[test]
fn an_answer_that_is_too_long_keeps_whole_rows_and_says_that_some_are_missing() {
    let result = ask(SQL).unwrap();
    for format in [Format::Csv, Format::Json, Format::Ndjson, Format::Arrow] {
        let whole = render_within(&result, format, usize::MAX).unwrap();
        assert_eq!((&whole.bytes, whole.truncated), (&render(&result, format).unwrap(), false));
        assert_eq!(render_within(&result, format, whole.bytes.len()).unwrap(), whole, "{format:?}: it fits exactly");
        let none = render_within(&result, format, 0).unwrap();
        assert!(none.truncated, "{format:?}");
        for limit in none.bytes.len()..whole.bytes.len() {
            let cut = render_within(&result, format, limit).unwrap();
            assert!(cut.truncated && cut.bytes.len() <= limit, "{format:?} {limit}: {} bytes", cut.bytes.len());
        }
    }
    let one = render_within(&result, Format::Json, render(&result, Format::Json).unwrap().len() - 1).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&one.bytes).unwrap();
    assert_eq!((json["rows"].as_array().unwrap().len(), &json["truncated"]), (2, &serde_json::json!(true)));
}

#[test]
fn formats_have_names_and_an_empty_answer_has_columns() {
    for name in ["table", "csv", "json", "ndjson", "arrow"] {
        assert!(Format::parse(name).is_some_and(|format| !format.content_type().is_empty()));
    }
    assert_eq!(Format::parse("xml"), None);
    let none = ask("SELECT amount FROM usage.charges WHERE false").unwrap();
    assert_eq!(String::from_utf8(render(&none, Format::Csv).unwrap()).unwrap(), "amount\r\n");
    assert_eq!(
        render(&none, Format::Json).unwrap(),
        b"{\"columns\":[{\"name\":\"amount\",\"type\":\"decimal(19,9)\"}],\"rows\":[],\"truncated\":false}\n"
    );
}

#[test]
fn errors_have_codes() {
    let code = |sql: &str| ask(sql).unwrap_err().code();
    assert_eq!(code("SELEC"), "QUERY-0001");
    assert_eq!(code("DROP TABLE x"), "QUERY-0002");
    assert_eq!(code("SELECT nothing FROM usage.charges"), "QUERY-0003");
    assert_eq!(code("SELECT * FROM usage.nothing"), "QUERY-0003");
    assert_eq!(code("SELECT sum(money) FROM ledger.huge WHERE name < 'c'"), "QUERY-0004");
    assert!(matches!(ask("SELECT 1 / 0"), Err(QueryError::Data { .. })));
}
