//! `datetime.strftime`, and a parser for dates and times.

use minijinja::{Error, ErrorKind};

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// `datetime.strftime` in the C locale and UTC; `seconds` counts from 1970. An unknown directive is an error that names it.
pub(in crate::text) fn strftime(format: &str, seconds: i64) -> Result<String, Error> {
    let (days, time) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
    let (year, month, day) = civil(days);
    let weekday = (days + 4).rem_euclid(7);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let before = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334][month as usize - 1];
    let year_day = before + day + i64::from(leap && month > 2);
    let hour12 = (hour + 11) % 12 + 1;
    let (month_name, day_name) = (MONTHS[month as usize - 1], DAYS[weekday as usize]);

    let (mut out, mut chars) = (String::new(), format.chars());
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut directive = chars.next();
        let bare = directive == Some('-');
        if bare {
            directive = chars.next();
        }
        let padded = |value: i64, width: usize| {
            if bare { value.to_string() } else { format!("{value:0width$}") }
        };
        out.push_str(&match directive {
            Some('Y') => format!("{year:04}"),
            Some('y') => padded(year.rem_euclid(100), 2),
            Some('m') => padded(month, 2),
            Some('d') => padded(day, 2),
            Some('e') => format!("{day:2}"),
            Some('H') => padded(hour, 2),
            Some('I') => padded(hour12, 2),
            Some('M') => padded(minute, 2),
            Some('S') => padded(second, 2),
            Some('f') => "000000".into(),
            Some('j') => padded(year_day, 3),
            Some('w') => weekday.to_string(),
            Some('u') => ((weekday + 6) % 7 + 1).to_string(),
            Some('p') => if hour < 12 { "AM" } else { "PM" }.into(),
            Some('B') => month_name.into(),
            Some('b' | 'h') => month_name[..3].into(),
            Some('A') => day_name.into(),
            Some('a') => day_name[..3].into(),
            Some('F') => format!("{year:04}-{month:02}-{day:02}"),
            Some('T') => format!("{hour:02}:{minute:02}:{second:02}"),
            Some('R') => format!("{hour:02}:{minute:02}"),
            Some('D') => format!("{month:02}/{day:02}/{:02}", year.rem_euclid(100)),
            Some('Z' | 'z') => String::new(),
            Some('%') => "%".into(),
            other => {
                let what = other.map_or_else(|| "%".into(), |c| format!("%{c}"));
                return Err(Error::new(
                    ErrorKind::InvalidOperation,
                    format!("strftime_now: {what} in {format:?} is not supported"),
                ));
            }
        });
    }
    Ok(out)
}

/// Seconds since 1970 for `2026-11-23`, `2026-11-23T10:15` or `2026-11-23T10:15:30` in UTC; a `Z` may follow a time.
pub(in crate::text) fn parse_time(text: &str) -> Option<i64> {
    let (date, time) = text.split_once(['T', ' ']).map_or((text, "00:00"), |(date, time)| (date, time));
    let number = |text: &str, width: usize| {
        let plain = text.len() == width && text.bytes().all(|c| c.is_ascii_digit());
        plain.then(|| text.parse::<i64>().ok()).flatten()
    };
    let mut date = date.split('-');
    let (year, month, day) = (number(date.next()?, 4)?, number(date.next()?, 2)?, number(date.next()?, 2)?);
    let mut time = time.strip_suffix('Z').unwrap_or(time).split(':');
    let (hour, minute) = (number(time.next()?, 2)?, number(time.next()?, 2)?);
    let second = time.next().map_or(Some(0), |second| number(second, 2))?;
    let ends = date.next().is_none() && time.next().is_none();
    let (years, months) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let day_of_era = {
        let year_of_era = years.rem_euclid(400);
        year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + (153 * months + 2) / 5 + day - 1
    };
    let days = years.div_euclid(400) * 146_097 + day_of_era - 719_468;
    let exists = civil(days) == (year, month, day);
    let clock = (0..24).contains(&hour) && (0..60).contains(&minute) && (0..60).contains(&second);
    (ends && exists && clock).then_some(days * 86_400 + hour * 3600 + minute * 60 + second)
}

/// Year, month and day of a number of days since 1970-01-01 (H. Hinnant, "chrono-compatible low-level date algorithms").
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}
