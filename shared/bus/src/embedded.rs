//! The embedded adapter of the stream: one segment log for all shards in a folder, one writer, one owner. No broker is needed.
//!
//! A record is answered and readable only after its frame was synced. It knows no lane, receipt or batch: the caller says what may go.

mod files;
mod format;
#[cfg(feature = "plant")]
mod plant;
#[cfg(test)]
mod power_cut_tests;
mod recover;
mod shards;
#[cfg(test)]
mod tests;
mod view;
mod writer;

use std::io;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::RwLock;
use serde::Deserialize;
use shared_types::{Incarnation, Position, Sequence, ShardId};
use tokio::sync::{Semaphore, oneshot, watch};

use self::files::{Files, Window, failed, segments_of};
use self::format::{Body, FRAME_HEADER, Fault, Place, SEGMENT_HEADER, claimed_length, decode, frame_bytes};
use self::recover::recover;
use self::view::{Stretch, View};
use self::writer::{Command, Writer};
use crate::disk::{Disk, Lock};
use crate::{Append, Appended, BusError, ShardEnd, Stream, StreamRecord};

/// Settings of the embedded stream.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Bytes after which a new segment file is begun, and the most that one append call may write. Whole segments are trimmed.
    /// Default 64 MiB, at most 1 GiB, at least a record of the largest size and 4 KiB.
    pub segment_bytes: u64,
    /// Bytes of payload that one record may have. Default 1 MiB, at most 256 MiB.
    pub max_record_bytes: u64,
    /// Bytes after which the writer stops collecting calls for one write and sync. Default 8 MiB, at least 1.
    pub max_write_bytes: u64,
    /// Bytes that may wait to be written; beyond them `append` waits for room. Default 64 MiB, 1 to 4 GiB.
    pub max_queued_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { segment_bytes: 64 << 20, max_record_bytes: 1 << 20, max_write_bytes: 8 << 20, max_queued_bytes: 64 << 20 }
    }
}

impl Options {
    fn check(&self) -> Result<(), BusError> {
        let least = SEGMENT_HEADER as u64 + FRAME_HEADER as u64 + self.max_record_bytes.min(1 << 30);
        for (option, value, low, high) in [
            ("max_record_bytes", self.max_record_bytes, 0, 256 << 20),
            ("segment_bytes", self.segment_bytes, least, 1 << 30),
            ("max_write_bytes", self.max_write_bytes, 1, u64::MAX),
            ("max_queued_bytes", self.max_queued_bytes, 1, u64::from(u32::MAX)),
        ] {
            if !(low..=high).contains(&value) {
                return Err(BusError::Option { option, value, range: format!("{low} to {high}") });
            }
        }
        Ok(())
    }
}

/// How many bytes may lie unread between two records that are read at once.
const GAP: u64 = 4_096;
/// The most that is read at once.
const READ: u64 = 1 << 20;
/// The most records whose places are copied out of the view at once.
const STRETCH: usize = 4_096;
/// How often a look at the folder of a living owner is tried again when a segment goes away meanwhile.
const LOOKS: usize = 10;

/// What the writer and the readers share.
#[derive(Debug)]
pub(crate) struct Shared {
    view: RwLock<View>,
    changed: watch::Sender<u64>,
    files: Files,
}

/// The embedded stream. Dropping it writes what waits, syncs, and lets go of the folder.
#[derive(Debug)]
pub struct Embedded {
    shared: Arc<Shared>,
    owner: Option<Owner>,
}

#[derive(Debug)]
struct Owner {
    commands: mpsc::Sender<Command>,
    thread: JoinHandle<()>,
    queue: Arc<Semaphore>,
    options: Options,
}

impl Embedded {
    /// Opens the stream in a folder as its one owner, creating what is missing.
    ///
    /// A torn write at the end is cut off; what was left is synced before it counts as durable. Every digest of the kept records is
    /// recomputed. Errors: another owner, damage anywhere else, another format, options out of range.
    pub fn open(directory: &Path, disk: Arc<dyn Disk>, options: Options) -> Result<Self, BusError> {
        options.check()?;
        disk.create_directory(directory).map_err(failed("create", directory))?;
        let lock = take_lock(disk.as_ref(), directory)?;
        let recovered = recover(disk.as_ref(), directory)?;
        Self::start(Writer::new(disk, directory.to_owned(), options, recovered)?, lock)
    }

