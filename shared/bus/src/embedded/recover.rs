//! Reads the segments of a folder back into a view. It changes nothing on disk: what to cut off is said, not done.
//!
//! Only the last segment may end in a torn write, and a torn write is believed only if nothing behind it proves that the bytes had been
//! durable. Everything else that is not as written is an error that names file and offset.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use shared_types::ShardId;

use super::files::{Window, failed, path_of, segments_of};
use super::format::{
    self, Body, End, FRAME_HEADER, FRAME_MAGIC, Fault, Frame, HeaderFault, Place, SEGMENT_HEADER, claimed_length, claimed_synced, decode,
    decode_header,
};
use super::shards::PerShard;
use super::view::View;
use crate::disk::{Access, Disk, DiskFile, read_full_at};
use crate::stream::FIRST_INCARNATION;
use crate::{BusError, record_digest};

/// How much is read at once.
const AHEAD: usize = 1 << 20;

/// What a folder holds.
#[derive(Debug)]
pub struct Recovered {
    pub view: View,
    /// The shard ends at the start of each segment.
    pub starts: BTreeMap<u64, PerShard<End>>,
    /// The last segment; `None` in an empty folder.
    pub last: Option<Last>,
    /// A segment behind the last one whose creation was cut short.
    pub unfinished: Option<u64>,
}

/// The last segment.
#[derive(Clone, Copy, Debug)]
pub struct Last {
    pub segment: u64,
    /// Its bytes up to the end of the last whole append.
    pub length: u64,
    /// Bytes behind them: a torn write.
    pub torn: u64,
    /// Whether nothing but a mark would be lost with its last write.
    pub marked: bool,
}

/// Reads all segments of a folder.
pub fn recover(disk: &dyn Disk, directory: &Path) -> Result<Recovered, BusError> {
    let segments = segments_of(disk, directory)?;
    for (segment, next) in segments.iter().zip(segments.iter().skip(1)) {
        if segment + 1 != *next {
            return Err(BusError::Damaged { path: path_of(directory, segment + 1), offset: 0, what: "the file is missing" });
        }
    }
    let none = PerShard::all(End::fresh(FIRST_INCARNATION));
    let mut recovered = Recovered { view: View::at(&none), starts: BTreeMap::new(), last: None, unfinished: None };
    for segment in &segments {
        let newest = segments.last() == Some(segment);
        Segment::open(disk, directory, *segment, newest)?.read_into(&mut recovered)?;
    }
    Ok(recovered)
}

/// A segment while it is read.
struct Segment {
    number: u64,
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    length: u64,
    /// Whether it is the last of the folder: only there can a write be torn.
    newest: bool,
}

/// The records of an append call until its last frame is seen.
#[derive(Default)]
struct Group {
    /// Where its first frame begins.
    start: u64,
    /// How many frames must still follow the next one; `None` between calls.
    expected: Option<u32>,
    records: Vec<(ShardId, End, u32)>,
}

impl Segment {
    fn open(disk: &dyn Disk, directory: &Path, number: u64, newest: bool) -> Result<Self, BusError> {
        let path = path_of(directory, number);
        let file = disk.open(&path, Access::Read).map_err(failed("open", &path))?;
        let length = file.length().map_err(failed("measure", &path))?;
        Ok(Self { number, path, file, length, newest })
    }

    fn damaged(&self, offset: u64, what: &'static str) -> BusError {
        BusError::Damaged { path: self.path.clone(), offset, what }
    }

    fn read_into(self, recovered: &mut Recovered) -> Result<(), BusError> {
        let mut window = Window::new(Arc::clone(&self.file), self.length);
        let header = window.at(0, SEGMENT_HEADER, AHEAD).map_err(failed("read", &self.path))?;
        let starts = match decode_header(header, self.number) {
            Ok(starts) => starts,
            Err(HeaderFault::Version(version)) => {
                return Err(BusError::Format { path: self.path, version, known: format::VERSION });
            }
            Err(HeaderFault::Misplaced) => return Err(self.damaged(0, "this is the header of another segment")),
            Err(HeaderFault::Unverified) => {
                // A header is durable before anything follows it, and before an older segment can go.
                let replaceable = self.number == 1 || recovered.last.is_some();
                if self.newest && replaceable && self.length <= SEGMENT_HEADER as u64 {
                    recovered.unfinished = Some(self.number);
                    return Ok(());
                }
                return Err(self.damaged(0, "the segment header is not what was written"));
            }
        };
        if recovered.last.is_none() {
            recovered.view = View::at(&starts);
        } else if recovered.view.ends() != starts {
            return Err(self.damaged(0, "the segment header does not follow from the segment before"));
        }
        recovered.starts.insert(self.number, starts);
        recovered.last = Some(self.read_frames(&mut window, &mut recovered.view)?);
        Ok(())
    }

