//! TOML becomes a map. Every refusal names the line, the field and what would mend it; a field that is not read is refused.

use shared_types::{Instant, ProjectId, SourceId};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::number::Decimal;
use super::{
    Column, Expression, Filter, Format, Identity, MapError, Moment, MomentKind, Name, OnBroken, Plan, Test, Text, moment, organization,
};

pub(super) fn parse(text: &str) -> Result<Plan, MapError> {
    let document = DeTable::parse(text).map_err(|error| MapError {
        line: line_of(text, error.span().map_or(0, |span| span.start)),
        field: "map".to_owned(),
        remedy: format!("this is no TOML: {}", error.message()),
    })?;
    let mut columns = Columns::default();
    let mut root = Section { text, path: String::new(), at: 0, table: document.get_ref(), taken: Vec::new() };

    let format = format(&mut root)?;
    let source = root.text("source")?.required()?;
    let source = source.parse(|text| SourceId::parse(text).map_err(|error| error.to_string()))?;
    let event_type = root.text("type")?.required()?.parse(plain_text)?;
    let on_broken = match root.text("on_broken")? {
        Field { value: None, .. } => OnBroken::Stop,
        field => field.required()?.one_of(&[("stop", OnBroken::Stop), ("quarantine", OnBroken::Quarantine)])?,
    };
    let row_bytes_max = match root.field("row_bytes_max") {
        Field { value: None, .. } => 1 << 20,
        field => usize::try_from(field.required()?.count()?).unwrap_or(usize::MAX),
    };
    let identity = root.section("identity", true)?.map(|section| identity(section, &mut columns)).transpose()?;
    let identity = identity.ok_or_else(|| root.error("identity", "is required"))?;
    let mut name = |root: &mut Section<'_>, field: &str, check: fn(&str) -> Result<String, String>| {
        root.section(field, false)?.map(|section| name(section, &mut columns, check)).transpose()
    };
    let organization = name(&mut root, "organization", |text| organization(text).map(|id| id.to_string()))?
        .ok_or_else(|| root.error("organization", "is required: who owes for these rows"))?;
    let project = name(&mut root, "project", |text| ProjectId::parse(text).map(|id| id.to_string()).map_err(|error| error.to_string()))?;
    let subject = name(&mut root, "subject", plain_text)?;
    let time = root.section("time", true)?.map(|section| moment(section, &mut columns, false)).transpose()?;
    let time = time.ok_or_else(|| root.error("time", "is required"))?;
    let end_time = root.section("end_time", false)?.map(|section| moment(section, &mut columns, true)).transpose()?;
    let (quantities, dimensions) = data(&mut root, &mut columns)?;
    let filters = filters(&mut root, &mut columns)?;
    root.finish()?;
    if let Format::Csv { header: Some(header), .. } = &format
        && let Some(column) = columns.0.iter().find(|column| !header.contains(column))
    {
        return Err(root.error("columns", &format!("the map reads column {column:?}, which is not among them")));
    }
    Ok(Plan {
        format,
        columns: columns.0,
        source,
        event_type,
        on_broken,
        row_bytes_max,
        identity,
        organization,
        project,
        subject,
        time,
        end_time,
        quantities,
        dimensions,
        filters,
    })
}

fn format(root: &mut Section<'_>) -> Result<Format, MapError> {
    #[derive(Clone, Copy)]
    enum Kind {
        Csv,
        Jsonl,
    }
    let kind = root.text("format")?.required()?.one_of(&[("csv", Kind::Csv), ("jsonl", Kind::Jsonl)])?;
    let (delimiter, header, columns) = (root.text("delimiter")?, root.field("header"), root.field("columns"));
    if let Kind::Jsonl = kind {
        let remedy = "belongs to csv only";
        return match (delimiter.given(), header.given(), columns.given()) {
            (false, false, false) => Ok(Format::Jsonl),
            (true, ..) => Err(delimiter.error(remedy)),
            (_, true, _) => Err(header.error(remedy)),
            _ => Err(columns.error(remedy)),
        };
    }
    let delimiter = match delimiter.value {
        None => b',',
        Some(_) => delimiter.required()?.parse(|text| match text.as_bytes() {
            [byte] if byte.is_ascii() && !b"\"\r\n".contains(byte) => Ok(*byte),
            _ => Err("must be one ASCII character, for example \";\" or \"\\t\"".to_owned()),
        })?,
    };
    let header = match header.value {
        None | Some(DeValue::Boolean(true)) => {
            if columns.value.is_some() {
                return Err(columns.error("belongs to header = false: else the file's first line names the columns"));
            }
            None
        }
        Some(DeValue::Boolean(false)) => {
            let names = columns.required()?.texts()?;
            if names.is_empty() || names.iter().enumerate().any(|(at, name)| names.iter().skip(at + 1).any(|other| other == name)) {
                return Err(columns.error("must name every column of the file, each once"));
            }
            Some(names)
        }
        Some(_) => return Err(header.error("must be true or false")),
    };
    Ok(Format::Csv { delimiter, header })
}

