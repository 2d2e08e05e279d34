//! What time it is, and how a time is written.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{OffsetDateTime, PrimitiveDateTime, UtcOffset};

/// 2026-01-01. This program is younger than that, so a clock that stands before it
/// is wrong, and no VM that it runs in could have had to be gone by then.
pub const EARLIEST: u64 = 1_767_225_600;

/// The end of the year 9999, after which RFC 3339 has no way to write a time.
pub const LATEST: u64 = 253_402_300_799;

/// What time it is, by two clocks: the wall clock may be set at any time, the other one only
/// runs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Now {
    /// Unix seconds.
    pub wall: u64,
    /// Since the machine was booted.
    pub uptime: Duration,
    /// The kernel says that the wall clock is synchronised: `maxerror` of adjtimex(2) is
    /// under 16 s.
    #[serde(default)]
    pub vouched: bool,
}

impl Now {
    /// So much later, where no clock was set meanwhile.
    pub(crate) fn after(self, elapsed: Duration) -> Now {
        // Whole seconds: the two stay in step.
        let elapsed = elapsed.as_secs();
        Now {
            wall: self.wall.saturating_add(elapsed),
            uptime: self.uptime.saturating_add(Duration::from_secs(elapsed)),
            ..self
        }
    }
}

/// The wall clock in Unix seconds; 0 where it stands before 1970.
pub fn wall() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// How long this thread has computed: what a test may take, however busy the machine is.
#[cfg(test)]
pub(crate) fn computed() -> Duration {
    use nix::time::{ClockId, clock_gettime};
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)
        .unwrap()
        .into()
}

/// What time it was so long before, to the nearest second.
pub(crate) fn earlier(unix: u64, by: Duration) -> u64 {
    unix.saturating_sub(nearest_second(by))
}

pub(crate) fn nearest_second(duration: Duration) -> u64 {
    let more = u64::from(duration.subsec_millis() >= 500);
    duration.as_secs().saturating_add(more)
}

/// `2026-11-23T10:41:00Z`. A time that RFC 3339 cannot write (after the year 9999)
/// is written as its Unix seconds.
pub fn utc(unix: u64) -> String {
    written(unix, UtcOffset::UTC).unwrap_or_else(|| unix.to_string())
}

/// The same instant as this machine's people read it: `2026-11-23 11:41:00 +01:00`.
/// In UTC where the local offset is not known.
fn local(unix: u64) -> String {
    let format = format_description!(
        "[year]-[month]-[day] [hour]:[minute]:[second] [offset_hour sign:mandatory]:[offset_minute]"
    );
    let Some(instant) = instant(unix) else {
        return unix.to_string();
    };
    let offset = UtcOffset::local_offset_at(instant).unwrap_or(UtcOffset::UTC);
    instant
        .checked_to_offset(offset)
        .unwrap_or(instant)
        .format(&format)
        .unwrap_or_else(|_| unix.to_string())
}

/// Both, for people: `2026-11-23 11:41:00 +01:00 (2026-11-23T10:41:00Z)`, or in UTC alone
/// where that is the local time.
pub(crate) fn for_people(unix: u64) -> String {
    let (local, utc) = (local(unix), utc(unix));
    match local.ends_with("+00:00") {
        true => utc,
        false => format!("{local} ({utc})"),
    }
}

/// A time as clouds write it, to Unix seconds; None where it is none, or before 1970.
///
/// RFC 3339, and what ISO 8601 allows beside it: a space in the place of the `T`, no separators
/// (`20261224T180000Z`), an offset such as `+0100` (CloudStack) or `+01`, no seconds
/// (`2026-12-24T18:00Z`), a comma before the fraction. Without a zone it is UTC only as OpenStack
/// writes it (`2026-12-24T18:00:00.000000`); else it may be anybody's local time. Also
/// [`parse_http_date`]'s forms. A date alone is none.
pub(crate) fn parse_utc(text: &str) -> Option<u64> {
    let Some(text) = as_rfc_3339(text) else {
        return parse_http_date(text);
    };
    let instant = OffsetDateTime::parse(&text, &Rfc3339).ok()?;
    u64::try_from(instant.unix_timestamp()).ok()
}