    fn read_frames(&self, window: &mut Window, view: &mut View) -> Result<Last, BusError> {
        let mut ends = view.ends();
        let mut offset = SEGMENT_HEADER as u64;
        let mut group = Group { start: offset, ..Group::default() };
        let mut marked = true;
        while offset < self.length {
            let place = Place { segment: self.number, offset };
            let bytes = window.at(offset, FRAME_HEADER, AHEAD).map_err(failed("read", &self.path))?;
            let length = claimed_length(bytes).unwrap_or(FRAME_HEADER);
            let bytes = window.at(offset, length, AHEAD).map_err(failed("read", &self.path))?;
            match decode(bytes, place) {
                Ok(frame) => {
                    marked = frame.body == Body::Mark;
                    group.take(view, &mut ends, place, &frame).map_err(|what| self.damaged(offset, what))?;
                }
                Err(Fault::Senseless(what)) => return Err(self.damaged(offset, what)),
                Err(Fault::Unverified(what)) if self.newest && !self.was_durable(offset)? => {
                    tracing::debug!(path = %self.path.display(), offset, what, "a torn write");
                    return Ok(self.ending_at(group.start_or(offset), false));
                }
                Err(Fault::Unverified(what)) => return Err(self.damaged(offset, what)),
            }
            offset += length as u64;
        }
        if group.expected.is_some() && !self.newest {
            return Err(self.damaged(group.start, "an append is not complete"));
        }
        let whole = group.start_or(offset);
        Ok(self.ending_at(whole, marked && whole == self.length))
    }

    fn ending_at(&self, length: u64, marked: bool) -> Last {
        Last { segment: self.number, length, torn: self.length - length, marked }
    }

    /// Whether a good frame behind the offset says that the offset had been durable before it was written.
    fn was_durable(&self, offset: u64) -> Result<bool, BusError> {
        let mut rest = vec![0; usize::try_from(self.length - offset).unwrap_or(usize::MAX)];
        let filled = read_full_at(self.file.as_ref(), &mut rest, offset).map_err(failed("read", &self.path))?;
        rest.truncate(filled);
        let proves = |at: usize| {
            let place = Place { segment: self.number, offset: offset + at as u64 };
            let Some(bytes) = rest.get(at..) else { return false };
            claimed_synced(bytes).is_some_and(|synced| synced > offset && synced <= place.offset)
                && !matches!(decode(bytes, place), Err(Fault::Unverified(_)))
        };
        let begins = rest.windows(FRAME_MAGIC.len()).enumerate().filter(|(_, bytes)| *bytes == FRAME_MAGIC);
        Ok(begins.map(|(at, _)| at).any(proves))
    }
}

impl Group {
    /// The end of the last whole call, when the file is good up to an offset.
    fn start_or(&self, offset: u64) -> u64 {
        if self.expected.is_some() { self.start } else { offset }
    }

    /// Takes the next frame; the view learns of a call when its last frame is here.
    fn take(&mut self, view: &mut View, ends: &mut PerShard<End>, place: Place, frame: &Frame<'_>) -> Result<(), &'static str> {
        if frame.remaining != self.expected.unwrap_or(frame.remaining) {
            return Err("a frame of an append is missing");
        }
        if self.expected.is_none() {
            self.start = place.offset;
        }
        match frame.body {
            Body::Record { position, kind, accepted_at, digest, payload } => {
                let end = &mut ends[position.shard];
                if position.incarnation != end.incarnation || Some(position.sequence) != end.sequence.next() {
                    return Err("a record does not follow its predecessor");
                }
                if digest != record_digest(&end.digest, position, kind, accepted_at, payload) {
                    return Err("the digest of a record does not follow from its predecessor");
                }
                *end = End { incarnation: position.incarnation, sequence: position.sequence, digest };
                let offset = u32::try_from(place.offset).map_err(|_| "the segment is larger than a segment can be")?;
                self.records.push((position.shard, *end, offset));
                self.expected = frame.remaining.checked_sub(1);
            }
            Body::Reincarnation { .. } | Body::Mark if frame.remaining > 0 || self.expected.is_some() => {
                return Err("a frame stands inside of an append");
            }
            Body::Reincarnation { shard, incarnation } => {
                if incarnation <= ends[shard].incarnation {
                    return Err("an incarnation does not rise");
                }
                ends[shard] = End::fresh(incarnation);
                view.reincarnate(shard, incarnation);
            }
            Body::Mark => {}
        }
        if self.expected.is_none() {
            for (shard, end, offset) in self.records.drain(..) {
                view.record(shard, end, place.segment, offset);
            }
        }
        Ok(())
    }
}
