//! Decides how values on the command line read: times, shares, numbers of voters.

use std::{
    num::{NonZeroU16, NonZeroU64},
    time::Duration,
};

use meshraft::Voters;

/// Why a word is no value of its kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ValueError {
    #[error("a time is a number and ms, s, m or h (500ms, 5s); without a unit it is seconds")]
    Duration,
    #[error("a share is a number above 0 and at most 1")]
    Share,
    #[error(
        "a size is a number above 0 and B, kB, MB, GB, KiB, MiB or GiB; without a unit it is bytes"
    )]
    Bytes,
    #[error("an idle time is 1 to 86400000 milliseconds, or `off`")]
    Idle,
    #[error("a number of founders is 1 to 65535")]
    Founders,
    #[error("a number of voters is 1 to 65535, or `all`")]
    Voters,
}

/// `5s`, `500ms`, `2m`, `1h`; a number alone is seconds. Up to a day.
pub(crate) fn duration(text: &str) -> Result<Duration, ValueError> {
    const LONGEST_S: f64 = 24.0 * 3600.0;
    let digits = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit_s = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return Err(ValueError::Duration),
    };
    let number: f64 = plain(number).ok_or(ValueError::Duration)?;
    let seconds = number * unit_s;
    if seconds > LONGEST_S {
        return Err(ValueError::Duration);
    }
    // Whole microseconds: what a decimal fraction means, and not its nearest binary one.
    let micros = (seconds * 1e6).round();
    Duration::try_from_secs_f64(micros / 1e6).map_err(|_| ValueError::Duration)
}

/// A number above 0 and at most 1.
pub(crate) fn share(text: &str) -> Result<f64, ValueError> {
    plain(text).filter(|share| *share > 0.0 && *share <= 1.0).ok_or(ValueError::Share)
}

/// `64MiB`, `500kB`; a number alone is bytes. At least one.
pub(crate) fn bytes(text: &str) -> Result<NonZeroU64, ValueError> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit_bytes: u64 = match unit {
        "" | "B" => 1,
        "kB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(ValueError::Bytes),
    };
    let bytes = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit_bytes));
    bytes.and_then(NonZeroU64::new).ok_or(ValueError::Bytes)
}

/// After how long without work something sleeps; `None` is never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Idle(pub(crate) Option<Duration>);

/// Milliseconds from 1, up to a day, or `off`.
pub(crate) fn idle(text: &str) -> Result<Idle, ValueError> {
    const LONGEST_MS: u64 = 24 * 3600 * 1000;
    match text {
        "off" => Ok(Idle(None)),
        number => {
            let millis = number.parse().ok().filter(|millis| (1..=LONGEST_MS).contains(millis));
            millis.map(|millis| Idle(Some(Duration::from_millis(millis)))).ok_or(ValueError::Idle)
        }
    }
}

/// A number from 1.
pub(crate) fn founders(text: &str) -> Result<NonZeroU16, ValueError> {
    text.parse().map_err(|_| ValueError::Founders)
}

/// A number from 1, or `all`.
pub(crate) fn voters(text: &str) -> Result<Voters, ValueError> {
    match text {
        "all" => Ok(Voters::All),
        number => number.parse::<NonZeroU16>().map(Voters::Target).map_err(|_| ValueError::Voters),
    }
}

/// Digits and at most one point: no sign, no exponent, no name of a number.
fn plain(text: &str) -> Option<f64> {
    let allowed = |c: char| c.is_ascii_digit() || c == '.';
    text.chars().all(allowed).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units_and_seconds_are_the_usual_one() {
        for (text, millis) in [
            ("5s", 5_000),
            ("500ms", 500),
            ("5", 5_000),
            ("0.25", 250),
            ("1.5s", 1_500),
            ("2m", 120_000),
            ("1h", 3_600_000),
            ("0s", 0),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for bad in ["", "s", "-1s", "5 s", "5sec", "1e3", "nan", "inf", ".", "25h", "1.2.3", "5S"] {
            assert_eq!(duration(bad), Err(ValueError::Duration), "{bad}");
        }
    }

    #[test]
    fn sizes_have_units_and_are_above_zero() {
        for (text, expected) in
            [("1", 1), ("64MiB", 64 << 20), ("500kB", 500_000), ("2GiB", 2 << 30)]
        {
            assert_eq!(bytes(text).map(NonZeroU64::get), Ok(expected), "{text}");
        }
        for bad in ["", "0", "0MiB", "-1", "64M", "64mib", "1.5MiB", "99999999999GiB", "MiB"] {
            assert_eq!(bytes(bad), Err(ValueError::Bytes), "{bad}");
        }
    }

    #[test]
    fn an_idle_time_is_milliseconds_or_off() {
        assert_eq!(idle("off"), Ok(Idle(None)));
        assert_eq!(idle("5000"), Ok(Idle(Some(Duration::from_secs(5)))));
        for bad in ["", "0", "-1", "5s", "never", "86400001", "OFF"] {
            assert_eq!(idle(bad), Err(ValueError::Idle), "{bad}");
        }
    }

    #[test]
    fn shares_and_voters_are_bounded() {
        assert_eq!(share("0.8"), Ok(0.8));
        assert_eq!(share("1"), Ok(1.0));
        for bad in ["0", "0.0", "1.1", "-0.5", "80%", "", "nan"] {
            assert_eq!(share(bad), Err(ValueError::Share), "{bad}");
        }
        assert_eq!(voters("all"), Ok(Voters::All));
        assert_eq!(voters("3"), Ok(Voters::Target(NonZeroU16::new(3).unwrap())));
        for bad in ["0", "-1", "65536", "some", ""] {
            assert_eq!(voters(bad), Err(ValueError::Voters), "{bad}");
        }
    }
}
