//! The key that signs bundles: apart from the log's, so that who packs cannot sign checkpoints. It knows no file and no envelope.

use ed25519_dalek::{Signer as _, SigningKey};

use crate::checkpoint::{LogKey, SignerError};

/// First line of the note by which a log's key vouches for a bundle's key; no checkpoint begins so.
const VOUCHED: &str = "tallystick/bundle-key/v1";

/// Ed25519, named after the log's origin with `/bundle` behind. `Debug` shows no secret.
#[derive(Clone)]
pub struct BundleKey {
    secret: SigningKey,
    key: LogKey,
}

impl BundleKey {
    /// From the log's origin and 32 secret bytes.
    pub fn new(origin: &str, secret: &[u8; 32]) -> Result<Self, SignerError> {
        let secret = SigningKey::from_bytes(secret);
        let name = format!("{origin}/bundle");
        let key = LogKey::of(&name, &secret.verifying_key())?;
        Ok(Self { secret, key })
    }

    /// The public half.
    pub fn key(&self) -> &LogKey {
        &self.key
    }

    /// Ed25519 over the bytes; deterministic.
    pub fn sign(&self, bytes: &[u8]) -> [u8; 64] {
        self.secret.sign(bytes).to_bytes()
    }

    /// The text of the note by which the log's key vouches for this one.
    pub(super) fn vouched_text(&self) -> String {
        format!("{VOUCHED}\n{}\n", self.key)
    }
}

impl std::fmt::Debug for BundleKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BundleKey({})", self.key)
    }
}
