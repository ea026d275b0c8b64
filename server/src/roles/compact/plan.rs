//! Which neighbours of the batch log are merged next: a pure function of their sizes and times and of the clock. It reads nothing.
//!
//! Files are cut by time, never by organization or shard (decision 0006): small ones become parts while their hour lasts, an hour that is
//! over becomes one file, a day that is over becomes one file, each only up to the size that one file may have.

use platform_ingest::merge::Level;
use shared_types::{BatchNo, Instant};

/// Microseconds of an hour.
const HOUR: i64 = 3_600_000_000;
/// Hours of a day.
const DAY: i64 = 24;
/// How long after the end of an hour it is taken to be over: what was accepted in it is committed by then.
const SETTLING: i64 = 60_000_000;

/// Neighbouring files: a batch's own or a merge's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// First batch.
    pub first: BatchNo,
    /// Last batch.
    pub last: BatchNo,
    /// What it was merged to; none for a batch's own files.
    pub level: Option<Level>,
    /// Bytes of its largest table.
    pub bytes: u64,
    /// Its latest acceptance.
    pub accepted_to: Instant,
    /// The stream of a shard begins another life with it: nothing before is merged with it.
    pub begins_life: bool,
}

impl Piece {
    fn batches(&self) -> u64 {
        self.last.0.saturating_sub(self.first.0).saturating_add(1)
    }

    /// From now on it fits into no file with another.
    pub fn keep_alone(&mut self) {
        self.bytes = u64::MAX;
    }
}

/// Limits of a merge.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of one table that go into one file at most.
    pub file_bytes_max: u64,
    /// So many files of one size become one.
    pub fan_in: usize,
    /// Files that one merge takes at most.
    pub pieces_max: usize,
}

impl Limits {
    /// With the product's numbers: ten of a size become one, so that an hour of one batch a second never shows more than thirty files.
    pub fn new(file_bytes_max: u64) -> Self {
        Self { file_bytes_max, fan_in: 10, pieces_max: 1_000 }
    }
}

/// Neighbours to be merged: `pieces[from..to]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// The first of them.
    pub from: usize,
    /// Behind the last of them.
    pub to: usize,
    /// What they become.
    pub level: Level,
}

/// The next merge; none when nothing is to be done. Each one lessens the number of pieces, so that asking again comes to an end.
///
/// - `whole`: also merge what its hour has not settled yet: for a command that leaves as little as possible.
pub fn next(pieces: &[Piece], now: Instant, limits: &Limits, whole: bool) -> Option<Group> {
    let hours = hours(pieces);
    for (from, to) in runs(pieces, &hours) {
        if over(&hours, from, now, 1) {
            if let Some((from, to)) = fitting(pieces, from, to, limits, 2) {
                return Some(Group { from, to, level: Level::Hour });
            }
        } else if whole {
            if let Some((from, to)) = fitting(pieces, from, to, limits, 2) {
                return Some(Group { from, to, level: Level::Part });
            }
        } else if let Some((from, to)) = of_one_size(pieces, from, to, limits) {
            return Some(Group { from, to, level: Level::Part });
        }
    }
    let days: Vec<i64> = hours.iter().map(|hour| hour.div_euclid(DAY)).collect();
    for (from, to) in runs(pieces, &days) {
        if over(&days, from, now, DAY)
            && let Some((from, to)) = fitting(pieces, from, to, limits, 2)
        {
            return Some(Group { from, to, level: Level::Day });
        }
    }
    None
}

/// How many of the leading pieces will stay as they are once [`next`] has nothing to do: those of days before the newest piece's.
pub fn settled(pieces: &[Piece]) -> usize {
    let hours = hours(pieces);
    let Some(newest) = hours.last().map(|hour| hour.div_euclid(DAY)) else { return 0 };
    hours.partition_point(|hour| hour.div_euclid(DAY) < newest)
}

/// How many leading batches and merges of hours that are over wait to be merged: what health calls the backlog.
pub fn backlog(pieces: &[Piece], now: Instant, limits: &Limits) -> u64 {
    let hours = hours(pieces);
    let mut waiting = 0;
    for (from, to) in runs(pieces, &hours) {
        if over(&hours, from, now, 1) && fitting(pieces, from, to, limits, 2).is_some() {
            waiting += pieces.get(from..to).unwrap_or_default().iter().map(Piece::batches).sum::<u64>();
        }
    }
    waiting
}

