//! The one thread that changes the log. It collects the calls that wait, writes them at once, syncs once, and only then publishes and
//! answers them. It knows no reader.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use shared_types::{Incarnation, Position, Sequence, ShardId};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::files::{failed, path_of};
use super::format::{Body, End, Frame, Place, SEGMENT_HEADER, encode, encode_header, frame_bytes};
use super::recover::{Last, Recovered};
use super::shards::PerShard;
use super::{Options, Shared};
use crate::disk::{Access, Disk, DiskFile};
use crate::{Append, Appended, BusError, record_digest};

/// Where an answer goes.
pub type Reply<T> = oneshot::Sender<Result<T, BusError>>;

/// What callers ask of the writer.
#[derive(Debug)]
pub enum Command {
    Append {
        records: Vec<Append>,
        /// Their frames in bytes; not more than fit into an empty segment.
        bytes: u64,
        /// Held until the answer: it bounds what waits.
        permit: OwnedSemaphorePermit,
        reply: Reply<Vec<Appended>>,
    },
    Reincarnate {
        shard: ShardId,
        incarnation: Incarnation,
        reply: Reply<()>,
    },
    Trim {
        through: Vec<(ShardId, Sequence)>,
        reply: Reply<()>,
    },
}

/// A call whose frames are in the buffer.
enum Staged {
    Append { records: Vec<Placed>, permit: OwnedSemaphorePermit, reply: Reply<Vec<Appended>> },
    Reincarnation { shard: ShardId, incarnation: Incarnation, reply: Reply<()> },
}

/// A record in the buffer.
struct Placed {
    /// Which of its call it is.
    at: usize,
    appended: Appended,
    offset: u32,
}

/// The open end of the log.
pub struct Writer {
    pub shared: Arc<Shared>,
    pub disk: Arc<dyn Disk>,
    pub directory: PathBuf,
    pub options: Options,
    pub file: Arc<dyn DiskFile>,
    pub segment: u64,
    /// Durable bytes of the segment.
    pub length: u64,
    /// Whether a mark or nothing ends the segment.
    pub marked: bool,
    /// The shard ends, staged records included.
    pub ends: PerShard<End>,
    /// The shard ends at the start of each segment.
    pub starts: BTreeMap<u64, PerShard<End>>,
    /// What may be forgotten.
    pub through: PerShard<Sequence>,
    #[cfg(feature = "plant")]
    pub plant: super::plant::Plant,
}

/// The writer and what it has staged.
struct Run {
    writer: Writer,
    buffer: Vec<u8>,
    staged: Vec<Staged>,
    /// Why nothing more is taken.
    failure: Option<BusError>,
}

impl Writer {
    /// Does on disk what recovery found necessary, and syncs what it found.
    pub fn new(disk: Arc<dyn Disk>, directory: PathBuf, options: Options, recovered: Recovered) -> Result<Self, BusError> {
        let Recovered { view, mut starts, last, unfinished } = recovered;
        if let Some(segment) = unfinished {
            let path = path_of(&directory, segment);
            tracing::warn!(path = %path.display(), "a segment whose creation was cut short is removed");
            disk.remove(&path).map_err(failed("remove", &path))?;
        }
        let ends = view.ends();
        let (file, last) = match last {
            Some(last) => (reopen_last(disk.as_ref(), &directory, last)?, last),
            None => {
                let path = path_of(&directory, 1);
                let file = create_segment(disk.as_ref(), &directory, 1, &ends).map_err(failed("create", &path))?;
                starts.insert(1, ends.clone());
                (file, Last { segment: 1, length: SEGMENT_HEADER as u64, torn: 0, marked: true })
            }
        };
        disk.sync_directory(&directory).map_err(failed("sync", &directory))?;
        Ok(Self {
            shared: Shared::new(Arc::clone(&disk), &directory, view),
            disk,
            directory,
            options,
            file,
            segment: last.segment,
            length: last.length,
            marked: last.marked,
            ends,
            starts,
            through: PerShard::all(Sequence(0)),
            #[cfg(feature = "plant")]
            plant: super::plant::Plant::from_environment(),
        })
    }

