//! Names of models inside identifiers. Letters, digits and `. _ : / -` stand for themselves; every other byte of the name's UTF-8, and `@`
//! itself, is written as `@` and two capital hexadecimal digits. So each name has one spelling, and each spelling one name.

use std::fmt::Write as _;

/// The name as a part of an identifier.
pub fn encode(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        if plain(byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(out, "@{byte:02X}");
        }
    }
    out
}

/// The name that a part of an identifier spells; none where [`encode`] would spell it otherwise.
pub fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('@') {
        bytes.extend_from_slice(before.as_bytes());
        bytes.push(u8::from_str_radix(after.get(..2)?, 16).ok()?);
        rest = after.get(2..)?;
    }
    bytes.extend_from_slice(rest.as_bytes());
    let name = String::from_utf8(bytes).ok()?;
    (encode(&name) == text).then_some(name)
}

fn plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"._:/-".contains(&byte)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_spelt_in_one_way() {
        for (name, text) in [
            ("azure_ai/gpt-5.5", "azure_ai/gpt-5.5"),
            ("amazon.titan-embed-text-v2:0", "amazon.titan-embed-text-v2:0"),
            ("vertex_ai/claude@20250929", "vertex_ai/claude@4020250929"),
            ("a*b c", "a@2Ab@20c"),
            ("modèle", "mod@C3@A8le"),
        ] {
            assert_eq!(encode(name), text);
            assert_eq!(decode(text).as_deref(), Some(name));
        }
        for text in ["a@2ab", "a@41", "a@4", "a@", "a@FF", "a*b"] {
            assert_eq!(decode(text), None, "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]
        #[test]
        fn any_name_comes_back(name in "\\PC{0,40}", text in "[a@0-9A-F]{0,12}") {
            let spelt = encode(&name);
            prop_assert!(spelt.bytes().all(|byte| plain(byte) || byte == b'@'));
            prop_assert_eq!(decode(&spelt), Some(name));
            if let Some(name) = decode(&text) {
                prop_assert_eq!(encode(&name), text);
            }
        }
    }
}
