//! Single fields of a TOML table: texts, ids, numbers, instants, lists. Each says what is wrong with it and what to write instead.
//! It does not know which fields a document has.

use std::collections::BTreeMap;
use std::str::FromStr;

use platform_usage::read::DIMENSION_BYTES_MAX;
use shared_types::{IdError, Instant, NumberError, Price, Quantity};
use toml::de::{DeTable, DeValue};

use super::{Field, Reader, Table};
use crate::compile::one;
use crate::problem::At;

/// Longest text of any field, in bytes.
const TEXT_BYTES_MAX: usize = DIMENSION_BYTES_MAX;

impl Reader<'_> {
    pub(super) fn at(&self, offset: usize) -> At {
        At { file: self.file, offset }
    }

    /// Names every field that is not known.
    pub(super) fn only(&mut self, table: &Table<'_, '_>, known: &[&str]) {
        self.only_but(table, known, &[]);
    }

    /// Names every field that is not known, but for those that are named elsewhere: they are understood and not live.
    pub(super) fn only_but(&mut self, table: &Table<'_, '_>, known: &[&str], not_live: &[(&str, &str)]) {
        let understood = |name: &str| known.contains(&name) || not_live.iter().any(|(field, _)| *field == name);
        for (key, _) in table.members.iter().filter(|(key, _)| !understood(key.get_ref())) {
            let hint = self.findings.hint(key.get_ref(), known.iter().copied());
            let at = self.at(key.span().start);
            let remedy = format!("{hint}the fields are {}", known.join(", "));
            self.findings.add(at, format!("unknown field {:?} in {}", key.get_ref().as_ref(), table.name), remedy);
        }
    }

    pub(super) fn required<T>(&mut self, table: &Table<'_, '_>, field: Field<T>, name: &str, remedy: &str) -> Option<T> {
        match field {
            Field::Good(value, _) => Some(value),
            Field::Wrong => None,
            Field::Absent => {
                self.findings.add(table.at, format!("{} has no {name}", table.name), remedy);
                None
            }
        }
    }

    pub(super) fn optional<T>(&self, field: Field<T>) -> Option<Option<T>> {
        match field {
            Field::Good(value, _) => Some(Some(value)),
            Field::Absent => Some(None),
            Field::Wrong => None,
        }
    }

    pub(super) fn or<T>(&self, field: Field<T>, default: T) -> Option<T> {
        self.optional(field).map(|value| value.unwrap_or(default))
    }

    /// A quoted text of 1 to 1024 bytes without control characters.
    pub(super) fn text_field(&mut self, table: &Table<'_, '_>, name: &str) -> Field<String> {
        let Some(value) = table.members.get(name) else { return Field::Absent };
        self.text_value(value, name, table)
    }

    pub(super) fn text_value(&mut self, value: &toml::Spanned<DeValue<'_>>, name: &str, table: &Table<'_, '_>) -> Field<String> {
        let at = self.at(value.span().start);
        let raw = self.text.get(value.span()).unwrap_or_default();
        match value.get_ref() {
            DeValue::String(text) if text.is_empty() => {
                self.findings.add(at, format!("{name} of {} is empty", table.name), "write something between the quotes, or leave it out");
            }
            DeValue::String(text) if text.len() > TEXT_BYTES_MAX => {
                let message = format!("{name} of {} is longer than {TEXT_BYTES_MAX} bytes", table.name);
                self.findings.add(at, message, "shorten it");
            }
            DeValue::String(text) if text.chars().any(|c| c.is_control() && c != '\n' && c != '\t') => {
                self.findings.add(at, format!("{name} of {} contains control characters", table.name), "remove them");
            }
            DeValue::String(text) => return Field::Good(text.to_string(), at),
            DeValue::Integer(_) | DeValue::Float(_) => {
                let message = format!("{name} of {} is the number {raw} without quotes", table.name);
                self.findings.add(at, message, format!("write {name} = \"{raw}\": numbers are quoted so that no digit is lost"));
            }
            DeValue::Datetime(_) => {
                let message = format!("{name} of {} is the date-time {raw} without quotes", table.name);
                self.findings.add(at, message, format!("write {name} = \"{raw}\""));
            }
            other => {
                let message = format!("{name} of {} is {}, not a text", table.name, type_name(other));
                self.findings.add(at, message, format!("write {name} = \"…\", a text in quotes"));
            }
        }
        Field::Wrong
    }

    pub(super) fn required_text(&mut self, table: &Table<'_, '_>, name: &str, remedy: &str) -> Option<String> {
        let text = self.text_field(table, name);
        self.required(table, text, name, remedy)
    }

    /// A text with a remedy for what its kind refuses.
    pub(super) fn parsed<T, E: std::fmt::Display>(
        &mut self,
        table: &Table<'_, '_>,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
        remedy: impl FnOnce(&E) -> String,
    ) -> Field<T> {
        let (text, at) = match self.text_field(table, name) {
            Field::Good(text, at) => (text, at),
            Field::Absent => return Field::Absent,
            Field::Wrong => return Field::Wrong,
        };
        match parse(&text) {
            Ok(value) => Field::Good(value, at),
            Err(error) => {
                self.findings.add(at, format!("{name} of {}: {error}", table.name), remedy(&error));
                Field::Wrong
            }
        }
    }

    /// A required id.
    pub(super) fn id<T: std::str::FromStr<Err = IdError>>(&mut self, table: &Table<'_, '_>, name: &str) -> Option<T> {
        let id = self.parsed(table, name, T::from_str, |_| "use letters, digits and . _ : / @ - only".to_owned());
        self.required(table, id, name, &format!("write {name} = \"…\""))
    }

    /// Names that end up in account names and price ids: 1 to 64 letters, digits, `.`, `_`, `-`.
    pub(super) fn plain_name(&mut self, table: &Table<'_, '_>, name: &str, text: String) -> Option<String> {
        if text.len() <= 64 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)) {
            return Some(text);
        }
        let at = table.members.get(name).map_or(table.at, |value| self.at(value.span().start));
        let message = format!("{name} of {} is {text:?}, not 1 to 64 characters of A-Z a-z 0-9 . _ -", table.name);
        self.findings.add(at, message, "use letters, digits and . _ - only");
        None
    }

    pub(super) fn description(&mut self, table: &Table<'_, '_>) -> Option<Option<String>> {
        let description = self.text_field(table, "description");
        self.optional(description)
    }

    /// Member names joined by dots.
    pub(super) fn path(&mut self, table: &Table<'_, '_>, name: &str, path: Field<String>) -> Field<String> {
        match path {
            Field::Good(path, at) if path.split('.').any(str::is_empty) => {
                let message = format!("{name} of {}: the path {path:?} has an empty part", table.name);
                self.findings.add(at, message, "write member names inside data joined by dots, for example \"usage.input_tokens\"");
                Field::Wrong
            }
            path => path,
        }
    }

    /// One of a few words.
    pub(super) fn word<T: Copy>(&mut self, table: &Table<'_, '_>, name: &str, words: &[(&'static str, T)]) -> Field<T> {
        match self.text_field(table, name) {
            Field::Good(text, at) => match words.iter().find(|(word, _)| *word == text) {
                Some((_, value)) => Field::Good(*value, at),
                None => {
                    let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
                    let hint = self.findings.hint(&text, names.iter().copied());
                    let message = format!("{name} {text:?} of {} is not supported", table.name);
                    self.findings.add(at, message, format!("{hint}use {}", names.join(" or ")));
                    Field::Wrong
                }
            },
            Field::Absent => Field::Absent,
            Field::Wrong => Field::Wrong,
        }
    }

    /// `scale`: decimal places, a TOML integer from 0 to 9.
    pub(super) fn scale(&mut self, table: &Table<'_, '_>) -> Field<u32> {
        let Some(value) = table.members.get("scale") else { return Field::Absent };
        let at = self.at(value.span().start);
        let scale = match value.get_ref() {
            DeValue::Integer(number) => u32::from_str_radix(number.as_str(), number.radix()).ok().filter(|scale| *scale <= Quantity::SCALE),
            _ => None,
        };
        match scale {
            Some(scale) => Field::Good(scale, at),
            None => {
                let raw = self.text.get(value.span()).unwrap_or_default();
                let message = format!("scale of {} is {raw}, not a count of decimal places", table.name);
                self.findings.add(
                    at,
                    message,
                    format!("write a whole number from 0 to {} without quotes, for example scale = 2", Quantity::SCALE),
                );
                Field::Wrong
            }
        }
    }

    pub(super) fn instant(&mut self, table: &Table<'_, '_>, name: &str) -> Option<Instant> {
        let remedy = format!("write a date and time with its offset, for example {name} = \"2026-10-01T00:00:00Z\"");
        let instant = self.parsed(table, name, Instant::parse, |_| remedy.clone());
        self.required(table, instant, name, &remedy)
    }

    pub(super) fn quantity(&mut self, table: &Table<'_, '_>, name: &str) -> Field<Quantity> {
        self.parsed(table, name, plain::<Quantity>, |error| number_remedy(error, "a quantity has at most 9 decimal places: round it"))
    }

    pub(super) fn above_zero(&mut self, table: &Table<'_, '_>, name: &str) -> Field<Quantity> {
        match self.quantity(table, name) {
            Field::Good(quantity, at) if quantity <= Quantity::ZERO => {
                let message = format!("{name} of {} is {quantity}, not above zero", table.name);
                self.findings.add(at, message, "write how many units the price pays for");
                Field::Wrong
            }
            field => field,
        }
    }

    /// `per`: how many units a unit price pays for, 1 unless given.
    pub(super) fn per(&mut self, table: &Table<'_, '_>) -> Option<Quantity> {
        let per = self.above_zero(table, "per");
        self.or(per, one())
    }

    /// A price, zero or more.
    pub(super) fn price_field(&mut self, table: &Table<'_, '_>, name: &str) -> Field<Price> {
        let finer = "round it, or state the price for more units with per: it then needs fewer decimal places";
        match self.parsed(table, name, plain::<Price>, |error| number_remedy(error, finer)) {
            Field::Good(price, at) if price < Price::ZERO => {
                let message = format!("{name} of {} is {price}, below zero", table.name);
                self.findings.add(at, message, "write a price of zero or more: credits and refunds are not prices");
                Field::Wrong
            }
            field => field,
        }
    }

    pub(super) fn money(&mut self, table: &Table<'_, '_>, name: &str) -> Option<Price> {
        let price = self.price_field(table, name);
        self.required(table, price, name, &format!("write the money in quotes, for example {name} = \"2.50\""))
    }

    /// An inline table of texts; empty when left out.
    pub(super) fn texts(&mut self, table: &Table<'_, '_>, name: &'static str) -> Option<BTreeMap<String, (String, At)>> {
        let Some(value) = table.members.get(name) else { return Some(BTreeMap::new()) };
        let DeValue::Table(members) = value.get_ref() else {
            let at = self.at(value.span().start);
            let message = format!("{name} of {} is {}, not a table of texts", table.name, type_name(value.get_ref()));
            self.findings.add(at, message, format!("write {name} = {{ model = \"…\" }}"));
            return None;
        };
        let mut texts = Some(BTreeMap::new());
        for (key, value) in members.iter() {
            let key_text = key.get_ref();
            if key_text.is_empty() || key_text.len() > 128 || key_text.chars().any(char::is_control) {
                let at = self.at(key.span().start);
                self.findings.add(
                    at,
                    format!("dimension {key_text:?} of {} is not 1 to 128 characters", table.name),
                    "give it a short name",
                );
                texts = None;
            }
            let text = match self.text_value(value, key_text, table) {
                Field::Good(text, at) => Some((text, at)),
                Field::Absent | Field::Wrong => None,
            };
            texts = texts.zip(text).map(|(mut texts, text)| {
                texts.insert(key_text.to_string(), text);
                texts
            });
        }
        texts
    }

    /// A list of tables; empty when left out.
    pub(super) fn tables<'t, 'i>(&mut self, table: &Table<'t, 'i>, name: &str, example: &str) -> Option<Vec<(&'t DeTable<'i>, At)>> {
        let Some(value) = table.members.get(name) else { return Some(Vec::new()) };
        let tables = match value.get_ref() {
            DeValue::Array(items) => items
                .iter()
                .map(|item| match item.get_ref() {
                    DeValue::Table(members) => Some((members, self.at(item.span().start))),
                    _ => None,
                })
                .collect(),
            _ => None,
        };
        if tables.is_none() {
            let at = self.at(value.span().start);
            self.findings.add(at, format!("{name} of {} is not a list of tables", table.name), format!("write {example}"));
        }
        tables
    }
}

/// A number as documents write it, so that it has one reading for everybody: `-?digits[.digits]`, and no minus before zero.
pub(super) fn plain<T: FromStr<Err = NumberError>>(text: &str) -> Result<T, NumberError> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let is_plain = digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let is_zero = digits.bytes().all(|byte| !(b'1'..=b'9').contains(&byte));
    if !is_plain || (text.len() > digits.len() && is_zero) {
        return Err(NumberError::Malformed { value: text.chars().take(80).collect() });
    }
    text.parse()
}

fn number_remedy(error: &NumberError, finer: &str) -> String {
    match error {
        NumberError::TooFine { .. } => finer.to_owned(),
        NumberError::TooLarge { .. } | NumberError::Overflow => "check the digits: the number is too large to be meant".to_owned(),
        NumberError::Malformed { .. } => "write a plain decimal number, without exponent or plus, for example \"1234.50\"".to_owned(),
    }
}

pub(super) fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) | DeValue::Float(_) => "a number without quotes",
        DeValue::Boolean(true) => "true",
        DeValue::Boolean(false) => "false",
        DeValue::Datetime(_) => "a date-time without quotes",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
