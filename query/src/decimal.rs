//! Exact arithmetic on decimal units, and which types hold decimals. No arrays of the engine, no SQL.

use datafusion::arrow::datatypes::{DataType, i256};

/// The most digits that a result may have.
pub(crate) const DIGITS: u8 = 38;

/// 10^38: the first magnitude that is too large.
const LIMIT: i128 = 10_i128.pow(38);

/// The units as a decimal of 38 digits; `None` when there are more.
pub(crate) fn fits(units: i256) -> Option<i128> {
    units.to_i128().filter(|units| (-LIMIT < *units) && (*units < LIMIT))
}

/// 10^exponent in 256 bits; `None` beyond 10^76.
pub(crate) fn ten(exponent: u32) -> Option<i256> {
    i256::from_i128(10).checked_pow(exponent)
}

/// `numerator / denominator` as a whole number, halves to the even neighbour. `None` for a zero denominator or beyond 256 bits.
pub(crate) fn divide_half_even(numerator: i256, denominator: i256) -> Option<i256> {
    let quotient = numerator.checked_div(denominator)?;
    let rest = numerator.checked_rem(denominator)?.checked_abs()?;
    let (even, one) = (quotient.checked_rem(i256::from_i128(2))? == i256::ZERO, i256::ONE);
    // Twice the rest against the denominator, without leaving the range: rest against denominator − rest.
    let up = match rest.cmp(&denominator.checked_abs()?.checked_sub(rest)?) {
        std::cmp::Ordering::Less => false,
        std::cmp::Ordering::Equal => !even,
        std::cmp::Ordering::Greater => true,
    };
    if !up {
        Some(quotient)
    } else if numerator.is_negative() == denominator.is_negative() {
        quotient.checked_add(one)
    } else {
        quotient.checked_sub(one)
    }
}

/// `units` of 10^-from in units of 10^-to, halves to the even neighbour; `None` beyond 38 digits.
pub(crate) fn round_half_even(units: i128, from: i8, to: i8) -> Option<i128> {
    let shift = i32::from(to).checked_sub(i32::from(from))?;
    let factor = ten(shift.unsigned_abs())?;
    let wide = i256::from_i128(units);
    fits(if shift >= 0 { wide.checked_mul(factor)? } else { divide_half_even(wide, factor)? })
}

/// x/y in units of 10^-digits, halves to the even neighbour; `None` when y is zero or beyond 38 digits.
pub(crate) fn quotient(x: i128, x_scale: i8, y: i128, y_scale: i8, digits: i8) -> Option<i128> {
    // x·10^-xs / (y·10^-ys) · 10^digits = x·10^(ys + digits − xs) / y. Where 10^… takes x beyond 256 bits, the result is beyond 38 digits.
    let exponent = i32::from(y_scale).checked_add(i32::from(digits))?.checked_sub(i32::from(x_scale))?;
    let (x, y) = (i256::from_i128(x), i256::from_i128(y));
    if x == i256::ZERO {
        return (y != i256::ZERO).then_some(0);
    }
    let factor = ten(exponent.unsigned_abs())?;
    fits(if exponent >= 0 { divide_half_even(x.checked_mul(factor)?, y)? } else { divide_half_even(x, y.checked_mul(factor)?)? })
}

/// Whether values of the type are decimals or contain some.
pub(crate) fn holds_decimal(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(_, inner) => holds_decimal(inner),
        DataType::RunEndEncoded(_, inner)
        | DataType::List(inner)
        | DataType::LargeList(inner)
        | DataType::ListView(inner)
        | DataType::LargeListView(inner)
        | DataType::FixedSizeList(inner, _)
        | DataType::Map(inner, _) => holds_decimal(inner.data_type()),
        DataType::Struct(fields) => fields.iter().any(|field| holds_decimal(field.data_type())),
        DataType::Union(fields, _) => fields.iter().any(|(_, field)| holds_decimal(field.data_type())),
        other => other.is_decimal(),
    }
}

/// Whether values of the type are 256-bit decimals or contain some.
pub(crate) fn holds_wide_decimal(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(_, inner) => holds_wide_decimal(inner),
        DataType::List(inner) | DataType::LargeList(inner) | DataType::FixedSizeList(inner, _) => holds_wide_decimal(inner.data_type()),
        DataType::Struct(fields) => fields.iter().any(|field| holds_wide_decimal(field.data_type())),
        other => matches!(other, DataType::Decimal256(..)),
    }
}

