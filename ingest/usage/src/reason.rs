//! Why something was quarantined: a closed list with stable codes.

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $code:literal,)*) => {
        /// Why an event or a reading was quarantined.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason {
            $($(#[$doc])* $name,)*
        }

        impl Reason {
            /// Every reason.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Stable code, for example `invalid_quantity`.
            pub fn code(self) -> &'static str {
                match self {
                    $(Self::$name => $code,)*
                }
            }

            /// The reason of a code.
            pub fn from_code(code: &str) -> Option<Self> {
                match code {
                    $($code => Some(Self::$name),)*
                    _ => None,
                }
            }
        }
    };
}

reasons! {
    /// The record is not a JSON object in UTF-8.
    Unparseable = "unparseable",
    /// A required field of the envelope is missing.
    MissingField = "missing_field",
    /// A field of the envelope has a value it cannot have.
    InvalidField = "invalid_field",
    /// The interval ends before it starts.
    InvalidInterval = "invalid_interval",
    /// Usage further in the future than clocks can differ.
    FarFuture = "far_future",
    /// No meter reads events of this type.
    UnknownType = "unknown_type",
    /// The meter's value is absent from the event.
    MissingQuantity = "missing_quantity",
    /// The meter's value is not a decimal number.
    InvalidQuantity = "invalid_quantity",
    /// The meter's value has more than nine decimal places.
    QuantityTooFine = "quantity_too_fine",
    /// The meter's value has more than 29 digits before the decimal point.
    QuantityTooLarge = "quantity_too_large",
    /// The meter takes no negative values.
    NegativeQuantity = "negative_quantity",
    /// Parts of a total do not add up to it.
    PartsDiffer = "parts_differ",
    /// A dimension that the meter needs is absent or not text.
    InvalidDimension = "invalid_dimension",
    /// A state that the meter's billable states do not know.
    UnknownState = "unknown_state",
    /// No contract covers the organization at that time.
    NoContract = "no_contract",
    /// No price covers the reading at that time.
    Unpriced = "unpriced",
    /// The amount of its key would leave the range of the asset.
    AmountOverflow = "amount_overflow",
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.code())
    }
}
