//! Signed notes and verifier keys (c2sp.org/signed-note), Ed25519, and the checkpoint in a note (c2sp.org/tlog-checkpoint).

use anyhow::{Context as _, bail, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ed25519_dalek::{Signature, VerifyingKey};

use crate::tree::{Hash, sha256};

/// A verifier key: name, id, Ed25519.
#[derive(Clone, Debug)]
pub struct Key {
    /// As written.
    pub text: String,
    /// Whose.
    pub name: String,
    /// The first four bytes of SHA-256(name ‖ LF ‖ 01 ‖ key).
    pub id: [u8; 4],
    public: VerifyingKey,
}

impl Key {
    /// From `name+id+base64(01 ‖ key)`.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(id), Some(encoded)) = (parts.next(), parts.next(), parts.next()) else {
            bail!("{text:?} is no verifier key: name+id+key is wanted");
        };
        let bytes = BASE64_STANDARD.decode(encoded).with_context(|| format!("the key of {text:?} is no base64"))?;
        let Some((1, public)) = bytes.split_first().map(|(kind, rest)| (*kind, rest)) else { bail!("{text:?} is no Ed25519 key") };
        let public: [u8; 32] = public.try_into().with_context(|| format!("{text:?} does not hold 32 bytes"))?;
        let hash = sha256(&[name.as_bytes(), b"\n", &bytes]);
        let found: [u8; 4] = std::array::from_fn(|at| hash.get(at).copied().unwrap_or(0));
        ensure!(hex::encode(found) == id, "{text:?} has id {}, its key has {}", id, hex::encode(found));
        let public = VerifyingKey::from_bytes(&public).with_context(|| format!("{text:?} is no point of the curve"))?;
        Ok(Self { text: text.to_owned(), name: name.to_owned(), id: found, public })
    }

    /// Whether a signature over bytes is this key's.
    pub fn signed(&self, bytes: &[u8], signature: &[u8]) -> bool {
        Signature::from_slice(signature).is_ok_and(|signature| self.public.verify_strict(bytes, &signature).is_ok())
    }

    /// SubjectPublicKeyInfo in PEM.
    pub fn pem(&self) -> String {
        let info = [&hex_prefix()[..], self.public.as_bytes()].concat();
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", BASE64_STANDARD.encode(info))
    }

    /// The text of a note that this key has signed; an error says why there is none.
    pub fn open<'a>(&self, note: &'a str) -> anyhow::Result<&'a str> {
        let (text, signatures) = note.rsplit_once("\n\n").context("it is no signed note: an empty line is missing")?;
        let text = note.get(..=text.len()).unwrap_or_default();
        for line in signatures.lines() {
            let Some((name, encoded)) = line.strip_prefix("— ").and_then(|rest| rest.split_once(' ')) else {
                bail!("the signature line {line:?} is malformed");
            };
            let bytes = BASE64_STANDARD.decode(encoded).context("a signature is no base64")?;
            let Some((id, signature)) = bytes.split_first_chunk::<4>() else { bail!("a signature is too short") };
            if name == self.name && *id == self.id {
                ensure!(self.signed(text.as_bytes(), signature), "the signature by {} does not hold", self.name);
                return Ok(text);
            }
        }
        bail!("it is not signed by {}", self.text)
    }
}

fn hex_prefix() -> [u8; 12] {
    [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00]
}

/// Head of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Which log.
    pub origin: String,
    /// Entries.
    pub size: u64,
    /// Root.
    pub root: Hash,
}

impl Head {
    /// From the text of a checkpoint.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let lines: Vec<&str> = text.lines().collect();
        let [origin, size, root] = lines[..] else { bail!("a checkpoint has three lines, this text has {}", lines.len()) };
        let bytes = BASE64_STANDARD.decode(root).context("the root is no base64")?;
        let root = bytes.try_into().ok().context("the root has not 32 bytes")?;
        let number: u64 = size.parse().with_context(|| format!("the size {size:?} is no number"))?;
        ensure!(number.to_string() == size, "the size {size:?} is not in plain digits");
        Ok(Self { origin: origin.to_owned(), size: number, root })
    }
}
