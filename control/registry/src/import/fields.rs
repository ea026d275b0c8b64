//! Every field of the price map and what becomes of it: a price on a meter, a factor, refused with a reason, or no price at all.
//! It does not read the map; a field that stands in no row here stops the import.

use super::measures::{CONTEXT, INTERVAL, Measure, measure};

/// One field of the map.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Its name, for example `input_cost_per_token`.
    pub name: &'static str,
    /// What it says.
    pub meaning: Meaning,
}

/// What a field says.
#[derive(Clone, Copy, Debug)]
pub enum Meaning {
    /// A price.
    Price(Term),
    /// A list of ranges of a dimension, each with prices of its own; the members are fields themselves.
    Ranges,
    /// A price for each value of `search_context_size`.
    BySearchContext(&'static str),
    /// A factor on every price of the model where this dimension has this value.
    Factor {
        /// The dimension.
        dimension: &'static str,
        /// Its value.
        value: &'static str,
    },
    /// Factors by short names.
    Factors,
    /// A price or a condition of one that is not expressed, and why.
    Refused(&'static str),
    /// Nothing about money.
    Description,
}

/// What a price field prices.
#[derive(Clone, Copy, Debug)]
pub struct Term {
    /// Code of the [`Measure`].
    pub code: &'static str,
    /// The service tier.
    pub tier: Tier,
    /// It holds for requests whose dimension lies above this bound.
    pub above: Option<(&'static str, u64)>,
    /// Dimension value that it holds for.
    pub only: Option<(&'static str, &'static str)>,
}

impl Term {
    /// The measure.
    pub fn measure(&self) -> Option<&'static Measure> {
        measure(self.code)
    }
}

/// How a request is served: what an event says in `service_tier`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// As usual.
    Standard,
    /// Faster than usual.
    Priority,
    /// When there is room.
    Flex,
    /// In a batch, within a day.
    Batch,
}

impl Tier {
    /// The value of the dimension.
    pub fn name(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::Priority => "priority",
            Self::Flex => "flex",
            Self::Batch => "batch",
        }
    }
}

/// The row of a field.
pub fn field(name: &str) -> Option<&'static Field> {
    FIELDS.iter().find(|field| field.name == name).or_else(|| name.starts_with("supports_").then_some(&SUPPORTS))
}

/// `supports_*` are abilities of a model, and new ones come every month.
const SUPPORTS: Field = Field { name: "supports_*", meaning: Meaning::Description };

const fn price(name: &'static str, code: &'static str) -> Field {
    Field { name, meaning: Meaning::Price(Term { code, tier: Tier::Standard, above: None, only: None }) }
}

const fn tiered(name: &'static str, code: &'static str, tier: Tier) -> Field {
    Field { name, meaning: Meaning::Price(Term { code, tier, above: None, only: None }) }
}

const fn long(name: &'static str, code: &'static str, bound: u64) -> Field {
    long_tiered(name, code, bound, Tier::Standard)
}

const fn long_tiered(name: &'static str, code: &'static str, bound: u64, tier: Tier) -> Field {
    Field { name, meaning: Meaning::Price(Term { code, tier, above: Some((CONTEXT, bound)), only: None }) }
}

const fn interval(name: &'static str, code: &'static str, bound: u64) -> Field {
    Field { name, meaning: Meaning::Price(Term { code, tier: Tier::Standard, above: Some((INTERVAL, bound)), only: None }) }
}

const fn refused(name: &'static str, why: &'static str) -> Field {
    Field { name, meaning: Meaning::Refused(why) }
}

const fn description(name: &'static str) -> Field {
    Field { name, meaning: Meaning::Description }
}

const DBU: &str = "Databricks units are no currency; the same model states its price in USD per token";
const SPECIMEN: &str = "only the map's specimen entry has it, with the price zero: there is nothing to check a meaning against";
const SIZES: &str = "image sizes and qualities overlap and the map does not say which wins; no model of the present map has it";

