//! Rows of a file: decompression, the borders of CSV records and JSON lines, cells under the plan's columns.
//! It knows no event.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use platform_usage::json::Json;

/// Counts the bytes that pass.
struct Counting<R> {
    inner: R,
    bytes: Arc<AtomicU64>,
}

impl<R: Read> Read for Counting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.bytes.fetch_add(u64::try_from(read).unwrap_or(u64::MAX), Ordering::Relaxed);
        Ok(read)
    }
}

/// Opens a file, decompressed if its first bytes say gzip or zstd. Returns its size and the counter of bytes read, both as stored.
pub(super) fn open(path: &Path) -> io::Result<(Box<dyn BufRead + Send>, u64, Arc<AtomicU64>)> {
    let mut file = File::open(path)?;
    let total = file.metadata()?.len();
    let mut magic = Vec::new();
    Read::by_ref(&mut file).take(4).read_to_end(&mut magic)?;
    let file = io::Seek::rewind(&mut file).map(|()| file)?;
    let bytes = Arc::new(AtomicU64::new(0));
    let counting = BufReader::with_capacity(1 << 16, Counting { inner: file, bytes: Arc::clone(&bytes) });
    let reader: Box<dyn BufRead + Send> = match magic.as_slice() {
        [0x1f, 0x8b, ..] => Box::new(BufReader::with_capacity(1 << 16, flate2::bufread::MultiGzDecoder::new(counting))),
        [0x28, 0xb5, 0x2f, 0xfd] => Box::new(BufReader::with_capacity(1 << 16, zstd::stream::read::Decoder::with_buffer(counting)?)),
        _ => Box::new(counting),
    };
    Ok((reader, total, bytes))
}

/// What ended the reading of a record.
pub(super) enum Record {
    /// A record is in the buffer, without its line end.
    Row,
    /// There is none any more.
    End,
    /// It exceeds the limit.
    TooLong,
}

/// Reads one record: up to a line end; with `quotes`, up to one outside of double quotes.
pub(super) fn read_record(reader: &mut dyn BufRead, quotes: bool, bytes_max: usize, record: &mut Vec<u8>) -> io::Result<Record> {
    record.clear();
    let mut quoted = false;
    loop {
        let available = match reader.fill_buf() {
            Ok(available) => available,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if available.is_empty() {
            return Ok(if record.is_empty() { Record::End } else { Record::Row });
        }
        let end = available.iter().position(|byte| {
            quoted ^= quotes && *byte == b'"';
            *byte == b'\n' && !quoted
        });
        let taken = end.map_or(available.len(), |end| end.saturating_add(1));
        record.extend_from_slice(available.get(..end.unwrap_or(taken)).unwrap_or_default());
        reader.consume(taken);
        if record.len() > bytes_max {
            return Ok(Record::TooLong);
        }
        if end.is_some() {
            if record.last() == Some(&b'\r') {
                record.pop();
            }
            return Ok(Record::Row);
        }
    }
}

/// Splits a CSV record (RFC 4180): cells in double quotes may hold anything, a quote in them doubled.
pub(super) fn split_csv(record: &str, delimiter: u8) -> Result<Vec<Cow<'_, str>>, String> {
    let delimiter = char::from(delimiter);
    let mut cells = Vec::new();
    let mut rest = record;
    loop {
        let number = cells.len().saturating_add(1);
        let cell = match rest.strip_prefix('"') {
            None => {
                let end = rest.find(delimiter).unwrap_or(rest.len());
                let (cell, tail) = rest.split_at(end);
                rest = tail;
                if cell.contains('"') {
                    return Err(format!("cell {number} has a quote but does not begin with one"));
                }
                Cow::Borrowed(cell)
            }
            Some(inner) => {
                let mut cell = Cow::Borrowed("");
                let mut inner = inner;
                loop {
                    let Some((head, tail)) = inner.split_once('"') else {
                        return Err(format!("cell {number} begins with a quote that is never closed"));
                    };
                    cell += head;
                    match tail.strip_prefix('"') {
                        Some(more) => {
                            cell += "\"";
                            inner = more;
                        }
                        None => {
                            rest = tail;
                            break;
                        }
                    }
                }
                cell
            }
        };
        cells.push(cell);
        rest = match rest.strip_prefix(delimiter) {
            Some(more) => more,
            None if rest.is_empty() => return Ok(cells),
            None => return Err(format!("cell {number} has text behind its closing quote")),
        };
    }
}

