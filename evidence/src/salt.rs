//! Salts and salted commitments: what evidence shows in place of the strings that a source supplied, and of an organization's id.
//! Salts are derived from one deployment secret, so they need no storage; whoever destroys an event's strings keeps its proofs.
//! It knows no events and no storage.

use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use shared_types::{Digest, IdentityHash, OrganizationId};

const READING: &[u8] = b"tallystick/reading-salt/v1\0";
const ORGANIZATION: &[u8] = b"tallystick/organization-salt/v1\0";

/// The deployment secret from which every salt is derived. It is not shown by `Debug`.
#[derive(Clone)]
pub struct SaltKey(Hmac<Sha256>);

/// 32 bytes that open one commitment. Handed to the organization in its bundles, to nobody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Salt(pub [u8; 32]);

impl SaltKey {
    /// From the 32 bytes of the secret.
    pub fn from_bytes(secret: &[u8; 32]) -> Self {
        // The secret is padded to the block of SHA-256 as RFC 2104 says.
        let mut block = hmac::digest::Key::<Hmac<Sha256>>::default();
        for (to, from) in block.iter_mut().zip(secret) {
            *to = *from;
        }
        Self(<Hmac<Sha256> as hmac::digest::KeyInit>::new(&block))
    }

    /// Salt of all readings of one event: HMAC-SHA256(secret, `tallystick/reading-salt/v1` ‖ 00 ‖ identity hash).
    pub fn reading_salt(&self, identity: &IdentityHash) -> Salt {
        self.salt(READING, &identity.0)
    }

    /// Commitment of an event's readings: SHA-256(reading salt ‖ canonical JSON of every string that the source supplied).
    pub fn commitment(&self, identity: &IdentityHash, source_supplied: &str) -> Digest {
        commitment(&self.reading_salt(identity), source_supplied)
    }

    /// Salt of an organization: HMAC-SHA256(secret, `tallystick/organization-salt/v1` ‖ 00 ‖ id).
    pub fn organization_salt(&self, organization: &OrganizationId) -> Salt {
        self.salt(ORGANIZATION, organization.as_str().as_bytes())
    }

    /// What checkpoints show in place of an organization's id: SHA-256(its salt ‖ id).
    pub fn salted_organization(&self, organization: &OrganizationId) -> Digest {
        commitment(&self.organization_salt(organization), organization.as_str())
    }

    fn salt(&self, domain: &[u8], subject: &[u8]) -> Salt {
        let mut mac = self.0.clone();
        mac.update(domain);
        mac.update(subject);
        Salt(mac.finalize().into_bytes().into())
    }
}

impl std::fmt::Debug for SaltKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SaltKey(..)")
    }
}

/// SHA-256(salt ‖ text). The salt has a fixed length, so nothing has to delimit the two.
pub fn commitment(salt: &Salt, text: &str) -> Digest {
    Digest::of_parts(&[&salt.0, text.as_bytes()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn salts_are_hmacs_of_the_secret() {
        // RFC 4231 has no case with a 32-byte key, so the oracle is HMAC written out by RFC 2104.
        let secret: [u8; 32] = std::array::from_fn(|at| u8::try_from(at).unwrap());
        let pad = |byte: u8| -> Vec<u8> { (0..64).map(|at| secret.get(at).copied().unwrap_or(0) ^ byte).collect() };
        let identity = IdentityHash([7; 16]);
        let inner = Digest::of_parts(&[&pad(0x36), READING, &identity.0]);
        let outer = Digest::of_parts(&[&pad(0x5c), &inner.0]);
        let key = SaltKey::from_bytes(&secret);
        assert_eq!(key.reading_salt(&identity).0, outer.0);
        assert_eq!(format!("{key:?}"), "SaltKey(..)");
    }

    #[test]
    fn an_organization_and_a_reading_never_share_a_salt() {
        let key = SaltKey::from_bytes(&[1; 32]);
        let organization = OrganizationId::parse("aaaaaaaaaaaaaaaa").unwrap();
        assert_ne!(key.organization_salt(&organization), key.reading_salt(&IdentityHash([b'a'; 16])));
    }
}