fn identity(mut section: Section<'_>, columns: &mut Columns) -> Result<Identity, MapError> {
    let (of, line, name) = (section.field("columns"), section.field("line_number"), section.text("name")?);
    let identity = match (of.value, line.value) {
        (Some(_), None) => {
            if name.value.is_some() {
                return Err(name.error("belongs to line_number = true"));
            }
            let names = of.texts()?;
            if names.is_empty() {
                return Err(of.error("must name the columns that together tell rows apart"));
            }
            Identity::Columns(names.iter().map(|name| columns.of(name)).collect())
        }
        (None, Some(DeValue::Boolean(true))) => Identity::LineNumber(match name.value {
            None => None,
            Some(_) => Some(name.required()?.parse(plain_text)?),
        }),
        _ => return Err(section.here("must say either columns = [\"…\"] or line_number = true")),
    };
    section.finish()?;
    Ok(identity)
}

fn name(mut section: Section<'_>, columns: &mut Columns, check: fn(&str) -> Result<String, String>) -> Result<Name, MapError> {
    let (column, constant) = (section.text("column")?, section.text("constant")?);
    let hash = section.section("hash", false)?;
    let name = match (column.given(), constant.given(), hash) {
        (true, false, None) => Name::Column(columns.of(&column.required()?.value)),
        (false, true, None) => Name::Constant(constant.required()?.parse(check)?),
        (false, false, Some(mut hash)) => {
            let names = hash.field("columns").required()?.texts()?;
            let buckets = hash.field("buckets").required()?.count()?;
            let prefix = hash.text("prefix")?.required()?.parse(check)?;
            if names.is_empty() {
                return Err(hash.here("columns must name at least one column"));
            }
            hash.finish()?;
            Name::Hash { columns: names.iter().map(|name| columns.of(name)).collect(), buckets, prefix }
        }
        _ => return Err(section.here("must say one of column, constant and hash")),
    };
    section.finish()?;
    Ok(name)
}

fn moment(mut section: Section<'_>, columns: &mut Columns, may_be_absent: bool) -> Result<Moment, MapError> {
    let column = columns.of(&section.text("column")?.required()?.value);
    let format = section.text("format")?.required()?;
    let (unit, base, zone) = (section.text("unit")?, section.text("base")?, section.text("zone")?);
    let truncate = match section.text("truncate")? {
        Field { value: None, .. } => false,
        field => field.required()?.one_of(&[("microsecond", true)])?,
    };
    let optional = match section.text("empty")? {
        Field { value: None, .. } => false,
        field if !may_be_absent => return Err(field.error("belongs to end_time: every event has a time")),
        field => field.required()?.one_of(&[("absent", true)])?,
    };
    let stray = |fields: [&Field<'_, String>; 2], remedy: &str| {
        fields.into_iter().find(|field| field.value.is_some()).map_or(Ok(()), |field| Err(field.error(remedy)))
    };
    let kind = match format.value.as_str() {
        "number" => {
            stray([&zone, &zone], "does not go with numbers: they count from a base in UTC")?;
            let nanos = [("s", 1_000_000_000), ("ms", 1_000_000), ("us", 1_000), ("ns", 1)];
            let unit_nanos = unit.required()?.one_of(&nanos)?;
            let base = match base.value {
                None => Instant::EPOCH,
                Some(_) => base.required()?.parse(|text| Instant::parse(text).map_err(|error| error.to_string()))?,
            };
            MomentKind::Number { unit_nanos, base }
        }
        "rfc3339" => {
            stray([&unit, &base], "belongs to format = \"number\"")?;
            stray([&zone, &zone], "does not go with rfc3339: the cells tell their offset")?;
            MomentKind::Rfc3339
        }
        _ => {
            stray([&unit, &base], "belongs to format = \"number\"")?;
            let parts = format.parse(|text| moment::pattern(text).map_err(|why| format!("{why}; or say \"rfc3339\" or \"number\"")))?;
            match (parts.contains(&moment::Part::Offset), zone.value.as_deref()) {
                (true, None) | (false, Some("UTC")) => {}
                (true, Some(_)) => return Err(zone.error("does not go with %z: the cells tell their offset")),
                (false, Some(_)) => return Err(zone.error("must be \"UTC\"; times of other zones need %z in their format")),
                (false, None) => return Err(section.here("say zone = \"UTC\" if the times are in UTC; else they need %z")),
            }
            MomentKind::Pattern(parts)
        }
    };
    section.finish()?;
    Ok(Moment { column, kind, truncate, optional })
}

