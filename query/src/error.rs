//! Why a query has no answer, and how an engine's error becomes one of these.

use std::time::Duration;

use datafusion::arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use platform_catalog::CatalogError;

/// Why a query has no answer. Texts hold what the asker wrote and the names of what the asker may see.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// Not SQL.
    #[error("not understood: {detail}")]
    Syntax {
        /// What the parser says.
        detail: String,
    },
    /// Understood, but never answered: not read-only, or money could be wrong without a sign of it.
    #[error("{what} is refused: {why}")]
    Refused {
        /// The statement, function or expression.
        what: String,
        /// The reason and what to write instead.
        why: String,
    },
    /// No such table or column, or types that do not fit.
    #[error("{detail}")]
    Invalid {
        /// What does not fit.
        detail: String,
    },
    /// A result has more digits than its type holds. Nothing is answered.
    #[error("overflow: {what}")]
    Overflow {
        /// The column or expression.
        what: String,
    },
    /// A read model could not be read.
    #[error("{detail}")]
    Read {
        /// Which, and why as far as the asker may know.
        detail: String,
        /// The whole cause, for the operator's log.
        #[source]
        source: Box<DataFusionError>,
    },
    /// A read model yielded rows of another organization. Nothing is answered; the operator must look.
    #[error("read model {model} broke the isolation of organizations")]
    Isolation {
        /// The model.
        model: String,
    },
    /// The data does not allow the computation, for example a division by zero or a text that is no number.
    #[error("{detail}")]
    Data {
        /// What happened.
        detail: String,
    },
    /// More memory was needed than a query may have.
    #[error("the query needs more memory than the {bytes} bytes that a query may have")]
    Memory {
        /// What it may have.
        bytes: usize,
    },
    /// It took too long.
    #[error("the query took longer than {} ms", limit.as_millis())]
    Timeout {
        /// The limit.
        limit: Duration,
    },
    /// The text is too long.
    #[error("the query is {bytes} bytes long: at most {limit} are read")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// A fault of the engine.
    #[error("the query failed: {detail}")]
    Failed {
        /// What happened.
        detail: String,
        /// The whole cause, for the operator's log.
        #[source]
        source: Box<DataFusionError>,
    },
}

impl QueryError {
    /// The stable code of the error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Syntax { .. } => "QUERY-0001",
            Self::Refused { .. } => "QUERY-0002",
            Self::Invalid { .. } => "QUERY-0003",
            Self::Overflow { .. } => "QUERY-0004",
            Self::Read { .. } => "QUERY-0005",
            Self::Isolation { .. } => "QUERY-0006",
            Self::Data { .. } => "QUERY-0007",
            Self::Memory { .. } => "QUERY-0008",
            Self::Timeout { .. } => "QUERY-0009",
            Self::TooLong { .. } => "QUERY-0010",
            Self::Failed { .. } => "QUERY-0011",
        }
    }

    /// Refused, with the reason and what to write instead.
    pub(crate) fn refused(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Refused { what: what.into(), why: why.into() }
    }

    /// Finds our own error, or the kind, in what the engine says.
    pub(crate) fn of(error: DataFusionError, memory_bytes: usize) -> Self {
        let detail = |text: &str| text.lines().next().unwrap_or_default().to_owned();
        match error.find_root() {
            DataFusionError::External(inner) => {
                if let Some(raised) = inner.downcast_ref::<Raised>() {
                    return match raised.clone() {
                        Raised::Refused { what, why } => Self::Refused { what, why },
                        Raised::Overflow { what } => Self::Overflow { what },
                        Raised::Isolation { model } => Self::Isolation { model },
                        Raised::Data { detail } => Self::Data { detail },
                    };
                }
                match inner.downcast_ref::<CatalogError>() {
                    Some(refused @ CatalogError::Refused { .. }) => Self::Data { detail: refused.to_string() },
                    Some(read) => Self::Read { detail: read.to_string(), source: Box::new(error) },
                    None => Self::Failed { detail: detail(&inner.to_string()), source: Box::new(error) },
                }
            }
            DataFusionError::ResourcesExhausted(_) => Self::Memory { bytes: memory_bytes },
            DataFusionError::SQL(parser, _) => Self::Syntax { detail: parser.to_string() },
            DataFusionError::ArrowError(arrow, _) => match arrow.as_ref() {
                ArrowError::ArithmeticOverflow(text) => Self::Overflow { what: text.clone() },
                ArrowError::InvalidArgumentError(text) if text.contains("too large to store") => Self::Overflow { what: text.clone() },
                ArrowError::DivideByZero => Self::Data { detail: "division by zero".to_owned() },
                ArrowError::CastError(text) | ArrowError::ParseError(text) | ArrowError::InvalidArgumentError(text) => {
                    Self::Data { detail: text.clone() }
                }
                other => Self::Failed { detail: detail(&other.to_string()), source: Box::new(error) },
            },
            DataFusionError::Plan(text) | DataFusionError::NotImplemented(text) => Self::Invalid { detail: text.clone() },
            DataFusionError::SchemaError(schema, _) => Self::Invalid { detail: schema.to_string() },
            DataFusionError::Execution(text) => Self::Data { detail: detail(text) },
            DataFusionError::Diagnostic(_, inner) => Self::Invalid { detail: detail(&inner.strip_backtrace()) },
            other => Self::Failed { detail: detail(&other.strip_backtrace()), source: Box::new(error) },
        }
    }
}

/// What our own functions and rules raise inside the engine.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Raised {
    #[error("{what} is refused: {why}")]
    Refused { what: String, why: String },
    #[error("overflow: {what}")]
    Overflow { what: String },
    #[error("read model {model} broke the isolation of organizations")]
    Isolation { model: String },
    #[error("{detail}")]
    Data { detail: String },
}

impl Raised {
    pub(crate) fn refused(what: impl Into<String>, why: impl Into<String>) -> DataFusionError {
        Self::Refused { what: what.into(), why: why.into() }.into()
    }

    pub(crate) fn overflow(what: impl Into<String>) -> DataFusionError {
        Self::Overflow { what: what.into() }.into()
    }
}

impl From<Raised> for DataFusionError {
    fn from(raised: Raised) -> Self {
        Self::External(Box::new(raised))
    }
}
