//! Times of the kernel.

use jiff::{SignedDuration, Timestamp};

/// Clock ticks a second in `/proc` (`USER_HZ`), on every architecture that Curfew is built for.
pub(crate) const TICKS: u64 = 100;

/// The time that much later, as far as there are times.
pub(crate) fn later(time: Timestamp, by: SignedDuration) -> Timestamp {
    time.checked_add(by).unwrap_or(match by.is_negative() {
        true => Timestamp::MIN,
        false => Timestamp::MAX,
    })
}

/// The time of a file.
pub(crate) fn of_file(seconds: i64, nanoseconds: u32) -> Timestamp {
    let nanoseconds = i32::try_from(nanoseconds).unwrap_or(0);
    Timestamp::new(seconds, nanoseconds).unwrap_or(match seconds < 0 {
        true => Timestamp::MIN,
        false => Timestamp::MAX,
    })
}

/// The time that many ticks after the boot.
pub(crate) fn of_ticks(boot: Timestamp, ticks: u64) -> Timestamp {
    let millis = ticks.saturating_mul(1000 / TICKS);
    later(
        boot,
        SignedDuration::from_millis(i64::try_from(millis).unwrap_or(i64::MAX)),
    )
}

/// When the machine was booted, by what `/proc/uptime` says now. It is read anew for each scan, because the wall clock
/// may be set.
pub(crate) fn boot(now: Timestamp, uptime: &[u8]) -> Option<Timestamp> {
    let text = std::str::from_utf8(uptime).ok()?;
    let seconds: f64 = text.split_ascii_whitespace().next()?.parse().ok()?;
    let up = SignedDuration::try_from_secs_f64(seconds).ok()?;
    Some(later(now, -up))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_counted_from_the_boot() {
        let now: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        let boot = boot(now, b"3600.25 7000.00\n").unwrap();
        assert_eq!(boot.to_string(), "2026-03-01T10:59:59.75Z");
        assert_eq!(of_ticks(boot, 360_025), now);
        assert_eq!(of_ticks(boot, u64::MAX), Timestamp::MAX);
    }

    #[test]
    fn what_is_no_uptime_is_none() {
        for text in [&b""[..], b"x", b"\xff", b"nan 1", b"inf", b"1e300"] {
            assert_eq!(boot(Timestamp::UNIX_EPOCH, text), None, "{text:?}");
        }
    }
}
