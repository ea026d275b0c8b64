//! How much each key asks for: requests a second, body bytes a second, requests at once. Integers only; it knows no roles.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::http::StatusCode;
use futures::TryStreamExt as _;
use parking_lot::Mutex;
use platform_iam::KeyId;

use crate::home::AccessSettings;
use crate::problem::Problem;

/// Tokens are counted in millionths: a rate per second then refills whole tokens per microsecond.
const WHOLE: u64 = 1_000_000;
/// Meters that rest are forgotten when there are more than this.
const METERS: usize = 1_024;

/// The meters of all keys that asked for something lately.
#[derive(Clone)]
pub struct Meters {
    settings: Arc<AccessSettings>,
    meters: Arc<Mutex<HashMap<KeyId, Arc<Mutex<Meter>>>>>,
}

/// A bucket that refills with time. It may go below empty: what is known only afterwards is paid for afterwards.
struct Bucket {
    tokens: i128,
    size: i128,
    per_second: u64,
    at: Instant,
}

struct Meter {
    requests: Bucket,
    bytes: Bucket,
    working: usize,
}

/// A request that is being worked on; it counts until it is dropped.
pub struct Working(Arc<Mutex<Meter>>);

impl Bucket {
    fn full(size: u64, per_second: u64, at: Instant) -> Self {
        let size = i128::from(size) * i128::from(WHOLE);
        Self { tokens: size, size, per_second, at }
    }

    fn refill(&mut self, at: Instant) {
        let micros = at.saturating_duration_since(self.at).as_micros();
        let gained = i128::try_from(micros).unwrap_or(i128::MAX).saturating_mul(i128::from(self.per_second));
        self.tokens = self.tokens.saturating_add(gained).min(self.size);
        self.at = at;
    }

    /// Seconds until so many tokens are there, rounded up, at least 1.
    fn seconds_until(&self, tokens: u64) -> u32 {
        let missing = i128::from(tokens) * i128::from(WHOLE) - self.tokens;
        let per_second = i128::from(self.per_second.max(1)) * i128::from(WHOLE);
        u32::try_from((missing + per_second - 1) / per_second).unwrap_or(u32::MAX).max(1)
    }

    fn take(&mut self, tokens: u64) {
        self.tokens = self.tokens.saturating_sub(i128::from(tokens) * i128::from(WHOLE));
    }
}

impl Meters {
    /// With the limits of every key.
    pub fn new(settings: &AccessSettings) -> Self {
        Self { settings: Arc::new(settings.clone()), meters: Arc::default() }
    }

    /// Lets a request of the key in, or says after how many seconds it may come again.
    pub fn admit(&self, key: &KeyId) -> Result<Working, Problem> {
        self.admit_at(key, Instant::now())
    }

    fn admit_at(&self, key: &KeyId, at: Instant) -> Result<Working, Problem> {
        let limits = &*self.settings;
        let meter = {
            let mut meters = self.meters.lock();
            if meters.len() >= METERS {
                meters.retain(|_, meter| !meter.lock().rests(at));
            }
            let fresh = || {
                Arc::new(Mutex::new(Meter {
                    requests: Bucket::full(limits.requests_burst, limits.requests_per_second, at),
                    bytes: Bucket::full(limits.body_bytes_per_second, limits.body_bytes_per_second, at),
                    working: 0,
                }))
            };
            Arc::clone(meters.entry(key.clone()).or_insert_with(fresh))
        };
        let mut found = meter.lock();
        found.requests.refill(at);
        found.bytes.refill(at);
        if found.working >= limits.requests_max {
            return Err(over(1, format!("{} requests of this key are worked on already", limits.requests_max)));
        }
        if found.requests.tokens < i128::from(WHOLE) {
            let detail = format!("this key sent more than {} requests a second", limits.requests_per_second);
            return Err(over(found.requests.seconds_until(1), detail));
        }
        if found.bytes.tokens <= 0 {
            let detail = format!("this key sent more than {} body bytes a second", limits.body_bytes_per_second);
            return Err(over(found.bytes.seconds_until(1), detail));
        }
        found.requests.take(1);
        found.working += 1;
        drop(found);
        Ok(Working(meter))
    }
}

