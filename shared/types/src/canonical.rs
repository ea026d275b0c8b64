//! Canonical JSON: RFC 8785 key order and escapes, every number replaced by its exact plain decimal text.
//! Numbers become *strings*, so no engine that reads them needs floats.

use serde_json::Value;

/// Why a document has no canonical form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CanonicalError {
    /// A number with an exponent or length that no quantity could have.
    #[error("number {value:?} has more than 100 digits")]
    Number {
        /// The refused text, cut to 80 characters.
        value: String,
    },
}

/// The canonical text of a JSON value.
///
/// - Objects: keys sorted by UTF-16 code units, as RFC 8785 says. Arrays keep their order.
/// - Numbers: quoted plain decimals without leading or trailing zeros (`1.50`, `15e-1` and `"1.5"` read alike).
/// - Errors: a number of more than 100 digits once written out.
pub fn canonical_json(value: &Value) -> Result<String, CanonicalError> {
    let mut out = String::with_capacity(256);
    write(value, &mut out)?;
    Ok(out)
}

fn write(value: &Value, out: &mut String) -> Result<(), CanonicalError> {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Number(number) => {
            let text = number.to_string();
            let plain = plain_decimal(&text).ok_or_else(|| CanonicalError::Number { value: text.chars().take(80).collect() })?;
            write_canonical_string(&plain, out);
        }
        Value::String(text) => write_canonical_string(text, out),
        Value::Array(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                write(item, out)?;
            }
            out.push(']');
        }
        Value::Object(members) => {
            let mut sorted: Vec<(&String, &Value)> = members.iter().collect();
            sorted.sort_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
            out.push('{');
            for (at, (key, item)) in sorted.into_iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                write_canonical_string(key, out);
                out.push(':');
                write(item, out)?;
            }
            out.push('}');
        }
    }
    Ok(())
}

/// Appends a string in canonical form, quotes included.
/// RFC 8785 §3.2.2.2: two-character escapes where they exist, `\u00xx` for other controls, everything else as it is.
pub fn write_canonical_string(text: &str, out: &mut String) {
    out.push('"');
    if text.bytes().all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\') {
        out.push_str(text);
        out.push('"');
        return;
    }
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\u{c}' => out.push_str("\\f"),
            '\r' => out.push_str("\\r"),
            c if c < ' ' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
}

/// A JSON number written out without exponent, sign of zero, leading or trailing zeros; `None` beyond 100 digits or when it is no number.
pub fn plain_decimal(text: &str) -> Option<String> {
    let (sign, unsigned) = match text.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i64>().ok()?),
        None => (unsigned, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.is_empty() || !whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let digits: String = [whole, fraction].concat();
    let significant = digits.trim_start_matches('0');
    if significant.is_empty() {
        return Some("0".to_owned());
    }
    // value = digits × 10^power
    let power = exponent.checked_sub(i64::try_from(fraction.len()).ok()?)?;
    let trimmed = significant.trim_end_matches('0');
    let power = power.checked_add(i64::try_from(significant.len() - trimmed.len()).ok()?)?;
    let length = i64::try_from(trimmed.len()).ok()?;
    if power.unsigned_abs() > 100 || length > 100 || length + power > 100 {
        return None;
    }
    let point = length + power;
    Some(if power >= 0 {
        format!("{sign}{trimmed}{}", "0".repeat(usize::try_from(power).ok()?))
    } else if point > 0 {
        let (whole, fraction) = trimmed.split_at(usize::try_from(point).ok()?);
        format!("{sign}{whole}.{fraction}")
    } else {
        format!("{sign}0.{}{trimmed}", "0".repeat(usize::try_from(-point).ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, canonical: &str) {
        let value: Value = serde_json::from_str(text).unwrap();
        assert_eq!(canonical_json(&value).as_deref(), Ok(canonical));
    }

    #[test]
    fn keys_are_sorted_and_numbers_are_exact_text() {
        check(r#"{"b":1.50,"a":[15e-1,-0.0,1e3,0.1000]}"#, r#"{"a":["1.5","0","1000","0.1"],"b":"1.5"}"#);
        check(r#"{"€":"\u000f\n/","\r":null,"1":true}"#, "{\"\\r\":null,\"1\":true,\"€\":\"\\u000f\\n/\"}");
        check("123456789012345678901234567890.000000001", "\"123456789012345678901234567890.000000001\"");
    }

    #[test]
    fn absurd_numbers_have_no_canonical_form() {
        let value: Value = serde_json::from_str("1e999").unwrap();
        assert!(canonical_json(&value).is_err());
    }

    #[test]
    fn key_order_is_by_utf16_code_units() {
        check("{\"\u{fb33}\":1,\"\u{1f600}\":2}", "{\"\u{1f600}\":\"2\",\"\u{fb33}\":\"1\"}");
    }
}
