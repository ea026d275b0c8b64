//! What imported prices are paid for: one meter for each kind of usage, and how events state it. It knows no price.
//!
//! Kinds of tokens are disjoint. An event of type `llm.request` states `input_tokens` and `output_tokens`, and beside them the kinds that
//! add up to them; whatever is counted by something else than tokens has an event type of its own.

use std::collections::BTreeMap;

use shared_types::{IdError, MeterId, UnitId};

use crate::document::{Aggregation, Meter, Negative, Unit};

/// Dimension by which long requests are told apart: all input tokens of the request, cached ones included.
pub const CONTEXT: &str = "context_tokens";
/// Dimension of embedded videos: seconds between the frames that are read.
pub const INTERVAL: &str = "interval_seconds";
/// Dimension of searches: results asked for.
pub const RESULTS: &str = "max_results";
/// The event type of requests to language models.
pub const REQUEST: &str = "llm.request";

/// One kind of usage.
#[derive(Clone, Copy, Debug)]
pub struct Measure {
    /// First part of the ids of its SKUs.
    pub code: &'static str,
    /// The meter.
    pub meter: &'static str,
    /// What is counted.
    pub unit: &'static str,
    /// How many units its prices pay for.
    pub per: u64,
    /// Where the value stands in `data`.
    pub value: &'static str,
    /// The total that it is a part of, for kinds of tokens.
    pub part_of: Option<&'static str>,
    /// A dimension beyond the usual ones.
    pub dimension: Option<&'static str>,
    /// For people.
    pub label: &'static str,
}

const MILLION: u64 = 1_000_000;

const fn input(code: &'static str, meter: &'static str, value: &'static str, label: &'static str) -> Measure {
    Measure { code, meter, unit: "token", per: MILLION, value, part_of: Some("input_tokens"), dimension: None, label }
}

const fn output(code: &'static str, meter: &'static str, value: &'static str, label: &'static str) -> Measure {
    Measure { code, meter, unit: "token", per: MILLION, value, part_of: Some("output_tokens"), dimension: None, label }
}

const fn other(code: &'static str, meter: &'static str, unit: &'static str, per: u64, label: &'static str) -> Measure {
    Measure { code, meter, unit, per, value: "quantity", part_of: None, dimension: None, label }
}

const fn by(dimension: &'static str, measure: Measure) -> Measure {
    Measure { dimension: Some(dimension), ..measure }
}

/// Every kind of usage. The event type of a kind without a total is `llm.` and the meter's name.
pub const MEASURES: &[Measure] = &[
    input("input", "tokens.input", "input_uncached", "input tokens"),
    input("cache_read", "tokens.cache_read", "input_cache_read", "input tokens read from the cache"),
    input("cache_write_5m", "tokens.cache_write_5m", "input_cache_write_5m", "input tokens written to the cache"),
    input("cache_write_1h", "tokens.cache_write_1h", "input_cache_write_1h", "input tokens written to the cache for an hour"),
    input("input_audio", "tokens.input_audio", "input_audio", "audio input tokens"),
    input("cache_read_audio", "tokens.cache_read_audio", "input_cache_read_audio", "audio input tokens read from the cache"),
    input("cache_write_audio", "tokens.cache_write_audio", "input_cache_write_audio", "audio input tokens written to the cache"),
    input("input_image", "tokens.input_image", "input_image", "image input tokens"),
    input("cache_read_image", "tokens.cache_read_image", "input_cache_read_image", "image input tokens read from the cache"),
    output("output", "tokens.output", "output_text", "output tokens"),
    output("reasoning", "tokens.reasoning", "output_reasoning", "reasoning tokens"),
    output("output_audio", "tokens.output_audio", "output_audio", "audio output tokens"),
    output("output_image", "tokens.output_image", "output_image", "image output tokens"),
    output("output_video", "tokens.output_video", "output_video", "video output tokens"),
    other("citations", "tokens.citations", "token", MILLION, "citation tokens"),
    other("images_input", "images.input", "image", 1, "input images"),
    other("images_output", "images.output", "image", 1, "output images"),
    other("pixels_input", "pixels.input", "pixel", MILLION, "input pixels"),
    other("pixels_output", "pixels.output", "pixel", MILLION, "output pixels"),
    other("characters_input", "characters.input", "character", MILLION, "input characters"),
    other("characters_output", "characters.output", "character", MILLION, "output characters"),
    other("seconds_input", "seconds.input", "second", 1, "seconds of input"),
    by("resolution", other("seconds_output", "seconds.output", "second", 1, "seconds of output")),
    other("audio_seconds_input", "seconds.audio_input", "second", 1, "seconds of audio input"),
    by(INTERVAL, other("video_seconds_input", "seconds.video_input", "second", 1, "seconds of video input")),
    other("video_seconds_output", "seconds.video_output", "second", 1, "seconds of video output"),
    by(RESULTS, other("queries", "queries", "call", 1, "queries")),
    other("requests", "requests", "call", 1, "requests"),
    by("search_context_size", other("web_searches", "web_searches", "call", 1, "web searches")),
    other("code_sessions", "code_sessions", "call", 1, "sessions of the code interpreter"),
    other("ocr_pages", "pages.ocr", "page", 1, "pages read"),
    other("annotated_pages", "pages.annotated", "page", 1, "pages annotated"),
    other("ocr_credits", "credits.ocr", "credit", 1, "credits for pages read"),
];

/// Units with what one of them is. Seconds and credits can be split, the others cannot.
const UNITS: &[(&str, &str, u32)] = &[
    ("token", "One token read or written by a model", 0),
    ("image", "One image read or made by a model", 0),
    ("pixel", "One pixel of an image", 0),
    ("character", "One character read or written by a model", 0),
    ("second", "One second of audio, video or held throughput", 9),
    ("call", "One call", 0),
    ("page", "One page of a document", 0),
    ("credit", "One credit of the provider", 9),
];

/// The measure of a code.
pub fn measure(code: &str) -> Option<&'static Measure> {
    MEASURES.iter().find(|measure| measure.code == code)
}

impl Measure {
    /// The type of the events that state it.
    pub fn event_type(&self) -> String {
        if self.part_of.is_some() { REQUEST.to_owned() } else { format!("llm.{}", self.meter) }
    }

    /// The meter as a document.
    pub(super) fn document(&self) -> Result<Meter, IdError> {
        // The context of a request is its input; other events carry it along.
        let context = if self.part_of.is_some() { "input_tokens" } else { CONTEXT };
        let usual = [("model", "model"), ("service_tier", "service_tier"), ("inference_region", "inference_region"), ("speed", "speed")];
        let more = self.dimension.map(|name| (name, name));
        let dimensions = usual.into_iter().chain([(CONTEXT, context)]).chain(more);
        Ok(Meter {
            billable: None,
            zone: Meter::UTC.to_owned(),
            recurring_from: None,
            recurring_until: None,
            id: MeterId::parse(self.meter)?,
            event_type: self.event_type(),
            aggregation: Aggregation::Sum,
            value: Some(self.value.to_owned()),
            unit: UnitId::parse(self.unit)?,
            dimensions: dimensions.map(|(name, path)| (name.to_owned(), path.to_owned())).collect::<BTreeMap<_, _>>(),
            negative: Negative::Quarantine,
            part_of: self.part_of.map(str::to_owned),
        })
    }
}

/// Units as documents.
pub(super) fn units() -> Result<Vec<Unit>, IdError> {
    UNITS
        .iter()
        .map(|(id, description, scale)| Ok(Unit { id: UnitId::parse(id)?, description: Some((*description).to_owned()), scale: *scale }))
        .collect()
}