    /// Looks at the stream in a folder, whether it has an owner, had one that was killed, or neither. Nothing is changed.
    ///
    /// It shows the folder as it was when it was opened: it does not follow the owner, and the last write of a living owner may not be
    /// durable yet. Appending, trimming and reincarnating answer [`BusError::ReadOnly`].
    pub fn open_read_only(directory: &Path, disk: Arc<dyn Disk>) -> Result<Self, BusError> {
        let mut looks = LOOKS;
        let recovered = loop {
            let before = segments_of(disk.as_ref(), directory)?;
            looks -= 1;
            match recover(disk.as_ref(), directory) {
                // A living owner trimmed or began a segment between the list and the look.
                Err(_) if looks > 0 && segments_of(disk.as_ref(), directory)? != before => {}
                result => break result?,
            }
        };
        Ok(Self { shared: Shared::new(disk, directory, recovered.view), owner: None })
    }

    fn start(writer: Writer, lock: Lock) -> Result<Self, BusError> {
        let (shared, options) = (Arc::clone(&writer.shared), writer.options.clone());
        let directory = writer.directory.clone();
        let permits = usize::try_from(options.max_queued_bytes).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        let (commands, receiver) = mpsc::channel();
        let serve = move || {
            writer.run(&receiver);
            drop(lock);
        };
        let builder = std::thread::Builder::new().name("stream-writer".to_owned());
        let thread = builder.spawn(serve).map_err(failed("start the writer of", &directory))?;
        let owner = Owner { commands, thread, queue: Arc::new(Semaphore::new(permits)), options };
        Ok(Self { shared, owner: Some(owner) })
    }

    fn owner(&self) -> Result<&Owner, BusError> {
        self.owner.as_ref().ok_or(BusError::ReadOnly)
    }
}

fn take_lock(disk: &dyn Disk, directory: &Path) -> Result<Lock, BusError> {
    let path = directory.join("lock");
    disk.lock(&path).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => BusError::Locked { path: directory.to_owned() },
        _ => failed("lock", &path)(error),
    })
}

impl Drop for Embedded {
    fn drop(&mut self) {
        if let Some(Owner { commands, thread, .. }) = self.owner.take() {
            drop(commands);
            if thread.join().is_err() {
                tracing::error!("the writer of the stream panicked");
            }
        }
    }
}

impl Owner {
    /// The bytes of the frames of a call; refused when a record or the call is too large.
    fn admit(&self, records: &[Append]) -> Result<u64, BusError> {
        let mut total = 0_u64;
        for record in records {
            let bytes = record.payload.len() as u64;
            if bytes > self.options.max_record_bytes {
                return Err(BusError::RecordTooLarge { bytes, max: self.options.max_record_bytes });
            }
            total = total.saturating_add(frame_bytes(record.payload.len()));
        }
        let max = self.options.segment_bytes - SEGMENT_HEADER as u64;
        if total > max {
            return Err(BusError::AppendTooLarge { bytes: total, max });
        }
        Ok(total)
    }

    async fn ask<T>(&self, command: impl FnOnce(writer::Reply<T>) -> Command) -> Result<T, BusError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).map_err(|_| BusError::Closed)?;
        answer.await.map_err(|_| BusError::Closed)?
    }
}

#[async_trait]
impl Stream for Embedded {
    async fn append(&self, records: Vec<Append>) -> Result<Vec<Appended>, BusError> {
        let owner = self.owner()?;
        if records.is_empty() {
            return Ok(Vec::new());
        }
        let bytes = owner.admit(&records)?;
        let permits = u32::try_from(bytes.min(owner.options.max_queued_bytes)).unwrap_or(u32::MAX);
        let permit = Arc::clone(&owner.queue).acquire_many_owned(permits).await.map_err(|_| BusError::Closed)?;
        owner.ask(|reply| Command::Append { records, bytes, permit, reply }).await
    }

    async fn read(&self, shard: ShardId, after: Sequence, max_records: usize, max_bytes: usize) -> Result<Vec<StreamRecord>, BusError> {
        if !self.shared.view.read().check(shard, after)? || max_records == 0 {
            return Ok(Vec::new());
        }
        let shared = Arc::clone(&self.shared);
        tokio::task::spawn_blocking(move || shared.read(shard, after, max_records, max_bytes)).await.map_err(|_| BusError::Closed)?
    }

    async fn ends(&self) -> Result<Vec<ShardEnd>, BusError> {
        Ok(self.shared.view.read().shard_ends())
    }

    fn subscribe(&self) -> watch::Receiver<u64> {
        self.shared.changed.subscribe()
    }

    async fn trim(&self, through: &[(ShardId, Sequence)]) -> Result<(), BusError> {
        self.owner()?.ask(|reply| Command::Trim { through: through.to_vec(), reply }).await
    }

