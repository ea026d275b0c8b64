//! The rule that keeps money exact: a walk over the analysed plan, after all types are settled and before anything is optimised. It puts
//! checked integer arithmetic in place of the engine's wrapping one, bounds what makes texts longer, and refuses every expression and every plan node that is not known
//! to be exact. It knows types and functions, not tables.

use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::expr::{AggregateFunction, Cast, ScalarFunction, WindowFunction, WindowFunctionDefinition};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, LogicalPlan, Operator, WindowFrameUnits};
use datafusion::optimizer::AnalyzerRule;

use crate::bounded::{Bounded, GROWING};
use crate::checked::{Checked, Operation};
use crate::decimal::{holds_decimal, holds_wide_decimal, shape, text_fits};
use crate::error::Raised;
use crate::functions::{is_exact, is_listed, missing};
use crate::information::type_name;
use crate::sum::{CheckedSum, is_summable};

/// The last rule of the analyser.
#[derive(Debug)]
pub(crate) struct MoneyRule;

impl AnalyzerRule for MoneyRule {
    fn name(&self) -> &str {
        "checked_money"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        plan.apply_with_subqueries(|node| check_node(node).map(|()| TreeNodeRecursion::Continue))?;
        Ok(plan.transform_up_with_subqueries(with_checked_operators)?.data)
    }
}

/// All columns that the expressions of a node may name.
fn visible(node: &LogicalPlan) -> Result<DFSchema> {
    let mut schema = merge_schema(&node.inputs());
    if let LogicalPlan::TableScan(scan) = node {
        schema.merge(&DFSchema::try_from_qualified_schema(scan.table_name.clone(), &scan.source.schema())?);
    }
    Ok(schema)
}

fn check_node(node: &LogicalPlan) -> Result<()> {
    match node {
        LogicalPlan::Projection(_)
        | LogicalPlan::Filter(_)
        | LogicalPlan::Window(_)
        | LogicalPlan::Aggregate(_)
        | LogicalPlan::Sort(_)
        | LogicalPlan::Join(_)
        | LogicalPlan::Union(_)
        | LogicalPlan::TableScan(_)
        | LogicalPlan::EmptyRelation(_)
        | LogicalPlan::Subquery(_)
        | LogicalPlan::SubqueryAlias(_)
        | LogicalPlan::Limit(_)
        | LogicalPlan::Values(_)
        | LogicalPlan::Explain(_)
        | LogicalPlan::Analyze(_)
        | LogicalPlan::Distinct(_) => {}
        other => return Err(Raised::refused(format!("a plan with {}", other.display()), "only plain queries are answered")),
    }
    let schema = visible(node)?;
    if let LogicalPlan::Join(join) = node {
        for (left, right) in &join.on {
            let (left_type, right_type) = (left.get_type(&schema)?, right.get_type(&schema)?);
            if (left_type.is_decimal() || right_type.is_decimal()) && left_type != right_type {
                return Err(Raised::refused(format!("joining {left} with {right}"), "the types differ; cast to one decimal type"));
            }
        }
    }
    for expr in node.expressions() {
        expr.apply(|expr| check_expr(expr, &schema).map(|()| TreeNodeRecursion::Continue))?;
    }
    Ok(())
}

fn check_expr(expr: &Expr, schema: &DFSchema) -> Result<()> {
    match expr {
        Expr::Cast(cast) => check_cast(cast, schema)?,
        Expr::TryCast(cast) => {
            if holds_decimal(cast.field.data_type()) || holds_decimal(&cast.expr.get_type(schema)?) {
                return Err(Raised::refused(shown(expr), "it turns numbers that do not fit into null; use CAST"));
            }
        }
        Expr::BinaryExpr(binary) => check_binary(binary, schema)?,
        Expr::ScalarFunction(function) => check_scalar(function, schema)?,
        Expr::AggregateFunction(function) => check_aggregate(function, schema)?,
        Expr::WindowFunction(function) => check_window(function, schema)?,
        Expr::Literal(value, _) => {
            if holds_wide_decimal(&value.data_type()) {
                return Err(Raised::refused(format!("the number {value}"), "it has more than 38 digits"));
            }
            return Ok(());
        }
        Expr::Column(_)
        | Expr::OuterReferenceColumn(..)
        | Expr::Alias(_)
        | Expr::Like(_)
        | Expr::SimilarTo(_)
        | Expr::Not(_)
        | Expr::IsNotNull(_)
        | Expr::IsNull(_)
        | Expr::IsTrue(_)
        | Expr::IsFalse(_)
        | Expr::IsUnknown(_)
        | Expr::IsNotTrue(_)
        | Expr::IsNotFalse(_)
        | Expr::IsNotUnknown(_)
        | Expr::Negative(_)
        | Expr::Between(_)
        | Expr::Case(_)
        | Expr::InList(_)
        | Expr::Exists(_)
        | Expr::InSubquery(_)
        | Expr::SetComparison(_)
        | Expr::ScalarSubquery(_)
        | Expr::GroupingSet(_) => {}
        other => return Err(Raised::refused(other.to_string(), "it is not part of the SQL that is answered")),
    }
    if !matches!(expr, Expr::GroupingSet(_)) && holds_wide_decimal(&expr.get_type(schema)?) {
        return Err(Raised::refused(shown(expr), "its result would have more than 38 digits"));
    }
    Ok(())
}

