//! Which time of a lease is billed, and at which rate: the rules of a document at work on one event. Time is never rounded here.
//! It knows no price: rates have names.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use shared_types::{Instant, NumberError, OrganizationId, Quantity};

use crate::calendar::{CalendarError, Day, Zone};
use crate::json::{Elements, elements};
use crate::read::{Found, Path, find};
use crate::{Defect, Event, MeterSetError, Reason};

/// Dimension that names the rate of a reading.
pub const RATE: &str = "rate";
/// Dimension that names the session of a reading.
pub const SESSION: &str = "session";
/// Dimension that names the time-of-day band of a reading.
pub const BAND: &str = "band";

/// Most spans of one event.
const SPANS_MAX: usize = 10_000;

/// What one meter bills of leases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BillableStates {
    /// How an event tells states.
    pub told: Told,
    /// Every state that is known.
    pub states: BTreeSet<Arc<str>>,
    /// States that open a session; without any the whole event is one.
    pub start: BTreeSet<Arc<str>>,
    /// States that close a session.
    pub stop: BTreeSet<Arc<str>>,
    /// States of which a session must reach one, and the rate of all of its time when it does not.
    pub never_ready: Option<(BTreeSet<Arc<str>>, Arc<str>)>,
    /// Path of what a session is told by.
    pub session: Option<Arc<str>>,
    /// Whether intervals are cut where local days begin, beside local months.
    pub cut: Cut,
    /// The zone of days, months and bands.
    pub zone: Zone,
    /// Local times of a day in minutes since midnight, rising, and the band that begins there; the last one lasts over midnight.
    pub bands: Vec<(u16, Arc<str>)>,
    /// The rate of each billed state. A known state without one is not billed by this meter.
    pub rates: Vec<(Arc<str>, Arc<str>)>,
    /// Which time is billed.
    pub during: During,
    /// Other values with their factors: the greatest of all is the level.
    pub greater_of: Vec<(Arc<str>, Quantity)>,
    /// A level below is raised to it.
    pub at_least: Quantity,
    /// Where prices and contracts begin: intervals are cut there.
    pub changes: Arc<Changes>,
}

/// Instants at which what a meter's readings cost may change, rising.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Changes {
    /// For organizations with contracts of their own.
    pub own: BTreeMap<OrganizationId, Arc<[Instant]>>,
    /// For all others.
    pub default: Arc<[Instant]>,
}

impl Changes {
    /// Those of an organization.
    pub fn of(&self, organization: &OrganizationId) -> &[Instant] {
        self.own.get(organization).unwrap_or(&self.default)
    }
}

/// How an event tells states.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// A slice: one state, at this path.
    State(Arc<str>),
    /// A lease: at this path a list of `{ "state": …, "start": … }`, each until the next one starts. What a span says itself goes before what the
    /// event says for all of them.
    Spans(Arc<str>),
}

/// Where local time cuts intervals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cut {
    /// Where a month begins.
    Month,
    /// Where a day begins.
    Day,
}

/// Which time is billed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum During {
    /// That of sessions.
    Session,
    /// That of the lease, also between its sessions.
    Lease,
}

/// Billable states with their paths taken apart.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    of: Arc<BillableStates>,
    told: Path,
    session: Option<Path>,
    greater_of: Vec<(Path, Quantity)>,
}

/// A stretch of an event in one state.
struct Span<'e> {
    start: Instant,
    end: Instant,
    state: &'e str,
    /// The span's own members, for leases.
    own: Option<&'e str>,
}

/// Time at one rate and level without a cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece<V> {
    pub(crate) start: Instant,
    pub(crate) end: Instant,
    /// Rate, session and band.
    pub(crate) dimensions: Vec<(Arc<str>, Arc<str>)>,
    /// What the caller read of the span.
    pub(crate) read: V,
}

/// Where a value is looked for: in the span first, then in the event.
#[derive(Clone, Copy)]
pub(crate) struct Source<'e> {
    pub(crate) own: Option<&'e str>,
    pub(crate) data: &'e str,
}

impl<'e> Source<'e> {
    /// What is at a path; a null is passed over.
    pub(crate) fn find(self, path: &Path) -> Option<Found<'e>> {
        let own = self.own.and_then(|own| find(own, &path.names)).filter(|found| !matches!(found, Found::Null));
        own.or_else(|| find(self.data, &path.names))
    }
}

