//! Why a read model could not be described, registered or read.

use arrow::error::ArrowError;

/// The cause handed in by the owner of a read model.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why a read model could not be described, registered or read. The texts name models and columns, never rows.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// Not `schema.table` in lower case.
    #[error("{name:?} is not the name of a read model: two parts of a-z 0-9 _ with a dot between")]
    Name {
        /// The refused name.
        name: String,
    },
    /// A description contradicts its schema.
    #[error("read model {model}: {defect}")]
    Description {
        /// The model.
        model: String,
        /// What is wrong.
        defect: String,
    },
    /// Two models of one name.
    #[error("read model {model} is registered twice")]
    Duplicate {
        /// The model.
        model: String,
    },
    /// An organization asked for what only the operator may see.
    #[error("read model {model} is for the operator only")]
    OperatorOnly {
        /// The model.
        model: String,
    },
    /// The model keeps no history.
    #[error("read model {model} cannot be read as of an earlier batch")]
    NoHistory {
        /// The model.
        model: String,
    },
    /// A column number or name that the model does not have.
    #[error("read model {model} has no column {column}")]
    Column {
        /// The model.
        model: String,
        /// The number or name.
        column: String,
    },
    /// A filter that cannot be compared with its column.
    #[error("column {column} of type {column_type} cannot be compared exactly with {value}")]
    Filter {
        /// The column.
        column: String,
        /// Its Arrow type.
        column_type: String,
        /// The value.
        value: String,
    },
    /// What the owner's reader yielded is not what it declared.
    #[error("read model {model} yielded rows that do not fit its schema: {defect}")]
    Shape {
        /// The model.
        model: String,
        /// What differs.
        defect: String,
    },
    /// The rows that are asked for are not made; the asker may know why.
    #[error("read model {model}: {why}")]
    Refused {
        /// The model.
        model: String,
        /// The reason and what to ask instead.
        why: String,
    },
    /// The owner's reader failed.
    #[error("could not read {model}")]
    Read {
        /// The model.
        model: String,
        /// The owner's error.
        #[source]
        source: Cause,
    },
    /// An Arrow kernel failed.
    #[error("could not filter the rows of a read model")]
    Arrow(#[from] ArrowError),
}

impl CatalogError {
    /// Wraps an owner's error.
    pub fn read(model: &str, source: impl Into<Cause>) -> Self {
        Self::Read { model: model.to_owned(), source: source.into() }
    }
}
