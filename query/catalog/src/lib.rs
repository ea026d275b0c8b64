//! Read models: what domains let queries see. A read model speaks Arrow only and every read of it names a scope.
//! It knows no file format and no query engine; what a row means is its owner's business. Its own table is the usage fold's hours.

mod description;
mod error;
mod filter;
pub mod hours;
mod model;
mod models;
mod store;

pub use description::{Audience, Description, ModelName};
pub use error::CatalogError;
pub use filter::{Comparison, Filter, FilterValue, keep};
pub use model::{AsOf, BatchStream, Catalog, ReadModel, Scope, Support};
pub use models::{FileReading, FilesModel, Request, RowsModel, collect};
