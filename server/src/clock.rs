//! The one place where this program reads the wall clock.

use shared_types::Instant;

/// The current time in whole microseconds. A clock outside the years 1970 to 9999 reads as 1970.
pub fn now() -> Instant {
    #[cfg(feature = "plant")]
    if let Some(stopped) = crate::roles::plant::stopped_clock() {
        return stopped;
    }
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).ok().and_then(|micros| Instant::from_micros(micros).ok()).unwrap_or(Instant::EPOCH)
}
