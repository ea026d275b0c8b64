//! A price as the map states it: dollars for one unit, exact to 24 decimal places. It is read from the digits of the file, never through a
//! float, and turned into a price of the registry without losing one.

use std::fmt;

use shared_types::{NumberError, Price, Quantity};

/// Decimal places of a [`ListPrice`] beyond those of a [`Price`].
const FINER: u32 = 6;
/// Decimal places that a factor may have.
const FACTOR_PLACES: u32 = 6;

/// Money for one unit: a whole number of 10^-24.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ListPrice(i128);

impl ListPrice {
    /// No money. A price of zero is a price.
    pub const ZERO: Self = Self(0);

    /// Reads a JSON number such as `1.5000999999999998e-07`.
    ///
    /// - Errors: more than 24 decimal places, more than 14 digits before the point, or no number.
    pub fn parse(text: &str) -> Result<Self, NumberError> {
        Ok(Self(shifted(text, FINER)?.units()))
    }

    /// The price as a factor with at most 6 decimal places.
    pub fn factor(text: &str) -> Result<i128, NumberError> {
        let places = i32::try_from(Price::SCALE.saturating_sub(FACTOR_PLACES)).unwrap_or_default();
        let finest = Price::parse(text)?.units();
        let unit = 10_i128.pow(places.unsigned_abs());
        if finest % unit != 0 {
            return Err(NumberError::TooFine { value: text.chars().take(80).collect(), scale: FACTOR_PLACES });
        }
        Ok(finest / unit)
    }

    /// The price times a factor of [`ListPrice::factor`]; none where that is not exact or too large.
    pub fn times(self, factor: i128) -> Option<Self> {
        let product = self.0.checked_mul(factor)?;
        let unit = 10_i128.pow(FACTOR_PLACES);
        (product % unit == 0).then_some(Self(product / unit))
    }

    /// The price of a book's row: money for `per` units, which are whole.
    pub fn of_row(unit_price: Price, per: Quantity) -> Option<Self> {
        let one = 10_i128.pow(Quantity::SCALE);
        let per = (per.units() % one == 0).then_some(per.units() / one)?;
        let finest = unit_price.units().checked_mul(10_i128.pow(FINER))?;
        (finest.checked_rem(per)? == 0).then_some(Self(finest.checked_div(per)?))
    }

    /// Unit price and unit size of a row: for `per` units, or for a million where the price is too fine for that.
    pub fn row(self, per: u64) -> Option<(Price, Quantity)> {
        let unit = 10_i128.pow(FINER);
        [i128::from(per), unit].into_iter().find_map(|per| {
            let finest = self.0.checked_mul(per)?;
            let price = (finest % unit == 0).then_some(finest / unit)?;
            let size = Quantity::from_units(per.checked_mul(10_i128.pow(Quantity::SCALE))?).ok()?;
            Some((Price::from_units(price).ok()?, size))
        })
    }

    /// Units of 10^-24.
    pub fn units(self) -> i128 {
        self.0
    }

    /// Whether money is owed to the buyer.
    pub fn is_negative(self) -> bool {
        self.0 < 0
    }
}

/// Dollars for one unit, plain.
impl fmt::Display for ListPrice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, digits) = (if self.0 < 0 { "-" } else { "" }, format!("{:025}", self.0.unsigned_abs()));
        let (whole, fraction) = digits.split_at(digits.len().saturating_sub(24));
        let fraction = fraction.trim_end_matches('0');
        let point = if fraction.is_empty() { "" } else { "." };
        f.pad(&format!("{sign}{whole}{point}{fraction}"))
    }
}

/// The number times a power of ten: only its exponent is touched.
fn shifted(text: &str, places: u32) -> Result<Price, NumberError> {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let malformed = || NumberError::Malformed { value: text.chars().take(80).collect() };
    let exponent: i32 = exponent.parse().map_err(|_| malformed())?;
    let exponent = exponent.checked_add(i32::try_from(places).map_err(|_| malformed())?).ok_or_else(malformed)?;
    Price::parse(&format!("{mantissa}e{exponent}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn list(text: &str) -> ListPrice {
        ListPrice::parse(text).unwrap()
    }

    #[test]
    fn every_digit_of_the_file_is_kept() {
        for (text, shown, price, per) in [
            ("1.5000999999999998e-07", "0.00000015000999999999998", "0.15000999999999998", "1000000"),
            ("2.5e-07", "0.00000025", "0.25", "1000000"),
            ("0", "0", "0", "1000000"),
            ("0.0", "0", "0", "1000000"),
            ("3E-6", "0.000003", "3", "1000000"),
            ("0.135", "0.135", "135000", "1000000"),
        ] {
            assert_eq!(list(text).to_string(), shown);
            let (unit_price, size) = list(text).row(1_000_000).unwrap();
            assert_eq!((unit_price.to_string().as_str(), size.to_string().as_str()), (price, per), "{text}");
            assert_eq!(ListPrice::of_row(unit_price, size), Some(list(text)));
        }
        let (unit_price, size) = list("0.04").row(1).unwrap();
        assert_eq!((unit_price.to_string(), size.to_string()), ("0.04".to_owned(), "1".to_owned()));
        // Too fine for one image: stated for a million.
        let (unit_price, size) = list("1.23456789012345678e-4").row(1).unwrap();
        assert_eq!((unit_price.to_string(), size.to_string()), ("123.456789012345678".to_owned(), "1000000".to_owned()));
    }

    #[test]
    fn what_cannot_be_kept_is_refused() {
        assert!(matches!(ListPrice::parse("1e-25"), Err(NumberError::TooFine { .. })));
        assert!(matches!(ListPrice::parse("1e20"), Err(NumberError::TooLarge { .. })));
        for text in ["", "x", "1e", "1e99999999999", "NaN", "1,5"] {
            assert!(matches!(ListPrice::parse(text), Err(NumberError::Malformed { .. })), "{text}");
        }
        assert!(ListPrice::factor("1.0000001").is_err());
    }

    #[test]
    fn factors_are_exact() {
        let factor = ListPrice::factor("1.1").unwrap();
        assert_eq!(list("2.5e-06").times(factor), Some(list("2.75e-06")));
        assert_eq!(list("1e-24").times(factor), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]
        #[test]
        fn a_row_gives_the_price_back(units in 0_i128..10_i128.pow(26), per in prop::sample::select(vec![1_u64, 1_000, 1_000_000])) {
            let price = ListPrice(units);
            let (unit_price, size) = price.row(per).unwrap();
            prop_assert_eq!(ListPrice::of_row(unit_price, size), Some(price));
            prop_assert_eq!(ListPrice::parse(&price.to_string()), Ok(price));
        }
    }
}