/// What RFC 3339 wants to be there and ISO 8601 lets one leave out.
fn as_rfc_3339(text: &str) -> Option<String> {
    let (date, rest) = text.split_once(['T', 't', ' '])?;
    let zone_at = rest.find(['Z', 'z', '+', '-']).unwrap_or(rest.len());
    let (time, zone) = rest.split_at(zone_at);
    let (time, point, fraction) = match time.split_once(['.', ',']) {
        Some((time, digits)) => (time, ".", digits),
        None => (time, "", ""),
    };
    let date = match grouped(date, '-') {
        // "1 Jan 2019", which begins with something else.
        date if date.len() == 10 => date,
        _ => return None,
    };
    let is_as_of_openstack = text.as_bytes()[4] == b'-' && time.len() == 8;
    if zone.is_empty() && !is_as_of_openstack {
        return None;
    }
    let seconds = match (time.len(), point.is_empty()) {
        (4 | 5, true) => ":00",
        (6 | 8, _) => "",
        _ => return None,
    };
    let zone = match (zone.len(), zone.is_ascii()) {
        (0, _) => "Z".to_string(),
        (3, true) => format!("{zone}:00"),
        (5, true) => format!("{}:{}", &zone[..3], &zone[3..]),
        _ => zone.to_string(),
    };
    let time = grouped(time, ':');
    Some(format!("{date}T{time}{seconds}{point}{fraction}{zone}"))
}

/// Digits alone, with a separator before the last pairs of them: `20261224` is `2026-12-24`, and
/// `1800` is `18:00`. What else there is stays as it is.
fn grouped(text: &str, separator: char) -> String {
    let is_whole = text.bytes().all(|byte| byte.is_ascii_digit());
    let year = if separator == '-' { 4 } else { 2 };
    let mut grouped = String::new();
    for (at, character) in text.chars().enumerate() {
        if is_whole && at >= year && at % 2 == 0 {
            grouped.push(separator);
        }
        grouped.push(character);
    }
    grouped
}

/// The date of an HTTP header (RFC 9110, IMF-fixdate) to Unix seconds. Azure's scheduled
/// events have that form too, and EC2's have it without the day of the week:
/// `21 Jan 2019 09:00:43 GMT`. What the day of the week says is not compared.
pub(crate) fn parse_http_date(text: &str) -> Option<u64> {
    let format = format_description!(
        "[day padding:none] [month repr:short] [year] [hour]:[minute]:[second] GMT"
    );
    let date = match text.split_once(", ") {
        Some((weekday, date)) if WEEKDAYS.contains(&weekday) => date,
        Some(_) => return None,
        None => text,
    };
    let instant = PrimitiveDateTime::parse(date, &format).ok()?.assume_utc();
    u64::try_from(instant.unix_timestamp()).ok()
}

const WEEKDAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

/// `5 h 12 min`, `12 min 30 s`, `2 d 3 h`: the two largest units.
pub(crate) fn span(duration: Duration) -> String {
    let total = duration.as_secs();
    let (days, hours, minutes, seconds) = (
        total / 86400,
        total / 3600 % 24,
        total / 60 % 60,
        total % 60,
    );
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {seconds} s"),
        (0, _, _) => format!("{hours} h {minutes} min"),
        (_, _, _) => format!("{days} d {hours} h"),
    }
}

/// How far away an instant is: `in 5 h 12 min`, `12 min 30 s ago`.
pub(crate) fn relative(unix: u64, now: u64) -> String {
    match unix.checked_sub(now) {
        Some(left) => format!("in {}", span(Duration::from_secs(left))),
        None => format!("{} ago", span(Duration::from_secs(now - unix))),
    }
}

fn instant(unix: u64) -> Option<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp(i64::try_from(unix).ok()?).ok()
}

