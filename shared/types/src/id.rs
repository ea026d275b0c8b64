//! Names that other systems mint: organizations, projects, meters, prices. Validated once, cheap to clone.
//! They carry no meaning here beyond being distinct types.

use std::fmt;
use std::sync::Arc;

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} {value:?} is not 1 to 128 characters of A-Z a-z 0-9 . _ : / @ -")]
pub struct IdError {
    /// Which id was expected, for example `organization`.
    pub kind: &'static str,
    /// The refused text, cut to 160 characters.
    pub value: String,
}

fn valid(text: &str) -> bool {
    (1..=128).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._:/@-".contains(&byte))
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Takes 1 to 128 characters of `A-Z a-z 0-9 . _ : / @ -`; anything else is refused by name.
            pub fn parse(text: &str) -> Result<Self, IdError> {
                if valid(text) {
                    Ok(Self(Arc::from(text)))
                } else {
                    Err(IdError { kind: $kind, value: text.chars().take(160).collect() })
                }
            }

            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }

        impl std::str::FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::parse(text)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Self::parse(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}

id!(
    /// The customer that owes money.
    OrganizationId, "organization"
);
id!(
    /// A sub-account of an organization.
    ProjectId, "project"
);
id!(
    /// Who sends events.
    SourceId, "source"
);
id!(
    /// How a quantity is read from events.
    MeterId, "meter"
);
id!(
    /// What a quantity counts, for example `token`.
    UnitId, "unit"
);
id!(
    /// What is sold.
    SkuId, "sku"
);
id!(
    /// One row of a price book.
    PriceId, "price"
);
id!(
    /// The agreement under which an organization pays.
    ContractId, "contract"
);
id!(
    /// What amounts are counted in: a currency or a credit unit.
    AssetId, "asset"
);