type Data = (Vec<(String, Expression)>, Vec<(String, Text)>);

fn data(root: &mut Section<'_>, columns: &mut Columns) -> Result<Data, MapError> {
    let (mut quantities, mut dimensions) = (Vec::new(), Vec::new());
    if let Some(mut section) = root.section("quantities", false)? {
        for name in section.names() {
            let field = section.field(&name);
            quantities.push((name, expression(&field.required()?, columns)?));
        }
    }
    if let Some(mut section) = root.section("dimensions", false)? {
        for name in section.names() {
            if quantities.iter().any(|(other, _)| *other == name) {
                return Err(section.error(&name, "is a quantity already"));
            }
            let Some(mut dimension) = section.section(&name, false)? else { continue };
            let (column, constant) = (dimension.text("column")?, dimension.text("constant")?);
            let text = match (column.given(), constant.given()) {
                (true, false) => Text::Column(columns.of(&column.required()?.value)),
                (false, true) => Text::Constant(constant.required()?.value),
                _ => return Err(dimension.here("must say one of column and constant")),
            };
            dimension.finish()?;
            dimensions.push((name, text));
        }
    }
    if quantities.is_empty() && dimensions.is_empty() {
        return Err(root.error("quantities", "is required: what the rows count"));
    }
    // Members of `data` stand in order of name, whatever order the map has.
    quantities.sort_by(|(a, _), (b, _)| a.cmp(b));
    dimensions.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok((quantities, dimensions))
}

/// A column's name, or a table of one operation.
fn expression(field: &Found<'_, &DeValue<'_>>, columns: &mut Columns) -> Result<Expression, MapError> {
    let table = match field.value {
        DeValue::String(name) => return Ok(Expression::Column { column: columns.of(name), factor: None, empty: None }),
        DeValue::Table(table) => table,
        _ => return Err(field.error("must be a column's name or a table such as { column = \"…\" }")),
    };
    let mut section = Section { text: field.text, path: field.path.clone(), at: field.at, table, taken: Vec::new() };
    let number = |field: Field<'_, String>| match field.value {
        None => Ok(None),
        Some(_) => field.required()?.parse(Decimal::parse).map(Some),
    };
    let (factor, empty) = (section.text("factor")?, section.text("empty")?);
    let (column, constant) = (section.text("column")?, section.text("constant")?);
    let lists = [section.field("product"), section.field("sum"), section.field("difference")];
    if column.value.is_none()
        && let Some(stray) = [&factor, &empty].into_iter().find(|field| field.value.is_some())
    {
        return Err(stray.error("goes with column"));
    }
    let list = |field: &Field<'_, &DeValue<'_>>, columns: &mut Columns| match field.value {
        Some(DeValue::Array(items)) if items.len() >= 2 => items
            .iter()
            .map(|item| {
                let (text, at, path) = (field.text, item.span().start, field.path.clone());
                expression(&Found { text, path, at, value: item.get_ref() }, columns)
            })
            .collect(),
        _ => Err(field.error("must be a list of at least two column names or operations")),
    };
    let expression = match (column.given(), constant.given(), lists.each_ref().map(Field::given)) {
        (true, false, [false, false, false]) => {
            let column = columns.of(&column.required()?.value);
            Expression::Column { column, factor: number(factor)?, empty: number(empty)? }
        }
        (false, true, [false, false, false]) => Expression::Constant(constant.required()?.parse(Decimal::parse)?),
        (false, false, [true, false, false]) => Expression::Product(list(&lists[0], columns)?),
        (false, false, [false, true, false]) => Expression::Sum(list(&lists[1], columns)?),
        (false, false, [false, false, true]) => {
            let [minuend, subtrahend] = <[Expression; 2]>::try_from(list(&lists[2], columns)?)
                .map_err(|_| lists[2].error("must be a list of two: what is left of the first without the second"))?;
            Expression::Difference(Box::new(minuend), Box::new(subtrahend))
        }
        _ => return Err(section.here("must say one of column, constant, product, sum and difference")),
    };
    section.finish()?;
    Ok(expression)
}

