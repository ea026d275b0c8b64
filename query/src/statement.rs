//! What may be asked: one SELECT, VALUES or WITH, or EXPLAIN of one, SHOW TABLES, DESCRIBE. Judged on the syntax tree, before planning,
//! by a list of what is allowed. Numbers with exponents become plain digits here, so that no literal is ever a float.

use std::collections::HashMap;
use std::ops::ControlFlow;

use datafusion::error::DataFusionError;
use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::ast::{
    Expr, Ident, ObjectName, ObjectNamePart, Query, Select, SetExpr, Statement as SqlStatement, TableFactor, Value, ValueWithSpan,
    VisitMut, VisitorMut,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;

use crate::decimal::without_exponent;
use crate::error::QueryError;
use crate::functions::{is_listed, missing};

/// Longest text that is read.
const TEXT_BYTES_MAX: usize = 32 * 1024;
/// Deepest nesting of parentheses and subqueries.
const DEPTH_MAX: usize = 50;
/// Deepest nesting of operators: a chain of n operators nests n deep.
const OPERATORS_MAX: usize = 250;
/// Most tables and most SELECTs that a text may hold.
const TABLES_MAX: usize = 100;
/// Most tables and subqueries once every use of a WITH is written out: a short text can name each twice in the next, and so on.
const EXPANDED_MAX: u64 = 500;
/// What is asked.
#[derive(Debug)]
pub(crate) enum Ask {
    /// A query, or EXPLAIN of one.
    Query(Box<Statement>),
    /// SHOW TABLES.
    Tables,
    /// DESCRIBE of a table: its name in parts.
    Describe(Vec<String>),
}

/// Reads one statement and refuses all that is not a question. Wants a deep stack: a long chain of operators is a deep tree until it is
/// refused.
pub(crate) fn parse(sql: &str) -> Result<Ask, QueryError> {
    if sql.len() > TEXT_BYTES_MAX {
        return Err(QueryError::TooLong { bytes: sql.len(), limit: TEXT_BYTES_MAX });
    }
    let syntax = |error: DataFusionError| QueryError::Syntax { detail: error.find_root().strip_backtrace() };
    let dialect = PostgreSqlDialect {};
    let mut parser = DFParserBuilder::new(sql).with_dialect(&dialect).with_recursion_limit(DEPTH_MAX).build().map_err(syntax)?;
    let mut statements = parser.parse_statements().map_err(syntax)?;
    match (statements.pop_front(), statements.len()) {
        (Some(statement), 0) => judge(statement),
        (None, _) => Err(QueryError::Syntax { detail: "there is no statement".to_owned() }),
        (Some(_), more) => {
            Err(QueryError::refused(format!("a text of {} statements", more.saturating_add(1)), "one is answered at a time"))
        }
    }
}

fn judge(mut statement: Statement) -> Result<Ask, QueryError> {
    match &mut statement {
        Statement::Statement(inner) => match inner.as_mut() {
            SqlStatement::Query(_) => check(inner)?,
            SqlStatement::ShowTables { terse: false, history: false, extended: false, full: false, external: false, show_options } => {
                let text = show_options.to_string();
                if !text.trim().is_empty() {
                    return Err(QueryError::refused(format!("SHOW TABLES{text}"), "it takes no options; query information_schema.tables"));
                }
                return Ok(Ask::Tables);
            }
            SqlStatement::ExplainTable { hive_format: None, table_name, .. } => return Ok(Ask::Describe(parts(table_name)?)),
            other => return Err(not_a_question(&other.to_string())),
        },
        Statement::Explain(explain) => match explain.statement.as_mut() {
            Statement::Statement(inner) if matches!(inner.as_ref(), SqlStatement::Query(_)) => check(inner)?,
            other => return Err(not_a_question(&other.to_string())),
        },
        other => return Err(not_a_question(&other.to_string())),
    }
    Ok(Ask::Query(Box::new(statement)))
}

fn not_a_question(text: &str) -> QueryError {
    let word = text.split_whitespace().next().unwrap_or("the statement").to_uppercase();
    QueryError::refused(word, "only SELECT, WITH, VALUES, EXPLAIN of these, SHOW TABLES and DESCRIBE are answered; nothing is ever changed")
}

/// The parts of a name: unquoted ones in lower case.
fn parts(name: &ObjectName) -> Result<Vec<String>, QueryError> {
    name.0
        .iter()
        .map(|part| match part {
            ObjectNamePart::Identifier(Ident { value, quote_style: None, .. }) => Ok(value.to_lowercase()),
            ObjectNamePart::Identifier(Ident { value, .. }) => Ok(value.clone()),
            ObjectNamePart::Function(_) => Err(QueryError::refused(name.to_string(), "a function is not a name")),
        })
        .collect()
}

fn check(statement: &mut SqlStatement) -> Result<(), QueryError> {
    match statement.visit(&mut Judge::default()) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(refused) => Err(refused),
    }
}

#[derive(Default)]
struct Judge {
    depth: usize,
    tables: usize,
    selects: usize,
    open: Vec<OpenQuery>,
}

/// A query whose parts are being visited: those of its WITH come first, in order.
#[derive(Default)]
struct OpenQuery {
    /// Names of its WITH that are still to come, last first.
    coming: Vec<String>,
    /// Those that are known, with what each use of them costs.
    known: HashMap<String, u64>,
    /// Tables and subqueries so far, written out.
    cost: u64,
}