/// Casts from and to decimals are exact or refused. What does not fit in front of the point raises when the query runs.
fn check_cast(cast: &Cast, schema: &DFSchema) -> Result<()> {
    let (from, to) = (cast.expr.get_type(schema)?, cast.field.data_type().clone());
    if !holds_decimal(&from) && !holds_decimal(&to) {
        return Ok(());
    }
    let refused =
        |why: &str| Err(Raised::refused(format!("making {} of {} ({})", type_name(&to), shown(&cast.expr), type_name(&from)), why));
    match (shape(&from), shape(&to)) {
        (Some((_, from_scale)), Some((_, to_scale))) if to_scale >= from_scale => Ok(()),
        (Some(_), Some(_)) => refused("decimal places would be lost; use round_half_even(x, digits)"),
        (Some((_, scale)), None) => match &to {
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Ok(()),
            to if to.is_integer() && scale <= 0 => Ok(()),
            to if to.is_integer() => refused("decimal places would be lost; use round_half_even(x, 0)"),
            to if to.is_floating() => refused("a float cannot hold decimals exactly; compare and compute with decimals only"),
            _ => refused("there is no exact conversion"),
        },
        (None, Some((precision, scale))) => match (&from, cast.expr.as_ref()) {
            (DataType::Null, _) => Ok(()),
            (from, _) if from.is_integer() => Ok(()),
            (from, _) if from.is_floating() => {
                refused("a float does not hold the decimal that was meant; compare and compute with decimals only")
            }
            (
                _,
                Expr::Literal(ScalarValue::Utf8(Some(text)) | ScalarValue::LargeUtf8(Some(text)) | ScalarValue::Utf8View(Some(text)), _),
            ) => {
                if text_fits(text, precision, scale) {
                    Ok(())
                } else {
                    refused("the text is not exactly a number of that type")
                }
            }
            (DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View, _) => {
                refused("texts are rounded when they become decimals; only literals that fit exactly are converted")
            }
            _ => refused("there is no exact conversion"),
        },
        (None, None) if from == to => Ok(()),
        (None, None) => refused("there is no exact conversion"),
    }
}

fn check_binary(binary: &BinaryExpr, schema: &DFSchema) -> Result<()> {
    let (left, right) = (binary.left.get_type(schema)?, binary.right.get_type(schema)?);
    if !holds_decimal(&left) && !holds_decimal(&right) {
        return Ok(());
    }
    let refused = |why: &str| Err(Raised::refused(shown(&Expr::BinaryExpr(binary.clone())), why));
    match binary.op {
        Operator::Divide => refused("quotients of decimals are cut off; use divide_half_even(x, y, digits)"),
        Operator::Plus | Operator::Minus | Operator::Multiply | Operator::Modulo => {
            let plain = |data_type: &DataType| matches!(data_type, DataType::Decimal128(..));
            if plain(&left) && plain(&right) { Ok(()) } else { refused("both sides must be decimals") }
        }
        Operator::Eq
        | Operator::NotEq
        | Operator::Lt
        | Operator::LtEq
        | Operator::Gt
        | Operator::GtEq
        | Operator::IsDistinctFrom
        | Operator::IsNotDistinctFrom => {
            if left == right {
                Ok(())
            } else {
                refused("both sides must be decimals of one type")
            }
        }
        _ => refused("the operator is not defined for decimals"),
    }
}