/// The hour of each piece. A batch that was accepted before its predecessor's last record belongs to that one's hour: hours only rise.
fn hours(pieces: &[Piece]) -> Vec<i64> {
    let mut latest = i64::MIN;
    pieces
        .iter()
        .map(|piece| {
            latest = latest.max(piece.accepted_to.micros().div_euclid(HOUR));
            latest
        })
        .collect()
}

/// Runs of pieces of one time that may be merged with each other.
fn runs(pieces: &[Piece], times: &[i64]) -> Vec<(usize, usize)> {
    let mut runs = Vec::new();
    let mut from = 0;
    for to in 1..=pieces.len() {
        let ends = match (pieces.get(to), times.get(to), times.get(from)) {
            (Some(piece), Some(time), Some(of_run)) => piece.begins_life || time != of_run,
            _ => true,
        };
        if ends {
            runs.push((from, to));
            from = to;
        }
    }
    runs
}

/// Whether the time of a piece, in units of so many hours, is over: a later one has begun, or the clock says so.
fn over(times: &[i64], at: usize, now: Instant, hours: i64) -> bool {
    let Some(time) = times.get(at) else { return false };
    let ends = time.saturating_add(1).saturating_mul(hours).saturating_mul(HOUR);
    times.last().is_some_and(|last| last > time) || ends.saturating_add(SETTLING) <= now.micros()
}

/// The first neighbours of a run that fit into one file, at least `least` of them.
fn fitting(pieces: &[Piece], from: usize, to: usize, limits: &Limits, least: usize) -> Option<(usize, usize)> {
    let mut start = from;
    while start + least <= to {
        let end = reach(pieces, start, to, limits);
        if end - start >= least {
            return Some((start, end));
        }
        start = end.max(start + 1);
    }
    None
}

/// How far the pieces from `start` fit into one file.
fn reach(pieces: &[Piece], start: usize, to: usize, limits: &Limits) -> usize {
    let mut bytes = 0_u64;
    let mut end = start;
    while end < to && end - start < limits.pieces_max {
        bytes = bytes.saturating_add(pieces.get(end).map_or(0, |piece| piece.bytes));
        if bytes > limits.file_bytes_max && end > start {
            break;
        }
        end += 1;
    }
    end
}