/// Digits and decimal places of a decimal type.
pub(crate) fn shape(data_type: &DataType) -> Option<(u8, i8)> {
    match data_type {
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale) => Some((*precision, *scale)),
        _ => None,
    }
}

/// Whether a plain text such as `-12.50` is exactly a decimal of the type: no digit would be lost, none is too many.
pub(crate) fn text_fits(text: &str, precision: u8, scale: i8) -> bool {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let places = usize::try_from(scale.max(0)).unwrap_or_default();
    scale >= 0
        && !whole.is_empty()
        && digits(whole)
        && digits(fraction)
        && fraction.trim_end_matches('0').len() <= places
        && whole.trim_start_matches('0').len() <= usize::from(precision).saturating_sub(places)
}

/// A number with an exponent as plain digits, with a decimal point so that it stays a decimal; `None` when it has more than 38 digits.
pub(crate) fn without_exponent(text: &str) -> Option<String> {
    let (mantissa, exponent) = text.split_once(['e', 'E'])?;
    let exponent: i32 = exponent.parse().ok().filter(|exponent: &i32| exponent.unsigned_abs() <= 100)?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits: String = [whole, fraction].concat();
    let point = i32::try_from(whole.len()).ok()?.checked_add(exponent)?;
    let (whole, fraction) = if point <= 0 {
        let zeros = "0".repeat(usize::try_from(point.unsigned_abs()).ok()?);
        ("0".to_owned(), [zeros, digits].concat())
    } else {
        let point = usize::try_from(point).ok()?;
        match digits.get(point..) {
            Some(fraction) => (digits.get(..point)?.to_owned(), fraction.to_owned()),
            None => ([digits.clone(), "0".repeat(point.checked_sub(digits.len())?)].concat(), String::new()),
        }
    };
    let fraction = if fraction.is_empty() { "0".to_owned() } else { fraction };
    let significant = whole.trim_start_matches('0').len().checked_add(fraction.len())?;
    (significant <= usize::from(DIGITS)).then(|| format!("{whole}.{fraction}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_go_to_the_even_neighbour_on_both_sides_of_zero() {
        for (units, rounded) in
            [(25, 2), (35, 4), (-25, -2), (-35, -4), (24, 2), (26, 3), (-26, -3), (5, 0), (-5, 0), (15, 2), (-15, -2), (0, 0)]
        {
            assert_eq!(round_half_even(units, 1, 0), Some(rounded), "{units}");
        }
        assert_eq!(round_half_even(7, 0, 2), Some(700));
        assert_eq!(round_half_even(LIMIT - 1, 0, 1), None);
        assert_eq!(round_half_even(LIMIT - 1, 38, 0), Some(1));
    }

    #[test]
    fn quotients_are_exact_until_the_last_digit_and_refuse_zero() {
        assert_eq!(quotient(1, 0, 3, 0, 4), Some(3333));
        assert_eq!(quotient(2, 0, 3, 0, 4), Some(6667));
        assert_eq!(quotient(1, 0, 8, 0, 2), Some(12));
        assert_eq!(quotient(3, 0, 8, 0, 2), Some(38));
        assert_eq!(quotient(-3, 0, 8, 0, 2), Some(-38));
        assert_eq!(quotient(LIMIT - 1, 38, LIMIT - 1, 0, 38), Some(1));
        assert_eq!(quotient(LIMIT - 1, 0, 1, 38, 38), None);
        assert_eq!(quotient(0, 0, 0, 0, 2), None);
        assert_eq!(quotient(1, 0, 0, 0, 2), None);
    }

    #[test]
    fn exponents_become_digits() {
        for (text, plain) in [
            ("1e3", Some("1000.0")),
            ("1.5E-3", Some("0.0015")),
            ("12.345e1", Some("123.45")),
            ("12.345e2", Some("1234.5")),
            ("12.345e3", Some("12345.0")),
            ("1e-38", Some("0.00000000000000000000000000000000000001")),
            ("1e-39", None),
            ("1e38", None),
            ("1e400", None),
            ("1e", None),
        ] {
            assert_eq!(without_exponent(text).as_deref(), plain, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn division_agrees_with_whole_number_arithmetic(n in -1_000_000_i128..1_000_000, d in 1_i128..1000, negative: bool) {
            let d = if negative { -d } else { d };
            let rounded = divide_half_even(i256::from_i128(n), i256::from_i128(d)).unwrap().to_i128().unwrap();
            let distance = (2 * n - 2 * rounded * d).abs();
            proptest::prop_assert!(distance < d.abs() || (distance == d.abs() && rounded % 2 == 0));
        }
    }
}