fn filters(root: &mut Section<'_>, columns: &mut Columns) -> Result<Vec<Filter>, MapError> {
    let field = root.field("filter");
    let items = match field.value {
        None => return Ok(Vec::new()),
        Some(DeValue::Array(items)) => items,
        Some(_) => return Err(field.error("must be written as [[filter]]")),
    };
    let mut filters: Vec<Filter> = Vec::new();
    for item in items {
        let DeValue::Table(table) = item.get_ref() else { return Err(field.error("must be written as [[filter]]")) };
        let mut section = Section { text: field.text, path: field.path.clone(), at: item.span().start, table, taken: Vec::new() };
        let column = section.text("column")?.required()?.value;
        let is = section.text("is")?.required()?;
        let value = section.text("value")?;
        let test = match is.value.as_str() {
            "empty" | "not_empty" => {
                if value.value.is_some() {
                    return Err(value.error("goes with is = \"equals\" and \"not_equals\""));
                }
                if is.value == "empty" { Test::Empty } else { Test::NotEmpty }
            }
            "equals" => Test::Equals(value.required()?.value),
            "not_equals" => Test::NotEquals(value.required()?.value),
            _ => return Err(is.error("must be \"empty\", \"not_empty\", \"equals\" or \"not_equals\"")),
        };
        let rule = match section.text("rule")? {
            Field { value: None, .. } => match &test {
                Test::Empty | Test::NotEmpty => format!("{column} is {}", is.value),
                Test::Equals(value) | Test::NotEquals(value) => format!("{column} {} {value}", is.value),
            },
            field => field.required()?.parse(plain_text)?,
        };
        section.finish()?;
        filters.push(Filter { column: columns.of(&column), test, rule: rule.into() });
    }
    Ok(filters)
}

fn plain_text(text: &str) -> Result<String, String> {
    if (1..=128).contains(&text.len()) && !text.chars().any(char::is_control) {
        Ok(text.to_owned())
    } else {
        Err("must be 1 to 128 bytes without control characters".to_owned())
    }
}

/// Columns named so far; each gets the next index.
#[derive(Default)]
struct Columns(Vec<String>);

impl Columns {
    fn of(&mut self, name: &str) -> Column {
        match self.0.iter().position(|column| column == name) {
            Some(at) => at,
            None => {
                self.0.push(name.to_owned());
                self.0.len() - 1
            }
        }
    }
}

fn line_of(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
}

/// A table of the map, and which of its fields were read.
struct Section<'t> {
    text: &'t str,
    path: String,
    at: usize,
    table: &'t DeTable<'t>,
    taken: Vec<String>,
}

/// A field that may be there.
struct Field<'t, V> {
    text: &'t str,
    path: String,
    at: usize,
    value: Option<V>,
}

/// A field that is there.
struct Found<'t, V> {
    text: &'t str,
    path: String,
    at: usize,
    value: V,
}

impl<'t> Section<'t> {
    fn path(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// Reads a field; once read, it is known.
    fn field(&mut self, name: &str) -> Field<'t, &'t DeValue<'t>> {
        self.taken.push(name.to_owned());
        let found: Option<&'t Spanned<DeValue<'t>>> =
            self.table.iter().find(|(key, _)| key.get_ref().as_ref() == name).map(|(_, value)| value);
        Field {
            text: self.text,
            path: self.path(name),
            at: found.map_or(self.at, |value| value.span().start),
            value: found.map(Spanned::get_ref),
        }
    }