impl Judge {
    fn cost_of(&self, name: &ObjectName) -> u64 {
        let name = name.to_string().to_lowercase();
        self.open.iter().rev().find_map(|query| query.known.get(&name)).copied().unwrap_or(1)
    }

    fn add(&mut self, cost: u64) -> ControlFlow<QueryError> {
        let Some(query) = self.open.last_mut() else {
            return ControlFlow::Continue(());
        };
        query.cost = query.cost.saturating_add(cost);
        if query.cost > EXPANDED_MAX {
            return refuse("the query", &format!("it has more than {EXPANDED_MAX} tables and subqueries once every WITH is written out"));
        }
        ControlFlow::Continue(())
    }
}

fn refuse(what: impl Into<String>, why: &str) -> ControlFlow<QueryError> {
    ControlFlow::Break(QueryError::refused(what, why))
}

impl VisitorMut for Judge {
    type Break = QueryError;

    fn pre_visit_statement(&mut self, statement: &mut SqlStatement) -> ControlFlow<QueryError> {
        match statement {
            SqlStatement::Query(_) => ControlFlow::Continue(()),
            other => ControlFlow::Break(not_a_question(&other.to_string())),
        }
    }

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<QueryError> {
        if query.with.as_ref().is_some_and(|with| with.recursive) {
            return refuse("WITH RECURSIVE", "it need not end");
        }
        if !query.locks.is_empty() || query.for_clause.is_some() {
            return refuse("FOR …", "nothing is ever locked");
        }
        if query.settings.is_some() || query.format_clause.is_some() || !query.pipe_operators.is_empty() {
            return refuse("SETTINGS, FORMAT and |>", "they are not part of the SQL that is answered");
        }
        match query.body.as_ref() {
            SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) => {
                return ControlFlow::Break(not_a_question(&query.body.to_string()));
            }
            _ => {}
        }
        let tables = query.with.iter().flat_map(|with| with.cte_tables.iter().rev());
        self.open.push(OpenQuery { coming: tables.map(|table| table.alias.name.value.to_lowercase()).collect(), ..OpenQuery::default() });
        self.add(1)
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<QueryError> {
        let Some(done) = self.open.pop() else {
            return ControlFlow::Continue(());
        };
        match self.open.last_mut().and_then(|around| around.coming.pop().map(|name| (around, name))) {
            Some((around, name)) => {
                around.known.insert(name, done.cost);
                ControlFlow::Continue(())
            }
            None => self.add(done.cost),
        }
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<QueryError> {
        self.selects = self.selects.saturating_add(1);
        if self.selects > TABLES_MAX {
            return refuse("the query", &format!("it has more than {TABLES_MAX} SELECTs"));
        }
        if select.into.is_some() {
            return refuse("SELECT INTO", "nothing is ever changed");
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<QueryError> {
        self.tables = self.tables.saturating_add(1);
        if self.tables > TABLES_MAX {
            return refuse("the query", &format!("it names more than {TABLES_MAX} tables"));
        }
        match factor {
            TableFactor::Table { name, args: None, version: None, sample: None, .. } => self.add(self.cost_of(name)),
            TableFactor::Derived { sample: None, .. } | TableFactor::NestedJoin { .. } => ControlFlow::Continue(()),
            TableFactor::Table { name, args: Some(_), .. } | TableFactor::Function { name, .. } => {
                refuse(format!("the table function {name}"), missing(&name.to_string().to_lowercase()))
            }
            TableFactor::UNNEST { .. } => refuse("the table function unnest", missing("unnest")),
            other => refuse(other.to_string(), "only tables and subqueries are read"),
        }
    }

    fn post_visit_expr(&mut self, _: &mut Expr) -> ControlFlow<QueryError> {
        self.depth = self.depth.saturating_sub(1);
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<QueryError> {
        self.depth = self.depth.saturating_add(1);
        if self.depth > OPERATORS_MAX {
            return refuse("the query", &format!("its operators nest more than {OPERATORS_MAX} deep; use IN for long lists of values"));
        }
        match expr {
            Expr::Function(function) => {
                let name = function.name.to_string().to_lowercase();
                let known = is_listed(&name)
                    || matches!(
                        name.as_str(),
                        "char_length"
                            | "length"
                            | "substring"
                            | "today"
                            | "current_timestamp"
                            | "datepart"
                            | "datetrunc"
                            | "extract"
                            | "trim"
                            | "position"
                            | "date_format"
                            | "ifnull"
                            | "instr"
                            | "count_distinct"
                    );
                if known { ControlFlow::Continue(()) } else { refuse(format!("the function {name}"), missing(&name)) }
            }
            Expr::Ceil { .. } => refuse("the function ceil", missing("ceil")),
            Expr::Floor { .. } => refuse("the function floor", missing("floor")),
            _ => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_value(&mut self, value: &mut ValueWithSpan) -> ControlFlow<QueryError> {
        match &mut value.value {
            Value::Number(text, _) if text.contains(['e', 'E']) => match without_exponent(text) {
                Some(plain) => {
                    *text = plain;
                    ControlFlow::Continue(())
                }
                None => refuse(format!("the number {text}"), "it has more than 38 digits"),
            },
            Value::Placeholder(name) => refuse(format!("the parameter {name}"), "values are written into the text"),
            _ => ControlFlow::Continue(()),
        }
    }
}