fn takes_decimal(args: &[Expr], schema: &DFSchema) -> Result<bool> {
    for argument in args {
        if holds_decimal(&argument.get_type(schema)?) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn unlisted(name: &str) -> DataFusionError {
    Raised::refused(format!("the function {name}"), missing(name))
}

fn check_scalar(function: &ScalarFunction, schema: &DFSchema) -> Result<()> {
    let name = function.func.name();
    if let Some(checked) = function.func.inner().downcast_ref::<Checked>() {
        let types = function.args.iter().map(|argument| argument.get_type(schema)).collect::<Result<Vec<_>>>()?;
        let literal = match function.args.last() {
            Some(Expr::Literal(value, _)) => Some(value),
            _ => None,
        };
        return match checked.refusal(&types, literal) {
            None => Ok(()),
            Some(why) => Err(Raised::refused(shown(&Expr::ScalarFunction(function.clone())), why)),
        };
    }
    let bounded = function.func.inner().is::<Bounded>();
    if !bounded && (!is_listed(name) || GROWING.contains(&name)) {
        return Err(unlisted(name));
    }
    if !is_exact(name) && takes_decimal(&function.args, schema)? {
        return Err(Raised::refused(format!("{name} over decimals"), "it is not known to be exact; cast to text first if text is meant"));
    }
    Ok(())
}

fn check_aggregate(function: &AggregateFunction, schema: &DFSchema) -> Result<()> {
    let name = function.func.name();
    if function.func.inner().is::<CheckedSum>() {
        check_sum(&function.params.args, schema)?;
        if function.params.distinct {
            return Err(Raised::refused("sum(DISTINCT …)", "it drops equal values; sum over a subquery with DISTINCT if that is meant"));
        }
        return Ok(());
    }
    if name == "sum" || !is_listed(name) {
        return Err(unlisted(name));
    }
    if !is_exact(name) && takes_decimal(&function.params.args, schema)? {
        let why = match name {
            "avg" => "its result is cut off; use divide_half_even(sum(x), count(x), digits)",
            _ => "it is not known to be exact",
        };
        return Err(Raised::refused(format!("{name} over decimals"), why));
    }
    Ok(())
}

fn check_sum(args: &[Expr], schema: &DFSchema) -> Result<()> {
    for argument in args {
        let data_type = argument.get_type(schema)?;
        if !is_summable(&data_type) {
            return Err(Raised::refused(format!("sum over {}", type_name(&data_type)), "only decimals and integers have an exact sum"));
        }
    }
    Ok(())
}

/// An expression as the asker might have written it.
fn shown(expr: &Expr) -> String {
    expr.human_display().to_string()
}

fn check_window(function: &WindowFunction, schema: &DFSchema) -> Result<()> {
    let params = &function.params;
    let (name, sum) = match &function.fun {
        WindowFunctionDefinition::AggregateUDF(inner) => (inner.name().to_owned(), inner.inner().is::<CheckedSum>()),
        WindowFunctionDefinition::WindowUDF(inner) => (inner.name().to_owned(), false),
    };
    if !is_listed(&name) || (name == "sum" && !sum) {
        return Err(unlisted(&name));
    }
    if sum {
        check_sum(&params.args, schema)?;
    }
    if sum && params.distinct {
        return Err(Raised::refused("sum(DISTINCT …)", "it drops equal values"));
    }
    if takes_decimal(&params.args, schema)? {
        return Err(Raised::refused(format!("{name} over decimals in a window"), "aggregate in a subquery and join it instead"));
    }
    let bounded = !(params.window_frame.start_bound.is_unbounded() && params.window_frame.end_bound.is_unbounded());
    if matches!(params.window_frame.units, WindowFrameUnits::Range) && bounded {
        let offset = |bound: &datafusion::logical_expr::WindowFrameBound| {
            !bound.is_unbounded() && !matches!(bound, datafusion::logical_expr::WindowFrameBound::CurrentRow)
        };
        let offsets = offset(&params.window_frame.start_bound) || offset(&params.window_frame.end_bound);
        let keys: Vec<Expr> = params.order_by.iter().map(|sort| sort.expr.clone()).collect();
        if offsets && takes_decimal(&keys, schema)? {
            return Err(Raised::refused("a RANGE frame with offsets over decimals", "use ROWS"));
        }
    }
    Ok(())
}

/// Puts checked functions in place of integer `+ - *` and of all signs, for the engine's own wrap, and a bounded one in place of `||`.
fn with_checked_operators(node: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let schema = visible(&node)?;
    let names = NamePreserver::new(&node);
    node.map_expressions(|expr| {
        let name = names.save(&expr);
        Ok(expr.transform_up(|expr| checked_operator(expr, &schema))?.update_data(|expr| name.restore(expr)))
    })?
    .map_data(|node| node.recompute_schema())
}

fn checked_operator(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let call = |operation, args| Transformed::yes(Expr::ScalarFunction(ScalarFunction::new_udf(Checked::udf(operation), args)));
    match expr {
        Expr::Negative(inner) => {
            let data_type = inner.get_type(schema)?;
            if data_type.is_signed_integer() || data_type.is_decimal() {
                Ok(call(Operation::Negate, vec![*inner]))
            } else {
                Ok(Transformed::no(Expr::Negative(inner)))
            }
        }
        Expr::BinaryExpr(binary) => {
            let operation = match binary.op {
                Operator::StringConcat => {
                    let (left, right) = (binary.left.get_type(schema)?, binary.right.get_type(schema)?);
                    if left != right || !Bounded::joins(&left) {
                        return Err(Raised::refused(format!("{} || {}", type_name(&left), type_name(&right)), "cast both sides to text"));
                    }
                    let args = vec![*binary.left, *binary.right];
                    return Ok(Transformed::yes(Expr::ScalarFunction(ScalarFunction::new_udf(Bounded::operator(), args))));
                }
                Operator::Plus => Operation::Add,
                Operator::Minus => Operation::Subtract,
                Operator::Multiply => Operation::Multiply,
                _ => return Ok(Transformed::no(Expr::BinaryExpr(binary))),
            };
            let (left, right) = (binary.left.get_type(schema)?, binary.right.get_type(schema)?);
            if left.is_integer() && left == right {
                Ok(call(operation, vec![*binary.left, *binary.right]))
            } else {
                Ok(Transformed::no(Expr::BinaryExpr(binary)))
            }
        }
        other => Ok(Transformed::no(other)),
    }
}

/// The rule, shared by all sessions.
pub(crate) fn rule() -> Arc<dyn AnalyzerRule + Send + Sync> {
    Arc::new(MoneyRule)
}
