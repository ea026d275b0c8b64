//! The text of an API key: `tally_`, 60 characters of base 62, nothing else; so scanners of secrets find it and a mistyped one is refused
//! without a look-up. Stored is only a keyed hash. It knows no tables, no principals and no randomness of its own.

use std::fmt;

use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use shared_types::Digest;

/// What every key begins with. `\btally_[0-9A-Za-z]{60}\b` finds keys.
pub const PREFIX: &str = "tally_";

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// 64 bits in base 62.
const ID_CHARS: usize = 11;
/// 256 bits in base 62.
const SECRET_CHARS: usize = 43;
/// 32 bits in base 62.
const CHECK_CHARS: usize = 6;
const DOMAIN: &[u8] = b"tallystick/api-key/v1\0";

/// Why a text is no key. The text itself is never shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Not `tally_` and 60 letters and digits.
    #[error("it is not tally_ followed by 60 letters and digits")]
    Shape,
    /// The last six characters do not fit the others.
    #[error("its checksum does not fit: it is cut off or mistyped")]
    Checksum,
}

/// What a key is called where its secret must not be shown: its first 17 characters.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(String);

impl KeyId {
    /// `tally_` and 11 characters of base 62.
    pub fn parse(text: &str) -> Option<Self> {
        let id = text.strip_prefix(PREFIX)?;
        (id.len() == ID_CHARS && is_base62(id)).then(|| Self(text.to_owned()))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({})", self.0)
    }
}

/// A key as its holder has it. `Debug` shows its id only; [`KeyText::reveal`] is for the one time that it is shown.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyText(String);

impl KeyText {
    /// A new key from 40 random bytes.
    pub fn from_random(random: &[u8; 40]) -> Self {
        let (id, secret) = random.split_at(8);
        let mut text = PREFIX.to_owned();
        write_base62(id, ID_CHARS, &mut text);
        write_base62(secret, SECRET_CHARS, &mut text);
        let check = crc32fast::hash(text.as_bytes()).to_be_bytes();
        write_base62(&check, CHECK_CHARS, &mut text);
        Self(text)
    }

    /// A key as it was presented; no table is asked.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let body = text.strip_prefix(PREFIX).filter(|body| body.len() == ID_CHARS + SECRET_CHARS + CHECK_CHARS && is_base62(body));
        if body.is_none() {
            return Err(Malformed::Shape);
        }
        let (said, check) = text.split_at(text.len() - CHECK_CHARS);
        let mut expected = String::new();
        write_base62(&crc32fast::hash(said.as_bytes()).to_be_bytes(), CHECK_CHARS, &mut expected);
        if check == expected { Ok(Self(text.to_owned())) } else { Err(Malformed::Checksum) }
    }

    /// What it is called.
    pub fn id(&self) -> KeyId {
        KeyId(self.0.chars().take(PREFIX.len() + ID_CHARS).collect())
    }

    /// Its last four characters: enough for its holder to tell keys apart, useless to anyone else.
    pub fn last4(&self) -> &str {
        self.0.get(self.0.len().saturating_sub(4)..).unwrap_or_default()
    }

    /// The key itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for KeyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyText({}…)", self.id())
    }
}

/// The server's secret under which keys are hashed: who has the table and not this can test no guess.
#[derive(Clone)]
pub struct Pepper(Hmac<Sha256>);

impl Pepper {
    /// From the 32 bytes of the secret.
    pub fn from_bytes(secret: &[u8; 32]) -> Self {
        // The secret is padded to the block of SHA-256 as RFC 2104 says.
        let mut block = hmac::digest::Key::<Hmac<Sha256>>::default();
        for (to, from) in block.iter_mut().zip(secret) {
            *to = *from;
        }
        Self(<Hmac<Sha256> as hmac::digest::KeyInit>::new(&block))
    }

    /// What is stored of a key: HMAC-SHA256(pepper, `tallystick/api-key/v1` ‖ 00 ‖ key).
    pub fn hash(&self, key: &KeyText) -> Digest {
        Digest(self.mac(key).finalize().into_bytes().into())
    }

    /// Whether the stored hash is that of the key; the time it takes says nothing about the hash.
    pub fn fits(&self, key: &KeyText, stored: &Digest) -> bool {
        self.mac(key).verify_slice(&stored.0).is_ok()
    }

    fn mac(&self, key: &KeyText) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        mac.update(DOMAIN);
        mac.update(key.0.as_bytes());
        mac
    }
}

impl fmt::Debug for Pepper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pepper")
    }
}

fn is_base62(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// The bytes as a number, big end first, in exactly so many digits of base 62.
fn write_base62(bytes: &[u8], digits: usize, out: &mut String) {
    let mut number = bytes.to_vec();
    let mut reversed = Vec::with_capacity(digits);
    for _ in 0..digits {
        let mut rest = 0_u16;
        for byte in &mut number {
            let value = (rest << 8) | u16::from(*byte);
            *byte = u8::try_from(value / 62).unwrap_or(u8::MAX);
            rest = value % 62;
        }
        reversed.extend(ALPHABET.get(usize::from(rest)).map(|digit| char::from(*digit)));
    }
    out.extend(reversed.into_iter().rev());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_and_hash_of_a_key_are_frozen() {
        let mut random = [0; 40];
        for (at, byte) in random.iter_mut().enumerate() {
            *byte = u8::try_from(at * 6 + 5).unwrap();
        }
        let key = KeyText::from_random(&random);
        assert_eq!(key.reveal(), include_str!("key/frozen.txt").lines().next().unwrap());
        let hash = Pepper::from_bytes(&[7; 32]).hash(&key);
        assert_eq!(hash.to_string(), include_str!("key/frozen.txt").lines().nth(1).unwrap());
    }

    #[test]
    fn extremes_keep_their_length() {
        for byte in [0, 255] {
            let key = KeyText::from_random(&[byte; 40]);
            assert_eq!(key.reveal().len(), PREFIX.len() + 60);
            assert_eq!(KeyText::parse(key.reveal()), Ok(key));
        }
    }

    #[test]
    fn nothing_but_the_reveal_shows_the_secret() {
        let key = KeyText::from_random(&[9; 40]);
        let shown = format!("{key:?} {} {:?} {:?}", key.id(), key.id(), Pepper::from_bytes(&[7; 32]));
        let secret = &key.reveal()[PREFIX.len() + ID_CHARS..];
        assert!(!shown.contains(&secret[..8]), "{shown}");
        assert_eq!(KeyId::parse(key.id().as_str()), Some(key.id()));
        assert_eq!(KeyId::parse(key.reveal()), None);
    }

    proptest::proptest! {
        #[test]
        fn a_mistyped_key_is_refused_without_a_look_up(random: [u8; 32], id: [u8; 8], at in 0_usize..66, other in 0_usize..62) {
            let mut bytes = [0; 40];
            bytes[..8].copy_from_slice(&id);
            bytes[8..].copy_from_slice(&random);
            let key = KeyText::from_random(&bytes);
            proptest::prop_assert_eq!(KeyText::parse(key.reveal()), Ok(key.clone()));
            let mut typed = key.reveal().as_bytes().to_vec();
            let letter = ALPHABET[other];
            if typed[at] != letter {
                typed[at] = letter;
                proptest::prop_assert!(KeyText::parse(std::str::from_utf8(&typed).unwrap()).is_err());
            }
            proptest::prop_assert_eq!(KeyText::parse(&key.reveal()[..at]), Err(Malformed::Shape));
        }
    }
}