/// Every known field, money first.
pub const FIELDS: &[Field] = &[
    // Input tokens.
    price("input_cost_per_token", "input"),
    long("input_cost_per_token_above_128k_tokens", "input", 128_000),
    long("input_cost_per_token_above_200k_tokens", "input", 200_000),
    long("input_cost_per_token_above_256k_tokens", "input", 256_000),
    long("input_cost_per_token_above_272k_tokens", "input", 272_000),
    long("input_cost_per_token_above_512k_tokens", "input", 512_000),
    long_tiered("input_cost_per_token_above_200k_tokens_priority", "input", 200_000, Tier::Priority),
    long_tiered("input_cost_per_token_above_272k_tokens_priority", "input", 272_000, Tier::Priority),
    tiered("input_cost_per_token_batches", "input", Tier::Batch),
    tiered("input_cost_per_token_flex", "input", Tier::Flex),
    tiered("input_cost_per_token_priority", "input", Tier::Priority),
    price("input_cost_per_audio_token", "input_audio"),
    tiered("input_cost_per_audio_token_priority", "input_audio", Tier::Priority),
    price("input_cost_per_image_token", "input_image"),
    // Cached input tokens. The first name is DeepSeek's, for the same thing.
    price("input_cost_per_token_cache_hit", "cache_read"),
    price("cache_read_input_token_cost", "cache_read"),
    long("cache_read_input_token_cost_above_200k_tokens", "cache_read", 200_000),
    long("cache_read_input_token_cost_above_272k_tokens", "cache_read", 272_000),
    long("cache_read_input_token_cost_above_512k_tokens", "cache_read", 512_000),
    long_tiered("cache_read_input_token_cost_above_200k_tokens_priority", "cache_read", 200_000, Tier::Priority),
    long_tiered("cache_read_input_token_cost_above_272k_tokens_priority", "cache_read", 272_000, Tier::Priority),
    tiered("cache_read_input_token_cost_batches", "cache_read", Tier::Batch),
    tiered("cache_read_input_token_cost_flex", "cache_read", Tier::Flex),
    tiered("cache_read_input_token_cost_priority", "cache_read", Tier::Priority),
    price("cache_read_input_audio_token_cost", "cache_read_audio"),
    price("cache_read_input_token_cost_per_audio_token", "cache_read_audio"),
    price("cache_read_input_image_token_cost", "cache_read_image"),
    price("cache_creation_input_token_cost", "cache_write_5m"),
    long("cache_creation_input_token_cost_above_200k_tokens", "cache_write_5m", 200_000),
    long("cache_creation_input_token_cost_above_272k_tokens", "cache_write_5m", 272_000),
    tiered("cache_creation_input_token_cost_flex", "cache_write_5m", Tier::Flex),
    tiered("cache_creation_input_token_cost_priority", "cache_write_5m", Tier::Priority),
    price("cache_creation_input_token_cost_above_1hr", "cache_write_1h"),
    long("cache_creation_input_token_cost_above_1hr_above_200k_tokens", "cache_write_1h", 200_000),
    price("cache_creation_input_audio_token_cost", "cache_write_audio"),
    // Output tokens.
    price("output_cost_per_token", "output"),
    long("output_cost_per_token_above_128k_tokens", "output", 128_000),
    long("output_cost_per_token_above_200k_tokens", "output", 200_000),
    long("output_cost_per_token_above_256k_tokens", "output", 256_000),
    long("output_cost_per_token_above_272k_tokens", "output", 272_000),
    long("output_cost_per_token_above_512k_tokens", "output", 512_000),
    long_tiered("output_cost_per_token_above_200k_tokens_priority", "output", 200_000, Tier::Priority),
    long_tiered("output_cost_per_token_above_272k_tokens_priority", "output", 272_000, Tier::Priority),
    tiered("output_cost_per_token_batches", "output", Tier::Batch),
    tiered("output_cost_per_token_flex", "output", Tier::Flex),
    tiered("output_cost_per_token_priority", "output", Tier::Priority),
    price("output_cost_per_reasoning_token", "reasoning"),
    price("output_cost_per_audio_token", "output_audio"),
    price("output_cost_per_image_token", "output_image"),
    tiered("output_cost_per_image_token_batches", "output_image", Tier::Batch),
    price("output_cost_per_video_token", "output_video"),
    price("citation_cost_per_token", "citations"),
    // Images, pixels, characters.
    price("input_cost_per_image", "images_input"),
    long("input_cost_per_image_above_128k_tokens", "images_input", 128_000),
    price("output_cost_per_image", "images_output"),
    price("input_cost_per_pixel", "pixels_input"),
    price("output_cost_per_pixel", "pixels_output"),
    price("input_cost_per_character", "characters_input"),
    long("input_cost_per_character_above_128k_tokens", "characters_input", 128_000),
    price("output_cost_per_character", "characters_output"),
    long("output_cost_per_character_above_128k_tokens", "characters_output", 128_000),
    // Seconds.
    price("input_cost_per_second", "seconds_input"),
    price("output_cost_per_second", "seconds_output"),
    Field {
        name: "output_cost_per_second_1080p",
        meaning: Meaning::Price(Term { code: "seconds_output", tier: Tier::Standard, above: None, only: Some(("resolution", "1080p")) }),
    },
    price("input_cost_per_audio_per_second", "audio_seconds_input"),
    long("input_cost_per_audio_per_second_above_128k_tokens", "audio_seconds_input", 128_000),
    price("input_cost_per_video_per_second", "video_seconds_input"),
    long("input_cost_per_video_per_second_above_128k_tokens", "video_seconds_input", 128_000),
    interval("input_cost_per_video_per_second_above_8s_interval", "video_seconds_input", 8),
    interval("input_cost_per_video_per_second_above_15s_interval", "video_seconds_input", 15),
    price("output_cost_per_video_per_second", "video_seconds_output"),
    // Calls.
    price("input_cost_per_query", "queries"),
    price("input_cost_per_request", "requests"),
    Field { name: "search_context_cost_per_query", meaning: Meaning::BySearchContext("web_searches") },
    price("code_interpreter_cost_per_session", "code_sessions"),
    price("ocr_cost_per_page", "ocr_pages"),
    price("ocr_cost_per_credit", "ocr_credits"),
    price("annotation_cost_per_page", "annotated_pages"),
    // Ranges and factors.
    Field { name: "tiered_pricing", meaning: Meaning::Ranges },
    Field { name: "regional_processing_uplift_multiplier_eu", meaning: Meaning::Factor { dimension: "inference_region", value: "eu" } },
    Field { name: "regional_processing_uplift_multiplier_us", meaning: Meaning::Factor { dimension: "inference_region", value: "us" } },
    Field { name: "provider_specific_entry", meaning: Meaning::Factors },
    // Not expressed.
    refused("input_dbu_cost_per_token", DBU),
    refused("output_dbu_cost_per_token", DBU),
    refused("output_db_cost_per_token", DBU),
    refused("input_cost_per_token_batch_requests", "a misspelling of input_cost_per_token_batches that the map has mended"),
    refused("output_cost_per_image_above_512_and_512_pixels", SIZES),
    refused("output_cost_per_image_above_512_and_512_pixels_and_premium_image", SIZES),
    refused("output_cost_per_image_above_1024_and_1024_pixels", SIZES),
    refused("output_cost_per_image_above_1024_and_1024_pixels_and_premium_image", SIZES),
    refused("output_cost_per_image_premium_image", SIZES),
    refused("computer_use_input_cost_per_1k_tokens", SPECIMEN),
    refused("computer_use_output_cost_per_1k_tokens", SPECIMEN),
    refused("file_search_cost_per_1k_calls", SPECIMEN),
    refused("file_search_cost_per_gb_per_day", SPECIMEN),
    refused("vector_store_cost_per_gb_per_day", SPECIMEN),
    // No money.
    description("audio_transcription_config"),
    description("bedrock_converse_supports_strict_tools"),
    description("bedrock_output_config_effort_ceiling"),
    description("comment"),
    description("deprecation_date"),
    description("gemini_audio_only_live"),
    description("gemini_native_audio"),
    description("litellm_provider"),
    description("max_input_tokens"),
    description("max_output_tokens"),
    description("max_tokens"),
    description("metadata"),
    description("mode"),
    description("output_vector_size"),
    description("prompt_cache_min_tokens"),
    description("rpm"),
    description("source"),
    description("supported_endpoints"),
    description("supported_modalities"),
    description("supported_output_modalities"),
    description("supported_regions"),
    description("tpm"),
    description("use_openai_responses_path"),
    description("uses_embed_content"),
    // What one `web_searches` is: a query where it says so, else a request that searched.
    description("web_search_billing_unit"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_price_has_a_measure_and_every_field_one_row() {
        for (at, row) in FIELDS.iter().enumerate() {
            assert!(FIELDS.iter().skip(at + 1).all(|other| other.name != row.name), "{} is there twice", row.name);
            if let Meaning::Price(term) = row.meaning {
                assert!(term.measure().is_some(), "{}", row.name);
            }
            if let Meaning::Refused(why) = row.meaning {
                assert!(why.len() > 20, "{} needs a reason", row.name);
            }
        }
        assert!(field("supports_telepathy").is_some());
        assert!(field("input_cost_per_thought").is_none());
    }
}
