//! The registry: units, meters, SKUs, price books, contracts and rounding as TOML documents, checked, addressed by content and published
//! by a control record. It knows no event, no charge and no ledger: whoever publishes says which keys were already rated.
//!
//! ```ignore
//! let version = Version::read(Path::new("registry"))?; // every problem with file, line and remedy
//! let reaches = reach_back(&active, &version);
//! refuse_reach_back(&reaches, &rated_keys)?;
//! let published = store::publish(&mut tx, &version, false, recorded_at).await?;
//! let Compiled { meters, plan, .. } = compile(&version)?;
//! ```

mod band;
mod check;
pub mod compile;
pub mod control;
pub mod document;
pub mod folder;
pub mod import;
mod matching;
pub mod plausibility;
pub mod problem;
pub mod reach;
mod read;
pub mod show;
pub mod shown;
pub mod stake;
pub mod store;
pub mod version;
mod view;

pub use compile::{CompileError, Compiled, compile};
pub use control::{Control, ControlBody, ControlError};
pub use document::{Document, DocumentError, Kind};
pub use folder::{SourceFile, read_folder};
pub use problem::{Problem, Problems};
pub use reach::{Conflict, RatedKey, Reach, ReachBack, Scope, reach_back, reached, refuse_reach_back, refuse_rerating};
pub use shown::NamesOthers;
pub use store::{Closed, Published, PublishedVersion, StoreError};
pub use version::{Entry, Version};