    /// Serves commands until nobody can send one, then closes the log.
    pub fn run(self, commands: &Receiver<Command>) {
        let mut run = Run { writer: self, buffer: Vec::new(), staged: Vec::new(), failure: None };
        while let Ok(command) = commands.recv() {
            run.stage(command);
            while (run.buffer.len() as u64) < run.writer.options.max_write_bytes
                && let Ok(command) = commands.try_recv()
            {
                run.stage(command);
            }
            run.commit();
        }
        run.close();
    }
}

/// Opens the last segment to append to it: without its torn end, and synced, for it may have been read from the memory of the system.
fn reopen_last(disk: &dyn Disk, directory: &Path, last: Last) -> Result<Arc<dyn DiskFile>, BusError> {
    let path = path_of(directory, last.segment);
    let file = disk.open(&path, Access::Write).map_err(failed("open", &path))?;
    if last.torn > 0 {
        tracing::warn!(path = %path.display(), offset = last.length, bytes = last.torn, "a torn write is cut off");
        file.truncate(last.length).map_err(failed("truncate", &path))?;
    }
    file.sync().map_err(failed("sync", &path))?;
    Ok(file)
}

/// Creates a segment that begins at the ends; durable, name included, when it answers.
pub fn create_segment(disk: &dyn Disk, directory: &Path, segment: u64, ends: &PerShard<End>) -> io::Result<Arc<dyn DiskFile>> {
    let file = disk.create(&path_of(directory, segment))?;
    file.append(&encode_header(segment, ends))?;
    file.sync()?;
    disk.sync_directory(directory)?;
    Ok(file)
}

fn answer<T>(reply: Reply<T>, result: Result<T, BusError>) {
    // A caller that no longer waits has dropped its end: there is nobody to tell.
    reply.send(result).ok();
}

fn full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

impl Run {
    fn stage(&mut self, command: Command) {
        match command {
            Command::Append { records, bytes, permit, reply } => match self.stage_append(records, bytes) {
                Ok(records) => self.staged.push(Staged::Append { records, permit, reply }),
                Err(error) => answer(reply, Err(error)),
            },
            Command::Reincarnate { shard, incarnation, reply } => match self.stage_reincarnation(shard, incarnation) {
                Ok(()) => self.staged.push(Staged::Reincarnation { shard, incarnation, reply }),
                Err(error) => answer(reply, Err(error)),
            },
            Command::Trim { through, reply } => {
                self.commit();
                let result = self.trim(&through);
                answer(reply, result);
            }
        }
    }

    /// Puts the frames of a call into the buffer, together by shard so that a shard is read in few pieces.
    fn stage_append(&mut self, records: Vec<Append>, bytes: u64) -> Result<Vec<Placed>, BusError> {
        self.make_room(bytes)?;
        let (ends, start) = (self.writer.ends.clone(), self.buffer.len());
        let mut records: Vec<(usize, Append)> = records.into_iter().enumerate().collect();
        records.sort_by_key(|(_, record)| record.shard);
        let mut placed = Vec::with_capacity(records.len());
        let mut remaining = records.len();
        for (at, record) in records {
            remaining -= 1;
            match self.stage_record(&record, remaining) {
                Ok((appended, offset)) => placed.push(Placed { at, appended, offset }),
                Err(error) => {
                    self.writer.ends = ends;
                    self.buffer.truncate(start);
                    return Err(error);
                }
            }
        }
        Ok(placed)
    }

    fn stage_record(&mut self, record: &Append, remaining: usize) -> Result<(Appended, u32), BusError> {
        let end = self.writer.ends[record.shard];
        let sequence = end.sequence.next().ok_or(BusError::Exhausted { shard: record.shard })?;
        let position = Position { shard: record.shard, incarnation: end.incarnation, sequence };
        let digest = record_digest(&end.digest, position, record.kind, record.accepted_at, &record.payload);
        let Append { kind, accepted_at, ref payload, .. } = *record;
        let offset = self.stage_frame(remaining, Body::Record { position, kind, accepted_at, digest, payload })?;
        self.writer.ends[record.shard] = End { incarnation: end.incarnation, sequence, digest };
        Ok((Appended { position, digest }, offset))
    }

