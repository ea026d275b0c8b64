//! The gate for prices that come from elsewhere: it holds what is probably a slip, with reasons that a person can read. It changes no
//! price and remembers nothing: what a person released is in the book, and the book is what the next prices are compared with.
//!
//! Public price lists slip by powers of ten: a price per thousand or per million tokens in the place of one per token, a point in the
//! wrong place, the price of another kind of token. So the gate looks at ratios: to the price before, between the prices of one model, and
//! to the same model elsewhere; and at absolute amounts that no price of its kind has. The bounds are the constants below; they were fitted
//! on the first half of a history of 640 versions of a public list and are measured on the second (`docs/guide/registry.md`).

mod family;
mod judge;
mod reason;

pub use family::{Market, base_name};
pub use judge::judge;
pub(crate) use reason::what;
pub use reason::{Reason, Rule};

use crate::import::{ListPrice, Stated};

/// A price that changed by this factor or more is held.
pub const CHANGE_FACTOR: i128 = 8;
/// An input token for this much or more, in dollars for a million, is no price per token.
pub const INPUT_USD_PER_MILLION: i128 = 100;
/// An output token for this much or more, in dollars for a million.
pub const OUTPUT_USD_PER_MILLION: i128 = 400;
/// A token of audio, images or video for this much or more, in dollars for a million.
pub const MEDIA_USD_PER_MILLION: i128 = 1000;
/// Anything else (an image, a second, a call) for this many dollars or more.
pub const OTHER_USD: i128 = 10;
/// Output at this many times the input price, or more.
pub const OUTPUT_TO_INPUT: i128 = 25;
/// Input at this many hundredths of the output price, or more: some models cost the same both ways, hardly any costs more to read.
pub const INPUT_TO_OUTPUT_HUNDREDTHS: i128 = 105;
/// A cache write at more than this many times the input price.
pub const CACHE_WRITE_TO_INPUT: i128 = 3;
/// Reasoning at more than this many times the output price, or the other way round.
pub const REASONING_TO_OUTPUT: i128 = 10;
/// Text input at more than this many times the price of audio input.
pub const INPUT_TO_AUDIO: i128 = 2;
/// A price of a tier or of long requests at more than this many times the usual price, or the other way round.
pub const VARIANT_FACTOR: i128 = 10;
/// This many times the price of the same model elsewhere, or more.
pub const ABOVE_OTHERS: i128 = 20;
/// The same model elsewhere at this many times the price, or more: some providers undercut by far.
pub const BELOW_OTHERS: i128 = 50;
/// The same model must be sold under so many other names before they are compared.
pub const OTHERS_LEAST: usize = 2;

/// A price of a model as it is offered now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// What is stated.
    pub stated: Stated,
    /// What was paid before; none for a new price.
    pub before: Option<ListPrice>,
}

impl Offer {
    /// Whether there is anything to judge.
    pub fn is_new(&self) -> bool {
        self.before != Some(self.stated.price)
    }
}

/// An offer that waits for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Index of the offer.
    pub offer: usize,
    /// Why, at least one.
    pub reasons: Vec<Reason>,
}
