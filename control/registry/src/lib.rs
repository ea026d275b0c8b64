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
pub mod carried;
mod check;
pub mod compile;
pub mod control;
pub mod diff;
pub mod document;
pub mod drafts;
pub mod folder;
pub mod import;
pub mod levels;
mod matching;
pub mod plausibility;
mod price_at;
pub mod problem;
pub mod reach;
mod read;
pub mod recurring;
pub mod schema;
pub mod show;
pub mod shown;
pub mod stake;
pub mod store;
pub mod terms;
pub mod version;
mod view;

pub use compile::{CompileError, Compiled, compile};
pub use control::{Control, ControlBody, ControlError};
pub use diff::{Change, Difference, diff};
pub use document::{Document, DocumentError, Kind};
pub use drafts::{Draft, DraftError, DraftNo, Review, Verdict};
pub use folder::{SourceFile, read_folder};
pub use price_at::{NoPrice, Priced, StatedPrice, Under, price_at};
pub use problem::{Problem, Problems};
pub use reach::{Conflict, RatedKey, Reach, ReachBack, Scope, reach_back, reached, refuse_reach_back, refuse_rerating};
pub use recurring::{Fee, Schedule, Tick};
pub use shown::NamesOthers;
pub use store::{Closed, Published, PublishedVersion, StoreError};
pub use terms::{TermSchedule, Termed, TermsChanged};
pub use version::{Entry, Version};