    fn stage_reincarnation(&mut self, shard: ShardId, incarnation: Incarnation) -> Result<(), BusError> {
        self.make_room(frame_bytes(0))?;
        let current = self.writer.ends[shard].incarnation;
        if incarnation <= current {
            return Err(BusError::NotHigher { shard, current, wanted: incarnation });
        }
        self.stage_frame(0, Body::Reincarnation { shard, incarnation })?;
        self.writer.ends[shard] = End::fresh(incarnation);
        Ok(())
    }

    /// Appends a frame to the buffer and says where in the segment it will lie.
    fn stage_frame(&mut self, remaining: usize, body: Body<'_>) -> Result<u32, BusError> {
        let offset = self.writer.length + self.buffer.len() as u64;
        let place = Place { segment: self.writer.segment, offset };
        let number = |value: u64| u32::try_from(value).map_err(|_| BusError::AppendTooLarge { bytes: value, max: u64::from(u32::MAX) });
        let frame = Frame { synced: number(self.writer.length)?, remaining: number(remaining as u64)?, body };
        let before = self.buffer.len() as u64;
        encode(&mut self.buffer, place, &frame).ok_or(BusError::AppendTooLarge { bytes: before, max: u64::from(u32::MAX) })?;
        number(offset)
    }

    /// Begins a new segment when so many bytes do not fit into the present one.
    fn make_room(&mut self, bytes: u64) -> Result<(), BusError> {
        let fits = |used: u64, most: u64| used.saturating_add(bytes) <= most;
        let most = self.writer.options.segment_bytes;
        if !fits(self.writer.length + self.buffer.len() as u64, most) {
            self.commit();
        }
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        if !fits(self.writer.length + self.buffer.len() as u64, most) && self.writer.length > SEGMENT_HEADER as u64 {
            self.roll()?;
        }
        Ok(())
    }

    /// Begins the next segment. Nothing is staged.
    fn roll(&mut self) -> Result<(), BusError> {
        let Writer { disk, directory, segment, ends, .. } = &self.writer;
        let next = segment + 1;
        let path = path_of(directory, next);
        match create_segment(disk.as_ref(), directory, next, ends) {
            Ok(file) => {
                self.writer.starts.insert(next, ends.clone());
                self.writer.file = file;
                self.writer.segment = next;
                self.writer.length = SEGMENT_HEADER as u64;
                self.writer.marked = true;
                Ok(())
            }
            Err(error) if full(&error) => {
                let gone = match disk.remove(&path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                    _ => disk.sync_directory(directory),
                };
                match gone {
                    Ok(()) => Err(BusError::DiskFull { path, source: Arc::new(error) }),
                    Err(error) => Err(self.fail("take back", path, error)),
                }
            }
            Err(error) => Err(self.fail("create", path, error)),
        }
    }

    /// Writes and syncs what is staged, publishes it and answers.
    fn commit(&mut self) {
        if self.staged.is_empty() {
            return;
        }
        let result = self.write();
        self.buffer.clear();
        let staged = std::mem::take(&mut self.staged);
        match result {
            Ok(()) => self.publish(staged),
            Err(error) => {
                self.writer.ends = self.writer.shared.view.read().ends();
                for call in staged {
                    match call {
                        Staged::Append { reply, .. } => answer(reply, Err(error.clone())),
                        Staged::Reincarnation { reply, .. } => answer(reply, Err(error.clone())),
                    }
                }
            }
        }
    }

    fn write(&mut self) -> Result<(), BusError> {
        let path = path_of(&self.writer.directory, self.writer.segment);
        match self.writer.file.append(&self.buffer) {
            Ok(()) => {}
            Err(error) if full(&error) => {
                let file = &self.writer.file;
                return match file.truncate(self.writer.length).and_then(|()| file.sync()) {
                    Ok(()) => Err(BusError::DiskFull { path, source: Arc::new(error) }),
                    Err(error) => Err(self.fail("take back", path, error)),
                };
            }
            Err(error) => return Err(self.fail("write", path, error)),
        }
        if self.must_sync() {
            self.writer.file.sync().map_err(|error| self.fail("sync", path, error))?;
        }
        self.writer.length += self.buffer.len() as u64;
        self.writer.marked = false;
        Ok(())
    }

