//! What tests want to know of a query.

use std::{convert::Infallible, time::Duration};

use anyhow::{Result, anyhow};
use promql_parser::{
    label::{METRIC_NAME, MatchOp},
    parser::{self, BinaryExpr, Expr, MatrixSelector, Offset, VectorSelector, token},
    util::visitor::{ExprVisitor, ExprVisitorMut, walk_expr, walk_expr_mut},
};

/// Lengths of time in an expression are products of a number and one of these.
const UNITS: [f64; 2] = [60.0, 3600.0];

/// A selection of series in a query.
#[derive(Debug, Clone, PartialEq)]
pub struct Selector {
    /// The metrics: one, or those that a matcher of the name lists.
    pub metrics: Vec<String>,
    /// The matchers, as label, operator and value.
    pub matchers: Vec<(String, String, String)>,
    /// The range, where there is one.
    pub range: Option<Duration>,
    /// The function that takes the range.
    pub function: Option<String>,
}

/// Parses a query.
///
/// # Errors
/// When it is none.
pub fn parse(query: &str) -> Result<Expr> {
    parser::parse(query).map_err(|error| anyhow!("{query}: {error}"))
}

/// The selections of a query, in the order in which they stand there.
///
/// # Errors
/// When it is no query.
pub fn selectors(query: &str) -> Result<Vec<Selector>> {
    let mut found = Selectors::default();
    match walk_expr(&mut found, &parse(query)?) {
        Ok(_) => Ok(found.all),
        Err(never) => match never {},
    }
}

#[derive(Default)]
struct Selectors {
    all: Vec<Selector>,
    functions: Vec<String>,
}

impl ExprVisitor for Selectors {
    type Error = Infallible;

    fn pre_visit(&mut self, expr: &Expr) -> Result<bool, Infallible> {
        match expr {
            Expr::Call(call) => self.functions.push(call.func.name.to_owned()),
            Expr::VectorSelector(vector) => self.all.push(selector(vector)),
            Expr::MatrixSelector(matrix) => self.all.push(Selector {
                range: Some(matrix.range),
                function: self.functions.last().cloned(),
                ..selector(&matrix.vs)
            }),
            _ => {}
        }
        Ok(true)
    }

    fn post_visit(&mut self, expr: &Expr) -> Result<bool, Infallible> {
        if let Expr::Call(_) = expr {
            self.functions.pop();
        }
        Ok(true)
    }
}

fn selector(vector: &VectorSelector) -> Selector {
    let mut metrics: Vec<_> = vector.name.clone().into_iter().collect();
    let mut matchers = Vec::new();
    for matcher in &vector.matchers.matchers {
        if matcher.name == METRIC_NAME {
            metrics.extend(matcher.value.split('|').map(str::to_owned));
            continue;
        }
        let op = match matcher.op {
            MatchOp::Equal => "=",
            MatchOp::NotEqual => "!=",
            MatchOp::Re(_) => "=~",
            MatchOp::NotRe(_) => "!~",
        };
        matchers.push((matcher.name.clone(), op.to_owned(), matcher.value.clone()));
    }
    Selector {
        metrics,
        matchers,
        range: None,
        function: None,
    }
}

/// The same query with every length of time in it so many times shorter: ranges, offsets, and the numbers that
/// are written as products of 60 or 3600.
///
/// # Errors
/// When it is no query.
pub fn shortened(query: &str, factor: u32) -> Result<String> {
    let mut expr = parse(query)?;
    match walk_expr_mut(&mut Shorten(factor), &mut expr) {
        Ok(_) => Ok(expr.to_string()),
        Err(never) => match never {},
    }
}

struct Shorten(u32);

impl ExprVisitorMut for Shorten {
    type Error = Infallible;

    fn pre_visit(&mut self, expr: &mut Expr) -> Result<bool, Infallible> {
        match expr {
            Expr::MatrixSelector(MatrixSelector { vs, range }) => {
                *range /= self.0;
                self.offset(vs);
            }
            Expr::VectorSelector(vector) => self.offset(vector),
            Expr::Binary(product) => {
                if let Some(seconds) = seconds(product) {
                    *expr = Expr::from(seconds / f64::from(self.0));
                }
            }
            _ => {}
        }
        Ok(true)
    }
}

impl Shorten {
    fn offset(&self, vector: &mut VectorSelector) {
        if let Some(Offset::Pos(by) | Offset::Neg(by)) = &mut vector.offset {
            *by /= self.0;
        }
    }
}

/// What a product of numbers comes to whose last is a unit of time.
fn seconds(product: &BinaryExpr) -> Option<f64> {
    match (value(&product.lhs)?, &*product.rhs) {
        (number, Expr::NumberLiteral(unit))
            if product.op.id() == token::T_MUL && UNITS.contains(&unit.val) =>
        {
            Some(number * unit.val)
        }
        _ => None,
    }
}

/// What a product of numbers comes to.
fn value(expr: &Expr) -> Option<f64> {
    match expr {
        Expr::NumberLiteral(number) => Some(number.val),
        Expr::Binary(BinaryExpr { op, lhs, rhs, .. }) if op.id() == token::T_MUL => {
            Some(value(lhs)? * value(rhs)?)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selections_are_found_with_what_is_done_to_them() {
        let query = r#"histogram_quantile(0.9, sum by (le) (rate(a_bucket{job="x",b!~"y|z"}[5m]))) > c or {__name__=~"d|e"}"#;
        let found = selectors(query).unwrap();
        let metrics: Vec<_> = found.iter().map(|found| found.metrics.join(",")).collect();
        assert_eq!(metrics, ["a_bucket", "c", "d,e"]);
        assert_eq!(found[0].function.as_deref(), Some("rate"));
        assert_eq!(found[0].range, Some(Duration::from_secs(300)));
        let matcher = |name: &str, op: &str, value: &str| (name.into(), op.into(), value.into());
        assert_eq!(
            found[0].matchers,
            [matcher("job", "=", "x"), matcher("b", "!~", "y|z")]
        );
        assert_eq!((found[1].range, &found[1].function), (None, &None));
        assert!(selectors("rate(a[5m]").is_err());
    }

    #[test]
    fn every_length_of_time_is_shortened_and_no_other_number() {
        for (query, shorter) in [
            ("rate(a[5m])", "rate(a[5s])"),
            ("a offset 1h", "a offset 1m"),
            ("increase(a[1d] offset 1h)", "increase(a[24m] offset 1m)"),
            ("a - time() < 6 * 3600", "a - time() < 360"),
            ("a > 5 * 60", "a > 5"),
            ("a < 24 * 60 * 3600", "a < 86400"),
            ("a * 60 > 100", "a * 60 > 100"),
        ] {
            assert_eq!(shortened(query, 60).unwrap(), shorter);
        }
    }
}