/// Neighbours of one size: at least `fan_in` of them, or as many as fill a file.
fn of_one_size(pieces: &[Piece], from: usize, to: usize, limits: &Limits) -> Option<(usize, usize)> {
    let size = |at: usize| pieces.get(at).map(|piece| piece.batches().checked_ilog(limits.fan_in as u64).unwrap_or(0));
    let mut start = from;
    while start < to {
        let end = (start + 1..to).find(|at| size(*at) != size(start)).unwrap_or(to);
        let mut at = start;
        while at < end {
            let reached = reach(pieces, at, end, limits);
            let full = reached < end && reached - at >= 2;
            if reached - at >= limits.fan_in || full {
                return Some((at, reached));
            }
            at = reached;
        }
        start = end;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { file_bytes_max: 1_000_000, fan_in: 10, pieces_max: 1_000 };

    fn at(seconds: i64) -> Instant {
        Instant::from_micros(1_790_812_800_000_000 + seconds * 1_000_000).unwrap()
    }

    /// One batch a second from midnight, of so many bytes.
    fn second(number: u64, bytes: u64) -> Piece {
        let accepted_to = at(i64::try_from(number).unwrap());
        Piece { first: BatchNo(number + 1), last: BatchNo(number + 1), level: None, bytes, accepted_to, begins_life: false }
    }

    fn merged(pieces: &mut Vec<Piece>, group: Group) {
        let of: Vec<Piece> = pieces.drain(group.from..group.to).collect();
        let (first, last) = (of.first().unwrap(), of.last().unwrap());
        assert!(of.len() > 1 && of[1..].iter().all(|piece| !piece.begins_life));
        let whole = Piece {
            first: first.first,
            last: last.last,
            level: Some(group.level),
            bytes: of.iter().map(|piece| piece.bytes).sum(),
            accepted_to: of.iter().map(|piece| piece.accepted_to).max().unwrap(),
            begins_life: first.begins_life,
        };
        pieces.insert(group.from, whole);
    }

    /// Adds batches one by one and merges every ten seconds; the most pieces seen after a merge, how often a hundred batches were written, and what is left.
    fn run(seconds: u64, bytes: u64, limits: &Limits) -> (usize, u64, Vec<Piece>) {
        let (mut pieces, mut most, mut written) = (Vec::new(), 0, 0_u64);
        let mut now = 0;
        for number in 0..seconds {
            pieces.push(second(number, bytes));
            now = i64::try_from(number).unwrap();
            if number % 10 == 9 {
                while let Some(group) = next(&pieces, at(now), limits, false) {
                    written += pieces[group.from..group.to].iter().map(Piece::batches).sum::<u64>();
                    merged(&mut pieces, group);
                }
                most = most.max(pieces.len());
            }
        }
        assert!(pieces.windows(2).all(|pair| pair[0].last.next() == Some(pair[1].first)), "nothing is lost");
        assert_eq!(next(&pieces, at(now), limits, false), None);
        (most, written * 100 / seconds, pieces)
    }

    #[test]
    fn two_days_of_a_batch_a_second_never_show_more_than_sixty_files() {
        let (most, written, pieces) = run(2 * 86_400, 5, &LIMITS);
        assert!(most <= 60, "{most} pieces");
        assert!(written < 600, "a hundred batches were written {written} times");
        assert_eq!(pieces[0].level, Some(Level::Day));
        assert!(pieces.len() <= 56, "{}", pieces.len());
        assert_eq!(settled(&pieces), 1);
    }

    #[test]
    fn files_of_full_size_are_merged_once_and_left_alone() {
        let (_, written, pieces) = run(7_200, 300_000, &LIMITS);
        assert!(written <= 101, "a hundred batches were written {written} times");
        assert!(pieces.iter().all(|piece| piece.bytes <= LIMITS.file_bytes_max));
        let (_, written, pieces) = run(7_200, 2_000_000, &LIMITS);
        assert_eq!((written, pieces.len()), (0, 7_200), "what is larger than a file is not touched");
    }

    #[test]
    fn what_is_kept_alone_is_merged_with_nothing_and_nothing_waits_for_it() {
        let mut pieces: Vec<Piece> = (0..7_200).map(|number| second(number, 1)).collect();
        pieces[20].keep_alone();
        let tomorrow = at(100_000);
        while let Some(group) = next(&pieces, tomorrow, &LIMITS, false) {
            assert!(group.to - group.from > 1);
            merged(&mut pieces, group);
        }
        assert_eq!(backlog(&pieces, tomorrow, &LIMITS), 0);
        let alone = pieces.iter().position(|piece| piece.first == BatchNo(21)).unwrap();
        assert_eq!(pieces[alone].last, BatchNo(21));
        assert!(pieces.len() < 10, "{} pieces", pieces.len());
    }

    #[test]
    fn nothing_is_merged_over_the_beginning_of_a_streams_life() {
        let mut pieces: Vec<Piece> = (0..40).map(|number| second(number, 1)).collect();
        pieces[13].begins_life = true;
        let tomorrow = at(100_000);
        while let Some(group) = next(&pieces, tomorrow, &LIMITS, false) {
            merged(&mut pieces, group);
        }
        let ranges: Vec<(u64, u64)> = pieces.iter().map(|piece| (piece.first.0, piece.last.0)).collect();
        assert_eq!(ranges, [(1, 13), (14, 40)]);
    }

    #[test]
    fn an_hour_is_over_when_a_later_one_begins_or_the_clock_has_left_it_behind() {
        let mut pieces = vec![second(10, 1), second(20, 1)];
        assert_eq!(next(&pieces, at(3_600 + 59), &LIMITS, false), None);
        let hour = Some(Group { from: 0, to: 2, level: Level::Hour });
        assert_eq!(next(&pieces, at(3_600 + 60), &LIMITS, false), hour);
        pieces.push(second(3_600, 1));
        assert_eq!(next(&pieces, at(3_600), &LIMITS, false), hour);
        assert_eq!(backlog(&pieces, at(3_600), &LIMITS), 2);
        // A command that leaves as little as possible does not wait.
        assert_eq!(next(&pieces[..2], at(30), &LIMITS, true), Some(Group { from: 0, to: 2, level: Level::Part }));
    }

    #[test]
    fn a_batch_that_was_accepted_earlier_than_its_predecessor_belongs_to_that_ones_hour() {
        let late = Piece { accepted_to: at(3_000), ..second(3_700, 1) };
        let pieces = [second(3_650, 1), late, second(3_800, 1)];
        assert_eq!(next(&pieces, at(86_400 * 2), &LIMITS, false), Some(Group { from: 0, to: 3, level: Level::Hour }));
    }
}
