//! The bytes of a segment file: one header, then frames. Pure; it knows no file and no order of frames.
//!
//! All numbers are big-endian. A frame is `magic 4, crc32 4, length 4, synced 4, kind 1, shard 1, incarnation 4, sequence 8,
//! accepted_at 8, remaining 4, digest 32, payload`. Its crc32 covers the segment number, its offset and everything after the crc.
//! `synced` is how much of the file was durable when the write began that the frame belongs to: a good frame whose `synced` lies
//! behind a bad one proves that the bad one is damage and no torn write.

use shared_types::{Digest, Incarnation, Instant, Position, SHARDS, Sequence, ShardId};

use super::shards::PerShard;
use crate::RecordKind;

/// The version of the format.
pub const VERSION: u32 = 1;
/// Bytes of a segment header.
pub const SEGMENT_HEADER: usize = 8 + 4 + 8 + (SHARDS as usize) * 44 + 4;
/// Bytes of a frame without its payload.
pub const FRAME_HEADER: usize = 74;

const SEGMENT_MAGIC: [u8; 8] = *b"TALLYSEG";
/// First bytes of every frame.
pub const FRAME_MAGIC: [u8; 4] = *b"\xf7TLF";
const REINCARNATION: u8 = 3;
const MARK: u8 = 4;

/// The end of a shard, as the format knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    pub incarnation: Incarnation,
    pub sequence: Sequence,
    pub digest: Digest,
}

impl End {
    /// The end of a shard in whose incarnation nothing was appended.
    pub const fn fresh(incarnation: Incarnation) -> Self {
        Self { incarnation, sequence: Sequence(0), digest: Digest::ZERO }
    }
}

/// Where a frame lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub segment: u64,
    pub offset: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Bytes of the segment that were durable before the write of this frame.
    pub synced: u32,
    /// How many frames of the same append call follow.
    pub remaining: u32,
    pub body: Body<'a>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body<'a> {
    Record {
        position: Position,
        kind: RecordKind,
        accepted_at: Instant,
        digest: Digest,
        payload: &'a [u8],
    },
    /// The shard begins a new incarnation.
    Reincarnation {
        shard: ShardId,
        incarnation: Incarnation,
    },
    /// Nothing but its `synced`: written at a clean close, so that later damage to what precedes cannot pass for a torn write.
    Mark,
}

/// Why bytes are no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Not what was written: cut short, other magic, wrong checksum.
    Unverified(&'static str),
    /// What was written, but it makes no sense.
    Senseless(&'static str),
}

/// Bytes of a frame with a payload of so many bytes.
pub fn frame_bytes(payload: usize) -> u64 {
    (FRAME_HEADER as u64).saturating_add(payload as u64)
}

fn checksum(place: Place, covered: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    let mut start = [0; 16];
    let (segment, offset) = start.split_at_mut(8);
    segment.copy_from_slice(&place.segment.to_be_bytes());
    offset.copy_from_slice(&place.offset.to_be_bytes());
    hasher.update(&start);
    hasher.update(covered);
    hasher.finalize()
}

/// Appends the frame to a buffer; `None` when it is longer than a frame can be (the buffer is then as before).
pub fn encode(out: &mut Vec<u8>, place: Place, frame: &Frame<'_>) -> Option<()> {
    let no_position = (0, Incarnation(0), Sequence(0));
    let (code, (shard, incarnation, sequence), micros, digest, payload): (_, _, _, _, &[u8]) = match frame.body {
        Body::Record { position, kind, accepted_at, digest, payload } => {
            (kind.code(), (position.shard.number(), position.incarnation, position.sequence), accepted_at.micros(), digest, payload)
        }
        Body::Reincarnation { shard, incarnation } => (REINCARNATION, (shard.number(), incarnation, Sequence(0)), 0, Digest::ZERO, &[]),
        Body::Mark => (MARK, no_position, 0, Digest::ZERO, &[]),
    };
    let length = u32::try_from(frame_bytes(payload.len())).ok()?;
    let start = out.len();
    out.extend_from_slice(&FRAME_MAGIC);
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&frame.synced.to_be_bytes());
    out.extend_from_slice(&[code, shard]);
    out.extend_from_slice(&incarnation.0.to_be_bytes());
    out.extend_from_slice(&sequence.0.to_be_bytes());
    out.extend_from_slice(&micros.to_be_bytes());
    out.extend_from_slice(&frame.remaining.to_be_bytes());
    out.extend_from_slice(&digest.0);
    out.extend_from_slice(payload);
    let crc = checksum(place, out.get(start + 8..)?);
    out.get_mut(start + 4..start + 8)?.copy_from_slice(&crc.to_be_bytes());
    Some(())
}

