//! The one place where this program reads the wall clock.

use shared_types::Instant;

/// The current time in whole microseconds. A clock outside the years 1970 to 9999 reads as 1970.
pub fn now() -> Instant {
    #[cfg(feature = "plant")]
    if let Some(stopped) = crate::roles::plant::stopped_clock() {
        return stopped;
    }
    #[cfg(test)]
    if let Some(simulated) = simulated() {
        return simulated;
    }
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).ok().and_then(|micros| Instant::from_micros(micros).ok()).unwrap_or(Instant::EPOCH)
}

/// The time that a test has set; 0 when none has.
#[cfg(test)]
static SIMULATED: std::sync::atomic::AtomicI64 = std::sync::atomic::AtomicI64::new(0);

#[cfg(test)]
fn simulated() -> Option<Instant> {
    let micros = SIMULATED.load(std::sync::atomic::Ordering::Relaxed);
    if micros == 0 { None } else { Instant::from_micros(micros).ok() }
}

/// Sets the clock of this process for a test.
#[cfg(test)]
pub fn simulate(at: Instant) {
    SIMULATED.store(at.micros(), std::sync::atomic::Ordering::Relaxed);
}
