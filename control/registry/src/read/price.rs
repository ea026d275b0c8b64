//! Price models: their fields, tiers, conversions and allowances. It does not know meters, units or other documents.

use shared_types::{NumberError, Price, Quantity};
use toml::de::DeValue;

use super::field::plain;
use super::{Field, Reader, Table};
use crate::compile::one;
use crate::document::{AppliesTo, BlockTier, Convert, Percentage, PriceModel, RoundTo, Tier};
use crate::problem::At;

/// Every model that a price can name.
pub(super) const MODELS: [&str; 9] =
    ["per_unit", "package", "graduated", "volume", "blocks", "top_blocks", "percentage", "graduated_percentage", "free"];

/// Models that rating knows and live usage cannot use yet: the model and what it waits for.
const MODELS_NOT_LIVE: &[(&str, &str)] = &[
    ("flat", "a fee of every service period is no price of usage: write it as [[contract.recurring]]"),
    (
        "capacity",
        "give each meter's peak a volume price with flat fees, and the contract a [[contract.term]] with kind = \"capacity\" over their SKUs",
    ),
];

/// Fields of a price that rating knows and live usage cannot honour yet.
const PRICE_NOT_LIVE: &[(&str, &str)] = &[
    ("first_fee", "the first tier's flat fee falls due with the first usage: write a fee without usage as [[contract.recurring]]"),
    ("progressive", "a price is charged as usage comes, never at the close alone"),
];

/// What others write as fields of a contract and is a term here: the field and what to write instead.
pub(super) const CONTRACT_TERMS: &[(&str, &str)] = &[
    ("minimum_spend", "write a [[contract.term]] with kind = \"minimum_spend\" and amount"),
    ("maximum_spend", "write a [[contract.term]] with kind = \"maximum_spend\" and amount"),
    ("discount_percent", "write a [[contract.term]] with kind = \"discount\" and percent, or kind = \"graduated_discount\" and tiers"),
    ("commitment", "write a [[contract.term]] with kind = \"commitment\", amount and true_up"),
    ("capacity", "write a [[contract.term]] with kind = \"capacity\" and skus"),
];

/// What others write as fields of a contract and stands with a price here.
pub(super) const CONTRACT_PRICES: &[(&str, &str)] = &[(
    "window_commitment",
    "write window_commitment = { amount = \"10\", overage_factor = \"1.5\", true_up = \"owed_when_used\" } in the [[price_book.price]]",
)];