/// The length that the frame at the start of the bytes claims; unverified.
pub fn claimed_length(bytes: &[u8]) -> Option<usize> {
    let mut fields = Fields(bytes);
    if fields.take::<4>()? != FRAME_MAGIC {
        return None;
    }
    fields.take::<4>()?;
    usize::try_from(u32::from_be_bytes(fields.take()?)).ok().filter(|length| *length >= FRAME_HEADER)
}

/// The `synced` that the frame at the start of the bytes claims; unverified.
pub fn claimed_synced(bytes: &[u8]) -> Option<u64> {
    let mut fields = Fields(bytes);
    fields.take::<12>()?;
    fields.take().map(u32::from_be_bytes).map(u64::from)
}

/// The frame at the start of the bytes.
pub fn decode(bytes: &[u8], place: Place) -> Result<Frame<'_>, Fault> {
    const SHORT: Fault = Fault::Unverified("a frame is cut short");
    let Some(length) = claimed_length(bytes) else {
        return Err(if bytes.len() < FRAME_HEADER { SHORT } else { Fault::Unverified("no frame begins here") });
    };
    let frame = bytes.get(..length).ok_or(SHORT)?;
    let mut fields = Fields(frame);
    fields.take::<4>().ok_or(SHORT)?;
    let crc = u32::from_be_bytes(fields.take().ok_or(SHORT)?);
    if crc != checksum(place, fields.0) {
        return Err(Fault::Unverified("the checksum of a frame does not match"));
    }
    fields.frame().ok_or(Fault::Senseless("a frame has a value that does not exist"))
}

/// A segment header.
pub fn encode_header(segment: u64, ends: &PerShard<End>) -> Vec<u8> {
    let mut out = Vec::with_capacity(SEGMENT_HEADER);
    out.extend_from_slice(&SEGMENT_MAGIC);
    out.extend_from_slice(&VERSION.to_be_bytes());
    out.extend_from_slice(&segment.to_be_bytes());
    for (_, end) in ends.iter() {
        out.extend_from_slice(&end.incarnation.0.to_be_bytes());
        out.extend_from_slice(&end.sequence.0.to_be_bytes());
        out.extend_from_slice(&end.digest.0);
    }
    let crc = crc32fast::hash(&out);
    out.extend_from_slice(&crc.to_be_bytes());
    out
}

/// Why bytes are no header of the wanted segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderFault {
    /// Another version of the format.
    Version(u32),
    /// Not what was written.
    Unverified,
    /// The header of another segment.
    Misplaced,
}

/// The shard ends in a segment header.
pub fn decode_header(bytes: &[u8], segment: u64) -> Result<PerShard<End>, HeaderFault> {
    let mut fields = Fields(bytes);
    let magic: [u8; 8] = fields.take().ok_or(HeaderFault::Unverified)?;
    let version = u32::from_be_bytes(fields.take().ok_or(HeaderFault::Unverified)?);
    if magic == SEGMENT_MAGIC && version != VERSION {
        return Err(HeaderFault::Version(version));
    }
    let (covered, crc) = bytes.split_at_checked(SEGMENT_HEADER - 4).ok_or(HeaderFault::Unverified)?;
    let crc = Fields(crc).take().map(u32::from_be_bytes).ok_or(HeaderFault::Unverified)?;
    if magic != SEGMENT_MAGIC || crc != crc32fast::hash(covered) {
        return Err(HeaderFault::Unverified);
    }
    let number = fields.take().map(u64::from_be_bytes).ok_or(HeaderFault::Unverified)?;
    if number != segment {
        return Err(HeaderFault::Misplaced);
    }
    PerShard::try_from_fn(|_| fields.end()).ok_or(HeaderFault::Unverified)
}