    #[cfg(not(feature = "plant"))]
    fn must_sync(&self) -> bool {
        true
    }

    #[cfg(feature = "plant")]
    fn must_sync(&mut self) -> bool {
        self.writer.plant.must_sync()
    }

    /// Nothing more is taken: what is on disk behind the last sync is unknown, and syncing again could claim what was lost.
    fn fail(&mut self, action: &'static str, path: PathBuf, error: io::Error) -> BusError {
        tracing::error!(action, path = %path.display(), %error, "the stream takes no more records");
        let failure = BusError::Failed { action, path, source: Arc::new(error) };
        self.failure = Some(failure.clone());
        failure
    }

    fn publish(&mut self, staged: Vec<Staged>) {
        let mut view = self.writer.shared.view.write();
        for call in &staged {
            match call {
                Staged::Append { records, .. } => {
                    for Placed { appended: Appended { position, digest }, offset, .. } in records {
                        let end = End { incarnation: position.incarnation, sequence: position.sequence, digest: *digest };
                        view.record(position.shard, end, self.writer.segment, *offset);
                    }
                }
                Staged::Reincarnation { shard, incarnation, .. } => {
                    view.reincarnate(*shard, *incarnation);
                    self.writer.through[*shard] = Sequence(0);
                }
            }
        }
        drop(view);
        self.writer.shared.changed.send_modify(|count| *count += 1);
        for call in staged {
            match call {
                Staged::Append { mut records, permit, reply } => {
                    records.sort_unstable_by_key(|record| record.at);
                    answer(reply, Ok(records.into_iter().map(|record| record.appended).collect()));
                    drop(permit);
                }
                Staged::Reincarnation { reply, .. } => answer(reply, Ok(())),
            }
        }
    }

    /// Removes the segments whose records all may be forgotten: oldest first, each durably before the next, so that no gap can appear.
    fn trim(&mut self, through: &[(ShardId, Sequence)]) -> Result<(), BusError> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        for (shard, sequence) in through {
            let end = self.writer.ends[*shard].sequence;
            if *sequence > end {
                return Err(BusError::BeyondEnd { shard: *shard, sequence: *sequence, end });
            }
        }
        for (shard, sequence) in through {
            let permitted = &mut self.writer.through[*shard];
            *permitted = (*permitted).max(*sequence);
        }
        while let Some((oldest, next)) = self.forgettable() {
            let Writer { shared, disk, directory, starts, .. } = &mut self.writer;
            if let Some(starts) = starts.get(&next) {
                shared.view.write().forget_before(next, starts);
            }
            shared.files.forget_before(next);
            let path = path_of(directory, oldest);
            match disk.remove(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(BusError::Io { action: "remove", path, source: Arc::new(error) });
                }
                _ => {}
            }
            if let Err(error) = disk.sync_directory(directory) {
                let directory = directory.clone();
                return Err(self.fail("sync", directory, error));
            }
            starts.remove(&oldest);
        }
        Ok(())
    }

    /// The oldest segment and the one after it, if everything in the oldest may be forgotten.
    fn forgettable(&self) -> Option<(u64, u64)> {
        let Writer { starts, ends, through, .. } = &self.writer;
        let mut segments = starts.iter();
        let ((oldest, _), (next, start)) = (segments.next()?, segments.next()?);
        let forgettable = |(shard, end): (ShardId, &End)| end.incarnation < ends[shard].incarnation || end.sequence <= through[shard];
        start.iter().all(forgettable).then_some((*oldest, *next))
    }

    /// Leaves a mark, so that from now on damage to the last write cannot pass for a torn one.
    fn close(mut self) {
        if self.failure.is_some() || self.writer.marked {
            return;
        }
        let file = Arc::clone(&self.writer.file);
        let written = self.stage_frame(0, Body::Mark).is_ok() && file.append(&self.buffer).and_then(|()| file.sync()).is_ok();
        if !written {
            // What there is of it is a torn write, which the next owner cuts off.
            tracing::warn!(directory = %self.writer.directory.display(), "the stream was closed without a mark");
        }
    }
}