impl Meter {
    /// Whether a new meter would answer alike.
    fn rests(&mut self, at: Instant) -> bool {
        self.requests.refill(at);
        self.bytes.refill(at);
        self.working == 0 && self.requests.tokens == self.requests.size && self.bytes.tokens == self.bytes.size
    }
}

fn over(seconds: u32, detail: String) -> Problem {
    Problem::new(StatusCode::TOO_MANY_REQUESTS, "ACCESS-0005", "This key asks for too much at a time.", detail).retry_after(seconds)
}

impl Working {
    /// The body, its bytes counted as they come: what is refused before it was read costs nothing.
    pub fn metered(&self, body: Body) -> Body {
        let meter = Arc::clone(&self.0);
        Body::from_stream(body.into_data_stream().inspect_ok(move |part| {
            meter.lock().bytes.take(u64::try_from(part.len()).unwrap_or(u64::MAX));
        }))
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        let mut meter = self.0.lock();
        meter.working = meter.working.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn meters(per_second: u64, burst: u64, at_once: usize, bytes: u64) -> Meters {
        Meters::new(&AccessSettings {
            requests_per_second: per_second,
            requests_burst: burst,
            requests_max: at_once,
            body_bytes_per_second: bytes,
        })
    }

    fn key(last: u8) -> KeyId {
        platform_iam::KeyText::from_random(&[last; 40]).id()
    }

    #[test]
    fn a_key_has_its_burst_then_its_rate_and_another_key_has_its_own() {
        let (meters, start) = (meters(2, 3, 64, 1 << 20), Instant::now());
        let let_in = |key: &KeyId, at: Instant| meters.admit_at(key, at).is_ok();
        let after = |milliseconds: u64| start + Duration::from_millis(milliseconds);
        let (one, other) = (key(1), key(2));
        let burst: Vec<bool> = (0..5).map(|_| let_in(&one, start)).collect();
        assert_eq!(burst, [true, true, true, false, false]);
        assert!(let_in(&other, start));
        assert_eq!((let_in(&one, after(499)), let_in(&one, after(500)), let_in(&one, after(999))), (false, true, false));
    }

    #[test]
    fn requests_at_once_count_until_they_end() {
        let (meters, at) = (meters(1_000, 1_000, 2, 1 << 20), Instant::now());
        let first = meters.admit_at(&key(1), at).unwrap();
        let _second = meters.admit_at(&key(1), at).unwrap();
        assert!(meters.admit_at(&key(1), at).is_err());
        drop(first);
        assert!(meters.admit_at(&key(1), at).is_ok());
    }

    #[tokio::test]
    async fn a_body_larger_than_the_rate_is_paid_for_afterwards() {
        let (meters, start) = (meters(1_000, 1_000, 64, 1_000), Instant::now());
        let body = meters.admit_at(&key(1), start).unwrap().metered(Body::from(vec![0; 3_000]));
        axum::body::to_bytes(body, usize::MAX).await.unwrap();
        assert!(meters.admit_at(&key(1), start + Duration::from_millis(1_900)).is_err());
        assert!(meters.admit_at(&key(1), start + Duration::from_millis(2_100)).is_ok());
    }

    #[test]
    fn resting_meters_are_forgotten() {
        let (meters, start) = (meters(1_000, 1_000, 64, 1_000), Instant::now());
        for number in 0..u64::try_from(METERS).unwrap() {
            let mut random = [0; 40];
            random[..8].copy_from_slice(&number.to_be_bytes());
            drop(meters.admit_at(&platform_iam::KeyText::from_random(&random).id(), start).unwrap());
        }
        drop(meters.admit_at(&key(1), start + Duration::from_secs(10)).unwrap());
        assert_eq!(meters.meters.lock().len(), 1);
    }
}
