//! What the registries that these tests write have in common: units, and a list of prices in dollars, as text.

/// A unit of each id.
pub fn units(ids: &[&str]) -> String {
    ids.iter().map(|id| format!("[[unit]]\nid = \"{id}\"\n")).collect()
}

/// Dollars rounded to cents, and the price book `list` in dollars: SKUs, each with its price from 2026 on, of one unit or, as in `"3/1000000"`,
/// of so many.
pub fn list(prices: &[(&str, &str)]) -> String {
    let row = |(sku, price): &(&str, &str)| {
        let (price, per) = match price.split_once('/') {
            Some((price, per)) => (price, format!(", per = \"{per}\"")),
            None => (*price, String::new()),
        };
        format!(
            "    {{ sku = \"{sku}\", effective_at = \"2026-01-01T00:00:00Z\", model = \"per_unit\", unit_price = \"{price}\"{per} }},\n"
        )
    };
    let rows: String = prices.iter().map(row).collect();
    format!("[[rounding]]\nasset = \"USD\"\nscale = 2\n[[price_book]]\nid = \"list\"\ncurrency = \"USD\"\nprice = [\n{rows}]\n")
}