    async fn reincarnate(&self, shard: ShardId, incarnation: Incarnation) -> Result<(), BusError> {
        self.owner()?.ask(|reply| Command::Reincarnate { shard, incarnation, reply }).await
    }
}

/// How much a read may still take.
struct Room {
    records: usize,
    bytes: usize,
}

impl Shared {
    fn new(disk: Arc<dyn Disk>, directory: &Path, view: View) -> Arc<Self> {
        let files = Files::new(disk, directory.to_owned());
        Arc::new(Self { view: RwLock::new(view), changed: watch::Sender::new(0), files })
    }

    fn read(&self, shard: ShardId, after: Sequence, max_records: usize, max_bytes: usize) -> Result<Vec<StreamRecord>, BusError> {
        let mut records = Vec::new();
        let mut room = Room { records: max_records, bytes: max_bytes };
        let incarnation = self.view.read().end(shard).incarnation;
        let mut last = after;
        while room.records > 0 {
            let before = records.len();
            let read = self.next_stretch(shard, incarnation, last, room.records).and_then(|stretch| match stretch {
                Some(stretch) => self.read_stretch(shard, &stretch, &mut room, &mut records),
                None => Ok(false),
            });
            match read {
                Ok(true) if records.len() > before => last = Sequence(last.0.saturating_add((records.len() - before) as u64)),
                Ok(_) => break,
                Err(error) => {
                    // Perhaps it was trimmed meanwhile: what was read stands, else the reader learns what is still kept.
                    let trimmed = self.view.read().check(shard, last).err();
                    return if trimmed.is_some() && !records.is_empty() { Ok(records) } else { Err(trimmed.unwrap_or(error)) };
                }
            }
        }
        Ok(records)
    }

    /// The next records to read, in one segment; `None` at the end of the incarnation.
    fn next_stretch(&self, shard: ShardId, incarnation: Incarnation, after: Sequence, most: usize) -> Result<Option<Stretch>, BusError> {
        let view = self.view.read();
        if view.end(shard).incarnation != incarnation || !view.check(shard, after)? {
            return Ok(None);
        }
        Ok(view.stretch(shard, after, most.min(STRETCH)))
    }

    /// Reads records that lie in one segment; says whether all were read.
    fn read_stretch(&self, shard: ShardId, stretch: &Stretch, room: &mut Room, records: &mut Vec<StreamRecord>) -> Result<bool, BusError> {
        let path = || self.files.path_of(stretch.segment);
        let damaged = |offset, what| BusError::Damaged { path: path(), offset, what };
        let mut window = Window::new(self.files.segment(stretch.segment)?, u64::MAX);
        let mut sequence = stretch.first;
        for (at, offset) in stretch.offsets.iter().enumerate() {
            let offset = u64::from(*offset);
            let ahead = if window.holds(offset, FRAME_HEADER) { 0 } else { ahead(stretch.offsets.get(at..).unwrap_or_default()) };
            let bytes = window.at(offset, FRAME_HEADER, ahead).map_err(|error| failed("read", &path())(error))?;
            let length = claimed_length(bytes).unwrap_or(FRAME_HEADER);
            let bytes = window.at(offset, length, ahead).map_err(|error| failed("read", &path())(error))?;
            let frame = decode(bytes, Place { segment: stretch.segment, offset }).map_err(|fault| match fault {
                Fault::Unverified(what) | Fault::Senseless(what) => damaged(offset, what),
            })?;
            let wanted = Position { shard, incarnation: stretch.incarnation, sequence };
            match frame.body {
                Body::Record { position, kind, accepted_at, digest, payload } if position == wanted => {
                    if !records.is_empty() && payload.len() > room.bytes {
                        return Ok(false);
                    }
                    room.bytes = room.bytes.saturating_sub(payload.len());
                    room.records -= 1;
                    let payload = Bytes::copy_from_slice(payload);
                    records.push(StreamRecord { position, digest, kind, accepted_at, payload });
                }
                _ => return Err(damaged(offset, "another record stands here")),
            }
            sequence = Sequence(sequence.0.saturating_add(1));
        }
        Ok(true)
    }
}

/// How many bytes to read at the first of the offsets so that those close behind it come along.
fn ahead(offsets: &[u32]) -> usize {
    let mut offsets = offsets.iter().map(|offset| u64::from(*offset));
    let first = offsets.next().unwrap_or_default();
    let mut last = first;
    for offset in offsets {
        if offset - last > GAP || offset - first > READ {
            break;
        }
        last = offset;
    }
    usize::try_from(last - first + GAP).unwrap_or(usize::MAX)
}
