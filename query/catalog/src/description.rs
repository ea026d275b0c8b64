//! What a read model says of itself: name, owner, columns and who may see its rows.
//! It does not know how the rows are read.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use crate::error::CatalogError;
use crate::model::Scope;

/// `schema.table`, lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ModelName {
    schema: String,
    table: String,
}

impl ModelName {
    /// Parses `schema.table`, each part 1 to 63 characters of `a-z 0-9 _` that begin with a letter.
    pub fn parse(text: &str) -> Result<Self, CatalogError> {
        let part = |part: &str| {
            part.len() <= 63
                && part.starts_with(|c: char| c.is_ascii_lowercase())
                && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
        };
        match text.split_once('.') {
            Some((schema, table)) if part(schema) && part(table) => Ok(Self { schema: schema.to_owned(), table: table.to_owned() }),
            _ => Err(CatalogError::Name { name: text.to_owned() }),
        }
    }

    /// The part before the dot, for example `usage`.
    pub fn schema(&self) -> &str {
        &self.schema
    }

    /// The part after the dot, for example `hours`.
    pub fn table(&self) -> &str {
        &self.table
    }
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.table)
    }
}

/// Who may see the rows of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// Only the operator: an organization is refused and is not told that the model exists.
    Operator,
    /// Each organization sees the rows whose column of this name (UTF-8, never null for it) is its id; the operator sees all.
    Organizations {
        /// The column.
        column: &'static str,
    },
}

/// What a read model says of itself. Every column has a sentence.
#[derive(Clone, Debug)]
pub struct Description {
    name: ModelName,
    owner: &'static str,
    text: &'static str,
    schema: SchemaRef,
    audience: Audience,
    columns: HashMap<&'static str, &'static str>,
    /// The schema without the columns that only the operator sees.
    shown: SchemaRef,
}

impl Description {
    /// Describes a model. `owner` is the crate, `columns` holds (name, sentence) of exactly the columns of the schema.
    /// Refused: an undescribed or unknown column, an organization column that is missing or not UTF-8.
    pub fn new(
        name: &str,
        owner: &'static str,
        text: &'static str,
        audience: Audience,
        schema: SchemaRef,
        columns: &[(&'static str, &'static str)],
    ) -> Result<Self, CatalogError> {
        let name = ModelName::parse(name)?;
        let defect = |defect: String| Err(CatalogError::Description { model: name.to_string(), defect });
        let columns: HashMap<_, _> = columns.iter().copied().collect();
        for field in schema.fields() {
            if !columns.contains_key(field.name().as_str()) {
                return defect(format!("column {} has no description", field.name()));
            }
        }
        for column in columns.keys() {
            if schema.index_of(column).is_err() {
                return defect(format!("there is no column {column} to describe"));
            }
        }
        if columns.len() != schema.fields().len() {
            return defect("two columns have one name".to_owned());
        }
        if let Audience::Organizations { column } = audience {
            match schema.field_with_name(column).map(arrow::datatypes::Field::data_type) {
                Ok(DataType::Utf8) => {}
                Ok(other) => return defect(format!("organization column {column} is {other}, not Utf8")),
                Err(_) => return defect(format!("organization column {column} is missing")),
            }
        }
        let shown = Arc::clone(&schema);
        Ok(Self { name, owner, text, schema, audience, columns, shown })
    }

    /// Keeps columns from organizations: what counts over several of them, such as a position in a shard, tells one how busy the others
    /// are. For an organization these columns do not exist. Refused: an unknown column, and the one that tells whose a row is.
    pub fn for_the_operator(self, columns: &[&str]) -> Result<Self, CatalogError> {
        let defect = |defect: String| CatalogError::Description { model: self.name.to_string(), defect };
        for column in columns {
            if self.schema.index_of(column).is_err() {
                return Err(defect(format!("there is no column {column} to keep from organizations")));
            }
            if matches!(self.audience, Audience::Organizations { column: owner } if owner == *column) {
                return Err(defect(format!("column {column} tells whose a row is and cannot be kept from organizations")));
            }
        }
        let kept = |field: &&Arc<Field>| !columns.contains(&field.name().as_str());
        let shown: Vec<Arc<Field>> = self.shown.fields().iter().filter(kept).cloned().collect();
        Ok(Self { shown: Arc::new(Schema::new(shown)), ..self })
    }

    /// The columns that exist for a scope, in the order of the schema.
    pub fn schema_for(&self, scope: &Scope) -> &SchemaRef {
        match scope {
            Scope::Operator => &self.schema,
            Scope::Organization(_) => &self.shown,
        }
    }

    /// The name.
    pub fn name(&self) -> &ModelName {
        &self.name
    }

    /// The crate that owns the rows.
    pub fn owner(&self) -> &'static str {
        self.owner
    }

    /// One sentence: what a row is.
    pub fn text(&self) -> &'static str {
        self.text
    }

    /// The columns.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Who may see the rows.
    pub fn audience(&self) -> Audience {
        self.audience
    }

    /// One sentence about a column; `None` when there is no such column.
    pub fn column(&self, name: &str) -> Option<&'static str> {
        self.columns.get(name).copied()
    }
}