/// The text under each column of a JSON line: member names joined by dots, or a member whose name has the dots itself.
/// Strings without quotes, numbers as they stand, booleans as words; null and absent are empty.
pub(super) fn pick_json<'a>(line: &'a str, columns: &[String]) -> Result<Vec<Cow<'a, str>>, String> {
    let json = Json::parse(line).map_err(|error| error.to_string())?;
    let Json::Object(_) = &json else { return Err("not a JSON object".to_owned()) };
    columns
        .iter()
        .map(|column| match member(&json, column) {
            None | Some(Json::Null) => Ok(Cow::Borrowed("")),
            Some(Json::Text(text)) => Ok(text.clone()),
            Some(Json::Number(text)) => Ok(Cow::Borrowed(*text)),
            Some(Json::Bool(true)) => Ok(Cow::Borrowed("true")),
            Some(Json::Bool(false)) => Ok(Cow::Borrowed("false")),
            Some(Json::Array(_) | Json::Object(_)) => Err(format!("{column:?} is an array or an object")),
        })
        .collect()
}

fn member<'j, 'a>(json: &'j Json<'a>, path: &str) -> Option<&'j Json<'a>> {
    let Json::Object(members) = json else { return None };
    let named = |name: &str| members.iter().find(|(key, _)| key == name).map(|(_, value)| value);
    named(path).or_else(|| {
        let (head, tail) = path.split_once('.')?;
        member(named(head)?, tail)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn csv_records_are_split_as_rfc_4180_says() {
        for (record, cells) in [
            ("a,b,c", &["a", "b", "c"][..]),
            ("", &[""]),
            (",", &["", ""]),
            ("\"a,b\",\"c\"\"d\",\"\"", &["a,b", "c\"d", ""]),
            ("\"a\nb\",é", &["a\nb", "é"]),
            (" a , b ", &[" a ", " b "]),
        ] {
            assert_eq!(split_csv(record, b',').unwrap(), cells, "{record}");
        }
        for (record, why) in [
            ("a,b\"c", "cell 2 has a quote but does not begin with one"),
            ("a,\"b", "cell 2 begins with a quote that is never closed"),
            ("\"a\"b,c", "cell 1 has text behind its closing quote"),
        ] {
            assert_eq!(split_csv(record, b',').unwrap_err(), why, "{record}");
        }
        assert_eq!(split_csv("a;b,c", b';').unwrap(), ["a", "b,c"]);
    }

    proptest::proptest! {
        /// The oracle is the csv crate's writer.
        #[test]
        fn what_a_csv_writer_wrote_is_read_back(rows in proptest::collection::vec(proptest::collection::vec("[a,\"\n\r é]{0,6}", 2..5), 1..6)) {
            let mut writer = csv::WriterBuilder::new().flexible(true).from_writer(Vec::new());
            for row in &rows {
                writer.write_record(row).unwrap();
            }
            let bytes = writer.into_inner().unwrap();
            // One byte at a time: borders of the buffer fall everywhere.
            let mut reader = BufReader::with_capacity(1, bytes.as_slice());
            let mut record = Vec::new();
            for row in &rows {
                proptest::prop_assert!(matches!(read_record(&mut reader, true, 1000, &mut record).unwrap(), Record::Row));
                let text = std::str::from_utf8(&record).unwrap();
                proptest::prop_assert_eq!(&split_csv(text, b',').unwrap(), row);
            }
            proptest::prop_assert!(matches!(read_record(&mut reader, true, 1000, &mut record).unwrap(), Record::End));
        }
    }

    #[test]
    fn a_record_has_a_greatest_length() {
        let mut record = Vec::new();
        assert!(matches!(read_record(&mut &b"12345\n6"[..], true, 5, &mut record).unwrap(), Record::Row));
        assert!(matches!(read_record(&mut &b"123456\n"[..], true, 5, &mut record).unwrap(), Record::TooLong));
        assert!(matches!(read_record(&mut &b"\"1\n2\n3\n4\n"[..], true, 5, &mut record).unwrap(), Record::TooLong));
        assert!(matches!(read_record(&mut &b"\"1\n2\n3\n4\n"[..], false, 5, &mut record).unwrap(), Record::Row));
        assert_eq!(record, b"\"1");
    }

    #[test]
    fn json_lines_give_texts() {
        let columns: Vec<String> = ["a", "b.c", "d.e", "f", "g"].map(str::to_owned).to_vec();
        let line = r#"{"a":1.50,"b":{"c":"x"},"d.e":true,"f":null}"#;
        assert_eq!(pick_json(line, &columns).unwrap(), ["1.50", "x", "true", "", ""]);
        assert_eq!(pick_json("{\"a\":[1]}", &columns).unwrap_err(), "\"a\" is an array or an object");
        assert!(pick_json("[1]", &columns).is_err());
        assert!(pick_json("{", &columns).is_err());
    }
}
