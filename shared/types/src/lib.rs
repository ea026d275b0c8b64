//! The words every crate shares: ids, exact numbers, instants, stream positions, digests, canonical JSON.
//! It knows no business rule, no registry, no storage and no clock.

pub mod canonical;
pub mod digest;
pub mod id;
pub mod number;
pub mod position;
pub mod time;

pub use canonical::{CanonicalError, canonical_json, plain_decimal, write_canonical_string};
pub use digest::{Digest, IdentityHash};
pub use id::{AssetId, ContractId, IdError, MeterId, OrganizationId, PriceId, ProjectId, SkuId, SourceId, UnitId};
pub use number::{Amount, NumberError, Price, Quantity, Sum};
pub use position::{BatchNo, ControlNo, Incarnation, Position, SHARDS, Sequence, ShardId, WriterEpoch};
pub use time::{Instant, Month, TimeError};
