//! JSON as it came over the wire: borrowed, strict (RFC 8259), repeated member names refused, numbers kept as their text.
//! It knows no event; it exists because a general reader would keep the last of two equal names and forget a number's digits.

use std::borrow::Cow;
use std::cmp::Ordering;

use shared_types::{CanonicalError, plain_decimal, write_canonical_string};

/// Arrays and objects inside one another, at most.
pub const DEPTH_MAX: usize = 128;

/// Why a text is not the JSON that was wanted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} at byte {at}")]
pub struct JsonError {
    /// Byte offset of the fault.
    pub at: usize,
    /// What is wrong there.
    pub what: String,
}

/// A JSON value. Members of objects are sorted as RFC 8785 wants them, names unique.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Json<'a> {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number's text, unchanged.
    Number(&'a str),
    /// A string without its escapes.
    Text(Cow<'a, str>),
    /// An array.
    Array(Vec<Json<'a>>),
    /// An object.
    Object(Vec<(Cow<'a, str>, Json<'a>)>),
}

impl<'a> Json<'a> {
    /// Reads a whole text as one value.
    ///
    /// - Errors: anything outside RFC 8259, a repeated member name, nesting beyond [`DEPTH_MAX`]; each with its byte offset.
    pub fn parse(text: &'a str) -> Result<Self, JsonError> {
        let mut cursor = Cursor::new(text);
        let value = cursor.value(0)?;
        cursor.end()?;
        Ok(value)
    }

    /// Appends the canonical form: what [`shared_types::canonical_json`] writes for the same document.
    pub fn write_canonical(&self, out: &mut String) -> Result<(), CanonicalError> {
        match self {
            Self::Null => out.push_str("null"),
            Self::Bool(true) => out.push_str("true"),
            Self::Bool(false) => out.push_str("false"),
            Self::Number(text) => write_number(text, out)?,
            Self::Text(text) => write_canonical_string(text, out),
            Self::Array(items) => {
                out.push('[');
                for (at, item) in items.iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    item.write_canonical(out)?;
                }
                out.push(']');
            }
            Self::Object(members) => {
                out.push('{');
                for (at, (name, value)) in members.iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    write_canonical_string(name, out);
                    out.push(':');
                    value.write_canonical(out)?;
                }
                out.push('}');
            }
        }
        Ok(())
    }
}

/// Quoted exact decimal text. JSON forbids leading zeros, so digits alone are plain already.
fn write_number(text: &str, out: &mut String) -> Result<(), CanonicalError> {
    if text.len() <= 100 && text.bytes().all(|byte| byte.is_ascii_digit()) {
        write_canonical_string(text, out);
        return Ok(());
    }
    let plain = plain_decimal(text).ok_or_else(|| CanonicalError::Number { value: text.chars().take(80).collect() })?;
    write_canonical_string(&plain, out);
    Ok(())
}

/// RFC 8785 §3.2.3: by UTF-16 code units; for ASCII that is by bytes.
fn order(a: &str, b: &str) -> Ordering {
    if a.is_ascii() && b.is_ascii() { a.cmp(b) } else { a.encode_utf16().cmp(b.encode_utf16()) }
}

/// The exact texts of an array's elements, or the one value of a text that is no array. Repeated names are not looked for here.
///
/// - Errors: as [`Json::parse`], except repeated names.
pub fn elements(text: &str) -> Result<Elements<'_>, JsonError> {
    let mut cursor = Cursor::new(text);
    cursor.space();
    if cursor.peek() != Some(b'[') {
        let start = cursor.at;
        cursor.skip(0)?;
        let end = cursor.at;
        cursor.end()?;
        return Ok(Elements::One(cursor.slice(start, end)));
    }
    cursor.at += 1;
    let mut found = Vec::new();
    cursor.items(b']', |cursor| {
        let start = cursor.at;
        cursor.skip(1)?;
        found.push(cursor.slice(start, cursor.at));
        Ok(())
    })?;
    cursor.end()?;
    Ok(Elements::Many(found))
}

