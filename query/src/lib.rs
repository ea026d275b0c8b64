//! SQL over the read models: one read-only statement, for one scope, with money that is never wrong in silence.
//! It knows read models only through `platform-catalog`; it knows no table, file, database or wire protocol.
//!
//! ```ignore
//! let engine = QueryEngine::new(catalog, QueryOptions::default())?;
//! let result = engine.query("SELECT sum(amount) FROM usage.hours", &Scope::Operator, AsOf::default(), Limits::default()).await?;
//! let body = platform_query::render(&result, Format::Json)?;
//! ```
//!
//! Money is decimal. Literals are exact; `+ - *` and `sum` answer exactly or raise an error; `min`, `max`, `count` are as usual. Whatever
//! could lose digits without saying so (`avg`, `/`, `round`, casts that narrow, floats, windows over money …) is refused by name with the
//! function to use instead: `round_half_even(x, digits)`, `divide_half_even(x, y, digits)`, `abs(x)`.

mod bounded;
mod checked;
mod decimal;
mod engine;
mod error;
mod functions;
mod information;
mod money;
mod render;
mod session;
mod statement;
mod sum;
mod table;
mod workers;

pub use engine::{Limits, QueryEngine, QueryOptions, QueryResult};
pub use error::QueryError;
pub use render::{Format, Rendered, render, render_within};
