//! A bug planted on purpose: answering before syncing. Only with the feature `plant`, only when TALLY_PLANT asks for it.

use std::time::{Duration, Instant};

/// Which bug is planted.
#[derive(Debug)]
pub enum Plant {
    /// None.
    Nothing,
    /// The writer answers before it syncs, and syncs at most once a second.
    AcknowledgeBeforeSync {
        /// When it last synced.
        synced_at: Instant,
    },
}

impl Plant {
    /// What the environment asks for: `TALLY_PLANT=acknowledge-before-sync`.
    pub fn from_environment() -> Self {
        if std::env::var("TALLY_PLANT").is_ok_and(|plant| plant == "acknowledge-before-sync") {
            Self::acknowledge_before_sync()
        } else {
            Self::Nothing
        }
    }

    /// The bug, from now on.
    pub fn acknowledge_before_sync() -> Self {
        tracing::error!("planted bug: the stream answers before it syncs");
        Self::AcknowledgeBeforeSync { synced_at: Instant::now() }
    }

    /// Whether this write is synced.
    pub fn must_sync(&mut self) -> bool {
        match self {
            Self::Nothing => true,
            Self::AcknowledgeBeforeSync { synced_at } if synced_at.elapsed() < Duration::from_secs(1) => false,
            Self::AcknowledgeBeforeSync { synced_at } => {
                *synced_at = Instant::now();
                true
            }
        }
    }
}