impl Policy {
    pub(crate) fn compile(meter: &shared_types::MeterId, of: &Arc<BillableStates>) -> Result<Self, MeterSetError> {
        let (Told::State(told) | Told::Spans(told)) = &of.told;
        let greater_of = of.greater_of.iter().map(|(path, factor)| Ok((Path::compile(meter, path)?, *factor)));
        Ok(Self {
            told: Path::compile(meter, told)?,
            session: of.session.as_ref().map(|path| Path::compile(meter, path)).transpose()?,
            greater_of: greater_of.collect::<Result<_, MeterSetError>>()?,
            of: Arc::clone(of),
        })
    }

    /// The billed pieces of an event, in order of time, at most `most`. `read` takes what the meter reads of a span.
    ///
    /// - Errors: an event without an end; a state that is not known; spans that do not follow one another; more pieces than `most`; what `read` refuses.
    pub(crate) fn pieces<V: Clone + PartialEq>(
        &self,
        event: &Event,
        most: usize,
        mut read: impl FnMut(Source<'_>) -> Result<V, Defect>,
    ) -> Result<Vec<Piece<V>>, Defect> {
        let data = event.data().unwrap_or("{}");
        let listed = self.listed(data)?;
        let spans = self.spans(event, data, listed.as_ref())?;
        let session = self.session_of(data)?;
        let mut billed: Vec<Piece<V>> = Vec::new();
        for (number, stretch) in self.sessions(&spans).into_iter().enumerate() {
            let ready = self.of.never_ready.as_ref().is_none_or(|(ready, _)| stretch.iter().any(|span| ready.contains(span.state)));
            for span in stretch {
                let rate = self.of.rates.iter().find(|(state, _)| **state == *span.state).map(|(_, rate)| rate);
                let Some(rate) = rate.filter(|_| span.start < span.end) else { continue };
                let rate = self.of.never_ready.as_ref().filter(|_| !ready).map_or(rate, |(_, waived)| waived);
                let mut dimensions = vec![(Arc::from(RATE), Arc::clone(rate))];
                if let Some(session) = &session {
                    // A lease that is stopped and started again is a session more.
                    let name = if number == 0 { Arc::clone(session) } else { format!("{session}#{}", number.saturating_add(1)).into() };
                    dimensions.push((Arc::from(SESSION), name));
                }
                let piece = Piece { start: span.start, end: span.end, dimensions, read: read(Source { own: span.own, data })? };
                match billed.last_mut() {
                    // Another state at the same rate and level is no other piece.
                    Some(last) if last.end == piece.start && last.dimensions == piece.dimensions && last.read == piece.read => {
                        last.end = piece.end
                    }
                    _ => billed.push(piece),
                }
            }
        }
        let mut cut = Vec::new();
        for piece in billed {
            self.cut(piece, self.of.changes.of(event.organization()), most, &mut cut)?;
        }
        Ok(cut)
    }

    /// The level: the greatest of what was read and the policy's other values, raised to the least.
    pub(crate) fn level(&self, source: Source<'_>, value: Quantity) -> Result<Quantity, Defect> {
        let mut level = value;
        for (path, factor) in &self.greater_of {
            let text = match source.find(path) {
                None | Some(Found::Null) => continue,
                Some(Found::Text(text)) => text,
                Some(Found::Other(text)) => text.into(),
            };
            let other = Quantity::parse(&text).and_then(|other| times(other, *factor));
            level = level.max(other.map_err(|error| crate::read::refused(&path.field(), &text, &error))?);
        }
        Ok(level.max(self.of.at_least))
    }

    /// The texts of a lease's spans.
    fn listed<'e>(&self, data: &'e str) -> Result<Option<Vec<&'e str>>, Defect> {
        if matches!(self.of.told, Told::State(_)) {
            return Ok(None);
        }
        let remedy = "must be a list of spans, each with its state and start";
        let text = match find(data, &self.told.names) {
            Some(Found::Other(text)) => text,
            Some(Found::Text(text)) => return Err(Defect::new(Reason::InvalidInterval, &self.told.field(), &text, remedy)),
            None | Some(Found::Null) => return Err(Defect::new(Reason::InvalidInterval, &self.told.field(), "", remedy)),
        };
        match elements(text) {
            Ok(Elements::Many(spans)) if !spans.is_empty() && spans.len() <= SPANS_MAX => Ok(Some(spans)),
            _ => Err(Defect::new(Reason::InvalidInterval, &self.told.field(), text, format!("{remedy}: 1 to {SPANS_MAX} of them"))),
        }
    }

    fn spans<'e>(&self, event: &Event, data: &'e str, listed: Option<&Vec<&'e str>>) -> Result<Vec<Span<'e>>, Defect> {
        let Some(end) = event.end_at() else {
            return Err(Defect::new(Reason::MissingField, "endtime", "", "what is billed by its time has an end; add it to the event"));
        };
        let Some(listed) = listed else {
            let state = self.state(&self.told.field(), find(data, &self.told.names))?;
            return Ok(vec![Span { start: event.start_at(), end, state, own: None }]);
        };
        let mut spans: Vec<Span<'e>> = Vec::with_capacity(listed.len());
        for (number, own) in listed.iter().enumerate() {
            let field = |name: &str| format!("{}[{number}].{name}", self.told.field());
            let state = self.state(&field("state"), find(own, &[Box::from("state")]))?;
            let start = match find(own, &[Box::from("start")]) {
                Some(Found::Text(text)) => Instant::parse(&text)
                    .map_err(|error| Defect::new(Reason::InvalidInterval, &field("start"), &text, error.to_string()))?,
                _ => return Err(Defect::new(Reason::InvalidInterval, &field("start"), "", "a span has a start; add it")),
            };
            let wrong = |remedy: String| Err(Defect::new(Reason::InvalidInterval, &field("start"), &start.to_string(), remedy));
            match spans.last_mut() {
                None if start != event.start_at() => {
                    return wrong(format!("the first span starts with the event, at {}", event.start_at()));
                }
                Some(before) if start < before.start => return wrong(format!("lies before the span before it, {}", before.start)),
                Some(before) => before.end = start,
                None => {}
            }
            if start > end {
                return wrong(format!("lies behind the end of the event, {end}"));
            }
            spans.push(Span { start, end, state, own: Some(own) });
        }
        Ok(spans)
    }

    /// A state that is known; the known spelling, so that nothing hangs on the text it was read from.
    fn state<'e>(&self, field: &str, found: Option<Found<'e>>) -> Result<&'e str, Defect> {
        let known = || {
            let states: Vec<&str> = self.of.states.iter().map(|state| &**state).collect();
            format!("the policy knows {}; send one of them, or add it to the policy", states.join(", "))
        };
        match found {
            Some(Found::Text(std::borrow::Cow::Borrowed(text))) if self.of.states.contains(text) => Ok(text),
            Some(Found::Text(text)) => Err(Defect::new(Reason::UnknownState, field, &text, known())),
            Some(Found::Other(text)) => Err(Defect::new(Reason::UnknownState, field, text, known())),
            None | Some(Found::Null) => Err(Defect::new(Reason::UnknownState, field, "", known())),
        }
    }

    fn session_of(&self, data: &str) -> Result<Option<Arc<str>>, Defect> {
        let Some(path) = &self.session else { return Ok(None) };
        let remedy = "sessions are told by this text; send 1 to 1024 bytes without control characters";
        match find(data, &path.names) {
            Some(Found::Text(text))
                if !text.is_empty() && text.len() <= crate::read::DIMENSION_BYTES_MAX && !text.chars().any(char::is_control) =>
            {
                Ok(Some(Arc::from(text.as_ref())))
            }
            Some(Found::Text(text)) => Err(Defect::new(Reason::InvalidDimension, &path.field(), &text, remedy)),
            Some(Found::Other(text)) => Err(Defect::new(Reason::InvalidDimension, &path.field(), text, remedy)),
            None | Some(Found::Null) => Err(Defect::new(Reason::InvalidDimension, &path.field(), "", remedy)),
        }
    }

    /// The spans of each session. Spans outside of sessions belong to none.
    fn sessions<'s, 'e>(&self, spans: &'s [Span<'e>]) -> Vec<Vec<&'s Span<'e>>> {
        if self.of.during == During::Lease || self.of.start.is_empty() && self.of.stop.is_empty() {
            return vec![spans.iter().collect()];
        }
        let mut sessions: Vec<Vec<&Span<'e>>> = Vec::new();
        // Without a state that starts, the first session is open from the beginning.
        let mut open = self.of.start.is_empty();
        if open {
            sessions.push(Vec::new());
        }
        for span in spans {
            if open && self.of.stop.contains(span.state) {
                open = false;
            } else if !open && self.of.start.contains(span.state) {
                open = true;
                sessions.push(Vec::new());
            }
            if open && let Some(session) = sessions.last_mut() {
                session.push(span);
            }
        }
        sessions
    }

    /// A piece in parts that lie between cuts.
    fn cut<V: Clone>(&self, piece: Piece<V>, changes: &[Instant], most: usize, out: &mut Vec<Piece<V>>) -> Result<(), Defect> {
        let too_many = || {
            let shown = format!("{} to {}", piece.start, piece.end);
            Defect::new(
                Reason::InvalidInterval,
                "endtime",
                &shown,
                format!("would be cut into more than {most} pieces; send shorter intervals"),
            )
        };
        let beyond = |_: CalendarError| too_many();
        let days = self.of.zone.days_between(piece.start, piece.end).map_err(beyond)?;
        let daily = self.of.bands.len().max(usize::from(self.of.cut == Cut::Day));
        if usize::try_from(days).is_ok_and(|days| days.saturating_mul(daily) > most) {
            return Err(too_many());
        }
        let mut cuts: BTreeSet<Instant> = changes.iter().copied().filter(|at| *at > piece.start && *at < piece.end).collect();
        let mut month = piece.start.month();
        while let Some(next) = month.next().filter(|next| next.start() < piece.end) {
            cuts.insert(next.start());
            month = next;
            if cuts.len() > most {
                return Err(too_many());
            }
        }
        cuts.extend(self.local_cuts(&piece).map_err(beyond)?);
        let bands = self.bands(piece.start, piece.end).map_err(beyond)?;
        cuts.extend(bands.iter().map(|(at, _)| *at));
        let inner = cuts.range((std::ops::Bound::Excluded(piece.start), std::ops::Bound::Excluded(piece.end))).copied();
        let ends: Vec<Instant> = inner.chain([piece.end]).collect();
        if out.len().saturating_add(ends.len()) > most {
            return Err(too_many());
        }
        let mut start = piece.start;
        for end in ends {
            let band = bands.iter().rev().find(|(at, _)| *at <= start).map(|(_, band)| (Arc::from(BAND), Arc::clone(band)));
            let dimensions = piece.dimensions.iter().cloned().chain(band).collect();
            out.push(Piece { start, end, dimensions, read: piece.read.clone() });
            start = end;
        }
        Ok(())
    }

    /// Where local days or months begin, from the piece's first day to behind its last.
    fn local_cuts<V>(&self, piece: &Piece<V>) -> Result<Vec<Instant>, CalendarError> {
        let zone = &self.of.zone;
        let mut cuts = Vec::new();
        let mut day = zone.day_of(piece.start)?;
        loop {
            day = match self.of.cut {
                Cut::Day => day.next()?,
                Cut::Month => day.next_month()?,
            };
            let at = zone.start_of(day)?;
            if at >= piece.end {
                return Ok(cuts);
            }
            cuts.push(at);
        }
    }

    /// Begins of bands from the one that holds `start`, in order.
    fn bands(&self, start: Instant, end: Instant) -> Result<Vec<(Instant, Arc<str>)>, CalendarError> {
        let mut begins = Vec::new();
        if self.of.bands.is_empty() {
            return Ok(begins);
        }
        let last: Day = self.of.zone.day_of(end)?;
        let mut day = self.of.zone.day_of(start)?.previous()?;
        while day <= last {
            for (minutes, band) in &self.of.bands {
                begins.push((self.of.zone.time_of(day, *minutes)?, Arc::clone(band)));
            }
            day = day.next()?;
        }
        Ok(begins)
    }
}

/// A product that is a quantity, exactly.
fn times(a: Quantity, b: Quantity) -> Result<Quantity, NumberError> {
    let overflow = NumberError::Overflow;
    let scale = 10_i128.pow(Quantity::SCALE);
    let product = a.units().checked_mul(b.units()).ok_or(overflow)?;
    if product % scale != 0 {
        return Err(NumberError::TooFine { value: format!("{a} times {b}"), scale: Quantity::SCALE });
    }
    Quantity::from_units(product / scale)
}

#[cfg(test)]
mod tests;