/// What a body holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Elements<'a> {
    /// A value that is no array.
    One(&'a str),
    /// An array's elements.
    Many(Vec<&'a str>),
}

/// A place in a text. All methods leave it behind what they read.
#[derive(Debug)]
pub(crate) struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    pub(crate) fn at(&self) -> usize {
        self.at
    }

    pub(crate) fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// Text between two places; both lie beside ASCII characters, so the bounds always hold.
    pub(crate) fn slice(&self, from: usize, to: usize) -> &'a str {
        self.text.get(from..to).unwrap_or_default()
    }

    fn fault<T>(&self, what: &str) -> Result<T, JsonError> {
        Err(JsonError { at: self.at, what: what.to_owned() })
    }

    pub(crate) fn space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    fn end(&mut self) -> Result<(), JsonError> {
        self.space();
        if self.at == self.text.len() { Ok(()) } else { self.fault("text after the end of the value") }
    }

    /// Reads items up to the closing byte; the opening one is behind the cursor.
    fn items(&mut self, close: u8, mut item: impl FnMut(&mut Self) -> Result<(), JsonError>) -> Result<(), JsonError> {
        self.space();
        if self.peek() == Some(close) {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.space();
            item(self)?;
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(byte) if byte == close => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return self.fault(if close == b']' { "neither ',' nor ']'" } else { "neither ',' nor '}'" }),
            }
        }
    }

    /// Reads an object's members; the cursor stands at `{`, and `member` reads each value.
    pub(crate) fn members(&mut self, mut member: impl FnMut(&mut Self, Cow<'a, str>) -> Result<(), JsonError>) -> Result<(), JsonError> {
        self.byte(b'{', "no object")?;
        self.items(b'}', |cursor| {
            let name = cursor.string()?;
            cursor.space();
            cursor.byte(b':', "no ':' after a member's name")?;
            cursor.space();
            member(cursor, name)
        })
    }

    fn byte(&mut self, wanted: u8, otherwise: &str) -> Result<(), JsonError> {
        if self.peek() == Some(wanted) {
            self.at += 1;
            Ok(())
        } else {
            self.fault(otherwise)
        }
    }

    fn value(&mut self, depth: usize) -> Result<Json<'a>, JsonError> {
        self.space();
        match self.peek() {
            Some(b'"') => Ok(Json::Text(self.string()?)),
            Some(b'{') => self.object(depth),
            Some(b'[') => {
                let depth = self.deeper(depth)?;
                self.at += 1;
                let mut items = Vec::new();
                self.items(b']', |cursor| {
                    items.push(cursor.value(depth)?);
                    Ok(())
                })?;
                Ok(Json::Array(items))
            }
            Some(b'-' | b'0'..=b'9') => Ok(Json::Number(self.number()?)),
            Some(b't') => self.word("true").map(|()| Json::Bool(true)),
            Some(b'f') => self.word("false").map(|()| Json::Bool(false)),
            Some(b'n') => self.word("null").map(|()| Json::Null),
            _ => self.fault("no JSON value"),
        }
    }

    fn object(&mut self, depth: usize) -> Result<Json<'a>, JsonError> {
        let depth = self.deeper(depth)?;
        let start = self.at;
        let mut members: Vec<(Cow<'a, str>, Json<'a>)> = Vec::with_capacity(8);
        self.members(|cursor, name| {
            let value = cursor.value(depth)?;
            members.push((name, value));
            Ok(())
        })?;
        members.sort_by(|(a, _), (b, _)| order(a, b));
        let repeated = members.iter().zip(members.iter().skip(1)).find(|((a, _), (b, _))| a == b);
        if let Some(((name, _), _)) = repeated {
            let name: String = name.chars().take(80).collect();
            return Err(JsonError { at: start, what: format!("member {name:?} is repeated in the object") });
        }
        Ok(Json::Object(members))
    }

    fn deeper(&self, depth: usize) -> Result<usize, JsonError> {
        if depth < DEPTH_MAX { Ok(depth + 1) } else { self.fault("nested deeper than 128") }
    }

    /// Passes over a value with all of its grammar checked.
    pub(crate) fn skip(&mut self, depth: usize) -> Result<(), JsonError> {
        self.space();
        match self.peek() {
            Some(b'"') => self.string().map(drop),
            Some(b'{') => {
                let depth = self.deeper(depth)?;
                self.members(|cursor, _| cursor.skip(depth))
            }
            Some(b'[') => {
                let depth = self.deeper(depth)?;
                self.at += 1;
                self.items(b']', |cursor| cursor.skip(depth))
            }
            Some(b'-' | b'0'..=b'9') => self.number().map(drop),
            Some(b't') => self.word("true"),
            Some(b'f') => self.word("false"),
            Some(b'n') => self.word("null"),
            _ => self.fault("no JSON value"),
        }
    }

    fn word(&mut self, word: &str) -> Result<(), JsonError> {
        if self.text.get(self.at..).is_some_and(|rest| rest.starts_with(word)) {
            self.at += word.len();
            Ok(())
        } else {
            self.fault("no JSON value")
        }
    }

    fn digits(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        if self.at == start { self.fault("a digit is missing") } else { Ok(()) }
    }

    fn number(&mut self) -> Result<&'a str, JsonError> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
            if let Some(b'0'..=b'9') = self.peek() {
                return self.fault("a number begins with 0");
            }
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(self.slice(start, self.at))
    }

    /// Reads a string; borrowed unless it has escapes.
    pub(crate) fn string(&mut self) -> Result<Cow<'a, str>, JsonError> {
        self.byte(b'"', "no string")?;
        let mut owned: Option<String> = None;
        let mut run = self.at;
        loop {
            match self.peek() {
                Some(b'"') => {
                    let tail = self.slice(run, self.at);
                    self.at += 1;
                    return Ok(match owned {
                        None => Cow::Borrowed(tail),
                        Some(head) => Cow::Owned(head + tail),
                    });
                }
                Some(b'\\') => {
                    let head = owned.get_or_insert_default();
                    head.push_str(self.text.get(run..self.at).unwrap_or_default());
                    self.at += 1;
                    let c = self.escape()?;
                    owned.get_or_insert_default().push(c);
                    run = self.at;
                }
                Some(0..=0x1f) => return self.fault("a control character in a string"),
                Some(_) => self.at += 1,
                None => return self.fault("the text ends inside a string"),
            }
        }
    }

    fn escape(&mut self) -> Result<char, JsonError> {
        let Some(byte) = self.peek() else { return self.fault("the text ends inside a string") };
        self.at += 1;
        Ok(match byte {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let unit = self.code_unit()?;
                let scalar = match unit {
                    0xd800..=0xdbff => {
                        if self.peek() != Some(b'\\') || self.text.as_bytes().get(self.at + 1) != Some(&b'u') {
                            return self.fault("half of a surrogate pair");
                        }
                        self.at += 2;
                        let low = self.code_unit()?;
                        if !(0xdc00..=0xdfff).contains(&low) {
                            return self.fault("half of a surrogate pair");
                        }
                        0x1_0000 + ((unit - 0xd800) << 10) + (low - 0xdc00)
                    }
                    unit => unit,
                };
                match char::from_u32(scalar) {
                    Some(c) => c,
                    None => return self.fault("half of a surrogate pair"),
                }
            }
            _ => return self.fault("an unknown escape"),
        })
    }

    fn code_unit(&mut self) -> Result<u32, JsonError> {
        let digits = self.text.get(self.at..self.at + 4).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        match digits.and_then(|digits| u32::from_str_radix(digits, 16).ok()) {
            Some(unit) => {
                self.at += 4;
                Ok(unit)
            }
            None => self.fault("four hex digits are missing"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both(text: &str) -> (Option<String>, Option<String>) {
        let ours = Json::parse(text).ok().and_then(|json| {
            let mut out = String::new();
            json.write_canonical(&mut out).ok().map(|()| out)
        });
        let theirs = serde_json::from_str(text).ok().and_then(|value| shared_types::canonical_json(&value).ok());
        (ours, theirs)
    }

    #[test]
    fn the_grammar_is_that_of_rfc_8259() {
        for text in [r#"{"a":[1,-0,0.5,1e3,1E-2,true,false,null,"\u00e9\ud83d\ude00\n\/"],"":{}}"#, " [ ] ", "\"\"", "0", "-1.25e+2"] {
            let (ours, theirs) = both(text);
            assert!(ours.is_some(), "{text}");
            assert_eq!(ours, theirs, "{text}");
        }
        for text in [
            "",
            " ",
            "{",
            "[1,]",
            "{\"a\":1,}",
            "{a:1}",
            "01",
            "1.",
            ".5",
            "+1",
            "1e",
            "-",
            "nul",
            "truex",
            "\"\u{1}\"",
            "\"\\x\"",
            "\"\\ud800\"",
            "\"\\udc00\"",
            "\"\\ud800\\u0041\"",
            "\"\\u12g4\"",
            "1 2",
            "[1 2]",
            "{\"a\" 1}",
            "\u{feff}1",
            "'a'",
        ] {
            assert!(Json::parse(text).is_err(), "{text}");
            assert!(elements(text).is_err(), "{text}");
        }
    }

    #[test]
    fn repeated_names_are_refused_also_when_they_are_escaped() {
        let error = Json::parse(r#"{"a":1,"x":{"b":1,"\u0062":2}}"#).unwrap_err();
        assert_eq!(error.to_string(), "member \"b\" is repeated in the object at byte 11");
    }

    #[test]
    fn nesting_has_an_end() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(Json::parse(&nested(DEPTH_MAX)).is_ok());
        assert!(Json::parse(&nested(DEPTH_MAX + 1)).is_err());
        assert!(elements(&nested(100_000)).is_err());
    }

    #[test]
    fn elements_are_exact_texts() {
        let text = " [ {\"a\" : 1} ,\n2.50, \"]\" ] ";
        assert_eq!(elements(text), Ok(Elements::Many(vec!["{\"a\" : 1}", "2.50", "\"]\""])));
        assert_eq!(elements(" {\"a\":[1]}\n"), Ok(Elements::One("{\"a\":[1]}")));
        assert_eq!(elements("[]"), Ok(Elements::Many(vec![])));
    }

    fn document() -> impl proptest::strategy::Strategy<Value = serde_json::Value> {
        use proptest::prelude::*;
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(serde_json::Value::Bool),
            "-?(0|[1-9][0-9]{0,12})(\\.[0-9]{1,12})?([eE][-+]?[0-9])?".prop_map(|text| serde_json::from_str(&text).unwrap()),
            any::<String>().prop_map(serde_json::Value::String),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(serde_json::Value::Array),
                proptest::collection::btree_map(".{0,4}", inner, 0..6)
                    .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(1000))]
        #[test]
        fn canonical_forms_agree_with_the_shared_definition(value in document()) {
            let (ours, theirs) = both(&value.to_string());
            proptest::prop_assert!(ours.is_some());
            proptest::prop_assert_eq!(ours, theirs);
        }

        #[test]
        fn damaged_documents_are_accepted_by_both_readers_or_by_neither(
            value in document(), cut in proptest::num::usize::ANY, put in "[\\[\\]{}\",:0-9eE.+\\-\\\\ ntfu]",
        ) {
            let mut text: Vec<char> = value.to_string().chars().collect();
            let at = cut % text.len();
            text[at] = put.chars().next().unwrap();
            let text: String = text.into_iter().collect();
            let theirs: Result<serde_json::Value, _> = serde_json::from_str(&text);
            match Json::parse(&text) {
                Ok(_) => proptest::prop_assert!(theirs.is_ok(), "{}", text),
                // The general reader allows repeated names.
                Err(error) => proptest::prop_assert!(theirs.is_err() || error.what.contains("repeated"), "{}: {}", text, error),
            }
            proptest::prop_assert_eq!(elements(&text).is_ok(), theirs.is_ok());
        }
    }
}