    fn text(&mut self, name: &str) -> Result<Field<'t, String>, MapError> {
        let field = self.field(name);
        let value = match field.value {
            None => None,
            Some(DeValue::String(text)) => Some(text.to_string()),
            Some(_) => return Err(field.error("must be text in quotes")),
        };
        Ok(Field { text: field.text, path: field.path, at: field.at, value })
    }

    fn section(&mut self, name: &str, required: bool) -> Result<Option<Section<'t>>, MapError> {
        let field = self.field(name);
        match field.value {
            None if required => Err(field.error("is required")),
            None => Ok(None),
            Some(DeValue::Table(table)) => Ok(Some(Section { text: self.text, path: field.path, at: field.at, table, taken: Vec::new() })),
            Some(_) => Err(field.error("must be a table")),
        }
    }

    fn names(&self) -> Vec<String> {
        self.table.keys().map(|key| key.get_ref().to_string()).collect()
    }

    fn here(&self, remedy: &str) -> MapError {
        MapError { line: line_of(self.text, self.at), field: self.path.clone(), remedy: remedy.to_owned() }
    }

    fn error(&self, name: &str, remedy: &str) -> MapError {
        let at = self.table.iter().find(|(key, _)| key.get_ref().as_ref() == name).map_or(self.at, |(key, _)| key.span().start);
        MapError { line: line_of(self.text, at), field: self.path(name), remedy: remedy.to_owned() }
    }

    fn finish(&self) -> Result<(), MapError> {
        match self.names().into_iter().find(|name| !self.taken.contains(name)) {
            None => Ok(()),
            Some(stray) => {
                let known = self.taken.join(", ");
                Err(self.error(&stray, &format!("is not read here; known are {known}")))
            }
        }
    }
}

impl<'t, V> Field<'t, V> {
    fn given(&self) -> bool {
        self.value.is_some()
    }

    fn error(&self, remedy: &str) -> MapError {
        MapError { line: line_of(self.text, self.at), field: self.path.clone(), remedy: remedy.to_owned() }
    }
}

impl<'t, V: Clone> Field<'t, V> {
    fn required(&self) -> Result<Found<'t, V>, MapError> {
        let value = self.value.clone().ok_or_else(|| self.error("is required"))?;
        Ok(Found { text: self.text, path: self.path.clone(), at: self.at, value })
    }
}

impl<V> Found<'_, V> {
    fn error(&self, remedy: &str) -> MapError {
        MapError { line: line_of(self.text, self.at), field: self.path.clone(), remedy: remedy.to_owned() }
    }
}

impl Found<'_, String> {
    fn parse<T>(&self, read: impl FnOnce(&str) -> Result<T, String>) -> Result<T, MapError> {
        read(&self.value).map_err(|why| self.error(&why))
    }

    fn one_of<T: Copy>(&self, known: &[(&str, T)]) -> Result<T, MapError> {
        known.iter().find(|(name, _)| *name == self.value).map(|(_, value)| *value).ok_or_else(|| {
            let names: Vec<String> = known.iter().map(|(name, _)| format!("{name:?}")).collect();
            self.error(&format!("must be {}", names.join(" or ")))
        })
    }
}

impl Found<'_, &DeValue<'_>> {
    /// A whole number of 1 or more.
    fn count(&self) -> Result<u64, MapError> {
        let number = match self.value {
            DeValue::Integer(number) => u64::from_str_radix(number.as_str(), number.radix()).ok(),
            _ => None,
        };
        number.filter(|number| *number > 0).ok_or_else(|| self.error("must be a whole number of 1 or more"))
    }

    fn texts(&self) -> Result<Vec<String>, MapError> {
        texts(self.value).ok_or_else(|| self.error("must be a list of texts in quotes"))
    }
}

impl Field<'_, &DeValue<'_>> {
    fn texts(&self) -> Result<Vec<String>, MapError> {
        self.required()?.texts()
    }
}

fn texts(value: &DeValue<'_>) -> Option<Vec<String>> {
    let DeValue::Array(items) = value else { return None };
    items.iter().map(|item| item.get_ref().as_str().map(ToOwned::to_owned)).collect()
}
