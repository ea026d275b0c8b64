//! The registry versions that shards, charges and totals name, compiled once each. It rates nothing and publishes nothing.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::Context as _;
use platform_ingest::batch::{ControlEffect, Rules};
use platform_rating::Plan;
use platform_registry::{Compiled, Control, Version};
use platform_usage::{EventLimits, IdentityKey, MeterSet};
use shared_db::Database;
use shared_types::{Digest, IdentityHash};

use crate::home::Secrets;

/// The compiled registry versions that shards and totals may name, and what batches are built with.
pub struct Registries {
    books: Database,
    compiled: parking_lot::RwLock<HashMap<Digest, Arc<Snapshot>>>,
    identity_key: IdentityKey,
    salt: platform_evidence::SaltKey,
    limits: EventLimits,
}

/// One compiled registry version.
pub struct Snapshot {
    /// Its meters.
    pub meters: Arc<MeterSet>,
    /// Its prices.
    pub plan: Plan,
    /// Its documents.
    pub version: Version,
}

impl Registries {
    /// For a home's books and secrets.
    pub fn new(books: Database, secrets: &Secrets) -> Self {
        Self {
            books,
            compiled: parking_lot::RwLock::default(),
            identity_key: IdentityKey::new(&secrets.identity),
            salt: platform_evidence::SaltKey::from_bytes(&secrets.salt),
            limits: EventLimits::default(),
        }
    }

    /// A published version, compiled once.
    pub async fn snapshot(&self, address: Digest) -> anyhow::Result<Arc<Snapshot>> {
        if let Some(found) = self.compiled.read().get(&address) {
            return Ok(Arc::clone(found));
        }
        let mut tx = self.books.read().await?;
        let version = platform_registry::store::version(&mut tx, address)
            .await?
            .with_context(|| format!("registry version {address} is not in the books"))?;
        let Compiled { meters, plan, .. } =
            platform_registry::compile(&version).with_context(|| format!("could not compile registry version {address}"))?;
        let snapshot = Arc::new(Snapshot { meters: Arc::new(MeterSet::new(meters)?), plan, version });
        self.compiled.write().insert(address, Arc::clone(&snapshot));
        Ok(snapshot)
    }

    /// A version that was compiled before.
    pub fn compiled(&self, address: &Digest) -> Option<Arc<Snapshot>> {
        self.compiled.read().get(address).cloned()
    }
}

impl Rules for Registries {
    fn control(&self, payload: &[u8]) -> Result<ControlEffect, String> {
        let control = Control::parse(payload).map_err(|error| error.to_string())?;
        Ok(ControlEffect {
            control_no: control.control_no,
            registry_version: control.registry_version(),
            closes: control.closes(),
            rerates: control.rerates(),
            kind: control.kind_code().to_owned(),
        })
    }

    fn meters(&self, version: &Digest) -> Option<Arc<MeterSet>> {
        self.compiled(version).map(|snapshot| Arc::clone(&snapshot.meters))
    }

    fn commitment(&self, identity: &IdentityHash, strings: &str) -> Digest {
        platform_evidence::commitment(&self.salt.reading_salt(identity), strings)
    }

    fn identity_key(&self) -> &IdentityKey {
        &self.identity_key
    }

    fn event_limits(&self) -> &EventLimits {
        &self.limits
    }
}