fn written(unix: u64, offset: UtcOffset) -> Option<String> {
    instant(unix)?
        .checked_to_offset(offset)?
        .format(&Rfc3339)
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_in_rfc_3339_and_read_back() {
        assert_eq!(utc(1_795_430_460), "2026-11-23T10:41:00Z");
        assert_eq!(parse_utc("2026-11-23T11:41:00+01:00"), Some(1_795_430_460));
        for text in [
            "2026-11-23 10:41:00",
            "2026-11-23 10:41:00Z",
            "2026-11-23 11:41:00+0100",
            "2026-11-23 11:41:00.5+01:00",
            "2026-11-23 10:41Z",
            "20261123T104100Z",
        ] {
            assert_eq!(parse_utc(text), Some(1_795_430_460), "{text}");
        }
        assert_eq!(parse_utc("1 Jan 2027 10:41:00 GMT"), Some(1_798_800_060));
        for text in [
            "2026-11-23 10:41",
            "2026-11-23",
            "2026-11-23 ",
            "2026-11-2é 10:41:00",
        ] {
            assert_eq!(parse_utc(text), None, "{text}");
        }
        assert_eq!(parse_utc("1969-12-31T23:59:59Z"), None);
        assert_eq!(utc(u64::MAX), u64::MAX.to_string());
    }

    #[test]
    fn a_time_is_read_in_every_form_that_clouds_write() {
        const SIX: u64 = 1_798_135_200; // 2026-12-24T18:00:00Z
        let cases = [
            ("2026-12-24T18:00:00Z", SIX),
            ("2026-12-24t18:00:00z", SIX),
            ("2026-12-24T18:00:00.000000", SIX),
            ("2026-12-24T18:00:00.999999", SIX),
            ("2026-12-24T18:00:00", SIX),
            ("2026-12-24T18:00:07.5Z", SIX + 7),
            ("2026-12-24T19:00:00+0100", SIX),
            ("2026-12-24T19:00:00+01:00", SIX),
            ("2026-12-24T19:00:00+01", SIX),
            ("2026-12-24T12:30:00-0530", SIX),
            ("2026-12-24T18:00Z", SIX),
            ("2026-12-24T19:00+01:00", SIX),
            ("20261224T180000Z", SIX),
            ("20261224t180000z", SIX),
            ("20261224 180000Z", SIX),
            ("20261224T180007.5Z", SIX + 7),
            ("20261224T180007,5Z", SIX + 7),
            ("20261224T190000+0100", SIX),
            ("20261224T190000+01", SIX),
            ("20261224T123000-05:30", SIX),
            ("20261224T1800Z", SIX),
            ("20261224T1900+0100", SIX),
            ("20261224T18:00:00Z", SIX),
            ("2026-12-24T180000Z", SIX),
            ("2026-12-24T18:00:00,5+01:00", SIX - 3600),
            ("Thu, 24 Dec 2026 18:00:00 GMT", SIX),
            // The day of the week is wrong, as in an example of Azure's documentation.
            ("Mon, 24 Dec 2026 18:00:00 GMT", SIX),
            ("Mon, 19 Sep 2016 18:29:47 GMT", 1_474_309_787),
            ("24 Dec 2026 18:00:00 GMT", SIX),
            ("4 Dec 2026 18:00:00 GMT", SIX - 20 * 86_400),
        ];
        for (text, unix) in cases {
            assert_eq!(parse_utc(text), Some(unix), "{text:?}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        let wrong = [
            "",
            "T",
            "now",
            "2026-12-24",
            "2026-12-24T",
            "2026-12-24Z",
            "2026-12-24T18Z",
            "2026-12-24T18:00",
            "2026-12-24 18:00",
            "20261224T180000",
            "20261224T1800",
            "20261224 180000",
            "20261224T18:00:00",
            "2026-12-24T180000",
            "20261224T18Z",
            "20261224",
            "20261224180000",
            "20261224180000Z",
            "2026122T180000Z",
            "202612244T180000Z",
            "20261224T18000Z",
            "20261224T1800000Z",
            "20261224T180000ZZ",
            "20261224T180000+1",
            "20261224T180000+010",
            "20261224T180000,Z",
            "20261224T180000.5.5Z",
            "20261224T1800.5Z",
            "2026-12-24T18:00.5Z",
            "20261324T180000Z",
            "20261224T186000Z",
            "2026-1224T180000Z",
            "2\u{660}261224T180000Z",
            "2026W521T180000Z",
            "2026-12-24T18:00:00 ",
            "2026-12-24T18:00:00+1",
            "2026-12-24T18:00:00+010",
            "2026-12-24T18:00:00+0160",
            "2026-12-24T18:00:00+é0",
            "2026-12-24T18:00:00ZZ",
            "2026-12-24T18:00:00:00Z",
            "2026-12-24T18:60:00Z",
            "2026-13-24T18:00:00Z",
            "1969-12-31T23:59:59",
            "24 Dec 2026",
            "24 Dec 2026 18:00:00",
            "24 Dec 2026 18:00:00 CET",
            "Xyz, 24 Dec 2026 18:00:00 GMT",
            "31 Feb 2026 18:00:00 GMT",
        ];
        for text in wrong {
            assert_eq!(parse_utc(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_date_of_an_http_header_is_read() {
        let date = "Mon, 23 Nov 2026 10:41:00 GMT";
        assert_eq!(parse_http_date(date), Some(1_795_430_460));
        // Its older forms are not written by servers any more (RFC 9110, 5.6.7).
        for wrong in [
            "",
            "120",
            "2026-11-23T10:41:00Z",
            "Mon, 23 Nov 2026 10:41:00 CET",
            "Monday, 23-Nov-26 10:41:00 GMT",
            "Mon Nov 23 10:41:00 2026",
        ] {
            assert_eq!(parse_http_date(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn the_bounds_are_the_dates_they_say() {
        assert_eq!(utc(EARLIEST), "2026-01-01T00:00:00Z");
        assert_eq!(utc(LATEST), "9999-12-31T23:59:59Z");
    }

    #[test]
    fn a_span_shows_its_two_largest_units() {
        let cases = [
            (0, "0 s"),
            (59, "59 s"),
            (750, "12 min 30 s"),
            (18720, "5 h 12 min"),
            (183_600, "2 d 3 h"),
        ];
        for (seconds, expected) in cases {
            assert_eq!(span(Duration::from_secs(seconds)), expected);
        }
    }
}