/// Bytes from which fields are taken one after the other.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    fn end(&mut self) -> Option<End> {
        Some(End {
            incarnation: Incarnation(u32::from_be_bytes(self.take()?)),
            sequence: Sequence(u64::from_be_bytes(self.take()?)),
            digest: Digest(self.take()?),
        })
    }

    /// What follows the crc of a frame.
    fn frame(&mut self) -> Option<Frame<'a>> {
        self.take::<4>()?;
        let synced = u32::from_be_bytes(self.take()?);
        let [code, shard] = self.take()?;
        let incarnation = Incarnation(u32::from_be_bytes(self.take()?));
        let sequence = Sequence(u64::from_be_bytes(self.take()?));
        let micros = i64::from_be_bytes(self.take()?);
        let remaining = u32::from_be_bytes(self.take()?);
        let digest = Digest(self.take()?);
        let shard = ShardId::new(shard)?;
        let body = match code {
            REINCARNATION => Body::Reincarnation { shard, incarnation },
            MARK => Body::Mark,
            _ => Body::Record {
                position: Position { shard, incarnation, sequence },
                kind: RecordKind::from_code(code)?,
                accepted_at: Instant::from_micros(micros).ok()?,
                digest,
                payload: self.0,
            },
        };
        Some(Frame { synced, remaining, body })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(payload: &[u8]) -> Frame<'_> {
        let position = Position { shard: ShardId::new(63).unwrap(), incarnation: Incarnation(7), sequence: Sequence(u64::MAX) };
        let accepted_at = Instant::from_micros(1_790_000_000_000_001).unwrap();
        let body = Body::Record { position, kind: RecordKind::Control, accepted_at, digest: Digest([9; 32]), payload };
        Frame { synced: 5, remaining: 3, body }
    }

    #[test]
    fn no_kind_of_record_has_the_code_of_another_frame() {
        assert_eq!([REINCARNATION, MARK].map(RecordKind::from_code), [None, None]);
    }

    #[test]
    fn frames_come_back_and_every_flipped_bit_is_noticed() {
        let place = Place { segment: 3, offset: 4_000 };
        let mut bytes = vec![1, 2, 3];
        encode(&mut bytes, place, &frame(b"payload")).unwrap();
        let bytes = bytes.split_off(3);
        assert_eq!(bytes.len() as u64, frame_bytes(7));
        assert_eq!(decode(&bytes, place), Ok(frame(b"payload")));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(decode(&flipped, place), Err(Fault::Unverified(_))), "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert!(matches!(decode(&bytes[..length], place), Err(Fault::Unverified(_))), "length {length}");
        }
    }

    #[test]
    fn a_frame_at_another_place_is_no_frame() {
        let mut bytes = Vec::new();
        encode(&mut bytes, Place { segment: 3, offset: 4_000 }, &frame(b"")).unwrap();
        assert!(decode(&bytes, Place { segment: 3, offset: 4_001 }).is_err());
        assert!(decode(&bytes, Place { segment: 4, offset: 4_000 }).is_err());
    }

    #[test]
    fn headers_come_back_and_name_their_version() {
        let mut ends = PerShard::all(End::fresh(Incarnation(1)));
        ends[ShardId::new(5).unwrap()] = End { incarnation: Incarnation(2), sequence: Sequence(77), digest: Digest([1; 32]) };
        let bytes = encode_header(9, &ends);
        assert_eq!(bytes.len(), SEGMENT_HEADER);
        assert_eq!(decode_header(&bytes, 9), Ok(ends));
        assert_eq!(decode_header(&bytes, 8), Err(HeaderFault::Misplaced));
        assert_eq!(decode_header(&bytes[..100], 9), Err(HeaderFault::Unverified));
        let mut newer = bytes.clone();
        newer[11] = 2;
        assert_eq!(decode_header(&newer, 9), Err(HeaderFault::Version(2)));
        let mut damaged = bytes;
        damaged[500] ^= 1;
        assert_eq!(decode_header(&damaged, 9), Err(HeaderFault::Unverified));
    }
}