impl Reader<'_> {
    /// Names fields that are understood and cannot be honoured; they are not called unknown besides.
    pub(super) fn not_live(&mut self, table: &Table<'_, '_>, fields: &[(&str, &str)]) {
        for (field, waits) in fields {
            if let Some(value) = table.members.get(*field) {
                let at = self.at(value.span().start);
                self.findings.add(at, format!("{field} of {} is not live yet", table.name), format!("leave it out: {waits}"));
            }
        }
    }

    /// Names fields that are something else here, and what.
    pub(super) fn elsewhere(&mut self, table: &Table<'_, '_>, fields: &[(&str, &str)], what: &str) {
        for (field, instead) in fields {
            if let Some(value) = table.members.get(*field) {
                let at = self.at(value.span().start);
                self.findings.add(at, format!("{field} is no field of {}, but {what}", table.name), *instead);
            }
        }
    }

    /// The model of a price, with what is done before it.
    pub(super) fn price_model(&mut self, table: &Table<'_, '_>, model: &str, at: At) -> Option<PriceModel> {
        if let Some((name, waits)) = MODELS_NOT_LIVE.iter().find(|(name, _)| *name == model) {
            let message = format!("price model {name:?} of {} is not live yet", table.name);
            self.findings.add(at, message, format!("use another model: {waits}"));
            return None;
        }
        let fields: &[&str] = match model {
            "per_unit" => &["per", "unit_price", "convert", "free_units", "applies_to", "window_commitment"],
            "package" => &["size", "package_price", "convert", "free_units", "applies_to", "window_commitment"],
            "graduated" | "volume" => &["per", "tiers", "convert", "free_units", "applies_to", "window_commitment"],
            "blocks" | "top_blocks" => &["tiers", "convert", "free_units", "applies_to", "window_commitment"],
            "percentage" => &["rate", "fee", "least", "most", "free_readings", "free_value"],
            "graduated_percentage" => &["tiers"],
            "free" => &["rule"],
            _ => {
                let hint = self.findings.hint(model, MODELS);
                let remedy = format!("{hint}the models are {}", MODELS.join(", "));
                self.findings.add(at, format!("unknown price model {model:?}"), remedy);
                return None;
            }
        };
        self.not_live(table, PRICE_NOT_LIVE);
        self.only_but(table, &[&["id", "sku", "effective_at", "model"], fields].concat(), PRICE_NOT_LIVE);
        let read = self.model_of(table, model);
        if !fields.contains(&"convert") {
            return read;
        }
        let (convert, free_units) = (self.convert(table), self.zero_or_more(table, "free_units"));
        let applies_to = self.word(table, "applies_to", AppliesTo::WORDS);
        let applies_at = if let Field::Good(_, at) = &applies_to { *at } else { table.at };
        let applies_to = self.or(applies_to, AppliesTo::Period);
        let commitment = self.window_commitment(table);
        let (read, convert, free_units, applies_to) = (read?, convert?, free_units?, applies_to?);
        if applies_to == AppliesTo::EachEvent && convert.as_ref().is_some_and(|convert| convert.rounding == RoundTo::None) {
            let message = format!("{} converts each event without rounding", table.name);
            self.findings.add(applies_at, message, "name a rounding in convert, for example rounding = \"ceiling\"");
            return None;
        }
        let adjusted = match (convert, free_units, applies_to) {
            (None, Quantity::ZERO, AppliesTo::Period) => read,
            (convert, free_units, applies_to) => PriceModel::Adjusted { convert, free_units, applies_to, model: Box::new(read) },
        };
        Some(match commitment? {
            Some(commitment) => PriceModel::Committed { commitment, model: Box::new(adjusted) },
            None => adjusted,
        })
    }

    fn model_of(&mut self, table: &Table<'_, '_>, model: &str) -> Option<PriceModel> {
        match model {
            "per_unit" => {
                let (per, unit_price) = (self.per(table), self.money(table, "unit_price"));
                Some(PriceModel::PerUnit { per: per?, unit_price: unit_price? })
            }
            "package" => {
                let size = self.above_zero(table, "size");
                let size = self.required(table, size, "size", "say how many units a package holds, for example size = \"1000\"");
                let package_price = self.money(table, "package_price");
                Some(PriceModel::Package { size: size?, package_price: package_price? })
            }
            "graduated" | "volume" => {
                let (per, tiers) = (self.per(table), self.priced_tiers(table, "unit_price"));
                let (per, tiers) = (per?, tiers?);
                Some(if model == "volume" { PriceModel::Volume { per, tiers } } else { PriceModel::Graduated { per, tiers } })
            }
            "blocks" => Some(PriceModel::Blocks { tiers: self.block_tiers(table)? }),
            "top_blocks" => Some(PriceModel::TopBlocks { tiers: self.block_tiers(table)? }),
            "percentage" => self.percentage(table).map(PriceModel::Percentage),
            "graduated_percentage" => Some(PriceModel::GraduatedPercentage { tiers: self.priced_tiers(table, "rate")? }),
            _ => {
                let rule = self.required_text(table, "rule", "name the rule that makes it free, for example rule = \"launch-promotion\"");
                let rule = rule.and_then(|rule| self.plain_name(table, "rule", rule));
                Some(PriceModel::Free { rule: rule? })
            }
        }
    }

    fn percentage(&mut self, table: &Table<'_, '_>) -> Option<Percentage> {
        let rate = self.price_field(table, "rate");
        let rate = self.required(table, rate, "rate", "write the rate in percent, for example rate = \"2.9\"");
        let fee = self.price_field(table, "fee");
        let fee = self.or(fee, Price::ZERO);
        let (least, most) = (self.price_field(table, "least"), self.price_field(table, "most"));
        let bounds_at = if let Field::Good(_, at) = &most { *at } else { table.at };
        let (least, most) = (self.optional(least), self.optional(most));
        let free_readings = self.whole(table, "free_readings");
        let free_value = self.zero_or_more(table, "free_value");
        let (least, most) = (least?, most?);
        if least.zip(most).is_some_and(|(least, most)| least > most) {
            self.findings.add(bounds_at, format!("most of {} is below its least", table.name), "write the smaller one as least");
            return None;
        }
        Some(Percentage { rate: rate?, fee: fee?, least, most, free_readings: free_readings?, free_value: free_value? })
    }

    /// A whole number of at most 18 digits, zero unless given.
    fn whole(&mut self, table: &Table<'_, '_>, name: &str) -> Option<Quantity> {
        let units = one().units();
        match self.quantity(table, name) {
            Field::Good(number, at)
                if number < Quantity::ZERO || number.units() % units != 0 || number.units() / units >= 10_i128.pow(18) =>
            {
                self.findings.add(at, format!("{name} of {} is {number}, not a count", table.name), "write a whole number, zero or more");
                None
            }
            field => self.or(field, Quantity::ZERO),
        }
    }

    /// A quantity that is not below zero, zero unless given.
    fn zero_or_more(&mut self, table: &Table<'_, '_>, name: &str) -> Option<Quantity> {
        match self.quantity(table, name) {
            Field::Good(quantity, at) if quantity < Quantity::ZERO => {
                self.findings.add(at, format!("{name} of {} is {quantity}, below zero", table.name), "write zero or more, or leave it out");
                None
            }
            field => self.or(field, Quantity::ZERO),
        }
    }

    /// `convert = { divide = "1000", rounding = "ceiling" }`; none when left out.
    fn convert(&mut self, table: &Table<'_, '_>) -> Option<Option<Convert>> {
        let Some(value) = table.members.get("convert") else { return Some(None) };
        let at = self.at(value.span().start);
        let DeValue::Table(members) = value.get_ref() else {
            let remedy = "write convert = { divide = \"1000\", rounding = \"ceiling\" }";
            self.findings.add(at, format!("convert of {} is not a table", table.name), remedy);
            return None;
        };
        let inner = Table { members, at, name: format!("the conversion of {}", table.name) };
        self.only(&inner, &["multiply", "divide", "rounding", "places"]);
        let multiply = self.above_zero(&inner, "multiply");
        let multiply = self.or(multiply, one());
        let divide = self.above_zero(&inner, "divide");
        let divide = self.or(divide, one());
        let rounding = self.word(&inner, "rounding", RoundTo::WORDS);
        let rounding = self.or(rounding, RoundTo::None);
        let places =
            self.parsed(&inner, "places", whole_number, |_| "write a whole number in quotes, for example places = \"2\"".to_owned());
        let places = match places {
            Field::Good(places, at) if !(-20..=9).contains(&places) => {
                self.findings.add(at, format!("places of {} is {places}, not between -20 and 9", inner.name), "write fewer places");
                None
            }
            places => self.or(places, 0),
        };
        Some(Some(Convert { multiply: multiply?, divide: divide?, rounding: rounding?, places: places? }))
    }

    fn priced_tiers(&mut self, table: &Table<'_, '_>, rate: &str) -> Option<Vec<Tier>> {
        let example = format!("tiers = [{{ up_to = \"1000\", {rate} = \"2\" }}, {{ {rate} = \"1\" }}]");
        self.tiers(table, &example, |reader, tier, up_to| {
            reader.only(tier, &["up_to", rate, "flat_fee"]);
            let unit_price = reader.money(tier, rate);
            let flat_fee = reader.price_field(tier, "flat_fee");
            let flat_fee = reader.or(flat_fee, Price::ZERO);
            Some(Tier { up_to: up_to?, unit_price: unit_price?, flat_fee: flat_fee? })
        })
    }

    fn block_tiers(&mut self, table: &Table<'_, '_>) -> Option<Vec<BlockTier>> {
        let example = "tiers = [{ up_to = \"1000\", size = \"100\", block_price = \"2\" }, { size = \"1000\", block_price = \"1\" }]";
        self.tiers(table, example, |reader, tier, up_to| {
            reader.only(tier, &["up_to", "size", "block_price"]);
            let size = reader.above_zero(tier, "size");
            let size = reader.required(tier, size, "size", "say how many units a block holds, for example size = \"100\"");
            let block_price = reader.money(tier, "block_price");
            Some(BlockTier { up_to: up_to?, size: size?, block_price: block_price? })
        })
    }

    /// A list of tiers with rising bounds; `read` reads the rest of one.
    pub(super) fn tiers<T>(
        &mut self,
        table: &Table<'_, '_>,
        example: &str,
        mut read: impl FnMut(&mut Self, &Table<'_, '_>, Option<Option<Quantity>>) -> Option<T>,
    ) -> Option<Vec<T>> {
        let rows = self.tables(table, "tiers", example)?;
        if rows.is_empty() {
            return self.required(table, Field::Absent, "tiers", &format!("write at least one tier: {example}"));
        }
        let last = rows.len() - 1;
        let mut bound = Quantity::ZERO;
        let mut tiers = Some(Vec::new());
        for (number, (members, at)) in rows.into_iter().enumerate() {
            let tier = Table { members, at, name: format!("tier {} of {}", number + 1, table.name) };
            let up_to = self.quantity(&tier, "up_to");
            let up_to = self.bound(&tier, up_to, number == last, &mut bound);
            let read = read(self, &tier, up_to);
            tiers = tiers.zip(read).map(|(mut tiers, tier)| {
                tiers.push(tier);
                tiers
            });
        }
        tiers
    }

    /// A tier's bound: above the one before, absent in the last tier only.
    fn bound(&mut self, tier: &Table<'_, '_>, up_to: Field<Quantity>, last: bool, bound: &mut Quantity) -> Option<Option<Quantity>> {
        match (up_to, last) {
            (Field::Wrong, _) => None,
            (Field::Absent, true) => Some(None),
            (Field::Absent, false) => {
                let remedy = "only the last tier is open: give this one its upper bound, for example up_to = \"1000\"";
                self.required(tier, Field::Absent, "up_to", remedy)
            }
            (Field::Good(_, at), true) => {
                let remedy = "remove up_to, or add a tier without up_to: usage beyond the last bound needs a price";
                self.findings.add(at, format!("{} is the last one and ends", tier.name), remedy);
                None
            }
            (Field::Good(up_to, at), false) if up_to <= *bound => {
                let message = format!("up_to of {} is {up_to}, not above {bound}", tier.name);
                self.findings.add(at, message, "write the tiers by rising bounds");
                None
            }
            (Field::Good(up_to, _), false) => {
                *bound = up_to;
                Some(Some(up_to))
            }
        }
    }
}

/// `-?digits`, and no minus before zero.
fn whole_number(text: &str) -> Result<i32, NumberError> {
    let refused = || NumberError::Malformed { value: text.chars().take(80).collect() };
    plain::<Quantity>(text).and_then(|_| text.parse().map_err(|_| refused()))
}
