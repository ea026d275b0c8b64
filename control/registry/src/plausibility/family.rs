//! The same model under other names: at other providers, in other regions, with another date. It knows names and prices, no rule.

use std::collections::HashMap;

use crate::import::{ListPrice, Stated, Terms};

/// Prices of all models by what the models are.
#[derive(Clone, Debug, Default)]
pub struct Market {
    families: HashMap<String, HashMap<String, Vec<Stated>>>,
}

impl Market {
    /// Puts a model's prices in the place of what it had; without prices it is gone.
    pub fn put(&mut self, model: &str, prices: Vec<Stated>) {
        let family = self.families.entry(base_name(model)).or_default();
        if prices.is_empty() {
            family.remove(model);
        } else {
            family.insert(model.to_owned(), prices);
        }
    }

    /// What the same model costs under other names for the same thing, zeros left out, ascending.
    pub fn elsewhere(&self, model: &str, terms: &Terms) -> Vec<ListPrice> {
        let others = self.families.get(&base_name(model)).into_iter().flatten().filter(|(name, _)| *name != model);
        let mut prices: Vec<ListPrice> = others
            .filter_map(|(_, prices)| prices.iter().find(|stated| stated.terms.alike(terms)))
            .map(|stated| stated.price)
            .filter(|price| *price > ListPrice::ZERO)
            .collect();
        prices.sort_unstable();
        prices
    }
}

/// The name without provider, region, date and version of the offer: `us.anthropic.claude-sonnet-4-5-20250929-v1:0` is `claude-sonnet-4-5`.
pub fn base_name(model: &str) -> String {
    let lower = model.to_ascii_lowercase();
    let last = lower.rsplit('/').next().unwrap_or_default();
    let mut name = last.split([':', '@']).next().unwrap_or_default();
    while let Some((prefix, rest)) = name.split_once('.') {
        let word = prefix.starts_with(|c: char| c.is_ascii_lowercase()) && prefix.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if !word || !rest.starts_with(|c: char| c.is_ascii_lowercase()) {
            break;
        }
        name = rest;
    }
    let unversioned = name.rsplit_once("-v").filter(|(_, number)| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()));
    let undated = without_dates(unversioned.map_or(name, |(name, _)| name));
    undated.strip_suffix("-latest").unwrap_or(&undated).replace(['.', '_'], "-")
}

/// Leaves out `-20250929` and `-2025-09-29`.
fn without_dates(name: &str) -> String {
    let parts: Vec<&str> = name.split('-').collect();
    let mut kept: Vec<&str> = Vec::with_capacity(parts.len());
    let mut rest = parts.as_slice();
    while let Some((part, after)) = rest.split_first() {
        let digits = |part: &&str, length: usize| part.len() == length && part.bytes().all(|byte| byte.is_ascii_digit());
        let this_era = part.starts_with("19") || part.starts_with("20");
        match after {
            _ if digits(part, 8) && this_era && !kept.is_empty() => rest = after,
            [month, day, after @ ..] if digits(part, 4) && this_era && digits(month, 2) && digits(day, 2) && !kept.is_empty() => {
                rest = after
            }
            _ => {
                kept.push(part);
                rest = after;
            }
        }
    }
    kept.join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_model_has_one_base_name() {
        for (model, name) in [
            ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", "claude-sonnet-4-5"),
            ("vertex_ai/claude-sonnet-4-5@20250929", "claude-sonnet-4-5"),
            ("anthropic/claude-sonnet-4.5", "claude-sonnet-4-5"),
            ("azure_ai/Llama-4-Maverick-17B-128E-Instruct-FP8", "llama-4-maverick-17b-128e-instruct-fp8"),
            ("azure/eu/gpt-4o-realtime-preview-2024-10-01", "gpt-4o-realtime-preview"),
            ("openrouter/qwen/qwen3.5-plus-02-15", "qwen3-5-plus-02-15"),
            ("oci/xai.grok-3", "grok-3"),
            ("gpt-5-chat-latest", "gpt-5-chat"),
            ("mistral/open-mixtral-8x22b", "open-mixtral-8x22b"),
            ("2024", "2024"),
        ] {
            assert_eq!(base_name(model), name, "{model}");
        }
    }
}
